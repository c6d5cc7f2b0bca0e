"""The learning rate over the steps of a training."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Plan:
    """When the learning rate is what.

    Args:
        kind: what follows the warm-up: one of :data:`SCHEDULES`.
        warmup_steps: steps of linear warm-up to the highest learning rate.
        total_steps: all steps of the training.
        final: the share of the highest learning rate at the end of ``cosine``.
    """

    kind: str
    warmup_steps: int
    total_steps: int
    final: float = 0.0

    def share(self, step: int) -> float:
        """The share of the highest learning rate that a step has, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        return SCHEDULES[self.kind](self, step)


def _cosine(plan: Plan, step: int) -> float:
    done = min(1, (step - plan.warmup_steps) / max(1, plan.total_steps - plan.warmup_steps))
    return plan.final + (1 - plan.final) * 0.5 * (1 + math.cos(math.pi * done))


SCHEDULES: dict[str, Callable[[Plan, int], float]] = {
    "constant": lambda plan, step: 1.0,
    "cosine": _cosine,
    "inverse_sqrt": lambda plan, step: math.sqrt(max(1, plan.warmup_steps) / max(1, step)),
}


class LearningRateSchedule:
    """Sets the learning rate of every step of an optimizer, now that of the first one; it goes on by itself.

    Args:
        optimizer: with the highest learning rate in each of its groups.
        plan: when it is what.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, plan: Plan) -> None:
        self.optimizer, self.plan, self.steps = optimizer, plan, 0
        self.highest = [group["lr"] for group in optimizer.param_groups]
        self._set()
        optimizer.register_step_post_hook(lambda *_: self._step())

    def _step(self) -> None:
        self.steps += 1
        self._set()

    def _set(self) -> None:
        share = self.plan.share(self.steps)
        for group, highest in zip(self.optimizer.param_groups, self.highest):
            group["lr"] = highest * share

    def state_dict(self) -> dict[str, Any]:
        """How many steps were made; the plan is the run's affair."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind so many steps, along the plan of this run."""
        self.steps = state["steps"]
        self._set()
