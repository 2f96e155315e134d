"""Comparing a project's files with its commit by content, independent of Git's configuration.

Git's index records the size and time of every file, and Git skips files in which both are the same.
`dvc exp run --temp` checks files out and changes them within one second, so Git would also skip a
change of the same length. This module uses a new, empty index.

The commands are plumbing, which ignores the configuration of `git diff` (prefixes, context, order,
renames). The options below override the rest of the configuration.
"""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

TIMEOUT = 60.0  # seconds a command may take: a large repository on a slow disk

_CONFIGURATION = {
    "core.attributesFile": os.devnull,
    "core.autocrlf": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.ignoreStat": "false",
    "core.quotePath": "true",
    "core.safecrlf": "false",
    "core.splitIndex": "false",
    "core.untrackedCache": "false",
}
# These variables move the repository, its index or its objects (a hook sets some), or change what a
# command prints. Without them Git uses the repository of the folder, as DVC does.
_FOREIGN = {
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_NAMESPACE"),
    *("GIT_INDEX_FILE", "GIT_INDEX_VERSION", "GIT_PREFIX", "GIT_GRAFT_FILE", "GIT_SHALLOW_FILE"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_REPLACE_REF_BASE"),
    *("GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS", "GIT_ATTR_SOURCE", "GIT_CONFIG"),
    *("GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS"),
    "GIT_ICASE_PATHSPECS",
}
_AS_PATCH = (
    *("--patch", "--binary", "--full-index", "--unified=3", "--inter-hunk-context=0"),
    *("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames"),
)


class GitError(Exception):
    """A Git command failed; the message is Git's, in one line."""


@dataclass
class Changes:
    """How the files of a folder differ from those of a commit.

    Attributes:
        changed: files of the commit that differ or are missing, relative to the folder.
        untracked: files that are not in the commit and that Git does not ignore, and those in
            `also`.
        missing: paths of `read`, or files and folders in them, that are not in the commit, even if
            Git ignores them.
        patch: the difference, for `git apply`.
        submodules: whether submodules are checked out.
    """

    changed: list[str] = field(default_factory=list)
    untracked: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    patch: bytes = b""
    submodules: bool = False


def has_repository(folder: Path) -> bool:
    """Whether a folder is in a repository, even in one that Git refuses to read."""
    return any((parent / ".git").exists() for parent in (folder, *folder.parents))


def read_changes(
    folder: Path, *, revision: str = "HEAD", exclude: Iterable[str] = (),
    unpatched: Iterable[str] = (), also: Iterable[str] = (),
    read: Collection[str] = (), into_patch: Callable[[str], bool], prefix: bytes = b"",
) -> Changes:  # fmt: skip
    """Compare the files of a folder with those of a commit, including submodules.

    Args:
        exclude: files and folders to skip.
        unpatched: files to compare but to exclude from the patch.
        also: files that count as untracked even if Git ignores them, unless the commit has them.
        read: files and folders to look up in the commit, for `Changes.missing`.
        into_patch: whether an untracked file becomes part of the patch.
        prefix: prefix of every path in the patch: the path of this repository inside another.

    Raises:
        GitError: a Git command fails.
    """
    with tempfile.TemporaryDirectory(prefix="tinyllm-git-") as scratch:
        git = Git(folder, Path(scratch, "index"))
        here = git("rev-parse", "--show-prefix").removesuffix(b"\n")
        entries = git("ls-tree", "-r", "-z", "--full-name", revision)
        git("update-index", "-z", "--index-info", stdin=entries)
        # Compares every file; exits with 1 if some differ.
        git("update-index", "-q", "--really-refresh", statuses=(0, 1))
        compared = (".", *(f":(exclude){name}" for name in exclude))
        difference = ("--ignore-submodules=all", revision, "--", *compared)
        submodules = _submodules(folder, entries, here)

        known = set(_names(git("ls-files", "-z")))
        others = set(_names(git("ls-files", "--others", "--exclude-standard", "-z", *compared)))
        others |= {name for name in also if name not in known and not _is_in(name, submodules)}
        found = Changes(
            changed=_names(git("diff-index", "--name-only", "--relative", "-z", *difference)),
            untracked=sorted(others),
            missing=_missing(git, [name for name in read if not _is_in(f"{name}/", submodules)]),
            submodules=bool(submodules),
        )
        new = [here + os.fsencode(name) for name in found.untracked if into_patch(name)]
        if new:  # adds their names with an empty object: the patch reads the content from the file
            empty = git("hash-object", "--stdin").strip()
            listed = b"".join(b"100644 %s\t%s\0" % (empty, name) for name in new)
            git("update-index", "-z", "--index-info", stdin=listed)
        sides = (f"--src-prefix=a/{os.fsdecode(prefix)}", f"--dst-prefix=b/{os.fsdecode(prefix)}")
        patched = (*difference, *(f":(exclude){name}" for name in unpatched))
        found.patch = git("diff-index", *_AS_PATCH, *sides, *patched)
    for name, commit in submodules.items():
        within = prefix + here + os.fsencode(name) + b"/"
        inner = read_changes(
            folder / name, revision=commit, into_patch=into_patch, prefix=within,
            read=[os.path.relpath(each, name) for each in read if _is_in(f"{each}/", [name])],
        )  # fmt: skip
        found.changed += [f"{name}/{path}" for path in inner.changed]
        found.untracked += [f"{name}/{path}" for path in inner.untracked]
        found.missing += [os.path.normpath(f"{name}/{path}") for path in inner.missing]
        found.patch += inner.patch
    return found


def hidden_changes(folder: Path, *, revision: str, wanted: Callable[[str], bool]) -> Iterator[str]:
    """Files that Git considers unchanged although their bytes differ from the commit's.

    Git converts files before comparing them if .git/info/attributes says so.

    Args:
        wanted: whether to check a file.

    Raises:
        GitError: a Git command fails.
    """
    git = Git(folder)
    here = git("rev-parse", "--show-prefix").removesuffix(b"\n")
    for entry in git("ls-tree", "-r", "-z", "--full-name", revision).split(b"\0"):
        about, _, path = entry.partition(b"\t")
        name = os.fsdecode(path.removeprefix(here))
        if about.startswith(b"100") and wanted(name) and (folder / name).is_file():
            content, committed = (folder / name).read_bytes(), about.split()[2].decode()
            digest = hashlib.new(
                "sha1" if len(committed) == 40 else "sha256", usedforsecurity=False
            )
            digest.update(b"blob %d\0%s" % (len(content), content))
            if digest.hexdigest() != committed:
                yield name


def _missing(git: "Git", read: list[str]) -> list[str]:
    """The files and folders in `read` that are not in the index and that DVC does not ignore."""
    top = Path(os.fsdecode(git("rev-parse", "--show-toplevel").removesuffix(b"\n")))
    folder = git.folder.resolve()
    missing, inside = [], []
    for name in read:
        path = Path(os.path.normpath(folder / name))
        around = (path, *path.parents)
        elsewhere = Path(name).is_absolute() or top not in around
        # Git does not list files of a repository inside this one.
        if elsewhere or any((p / ".git").exists() for p in around[: around.index(top)]):
            missing.append(name)
        else:
            inside.append(f":(literal){name}")
    if inside:
        ignored = folder / ".dvcignore"
        skip = [f"--exclude-from={ignored}"] if ignored.is_file() else []
        options = ("--others", "--directory", "--no-empty-directory", *skip, "-z")
        missing += [name.rstrip("/") for name in _names(git("ls-files", *options, "--", *inside))]
    return missing


def _submodules(folder: Path, entries: bytes, here: bytes) -> dict[str, str]:
    """The checked-out submodules: path relative to the folder, to the commit recorded for it."""
    found = {}
    for entry in entries.split(b"\0"):
        about, _, path = entry.partition(b"\t")
        name = os.fsdecode(path.removeprefix(here))
        if about.startswith(b"160000 ") and (folder / name / ".git").exists():
            found[name] = about.split()[2].decode()
    return found


def _is_in(name: str, folders: Iterable[str]) -> bool:
    return any(name.startswith(f"{folder}/") for folder in folders)


def _names(listed: bytes) -> list[str]:
    """File names that a command prints with -z."""
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


@dataclass(frozen=True)
class Git:
    """Runs commands in a folder's repository.

    Attributes:
        index: an index file to use instead of the repository's own.
    """

    folder: Path
    index: Path | None = None

    def __call__(
        self, *arguments: str, stdin: bytes = b"", statuses: tuple[int, ...] = (0,)
    ) -> bytes:
        """Run a command and return what it prints.

        Raises:
            GitError: its exit status is not in `statuses`, it takes too long, or Git is missing.
        """
        settings = [part for pair in _CONFIGURATION.items() for part in ("-c", "=".join(pair))]
        world = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        world |= {"GIT_ATTR_NOSYSTEM": "1", "GIT_NO_REPLACE_OBJECTS": "1"}
        if self.index is not None:
            world["GIT_INDEX_FILE"] = str(self.index)
        try:
            done = subprocess.run(
                # Without the lock, a Git command that the user runs at the same time still works.
                ["git", "--no-optional-locks", *settings, *arguments],
                cwd=self.folder,
                env=world,
                input=stdin,
                capture_output=True,
                check=False,
                timeout=TIMEOUT,
            )
        except OSError as error:
            raise GitError(f"git can't be run: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise GitError(f"git {arguments[0]} took more than {TIMEOUT:.0f} s") from None
        if done.returncode not in statuses:
            said = " ".join(done.stderr.decode(errors="replace").split())
            raise GitError(said or f"git {arguments[0]} ended with status {done.returncode}")
        return done.stdout
