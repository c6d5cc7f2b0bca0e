"""What to do when several items get the same codes."""

import numpy as np
import torch

from recbole_gr.utils.errors import SettingError
from recbole_gr.tokenizers.groups import number_groups
from recbole_gr.tokenizers.matching import match

COLLISION_RULES = ("digit", "none", "nearest", "sinkhorn")

#: Items whose distances to all codes are held at once.
ROWS_AT_ONCE = 1 << 14
#: The share of the mean distance that is one unit of Sinkhorn's exponent, and its rounds.
SINKHORN_SHARPNESS, SINKHORN_ROUNDS = 0.05, 20


def resolve_collisions(quantised, codebook_sizes, collision):
    """Apply one of :data:`COLLISION_RULES`.

    - ``digit``: one more code tells equal codes apart (TIGER section 3.1, GRID).
    - ``none``: items share an ID.
    - ``nearest``: of the items with equal codes, the one nearest to its code keeps it; the others get the nearest code of
      the last level that is free under their prefix.
    - ``sinkhorn``: the items with equal codes all get new codes of the last level, so that the distances of all of them
      together are small: an optimal transport in which each code takes one item (LC-Rec, arXiv 2311.09049, section
      3.2, and LETTER, arXiv 2405.07314, use Sinkhorn's algorithm to this end).

    Args:
        quantised (Quantised): codes of n items.
        codebook_sizes (sequence of int): codes of each level.
        collision (str): the rule.

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


def append_digit(codes):
    """Tell items with equal codes apart by one more code: 0, 1, 2, ... in row order.

    Args:
        codes (np.ndarray): int ``[n, L]``.

    Returns:
        tuple: int32 ``[n, L + 1]``, all rows distinct; the size of the new codebook, the largest group of equal rows.
    """
    group = number_groups(codes)
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    digit = np.empty(len(codes), dtype=np.int32)
    digit[order] = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.column_stack([codes, digit]).astype(np.int32), int(sizes.max())


def _recode_last_level(quantised, sizes, collision):
    codes, n_codes = np.array(quantised.codes, dtype=np.int32), sizes[-1]
    prefix, group = number_groups(codes[:, :-1]), number_groups(codes)
    _check_room(codes, prefix, n_codes, collision)
    moves = np.bincount(group)[group] > 1
    if not moves.any():
        return codes
    if collision == "nearest":
        moves &= ~_nearest_of_group(quantised, group, np.flatnonzero(moves))
    staying = np.flatnonzero(~moves)
    staying = staying[np.argsort(prefix[staying], kind="stable")]
    for rows, most in _pieces_of_like_groups(np.flatnonzero(moves), prefix):
        prefixes, here = np.unique(prefix[rows], return_inverse=True)
        distances = quantised.last_distances(rows, n_codes)
        distances.masked_fill_(torch.from_numpy(_taken(codes, prefix, staying, prefixes, n_codes)[here]), torch.inf)
        # of the codes of a group of g items, none ends with one that is not among its g nearest: the others hold g - 1
        costs, nearest = distances.topk(min(most, n_codes), largest=False)
        if collision == "sinkhorn":
            costs = _transport_costs(costs, torch.from_numpy(here * n_codes).unsqueeze(1) + nearest)
        codes[rows, -1] = match(costs.numpy(), here, capacity=1, codes=nearest.numpy())
    return codes


def _taken(codes, prefix, staying, prefixes, n_codes):
    """Which codes of the last level the staying items, sorted by prefix, hold under some prefixes: bool ``[prefixes, W]``."""
    first, after = (np.searchsorted(prefix[staying], prefixes, side) for side in ("left", "right"))
    here = np.repeat(np.arange(len(prefixes)), after - first)
    place = np.arange(len(here)) + np.repeat(first - (np.cumsum(after - first) - (after - first)), after - first)
    taken = np.zeros((len(prefixes), n_codes), dtype=bool)
    taken[here, codes[staying[place], -1]] = True
    return taken


def _check_room(codes, prefix, n_codes, collision):
    members = np.bincount(prefix)
    if members.max() > n_codes:
        item = int(np.flatnonzero(prefix == members.argmax())[0])
        raise SettingError(
            "collision",
            collision,
            f"{members.max()} items share the prefix {tuple(codes[item, :-1].tolist())}, but the last level has "
            f"{n_codes} codes; use digit, or a larger codebook_size or codebook_num",
        )


def _nearest_of_group(quantised, group, rows):
    """Of the rows with the same codes, the one nearest to its code, the first among equals: bool over all items."""
    order = np.lexsort((rows, quantised.distances_to_own(rows).numpy(), group[rows]))
    first = np.append(True, np.diff(group[rows][order]) > 0)
    nearest = np.zeros(len(group), dtype=bool)
    nearest[rows[order[first]]] = True
    return nearest


def _pieces_of_like_groups(rows, prefix):
    """Yield about :data:`ROWS_AT_ONCE` rows at a time, and the size of the largest group among them.

    Rows of one prefix are not parted; groups of like size (up to twofold) come together.
    """
    sizes = np.bincount(prefix[rows], minlength=1)[prefix[rows]]
    likeness = np.ceil(np.log2(np.maximum(sizes, 1)))
    order = np.lexsort((prefix[rows], likeness))
    rows, sizes, likeness = rows[order], sizes[order], likeness[order]
    for alike in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(likeness)) + 1):
        starts = np.flatnonzero(np.append(True, np.diff(prefix[rows[alike]]) != 0))[: len(alike)]
        cuts = starts[np.flatnonzero(np.diff(starts // ROWS_AT_ONCE)) + 1]
        for piece in np.split(alike, cuts):
            if len(piece):
                yield rows[piece], int(sizes[piece].max())


def _transport_costs(costs, slots):
    """Reduced costs of the transport plan: the distances, less what items and codes pay for being contested.

    Sinkhorn's scaling, every item with mass 1 and every slot, a code under a prefix, with room for at most 1.

    Args:
        costs (torch.Tensor): float32 ``[rows, k]``, infinite where a slot is not to be had.
        slots (torch.Tensor): int64 ``[rows, k]``.
    """
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
