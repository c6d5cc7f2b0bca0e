"""The trie of semantic IDs as flat arrays: no node objects, one gather per step for all beams of all users."""

from collections.abc import Sequence

import numpy as np
import torch

from recbole_gr.decoding.exclusion import Exclusion

DENSE_TABLE_ENTRIES = 1 << 24


class Trie:
    """Valid prefixes of semantic IDs, level by level.

    Nodes of one depth are numbered in the lexicographic order of their prefixes, so the children of a node are
    neighbours: node ``n`` of depth ``l`` has the children ``first_child[l][n]`` to ``first_child[l][n + 1] - 1`` of
    depth ``l + 1`` (CSR), and ``code[l + 1]`` holds their codes. Depth 0 is the root. A leaf (depth L) leads to the
    items with that ID, ``items[first_item[leaf]:first_item[leaf + 1]]``, lowest item id first. The
    items below any node are neighbours too: ``items[first_item_below[l][n]:first_item_below[l][n + 1]]``.

    Where most codes follow a node (the first levels), a dense table ``[nodes, codes]`` of children is kept instead,
    which moves less memory (the layout of STATIC, arXiv 2602.22647).

    Args:
        codes: int ``[n_items, L]``, row 0 is the padding item and is left out.
        codebook_sizes: number of codes per level.
        device: where the arrays live.
    """

    def __init__(self, codes: np.ndarray, codebook_sizes: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.codebook_sizes = tuple(codebook_sizes)
        self.n_items, self.n_levels = codes.shape
        self.device = torch.device(device)
        codes = np.asarray(codes)[1:]
        order = np.lexsort(codes.T[::-1])
        codes = codes[order]

        begins = np.zeros(len(codes), dtype=bool)
        begins[0] = True
        starts = [np.array([0])]
        self.code = [torch.zeros(1, dtype=torch.long, device=self.device)]
        for level in range(self.n_levels):
            begins[1:] |= codes[1:, level] != codes[:-1, level]
            start = np.flatnonzero(begins)
            starts.append(start)
            self.code.append(self._tensor(codes[start, level]))

        self.first_child = [
            self._tensor(np.append(np.searchsorted(below, here), len(below)))
            for here, below in zip(starts, starts[1:], strict=False)
        ]
        self.items = self._tensor(order + 1)
        self.place_of_item = torch.zeros(self.n_items, dtype=torch.long, device=self.device)
        self.place_of_item[self.items] = torch.arange(len(order), device=self.device)
        self.first_item_below = [self._tensor(np.append(start, len(codes))) for start in starts]
        self.first_item = self.first_item_below[-1]
        self.fan_out = [int((first[1:] - first[:-1]).max()) for first in self.first_child]
        self.dense = [self._dense_table(level) for level in range(self.n_levels)]

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.long, device=self.device)

    def _dense_table(self, level: int) -> torch.Tensor | None:
        """Children ``[nodes, codes]`` of one depth, -1 where there is none; None where CSR moves less memory."""
        nodes, codes = self.n_nodes(level), self.codebook_sizes[level]
        if 2 * self.fan_out[level] <= codes or nodes * codes > DENSE_TABLE_ENTRIES:
            return None
        table = torch.full((nodes, codes), -1, dtype=torch.long, device=self.device)
        first = self.first_child[level]
        parent = torch.repeat_interleave(torch.arange(nodes, device=self.device), first[1:] - first[:-1])
        table[parent, self.code[level + 1]] = torch.arange(self.n_nodes(level + 1), device=self.device)
        return table

    def n_nodes(self, depth: int) -> int:
        """Number of distinct prefixes of ``depth`` codes; -1 stands for complete IDs."""
        return len(self.code[depth])

    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = [*self.code, *self.first_child, *self.first_item_below, self.items, self.place_of_item]
        arrays += [table for table in self.dense if table is not None]
        return sum(array.numel() * array.element_size() for array in arrays)

    def children(self, level: int, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Children of nodes of depth ``level``.

        Args:
            nodes: int64 ``[...]``; -1 stands for no node and has no children.

        Returns:
            tuple: child nodes int64 ``[..., m]``, -1 where there is none; their codes int64 ``[..., m]``, or None if
            candidate j has code j. m is the level's largest number of children, or its number of codes.
        """
        here = nodes.clamp(min=0)
        table = self.dense[level]
        if table is not None:
            child = table[here]
            return child.masked_fill((nodes < 0).unsqueeze(-1), -1), None
        first, last = self.first_child[level][here], self.first_child[level][here + 1]
        child = first.unsqueeze(-1) + torch.arange(self.fan_out[level], device=self.device)
        valid = (child < last.unsqueeze(-1)) & (nodes >= 0).unsqueeze(-1)
        code = self.code[level + 1][child.clamp(max=self.n_nodes(level + 1) - 1)]
        return child.masked_fill(~valid, -1), code.masked_fill(~valid, 0)

    def all_children(self, level: int, nodes: torch.Tensor) -> torch.Tensor:
        """The child for every code of the level, -1 where the prefix leads to no item: ``[..., codes]``."""
        child, code = self.children(level, nodes)
        if code is None:
            return child
        table = torch.full((*nodes.shape, self.codebook_sizes[level] + 1), -1, dtype=torch.long, device=self.device)
        code = code.masked_fill(child < 0, self.codebook_sizes[level])
        return table.scatter_(-1, code, child)[..., :-1]

    def items_of(self, leaves: torch.Tensor) -> torch.Tensor:
        """Number of items per leaf: int64, shaped as ``leaves``; 0 where a leaf is -1."""
        here = leaves.clamp(min=0)
        return (self.first_item[here + 1] - self.first_item[here]).masked_fill(leaves < 0, 0)

    def exclusion(
        self, users: int, seen: tuple[torch.Tensor, torch.Tensor], allowed: torch.Tensor | None = None
    ) -> Exclusion:
        """What users are not given, for :func:`~recbole_gr.decoding.beam_search.beam_search`.

        Args:
            users, seen, allowed: as in :meth:`~recbole_gr.decoding.exclusion.Exclusion.of`.
        """
        return Exclusion.of(self.place_of_item, users, seen, allowed)

    def mask(
        self,
        level: int,
        nodes: torch.Tensor,
        children: torch.Tensor,
        candidates: torch.Tensor,
        *,
        by_code: bool,
        excluded: Exclusion,
    ) -> torch.Tensor:
        """The scores of candidates, -inf where nothing below them is left for the user.

        The prefixes that are used up are few, and each is looked for among the beams; not the other way round.

        Args:
            level: the depth of ``nodes``.
            nodes: int64 ``[users, beams]``, different ones for each user but for -1.
            children: int64 ``[users, beams, m]``, -1 where there is none; codes that lead to no item are left to the end of the search.
            candidates: float32 ``[users, beams, m]``.
            by_code: whether candidate j has code j; else it is the j-th child.
            excluded: from :meth:`exclusion`.
        """
        first = self.first_item_below[level + 1]
        if excluded.allowed_before is not None:
            nobodys = (excluded.between(first[:-1], first[1:]) == 0)[children.clamp(min=0)] & (children >= 0)
            candidates = candidates.masked_fill(nobodys, -torch.inf)
        user, child = excluded.emptied(first)
        if not len(user):
            return candidates
        _, beams, width = candidates.shape
        n_nodes = self.n_nodes(level)
        parent = torch.searchsorted(self.first_child[level], child, right=True) - 1
        column = self.code[level + 1][child] if by_code else child - self.first_child[level][parent]
        base = torch.arange(excluded.n_users, device=self.device) * (n_nodes + 1)  # + 1 for the -1
        keys, order = (base.unsqueeze(1) + nodes + 1).flatten().sort()
        wanted = base[user] + parent + 1
        place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        gone = torch.where(keys[place] == wanted, -torch.inf, torch.inf).to(candidates.dtype)
        return candidates.flatten().scatter_reduce(0, order[place] * width + column, gone, "amin").view_as(candidates)
