"""Beam search over semantic IDs, with a certificate of exactness.

A log-probability only falls as a prefix grows. So when the k-th best item found scores at least as high as the best
prefix that was ever pruned, no item behind a pruned prefix can belong to the top k: the ranking found is the ranking
that scoring every item would give. The search says so for each user.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol

import torch

from recbole_gr.decoding.exclusion import Exclusion
from recbole_gr.decoding.item_lists import ItemLists, put_together
from recbole_gr.decoding.protocols import CodeDecoder, Decoder, ItemTrie
from recbole_gr.decoding.trie import Trie
from recbole_gr.utils.arrays import nth_of, ragged

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
        steps: what the search cost: prefixes that were gone on with, of all users together; of titles, tokens that were read.
    """

    leaves: torch.Tensor
    scores: torch.Tensor
    pruned: torch.Tensor
    steps: int = 0


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
        lists: the items that were found, with their log-probabilities.
        certified: bool ``[users]``, whose top k is that of scoring every item.
        certified_by_first_search: bool ``[users]``, whose top k was certified by the first search already.
        stopped: bool ``[users]``, who is not certified because the budget was used up.
        beams: int64 ``[users]``, beams that the first search ended with.
        valid_beams: int64 ``[users]``, those of them that are IDs of items; fewer where any codes may be generated.
    """

    lists: ItemLists
    certified: torch.Tensor
    certified_by_first_search: torch.Tensor
    stopped: torch.Tensor
    beams: torch.Tensor
    valid_beams: torch.Tensor


class Budget:
    """How much further searches may cost, as a share of what the first ones did; it is counted in :attr:`Beams.steps`.

    Steps take about equal times, and their number is the same on every machine: so is who is certified. What the first
    searches of a group of users leave over may be used for later groups. One widest search is always allowed.

    Args:
        share: the steps of further searches at most, divided by those of first ones; 0: there are none; None: no bound.
    """

    def __init__(self, share: float | None) -> None:
        self.share = share
        self.first = self.further = 0
        self.seconds = {"first": 0.0, "further": 0.0}
        self._widest = 0.0
        self._per_user: dict[int, tuple[int, int]] = {}

    def first_search(self, steps: int, users: int, limits: SearchLimits, seconds: float = 0.0) -> None:
        """Count a first search of some users."""
        self.first += steps
        self.seconds["first"] += seconds
        self._count(limits.beam_size, steps, users)
        self._widest = max(self._widest, limits.max_beams * steps / max(1, users) / limits.beam_size)

    def further_search(self, steps: int, users: int, limit: int, seconds: float = 0.0) -> None:
        """Count a further search of some users with so many beams at most."""
        self.further += steps
        self.seconds["further"] += seconds
        self._count(limit, steps, users)

    def _count(self, limit: int, steps: int, users: int) -> None:
        before = self._per_user.get(limit, (0, 0))
        self._per_user[limit] = before[0] + steps, before[1] + users

    @property
    def left(self) -> float:
        """Steps that may still be made; a search that took more than was expected may have left none."""
        if self.share is None:
            return float("inf")
        return max(0.0, self.share * self.first + self._widest - self.further) if self.share else 0.0

    def users_with(self, limit: int) -> int:
        """How many users may be searched for with so many beams at most; what one costs is what others did."""
        if self.share is None:
            return 1 << 62
        known = max(width for width in self._per_user if width <= limit)
        steps, users = self._per_user[known]
        return int(self.left // max(1.0, steps / max(1, users) * limit / known))


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
        excluded: Exclusion | None = None,
        floor: torch.Tensor | None = None,
    ) -> Beams:
        """Find the leaves of highest probability."""


def beam_search(
    decoder: CodeDecoder,
    trie: Trie,
    beam_size: int,
    *,
    constrained: bool = True,
    excluded: Exclusion | None = None,
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
        excluded: from :meth:`Trie.exclusion`; prefixes without an item for the user are left out. None: nothing is excluded.
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
    steps = 0
    for level in range(trie.n_levels):
        children, codes, candidates = _expand(trie, level, nodes, scores, log_probs=log_probs, constrained=constrained)
        steps += nodes.numel()
        if excluded is not None:
            candidates = trie.mask(level, nodes, children, candidates, by_code=codes is None, excluded=excluded)
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
    return replace(_sorted_beams(nodes, scores, pruned), steps=steps)


def _expand(
    trie: Trie, level: int, nodes: torch.Tensor, scores: torch.Tensor, *, log_probs: torch.Tensor, constrained: bool
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Children, their codes (None: code = position) and their scores, each ``[users, beams, m]``."""
    if not constrained:
        return trie.all_children(level, nodes), None, scores.unsqueeze(-1) + log_probs
    children, codes = trie.children(level, nodes)
    log_probs = log_probs if codes is None else log_probs.gather(-1, codes)
    return children, codes, (scores.unsqueeze(-1) + log_probs).masked_fill(children < 0, -torch.inf)


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


def kth_score(beams: Beams, trie: ItemTrie, k: int, excluded: Exclusion | None = None) -> torch.Tensor:
    """Score of the k-th item found, ``[users]``; -inf where fewer were found.

    Items that share an ID are that many candidates of equal score.
    """
    found = trie.items_of(beams.leaves) if excluded is None else excluded.left_in(trie.first_item, beams.leaves)
    position = (found.cumsum(dim=1) < k).sum(dim=1, keepdim=True)
    scores = torch.nn.functional.pad(beams.scores, (0, 1), value=-torch.inf)
    return scores.gather(1, position).squeeze(1)


def certified_beam_search(
    decoder: Decoder,
    trie: ItemTrie,
    limits: SearchLimits,
    *,
    excluded: Exclusion | None = None,
    search: Search = beam_search,
    budget: Budget | None = None,
) -> SearchResult:
    """Beam search that, with ``limits.certify``, searches on for the users without certificate.

    The k-th score found is a floor under the true one. So a further search that keeps every prefix above that floor
    finds the exact ranking, however few or many these are; it is repeated with a higher limit where even
    ``WIDENING`` times as many beams did not hold them all, up to ``limits.max_beams``.

    Args:
        decoder: what ``search`` takes.
        trie: the valid titles or IDs, a Trie or a TitleTrie.
        limits: how far to search.
        excluded: as in :func:`beam_search`.
        search: the beam search over such a trie.
        budget: what further searches may cost; None: whatever it takes.
    """
    budget = budget or Budget(None)
    begin = perf_counter()
    beams = search(decoder, trie, limits.beam_size, excluded=excluded)
    kth = kth_score(beams, trie, limits.k, excluded)
    sure = kth >= beams.pruned
    first_sure = sure.clone()
    stopped = torch.zeros_like(sure)
    users = torch.arange(len(sure), device=sure.device)
    found_by = [(users, items_found(beams, trie))]
    valid = (beams.leaves >= 0).sum(dim=1)
    generated = torch.full_like(valid, beams.leaves.shape[1])
    limit, max_beams = limits.beam_size, min(limits.max_beams, trie.n_nodes(-1))
    budget.first_search(beams.steps, len(sure), limits, perf_counter() - begin)
    while limits.certify and not (sure | stopped).all() and limit < max_beams:
        limit = min(limit * WIDENING, max_beams)
        waiting = torch.nonzero(~(sure | stopped)).squeeze(1)
        # a low floor means many beams: users with similar floors together, those that cost least first
        waiting = waiting[kth[waiting].argsort(descending=True)]
        while len(waiting):
            affordable = budget.users_with(limit)
            if not affordable:
                stopped[waiting] = True
                break
            users, waiting = waiting.tensor_split([min(affordable, max(1, limits.max_beams // limit))])
            here = None if excluded is None else excluded.select(users)
            floor = kth[users] - limits.rounding
            begin = perf_counter()
            beams = search(decoder.select(users), trie, limit, excluded=here, floor=floor)
            budget.further_search(beams.steps, len(users), limit, perf_counter() - begin)
            found = kth_score(beams, trie, limits.k, here)
            complete = found >= floor  # rounding may drop what was at the floor; then the ranking found before stays
            found_by.append((users[complete], items_found(beams, trie, complete)))
            kth[users[complete]] = found[complete]
            sure[users[complete]] = (found >= beams.pruned)[complete]
    lists = put_together([lists for _, lists in found_by], [users for users, _ in found_by])
    return SearchResult(lists, sure, first_sure, stopped=stopped, beams=generated, valid_beams=valid)


def items_found(beams: Beams, trie: ItemTrie, users: torch.Tensor | slice = slice(None)) -> ItemLists:
    """The items of the leaves that were found, with their scores, for some of the users (bool ``[users]``)."""
    leaves, scores = beams.leaves[users], beams.scores[users]
    n_users, width = leaves.shape
    counts = trie.items_of(leaves)
    source, within = ragged(counts.flatten())
    of_user = counts.sum(dim=1)
    found = trie.items[trie.first_item[leaves.flatten()[source]] + within]
    row = source // max(1, width)
    shape = (n_users, max(1, int(of_user.max())) if n_users else 1)  # free-form codes may be no item's
    items = torch.zeros(shape, dtype=torch.long, device=scores.device)
    item_scores = torch.full(shape, -torch.inf, device=scores.device)
    column = nth_of(row, of_user)
    items[row, column], item_scores[row, column] = found, scores.flatten()[source]
    return ItemLists(items, item_scores, trie.n_items)
