"""All that a training consists of between two steps; what is in here can be saved and gone on from.

No random generator is among it: each step's batch and dropout are drawn from (seed, step) alone.
"""

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tinyllm.models.model import Model
from tinyllm.training.distributed.processes import ALONE, Processes
from tinyllm.training.history import History


@dataclass
class Best:
    """The lowest validation loss so far, and when it was.

    Attributes:
        weights: the model's then; empty where only the last ones are wanted.
        stale_evaluations: evaluations since then.
    """

    step: int = -1
    loss: float = math.inf
    stale_evaluations: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class TrainState:
    """A training before its next step.

    Attributes:
        step: the next one; so many are done.
        finished: no step is to follow.
    """

    model: Model
    optimizer: torch.optim.Optimizer
    step: int = 0
    finished: bool = False
    history: History = field(default_factory=History)
    best: Best = field(default_factory=Best)

    @property
    def saved_step(self) -> int:
        """The step whose weights a finished training leaves."""
        return self.best.step if self.best.weights else self.step

    def observe(self, loss: float, keep_weights: bool) -> bool:
        """Take note of a validation loss. Returns whether it is the best so far."""
        if loss >= self.best.loss:
            self.best.stale_evaluations += 1
            return False
        weights = copy.deepcopy(self.model.state_dict()) if keep_weights else {}
        self.best = Best(self.step, loss, 0, weights)
        return True

    def tensors(self) -> dict[str, Tensor]:
        """Every array of the state, by name: the live ones, not copies."""
        tensors = {f"model.{name}": weight for name, weight in self.model.state_dict().items()}
        tensors |= {f"best.{name}": weight for name, weight in self.best.weights.items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            for name, value in slots.items():
                if value is not None:  # SGD's momentum before its first step
                    tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
        tensors |= {f"history.{name}": array for name, array in self.history.tensors().items()}
        return tensors

    def facts(self) -> dict[str, Any]:
        """Everything else of the state, as JSON takes it."""
        return {
            "step": self.step,
            "finished": self.finished,
            "best_step": self.best.step,
            "best_loss": self.best.loss if self.best.step >= 0 else None,
            "stale_evaluations": self.best.stale_evaluations,
        }

    def restore(
        self, tensors: dict[str, Tensor], facts: dict[str, Any], processes: Processes = ALONE
    ) -> None:
        """Become the state that `tensors`, each in full, and `facts` were taken from."""
        groups: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            group, rest = name.split(".", 1)
            groups.setdefault(group, {})[rest] = tensor
        own = self.model.state_dict()
        for group in ("model", "best"):
            for name, tensor in groups.get(group, {}).items():
                groups[group][name] = processes.part(tensor, like=own[name])
        self.model.load_state_dict(groups["model"])
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in groups.get("optimizer", {}).items():
            index, slot = name.split(".", 1)
            part = processes.part(tensor, like=parameters[int(index)])
            slots.setdefault(int(index), {})[slot] = part
        state = self.optimizer.state_dict()
        self.optimizer.load_state_dict({**state, "state": slots})
        self.history.restore(groups["history"])
        self.step, self.finished = facts["step"], facts["finished"]
        loss = math.inf if facts["best_loss"] is None else facts["best_loss"]
        self.best = Best(
            facts["best_step"], loss, facts["stale_evaluations"], groups.get("best", {})
        )
