"""Read the text of each row of a Parquet file."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from tinyllm.data.readers.compression import CHUNK, Spend
from tinyllm.data.readers.layout import Layout
from tinyllm.data.readers.records import Invalid, Record, no_column, text_of

ROWS = 64  # in memory at once


def parquet_records(
    data: Iterable[bytes] | IO[bytes], name: str, layout: Layout, spend: Spend
) -> Iterator[Record]:
    """Yield the text of each row, or why it has none.

    Args:
        data: A file, or the content of one that can only be read forwards.

    Raises:
        ValueError: The file is not Parquet, or has no such text column.
    """
    if hasattr(data, "seek"):
        yield from _rows(data, name, layout, spend)
        return
    with tempfile.TemporaryFile() as file:  # reading Parquet begins at its end
        for chunk in data:
            file.write(chunk)
        file.seek(0)
        yield from _rows(file, name, layout, spend)


def _rows(file: Any, name: str, layout: Layout, spend: Spend) -> Iterator[Record]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=CHUNK)
        root, read = _column(table.schema_arrow, layout, name)
        number = 0
        for batch in table.iter_batches(ROWS, columns=[root]):
            for value in read(batch.column(0), spend):
                number += 1
                yield number, value
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        first = next(iter(str(error).splitlines()), "")
        raise ValueError(f"{name} is not Parquet, or corrupt: {first}") from None


Read = Callable[[Any, Spend], Iterator[Any]]


def _column(schema: Any, layout: Layout, name: str) -> tuple[str, Read]:
    """Return the column to read, and a function that gets its texts."""
    field, names = layout.field, schema.names
    root = field
    if field not in names:  # a.b[].c: the column a, or a.b
        keys = field.split(".")
        starts = [".".join(keys[:count]).removesuffix("[]") for count in range(len(keys), 0, -1)]
        root = next((start for start in starts if start in names), field)
    if (count := names.count(root)) != 1:
        raise ValueError(no_column(names, root, name, count))
    kind = _plain(schema.field(root).type)
    if root == field and _is_text(kind):
        utf8 = not _is_binary(kind)
        return root, lambda column, spend: _flat(column, spend, layout, utf8)
    if not _is_nested(kind):
        if root == field:
            raise ValueError(f"{name}: column {field!r} contains {kind}, not text")
        raise ValueError(f"{name}: column {root!r} contains {kind}, so there is no {field!r}")
    return root, lambda column, spend: _nested(column, spend, layout, root)


def _plain(kind: Any) -> Any:
    """Return the value type of an extension type or a dictionary."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return (
        types.is_string(kind)
        or types.is_null(kind)  # the type of a column of nulls only
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or _is_binary(kind)
    )


def _is_nested(kind: Any) -> bool:
    from pyarrow import types

    return types.is_nested(kind)


def _flat(column: Any, spend: Spend, layout: Layout, utf8: bool) -> Iterator[Any]:
    import pyarrow as pa

    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    for data in column.cast(pa.large_binary()).to_pylist():
        if data is None:
            yield Invalid(f"its {layout.field!r} is null, not text")
            continue
        spend(len(data))
        yield _decoded(data, layout, utf8)


def _decoded(data: bytes, layout: Layout, utf8: bool) -> Any:
    encoding = "utf-8" if utf8 or layout.encoding == "auto" else layout.encoding
    try:
        return data.decode(encoding, layout.errors)
    except UnicodeDecodeError as error:
        what = "UTF-8" if encoding == "utf-8" else encoding
        at = error.start
        return Invalid(f"is not {what}: byte {data[at]:#04x} at offset {at:,}")
    except UnicodeError as error:
        return Invalid(f"is not {encoding}: {error}")


def _nested(column: Any, spend: Spend, layout: Layout, root: str) -> Iterator[Any]:
    def text(data: bytes) -> str:
        value = _decoded(data, layout, utf8=False)
        if isinstance(value, Invalid):
            raise value
        return str(value)

    for scalar in column:
        try:
            value = scalar.as_py(maps_as_pydicts="lossy")
            found = text_of({root: value}, layout.field, text)
            spend(len(found))
            yield found
        except Invalid as reason:
            yield reason
        except UnicodeDecodeError as error:
            yield Invalid(f"is not UTF-8: {error.reason}")
