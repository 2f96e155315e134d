"""The formats that `tinyllm export --format` can name.

To add one, write a module with a subclass of `Format`, and add a line here.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from pkgutil import resolve_name
from typing import ClassVar

from tinyllm.export.facts import Facts

# Import paths instead of classes, so that `tinyllm --help` does not import torch.
FORMATS = {
    "gguf": "tinyllm.export.gguf:GGUF",
    "hf": "tinyllm.export.hugging_face:HuggingFace",
}
QUANTIZATIONS = ("q8_0",)


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


def format_of(name: str) -> Format:
    """The format of a name in FORMATS."""
    chosen: Format = resolve_name(FORMATS[name])()
    return chosen
