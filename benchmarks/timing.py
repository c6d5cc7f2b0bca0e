"""Timing contenders in turns."""

from time import perf_counter


def seconds(function, clock=perf_counter):
    """Seconds that a call takes by a clock; ``time.process_time`` is the CPU time of this process."""
    start = clock()
    function()
    return clock() - start


def alternating(contenders, rounds, clock=perf_counter):
    """Seconds of each contender in each round: ``{name: [seconds]}``."""
    times = [{name: seconds(function, clock) for name, function in contenders.items()} for _ in range(rounds)]
    return {name: [of_round[name] for of_round in times] for name in contenders}
