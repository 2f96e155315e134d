"""The formats that `tinyllm export --format` can name.

To add one, write a module with a subclass of `Format`, and add a line here.
"""

from pkgutil import resolve_name

from tinyllm.export.format import Format

# Import paths instead of classes, so that `tinyllm --help` does not import torch.
FORMATS = {
    "gguf": "tinyllm.export.gguf:GGUF",
    "hf": "tinyllm.export.hugging_face:HuggingFace",
}
QUANTIZATIONS = ("q8_0",)


def format_of(name: str) -> Format:
    """The format of a name in FORMATS."""
    chosen: Format = resolve_name(FORMATS[name])()
    return chosen
