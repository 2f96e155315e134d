"""Whole sweeps of tiny trainings, which are killed, interrupted, pruned, and fail."""

import json
import signal
import time
from pathlib import Path

import pytest

from benchmarks.sweep import Kill, count, kill_and_restart, start, write_sweep
from tests.pipeline import Project
from tinyllm.experiments.sweep.training_watch import PRUNED_TAG

pytestmark = pytest.mark.slow  # a training takes ten seconds or more, mostly imports


def sweep(project: Project, *arguments: str, check: bool = True) -> str:
    done = project.run("python", "-m", "tinyllm", "sweep", *arguments, check=check)
    return done.stdout + done.stderr


def write(project: Project, text: str) -> None:
    (project.root / "sweep.yaml").write_text(text, encoding="utf-8")


def experiments(project: Project) -> dict[str, str]:
    """DVC's experiments: name to commit."""
    listed = project.run("git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps")
    return {
        name.rpartition("/")[2]: commit
        for name, commit in (line.split() for line in listed.stdout.splitlines())
    }


def test_trials_are_experiments_and_children_of_a_run(copy: Project) -> None:
    write(copy, "vary:\n  train.n_layer: [1, 2]\nset:\n  train.max_steps: 9\nsampler: grid\n")
    copy.append("params.yaml", "# my change\n")
    before = copy.run("git", "status", "--porcelain").stdout
    output = sweep(copy, "sweep.yaml", "-j", "2")
    assert "2 complete" in output
    assert copy.run("git", "status", "--porcelain").stdout == before
    assert experiments(copy).keys() >= {"sweep-001", "sweep-002"}

    runs = {run.data.tags.get("dvc.experiment", run.info.run_name): run for run in copy.runs()}
    parent = runs["sweep"]
    values = {}
    for name in ("sweep-001", "sweep-002"):
        tags = runs[name].data.tags
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert tags["dvc.experiment"] == name
        values[name] = runs[name].data.metrics["best/bits_per_byte"]
    best = min(values, key=lambda name: values[name])
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["tinyllm.sweep.best_trial"] == best
    assert parent.data.metrics["sweep/best"] == pytest.approx(values[best])
    assert parent.data.params["sweep.vary.train.n_layer"] == "[1, 2]"

    table = copy.run("python", "-m", "tinyllm", "compare", "--json").stdout
    assert {run["name"] for run in json.loads(table)} == {"sweep-001", "sweep-002"}
    assert sweep(copy, "status").index(best) < sweep(copy, "status").rindex("sweep-00")

    found = experiments(copy)
    assert "2 complete" in sweep(copy, "sweep.yaml")  # nothing is left to run
    assert experiments(copy) == found
    copy.run("git", "checkout", "params.yaml")
    copy.dvc("exp", "apply", best)
    layers = 1 + ["sweep-001", "sweep-002"].index(best)
    params = (copy.root / "params.yaml").read_text(encoding="utf-8")
    assert f"n_layer: {layers}" in params
    assert "max_steps: 9" in params


def test_a_sweep_that_is_killed_ends_with_each_trial_once(quiet: Project) -> None:
    quiet.commit()
    write_sweep(quiet, 3)
    # While it starts, while it trains, and before it records what DVC has completed.
    moments = [Kill(0, 4.0), Kill(0, 12.0), Kill(1, 0.0), Kill(1, 0.4)]
    output = kill_and_restart(quiet, 2, moments)
    assert "3 complete; left: 0 trials" in output
    found = count(quiet)
    assert found.complete == ["sweep-001", "sweep-002", "sweep-003"]
    assert found.recorded == 3
    assert found.most_runs == 1
    assert not (quiet.root / ".tinyllm" / "sweeps" / "sweep" / "trees").exists()


def test_ctrl_c_saves_the_training_and_the_same_command_resumes_it(quiet: Project) -> None:
    quiet.commit()
    write_sweep(quiet, 1, more="set: {train.max_steps: 20000, train.eval_interval: 10000}\n")
    process = start(quiet, 1)
    log = quiet.root / ".tinyllm" / "sweeps" / "sweep" / "logs" / "sweep-001.log"
    wait_for(log, "step     0/20000")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 130, output
    assert "stopped; `tinyllm sweep sweep.yaml` resumes from there" in output
    assert "saved" in log.read_text(encoding="utf-8")
    process = start(quiet, 1)
    wait_for(log, "train: resuming at step")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 130
    assert "1 running; left: 0 trials" in sweep(quiet, "status")


def test_a_hopeless_trial_is_stopped_and_its_run_says_why(copy: Project) -> None:
    write(
        copy,
        "vary:\n  train.learning_rate: [0.01, 0.011, 0.012, 0.013, 0.000001]\nsampler: grid\n"
        "pruner: median\nset:\n  train.max_steps: 4000\n  train.eval_interval: 100\n",
    )
    output = sweep(copy, "sweep.yaml", "-j", "2")
    assert "4 complete, 1 pruned" in output
    assert "sweep-005" not in experiments(copy)
    (run,) = (r for r in copy.runs() if r.data.tags.get("dvc.experiment") == "sweep-005")
    assert run.info.status == "KILLED"
    assert run.data.tags[PRUNED_TAG].startswith("val.bits_per_byte ")


def test_each_point_is_repeated_with_each_seed(quiet: Project) -> None:
    quiet.commit()
    write(quiet, "vary:\n  train.n_layer: [2]\nseeds: [1, 2]\n")
    sweep(quiet, "sweep.yaml", "-j", "2")
    values = []
    for name in ("sweep-001-s1", "sweep-001-s2"):
        shown = quiet.run("git", "show", f"{experiments(quiet)[name]}:reports/train/metrics.json")
        values.append(json.loads(shown.stdout)["val"]["bits_per_byte"])
    assert values[0] != values[1]
    assert f"{sum(values) / 2:.4f}" in sweep(quiet, "status")


def test_a_sweep_whose_trials_all_fail_stops(quiet: Project) -> None:
    quiet.commit()
    write(
        quiet,
        "vary:\n  train.n_layer: {low: 1, high: 9}\nset:\n  hardware.device: mps\ntrials: 9\n",
    )
    output = sweep(quiet, "sweep.yaml", "-j", "3", check=False)
    assert "error: 3 trials in a row failed" in output
    assert "ERROR: failed to reproduce 'train'" in output
    assert "3 failed" in sweep(quiet, "status")


def test_what_decides_the_result_may_not_change(quiet: Project) -> None:
    quiet.commit()
    write_sweep(quiet, 1)
    process = start(quiet, 1)
    wait_for(quiet.root / ".tinyllm" / "sweeps" / "sweep" / "logs" / "sweep-001.log", "step")
    assert "is running already" in sweep(quiet, "sweep.yaml", check=False)
    process.kill()
    process.communicate()
    write_sweep(quiet, 2, more="seeds: [1]\n")
    assert "error: seeds changed since the sweep 'sweep' was started" in sweep(
        quiet, "sweep.yaml", check=False
    )


def wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + 120
    while not (log.exists() and text in log.read_text(encoding="utf-8")):
        assert time.monotonic() < deadline, log.exists() and log.read_text(encoding="utf-8")
        time.sleep(0.2)
