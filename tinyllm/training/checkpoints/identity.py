"""The fingerprint of a training: hashes of the settings, data and code that decide its result.

The fingerprint names the checkpoint folder, so that a training only resumes from its own
checkpoints. It excludes the hardware, which each checkpoint records separately.
"""

import json
import socket
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tinyllm.common.files import sha256_of
from tinyllm.common.fingerprint import Fingerprint, of_code, of_content
from tinyllm.compute import Compute
from tinyllm.models.folder import WEIGHTS
from tinyllm.settings.init_from import base_model
from tinyllm.settings.load import Params
from tinyllm.training.distributed.processes import Processes


def take(params: Params, module: str, inputs: Sequence[Path]) -> Fingerprint:
    """Compute the current fingerprint.

    Args:
        module: the stage's module, like "stages.train"; everything it imports is included.
        inputs: files, or folders with all their files.
    """
    parts = {"seed": str(params.seed)}
    for name, value in params.train.resolve().model_dump().items():
        parts[f"train.{name}"] = repr(value)
    if base := base_model(params.train.init_from):  # the weights decide, wherever they are
        parts["train.init_from"] = sha256_of(base / WEIGHTS)
    return Fingerprint(parts | of_content(inputs) | of_code(module))


def check_same(own: Fingerprint, compute: Compute, processes: Processes) -> None:
    """Check that all ranks have the same code, data, settings and hardware; each rank calls this.

    Raises:
        ValueError: a rank differs; raised on all ranks. Names the rank, its machine and what
            differs.
    """
    hardware = {f"hardware.{name}": str(value) for name, value in asdict(compute).items()}
    gathered = processes.gather_text(json.dumps([socket.gethostname(), own.parts | hardware]))
    host, first = json.loads(gathered[0])
    for rank, text in enumerate(gathered):
        other_host, parts = json.loads(text)
        differences = Fingerprint(first).differences(Fingerprint(parts))
        if differences:
            raise ValueError(
                f"machines differ in {', '.join(differences)}: rank {rank} (on {other_host}) "
                f"differs from rank 0 (on {host}). Use the same code, data, settings, hardware "
                "and libraries on every machine"
            )
