"""What a training costs and how it goes: the cost of each stage, loss and validation score by epoch, the peak of memory."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch

from recbole_gr.utils.devices import device_name
from recbole_gr.utils.processes import of_each
from recbole_gr.utils.stopwatch import Stages, add_cost, clock, cost_since, stopwatch


@dataclass
class Progress:
    """What a run has to tell of its training; a training state keeps it, and a resumed run goes on from there.

    Args:
        stages: per stage its cost.
        start: the clock when the run began.
        learning_curve: by epoch, see :func:`monitor_epochs`.
        peak_memory: megabytes, the most of all processes that took part.
        resumed_after: the epochs after which the run was resumed.
    """

    stages: Stages = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=clock)
    learning_curve: list[dict[str, float]] = field(default_factory=list)
    peak_memory: dict[str, float] = field(default_factory=dict)
    resumed_after: list[int] = field(default_factory=list)

    def so_far(self) -> dict[str, Any]:
        """Plain values, for :meth:`go_on_from`."""
        stages = copy.deepcopy(self.stages)
        add_cost(stages, "whole", cost_since(self.start))
        return {
            "stages": stages,
            "learning_curve": [dict(epoch) for epoch in self.learning_curve],
            "peak_memory": self.peak(),
            "resumed_after": list(self.resumed_after),
        }

    def so_far_of_all(self) -> dict[str, Any]:
        """As :meth:`so_far`, with the CPU seconds of all processes that train together; all of them come here."""
        shares = of_each(self.so_far())
        for name, stage in shares[0]["stages"].items():
            costs = (share["stages"].get(name, {}).get("cpu_seconds", 0.0) for share in shares)
            stage["cpu_seconds"] = round(sum(costs), 3)
        return shares[0]

    def go_on_from(self, saved: dict[str, Any], epoch: int) -> None:
        """Add what an interrupted run had done until the state of ``epoch``: what it read and made again counts twice."""
        for name, stage in saved["stages"].items():
            here = self.stages.setdefault(name, {})
            for key, value in stage.items():
                if not key.endswith("_per_second"):
                    here[key] = round(here.get(key, 0) + value, 3)
        self.learning_curve[:0] = saved["learning_curve"]
        self.peak_memory = saved["peak_memory"]
        self.resumed_after = [*saved["resumed_after"], epoch]

    def peak(self) -> dict[str, float]:
        """The peak of memory until now, :func:`peak_memory`, or that of the interrupted run."""
        now = peak_memory()
        return {key: max(now.get(key, 0.0), self.peak_memory.get(key, 0.0)) for key in now | self.peak_memory}


def monitor_epochs(trainer: Any, progress: Progress) -> None:
    """Let a trainer's training and validation epochs be timed, and their results be kept.

    Args:
        trainer: a RecBole ``Trainer``, before ``fit``; its ``progress`` is set.
        progress: gets the stages ``training``, ``validation`` and perhaps ``validation_of_all_users``, see
            :func:`recbole_gr.utils.stopwatch.stopwatch`, and its learning curve grows while it trains, by ``epoch``, ``train_loss``
            (the sum over batches, as RecBole prints it) and, for epochs that were validated, ``valid_score``, with
            ``decoding: free`` also ``valid_beam_share``.
    """
    trainer.progress, stages, curve = progress, progress.stages, progress.learning_curve
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
            if beams := getattr(trainer.model, "valid_beams", dict[str, float])():
                curve[-1]["valid_beam_share"] = beams["valid_beam_share"]
        return score, result

    trainer._train_epoch, trainer._valid_epoch = monitored_training, monitored_validation
    if hasattr(trainer, "_evaluate_best"):
        trainer._evaluate_best = stopwatch(stages, "validation_of_all_users")(trainer._evaluate_best)


def add_cpu_of_other_processes(stages: Stages) -> list[dict[str, Any]]:
    """Where several processes train together, the CPU seconds of each stage become those of all of them.

    Returns:
        Of each process, in the order of ranks: its ``device``, the ``seconds`` and ``cpu_seconds`` of the whole, and
        its :func:`peak_memory`.
    """
    costs = of_each({name: stage["cpu_seconds"] for name, stage in stages.items()})
    whole = stages["whole"]
    own = {
        "device": device_name(_device()),
        "seconds": whole["seconds"],
        "cpu_seconds": whole["cpu_seconds"],
        **peak_memory(),
    }
    reports = of_each(own)
    for name, stage in stages.items():
        stage["cpu_seconds"] = round(sum(cost.get(name, 0.0) for cost in costs), 3)
    return reports


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() and torch.cuda.is_initialized() else "cpu")


def peak_memory() -> dict[str, float]:
    """Megabytes of 10^6 bytes: ``peak_memory_mb`` in main memory, ``peak_gpu_memory_mb`` allocated on a GPU."""
    peaks = {"peak_memory_mb": round(_peak_bytes() / 1e6, 1)}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peaks["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)
    return peaks


def _peak_bytes() -> int:
    """psutil knows the peak on Windows only; elsewhere the system does."""
    on_windows = getattr(psutil.Process().memory_info(), "peak_wset", None)
    if on_windows is not None:
        return int(on_windows)
    import resource  # which Windows lacks

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
