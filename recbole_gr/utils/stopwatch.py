"""Seconds of each stage of a run, and the rates that follow from them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

#: Seconds, times and rates of each stage by its name.
Stages = dict[str, dict[str, float]]


@contextmanager
def stopwatch(stages: Stages, name: str) -> Iterator[None]:
    """Add the seconds that pass inside to ``stages[name]["seconds"]``, and one to ``stages[name]["times"]``."""
    start = perf_counter()
    yield
    stage = stages.setdefault(name, {"seconds": 0.0, "times": 0})
    stage["seconds"] = round(stage["seconds"] + perf_counter() - start, 3)
    stage["times"] += 1


def add_rates(stages: Stages, counts: Mapping[str, int]) -> None:
    """Samples or users per second for the stages that ran.

    Args:
        stages: get ``samples_per_second`` for ``training``, ``users_per_second`` for the others.
        counts: by stage, what one time of it goes through.
    """
    for name in counts.keys() & stages.keys():
        unit = "samples_per_second" if name == "training" else "users_per_second"
        stages[name][unit] = round(stages[name]["times"] * counts[name] / max(stages[name]["seconds"], 1e-9), 1)
