"""The complete model card, with the scores on the test split, samples and pictures."""

from pathlib import Path

from tinyllm.common.files import write_text
from tinyllm.evaluation.analysis_report import CALIBRATION, CONTEXT
from tinyllm.evaluation.final_scores import Results
from tinyllm.model_card.facts import Evaluation
from tinyllm.model_card.page import card
from tinyllm.pictures.evaluation import COMPARISON
from tinyllm.pictures.loss import LOSS
from tinyllm.settings.evaluate import Evaluate

PAGE = "model_card.md"
SHOWN = 3  # samples


def write(folder: Path, results: Results, reports: Path) -> None:
    """Add the card to a folder of reports that has the other results of the evaluation.

    Args:
        reports: folder of the training's reports, beside the evaluation's.
    """
    context = results.training.settings["context_length"]
    pictures = {
        "Bits per byte of the test text, of the model and of the baselines": Path(COMPARISON),
        "Loss of the training and of the validation set": Path("..", reports.name, LOSS),
        "Loss by the number of tokens that the model sees": Path(f"{CONTEXT}.png"),
        "Accuracy over the model's confidence": Path(f"{CALIBRATION}.png"),
    }
    evaluation = Evaluation(
        weights_sha256=results.weights_sha256,
        scores=results.scores.as_dict(),
        baselines=results.baselines,
        context=context - (results.settings.stride or context),
        samples=[(sample.prompt, sample.text) for sample in results.samples[:SHOWN]],
        sampling=sampling(results.settings),
        pictures={
            about: path.as_posix() for about, path in pictures.items() if (folder / path).is_file()
        },
    )
    write_text(folder / PAGE, card(results.training, evaluation))


def sampling(settings: Evaluate) -> str:
    """How samples are drawn, in words."""
    if settings.temperature == 0:
        return ", always the most likely token"
    limits = {"top_k": settings.top_k, "top_p": settings.top_p}
    drawn = [f"temperature {settings.temperature}"]
    return ", with " + ", ".join(drawn + [f"{k} {v}" for k, v in limits.items() if v is not None])
