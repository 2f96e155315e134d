"""Kill a sweep at random moments, and compare the time of `-j 2` with that of `-j 1`.

python -m benchmarks.sweep kills [--trials 20] [--kills 5] [--jobs 2] [--seed 1]
python -m benchmarks.sweep jobs [--trials 4] [--steps 400]

Both run a sweep of a tiny pipeline without MLflow. `kills` sends SIGKILL to the whole process group
of `tinyllm sweep` and starts it again; it exits with status 1 unless every trial was run once. Half
of the kills come at any time, the others soon after DVC has completed a training.
`jobs` prints the time, and the CPU time of all processes, of the same sweep with one and with two
trainings at once.
"""

import argparse
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.pipeline import Project, clone

COMPLETED = "Ran experiment(s)"  # as DVC prints
SWEEP = """
vary:
  train.learning_rate: {low: 0.001, high: 0.01, log: true}
  train.weight_decay: [0.0, 0.1]
sampler: random
"""


@dataclass(frozen=True)
class Counted:
    """What is left of a sweep.

    Attributes:
        complete: experiments that DVC has, by name.
        recorded: trials that Optuna has as complete.
        most_runs: how often the same trial was run to its end, at most.
    """

    complete: list[str]
    recorded: int
    most_runs: int


@dataclass(frozen=True)
class Kill:
    """When to kill a sweep.

    Attributes:
        trained: trainings that DVC has to complete first, after the sweep was started.
        seconds: to wait after that.
    """

    trained: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["kills", "jobs"])
    parser.add_argument("--trials", type=int, default=0)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1, help="seed of the moments")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = make(Path(folder) / "project")
        if args.what == "kills":
            write_sweep(project, args.trials or 20)
            kills(project, args.trials or 20, args.kills, args.jobs, args.seed)
        else:
            compare_jobs(project, args.trials or 4, args.steps)


def make(root: Path) -> Project:
    """Make a repository with a tiny corpus and model, in which the pipeline has run."""
    root.mkdir()
    project = clone(root)
    project.set({"runtime.tracker": "none"})
    project.repro()
    project.commit()
    return project


def write_sweep(project: Project, trials: int, name: str = "sweep", more: str = "") -> None:
    """Write a sweep of random points."""
    text = f"name: {name}\n{SWEEP}trials: {trials}\n{more}"
    (project.root / f"{name}.yaml").write_text(text, encoding="utf-8")


def start(project: Project, jobs: int, name: str = "sweep") -> subprocess.Popen[str]:
    """Start a sweep in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tinyllm", "sweep", f"{name}.yaml", "-j", str(jobs)],
        cwd=project.root,
        env=project.world(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )


def kill_and_restart(project: Project, jobs: int, moments: list[Kill]) -> str:
    """Run a sweep to its end, killed at each of these moments. Returns its last output."""
    for kill in moments:
        before = trained(project)
        process = start(project, jobs)
        while process.poll() is None and trained(project) < before + kill.trained:
            time.sleep(0.02)
        try:
            process.wait(kill.seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        print(f"{kill}, exit status {process.returncode}:\n{output}", flush=True)
    process = start(project, jobs)
    output, _ = process.communicate()
    if process.returncode:
        raise ChildProcessError(output)
    return output


def trained(project: Project, name: str = "sweep") -> int:
    """Trainings that DVC completed, by its own output: the sweep may not know of the last ones."""
    logs = (project.root / ".tinyllm" / "sweeps" / name / "logs").glob("*")
    return sum(log.read_text(encoding="utf-8").count(COMPLETED) for log in logs)


def count(project: Project, name: str = "sweep") -> Counted:
    """Count the trials of a finished sweep, in DVC, in Optuna and in what DVC printed."""
    import optuna

    refs = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout
    folder = project.root / ".tinyllm" / "sweeps" / name
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{folder / 'trials.db'}")
    states = [trial.state.name for trial in study.trials]
    logs = [log.read_text(encoding="utf-8") for log in (folder / "logs").iterdir()]
    return Counted(
        complete=sorted(re.findall(rf"/({name}-\d+)$", refs, re.MULTILINE)),
        recorded=states.count("COMPLETE"),
        most_runs=max(log.count(COMPLETED) for log in logs),
    )


def kills(project: Project, trials: int, number: int, jobs: int, seed: int) -> None:
    """Kill a sweep several times; exit with status 1 unless every trial was run once."""
    chance = random.Random(seed)
    began = time.monotonic()
    early = [Kill(0, chance.uniform(5, 30)) for _ in range(number // 2)]
    late = [Kill(chance.randint(1, 3), chance.uniform(0, 3)) for _ in range(number - number // 2)]
    output = kill_and_restart(project, jobs, chance.sample(early + late, number))
    print(output)
    found = count(project)
    expected = [f"sweep-{index:03d}" for index in range(1, trials + 1)]
    print(
        f"{number} kills, {found.recorded} trials recorded, {len(found.complete)} experiments, "
        f"each run at most {found.most_runs} time(s), {time.monotonic() - began:.0f} s"
    )
    fine = found.complete == expected and found.recorded == trials and found.most_runs == 1
    sys.exit(0 if fine else 1)


def compare_jobs(project: Project, trials: int, steps: int) -> None:
    """Print the time of a sweep with one and with two trainings at once."""
    times = []
    for jobs in (1, 2):
        name = f"jobs{jobs}"
        # Other values for each sweep, so that no cache helps the second one.
        lengths = f"{{train.max_steps: {steps}, train.eval_interval: {steps}}}"
        more = f"sampler_seed: {jobs}\nset: {lengths}\n"
        write_sweep(project, trials, name, more)
        before, began = children_cpu(), time.monotonic()
        process = start(project, jobs, name)
        output, _ = process.communicate()
        if process.returncode:
            raise ChildProcessError(output)
        times.append(time.monotonic() - began)
        spent = children_cpu() - before
        load = os.getloadavg()[0]
        print(f"-j {jobs}: {times[-1]:.1f} s, {spent:.1f} s of CPU, load {load:.1f}", flush=True)
    print(f"-j 2 / -j 1: {times[1] / times[0]:.2f}")


def children_cpu() -> float:
    """CPU seconds of the processes that this one started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
