"""The data that training reads, opened and checked before any work."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from tinyllm.data.splits_summary import SplitsSummary, read_summary
from tinyllm.data.token_store import TokenSplit, read_split
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.evaluation.scores import Windows, make_windows
from tinyllm.models.config import ModelConfig
from tinyllm.settings.load import Params
from tinyllm.settings.train import Train
from tinyllm.training.dataset import Batches, loader
from tinyllm.training.distributed.processes import ALONE, Processes
from tinyllm.training.history import TRAIN, VALIDATION

T = TypeVar("T")
SIGCHLD_PATIENCE = 5.0  # seconds for the system to report the end of a data worker


@dataclass(frozen=True)
class TrainingData:
    """The data of one training.

    Attributes:
        tokenizer: the tokenizer that encoded the tokens.
        summary: source and sizes of the corpus and its splits.
        splits: the training and the validation tokens.
        model_config: the model's shape, from params.yaml and the vocabulary.
        training: the batch of any step.
        evaluation: fixed windows of both splits, scored at every evaluation.
    """

    tokenizer: Tokenizer
    summary: SplitsSummary
    splits: dict[str, TokenSplit]
    model_config: ModelConfig
    training: Batches
    evaluation: dict[str, Windows]

    def batches(self, first_step: int, params: Params) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, targets), each (B, T), for the steps from `first_step` to the last.

        Raises:
            RuntimeError: a data worker was killed; the message names it.
        """
        loaded = loader(
            self.training,
            first_step,
            params.train.max_steps,
            num_workers=params.runtime.num_workers,
            pin_memory=params.runtime.pin_memory,
        )
        return _naming_a_lost_worker(iter(loaded))  # iter: workers are forked here, not later


def _naming_a_lost_worker(items: Iterator[T]) -> Iterator[T]:
    try:
        yield from items
    except (ConnectionError, EOFError):
        # A worker was killed while it sent a batch. torch's SIGCHLD handler raises the error that
        # names it, possibly after this one.
        time.sleep(SIGCHLD_PATIENCE)
        raise


def model_config(settings: Train, vocab_size: int, end_of_text: int) -> ModelConfig:
    """The model's shape, from the settings and the vocabulary.

    Args:
        end_of_text: id of the token that ends a document.
    """
    return ModelConfig(
        architecture=settings.architecture,
        vocab_size=vocab_size,
        context_length=settings.context_length,
        n_layer=settings.n_layer,
        n_head=settings.n_head,
        n_kv_head=settings.n_kv_head or settings.n_head,
        d_model=settings.d_model,
        dropout=settings.dropout,
        tie_embeddings=settings.tie_embeddings,
        document_end=end_of_text if settings.document_mask else None,
    )


def check_share(settings: Train, processes: int) -> None:
    """See that processes, whose number hardware.processes: null or torchrun decided, fit the batch.

    Raises:
        ValueError: they can't share it evenly.
    """
    if settings.batch_size % processes:
        raise ValueError(
            f"train.batch_size = {settings.batch_size}: must be a multiple of the {processes} "
            "processes that share it"
        )


def load_data(
    params: Params, tokenizer: Path, train: Path, validation: Path, summary: Path,
    *, processes: Processes = ALONE,
) -> TrainingData:  # fmt: skip
    """Open the tokenizer and the splits for one rank of a training.

    Raises:
        ValueError: a file is missing or corrupt, a split is shorter than the context, or the
            batch size is not a multiple of the number of ranks.
    """
    settings = params.train
    check_share(settings, processes.size)
    held = read_summary(summary)
    for name, split in held.splits.items():
        if split.tokens <= settings.context_length:
            raise ValueError(
                f"train.context_length = {settings.context_length}: must be below the size of the "
                f"{name} split, {split.tokens} tokens"
            )
    loaded = Tokenizer.load(tokenizer)
    splits = {TRAIN: read_split(train), VALIDATION: read_split(validation)}
    token_bytes = loaded.token_bytes()
    return TrainingData(
        tokenizer=loaded,
        summary=held,
        splits=splits,
        model_config=model_config(settings, loaded.vocab_size, loaded.end_of_text),
        training=Batches(
            splits[TRAIN].tokens,
            settings.context_length,
            settings.batch_size,
            params.seed,
            rank=processes.rank,
            world_size=processes.size,
        ),
        evaluation={
            name: make_windows(
                split.tokens,
                token_bytes,
                loaded.end_of_text,
                settings.context_length,
                limit=settings.eval_tokens,
            )
            for name, split in splits.items()
        },
    )
