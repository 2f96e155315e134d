"""Errors that need more than their text.

What raises them does not know which command runs the pipeline; what runs a stage or a command
completes their messages with it (`tinyllm.experiments.command`).
"""


class RunAgain(ValueError):
    """An error that running the pipeline again fixes."""


class Interrupted(KeyboardInterrupt):
    """The work stopped on request, after saving its state; running it again resumes it."""
