"""Trains a GPT-2 with Hugging Face's Trainer on the characters of a text's first 90 %.

Prints a line of JSON for each evaluation: seconds of the process without evaluations, and bits per
byte of the last 10 %. The shape, the batch and the number of steps are those of nanoGPT's recipe
for a CPU, the learning rate too (the Trainer's own, 5e-5, learns a twentieth as fast); the rest
are the Trainer's defaults.
"""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import GPT2LMHeadModel, TrainerCallback

from benchmarks.workers.clock import Clock
from benchmarks.workers.shapes import SMALL, TRAINING_SHARE
from benchmarks.workers.trainer import gpt2, run_trainer
from tinyllm.common.os_processes import available_cores

STEPS = 2000
LENGTH = SMALL.context_length


class Windows(Dataset[dict[str, torch.Tensor]]):
    """A window at each place of the text, which the Trainer draws at random."""

    def __init__(self, ids: torch.Tensor) -> None:
        self.windows = ids.unfold(0, LENGTH, 1)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.windows[index], "labels": self.windows[index]}


class Evaluations(TrainerCallback):
    """Scores the held-out text now and then, with the clock stopped."""

    def __init__(
        self, model: GPT2LMHeadModel, held_out: torch.Tensor, every: int, started: float
    ) -> None:
        self.model, self.held_out, self.every = model, held_out, every
        self.clock = Clock(started)

    # A callback receives more arguments than this one needs.
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if state.global_step % self.every == 0:
            self.clock.stop()
            print(json.dumps([self.clock.seconds, self.score()]), flush=True)
            self.clock.go_on()

    @torch.no_grad()
    def score(self) -> float:
        """Bits per character of the held-out text, in windows that don't overlap."""
        self.model.eval()
        nats = count = 0.0
        windows = self.held_out.unfold(0, LENGTH + 1, LENGTH)
        for batch in windows.split(64):
            logits = self.model(input_ids=batch[:, :-1]).logits
            targets = batch[:, 1:]
            nats += torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), targets.flatten(), reduction="sum"
            ).item()
            count += targets.numel()
        self.model.train()
        return nats / math.log(2) / count


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--text", type=Path, required=True)
    options.add_argument("--every", type=int, default=100, help="steps between evaluations")
    options.add_argument("--started", type=float, required=True, help="when the process started")
    args = options.parse_args()
    torch.set_num_threads(available_cores())
    text = args.text.read_text(encoding="utf-8")
    places = {character: place for place, character in enumerate(sorted(set(text)))}
    ids = torch.tensor([places[character] for character in text])
    cut = int(len(ids) * TRAINING_SHARE)
    model = gpt2(replace(SMALL, vocab_size=len(places)))
    evaluations = Evaluations(model, ids[cut:], args.every, args.started)
    run_trainer(model, Windows(ids[:cut]), SMALL.batch_size, STEPS, evaluations)


if __name__ == "__main__":
    main()
