"""What readers report about files besides errors."""

from dataclasses import dataclass, field

SHOWN = 5  # of a kind, by name


@dataclass
class Findings:
    """Counts over the files of a corpus.

    Attributes:
        skipped: records that are not valid (`download.on_invalid: skip`).
        first_skipped: the first of them, with their place and reason.
        replaced: character(s) replaced by U+FFFD (`download.errors: replace`), by file.
        encodings: what `download.encoding: auto` decided, by file; without UTF-8.
        texts: files of plain text.
        lone_objects: the texts that are joined of JSON files that hold one object each, by file.
        cuts: separators or document starts found in them.
    """

    skipped: int = 0
    first_skipped: list[str] = field(default_factory=list)
    replaced: dict[str, int] = field(default_factory=dict)
    encodings: dict[str, str] = field(default_factory=dict)
    texts: int = 0
    cuts: int = 0
    lone_objects: dict[str, int] = field(default_factory=dict)

    def skip(self, record: str) -> None:
        """Count a record that is skipped; `record` is its place and the reason."""
        self.skipped += 1
        if len(self.first_skipped) < SHOWN:
            self.first_skipped.append(record)

    def replace(self, name: str, count: int) -> None:
        """Count characters of a file that are replaced."""
        if count:
            self.replaced[name] = self.replaced.get(name, 0) + count

    def lone(self, name: str, count: int) -> None:
        """Note a JSON file that holds one object, of which several texts make one document."""
        if count > 1:
            self.lone_objects[name] = count

    def cut(self, count: int) -> None:
        """Count separators or document starts."""
        self.cuts += count

    def notes(self, separator: str | None, document_start: str | None) -> list[str]:
        """The findings as lines for the user."""
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
            notes.append(f"encoding detected in {_some(files, len(files))}")
        if self.lone_objects:
            files = [f"{name}: {count:,}" for name, count in self.lone_objects.items()]
            notes.append(
                f"{len(files):,} JSON file(s) hold one object, whose texts make one document "
                f"({_some(files, len(files))}); download.records says where a list of records is"
            )
        for setting, value in (("separator", separator), ("document_start", document_start)):
            if value is not None and self.texts and not self.cuts:
                notes.append(_never(setting, value, self.texts))
        return notes


def _some(names: list[str], count: int, between: str = ", ") -> str:
    return between.join(names[:SHOWN]) + (f"{between}..." if count > SHOWN else "")


def _never(setting: str, value: str, files: int) -> str:
    note = (
        f"warning: download.{setting} = {value!r} ({len(value)} character(s)) occurs 0 times in "
        f"{files:,} text file(s), so each file is one document"
    )
    if setting == "separator" and any(f"\\{c}" in value for c in "nrt"):
        note += (
            "; it holds a backslash and a letter, not a line end or tab: in params.yaml write "
            'separator: "\\n\\n", in bash or zsh -S $\'download.separator="\\n\\n"\''
        )
    return note
