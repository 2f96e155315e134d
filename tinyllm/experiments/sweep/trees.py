"""The repository in which a trial runs, and its way back into the project.

`dvc exp run --temp` and `--queue` stash the changes in the project's folder while they prepare an
experiment: a kill at that moment takes them away. Two of them at once may also take each other's
experiment (DVC's issue 10673). So a trial runs in a repository of its own, with the same commits
(Git's alternates) and the same cache of DVC, and its experiment is fetched when it is complete.
"""

import json
import os
import time
from pathlib import Path

from configobj import ConfigObj

from tinyllm.common.files import remove
from tinyllm.experiments.pipeline import places_of
from tinyllm.experiments.provenance import PARAMS
from tinyllm.experiments.repository import Git, GitError
from tinyllm.experiments.runs import EXPERIMENTS, read_objects
from tinyllm.settings import strict_yaml

SNAPSHOTS = "refs/tinyllm/sweeps/"  # keeps the files of the project when a sweep began
SUMMARY = "summary.json"  # in the reports of `train`; its module imports torch
LEFT = 10.0  # seconds in which a stage of a killed sweep may still write into its tree
IDENTITY = ("user.name", "user.email")


class Trees:
    """Makes trees of a project, and fetches experiments from them.

    Args:
        root: the project's folder.
        folder: where the trees are.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.folder = folder
        self.git = Git(root)

    def tree(self, experiment: str) -> Path:
        """The folder of an experiment's tree."""
        return self.folder / experiment

    def snapshot(self, name: str) -> tuple[str, str]:
        """Keep the project's tracked files as they are now, without changing anything.

        Returns:
            The commit that HEAD is, and a commit with the files.

        Raises:
            ValueError: there is no commit yet, or Git fails.
        """
        try:
            head = _line(self.git("rev-parse", "--verify", "HEAD"))
            files = head
            if self.git("status", "--porcelain", "--untracked-files=no"):
                author = [part for key in IDENTITY for part in ("-c", f"{key}=tinyllm")]
                files = _line(self.git(*author, "stash", "create"))
            self.git("update-ref", f"{SNAPSHOTS}{name}", files)
        except GitError as error:
            raise ValueError(f"a sweep needs a Git repository with a commit: {error}") from None
        return head, files

    def unseen(self) -> list[str]:
        """Files that the stages read and that are not in Git, so that no trial sees them."""
        params = strict_yaml.load((self.root / PARAMS).read_text(encoding="utf-8"))
        read = ["tinyllm", "stages"]
        own = Path(params["download"]["path"])
        if params["download"]["source"] == "path" and not own.is_absolute():
            read.append(str(own))
        listed = self.git("ls-files", "--others", "--exclude-standard", "-z", "--", *read)
        return [os.fsdecode(name) for name in listed.split(b"\0") if name]

    def make(self, experiment: str, head: str, files: str, cache: str) -> Path:
        """Make an experiment's tree. Returns the project's folder in it.

        Args:
            head, files: see `snapshot`.
            cache: the folder of DVC's cache.
        """
        tree = self.tree(experiment)
        tree.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + LEFT
        while tree.exists() and time.monotonic() < deadline:
            remove(tree)
            time.sleep(0.1)
        top = _line(self.git("rev-parse", "--show-toplevel"))
        self.git("clone", "--quiet", "--shared", "--no-checkout", top, str(tree))
        git = Git(tree)
        git("update-ref", "--no-deref", "HEAD", head)
        git("read-tree", "--reset", "-u", files)
        for key in IDENTITY:
            if value := _line(self.git("config", key, statuses=(0, 1))):
                git("config", key, value)
        project = tree / _line(self.git("rev-parse", "--show-prefix"))
        # No stage writes into a file of its output, so links to the cache are safe.
        config = ConfigObj({"cache": {"dir": cache, "type": "reflink,hardlink,copy"}})
        config.filename = str(project / ".dvc" / "config.local")
        config.write()
        return project

    def fetch(self, experiment: str, head: str) -> bool:
        """Fetch an experiment from its tree. Returns whether it is complete there."""
        ref, tree = _ref(head, experiment), self.tree(experiment)
        if not (tree / ".git").is_dir():
            return False
        try:
            if not Git(tree)("for-each-ref", ref):
                return False
            options = ("-c", "gc.auto=0", "-c", "maintenance.auto=false")
            self.git(*options, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head",
                     "--update-shallow", str(tree), f"{ref}:{ref}")  # fmt: skip
        except GitError as error:
            raise ValueError(f"the experiment {experiment} can't be fetched: {error}") from None
        return True

    def score(self, experiment: str, head: str, metric: str) -> float | None:
        """A metric of an experiment that the project has; None if it has no such experiment."""
        ref = _ref(head, experiment)
        here = _line(self.git("rev-parse", "--show-prefix"))
        path = (places_of("train", self.root)["reports"] / SUMMARY).as_posix()
        (content,) = read_objects(self.git, [f"{ref}:{here}{path}"])
        if content is None:
            return None
        split, name = metric.split(".")
        return float(json.loads(content)[split][name])

    def taken(self, name: str) -> bool:
        """Whether the project has experiments that are named like those of a sweep."""
        return any(
            line.rpartition("/")[2].startswith(f"{name}-")
            for line in self.git("for-each-ref", "--format=%(refname)", EXPERIMENTS)
            .decode()
            .splitlines()
        )


def _ref(head: str, experiment: str) -> str:
    return f"{EXPERIMENTS}{head[:2]}/{head[2:]}/{experiment}"


def _line(output: bytes) -> str:
    return os.fsdecode(output.strip())
