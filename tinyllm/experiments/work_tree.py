"""Makes a folder that holds a run's code, settings and data, so that `dvc repro` repeats the run.

The folder is a clone of the project's repository at the run's commit, with the run's patch and
params.yaml. It shares DVC's cache with the project, and has checkpoints of its own, so that
training starts at its first step.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tinyllm.common.addresses import MASK
from tinyllm.experiments import run_files
from tinyllm.experiments.inputs import inputs_in, is_in
from tinyllm.experiments.outputs import Output
from tinyllm.experiments.pipeline import places_of
from tinyllm.experiments.recorded import Recorded
from tinyllm.experiments.repository import Git, GitError
from tinyllm.settings import strict_yaml
from tinyllm.settings.load import flatten
from tinyllm.tracking.masking import masked
from tinyllm.tracking.mlflow.runs import NOTE_TAG
from tinyllm.tracking.origin import PATCH

PARAMS, LOCK, CONFIG = "params.yaml", "dvc.lock", ".dvc/config.local"
LINKS = "reflink,hardlink,symlink,copy"  # how DVC takes data from the cache: without a copy


@dataclass
class Plan:
    """What a work tree is made of; `plan` has seen that all of it exists.

    Attributes:
        run: the run to repeat.
        project: the folder of this project.
        prefix: its path in its repository, empty or ending with "/".
        settings: of the run: sections of keys.
        lock: dvc.lock of the stages that made the data; empty if unknown.
        copies: files and folders to copy from the project, in neither commit nor patch.
        pointers: .dvc files in the commit, whose content DVC's cache or remote storage has.
        lost: inputs of the corpus that no longer exist; the data made from them are cached.
    """

    run: Recorded
    project: Path
    prefix: str
    settings: dict[str, Any]
    lock: dict[str, Any]
    copies: list[str] = field(default_factory=list)
    pointers: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def md5_of(path: Path) -> str | None:
    """The hash that DVC gives a file or folder; None if it does not exist."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if not path.is_dir():
        return None
    folder = Output(path, ".dir", size=0, cached=False, ignored=frozenset())
    return folder.digest_of({name: md5_of(file) or "" for name, file in folder.files().items()})


def plan(run: Recorded, project: Path) -> Plan:
    """Look up everything that a run needs; nothing is written.

    Raises:
        ValueError: something is missing; one line each.
    """
    git = Git(project)
    commit = run.commit
    if commit is None:
        raise ValueError(f"{run.title}: no commit is recorded: it ran outside a repository")
    if run.tags.get("git.dirty") == "unknown":
        raise ValueError(f"{run.title}: its code is unknown: Git failed when it ran")
    try:
        prefix = git("rev-parse", "--show-prefix").decode().strip()
        git("cat-file", "-e", f"{commit}^{{commit}}")
    except GitError:
        raise ValueError(
            f"{run.title}: commit {commit[:10]} is not in this repository; `git fetch` the branch "
            "that has it"
        ) from None
    wrong = []
    if run.has_patch and run.file(PATCH) is None:
        wrong.append(f"{PATCH}, the uncommitted changes of the code, is not among its files")
    committed = strict_yaml.load(git("cat-file", "blob", f"{commit}:./{PARAMS}").decode())
    lock = run.lock or _committed_lock(git, commit)
    made = Plan(run, project, prefix, run.settings(committed), lock)
    made.pointers = sorted(set(run.state.get("pulled", {}).values()))
    wrong += [*_passwords(made), *_inputs(made)]
    if wrong:
        raise ValueError("\n".join(f"{run.title}: {line}" for line in wrong))
    return made


def _committed_lock(git: Git, commit: str) -> dict[str, Any]:
    """The data stages of a commit's dvc.lock; empty if it has none."""
    try:
        lock = strict_yaml.load(git("cat-file", "blob", f"{commit}:./{LOCK}").decode())
        return dict(strict_yaml.load(run_files.data_stages(lock)))
    except (GitError, ValueError, LookupError, TypeError):
        return {}


def _passwords(made: Plan) -> Iterator[str]:
    """Put passwords back, which no run records, from the project's params.yaml."""
    own = flatten(strict_yaml.load((made.project / PARAMS).read_text(encoding="utf-8")))
    for name, value in flatten(made.settings).items():
        if MASK in str(value):
            section, _, key = name.rpartition(".")
            if masked(str(own.get(name))) != str(value):
                yield f"{name}: its password is not recorded; set it in {PARAMS} first"
            else:
                made.settings[section][key] = own[name]


def _inputs(made: Plan) -> Iterator[str]:
    """Find the files that the run read and that no clone has; yield what is missing."""
    recorded: dict[str, str | None] = made.run.state.get("inputs", {})
    if not made.run.state and "neither in Git nor in" in made.run.tags.get(NOTE_TAG, ""):
        yield "it read files that are not in Git, and an old version recorded no list of them"
    corpus = made.settings["download"]["path"]
    whole = {each.path: each.md5 for each in inputs_in(made.lock)}
    for name, md5 in recorded.items():
        # A file of a folder has no hash of its own in dvc.lock.
        place = name if md5 else next((path for path in whole if is_in(name, [path])), name)
        wanted, now = md5 or whole.get(place), md5_of(made.project / place)
        if now is not None and now == wanted:
            if not Path(name).is_absolute():
                made.copies.append(name)
        elif is_in(name, [corpus]) and _has_data(made):
            made.lost += [place] * (place not in made.lost)
        elif wanted is None:
            yield f"{place}: was not in Git, and its content is not recorded"
        else:
            what = "has changed since the run" if now else "does not exist any more"
            yield f"{place}: {what}, and neither Git nor DVC has it (md5 {wanted})"


def cache_of(project: Path) -> tuple[Path, dict[str, dict[str, Any]]]:
    """The folder of DVC's cache, and the configuration of each remote storage."""
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        remotes = {name: dict(remote) for name, remote in repo.config["remote"].items()}
        return Path(repo.cache.local.path).parents[1], remotes


def _in_cache(cache: Path, md5: str) -> bool:
    return (cache / "files" / "md5" / md5[:2] / md5[2:]).exists()


def _has_data(made: Plan) -> bool:
    """Whether DVC's cache holds all data that the last stage before training reads."""
    cache, _ = cache_of(made.project)
    tokenize = places_of("tokenize", made.project)
    wanted = {tokenize[name].as_posix() for name in ("tokens", "tokenizer")}
    stages = made.lock.get("stages", {})
    outs = [out for out in stages.get("tokenize", {}).get("outs", []) if out["path"] in wanted]
    return len(outs) == len(wanted) and all(_in_cache(cache, out["md5"]) for out in outs)


# ----- making it


def make(made: Plan, folder: Path) -> Path:
    """Make the work tree in a new folder. Returns the project's folder in it.

    Raises:
        ValueError: the patch does not apply, or Git or DVC fails.
    """
    run = made.run
    top = Path(os.fsdecode(Git(made.project)("rev-parse", "--show-toplevel").rstrip(b"\n")))
    _git(made.project, "clone", "--quiet", "--local", "--no-checkout", str(top), str(folder))
    _git(folder, "checkout", "--quiet", "--detach", str(run.commit))
    if run.state.get("submodules"):
        _git(folder, "submodule", "update", "--quiet", "--init", "--recursive")
    if run.has_patch:
        patch = folder / ".git" / PATCH
        patch.write_bytes(run.file(PATCH) or b"")
        _git(folder, "apply", "--whitespace=nowarn", str(patch))
    tree = folder / made.prefix
    (tree / PARAMS).write_bytes(_params(made))
    for name in made.copies:
        _copy(made.project / name, tree / name, folder)
    _share_cache(made.project, tree)
    if made.lock:
        (tree / LOCK).write_text(yaml.safe_dump(made.lock, sort_keys=False), encoding="utf-8")
    _take_data(made, tree)
    return tree


def _params(made: Plan) -> bytes:
    """The params.yaml of the run: its own text, unless a setting had to be changed."""
    own = made.run.file(run_files.PARAMS)
    if own is not None and strict_yaml.load(own.decode()) == made.settings:
        return own
    return yaml.safe_dump(made.settings, sort_keys=False, allow_unicode=True).encode()


def _git(folder: Path, *command: str) -> None:
    try:
        Git(folder)(*command)
    except GitError as error:
        raise ValueError(f"git {command[0]}: {error}") from None


def _copy(source: Path, target: Path, folder: Path) -> None:
    """Copy a file or folder of the project; one outside of it must be in place already."""
    if not Path(os.path.normpath(target)).is_relative_to(folder):
        if md5_of(target) != md5_of(source):
            raise ValueError(
                f"{source} is outside the project, so the work tree must be beside it: "
                f"choose another folder with --into"
            )
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def _share_cache(project: Path, tree: Path) -> None:
    """Let DVC in the tree use the project's cache and remote storages, by links where it can."""
    cache, remotes = cache_of(project)
    lines = ["[cache]", f"    dir = {cache}", f"    type = {LINKS}"]
    for name, remote in remotes.items():
        lines.append(f"['remote \"{name}\"']")
        lines += [f"    {key} = {value}" for key, value in remote.items()]
    config = tree / CONFIG
    config.touch(mode=0o600)  # it may hold passwords
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _take_data(made: Plan, tree: Path) -> None:
    """Link the data from DVC's cache, and copy reports of the data, where the hashes agree."""
    stages = made.lock.get("stages", {})
    cache, remotes = cache_of(made.project)
    missing = False
    for out in (out for stage in stages.values() for out in stage["outs"]):
        mine, target, md5 = made.project / out["path"], tree / out["path"], out["md5"]
        if not _in_cache(cache, md5) and md5_of(target) != md5:
            if md5_of(mine) == md5:
                shutil.rmtree(target, ignore_errors=True)
                _copy(mine, target, tree)
            else:
                missing = True
    targets = [*made.pointers, *(name for name in run_files.DATA_STAGES if name in stages)]
    if targets:
        if remotes and (missing or made.pointers):
            dvc(tree, "fetch", "--quiet", *targets, quiet=True)
        dvc(tree, "checkout", "--quiet", "--allow-missing", *targets, quiet=True)


def dvc(tree: Path, *command: str, quiet: bool = False) -> int:
    """Run DVC in a work tree with this Python. Returns its exit status.

    Args:
        quiet: hide what it prints.
    """
    foreign = ("DVC_EXP", "DVC_STAGE", "DVC_ROOT", "DVC_STUDIO", "GIT_", "TINYLLM_")
    world = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    world["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{world.get('PATH', '')}"
    return subprocess.run(
        [sys.executable, "-m", "dvc", *command],
        cwd=tree,
        env=world,
        check=False,
        stdout=subprocess.DEVNULL if quiet else None,
        stderr=subprocess.DEVNULL if quiet else None,
    ).returncode
