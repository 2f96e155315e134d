"""The learning rate of each step."""

import math

from tinyllm.settings.train import Train


def learning_rate(step: int, settings: Train) -> float:
    """Linear warm-up, then a cosine down to `min_learning_rate` at `decay_steps`, then constant.

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
    return lowest + (highest - lowest) * (1 + math.cos(math.pi * progress)) / 2
