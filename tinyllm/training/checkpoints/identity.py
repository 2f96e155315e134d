"""What decides a training's result: settings, data and code, each by its hash.

Checkpoints lie in a folder named after it, so that a training only ever resumes from its own. The
hardware is not part of it: a checkpoint records by itself what it was made on.
"""

import json
import socket
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tinyllm.common.fingerprint import Fingerprint, of_code, of_content
from tinyllm.compute import Compute
from tinyllm.settings.load import Params
from tinyllm.training.distributed.processes import Processes


def take(params: Params, module: str, inputs: Sequence[Path]) -> Fingerprint:
    """The fingerprint as of now.

    Args:
        module: the stage, like "stages.train"; its code is that of all it imports.
        inputs: files, or folders with all their files.
    """
    parts = {"seed": str(params.seed)}
    for name, value in params.train.resolve().model_dump().items():
        parts[f"train.{name}"] = repr(value)
    return Fingerprint(parts | of_content(inputs) | of_code(module))


def check_same(own: Fingerprint, compute: Compute, processes: Processes) -> None:
    """Refuse to train together what differs from machine to machine; for each rank to call.

    Raises:
        ValueError: names a rank, its machine, and in what it differs from the first; on all ranks.
    """
    hardware = {f"hardware.{name}": str(value) for name, value in asdict(compute).items()}
    told = processes.gather_text(json.dumps([socket.gethostname(), own.parts | hardware]))
    host, first = json.loads(told[0])
    for rank, text in enumerate(told):
        other_host, parts = json.loads(text)
        differences = Fingerprint(first).differences(Fingerprint(parts))
        if differences:
            raise ValueError(
                f"not the same on every machine: {', '.join(differences)}: rank {rank} (on "
                f"{other_host}) differs from rank 0 (on {host}). Code, data, settings, hardware "
                "and libraries must be the same"
            )
