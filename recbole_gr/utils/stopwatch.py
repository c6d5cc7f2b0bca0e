"""What each stage of a run costs: seconds, CPU seconds, and what it would have cost without the cache; and rates.

``cpu_seconds`` is processor time, user and system, of all threads of the process and of its children. What a stage reused
from the cache costs nothing now; what making it took then is kept beside it, and is counted apart as ``reused_seconds``
and ``reused_cpu_seconds``. So ``cpu_seconds + reused_cpu_seconds`` is what the stage takes from nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, process_time

import psutil

#: What each stage cost, how often it ran, and its rates, by its name.
Stages = dict[str, dict[str, float]]

#: What reused artifacts took when they were made, since the process began. ``reused_untimed`` counts those that do not say.
_reused = {"reused_seconds": 0.0, "reused_cpu_seconds": 0.0, "reused_untimed": 0.0}


def cpu_seconds() -> float:
    """User and system time of this process and its children so far, of all their threads; those that have ended included."""
    ended = os.times()
    total = process_time() + ended.children_user + ended.children_system
    for child in psutil.Process().children(recursive=True):
        try:
            total += sum(child.cpu_times()[:4])  # its own, and that of its children that have ended
        except psutil.Error:  # it has just ended
            continue
    return total


def count_reuse(cost: dict[str, float] | None) -> None:
    """Count what an artifact from the cache took when it was made.

    Args:
        cost: ``seconds`` and ``cpu_seconds``; None where it is not known.
    """
    if cost is None:
        _reused["reused_untimed"] += 1
    else:
        _reused["reused_seconds"] += cost["seconds"]
        _reused["reused_cpu_seconds"] += cost["cpu_seconds"]


def clock() -> dict[str, float]:
    """The readings of all clocks, for :func:`cost_since`."""
    return {"seconds": perf_counter(), "cpu_seconds": cpu_seconds(), **_reused}


def cost_since(start: dict[str, float]) -> dict[str, float]:
    """What has passed since a :func:`clock`: ``seconds`` and ``cpu_seconds``, and of what was reused that which is not 0."""
    passed = {key: max(0.0, reading - start[key]) for key, reading in clock().items()}
    return {key: value for key, value in passed.items() if value or not key.startswith("reused")}


@contextmanager
def stopwatch(stages: Stages, name: str) -> Iterator[None]:
    """Add what passes inside to ``stages[name]``, see :func:`cost_since`, and one to ``stages[name]["times"]``."""
    start = clock()
    yield
    add_cost(stages, name, cost_since(start))


def add_cost(stages: Stages, name: str, cost: dict[str, float]) -> None:
    """Add a cost of :func:`cost_since` to ``stages[name]``, and one to ``stages[name]["times"]``."""
    stage = stages.setdefault(name, {"seconds": 0.0, "cpu_seconds": 0.0, "times": 0})
    for key, value in cost.items():
        stage[key] = round(stage.get(key, 0.0) + value, 3)
    stage["times"] += 1


def cpu_seconds_from_nothing(stage: dict[str, float]) -> float | None:
    """CPU seconds of a stage, those included that the cache saved; None if they are not known."""
    if "cpu_seconds" not in stage or stage.get("reused_untimed"):
        return None
    return stage["cpu_seconds"] + stage.get("reused_cpu_seconds", 0.0)


def add_rates(stages: Stages, train_samples: int, valid_samples: int, test_samples: int) -> None:
    """Samples or users per second for the stages that ran; the counts are those of one epoch."""
    for name, count, unit in (
        ("training", train_samples, "samples_per_second"),
        ("validation", valid_samples, "users_per_second"),
        ("test", test_samples, "users_per_second"),
    ):
        if name in stages:
            stages[name][unit] = round(stages[name]["times"] * count / max(stages[name]["seconds"], 1e-9), 1)
