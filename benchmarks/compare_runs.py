"""Time `tinyllm compare` over many runs, and `import mlflow` beside it.

python -m benchmarks.compare_runs [--runs 200] [--rounds 5]

Uses a project whose pipeline has run. The runs are copies of its last one, each with other values
of two settings, in a copy of its database; the project itself is not changed.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tinyllm.common.files import project_root
from tinyllm.tracking.mlflow.database import path_of
from tinyllm.tracking.mlflow.environment import set_up_mlflow


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200, help="number of runs")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each")
    args = parser.parse_args()
    set_up_mlflow(project_root())
    database = path_of(os.environ["MLFLOW_TRACKING_URI"])
    if database is None or not database.exists():
        raise SystemExit("this needs the project's own database: run `dvc repro` first")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "mlflow.db")
        shutil.copyfile(database, copy)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{copy}"
        copy_last_run(args.runs)
        commands = {
            f"tinyllm compare, {args.runs} runs": ["-m", "tinyllm", "compare"],
            "import mlflow": ["-c", "import mlflow"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(args.rounds):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
                seconds[name].append(time.perf_counter() - start)
    for name, each in seconds.items():
        print(f"{name}: {statistics.median(each):.2f} s (median of {args.rounds})")


def copy_last_run(count: int) -> None:
    """Add runs to the database, each like the last one but for two settings and its scores."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    client = MlflowClient()
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(experiments, "status = 'FINISHED'", max_results=1)
    if not found:
        raise SystemExit("MLflow has no finished run: run `dvc repro` first")
    (last,) = found
    for number in range(count - 1):
        run = client.create_run(last.info.experiment_id, run_name=f"copy-{number}")
        changed = {"train.learning_rate": f"{0.001 + number * 1e-5:.5f}", "seed": str(number % 5)}
        params = [Param(*each) for each in (last.data.params | changed).items()]
        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value + number * 1e-3, now, 0) for name, value in last.data.metrics.items()
        ]
        tags = [RunTag(*each) for each in last.data.tags.items() if each[0] != "mlflow.runName"]
        for start in range(0, len(params), 100):  # the most that MLflow takes at once
            client.log_batch(run.info.run_id, params=params[start : start + 100])
        client.log_batch(run.info.run_id, metrics, tags=tags)
        client.set_terminated(run.info.run_id)


if __name__ == "__main__":
    main()
