"""The settings of `download`."""

import codecs
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from tinyllm.settings.section import Count, Section, Text, listed


def _pinned(package: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!-]+", package):
        raise ValueError("must be a package with its version, like pandas==3.1.1")
    return package


def _address(url: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", url):
        raise ValueError("must be an address, like https://..., s3://..., gs://... or hf://...")
    try:
        urlsplit(url)
    except ValueError as error:
        raise ValueError(f"must be an address: {error}") from None
    return url


def _sha256(digest: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError("must be 64 lower-case hexadecimal digits")
    return digest


def _pattern(expression: str) -> str:
    try:
        re.compile(expression)
    except re.error as error:
        raise ValueError(f"must be a regular expression: {error}") from None
    return expression


# Codecs for domain names and Python literals, one that always fails, and one without a table.
NOT_OF_FILES = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "charmap")


def _codec(name: str) -> str:
    if name == "auto":
        return name
    try:
        found = codecs.lookup(name)
        if not found._is_text_encoding or found.name in NOT_OF_FILES:
            raise LookupError
        codecs.getincrementaldecoder(name)
    except (LookupError, ValueError):
        raise ValueError(
            "must be auto or an encoding that Python knows, like utf-8, utf-16, cp1252 or gb18030"
        ) from None
    return "utf-8" if found.name == "utf-8" else name  # utf8 and UTF_8 are the default too


def _known(source: str, info: ValidationInfo) -> str:
    """Check the name with the function that `load_params` was given."""
    if info.context is not None:
        info.context(source)
    return source


# A list; a single value may be written without brackets.
Addresses = Annotated[
    list[Annotated[str, AfterValidator(_address)]], BeforeValidator(listed), Field(min_length=1)
]
Digests = Annotated[
    list[Annotated[str, AfterValidator(_sha256)]], BeforeValidator(listed), Field(min_length=1)
]


class Download(Section):
    source: Annotated[Text, AfterValidator(_known)]
    packages: Annotated[list[Annotated[str, AfterValidator(_pinned)]], Field(min_length=1)]
    url: Addresses | None
    path: Text
    files: Text | None
    format: Literal["auto", "text", "jsonl", "json", "csv", "tsv", "parquet"]
    field: Text
    records: Text | None
    separator: Text | None
    document_start: Annotated[Text, AfterValidator(_pattern)] | None
    encoding: Annotated[Text, AfterValidator(_codec)]
    errors: Literal["strict", "replace"]
    on_invalid: Literal["error", "skip"]
    sha256: Digests | None
    licence: Text | None
    max_bytes: Count
