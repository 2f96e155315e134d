"""The evaluation's model card: its links lead to the pictures that exist, its samples are few."""

import re
from pathlib import Path

from tests.helpers import ROOT
from tests.model_card.test_card import training
from tests.report_page.helpers import analysis
from tinyllm.evaluation import model_card
from tinyllm.evaluation.final_scores import Results, Sample
from tinyllm.evaluation.scores import Scores
from tinyllm.settings.load import load_params


def written(folder: Path) -> str:
    settings = load_params(ROOT / "params.yaml").evaluate
    results = Results(
        training(), "ab" * 32, settings, Scores(2.0, 1.125, 0.5, 100), {"zlib": 2.5},
        [Sample(f"prompt {n} ", "and text", []) for n in range(9)], analysis(),
    )  # fmt: skip
    model_card.write(folder, results, Path("anywhere/train"))
    return (folder / model_card.PAGE).read_text()


def test_the_card_links_to_the_pictures_that_exist(tmp_path: Path) -> None:
    folder = tmp_path / "evaluate"
    folder.mkdir()
    assert "![" not in written(folder)  # a failure to draw is no error
    for name in ("evaluate/comparison.png", "train/loss.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    links = re.findall(r"!\[.*\]\((.*)\)", written(folder))
    assert links == ["comparison.png", "../train/loss.png"]
    assert all((folder / link).is_file() for link in links)


def test_the_card_has_the_scores_and_some_samples(tmp_path: Path) -> None:
    text = written(tmp_path)
    assert "| **tinyllm-1.3M** | 1.125 |" in text and "| zlib | 2.500 |" in text
    assert "ab" * 32 in text  # of the weights that the scores belong to
    assert text.count("▶and text") == model_card.SHOWN
    assert "temperature 0.8, top_k 50" in text
