"""Histories of textual IDs as the positions that an encoder reads."""

import torch


def item_positions(words: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One position per item, the sum of its words.

    Args:
        words: ``[b, t, w, d]``, the embedded words of the items.
        present: bool ``[b, t, w]``, which there are.

    Returns:
        tuple: ``[b, t, d]``; which positions there are, bool ``[b, t]``.
    """
    return (words * present.unsqueeze(-1)).sum(dim=2), present.any(dim=2)


def word_positions(
    words: torch.Tensor,
    present: torch.Tensor,
    *,
    before: torch.Tensor,
    between: torch.Tensor,
    behind: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One position per word: what stands before the history, the words of its items with something between them, what follows.

    Args:
        words, present: as in :func:`item_positions`; items come before padding.
        before, between, behind: ``[p, d]`` each, embedded; p may be 0.

    Returns:
        tuple: ``[b, positions, d]``, those that there are first; which these are, bool ``[b, positions]``.
    """
    b, t = present.shape[:2]
    item = present.any(dim=2)
    followed = torch.nn.functional.pad(item[:, 1:], (0, 1)).unsqueeze(-1).expand(-1, -1, len(between))
    slots = torch.cat([words, between.expand(b, t, -1, -1)], dim=2).flatten(1, 2)
    there = torch.cat([present, followed], dim=2).flatten(1)
    slots = torch.cat([before.expand(b, -1, -1), slots, behind.expand(b, -1, -1)], dim=1)
    ends = [torch.ones(b, len(part), dtype=torch.bool, device=there.device) for part in (before, behind)]
    there = torch.cat([ends[0], there, ends[1]], dim=1)
    order = (~there).to(torch.uint8).argsort(dim=1, stable=True)
    if there.device.type == "cpu":  # to look how long the longest is, a GPU would wait
        order = order[:, : int(there.sum(dim=1).max())]
    return slots.gather(1, order.unsqueeze(-1).expand(-1, -1, slots.shape[-1])), there.gather(1, order)
