"""Beam search over semantic IDs, with a certificate of exactness.

A log-probability only falls as a prefix grows. So when the k-th best item found scores at least as high as the best
prefix that was ever pruned, no item behind a pruned prefix can belong to the top k: the ranking found is the ranking
that scoring every item would give. The search says so for each user.
"""

from dataclasses import dataclass

import torch

WIDENING = 4


@dataclass
class Beams:
    """What a search found, best first.

    Args:
        leaves (torch.Tensor): int64 ``[users, beams]``, leaves of the trie; -1 where no valid ID was found.
        scores (torch.Tensor): float32 ``[users, beams]``, exact log-probabilities; -inf where ``leaves`` is -1.
        pruned (torch.Tensor): float32 ``[users]``, the best log-probability among all prefixes and IDs given up.
    """

    leaves: torch.Tensor
    scores: torch.Tensor
    pruned: torch.Tensor


def beam_search(decoder, trie, beam_size, constrained=True):
    """Find the semantic IDs of highest probability.

    Args:
        decoder: offers ``start() -> [users, 1, codes of level 0]`` and ``advance(parent, code) -> [users, beams,
            codes of the next level]``, log-probabilities over the *whole* level (not renormalised over the valid
            children, which keeps scores exact); ``parent`` and ``code`` are int64 ``[users, beams]``.
        trie (Trie): the valid IDs.
        beam_size (int): prefixes kept per user and level.
        constrained (bool): walk valid prefixes only. If False, any codes may be written (free-form search) and what
            is no item's ID at the end is dropped.

    Returns:
        Beams
    """
    log_probs = decoder.start().float()
    users = len(log_probs)
    nodes = torch.zeros(users, 1, dtype=torch.long, device=log_probs.device)
    scores = torch.zeros(users, 1, device=log_probs.device)
    pruned = torch.full((users,), -torch.inf, device=log_probs.device)
    for level in range(trie.n_levels):
        children, codes, candidates = _expand(trie, level, nodes, scores, log_probs, constrained)
        scores, chosen, dropped = _keep_best(candidates.flatten(1), beam_size)
        pruned = torch.maximum(pruned, dropped)
        width = candidates.shape[-1]
        parent = chosen // width
        nodes = children.flatten(1).gather(1, chosen)
        code = chosen % width if codes is None else codes.flatten(1).gather(1, chosen)
        if level + 1 < trie.n_levels:
            log_probs = decoder.advance(parent, code).float()
    return _sorted_beams(nodes, scores, pruned)


def _expand(trie, level, nodes, scores, log_probs, constrained):
    """Children, their codes (None: code = position) and their scores, each ``[users, beams, m]``."""
    if not constrained:
        return trie.all_children(level, nodes), None, scores.unsqueeze(-1) + log_probs
    children, codes = trie.children(level, nodes)
    log_probs = log_probs if codes is None else log_probs.gather(-1, codes)
    return children, codes, (scores.unsqueeze(-1) + log_probs).masked_fill(children < 0, -torch.inf)


def _keep_best(candidates, beam_size):
    """The best ``beam_size`` candidates ``[users, beams]``, where they stand, and the best one left out ``[users]``."""
    if candidates.shape[1] <= beam_size:
        order = torch.arange(candidates.shape[1], device=candidates.device).expand(len(candidates), -1)
        return candidates, order, torch.full_like(candidates[:, 0], -torch.inf)
    scores, chosen = candidates.topk(beam_size + 1, dim=1)
    return scores[:, :beam_size], chosen[:, :beam_size], scores[:, beam_size]


def _sorted_beams(nodes, scores, pruned):
    scores = scores.masked_fill(nodes < 0, -torch.inf)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    nodes = nodes.gather(1, order)
    return Beams(nodes.masked_fill(scores == -torch.inf, -1), scores, pruned)


def certified(beams, trie, k):
    """Which users' top k is provably the top k of scoring every item.

    Items that share an ID are that many candidates of equal score.

    Returns:
        torch.Tensor: bool ``[users]``.
    """
    found = trie.items_of(beams.leaves).cumsum(dim=1)
    position = (found < k).sum(dim=1, keepdim=True)
    enough = position < found.shape[1]
    kth = beams.scores.gather(1, position.clamp(max=found.shape[1] - 1)).squeeze(1)
    return torch.where(enough.squeeze(1), kth >= beams.pruned, beams.pruned == -torch.inf)


def certified_beam_search(decoder, trie, beam_size, k, constrained=True, certify=False, beams_at_once=None):
    """Beam search that, with ``certify``, widens the beams of the users without certificate until all have it.

    Args:
        decoder: as in :func:`beam_search`, with ``select(users) -> decoder`` for a part of its users.
        k (int): the length of the ranking to be certified.
        beams_at_once (int): wider searches take few users at a time, so that no more beams than this are alive.

    Returns:
        tuple: item scores float32 ``[users, n_items]``, log-probabilities of what was found and -inf for the rest;
        bool ``[users]``, who is certified; bool ``[users]``, who was already certified by the first search.
    """
    beams = beam_search(decoder, trie, beam_size, constrained)
    sure = certified(beams, trie, k)
    first_sure = sure.clone()
    item_scores = item_score_matrix(beams, trie)
    while certify and not sure.all():
        beam_size *= WIDENING
        open_users = torch.nonzero(~sure).squeeze(1)
        users_at_once = max(1, (beams_at_once or len(open_users) * beam_size) // min(beam_size, trie.n_nodes(-1)))
        for users in open_users.split(users_at_once):
            beams = beam_search(decoder.select(users), trie, beam_size, constrained)
            item_scores[users] = item_score_matrix(beams, trie)
            sure[users] = certified(beams, trie, k)
    return item_scores, sure, first_sure


def item_score_matrix(beams, trie):
    """Spread the scores of leaves over the items that have that ID.

    Returns:
        torch.Tensor: float32 ``[users, n_items]``, -inf for items that no beam reached.
    """
    users, width = beams.leaves.shape
    counts = trie.items_of(beams.leaves).flatten()
    source = torch.repeat_interleave(torch.arange(users * width, device=counts.device), counts)
    within = torch.arange(len(source), device=counts.device) - (counts.cumsum(0) - counts)[source]
    items = trie.items[trie.first_item[beams.leaves.flatten()[source]] + within]
    matrix = torch.full((users, trie.n_items), -torch.inf, device=beams.scores.device)
    matrix[source // width, items] = beams.scores.flatten()[source]
    return matrix
