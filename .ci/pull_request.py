"""Report what a change does to the model: run the pipeline before and after it, at a small size.

    .venv/bin/python .ci/pull_request.py BASE > report.md

BASE is the commit that the change starts from; the change is what is committed at HEAD. The report
is Markdown: scores, settings, validation losses and the stages that ran. Pictures and DVC's page of
plots are in the folder --pictures. The exit status is 1 if the pipeline fails after the change.

The runs are in a clone of their own (--work). It keeps the run of BASE, so the next report on the
same BASE runs only what the change affects. A setting that the change itself changes keeps its
value; the others have the values of the preset.
"""

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyllm.experiments.presets import load_presets, write_settings
from tinyllm.settings import strict_yaml
from tinyllm.settings.load import flatten

ROOT = Path(__file__).resolve().parents[1]
PARAMS, LOCK, REPORTS = "params.yaml", "dvc.lock", "reports"
SCORES = f"{REPORTS}/evaluate/metrics.json"
EVALUATIONS = f"{REPORTS}/train/evaluations.csv"
WITHOUT = {"runtime.tracker": "none"}  # settings of both runs besides the preset's
LAST_LINES = 30  # of a failed run's output in the report
SAME = "_no difference_"


@dataclass
class Outcome:
    """A run of the pipeline.

    Attributes:
        commit: in the clone, with the settings and results of the run; "" if it failed.
        stages: names of the stages that ran.
        seconds: time of the run; 0 if its results were there already.
        output: what it printed.
    """

    commit: str = ""
    stages: list[str] = field(default_factory=list)
    seconds: float = 0.0
    output: str = ""


class Clone:
    """A clone of this repository in which the pipeline runs before and after the change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / ".git").is_dir():
            shutil.rmtree(folder, ignore_errors=True)
            run("git", "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(folder))
        for setting in ("user.name=pull-request", "user.email=pull-request@localhost"):
            self.git("config", *setting.split("="))

    def git(self, *arguments: str, check: bool = True) -> str:
        return run("git", "-C", str(self.folder), *arguments, check=check)

    def dvc(self, *arguments: str) -> str:
        return run(sys.executable, "-m", "dvc", "--cd", str(self.folder), *arguments)

    def pipeline(self, revision: str, settings: dict[str, Any], results: str = "") -> Outcome:
        """Run the pipeline of a revision.

        Args:
            settings: settings to write into params.yaml, by their dotted names.
            results: a commit of this clone whose results are reused where they still hold.
        """
        name = f"run-{revision}"
        self.git("checkout", "--quiet", "--force", "--detach", revision)
        if results:
            self.git("checkout", results, "--", LOCK, REPORTS)
        params = self.folder / PARAMS
        known = flatten(strict_yaml.load(params.read_text(encoding="utf-8")))
        write_settings(params, {key: value for key, value in settings.items() if key in known})
        done = self.git("rev-parse", "--verify", "--quiet", f"refs/tags/{name}", check=False)
        if done and not results and not self.git("diff", done, "--", PARAMS):
            self.git("checkout", done, "--", LOCK, REPORTS)
            self.dvc("checkout", "--quiet", "--force")
            return Outcome(done)
        outcome = self.repro()
        if outcome.commit and not results:
            self.git("tag", "--force", name)
        return outcome

    def repro(self) -> Outcome:
        """Run `dvc repro` and commit its results. Its output is shown too, in the log."""
        start, lines = time.monotonic(), []
        with subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", file=sys.stderr, flush=True)
                lines.append(line)
        output = "".join(lines)
        stages = re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)
        outcome = Outcome("", stages, time.monotonic() - start, output)
        if process.returncode == 0:
            self.git("add", "--all")
            self.git("commit", "--quiet", "--allow-empty", "--message", "a run")
            outcome.commit = self.git("rev-parse", "HEAD")
        return outcome

    def read(self, commit: str, path: str) -> str:
        """A file of a commit; empty if it has none."""
        return self.git("show", f"{commit}:{path}", check=False)


def environment() -> dict[str, str]:
    """This Python first in PATH, as `dvc.yaml` runs `python`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "true"}


def run(*command: str, check: bool = True) -> str:
    """The output of a command.

    Raises:
        SystemExit: it failed; with its last line.
    """
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode and check:
        sys.exit(
            f"error: {' '.join(command)}: {(done.stderr.strip() or 'failed').splitlines()[-1]}"
        )
    return done.stdout.strip()


def changed_settings(clone: Clone, base: str, head: str) -> set[str]:
    """Names of the settings in params.yaml that a change changes."""
    before, after = (flatten(strict_yaml.load(clone.read(rev, PARAMS))) for rev in (base, head))
    return {name for name in before.keys() & after.keys() if before[name] != after[name]}


# ----- the report


def headline(clone: Clone, base: str, head: str) -> str:
    """The test scores before and after."""
    try:
        before, after = (
            json.loads(clone.read(commit, SCORES))["test"]["bits_per_byte"]
            for commit in (base, head)
        )
    except (ValueError, KeyError):
        return "The test scores can't be compared."
    if before == after:
        return f"**{after:.4f} bits per byte** of test text, as before."
    word = "better" if after < before else "worse"
    return f"**{before:.4f} → {after:.4f} bits per byte** of test text: {word} by " + (
        f"{abs(after - before):.4f}. It is one run each, so a small difference may be chance."
    )


def validation(clone: Clone, base: str, head: str) -> list[str]:
    """The validation score at each evaluation, before and after, as a table."""
    curves = [
        {row["step"]: float(row["val_bits_per_byte"]) for row in csv.DictReader(text.splitlines())}
        for text in (clone.read(commit, EVALUATIONS) for commit in (base, head))
    ]
    if curves[0] == curves[1]:
        return [SAME]
    steps = sorted({*curves[0], *curves[1]}, key=int)
    rows = [
        [step, *(f"{curve[step]:.4f}" if step in curve else "" for curve in curves)]
        for step in steps
    ]
    return table(["step", "before", "after"], rows)


def table(heading: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table with numbers to the right."""
    lines = [heading, ["---:"] * len(heading), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def differences(text: str) -> list[str]:
    """The table that DVC prints, or a word if it has no rows."""
    lines = text.splitlines()
    return lines if len(lines) > 2 else [SAME]


def fenced(text: str) -> list[str]:
    """The last lines of a text as a block that Markdown does not interpret."""
    lines = [line for line in text.splitlines() if line.strip()][-LAST_LINES:]
    longest = max((len(ticks) for line in lines for ticks in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", *lines, fence]


def ran(outcome: Outcome) -> str:
    if not outcome.stages:
        return "nothing"
    return f"{', '.join(outcome.stages)} in {outcome.seconds:.0f} s"


def report(clone: Clone, before: Outcome, after: Outcome, preset: str, kept: set[str]) -> str:
    """The report of two runs."""
    lines = ["## What this change does to the model", ""]
    if not after.commit:
        lines += ["**The pipeline fails after this change.** The end of its output:", ""]
        lines += fenced(after.output)
    elif not before.commit:
        lines += ["The pipeline runs, but it fails before this change, so nothing is compared:", ""]
        lines += fenced(before.output)
    elif not after.stages:
        lines += ["No stage ran again: nothing that decides a result has changed."]
    else:
        pair = (before.commit, after.commit)
        lines += [headline(clone, *pair), "", "### Scores", ""]
        lines += differences(clone.dvc("metrics", "diff", "--md", *pair))
        lines += ["", "### Settings", ""]
        lines += differences(clone.dvc("params", "diff", "--md", *pair))
        lines += ["", "### Validation, bits per byte", "", *validation(clone, *pair)]
    note = f"Preset `{preset}`"
    if kept:
        note += f", but {', '.join(f'`{name}`' for name in sorted(kept))} as in `{PARAMS}`"
    lines += ["", f"<sub>{note}. Ran before: {ran(before)}. Ran after: {ran(after)}.</sub>", ""]
    return "\n".join(lines)


def draw(clone: Clone, before: Outcome, after: Outcome, folder: Path) -> None:
    """Copy the pictures of both runs to a folder, and write DVC's page of their plots."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, outcome in (("before", before), ("after", after)):
        if outcome.commit:
            clone.git("checkout", "--quiet", "--force", "--detach", outcome.commit)
            for picture in (clone.folder / REPORTS).rglob("*.png"):
                target = folder / name / picture.relative_to(clone.folder / REPORTS)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(picture, target)
    if before.commit and after.commit:
        page = str(folder.resolve() / "plots")
        clone.dvc("plots", "diff", "--out", page, before.commit, after.commit)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", metavar="BASE", help="the commit before the change")
    parser.add_argument("--head", default="HEAD", help="the commit after it (HEAD)")
    parser.add_argument("--preset", default="tiny", help="settings of both runs (tiny)")
    parser.add_argument("--work", type=Path, default=ROOT / ".tinyllm/pull-request")
    parser.add_argument("--pictures", type=Path, help="folder for pictures and DVC's page")
    options = parser.parse_args()
    base, head = (
        run("git", "-C", str(ROOT), "rev-parse", "--verify", f"{revision}^{{commit}}")
        for revision in (options.base, options.head)
    )
    clone = Clone(options.work)
    kept = changed_settings(clone, base, head)
    settings = load_presets(ROOT)[options.preset].changes | WITHOUT
    settings = {key: value for key, value in settings.items() if key not in kept}
    before = clone.pipeline(base, settings)
    after = clone.pipeline(head, settings, results=before.commit)
    print(report(clone, before, after, options.preset, kept))
    if options.pictures:
        draw(clone, before, after, options.pictures)
    # The commit of another change may be missing when this clone is used again.
    clone.git("checkout", "--quiet", "--force", "--detach", before.commit or base)
    sys.exit(0 if after.commit else 1)


if __name__ == "__main__":
    main()
