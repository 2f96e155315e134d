"""Where a run comes from, as its record shows it."""

from dataclasses import dataclass, field

PATCH = "changes.patch"  # name of the patch among the run's files


@dataclass(frozen=True)
class Origin:
    """The origin of a run, in the words of what started it; it decides no result.

    Attributes:
        name: name of the run in lists; None to name it after its content.
        tags: facts to search by.
        commands: shell commands that reproduce the run.
        remarks: paragraphs of Markdown on what the commands need or can't restore.
        patch: what the commands apply to the commit; empty if nothing.
        files: further files that a reproduction needs, by their name in the run.
        twin_tag: the tag in which runs that trained the same model differ.
    """

    name: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    commands: str = ""
    remarks: tuple[str, ...] = ()
    patch: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)
    twin_tag: str | None = None

    def note(self, description: str) -> str:
        """A run's description in Markdown, with the commands at its beginning."""
        commands = [f"```sh\n{self.commands}\n```"] if self.commands else []
        return "\n\n".join([*commands, description, *self.remarks])
