"""The five stages of the pipeline, each run by DVC as `python -m stages.NAME`."""
