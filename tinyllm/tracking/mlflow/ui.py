"""Starts MLflow's server for this project's runs, and prints its address."""

import os
import socket
import sqlite3
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import psutil

from tinyllm.settings.load import load_params
from tinyllm.tracking.masking import masked
from tinyllm.tracking.mlflow.browser import open_when_ready
from tinyllm.tracking.mlflow.database import path_of, prepare
from tinyllm.tracking.mlflow.pages import runs_page
from tinyllm.tracking.mlflow.values import EXPERIMENT_LENGTH, fit

LOCAL = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")  # every address of this machine
FAMILIES = (socket.AF_INET, socket.AF_INET6)


def serve(host: str, port: str, allowed_hosts: str, arguments: list[str]) -> None:
    """Replace this process by MLflow's server, or print the server's address if one is configured.

    Args:
        host, port: address to listen on.
        allowed_hosts: further host names that a browser may use, separated by commas.
        arguments: further arguments of `mlflow ui`.
    """
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri.startswith("http"):
        print(f"The runs: {masked(uri).rstrip('/')}/{_page(uri)}")
        return
    print("Starting MLflow, which takes some seconds ...", flush=True)
    _wait_for_database(uri)
    shown = socket.gethostname() if host in EVERYWHERE else host
    address = f"http://{bracketed(shown)}:{port}/{_page(uri)}"
    print(f"The runs: {address}", flush=True)
    if host not in LOCAL:
        print(
            "Anyone who can reach this machine can change and delete runs. MLflow answers 403 (DNS "
            "rebinding) to other host names than this machine's; to allow more: "
            f"make ui HOST={host} ALLOWED_HOSTS=name,name"
        )
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri  # not as an argument, which all users can read
    command = [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", port]
    if host not in LOCAL or allowed_hosts:
        hosts, origins = _allowed(allowed_hosts, port)
        command += ["--allowed-hosts", hosts, "--cors-allowed-origins", origins]
    if host in LOCAL:
        open_when_ready(address)
    sys.stdout.flush()
    os.execv(sys.executable, [*command, "--workers", "1", *arguments])


def _allowed(more: str, port: str) -> tuple[str, str]:
    """The allowed hosts and origins as MLflow compares them: this machine's names, and more.

    By default MLflow accepts any address of a local network, but refuses the requests of its own
    page opened under such an address (3.17.2): the origin must be listed too.
    """
    names = [name.strip() for name in more.split(",") if name.strip()]
    if "*" in names:
        return "*", "*"
    names += ["localhost", socket.gethostname(), socket.getfqdn()]
    for addresses in psutil.net_if_addrs().values():
        of_internet = (each for each in addresses if each.family in FAMILIES)
        names += [bracketed(each.address.partition("%")[0]) for each in of_internet]
    hosts = dict.fromkeys(h for n in names for h in ((n,) if _has_port(n) else (n, f"{n}:{port}")))
    return ",".join(hosts), ",".join(f"http://{host}" for host in hosts)


def bracketed(host: str) -> str:
    """A host as written in a URL."""
    return f"[{host}]" if ":" in host else host


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdigit() and not host.startswith("[")


def _wait_for_database(uri: str) -> None:
    """Create a missing database: if MLflow's server and a stage both did, they would break it."""
    while True:
        try:
            prepare(uri)
            return
        except RuntimeError:  # another process is creating it
            time.sleep(0.5)


def _page(uri: str) -> str:
    """The page of the experiment in params.yaml; of all experiments if MLflow does not have it."""
    name = "tinyllm"
    with suppress(ValueError):  # with wrong settings you can still view the runs
        name = load_params(Path("params.yaml")).runtime.experiment
    number = None
    with suppress(Exception):  # of any kind: its pages may still work
        number = _experiment(uri, fit(name, EXPERIMENT_LENGTH))
    return runs_page(number)


def _experiment(uri: str, name: str) -> str | None:
    """The id of an experiment; None if it does not exist."""
    if path := path_of(uri):  # directly: importing MLflow takes seconds
        query = "SELECT experiment_id FROM experiments WHERE name = ?"
        with closing(sqlite3.connect(path)) as database:
            row = database.execute(query, [name]).fetchone()
        return None if row is None else str(row[0])
    from mlflow import MlflowClient

    experiment = MlflowClient(uri).get_experiment_by_name(name)
    return None if experiment is None else str(experiment.experiment_id)
