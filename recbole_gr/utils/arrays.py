"""Arrays: rows read in chunks, and rows of different lengths that lie one after the other in flat tensors.

torch is imported inside the functions, so that what only reads rows does without it.
"""

import mmap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

ROWS_AT_ONCE = 1 << 15


def chunks(vectors: np.ndarray, rows: int = ROWS_AT_ONCE) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield ``(slice, chunk)`` over the rows; of a memory map, only the chunk in use stays in memory."""
    # writes to a map that is opened for copy-on-write would be lost
    file = getattr(vectors, "_mmap", None) if isinstance(vectors, np.memmap) and vectors.mode in ("r", "r+") else None
    for start in range(0, len(vectors), rows):
        here = slice(start, start + rows)
        yield here, vectors[here]
        if file is not None and hasattr(mmap, "MADV_DONTNEED"):
            file.madvise(mmap.MADV_DONTNEED)


def copy_in_chunks(vectors: np.ndarray) -> np.ndarray:
    """A float32 copy that can be written to."""
    copy = np.empty(vectors.shape, dtype=np.float32)
    for here, chunk in chunks(vectors):
        copy[here] = chunk
    return copy


def ragged(count: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """For ``count[i]`` entries each: the ``i`` to which each entry belongs, and its position there.

    Args:
        count: int64 ``[rows]``.

    Returns:
        Two int64 tensors ``[count.sum()]``.
    """
    import torch

    owner = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    return owner, nth_of(owner, count)


def nth_of(owner: "torch.Tensor", count: "torch.Tensor") -> "torch.Tensor":
    """The position of each entry among those of its owner, counted from 0, where entries are sorted by owner.

    Args:
        owner: int64 ``[entries]``.
        count: int64 ``[owners]``, entries of each.

    Returns:
        int64 ``[entries]``.
    """
    import torch

    return torch.arange(len(owner), device=owner.device) - (count.cumsum(0) - count)[owner]


def last_of_each(owner: "torch.Tensor") -> "torch.Tensor":
    """Which entries are the last of their owner, where entries are sorted by owner.

    Args:
        owner: int64 ``[entries]``.

    Returns:
        bool ``[entries]``.
    """
    import torch

    last = torch.ones(len(owner), dtype=torch.bool, device=owner.device)
    last[:-1] = owner[1:] != owner[:-1]
    return last


def padded_stretches(values: "torch.Tensor", start: "torch.Tensor", length: "torch.Tensor", width: int) -> "torch.Tensor":
    """Stretches of a flat array as rows, with 0 behind each.

    Args:
        values: ``[n]``.
        start: int64 ``[rows]``, where each stretch begins.
        length: int64 ``[rows]``, at most ``width``.
        width: columns of the result.

    Returns:
        ``[rows, width]``, of the type of ``values``.
    """
    import torch

    column = torch.arange(width, device=values.device)
    place = (start.unsqueeze(-1) + column).clamp_(max=len(values) - 1)
    return values[place].masked_fill_(column >= length.unsqueeze(-1), 0)


#: Up to here a permutation of all numbers is cheap.
PERMUTED_AT_ONCE = 1 << 24


def draw_without_replacement(n: int, n_drawn: int, generator: "torch.Generator") -> "torch.Tensor":
    """Different whole numbers below ``n``, in random order; memory grows with ``n_drawn`` where that is far below ``n``.

    Args:
        n: above the highest number.
        n_drawn: how many, at most ``n``.
        generator: the source of random numbers.

    Returns:
        int64 ``[n_drawn]``.
    """
    import torch

    if n <= PERMUTED_AT_ONCE or 2 * n_drawn > n:
        return torch.randperm(n, generator=generator)[:n_drawn]
    drawn = torch.empty(0, dtype=torch.int64)
    while True:
        drawn = torch.cat([drawn, torch.randint(n, (n_drawn,), generator=generator)])
        first = np.unique(drawn.numpy(), return_index=True)[1]
        if len(first) >= n_drawn:
            return drawn[np.sort(first)[:n_drawn]]
