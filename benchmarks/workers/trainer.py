"""Runs Hugging Face's Trainer in bf16, with a GPT-2 of the shape and the Trainer's defaults."""

import tempfile
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

from benchmarks.pairs import Rounds
from benchmarks.workers.shapes import Shape, parser


class Windows(Dataset[dict[str, torch.Tensor]]):
    """Consecutive windows; the Trainer draws them in its own order."""

    def __init__(self, shape: Shape) -> None:
        self.windows = shape.text().unfold(0, shape.context_length, shape.context_length)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.windows[index], "labels": self.windows[index]}


class Pacer(TrainerCallback):
    """Pauses the Trainer between two rounds."""

    def __init__(self, rounds: Rounds) -> None:
        self.rounds = rounds

    # A callback receives more arguments than this one needs.
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        self.rounds.after(state.global_step)


def gpt2(shape: Shape) -> GPT2LMHeadModel:
    """A GPT-2 of a shape, with random weights and without dropout."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=shape.vocab_size, n_positions=shape.context_length, n_embd=shape.d_model,
            n_layer=shape.n_layer, n_head=shape.n_head, resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


def run_trainer(
    model: GPT2LMHeadModel, windows: Dataset[dict[str, torch.Tensor]], batch_size: int,
    steps: int, callback: TrainerCallback,
) -> None:  # fmt: skip
    """Train in bf16 on a CPU with nanoGPT's learning rate: 1e-3, where the Trainer has 5e-5."""
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=batch_size, max_steps=steps,
            bf16=True, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
            learning_rate=1e-3, logging_strategy="no",
        )  # fmt: skip
        Trainer(model=model, args=settings, train_dataset=windows, callbacks=[callback]).train()


def main() -> None:
    args = parser().parse_args()
    shape: Shape = args.shape
    pacer = Pacer(Rounds(shape.tokens, args.steps))
    run_trainer(gpt2(shape), Windows(shape), shape.batch_size, 1 << 40, pacer)


if __name__ == "__main__":
    main()
