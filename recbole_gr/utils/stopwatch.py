"""Seconds of each stage of a run, and the rates that follow from them."""

from contextlib import contextmanager
from time import perf_counter


@contextmanager
def stopwatch(stages, name):
    """Add the seconds that pass inside to ``stages[name]["seconds"]``, and one to ``stages[name]["times"]``."""
    start = perf_counter()
    yield
    stage = stages.setdefault(name, {"seconds": 0.0, "times": 0})
    stage["seconds"] = round(stage["seconds"] + perf_counter() - start, 3)
    stage["times"] += 1


def add_rates(stages, train_samples, valid_samples, test_samples):
    """Samples or users per second for the stages that ran; the counts are those of one epoch."""
    for name, count, unit in (
        ("training", train_samples, "samples_per_second"),
        ("validation", valid_samples, "users_per_second"),
        ("test", test_samples, "users_per_second"),
    ):
        if name in stages:
            stages[name][unit] = round(stages[name]["times"] * count / max(stages[name]["seconds"], 1e-9), 1)
