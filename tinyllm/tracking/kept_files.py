"""Keeps files as they are now under another name, until MLflow has them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tinyllm.common.files import files_in


def keep(path: Path, target: Path, how: Callable[[Path, Path], object]) -> list[Path]:
    """Keep a file, or each file of a folder, under another name. Returns the new names.

    Args:
        how: `link`, or `shutil.copyfile` for files that an editor may write to.
    """
    kept = []
    for source in files_in(path) if path.is_dir() else [path]:
        kept.append(target / source.relative_to(path))
        kept[-1].parent.mkdir(parents=True, exist_ok=True)
        kept[-1].unlink(missing_ok=True)
        how(source, kept[-1])
    return kept


def link(source: Path, target: Path) -> None:
    """Link a file to a second name, or copy it if the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
