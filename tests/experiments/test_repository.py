"""The record has the bytes of all changed files, in any state of a repository and of Git.

Each state is made in a real repository. The note's commands are run in a fresh clone, which then
has the same files, bit for bit. (tests/test_recorded.py compares the models of real trainings.)
"""

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tracking.helpers import Project
from tinyllm.experiments.provenance import Provenance, provenance
from tinyllm.tracking.origin import PATCH

NETWORK = "tinyllm/network.py"
LINES = "".join(f"x{number} = {number}\n" for number in range(30)) + "std = 1.0\n"
FILES = {
    "params.yaml": b"train:\n  max_steps: 3\n",
    "dvc.yaml": b"stages: {}\n",
    ".gitattributes": b"* -text\n",
    NETWORK: LINES.encode(),
    "stages/train.py": b"from tinyllm import network\n",
    "tinyllm/table.bin": bytes(range(256)),
    "tinyllm/windows.py": b"a = 1\r\nb = 2\r\n",
}


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]
    done = subprocess.run(
        ["git", *who, "-c", "protocol.file.allow=always", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def settings(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the user's Git configuration; there is no other configuration."""
    file = project.root / "gitconfig"
    file.write_text('[protocol "file"]\n\tallow = always\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(file))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return file


def commit(folder: Path, files: dict[str, bytes]) -> Path:
    """A repository with some committed files."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet")
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


@pytest.fixture
def project_folder(project: Project, settings: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed project as the current folder."""
    assert settings.exists()
    root = commit(project.root / "project", FILES)
    monkeypatch.chdir(root)
    return root


def replace(file: Path, old: str, new: str) -> None:
    """Change a file as DVC does: within a second, without changing its size or time."""
    before = file.stat()
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def same_size(root: Path) -> Path:
    git(root, "config", "core.trustctime", "false")
    os.utime(root / NETWORK, (10**9, 10**9))
    git(root, "update-index", "--refresh")
    replace(root / NETWORK, "std = 1.0", "std = 0.5")
    assert git(root, "status", "--porcelain") == "", "Git sees it: this proves nothing"
    return root


def mode(root: Path) -> Path:
    (root / NETWORK).chmod(0o755)
    return root


def rename(root: Path) -> Path:
    git(root, "config", "diff.renames", "copies")
    git(root, "mv", NETWORK, 'tinyllm/naïve "net".py')
    (root / "stages/train.py").write_text("import os\n")
    return root


def untracked(root: Path) -> Path:
    (root / "tinyllm/new.py").write_text("y = 1")
    (root / "tinyllm/deeper").mkdir()
    (root / "tinyllm/deeper/empty.py").touch()
    (root / "stages/run.py").write_text("#!/usr/bin/env python\n")
    (root / "stages/run.py").chmod(0o755)
    return root


def ignored(root: Path) -> Path:
    """A module that the user's Git ignore list happens to match."""
    list_of_mine = root.parent / "ignored"
    list_of_mine.write_text("local*\n")
    git(root, "config", "core.excludesFile", str(list_of_mine))
    (root / "tinyllm/local_network.py").write_text("y = 1\n")
    return root


def staged(root: Path) -> Path:
    """Git's index and the files have different changes."""
    (root / "tinyllm/new.py").write_text("y = 1\n")
    (root / NETWORK).write_text("z = 1\n")
    git(root, "add", "--all")
    (root / NETWORK).write_text(LINES.replace("x7 = 7", "x7 = 8"))
    git(root, "rm", "--quiet", "--cached", "tinyllm/windows.py")
    git(root, "update-index", "--assume-unchanged", NETWORK)
    return root


def binary(root: Path) -> Path:
    (root / "tinyllm/table.bin").write_bytes(bytes(range(255, -1, -1)) * 9)
    (root / "tinyllm/other.bin").write_bytes(b"\0\1\2")
    return root


def line_ends(root: Path) -> Path:
    (root.parent / "gitconfig").open("a").write("[core]\n\tautocrlf = true\n\tsafecrlf = true\n")
    (root / NETWORK).write_bytes(LINES.replace("\n", "\r\n").encode())
    (root / "tinyllm/windows.py").write_bytes(b"a = 1\nb = 2\n")
    assert git(root, "diff", "--quiet", "--ignore-cr-at-eol") == ""
    return root


def link(root: Path) -> Path:
    (root / NETWORK).unlink()
    (root / NETWORK).symlink_to("windows.py")
    return root


def odd_settings(root: Path) -> Path:
    """Common settings, and settings that break a patch."""
    with (root.parent / "gitconfig").open("a") as file:
        file.write(
            "[diff]\n\tnoprefix = true\n\tmnemonicPrefix = true\n\tcontext = 0\n"
            "\torderFile = /nowhere\n\texternal = /bin/false\n\trelative = true\n"
            "\tinterHunkContext = 9\n\tsuppressBlankEmpty = true\n\tignoreSubmodules = all\n"
            '[diff "py"]\n\ttextconv = tr a-z A-Z <\n\tcommand = /bin/false\n'
            "[color]\n\tui = always\n[core]\n\tpager = /bin/false\n\tquotePath = false\n"
            f"\tfsmonitor = /bin/false\n\tattributesFile = {root.parent}/attributes\n"
            "\tuntrackedCache = true\n[apply]\n\twhitespace = fix\n"
        )
    (root.parent / "attributes").write_text("*.py diff=py\n*.yaml filter=none text\n")
    (root / NETWORK).write_text(LINES.replace("x7 = 7", "x7 = 8 \n\n").replace("x21", "x22"))
    (root / "tinyllm/windows.py").write_bytes(b"a = 3\r\nb = 2\r\n")
    return root


def environment(root: Path) -> Path:
    """The variables that Git sets for its hooks, among others."""
    commit(root.parent / "other", {"a.py": b""})
    (root / NETWORK).write_text(LINES.replace("x7 = 7", "x7 = 8"))
    return root


def of_a_hook(other: Path) -> dict[str, str]:
    """An environment in which Git would use another repository and another output format."""
    return {
        "GIT_DIR": str(other / ".git"),
        "GIT_WORK_TREE": str(other),
        "GIT_INDEX_FILE": str(other / "index"),
        "GIT_EXTERNAL_DIFF": "/bin/false",
        "GIT_DIFF_OPTS": "-u0",
        "GIT_LITERAL_PATHSPECS": "1",
    }


def subfolder(root: Path) -> Path:
    """The project is one of several in its repository; another one has changed too."""
    whole = commit(
        root.parent / "several",
        {"other/a.py": b"a = 1\n"} | {f"my project/{name}": data for name, data in FILES.items()},
    )
    (whole / "other/a.py").write_text("a = 2\n")
    (whole / "my project/tinyllm/new.py").write_text("y = 1\n")
    replace(whole / "my project" / NETWORK, "std = 1.0", "std = 0.5")
    return whole / "my project"


def worktree(root: Path) -> Path:
    linked = root.parent / "linked"
    git(root, "worktree", "add", "--quiet", str(linked))
    replace(linked / NETWORK, "std = 1.0", "std = 0.5")
    (linked / "tinyllm/new.py").write_text("y = 1\n")
    return linked


def submodule(root: Path) -> Path:
    """A submodule with another commit, a change and a new module."""
    part = commit(root.parent / "part", {"a.py": b"a = 1\n", "b.py": b"b = 1\n"})
    git(root, "submodule", "--quiet", "add", str(part), "tinyllm/part")
    git(root, "commit", "--quiet", "-m", "with a part")
    inner = root / "tinyllm/part"
    (inner / "a.py").write_text("a = 2\n")
    git(inner, "commit", "--quiet", "--all", "-m", "only here")
    replace(inner / "b.py", "b = 1", "b = 2")
    (inner / "c.py").write_text("c = 1\n")
    (root / NETWORK).write_text("z = 1\n")
    return root


STATES: dict[Callable[[Path], Path], list[str]] = {
    same_size: [NETWORK],
    mode: [NETWORK],
    rename: ["stages/train.py", NETWORK],
    untracked: [],
    ignored: [],
    staged: [NETWORK],
    binary: ["tinyllm/table.bin"],
    line_ends: [NETWORK, "tinyllm/windows.py"],
    link: [NETWORK],
    odd_settings: [NETWORK, "tinyllm/windows.py"],
    environment: [NETWORK],
    subfolder: [NETWORK],
    worktree: [NETWORK],
    submodule: [NETWORK, "tinyllm/part/a.py", "tinyllm/part/b.py"],
}


def content(folder: Path) -> dict[str, tuple[object, ...]]:
    """Every file of a project, with its bytes or link target, and whether it is executable."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name.startswith((".git/", PATCH)) or name.endswith(".git"):
            continue
        executable = bool(path.lstat().st_mode & stat.S_IXUSR)
        found[name] = (path.readlink(),) if path.is_symlink() else (path.read_bytes(), executable)
    return found


def follow(origin: Provenance, clone: Path) -> None:
    """Run the note's commands except DVC's, as a user would."""
    (clone / PATCH).write_bytes(origin.patch)
    note = origin.as_origin().note("A title")
    *commands, last = note.split("```")[1].removeprefix("sh").strip().splitlines()
    assert last == "dvc repro"
    subprocess.run(["bash", "-e", "-c", "\n".join(commands)], cwd=clone, check=True)


@pytest.mark.parametrize("make", STATES, ids=lambda make: make.__name__)
def test_the_note_reproduces_every_file(
    project_folder: Path, make: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(project_folder)
    monkeypatch.chdir(root)
    before = content(root)
    with monkeypatch.context() as hook:
        if make is environment:
            for name, value in of_a_hook(root.parent / "other").items():
                hook.setenv(name, value)
        origin = provenance()
    assert content(root) == before
    assert origin.dirty is True and origin.tags()["git.dirty"] == "true"
    assert origin.changed == STATES[make]

    fresh = project_folder.parent / "fresh"
    top = Path(git(root, "rev-parse", "--show-toplevel"))
    git(project_folder, "clone", "--quiet", str(top), str(fresh))
    clone = fresh / root.relative_to(top)
    assert content(clone) != before
    follow(origin, clone)
    assert content(clone) == before
