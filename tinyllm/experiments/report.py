"""`tinyllm report`: a copy of a run's page with what the stage must not write into it.

The page that `evaluate` draws is the same bytes for the same inputs. What differs from one run to
the next is in MLflow and Git: times, speed, hardware, the commit, the scores before. The copy has
them too, and is no stage's output.
"""

import os
import tempfile
import webbrowser
from pathlib import Path
from typing import Any

from tinyllm.common.files import STATE_FOLDER, project_root, publish_file
from tinyllm.experiments.difference import choose
from tinyllm.experiments.pipeline import places_of
from tinyllm.experiments.previous_scores import previous_scores
from tinyllm.experiments.provenance import PARAMS
from tinyllm.experiments.repository import Git, GitError
from tinyllm.experiments.run_facts import add_run
from tinyllm.experiments.runs import Run, mlflow_runs, read_runs
from tinyllm.report_page import page
from tinyllm.report_page.content import Content
from tinyllm.settings.load import load_params
from tinyllm.tracking.mlflow.environment import set_up_mlflow
from tinyllm.tracking.mlflow.refusals import reason_of
from tinyllm.tracking.mlflow.runs import MODEL_TAG

FOLDER = "reports"  # in the project's state folder
RECENT = "HEAD"


def report(name: str | None, target: Path | None, against: str | None, *, show: bool) -> Path:
    """Draw the page of a run, with its times, hardware and commit, and the scores before it.

    Args:
        name: of the run, or the beginning of its id; None for the project's last run.
        target: file to write; None for one in the project's state folder.
        against: revision whose scores are compared; None for the last commit with other scores.
        show: whether to open it in the browser.

    Returns:
        The file, relative to the current folder.

    Raises:
        ValueError: there is no such run or revision, or no page of it.
    """
    root, here = project_root(), Path.cwd()
    set_up_mlflow(root)  # changes the current folder
    experiment = load_params(root / PARAMS).runtime.experiment
    where = places_of("evaluate", root)["page"]
    if name is None:
        content = _read(root / where, where.as_posix())
        run = _run_of(content, experiment)
        base = RECENT
    else:
        run = choose(read_runs(root, experiment), name)
        content = _page_of(run, root, where)
        base = run.base or RECENT
    previous = previous_scores(root, content, base, against)
    if previous is not None:
        content["previous"] = previous
    if run is not None:
        add_run(content, run)
    name = f"{run.short_id if run else 'last'}.html"
    file = here / target if target else root / STATE_FOLDER / FOLDER / name
    with publish_file(file) as temporary:
        temporary.write_bytes(_drawn(content).encode())
    if show:
        webbrowser.open(file.resolve().as_uri())
    return target or Path(os.path.relpath(file, here))


def _read(file: Path, name: str) -> Content:
    try:
        return page.read(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{name} is missing; `dvc repro` draws it") from None
    except ValueError as error:  # of another version, or not UTF-8
        raise ValueError(f"{name}: {error}") from None


def _run_of(content: Content, experiment: str) -> Run | None:
    """The latest run that trained the page's model; None if MLflow has none or does not answer."""
    try:
        runs = list(mlflow_runs(experiment, f"tags.`{MODEL_TAG}` = '{content['weights_sha256']}'"))
    except ValueError as error:
        print(f"no times and no hardware: {error}")
        return None
    trained = [run for run in runs if run.seconds is not None] or runs
    return max(trained, key=lambda run: run.time, default=None)


def _page_of(run: Run, root: Path, where: Path) -> Content:
    """The content of a run's page, from MLflow or from the experiment's commit."""
    text = _from_mlflow(run, where) or _from_git(run, root, where)
    if text is None:
        raise ValueError(
            f"{run.name} has no page {where.as_posix()}: it was evaluated without one, or never"
        )
    try:
        return page.read(text)
    except ValueError as error:
        raise ValueError(f"{where.as_posix()} of {run.name}: {error}") from None


def _from_mlflow(run: Run, where: Path) -> str | None:
    if run.run_id is None:
        return None
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client, name = MlflowClient(), f"{FOLDER}/{where.name}"
    try:
        if name not in {file.path for file in client.list_artifacts(run.run_id, FOLDER)}:
            return None
        with tempfile.TemporaryDirectory(prefix="tinyllm-report-") as folder:
            return Path(client.download_artifacts(run.run_id, name, folder)).read_text("utf-8")
    except (MlflowException, OSError, ValueError) as error:
        raise ValueError(f"{run.name}: {reason_of(error)}") from None


def _from_git(run: Run, root: Path, where: Path) -> str | None:
    if run.revision is None:
        return None
    try:
        blob = Git(root)("cat-file", "blob", f"{run.revision}:./{where.as_posix()}")
    except (GitError, OSError):
        return None
    return blob.decode(errors="replace")


def _drawn(content: dict[str, Any]) -> str:
    """The page of a content that another program may have changed."""
    from jinja2 import TemplateError

    try:
        return page.draw(content)
    except (TemplateError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"the content of the page is corrupt: {error}") from None
