"""The settings of `tokenize`."""

from typing import Annotated

from pydantic import AfterValidator, Field

from tinyllm.common.vocabulary import N_BYTES
from tinyllm.settings.section import Count, Section, Text


def _encoding(name: str) -> str:
    if name != "bpe":
        import tiktoken  # takes 30 ms; the default does not need it

        names = ["bpe", *tiktoken.list_encoding_names()]
        if name not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
    return name


class Tokenize(Section):
    encoding: Annotated[Text, AfterValidator(_encoding)]
    vocab_size: Annotated[int, Field(ge=N_BYTES + 1, le=1 << 20)]
    sample_bytes: Count | None
