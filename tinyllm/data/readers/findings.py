"""Findings of the readers other than errors."""

from dataclasses import dataclass, field

SHOWN = 5  # names listed for each kind of finding


@dataclass
class Findings:
    """Counts over the files of a corpus.

    Attributes:
        skipped: Invalid records skipped (`download.on_invalid: skip`).
        first_skipped: The first of them, with file, position and reason.
        replaced: Characters replaced by U+FFFD (`download.errors: replace`), by file.
        encodings: Encodings detected by `download.encoding: auto`, by file; UTF-8 is omitted.
        texts: Number of plain text files.
        lone_objects: Texts joined from JSON files that contain a single object, by file.
        cuts: Separators or document starts found.
    """

    skipped: int = 0
    first_skipped: list[str] = field(default_factory=list)
    replaced: dict[str, int] = field(default_factory=dict)
    encodings: dict[str, str] = field(default_factory=dict)
    texts: int = 0
    cuts: int = 0
    lone_objects: dict[str, int] = field(default_factory=dict)

    def skip(self, record: str) -> None:
        """Count a skipped record; `record` is its position and the reason."""
        self.skipped += 1
        if len(self.first_skipped) < SHOWN:
            self.first_skipped.append(record)

    def replace(self, name: str, count: int) -> None:
        """Count characters of a file that were replaced."""
        if count:
            self.replaced[name] = self.replaced.get(name, 0) + count

    def lone(self, name: str, count: int) -> None:
        """Record a JSON file with a single object whose texts make one document."""
        if count > 1:
            self.lone_objects[name] = count

    def cut(self, count: int) -> None:
        """Count separators or document starts."""
        self.cuts += count

    def notes(self, separator: str | None, document_start: str | None) -> list[str]:
        """Return the findings as lines for the user."""
        notes = []
        if self.skipped:
            notes.append(
                f"{self.skipped:,} invalid record(s) skipped: "
                f"{_some(self.first_skipped, self.skipped, '; ')}"
            )
        if self.replaced:
            files = [f"{name}: {count:,}" for name, count in self.replaced.items()]
            notes.append(
                f"{sum(self.replaced.values()):,} character(s) replaced by U+FFFD, in "
                f"{_some(files, len(files))}"
            )
        if self.encodings:
            files = [f"{name}: {encoding}" for name, encoding in self.encodings.items()]
            notes.append(f"detected encoding of {_some(files, len(files))}")
        if self.lone_objects:
            files = [f"{name}: {count:,}" for name, count in self.lone_objects.items()]
            notes.append(
                f"{len(files):,} JSON file(s) contain a single object, whose texts make one "
                f"document ({_some(files, len(files))}); to read a list of records in it, set "
                "download.records to its path"
            )
        for setting, value in (("separator", separator), ("document_start", document_start)):
            if value is not None and self.texts and not self.cuts:
                notes.append(_never(setting, value, self.texts))
        return notes


def _some(names: list[str], count: int, between: str = ", ") -> str:
    return between.join(names[:SHOWN]) + (f"{between}..." if count > SHOWN else "")


def _never(setting: str, value: str, files: int) -> str:
    note = (
        f"warning: download.{setting} = {value!r} ({len(value)} character(s)) does not occur in "
        f"{files:,} text file(s), so each file is one document"
    )
    if setting == "separator" and any(f"\\{c}" in value for c in "nrt"):
        note += (
            "; it is a backslash and a letter, not a line end or tab: in params.yaml write "
            'separator: "\\n\\n", in bash or zsh -S $\'download.separator="\\n\\n"\''
        )
    return note
