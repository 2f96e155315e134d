"""The interface of every format that a model can be exported in."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from tinyllm.export.facts import Facts


class Format(ABC):
    """A format for other programs.

    Attributes:
        quantizations: names of smaller number formats that it can store weights in.
    """

    quantizations: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def default_output(self, folder: Path, quantize: str | None) -> Path:
        """Where to write the model of a folder if the user names no output."""

    @abstractmethod
    def write(self, output: Path, folder: Path, facts: Facts, quantize: str | None) -> list[str]:
        """Publish the model of a folder at `output`.

        Returns:
            What the user should know about the result, in sentences.

        Raises:
            ValueError: the model is corrupt, the format can't hold it, or `output` is something
                else that would be overwritten.
        """

    @abstractmethod
    def usage(self, output: Path) -> str:
        """A command that tries the result."""
