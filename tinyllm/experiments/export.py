"""`tinyllm export`: writes the trained model in a format that other programs read."""

from dataclasses import replace
from pathlib import Path

from tinyllm.common.files import files_in
from tinyllm.common.units import megabytes
from tinyllm.experiments import model_address
from tinyllm.experiments.model_facts import facts_of
from tinyllm.export.facts import Facts
from tinyllm.export.formats import format_of


def export(
    name: str,
    address: str | None,
    revision: str | None,
    output: Path | None,
    quantize: str | None,
) -> None:
    """Export a model and print what was written.

    Args:
        name: of the format, in FORMATS.
        address: of the model, with the revision as in `model_address`; None for the one that the
            pipeline trained.
        output: None for the format's default, beside the model; in the current folder for one that
            is downloaded.
        quantize: name of a smaller number format; None for fp32.

    Raises:
        ValueError: the model is missing or corrupt, or the format can't hold it.
    """
    chosen = format_of(name)
    if quantize is not None and quantize not in chosen.quantizations:
        raise ValueError(f"--quantize {quantize}: the format {name} stores fp32 only")
    with model_address.find(address, revision) as found:
        facts = facts_of(found.folder)
        if found.downloaded:
            facts = replace(facts, commit=found.origin.get("commit"))
        beside = Path(found.folder.name) if found.downloaded else found.folder
        output = output or chosen.default_output(beside, quantize)
        notes = chosen.write(output, found.folder, facts, quantize)
    files = [output] if output.is_file() else files_in(output)
    size = megabytes(sum(file.stat().st_size for file in files))
    print(f"{output}: {size}, {quantize or 'fp32'}{_origin(facts)}")
    for note in notes:
        print(note)
    print(f"Try it: {chosen.usage(output)}\nOther programs: docs/export.md")


def _origin(facts: Facts) -> str:
    """What the file says about its origin, for the line that names the file."""
    licence = f" ({facts.licence})" if facts.licence else ""
    known = {
        f"trained on {facts.training_data}{licence}": facts.training_data,
        f"commit {str(facts.commit)[:10]}": facts.commit,
        f"of {facts.repository}": facts.repository,
    }
    parts = [text for text, value in known.items() if value]
    return f"; {', '.join(parts)}" if parts else ""
