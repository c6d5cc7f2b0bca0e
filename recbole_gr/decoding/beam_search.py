"""Beam search over semantic IDs, with a certificate of exactness.

A log-probability only falls as a prefix grows. So when the k-th best item found scores at least as high as the best
prefix that was ever pruned, no item behind a pruned prefix can belong to the top k: the ranking found is the ranking
that scoring every item would give. The search says so for each user.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from recbole_gr.decoding.protocols import CodeDecoder, Decoder, ItemTrie
from recbole_gr.decoding.trie import Trie
from recbole_gr.utils.arrays import ragged

WIDENING = 16
#: Batches of other shapes round differently; what is this close to the k-th score is kept.
ROUNDING = {"float32": 0.01, "bfloat16": 0.5}


@dataclass
class Beams:
    """What a search found, best first.

    Args:
        leaves: int64 ``[users, beams]``, leaves of the trie; -1 where no valid ID was found.
        scores: float32 ``[users, beams]``, exact log-probabilities; -inf where ``leaves`` is -1.
        pruned: float32 ``[users]``, the best log-probability among all prefixes and IDs given up.
    """

    leaves: torch.Tensor
    scores: torch.Tensor
    pruned: torch.Tensor


@dataclass(frozen=True)
class SearchLimits:
    """How far a search goes.

    Args:
        beam_size: beams of the first search, per user and step.
        k: the length of the ranking to be certified.
        certify: search on for the users without certificate.
        max_beams: further searches take so few users at a time that no more beams than this are alive.
        rounding: by how much the score of an item may differ between two searches.
    """

    beam_size: int
    k: int
    certify: bool = False
    max_beams: int = 1 << 16
    rounding: float = ROUNDING["float32"]


@dataclass(frozen=True)
class SearchResult:
    """Item scores of a search, and for whom they are proven.

    Args:
        item_scores: float32 ``[users, n_items]``, log-probabilities of what was found and -inf for the rest.
        certified: bool ``[users]``, whose top k is that of scoring every item.
        certified_by_first_search: bool ``[users]``, whose top k was certified by the first search already.
        beams: int64 ``[users]``, beams that the first search ended with.
        valid_beams: int64 ``[users]``, those of them that are IDs of items; fewer where any codes may be generated.
    """

    item_scores: torch.Tensor
    certified: torch.Tensor
    certified_by_first_search: torch.Tensor
    beams: torch.Tensor
    valid_beams: torch.Tensor


@dataclass(frozen=True)
class Expansion:
    """A step of a search, for who watches it.

    Args:
        nodes: int64 ``[users, beams, m]``, what can follow each beam, a node of the next depth; -1 where nothing does.
        codes: int64 ``[users, beams, m]``, by which codes; None: candidate j by code j.
        scores: float32 ``[users, beams, m]``.
        kept: int64 ``[users, beams of the next step]``, which of the ``beams * m`` candidates go on.
    """

    nodes: torch.Tensor
    codes: torch.Tensor | None
    scores: torch.Tensor
    kept: torch.Tensor


class Search(Protocol):
    """A beam search over some kind of trie: :func:`beam_search` or ``title_beam_search`` with their options bound."""

    def __call__(
        self,
        decoder: Any,
        trie: Any,
        beam_size: int,
        *,
        available: Sequence[torch.Tensor] | None = None,
        floor: torch.Tensor | None = None,
    ) -> Beams:
        """Find the leaves of highest probability."""


def beam_search(
    decoder: CodeDecoder,
    trie: Trie,
    beam_size: int,
    *,
    constrained: bool = True,
    available: Sequence[torch.Tensor] | None = None,
    floor: torch.Tensor | None = None,
    watch: Callable[[Expansion], None] | None = None,
) -> Beams:
    """Find the semantic IDs of highest probability.

    Args:
        decoder: log-probabilities of codes.
        trie: the valid IDs.
        beam_size: prefixes kept per user and level.
        constrained: walk valid prefixes only. If False, any codes may be generated (free-form search) and what
            is not an item's ID at the end is dropped.
        available: from :meth:`Trie.available_items`; prefixes without an item for the user are left out. None: all items
            are available to all users.
        floor: float32 ``[users]``; prefixes that score less are of no interest. Then only as many beams
            are kept as some user has prefixes above the floor, at most ``beam_size``.
        watch: called at every level; None: nobody watches.

    Returns:
        Beams
    """
    log_probs = decoder.start().float()
    users = len(log_probs)
    nodes = torch.zeros(users, 1, dtype=torch.long, device=log_probs.device)
    scores = torch.zeros(users, 1, device=log_probs.device)
    pruned = torch.full((users,), -torch.inf, device=log_probs.device) if floor is None else floor
    for level in range(trie.n_levels):
        children, codes, candidates = _expand(trie, level, nodes, scores, log_probs=log_probs, constrained=constrained)
        if available is not None:
            candidates = candidates.masked_fill(~_has_items(children, available[level]), -torch.inf)
        scores, chosen, dropped = _keep_best(candidates.flatten(1), beam_size, floor)
        pruned = torch.maximum(pruned, dropped)
        if watch is not None:
            watch(Expansion(children, codes, candidates, chosen))
        width = candidates.shape[-1]
        parent = chosen // width
        nodes = children.flatten(1).gather(1, chosen)
        code = chosen % width if codes is None else codes.flatten(1).gather(1, chosen)
        if level + 1 < trie.n_levels:
            log_probs = decoder.advance(parent, code).float()
    return _sorted_beams(nodes, scores, pruned)


def _expand(
    trie: Trie, level: int, nodes: torch.Tensor, scores: torch.Tensor, *, log_probs: torch.Tensor, constrained: bool
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Children, their codes (None: code = position) and their scores, each ``[users, beams, m]``."""
    if not constrained:
        return trie.all_children(level, nodes), None, scores.unsqueeze(-1) + log_probs
    children, codes = trie.children(level, nodes)
    log_probs = log_probs if codes is None else log_probs.gather(-1, codes)
    return children, codes, (scores.unsqueeze(-1) + log_probs).masked_fill(children < 0, -torch.inf)


def _has_items(nodes: torch.Tensor, available: torch.Tensor) -> torch.Tensor:
    """Whether a node has an item for the user; codes that lead to no item (-1) are left to the end of the search."""
    count = available.gather(1, nodes.clamp(min=0).flatten(1)).view(nodes.shape)
    return (count > 0) | (nodes < 0)


def _keep_best(
    candidates: torch.Tensor, beam_size: int, floor: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The best ``beam_size`` candidates ``[users, beams]``, where they stand, and the best one left out ``[users]``."""
    if floor is not None:
        below = candidates < floor.unsqueeze(1)
        candidates = candidates.masked_fill(below, -torch.inf)
        beam_size = min(beam_size, max(1, int((~below).sum(dim=1).max())))
    if candidates.shape[1] <= beam_size:
        order = torch.arange(candidates.shape[1], device=candidates.device).expand(len(candidates), -1)
        return candidates, order, torch.full_like(candidates[:, 0], -torch.inf)
    scores, chosen = candidates.topk(beam_size + 1, dim=1)
    return scores[:, :beam_size], chosen[:, :beam_size], scores[:, beam_size]


def _sorted_beams(nodes: torch.Tensor, scores: torch.Tensor, pruned: torch.Tensor) -> Beams:
    scores = scores.masked_fill(nodes < 0, -torch.inf)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    nodes = nodes.gather(1, order)
    return Beams(nodes.masked_fill(scores == -torch.inf, -1), scores, pruned)


def kth_score(beams: Beams, trie: ItemTrie, k: int, available: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
    """Score of the k-th item found, ``[users]``; -inf where fewer were found.

    Items that share an ID are that many candidates of equal score.
    """
    found = trie.items_of(beams.leaves)
    if available is not None:
        found = available[-1].gather(1, beams.leaves.clamp(min=0)).masked_fill(beams.leaves < 0, 0).long()
    position = (found.cumsum(dim=1) < k).sum(dim=1, keepdim=True)
    scores = torch.nn.functional.pad(beams.scores, (0, 1), value=-torch.inf)
    return scores.gather(1, position).squeeze(1)


def certified_beam_search(
    decoder: Decoder,
    trie: ItemTrie,
    limits: SearchLimits,
    *,
    available: Sequence[torch.Tensor] | None = None,
    search: Search = beam_search,
) -> SearchResult:
    """Beam search that, with ``limits.certify``, searches on for the users without certificate.

    The k-th score found is a floor under the true one. So a further search that keeps every prefix above that floor
    finds the exact ranking, however few or many these are; it is repeated with a higher limit where even
    ``WIDENING`` times as many beams did not hold them all, up to ``limits.max_beams``.

    Args:
        decoder: what ``search`` takes.
        trie: the valid titles or IDs, a Trie or a TitleTrie.
        limits: how far to search.
        available: as in :func:`beam_search`.
        search: the beam search over such a trie.
    """
    beams = search(decoder, trie, limits.beam_size, available=available)
    kth = kth_score(beams, trie, limits.k, available)
    sure = kth >= beams.pruned
    first_sure = sure.clone()
    item_scores = item_score_matrix(beams, trie)
    valid = (beams.leaves >= 0).sum(dim=1)
    generated = torch.full_like(valid, beams.leaves.shape[1])
    limit, max_beams = limits.beam_size, limits.max_beams
    while limits.certify and not sure.all() and limit < min(max_beams, trie.n_nodes(-1)):
        limit = min(limit * WIDENING, max_beams, trie.n_nodes(-1))
        open_users = torch.nonzero(~sure).squeeze(1)
        open_users = open_users[
            kth[open_users].argsort()
        ]  # a low floor means many beams: users with similar floors together
        for users in open_users.split(max(1, max_beams // limit)):
            here = None if available is None else [count[users] for count in available]
            floor = kth[users] - limits.rounding
            beams = search(decoder.select(users), trie, limit, available=here, floor=floor)
            found = kth_score(beams, trie, limits.k, here)
            complete = found >= floor  # rounding may drop what was at the floor; then the ranking found before stays
            item_scores[users[complete]] = item_score_matrix(beams, trie)[complete]
            kth[users[complete]] = found[complete]
            sure[users[complete]] = (found >= beams.pruned)[complete]
    return SearchResult(item_scores, sure, first_sure, beams=generated, valid_beams=valid)


def item_score_matrix(beams: Beams, trie: ItemTrie) -> torch.Tensor:
    """Spread the scores of leaves over the items that have that ID.

    Returns:
        torch.Tensor: float32 ``[users, n_items]``, -inf for items that no beam reached.
    """
    users, width = beams.leaves.shape
    counts = trie.items_of(beams.leaves).flatten()
    source, within = ragged(counts)
    items = trie.items[trie.first_item[beams.leaves.flatten()[source]] + within]
    matrix = torch.full((users, trie.n_items), -torch.inf, device=beams.scores.device)
    matrix[source // width, items] = beams.scores.flatten()[source]
    return matrix
