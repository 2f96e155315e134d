"""The complete state of a training between two steps, which checkpoints save and restore.

It contains no random generator: each step's batch and dropout are drawn from (seed, step) alone.
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
    """The lowest validation loss so far, and its step.

    Attributes:
        weights: the model's weights at that step; empty if only the last weights are saved.
        stale_evaluations: evaluations since that step.
    """

    step: int = -1
    loss: float = math.inf
    stale_evaluations: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class TrainState:
    """The state of a training before its next step.

    Attributes:
        step: the next step, which is also the number of completed steps.
        finished: whether no step follows.
    """

    model: Model
    optimizer: torch.optim.Optimizer
    step: int = 0
    finished: bool = False
    history: History = field(default_factory=History)
    best: Best = field(default_factory=Best)

    @property
    def saved_step(self) -> int:
        """The step whose weights a finished training saves."""
        return self.best.step if self.best.weights else self.step

    def observe(self, loss: float, keep_weights: bool) -> bool:
        """Record a validation loss. Returns whether it is the best so far."""
        if loss >= self.best.loss:
            self.best.stale_evaluations += 1
            return False
        weights = copy.deepcopy(self.model.state_dict()) if keep_weights else {}
        self.best = Best(self.step, loss, 0, weights)
        return True

    def tensors(self) -> dict[str, Tensor]:
        """Every array of the state by name; not copied."""
        tensors = {f"model.{name}": weight for name, weight in self.model.state_dict().items()}
        tensors |= {f"best.{name}": weight for name, weight in self.best.weights.items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            for name, value in slots.items():
                if value is not None:  # SGD's momentum before its first step
                    tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
        tensors |= {f"history.{name}": array for name, array in self.history.tensors().items()}
        return tensors

    def facts(self) -> dict[str, Any]:
        """The rest of the state, ready for JSON."""
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
        """Restore the state that `tensors` and `facts` describe; each tensor is whole."""
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
