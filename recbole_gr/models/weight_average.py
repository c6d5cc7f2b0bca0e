"""The exponential moving average of a model's weights (Polyak and Juditsky 1992)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class WeightAverage:
    """An average of weights that follows them: after step t it becomes ``d * average + (1 - d) * weights``.

    ``d`` is ``min(decay, (1 + t) / (10 + t))``, so that the average of a short training is not that of its beginning; the first
    step's weights are the first average. The weights themselves are not touched by it.

    Args:
        named: the parameters that are trained, by name.
        decay: in (0, 1); 0 keeps no average.
    """

    def __init__(self, named: Mapping[str, nn.Parameter], decay: float) -> None:
        self.named, self.decay = named, decay
        self.restart()

    def restart(self) -> None:
        """Forget what was averaged."""
        self.steps = 0
        self.averages: list[torch.Tensor] = []

    def decay_at(self, step: int) -> float:
        """``d`` of a step, counted from 1."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        if self.decay == 0:
            return
        self.steps += 1
        weights: list[torch.Tensor] = list(self.named.values())
        if self.steps == 1:
            self.averages = [weight.detach().clone() for weight in weights]
        else:
            torch._foreach_lerp_(self.averages, weights, 1 - self.decay_at(self.steps))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model has the averaged weights, if there are some; behind it, its own again, bit for bit."""
        if not self.averages:
            yield
            return
        weights = [weight.detach() for weight in self.named.values()]  # which share the parameters' memory
        own = [weight.clone() for weight in weights]
        torch._foreach_copy_(weights, self.averages)
        try:
            yield
        finally:
            torch._foreach_copy_(weights, own)

    def state_dict(self) -> dict[str, Any]:
        """The steps, and the averages by name."""
        return {"steps": self.steps, "averages": dict(zip(self.named, self.averages))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self.steps = state["steps"]
        averages = state["averages"]
        self.averages = (
            [averages[name].to(weight.device, copy=True) for name, weight in self.named.items()] if averages else []
        )
