"""Rows of different lengths, laid one behind the other in flat tensors."""

import torch


def ragged(count):
    """For ``count[i]`` entries each: to which ``i`` an entry belongs, and the how-manieth of them it is.

    Args:
        count (torch.Tensor): int64 ``[rows]``.

    Returns:
        tuple: two int64 tensors ``[count.sum()]``.
    """
    owner = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    return owner, nth_of(owner, count)


def nth_of(owner, count):
    """The how-manieth of its owner each entry is, counted from 0, where entries are sorted by owner.

    Args:
        owner (torch.Tensor): int64 ``[entries]``.
        count (torch.Tensor): int64 ``[owners]``, entries of each.

    Returns:
        torch.Tensor: int64 ``[entries]``.
    """
    return torch.arange(len(owner), device=owner.device) - (count.cumsum(0) - count)[owner]
