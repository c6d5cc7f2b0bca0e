"""What to do when several items get the same codes."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recbole_gr.tokenizers.semantic_ids import Quantised, number_groups
from recbole_gr.utils.errors import SettingError

if TYPE_CHECKING:
    import torch

COLLISION_RULES = ("digit", "none", "nearest", "sinkhorn")

#: Items whose distances to all codes are held at once.
ROWS_AT_ONCE = 1 << 14
#: The share of the mean distance that is one unit of Sinkhorn's exponent, and its rounds.
SINKHORN_SHARPNESS, SINKHORN_ROUNDS = 0.05, 20


def resolve_collisions(
    quantised: Quantised, codebook_sizes: Sequence[int], collision: str
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Apply one of :data:`COLLISION_RULES`.

    - ``digit``: one more code makes equal codes distinct (TIGER section 3.1, GRID).
    - ``none``: items share an ID.
    - ``nearest``: of the items with equal codes, the one nearest to its code keeps it; the others get the nearest code of
      the last level that is free under their prefix.
    - ``sinkhorn``: the items with equal codes all get new codes of the last level, so that the distances of all of them
      together are small: an optimal transport in which each code takes one item (LC-Rec, arXiv 2311.09049, section
      3.2, and LETTER, arXiv 2405.07314, use Sinkhorn's algorithm to this end).

    Args:
        quantised: codes of n items.
        codebook_sizes: codes of each level.
        collision: the rule.

    Returns:
        tuple: codes int32 ``[n, L']`` and the sizes of the L' codebooks.

    Raises:
        SettingError: a prefix has more items than the last level has codes.
    """
    codes, sizes = quantised.codes, tuple(codebook_sizes)
    if collision == "none":
        return np.asarray(codes, dtype=np.int32), sizes
    if collision == "digit":
        codes, digits = append_digit(codes)
        return codes, (*sizes, digits)
    return _recode_last_level(quantised, sizes, collision), sizes


def append_digit(codes: np.ndarray) -> tuple[np.ndarray, int]:
    """Make items with equal codes distinct by one more code: 0, 1, 2, ... in row order.

    Args:
        codes: int ``[n, L]``.

    Returns:
        tuple: int32 ``[n, L + 1]``, all rows distinct; the size of the new codebook, the largest group of equal rows.
    """
    group = number_groups(codes)
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    digit = np.empty(len(codes), dtype=np.int32)
    digit[order] = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.column_stack([codes, digit]).astype(np.int32), int(sizes.max())


def append_digits_behind(kept: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """One more code for items that come after others: the next digits behind those that are taken, in row order.

    Args:
        kept: int ``[n, L + 1]`` of the items that there are, which stay as they are.
        codes: int ``[m, L]`` of the others.

    Returns:
        np.ndarray: int32 ``[m, L + 1]`` of the others.
    """
    group = number_groups(np.concatenate([kept[:, :-1], codes]))
    last = np.full(group.max() + 1, -1)
    np.maximum.at(last, group[: len(kept)], kept[:, -1])
    of_new = group[len(kept) :]
    order = np.argsort(of_new, kind="stable")
    first = np.searchsorted(of_new[order], of_new[order])
    nth = np.empty(len(codes), dtype=np.int64)
    nth[order] = np.arange(len(codes)) - first
    return np.column_stack([codes, last[of_new] + 1 + nth]).astype(np.int32)


def recode_behind(kept: np.ndarray, quantised: Quantised, codebook_sizes: Sequence[int], collision: str) -> np.ndarray:
    """Codes of items that come after others by ``nearest`` or ``sinkhorn``; the others keep theirs, whoever is nearer.

    Args:
        kept: int ``[n, L]`` of the items that there are.
        quantised: codes of m items.
        codebook_sizes: codes of each level.
        collision: the rule.

    Returns:
        np.ndarray: int32 ``[m, L]``.

    Raises:
        SettingError: a prefix has more items than the last level has codes.
    """
    residual = quantised.last_residual
    if residual is not None:  # those of the items that stay are not looked at
        residual = np.concatenate([np.zeros((len(kept), residual.shape[1]), residual.dtype), residual])
    both = replace(quantised, codes=np.concatenate([kept, quantised.codes]), last_residual=residual)
    return _recode_last_level(both, tuple(codebook_sizes), collision, len(kept))[len(kept) :]


def _recode_last_level(quantised: Quantised, sizes: Sequence[int], collision: str, n_kept: int = 0) -> np.ndarray:
    """The first ``n_kept`` items stay."""
    import torch

    codes, n_codes = np.array(quantised.codes, dtype=np.int32), sizes[-1]
    prefix, group = number_groups(codes[:, :-1]), number_groups(codes)
    _check_room(codes, prefix, n_codes, collision)
    moves = np.bincount(group)[group] > 1
    moves[:n_kept] = False
    if not moves.any():
        return codes
    if collision == "nearest":
        open_ones = np.flatnonzero(moves & ~np.isin(group, group[:n_kept]))
        if len(open_ones):
            moves &= ~_nearest_of_group(quantised, group, open_ones)
    staying = np.flatnonzero(~moves)
    staying = staying[np.argsort(prefix[staying], kind="stable")]
    for rows, most in _chunks_of_like_groups(np.flatnonzero(moves), prefix):
        prefixes, here = np.unique(prefix[rows], return_inverse=True)
        distances = quantised.last_distances(rows, n_codes)
        distances.masked_fill_(torch.from_numpy(_taken(codes, prefix, staying, prefixes, n_codes)[here]), torch.inf)
        # an item of a group of g never needs more than its g nearest codes: the others take g - 1 at most
        costs, nearest = distances.topk(min(most, n_codes), largest=False)
        if collision == "sinkhorn":
            costs = _transport_costs(costs, torch.from_numpy(here * n_codes).unsqueeze(1) + nearest)
        codes[rows, -1] = match(costs.numpy(), here, capacity=1, codes=nearest.numpy())
    return codes


def _taken(codes: np.ndarray, prefix: np.ndarray, staying: np.ndarray, prefixes: np.ndarray, n_codes: int) -> np.ndarray:
    """Codes of the last level that the staying items, sorted by prefix, have under some prefixes: bool ``[prefixes, W]``."""
    first, after = (np.searchsorted(prefix[staying], prefixes, side) for side in ("left", "right"))
    here = np.repeat(np.arange(len(prefixes)), after - first)
    place = np.arange(len(here)) + np.repeat(first - (np.cumsum(after - first) - (after - first)), after - first)
    taken = np.zeros((len(prefixes), n_codes), dtype=bool)
    taken[here, codes[staying[place], -1]] = True
    return taken


def _check_room(codes: np.ndarray, prefix: np.ndarray, n_codes: int, collision: str) -> None:
    members = np.bincount(prefix)
    if members.max() > n_codes:
        item = int(np.flatnonzero(prefix == members.argmax())[0])
        raise SettingError(
            "collision",
            collision,
            f"{members.max()} items share the prefix {tuple(codes[item, :-1].tolist())}, but the last level has "
            f"{n_codes} codes; use digit, or a larger codebook_size or codebook_num",
        )


def _nearest_of_group(quantised: Quantised, group: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Of the rows with the same codes, the one nearest to its code, the first among equals: bool over all items."""
    order = np.lexsort((rows, quantised.distances_to_own(rows).numpy(), group[rows]))
    first = np.append(True, np.diff(group[rows][order]) > 0)
    nearest = np.zeros(len(group), dtype=bool)
    nearest[rows[order[first]]] = True
    return nearest


def _chunks_of_like_groups(rows: np.ndarray, prefix: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Yield about :data:`ROWS_AT_ONCE` rows at a time, and the size of the largest group among them.

    Rows of one prefix stay together; groups of similar size (up to twofold) share a chunk.
    """
    sizes = np.bincount(prefix[rows], minlength=1)[prefix[rows]]
    likeness = np.ceil(np.log2(np.maximum(sizes, 1)))
    order = np.lexsort((prefix[rows], likeness))
    rows, sizes, likeness = rows[order], sizes[order], likeness[order]
    for alike in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(likeness)) + 1):
        starts = np.flatnonzero(np.append(True, np.diff(prefix[rows[alike]]) != 0))[: len(alike)]
        cuts = starts[np.flatnonzero(np.diff(starts // ROWS_AT_ONCE)) + 1]
        for chunk in np.split(alike, cuts):
            if len(chunk):
                yield rows[chunk], int(sizes[chunk].max())


def _transport_costs(costs: "torch.Tensor", slots: "torch.Tensor") -> "torch.Tensor":
    """Reduced costs of the transport plan: the distances, less the prices of contested items and codes.

    Sinkhorn's scaling, every item with mass 1 and every slot, a code under a prefix, with room for at most 1.

    Args:
        costs: float32 ``[rows, k]``, infinite where a slot is not available.
        slots: int64 ``[rows, k]``.
    """
    import torch

    free = torch.isfinite(costs)
    tiny = torch.finfo(torch.float32).tiny
    beyond_nearest = costs - costs.min(dim=1, keepdim=True).values
    scale = SINKHORN_SHARPNESS * max(float(costs[free].mean()), tiny)
    affinity = torch.exp(-beyond_nearest / scale)
    room = torch.ones(int(slots.max()) + 1)
    for _ in range(SINKHORN_ROUNDS):
        weight = 1 / (affinity * room[slots]).sum(dim=1, keepdim=True).clamp(min=tiny)
        load = torch.zeros_like(room).index_add_(0, slots.flatten(), (affinity * weight).flatten())
        room = 1 / load.clamp(min=1)
    reduced = beyond_nearest - scale * (room.log()[slots] + weight.log())
    return reduced.masked_fill(~free, torch.inf)


def match(costs: np.ndarray, groups: np.ndarray, capacity: int, codes: np.ndarray | None = None) -> np.ndarray:
    """The stable matching of items and codes: no item and code would both be better off with each other.

    Items ask for their cheapest code; a code keeps its ``capacity`` cheapest items and refuses the others, which then
    ask for their next (Gale and Shapley, 1962). With one cost for both sides this is what taking the cheapest pair
    of all, again and again, would give.

    Args:
        costs: float ``[n, k]``, infinite where a code is not available; overwritten.
        groups: int ``[n]``; items of different groups do not compete.
        capacity: how many items of a group a code takes.
        codes: int ``[n, k]``, the codes that the costs are of; None: column j is of code j.

    Returns:
        np.ndarray: int64 ``[n]``, a code per item; -1 for items that every code refused.
    """
    n = len(costs)
    if codes is None:
        codes = np.broadcast_to(np.arange(costs.shape[1]), costs.shape)
    n_codes = int(codes.max()) + 1
    row = np.arange(n)
    choice = costs.argmin(axis=1)
    cost = costs[row, choice]
    competing = row
    while True:
        slot = groups[competing] * n_codes + codes[competing, choice[competing]]
        order = np.lexsort((competing, cost[competing], slot))
        slot = slot[order]
        first = np.append(True, slot[1:] != slot[:-1])
        rank = np.arange(len(slot)) - np.maximum.accumulate(np.where(first, np.arange(len(slot)), 0))
        refused = competing[order][(rank >= capacity) & np.isfinite(cost[competing][order])]
        if len(refused) == 0:
            return np.where(np.isfinite(cost), codes[row, choice], -1)
        costs[refused, choice[refused]] = np.inf
        choice[refused] = costs[refused].argmin(axis=1)
        cost[refused] = costs[refused, choice[refused]]
        # only items that share a group with a refused one can be affected in the next round
        competing = row[np.isin(groups, groups[refused])] if len(refused) < n // 8 else row
