"""Evaluations as the sender sees them: a journal with a small model, its scores and its losses."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.helpers import random_model, tiny_config
from tests.tracking.helpers import ROOT, header, settings
from tinyllm.common.files import sha256_of
from tinyllm.data.token_store import SplitSummary, TokenSplit
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.models.folder import WEIGHTS, save_model
from tinyllm.serving.record import record_model
from tinyllm.settings.evaluate import Evaluate
from tinyllm.settings.load import load_params
from tinyllm.tracking.datasets import dataset
from tinyllm.tracking.journal import Journal

DOCUMENTS, LENGTH = 100, 20  # of the test split, in tokens
TOKENS, BYTES = DOCUMENTS * LENGTH, 3 * DOCUMENTS * LENGTH


def evaluate_settings(**changes: Any) -> Evaluate:
    """The section of params.yaml, changed."""
    section = load_params(ROOT / "params.yaml").evaluate.model_dump()
    return Evaluate.model_validate(section | changes)


def usual_losses() -> npt.NDArray[np.float32]:
    """The losses of a model, the same every time."""
    return np.random.default_rng(0).exponential(2.0, TOKENS).astype(np.float32)


def better_by(nats: float, spread: float = 0.1) -> npt.NDArray[np.float32]:
    """Losses that are lower by some nats per token, with some noise."""
    noise = np.random.default_rng(1).normal(0, spread, TOKENS)
    return (usual_losses() - nats + noise - noise.mean()).astype(np.float32)


@dataclass(frozen=True)
class Evaluations:
    """Makes model folders and journals in a folder."""

    root: Path
    tokenizer: Tokenizer

    def model(self, seed: int = 1) -> Path:
        """A model folder; another seed, other weights."""
        folder = self.root / "models" / str(seed)
        if not folder.exists():
            config = tiny_config(vocab_size=self.tokenizer.vocab_size)
            save_model(folder, random_model(config, seed), self.tokenizer)
        return folder

    def split(self, data: str = "data") -> TokenSplit:
        """A test split of documents of equal length."""
        tokens = np.zeros(TOKENS, dtype=np.uint16)
        tokens[LENGTH - 1 :: LENGTH] = self.tokenizer.end_of_text
        digest = (data * 64)[:64]
        vocabulary = self.tokenizer.vocab_size
        summary = SplitSummary(DOCUMENTS, TOKENS, BYTES, vocabulary, digest)
        return TokenSplit(Path("data/splits/test"), tokens, summary)

    def record(
        self,
        seed: int = 1,
        losses: npt.NDArray[np.float32] | None = None,
        data: str = "data",
        experiment: str = "tests",
        live: bool = False,
        **changes: Any,
    ) -> Path:
        """The journal of an evaluation that was not sent."""
        found = usual_losses() if losses is None else losses
        file = self.root / f"{seed}-losses.npy"
        np.save(file, found)
        test, model = self.split(data), self.model(seed)
        bits = float(found.mean()) * TOKENS / np.log(2) / BYTES
        what = header(
            "evaluate",
            name=f"evaluate {seed}",
            model_sha256=sha256_of(model / WEIGHTS),
            datasets=[dataset("test split", test, "testing")],
        )
        with Journal(what, settings(experiment=experiment), live=live) as journal:
            journal.metrics(0, {"test/bits_per_byte": bits, "test/loss": float(found.mean())})
            journal.metrics(0, {"test_baselines/zlib_bits_per_byte": 2.0})
            record_model(journal, model, file, test, bits, evaluate_settings(**changes))
        file.unlink()  # the journal has it
        return journal.folder


def logged_models() -> list[Any]:
    """Every model that MLflow has, in all experiments."""
    from mlflow import MlflowClient

    client = MlflowClient()
    experiments = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_logged_models(experiments))


def files_of(folder: Path) -> Iterator[str]:
    """The names of all files in a folder."""
    yield from (file.name for file in folder.rglob("*") if file.is_file())
