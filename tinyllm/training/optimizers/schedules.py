"""The learning rate of each step, by the schedules that `train.schedule` can name.

To add one: a function here, and a line in SCHEDULES. `tinyllm.settings.train` lists the names.
"""

import math
from collections.abc import Callable

from tinyllm.settings.train import Train


def learning_rate(step: int, settings: Train) -> float:
    """Linear warm-up, then a fall to `min_learning_rate` at `decay_steps`, then constant.

    Step 0 has a rate above 0 (a rate of 0 would waste the step), and the first step after warm-up
    has the full rate.
    """
    highest, lowest = settings.learning_rate, settings.min_learning_rate
    decay_steps = settings.decay_steps or settings.max_steps
    if step < settings.warmup_steps:
        return highest * (step + 1) / (settings.warmup_steps + 1)
    if step >= decay_steps:
        return lowest
    progress = (step - settings.warmup_steps) / (decay_steps - settings.warmup_steps)
    return lowest + (highest - lowest) * SCHEDULES[settings.schedule](progress, settings)


def cosine(progress: float, settings: Train) -> float:
    """Fall slowly at both ends."""
    del settings
    return (1 + math.cos(math.pi * progress)) / 2


def linear(progress: float, settings: Train) -> float:
    """Fall by the same amount each step."""
    del settings
    return 1 - progress


def wsd(progress: float, settings: Train) -> float:
    """Warm-up, stable, decay: stay the highest, then fall in the last `cooldown_fraction`.

    The fall is one minus a square root, the best of the shapes in
    https://arxiv.org/abs/2405.18392.
    """
    fallen = max(0.0, progress - (1 - settings.cooldown_fraction)) / settings.cooldown_fraction
    return 1 - math.sqrt(fallen)


# The share of the way from the lowest to the highest rate, 1 to 0, by the progress from the end of
# warm-up (0) to `decay_steps` (1).
SCHEDULES: dict[str, Callable[[float, Train], float]] = {
    "cosine": cosine,
    "linear": linear,
    "wsd": wsd,
}
