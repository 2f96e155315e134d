"""Starts MLflow's server for a team: accounts, a database, a store of artifacts."""

import configparser
import importlib.util
import os
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path

from tinyllm.tracking.mlflow.database import prepare
from tinyllm.tracking.mlflow.environment import set_defaults
from tinyllm.tracking.mlflow.ui import LOCAL, bracketed

DATABASE = "MLFLOW_BACKEND_STORE_URI"
ADMIN, PASSWORD = "MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD"
# Everyone may read all runs and add to them; only who created something may delete it.
PERMISSION = "EDIT"
CONFIG, KEY, PASSWORD_FILE = "accounts.ini", "secret_key", "admin_password"


def serve_team(
    folder: Path, artifacts: str, host: str, port: str, allowed_hosts: str, arguments: list[str]
) -> None:
    """Replace this process by MLflow's server with accounts.

    The database is the one in the environment variable MLFLOW_BACKEND_STORE_URI, or else SQLite.

    Args:
        folder: of the server's secrets, and of database and artifacts if no others are named.
        artifacts: folder or address, such as s3://bucket/path; empty for a folder in `folder`.
        host, port: address to listen on.
        allowed_hosts: names under which clients and browsers reach the server, separated by commas.
        arguments: further arguments of `mlflow server`.

    Raises:
        ValueError: a package is missing, or any host name is to be allowed.
    """
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = os.environ.get(DATABASE) or f"sqlite:///{folder / 'mlflow.db'}"
    hosts, origins = hosts_and_origins(host, port, allowed_hosts.split(","))
    _demand("flask_wtf")
    if database.startswith("postgresql"):
        _demand("psycopg2")
        # SQLAlchemy 2.1 takes psycopg for a plain postgresql://, with which MLflow is not tested.
        database = database.replace("postgresql://", "postgresql+psycopg2://", 1)
    os.environ |= {
        DATABASE: database,  # not an argument, which all users of the machine can read
        "MLFLOW_AUTH_CONFIG_PATH": str(_write_config(folder, database)),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": _kept(folder / KEY),
        ADMIN: os.environ.get(ADMIN) or "admin",
    }
    if not os.environ.get(PASSWORD):
        os.environ[PASSWORD] = _kept(folder / PASSWORD_FILE)
        print(f"The password of {os.environ[ADMIN]} is in {folder / PASSWORD_FILE}.")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # it names refused hosts
    set_defaults()
    os.chdir(folder)
    prepare(database)
    print(f"The server: http://{bracketed(host)}:{port}/", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"]
    command += ["--host", host, "--port", port]
    command += ["--allowed-hosts", hosts, "--cors-allowed-origins", origins]
    command += ["--artifacts-destination", artifacts or str(folder / "artifacts")]
    os.execv(sys.executable, [*command, *arguments])


def hosts_and_origins(host: str, port: str, names: Iterable[str]) -> tuple[str, str]:
    """The hosts and origins that MLflow accepts: this machine's loopback names, and others.

    Raises:
        ValueError: a name is a pattern.
    """
    others = [name.strip() for name in names if name.strip()]
    if host not in (*LOCAL, "0.0.0.0", "::"):
        others.append(bracketed(host))
    for name in others:
        if "*" in name:
            raise ValueError(f"--allowed-hosts {name}: name each host; a pattern allows any page")
    every = [*map(bracketed, LOCAL), *others]
    hosts = [*every, *(f"{name}:{port}" for name in every)]
    # A proxy with TLS in front of the server passes its own name on, without a port.
    origins = [*(f"http://{name}" for name in hosts), *(f"https://{name}" for name in others)]
    return ",".join(dict.fromkeys(hosts)), ",".join(dict.fromkeys(origins))


def _demand(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"the server needs {module}: pip install 'tinyllm[server]'")


def _write_config(folder: Path, database: str) -> Path:
    """Write the settings of MLflow's accounts, which are in the same database as the runs."""
    if database.startswith("sqlite"):
        database = f"sqlite:///{folder / 'accounts.db'}"
    config = configparser.ConfigParser(interpolation=None)
    config["mlflow"] = {
        "default_permission": PERMISSION,
        "database_uri": database.replace("%", "%%"),  # MLflow reads it with interpolation
        "admin_username": "admin",
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
    }
    path = folder / CONFIG
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    with path.open("w", encoding="utf-8") as file:
        config.write(file)
    return path


def _kept(path: Path) -> str:
    """A secret that is made once, in a file that only its owner can read."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(24), encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
