"""Finds a trained model by its address, and copies one to a folder.

An address is a folder, or what MLflow downloads: `runs:/ID` (the model of a run),
`models:/NAME@ALIAS`, `models:/NAME/VERSION`, or the address of an artifact. With a revision, the
address is a path of this project, and DVC reads it as it was in that commit, branch, tag or
experiment, from the files in its cache or its remote storage.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.common.errors import RunAgain
from tinyllm.common.files import (
    checked,
    checksums,
    project_root,
    publish_folder,
    read_json,
    seal,
    write_json,
)
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.experiments.pipeline import places_of
from tinyllm.models.folder import CONFIG, WEIGHTS, load_model
from tinyllm.models.model import Model
from tinyllm.tracking.masking import masked
from tinyllm.tracking.mlflow.refusals import reason_of

ORIGIN = "origin.json"
RUN_ARTIFACT = "model"  # of a run: its model folder
MLFLOW = re.compile(r"[a-z][a-z0-9+.-]*:/")  # the beginning of an address for MLflow


@dataclass(frozen=True)
class Found:
    """A model folder, and where it comes from.

    Attributes:
        origin: the address, and what it stood for: a run, a version, a commit.
        downloaded: whether the folder is a copy that is deleted after use.
    """

    folder: Path
    origin: dict[str, Any]
    downloaded: bool = False


def load(address: str | None, revision: str | None = None) -> tuple[Model, Tokenizer]:
    """Load the model at an address; None stands for the model that this project trained.

    Raises:
        ValueError: it is missing or corrupt, or MLflow does not answer.
    """
    with find(address, revision) as found:
        return load_model(found.folder)


def fetch(address: str, revision: str | None, folder: Path) -> dict[str, Any]:
    """Copy the model at an address to a new folder, with its origin in `origin.json`.

    Every file is compared with its recorded checksum first.

    Returns:
        The origin.

    Raises:
        ValueError: the folder exists, or as for `load`.
    """
    folder = folder.absolute()
    if folder.exists() or folder.is_symlink():
        raise ValueError(f"{folder} exists; choose a new folder")
    with find(address, revision) as found, publish_folder(folder) as new:
        sums = checksums(found.folder)
        for name in {CONFIG, WEIGHTS, *sums}:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checked(found.folder, name, sums), new / name)
        origin = {**found.origin, "sha256": sums[WEIGHTS]}
        if ORIGIN in sums:  # of a model that was fetched before
            origin["origin"] = read_json(new / ORIGIN)
        write_json(new / ORIGIN, origin)
        seal(new, {name: digest for name, digest in sums.items() if name != ORIGIN})
    return origin


@contextmanager
def find(address: str | None, revision: str | None) -> Iterator[Found]:
    """Yield the model folder at an address, whose name is in the block's errors about the folder.

    Raises:
        ValueError: as for `load`.
    """
    with _find(address, revision) as found, _named(address, revision, found.folder):
        yield found


@contextmanager
def _find(address: str | None, revision: str | None) -> Iterator[Found]:
    """Yield the model folder at an address; one that was downloaded is deleted with the block."""
    if revision is None and (address is None or not MLFLOW.match(address)):
        folder = _project_model() if address is None else Path(address)
        if address is not None and not folder.is_dir():
            raise ValueError(
                f"{address}: no such folder; an address of MLflow begins with runs:/ or models:/"
            )
        yield Found(folder, {"address": str(folder.absolute())})
        return
    with tempfile.TemporaryDirectory(prefix="tinyllm-model-") as downloads:
        if revision is not None:
            path = _project_model() if address is None else Path(address)
            yield _from_dvc(path, revision, Path(downloads))
        else:
            assert address is not None
            yield _from_mlflow(address.rstrip("/"), Path(downloads))


def _project_model() -> Path:
    """The folder that the stage `train` writes, relative to the current one."""
    root = project_root()
    if not (root / "dvc.yaml").is_file():
        raise ValueError("this folder is not in a project: name a model with --model")
    return Path(os.path.relpath(root / places_of("train", root)["model"]))


def _is_project_model(folder: Path) -> bool:
    in_project = (project_root() / "dvc.yaml").is_file()
    return in_project and folder.resolve() == _project_model().resolve()


@contextmanager
def _named(address: str | None, revision: str | None, folder: Path) -> Iterator[None]:
    """Name the address in errors of its folder; only this project's model can be made again."""
    if revision is None and (address is None or _is_project_model(folder)):
        yield
        return
    try:
        yield
    except RunAgain as error:
        where = f"{address or folder.name} at {revision}" if revision else address
        raise ValueError(f"{where}: {str(error).replace(f'{folder}{os.sep}', '')}") from None


def _from_dvc(path: Path, revision: str, downloads: Path) -> Found:
    """The model folder at a path of the project, as it was in a revision."""
    folder = downloads / path.name
    name, commit = read_revision(path, revision, folder)
    origin = {"address": name, "revision": revision, "commit": commit}
    return Found(folder, origin, downloaded=True)


def read_revision(path: Path, revision: str, target: Path) -> tuple[str, str]:
    """Copy a file or folder of the project as it was in a revision.

    Returns:
        Its path in the project, and the commit.

    Raises:
        ValueError: the revision or the path does not exist, or DVC has no copy of the files.
    """
    from dvc.repo import Repo
    from dvc.repo.brancher import switch
    from dvc.scm import RevError

    root = project_root()
    try:
        name = path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        raise ValueError(f"{path}: must be in {root} to have revisions") from None
    try:
        with Repo(str(root)) as repo, switch(repo, revision) as commit:
            if not repo.dvcfs.exists(f"/{name}"):
                raise ValueError(f"{name} does not exist at {revision} ({commit[:10]})")
            repo.dvcfs.get(f"/{name}", str(target), recursive=True)
    except ValueError:
        raise
    except RevError:
        raise ValueError(
            f"--rev {revision}: no commit, branch, tag or experiment has this name"
        ) from None
    except Exception as error:  # of any kind: each kind of remote storage raises its own
        raise ValueError(
            f"{name} at {revision} is neither in DVC's cache nor in its remote storage "
            f"({reason_of(error)})"
        ) from None
    return name, commit


def _from_mlflow(address: str, downloads: Path) -> Found:
    """Download a model folder by MLflow.

    Raises:
        ValueError: it does not exist, or MLflow does not answer.
    """
    from tinyllm.tracking.mlflow.database import path_of
    from tinyllm.tracking.mlflow.environment import set_up_mlflow

    here = Path.cwd()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    set_up_mlflow(project_root())
    uri = os.environ["MLFLOW_TRACKING_URI"]
    try:
        if (database := path_of(uri)) and not database.exists():
            raise ValueError(f"{address}: there are no runs here: {database} does not exist")
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        try:
            address, facts = _resolved(address)
            download_artifacts(artifact_uri=address, dst_path=str(downloads))
        except (MlflowException, OSError) as error:
            raise ValueError(f"{address}: {reason_of(error)}") from None
    finally:
        os.chdir(here)  # the user's relative paths mean this folder
    folders = {path.parent for path in downloads.rglob(WEIGHTS)}
    models = [folder for folder in folders if (folder / CONFIG).is_file()]
    if not models:
        raise ValueError(f"{address}: holds no model ({CONFIG} and {WEIGHTS} in one folder)")
    folder = min(models, key=lambda path: (len(path.parts), path))
    origin = {"address": address, **facts, "tracking_uri": masked(uri)}
    return Found(folder, origin, downloaded=True)


def _resolved(address: str) -> tuple[str, dict[str, Any]]:
    """The address of the artifacts, and the run or version that it names.

    Raises:
        ValueError: the run has no model.
    """
    from mlflow import MlflowClient
    from mlflow.store.artifact.utils.models import get_model_name_and_version

    client = MlflowClient()
    if run := re.fullmatch(r"runs:/+([^/]+)(?:/(.+))?", address):
        number, path = run[1], run[2] or RUN_ARTIFACT
        status = client.get_run(number).info.status
        if not run[2] and not client.list_artifacts(number, path):
            raise ValueError(f"{address}: this run has no model; its status is {status}")
        return f"runs:/{number}/{path}", {"run_id": number}
    if address.startswith("models:/"):
        named = get_model_name_and_version(client, address)
        if len(named) == 2:
            version = client.get_model_version(*named)
            facts = {"name": version.name, "version": str(version.version)}
            return address, facts | ({"run_id": version.run_id} if version.run_id else {})
    return address, {}
