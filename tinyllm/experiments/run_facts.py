"""What MLflow knows of a run, for its page: times, speed, memory, hardware, commit, settings."""

import ast
import math
import re
import time
from collections.abc import Mapping
from typing import Any

from tinyllm.experiments.runs import Run
from tinyllm.report_page import charts
from tinyllm.report_page.content import Content
from tinyllm.report_page.curves import MOST_GROUPS
from tinyllm.report_page.settings import Row, read_defaults, setting_rows
from tinyllm.report_page.thinning import thinned
from tinyllm.tracking.mlflow.refusals import reason_of
from tinyllm.tracking.mlflow.runs import NOTE_TAG

SPEED = "train/tokens_per_second"
# Of these the page shows the highest value, in MB.
MEMORY = {
    "memory of the process": "system/process_memory_megabytes",
    "memory of the GPU": "system/gpu_0_memory_usage_megabytes",
}
HARDWARE = ("device_name", "instruction_set", "threads", "world_size", "precision")
OTHER_SECTIONS = ("download.", "tokenize.", "split.", "hardware.")


def add_run(content: Content, run: Run) -> None:
    """Add what is known of a run to the content of its page."""
    facts = {
        "name": run.name,
        "began": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run.time)),
        "training took": _duration(run.seconds) if run.seconds is not None else None,
        "commit": run.base or run.revision,
    }
    commands = ""
    if run.run_id is not None:
        facts["MLflow run"] = run.run_id
        try:
            commands = _from_mlflow(content, run.run_id, facts)
        except ValueError as error:
            print(f"without what MLflow knows of {run.name}: {error}")
    known = [(name, value) for name, value in facts.items() if value]
    content["run"] = {"facts": known, "commands": commands}
    shown = {row["name"] for row in content["settings"]}
    rows = [row for row in _other_settings(run.settings) if row["name"] not in shown]
    content["settings"] = sorted([*content["settings"], *rows], key=lambda row: not row["changed"])


def _from_mlflow(content: Content, run_id: str, facts: dict[str, Any]) -> str:
    """Add facts and the chart of the throughput. Returns the commands that repeat the run."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    try:
        run = client.get_run(run_id)
        history = {
            name: client.get_metric_history(run_id, name)
            for name in (SPEED, *MEMORY.values())
            if name in run.data.metrics
        }
    except MlflowException as error:
        raise ValueError(reason_of(error)) from None
    tags, resolved = run.data.tags, run.data.params
    if tags.get("git.dirty") not in (None, "false"):
        facts["commit"] = f"{facts['commit']}, with changes ({tags['git.dirty']})"
    facts["experiment"] = tags.get("dvc.experiment")
    speeds = [(entry.step, entry.value) for entry in history.get(SPEED, ())]
    speeds = sorted((step, value) for step, value in speeds if math.isfinite(value))
    if speeds:
        median = sorted(value for _, value in speeds)[len(speeds) // 2]
        facts["tokens per second"] = f"{median:,.0f} (median)"
        rows = thinned([{"x": float(x), "y": y} for x, y in speeds], MOST_GROUPS)
        chart = charts.throughput([row["x"] for row in rows], [row["y"] for row in rows])
        content["charts"]["training"].append(chart)
    for name, metric in MEMORY.items():
        if values := [entry.value for entry in history.get(metric, ())]:
            facts[name] = f"{max(values):,.0f} MB at most"
    hardware = [f"{resolved[f'resolved.{key}']}" for key in HARDWARE[:2]
                if resolved.get(f"resolved.{key}")]  # fmt: skip
    counts = {"threads": "threads", "world_size": "process(es)"}
    hardware += [
        f"{resolved[f'resolved.{key}']} {word}"
        for key, word in counts.items()
        if f"resolved.{key}" in resolved
    ]
    facts["hardware"] = ", ".join(hardware)
    facts["torch"] = resolved.get("resolved.torch_version")
    found = re.match(r"```sh\n(.*?)\n```", tags.get(NOTE_TAG, ""), re.DOTALL)
    return found[1] if found else ""


def _other_settings(settings: Mapping[str, str]) -> list[Row]:
    """The settings that decide data and hardware, which the stage's page does not list."""
    defaults = read_defaults()
    typed = {
        name: _typed(text)
        for name, text in settings.items()
        if name.startswith(OTHER_SECTIONS) and name in defaults
    }
    return setting_rows(typed)


def _typed(text: str) -> Any:
    """A value from MLflow's text of it."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
