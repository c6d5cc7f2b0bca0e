"""Seconds of each stage of a run, and the rates that follow from them."""

from collections.abc import Iterator
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


def add_rates(stages: Stages, train_samples: int, valid_samples: int, test_samples: int) -> None:
    """Samples or users per second for the stages that ran; the counts are those of one epoch."""
    for name, count, unit in (
        ("training", train_samples, "samples_per_second"),
        ("validation", valid_samples, "users_per_second"),
        ("test", test_samples, "users_per_second"),
    ):
        if name in stages:
            stages[name][unit] = round(stages[name]["times"] * count / max(stages[name]["seconds"], 1e-9), 1)
