"""Copies a model folder for handing it on; `transformers` and compatible programs load it."""

import shutil
from pathlib import Path

from tinyllm.common.files import CHECKSUMS, checked, checksums, files_in, publish_folder
from tinyllm.export.facts import Facts
from tinyllm.export.format import Format
from tinyllm.model_card.publish import write_card
from tinyllm.models.folder import load_model


class HuggingFace(Format):
    """The model folder."""

    def default_output(self, folder: Path, quantize: str | None) -> Path:
        del quantize
        return folder.with_name(f"{folder.name}-hf")

    def write(self, output: Path, folder: Path, facts: Facts, quantize: str | None) -> list[str]:
        del quantize
        load_model(folder)
        check_output(output, folder)
        sums = checksums(folder)
        with publish_folder(output) as new:
            for name in sums:
                shutil.copyfile(checked(folder, name, sums), new / name)
            lacking = write_card(new, facts.card, _origin(facts))
        return [] if lacking is None else [f"{lacking}."]

    def usage(self, output: Path) -> str:
        return (
            f"""python -c "from transformers import pipeline; print(pipeline('text-generation', """
            f"""{str(output)!r})('Return ', max_new_tokens=40)[0]['generated_text'])\""""
        )


def _origin(facts: Facts) -> str:
    """Where the model comes from, as Markdown; empty if that is unknown."""
    if facts.commit is None:
        return ""
    where = f" of {facts.repository}" if facts.repository else ""
    return f"Commit `{facts.commit}`{where}."


def check_output(output: Path, folder: Path) -> None:
    """Check that a folder may be replaced: it is new, empty, or an earlier export.

    Raises:
        ValueError: it has other files, or is the model folder itself.
    """
    if output.resolve() == folder.resolve() or output.resolve() in folder.resolve().parents:
        raise ValueError(f"{output} contains the model to export; choose another folder")
    if not output.exists():
        return
    if not output.is_dir():
        raise ValueError(f"{output} is a file; choose another name for the folder")
    known = {CHECKSUMS, *checksums(output)} if (output / CHECKSUMS).exists() else set()
    for path in files_in(output):
        if path.relative_to(output).as_posix() not in known:
            raise ValueError(
                f"{output} has files that no export wrote, like {path.name}; delete them or "
                "choose another folder"
            )
