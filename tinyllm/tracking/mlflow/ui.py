"""Starts MLflow's pages over this project's store, and says where they are."""

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
from tinyllm.tracking.mlflow.database import path_of, prepare
from tinyllm.tracking.mlflow.values import EXPERIMENT_LENGTH, fit

LOCAL = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")  # every address of this machine
FAMILIES = (socket.AF_INET, socket.AF_INET6)
PAGE = "?workflowType=machine_learning"  # else MLflow 3 opens with the pages of its other half


def serve(host: str, port: str, allowed_hosts: str, arguments: list[str]) -> None:
    """Become MLflow's server; or say where it is, if the runs are on a server already.

    Args:
        host, port: to listen on.
        allowed_hosts: more names by which a browser may ask for it, with commas between.
        arguments: more of them for `mlflow ui`.
    """
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri.startswith("http"):
        print(f"The runs: {masked(uri).rstrip('/')}/{_page(uri)}")
        return
    print("Starting MLflow, which takes some seconds ...", flush=True)
    _wait_for_database(uri)
    shown = socket.gethostname() if host in EVERYWHERE else host
    print(f"The runs: http://{_bracketed(shown)}:{port}/{_page(uri)}", flush=True)
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
    sys.stdout.flush()
    os.execv(sys.executable, [*command, "--workers", "1", *arguments])


def _allowed(more: str, port: str) -> tuple[str, str]:
    """Hosts and origins as MLflow compares them: this machine's own, with the port, and more.

    MLflow by itself answers addresses of any local network, but refuses what its own page, opened
    by one of them, then asks for (3.17.2): the origin must be listed too.
    """
    names = [name.strip() for name in more.split(",") if name.strip()]
    if "*" in names:
        return "*", "*"
    names += ["localhost", socket.gethostname(), socket.getfqdn()]
    for addresses in psutil.net_if_addrs().values():
        of_internet = (each for each in addresses if each.family in FAMILIES)
        names += [_bracketed(each.address.partition("%")[0]) for each in of_internet]
    hosts = dict.fromkeys(h for n in names for h in ((n,) if _has_port(n) else (n, f"{n}:{port}")))
    return ",".join(hosts), ",".join(f"http://{host}" for host in hosts)


def _bracketed(host: str) -> str:
    """A host as it stands in an address."""
    return f"[{host}]" if ":" in host else host


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdigit() and not host.startswith("[")


def _wait_for_database(uri: str) -> None:
    """Make the database if there is none: MLflow's server and a stage that do so break it."""
    while True:
        try:
            prepare(uri)
            return
        except RuntimeError:  # another process is making it
            time.sleep(0.5)


def _page(uri: str) -> str:
    """The page of the experiment that params.yaml names; of all, if MLflow has none such."""
    name = "tinyllm"
    with suppress(ValueError):  # wrong settings keep nobody from looking at the runs
        name = load_params(Path("params.yaml")).runtime.experiment
    number = None
    with suppress(Exception):  # whatever MLflow raises: its pages may work all the same
        number = _experiment(uri, fit(name, EXPERIMENT_LENGTH))
    return f"#/experiments{'' if number is None else f'/{number}'}{PAGE}"


def _experiment(uri: str, name: str) -> str | None:
    """The id of an experiment; None: there is none."""
    if path := path_of(uri):  # at once: to import MLflow takes seconds
        query = "SELECT experiment_id FROM experiments WHERE name = ?"
        with closing(sqlite3.connect(path)) as database:
            row = database.execute(query, [name]).fetchone()
        return None if row is None else str(row[0])
    from mlflow import MlflowClient

    experiment = MlflowClient(uri).get_experiment_by_name(name)
    return None if experiment is None else str(experiment.experiment_id)
