"""What processes that train together tell each other; one process alone is a group of one, and nothing is sent.

All of these, but :func:`rank` and :func:`world_size`, must be called by every process of the group, in the same order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

#: Whether the first process is making something for all, in which the others take no part.
_making = False


def _group() -> Any:
    """torch.distributed where a group was joined, else None; who has not imported torch has joined none."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None


def world_size() -> int:
    """How many processes there are, on all hosts."""
    group = _group()
    return group.get_world_size() if group else 1


def rank() -> int:
    """The number of this process, among those of all hosts; the first has 0."""
    group = _group()
    return group.get_rank() if group else 0


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, sent to the others, which wait for it.

    Args:
        make: returns what can be pickled; tensors on the CPU.
    """
    global _making
    group = _group()
    if group is None or group.get_world_size() == 1 or _making:
        return make()
    made: list[Any] = [None]
    if group.get_rank() == 0:
        _making = True
        try:
            made = [make()]
        finally:
            _making = False
    group.broadcast_object_list(made, src=0)
    return made[0]


def of_each(value: T) -> list[T]:
    """What every process gave, in the order of their ranks; tensors on the CPU."""
    group = _group()
    if group is None or group.get_world_size() == 1:
        return [value]
    given: list[Any] = [None] * group.get_world_size()
    group.all_gather_object(given, value)
    return given


def mean_over_processes(values: Any) -> Any:
    """The mean of a tensor over the processes; made in place, on the device of the tensor."""
    group = _group()
    if group is not None:
        group.all_reduce(values)
        values /= group.get_world_size()
    return values


def sums_over_processes(counts: dict[str, int]) -> dict[str, int]:
    """The sum of each count over the processes."""
    shares = of_each(counts)
    names = {name: None for share in shares for name in share}  # in their order
    return {name: sum(share.get(name, 0) for share in shares) for name in names}


def wait_for_all() -> None:
    """Go on when all processes have come here."""
    of_each(None)
