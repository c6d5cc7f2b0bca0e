"""What a training costs in floating-point operations, counted on a few of its batches after it is done."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

#: Batches that are counted: those of an epoch differ in length, and have about equally many targets.
BATCHES = 3


def training_flops(config: Any, model: Any, train_data: Any, epochs: int) -> float | None:
    """Floating-point operations of the matrix products of a training, forward and backward.

    A multiplication and an addition count as two. The mean of some batches stands for all of them.

    Args:
        config: the merged settings.
        model: the trained model; its gradients are changed.
        train_data: the training loader.
        epochs: how many were trained.

    Returns:
        The number; None where it cannot be counted: of several processes, whose gradients meet, and of a compiled network.
    """
    if not config["single_spec"] or config["torch_compile"] or not hasattr(model, "calculate_loss"):
        return None
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return 0.0
    counted = [flops_of_step(model, batch.to(config["device"])) for _, batch in zip(range(BATCHES), train_data)]
    return sum(counted) / max(1, len(counted)) * len(train_data) * epochs


def flops_of_step(model: Any, batch: Any) -> float:
    """Floating-point operations of a batch's loss and its gradients; the model trains meanwhile, and is left as it was."""
    was_training = model.training
    model.train()
    counter = FlopCounterMode(display=False)
    try:
        with torch.enable_grad(), counter:
            backward_step(model, batch)
    finally:
        model.zero_grad(set_to_none=True)
        model.train(was_training)
    return float(counter.get_total_flops())


def backward_step(model: Any, batch: Any) -> None:
    """Gradients of a batch's loss; some of RecBole's models have several losses."""
    loss = model.calculate_loss(batch)
    for part in loss[:-1] if isinstance(loss, tuple) else ():
        part.backward(retain_graph=True)
    (loss[-1] if isinstance(loss, tuple) else loss).backward()
