"""The `tinyllm` command: everything that `dvc`, `mlflow` and `make` don't do.

Each command imports the heavy modules that it needs, so that `--help` is fast.
"""
