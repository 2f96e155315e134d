"""MLflow's settings, as environment variables."""

import os
from pathlib import Path

from tinyllm.common.files import ROOT


def set_up_mlflow(root: Path) -> None:
    """Set MLflow's environment variables, except those that the user has set."""
    os.environ[ROOT] = str(root)
    os.chdir(root)  # for a relative sqlite:///; an experiment's folder is deleted
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        # Not an absolute path: a `?` or `%2F` in a folder's name has another meaning in a URI.
        os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///mlflow.db"
    set_defaults()


def set_defaults() -> None:
    """Set MLflow's environment variables that don't depend on a project."""
    defaults = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # no tracebacks; the reason is printed anyway
        # MLflow's job runners are seven processes with 1.7 GB, which viewing runs does not need.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # nor are these
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # not useful in a log
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        # A retried call could create a second run; the next attempt searches for it first.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
