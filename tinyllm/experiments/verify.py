"""Reads every file that the pipeline has made, and reports each that is corrupt or missing."""

import os
from pathlib import Path

from tqdm import tqdm

from tinyllm.common.files import files_in, read_json
from tinyllm.experiments.outputs import Cache, Group, check, open_repo, outputs_of
from tinyllm.tracking.folders import trainings_folder


def check_training(folder: Path) -> Group:
    """Verify a training's checkpoints."""
    from tinyllm.common.fingerprint import Fingerprint
    from tinyllm.training.checkpoints import checkpoint
    from tinyllm.training.checkpoints.checkpoint import FINGERPRINT, CorruptCheckpoint

    group = Group(os.path.relpath(folder))
    for path in sorted(folder.glob("step-*")):
        name = os.path.relpath(path)
        try:
            checkpoint.verify(Path(name))
            found = files_in(path)
            group.files += len(found)
            group.bytes += sum(file.stat().st_size for file in found)
        except (CorruptCheckpoint, OSError) as error:
            if path.exists():  # a running training removes old ones
                group.faults.append(f"{error}; delete {name}: training resumes from an older one")
    file = Path(group.name, FINGERPRINT)
    try:
        if Fingerprint(read_json(file)).name != folder.name.partition("-")[0]:
            raise ValueError(f"{file} is corrupt")
    except ValueError as error:
        repair = f"resume that training to write it again, or delete {group.name}"
        group.faults.append(f"{error}; {repair}")
    return group


def verify() -> None:
    """Check everything and print the result.

    Raises:
        ValueError: there are faults; the message is their number.
    """
    with (
        open_repo() as repo,
        tqdm(unit="B", unit_scale=True, disable=None, leave=False, delay=1) as bar,
    ):
        outputs = list(outputs_of(repo))
        cache = Cache(repo, bar)
        bar.total = sum(out.size for out in outputs) + cache.size()
        cached = [out for out in outputs if out.cached]
        begun = any(out.path.exists() or cache.path(out.digest).exists() for out in cached)
        groups = [check(out, cache, bar) for out in outputs if begun or out.path.exists()]
        cache.check_others()
    if begun or cache.group.files:
        cache.group.faults += cache.faults.values()
        groups.append(cache.group)
    groups += [check_training(folder) for folder in sorted(trainings_folder().glob("*"))]
    for group in groups:
        print(*(group.faults or [str(group)]), sep="\n")
    if not begun:
        print("No output in dvc.lock exists here yet: run `dvc pull` or `dvc repro`.")
    if count := sum(len(group.faults) for group in groups):
        raise ValueError(f"{count} fault{'' if count == 1 else 's'}")
