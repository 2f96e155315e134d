"""Errors that need more than their text."""


class RunAgain(ValueError):
    """An error that running the pipeline again fixes.

    What raises it does not know how the pipeline is run; `tinyllm.common.console` adds that.
    """
