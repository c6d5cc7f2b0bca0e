"""Tie breaking: which of the items that share a semantic ID is recommended first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recbole_gr.tokenizers.semantic_ids import number_groups

if TYPE_CHECKING:
    import torch

#: Scores of two IDs that differ do so by more: their probabilities add up to 1 at most, so that the smaller one's
#: logarithm is below -0.69, where float32 numbers are 6e-8 apart.
MIN_GAP = 5e-8


def leaf_ranks(codes: np.ndarray, popularity: np.ndarray, leaf_order: str, seed: int) -> np.ndarray:
    """The rank of every item among those with its ID, counted from 0.

    Args:
        codes: int ``[n_items, L]``, row 0 is the padding item.
        popularity: int ``[n_items]``, how often an item occurs in the training part.
        leaf_order: ``popularity``, the more popular first, of equal ones the lower item id; ``random``.
        seed: of the random order.

    Returns:
        np.ndarray: int64 ``[n_items]``.
    """
    first_is = np.random.default_rng(seed).permutation(len(codes)) if leaf_order == "random" else -popularity
    group = np.append(-1, number_groups(codes[1:]))
    order = np.lexsort((np.arange(len(codes)), first_is, group))
    sizes = np.bincount(group + 1)
    ranks = np.empty(len(codes), dtype=np.int64)
    ranks[order] = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return ranks


def order_within_leaves(scores: torch.Tensor, ranks: torch.Tensor, largest: torch.Tensor | None = None) -> torch.Tensor:
    """Subtract so little by rank that items of equal score get an order and no others change places.

    Args:
        scores: float32 ``[users, n]``, log-probabilities.
        ranks: int64 ``[n]`` or ``[users, n]``, from :func:`leaf_ranks`, of the items that these are the scores of.
        largest: the largest rank of any item; None: of these.

    Returns:
        torch.Tensor: float64 ``[users, n]``; a score less at most :data:`MIN_GAP`.
    """
    return scores.double() - ranks * (MIN_GAP / ((ranks.max() if largest is None else largest) + 1))
