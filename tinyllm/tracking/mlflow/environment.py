"""MLflow's settings, as environment variables."""

import os
from pathlib import Path


def set_up_mlflow(root: Path) -> None:
    """Choose MLflow's settings, as far as the user has not."""
    os.environ["DVC_ROOT"] = str(root)
    os.chdir(root)  # for a relative sqlite:///; and a DVC experiment's folder will vanish
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        # Not by its path: in an address, a `?` or `%2F` in a folder's name has another meaning.
        os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///mlflow.db"
    defaults = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # a trace at each failure; the reason is printed anyway
        # MLflow's job runners are seven processes and 1.7 GB that looking at runs has no use for.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # of no use in a log
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        # A call made again by itself could make a second run; the next attempt looks first.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
