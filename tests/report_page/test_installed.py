"""The package's template, style, script and defaults are installed with it."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.helpers import ROOT
from tinyllm.common.source_files import DATA, files_of

BUILD = "from setuptools import build_meta; build_meta.build_wheel('wheel')"


def test_a_wheel_contains_the_files_that_the_page_is_made_of(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    for name in ("stages", "tinyllm"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    (tmp_path / "wheel").mkdir()
    subprocess.run([sys.executable, "-c", BUILD], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    wanted = {file.as_posix() for file in files_of("stages.evaluate")}
    assert {Path(name).suffix for name in wanted} == {".py", *DATA}
    assert wanted <= held
