"""Which items the dense score ranks: the short list of the beams and the cold items. And how well cold items are scored."""

import torch
from torch.nn import functional as F


def candidates(
    scores: torch.Tensor, k: int, cold: torch.Tensor, excluded: tuple[torch.Tensor, torch.Tensor] | None
) -> torch.Tensor:
    """The items to be ranked for some users.

    Args:
        scores: float32 ``[users, n_items]``, log-probabilities of the codes of what the beams found, -inf for the rest.
        k: how many of these count, best first; those that tie with the last of them count too.
        cold: bool ``[n_items]``, items that count for every user.
        excluded: users and items, int64 each: the item is no candidate of the user's, nor one of the k; None: nothing is.

    Returns:
        torch.Tensor: bool ``[users, n_items]``.
    """
    if excluded is not None:
        scores = scores.index_put(excluded, scores.new_full((), -torch.inf))
    last = scores.topk(min(k, scores.shape[1]), dim=1).values[:, -1:]
    chosen = (scores >= last) & (scores > -torch.inf) | cold
    if excluded is not None:
        chosen = chosen.index_put(excluded, chosen.new_zeros(()))
    return chosen


def cosine_logits(states: torch.Tensor, items: torch.Tensor, temperature: float) -> torch.Tensor:
    """Cosines of all pairs, divided by a temperature.

    Args:
        states: ``[n, d]``.
        items: ``[m, d]``.
        temperature: above 0.

    Returns:
        torch.Tensor: float32 ``[n, m]``.
    """
    return F.linear(F.normalize(states.float(), dim=-1), F.normalize(items.float(), dim=-1)).float() / temperature
