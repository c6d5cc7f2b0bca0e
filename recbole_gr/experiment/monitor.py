"""What a training costs and how it goes: seconds of each stage, loss and validation score by epoch, the peak of memory."""

from __future__ import annotations

import resource
import sys
from typing import Any

import torch

from recbole_gr.utils.stopwatch import stopwatch


def monitor_epochs(trainer: Any, stages: dict[str, dict[str, float]]) -> list[dict[str, float]]:
    """Let a trainer's training and validation epochs be timed, and their results be kept.

    Args:
        trainer: a RecBole ``Trainer``, before ``fit``.
        stages: gets the stages ``training`` and ``validation``, see :func:`recbole_gr.utils.stopwatch.stopwatch`.

    Returns:
        A list that grows while it trains, of ``epoch``, ``train_loss`` (the sum over batches, as RecBole prints it) and, for
        epochs that were validated, ``valid_score``. After ``resume`` it begins where training goes on.
    """
    curve: list[dict[str, float]] = []
    train, validate = trainer._train_epoch, trainer._valid_epoch

    def monitored_training(train_data: Any, epoch: int, *args: Any, **kwargs: Any) -> Any:
        with stopwatch(stages, "training"):
            loss = train(train_data, epoch, *args, **kwargs)
        curve.append({"epoch": epoch, "train_loss": sum(loss) if isinstance(loss, tuple) else loss})
        return loss

    def monitored_validation(*args: Any, **kwargs: Any) -> Any:
        with stopwatch(stages, "validation"):
            score, result = validate(*args, **kwargs)
        if curve:
            curve[-1]["valid_score"] = float(score)
        return score, result

    trainer._train_epoch, trainer._valid_epoch = monitored_training, monitored_validation
    return curve


def peak_memory() -> dict[str, float]:
    """Megabytes of 10^6 bytes: ``peak_memory_mb`` in main memory, ``peak_gpu_memory_mb`` allocated on a GPU."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes on Linux
    peaks = {"peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peaks["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)
    return peaks
