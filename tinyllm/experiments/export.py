"""`tinyllm export`: writes the trained model in a format that other programs read."""

from pathlib import Path

from tinyllm.common.errors import RunAgain
from tinyllm.common.files import files_in
from tinyllm.common.units import megabytes
from tinyllm.experiments.model_facts import facts_of
from tinyllm.experiments.pipeline import places_of
from tinyllm.export.facts import Facts
from tinyllm.export.formats import format_of

PIPELINE = "dvc.yaml"


def export(name: str, folder: Path | None, output: Path | None, quantize: str | None) -> None:
    """Export a model and print what was written.

    Args:
        name: of the format, in FORMATS.
        folder: the model; None for the one that the pipeline trained.
        output: None for the format's default, beside the model.
        quantize: name of a smaller number format; None for fp32.

    Raises:
        ValueError: the model is missing or corrupt, or the format can't hold it.
    """
    chosen = format_of(name)
    if quantize is not None and quantize not in chosen.quantizations:
        raise ValueError(f"--quantize {quantize}: the format {name} stores fp32 only")
    trained = places_of("train")["model"] if Path(PIPELINE).exists() else None
    folder = folder or trained
    if folder is None:
        raise ValueError(
            f"{PIPELINE} is missing: run this in the project's folder, or add --model FOLDER"
        )
    output = output or chosen.default_output(folder, quantize)
    try:
        facts = facts_of(folder)
        notes = chosen.write(output, folder, facts, quantize)
    except RunAgain as error:
        if trained is not None and folder.resolve() == trained.resolve():
            raise
        raise ValueError(f"{error}; copy the folder again from where it came") from None
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
