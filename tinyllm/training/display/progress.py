"""Progress of a training: a bar in a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

from tinyllm.evaluation.scores import Scores
from tinyllm.training.history import TRAIN, VALIDATION


class Progress:
    """Shows steps and evaluations, and measures the speed.

    Use it as a context manager: leaving it removes the bar.

    Args:
        max_steps: the step at which training ends.
        first_step: the step at which it starts or resumes.
        step_tokens: tokens per step, for the rate.
    """

    def __init__(self, max_steps: int, first_step: int, step_tokens: int) -> None:
        self.max_steps = max_steps
        self.step_tokens = step_tokens
        self.started = self.previous = time.perf_counter()
        self.paused = 0.0
        self.steps = 0
        self._bar = tqdm(
            total=max_steps,
            initial=first_step,
            unit="step",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            bar_format="{n_fmt}/{total_fmt} |{bar}| {elapsed} < {remaining}{postfix}",
        )
        self._scores = ""

    def step(self, loss: float, rate: float) -> float:
        """Count one step. Returns its tokens per second, with saves and without evaluations."""
        now = time.perf_counter()
        speed = self.step_tokens / (now - self.previous)
        self.previous = now
        self.steps += 1
        if not self._bar.disable:
            self._bar.set_postfix_str(
                f"loss {loss:.3f}{self._scores} lr {rate:.2e} {speed:,.0f} tok/s", refresh=False
            )
            self._bar.update()
        return speed

    def evaluation(self, step: int, scores: dict[str, Scores], best: bool) -> None:
        """Show an evaluation's scores, and exclude its time from the rate."""
        train, validation = scores[TRAIN], scores[VALIDATION]
        self._scores = f" val {validation.loss:.3f}"
        elapsed = time.perf_counter() - self.started
        speed = f"{self.mean_speed():>7,.0f} tok/s" if self.steps else " " * 13
        line = (
            f"step {step:>{len(str(self.max_steps))}}/{self.max_steps}"
            f"  train {train.loss:.4f}  val {validation.loss:.4f}"
            f"  {validation.bits_per_byte:.4f} bits/byte  accuracy {validation.accuracy:.1%}"
            f"  {speed}  {elapsed:5.0f} s{'  best' if best else ''}"
        )
        self._bar.write(line, file=sys.stdout)
        sys.stdout.flush()
        now = time.perf_counter()
        self.paused += now - self.previous
        self.previous = now

    def mean_speed(self) -> float:
        """Tokens per second over all steps so far, with saves and without evaluations."""
        return self.steps * self.step_tokens / max(1e-9, self.previous - self.started - self.paused)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
