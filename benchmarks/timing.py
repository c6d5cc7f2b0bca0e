"""Timing contenders in turns."""

from time import perf_counter


def seconds(function):
    """Seconds that a call takes."""
    start = perf_counter()
    function()
    return perf_counter() - start


def alternating(contenders, rounds):
    """Seconds of each contender in each round: ``{name: [seconds]}``."""
    times = [{name: seconds(function) for name, function in contenders.items()} for _ in range(rounds)]
    return {name: [of_round[name] for of_round in times] for name in contenders}
