"""The files of a run that `tinyllm reproduce` and `tinyllm lineage` read: written at its start.

origin/params.yaml        the settings, as the run read them
origin/dvc.lock           the stages that made its data, with the hash of each input and output
origin/state.json         what the commit lacks: see `Provenance.files`
origin/environment.json   versions of Python and packages, and the processor
"""

import json
import os
import platform
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from tinyllm.settings import strict_yaml
from tinyllm.tracking.masking import masked

FOLDER = "origin"
PARAMS, LOCK = f"{FOLDER}/params.yaml", f"{FOLDER}/dvc.lock"
STATE, ENVIRONMENT = f"{FOLDER}/state.json", f"{FOLDER}/environment.json"
DATA_STAGES = ("download", "tokenize", "split")  # before the stages that record a run
REQUIREMENTS = "requirements.lock"


def files_of(root: Path, state: dict[str, Any]) -> dict[str, bytes]:
    """The files of a run that starts in the project at `root`; passwords are masked."""
    files = {STATE: _json(state), ENVIRONMENT: _json(environment(root))}
    with suppress(OSError, ValueError):  # the stage reports it
        files[PARAMS] = masked((root / "params.yaml").read_text(encoding="utf-8")).encode()
    # Without data by DVC there is no lock file, or it lacks the stages.
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        lock = strict_yaml.load((root / "dvc.lock").read_text(encoding="utf-8"))
        files[LOCK] = masked(data_stages(lock)).encode()
    return files


def data_stages(lock: dict[str, Any]) -> str:
    """The text of a dvc.lock that has only the stages before training."""
    stages = {name: lock["stages"][name] for name in DATA_STAGES if name in lock["stages"]}
    return yaml.safe_dump({"schema": lock["schema"], "stages": stages}, sort_keys=False)


def environment(root: Path) -> dict[str, Any]:
    """What this process runs on: Python, system, processor, and the locked packages' versions."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libc": "-".join(filter(None, platform.libc_ver())),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "packages": _packages(root / REQUIREMENTS),
    }


def _processor() -> str:
    """The processor's model by the kernel's name, which is more exact than torch's."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except (OSError, ValueError):
        found = None
    return found[1].strip() if found else platform.processor()


def _packages(requirements: Path) -> dict[str, str]:
    """The installed version of each package that a file of requirements names."""
    try:
        lines = requirements.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    found = {}
    for line in lines:
        if name := re.match(r"[A-Za-z0-9][\w.-]*", line):
            try:
                found[name[0]] = version(name[0])
            except PackageNotFoundError:  # of another platform
                continue
    return found


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
