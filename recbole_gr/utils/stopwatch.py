"""What each stage of a run costs: seconds, CPU seconds, and what it would have cost without the cache; and rates.

``cpu_seconds`` is processor time, user and system, of all threads of the process and of its children. What a stage reused
from the cache costs nothing now; what making it took then is kept beside it, and is counted apart as ``reused_seconds``
and ``reused_cpu_seconds``. So ``cpu_seconds + reused_cpu_seconds`` is what the stage takes from nothing.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter, process_time

import psutil

#: What each stage cost, how often it ran, and its rates, by its name.
Stages = dict[str, dict[str, float]]

#: ``seconds`` and ``cpu_seconds`` that making an artifact took; None where that is not known.
Cost = dict[str, float] | None

#: The artifacts that the process made or reused, one after the other; one that was made spares nothing, its cost is 0.
_artifacts: list[tuple[str, Cost]] = []


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


def count_made(artifact: str) -> None:
    """From now on nothing is spared by reusing this artifact: its making is in the time that has passed."""
    _artifacts.append((artifact, {"seconds": 0.0, "cpu_seconds": 0.0}))


def count_reused(artifact: str, cost: Cost) -> None:
    """Count what an artifact from the cache took when it was made."""
    _artifacts.append((artifact, cost))


def clock() -> dict[str, float]:
    """The readings of all clocks, for :func:`cost_since`."""
    return {"seconds": perf_counter(), "cpu_seconds": cpu_seconds(), "artifacts": len(_artifacts)}


def cost_since(start: dict[str, float]) -> dict[str, float]:
    """What has passed since a :func:`clock`.

    Returns:
        ``seconds``, ``cpu_seconds``, and where artifacts were reused, ``reused_seconds`` and ``reused_cpu_seconds``, what
        making them took, and ``reused_untimed``, how many do not say. An artifact counts once however often it is read, and
        not at all if it was made since the clock was read.
    """
    passed = {key: max(0.0, reading - start[key]) for key, reading in clock().items() if key != "artifacts"}
    first: dict[str, Cost] = {}
    for artifact, cost in _artifacts[int(start["artifacts"]) :]:
        first.setdefault(artifact, cost)
    known = [cost for cost in first.values() if cost is not None]
    reused = {f"reused_{key}": sum(cost[key] for cost in known) for key in ("seconds", "cpu_seconds")}
    reused["reused_untimed"] = len(first) - len(known)
    return {**passed, **{key: value for key, value in reused.items() if value}}


def cpu_seconds_from_nothing(stage: dict[str, float]) -> float | None:
    """CPU seconds of a stage, those included that the cache saved; None if they are not known."""
    if "cpu_seconds" not in stage or stage.get("reused_untimed"):
        return None
    return stage["cpu_seconds"] + stage.get("reused_cpu_seconds", 0.0)


def add_cost(stages: Stages, name: str, cost: dict[str, float]) -> None:
    """Add a cost of :func:`cost_since` to ``stages[name]``, and one to ``stages[name]["times"]``."""
    stage = stages.setdefault(name, {"seconds": 0.0, "cpu_seconds": 0.0, "times": 0})
    for key, value in cost.items():
        stage[key] = round(stage.get(key, 0.0) + value, 3)
    stage["times"] += 1


@contextmanager
def stopwatch(stages: Stages, name: str) -> Iterator[None]:
    """Add what passes inside to ``stages[name]``, see :func:`cost_since`, and one to ``stages[name]["times"]``."""
    start = clock()
    yield
    add_cost(stages, name, cost_since(start))


def add_rates(stages: Stages, counts: Mapping[str, int]) -> None:
    """Samples or users per second for the stages that ran.

    Args:
        stages: get ``samples_per_second`` for ``training``, ``users_per_second`` for the others.
        counts: by stage, what one time of it goes through.
    """
    for name in counts.keys() & stages.keys():
        unit = "samples_per_second" if name == "training" else "users_per_second"
        stages[name][unit] = round(stages[name]["times"] * counts[name] / max(stages[name]["seconds"], 1e-9), 1)
