"""The trie of title tokens as flat arrays: stretches with a single child are one edge, however long."""

import numpy as np
import torch

from recbole_gr.decoding.exclusion import Exclusion
from recbole_gr.utils.arrays import ragged


class TitleTrie:
    """Valid titles, which differ in length, as a compressed trie (a radix tree) in CSR.

    A node is the root, a place where titles part, or the end of a title (a leaf). The edge into node ``n`` holds the
    tokens at the places ``edge_begin[n]`` to ``depth[n] - 1`` of every title behind ``n``; depth counts tokens. The
    children of ``n`` are the neighbours ``first_child[n]`` to ``first_child[n] + n_children[n] - 1``. Distinct titles
    are numbered in lexicographic order of their tokens, and those behind ``n`` are ``first_leaf[n]`` to
    ``last_leaf[n] - 1``. A leaf leads to the items with that title, ``items[first_item[leaf]:first_item[leaf + 1]]``,
    lowest item id first; ``leaf_of_item`` is the way back.

    Args:
        tokens: int ``[total]``, the tokens of all items, one item behind the other. A title ends with a
            token that occurs nowhere else in it, or all titles are equally long, so that none begins another.
        first: int ``[n_items + 1]``, where each item's tokens begin; item 0, the padding, has none.
        device: where the arrays live.

    Raises:
        ValueError: one title begins another, or an item has no tokens.
    """

    def __init__(self, tokens: np.ndarray, first: np.ndarray, device: torch.device | str = "cpu") -> None:
        self.n_items = len(first) - 1
        self.device = torch.device(device)
        item_of_leaf, items, first_item = _distinct_titles(tokens, first)
        start, length = first[item_of_leaf], (first[1:] - first[:-1])[item_of_leaf]
        nodes = _nodes(tokens, start, length)

        self.tokens = self._tensor(tokens)
        self.title_start, self.title_length = self._tensor(start), self._tensor(length)
        self.items, self.first_item = self._tensor(items), self._tensor(first_item)
        self.leaf_of_item = torch.full((self.n_items,), -1, device=self.device)
        leaf_sizes = self.first_item[1:] - self.first_item[:-1]
        self.leaf_of_item[self.items] = torch.repeat_interleave(
            torch.arange(len(leaf_sizes), device=self.device), leaf_sizes
        )
        self.first_leaf, self.last_leaf = self._tensor(nodes["first_leaf"]), self._tensor(nodes["last_leaf"])
        self.edge_begin, self.depth = self._tensor(nodes["edge_begin"]), self._tensor(nodes["depth"])
        self.first_child, self.n_children = self._tensor(nodes["first_child"]), self._tensor(nodes["n_children"])

        self.place_of_item = torch.zeros(self.n_items, dtype=torch.long, device=self.device)
        self.place_of_item[self.items] = torch.arange(len(items), device=self.device)
        self.parent = torch.zeros_like(self.depth)
        owner, nth = ragged(self.n_children)
        self.parent[self.first_child[owner] + nth] = owner
        leaves = torch.nonzero(self.n_children == 0).squeeze(1)
        self.node_of_leaf = torch.empty_like(self.title_start)
        self.node_of_leaf[self.first_leaf[leaves]] = leaves

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.long, device=self.device)

    def n_nodes(self, depth: int | None = None) -> int:
        """Number of nodes; -1 stands for the number of distinct titles."""
        return len(self.title_start) if depth == -1 else len(self.depth)

    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(value.numel() * value.element_size() for value in vars(self).values() if torch.is_tensor(value))

    def token(self, nodes: torch.Tensor, place: torch.Tensor | int) -> torch.Tensor:
        """The token at a place of the titles behind nodes; int64, shaped as both."""
        return self.tokens[self.title_start[self.first_leaf[nodes]] + place]

    def is_leaf(self, nodes: torch.Tensor) -> torch.Tensor:
        """Whether a title ends at a node: bool, shaped as ``nodes``."""
        return self.n_children[nodes] == 0

    def items_of(self, leaves: torch.Tensor) -> torch.Tensor:
        """Number of items per title: int64, shaped as ``leaves``; 0 where a leaf is -1."""
        here = leaves.clamp(min=0)
        return (self.first_item[here + 1] - self.first_item[here]).masked_fill(leaves < 0, 0)

    def exclusion(
        self, users: int, seen: tuple[torch.Tensor, torch.Tensor], allowed: torch.Tensor | None = None
    ) -> Exclusion:
        """What users are not given, for :func:`~recbole_gr.decoding.title_search.title_beam_search`.

        Args:
            users, seen, allowed: as in :meth:`~recbole_gr.decoding.exclusion.Exclusion.of`.
        """
        return Exclusion.of(self.place_of_item, users, seen, allowed)

    def used_up(self, excluded: Exclusion) -> torch.Tensor:
        """The nodes behind which nothing is left for a user but would be for others: int64, ``user * nodes + node``, ascending.

        A node is one if all its children are, of which each is looked at once.
        """
        user, leaf = excluded.emptied(self.first_item)
        found, here, n_nodes = [], user * self.n_nodes() + self.node_of_leaf[leaf], self.n_nodes()
        gone: dict[str, torch.Tensor] = {"keys": here[:0], "count": here[:0]}  # of nodes of which some children are used up
        while len(here):
            found.append(here)
            here = here[here % n_nodes > 0]
            parents = here // n_nodes * n_nodes + self.parent[here % n_nodes]
            keys = torch.cat([gone["keys"], parents])
            count = torch.cat([gone["count"], self._left_behind(here % n_nodes, excluded)])
            keys, number = keys.unique(return_inverse=True)
            count = torch.zeros_like(keys).index_add_(0, number, count)
            full = count == self._left_behind(keys % n_nodes, excluded)
            here, gone = keys[full], {"keys": keys[~full], "count": count[~full]}
        return torch.cat(found).sort().values if found else user

    def nobodys(self, excluded: Exclusion) -> torch.Tensor | None:
        """Which nodes have no item that anybody may be given, bool ``[nodes]``; None: each has one."""
        if excluded.allowed_before is None:
            return None
        return self._left_behind(torch.arange(self.n_nodes(), device=self.device), excluded) == 0

    def _left_behind(self, nodes: torch.Tensor, excluded: Exclusion) -> torch.Tensor:
        """How many items that anybody may be given lie behind nodes, int64, shaped as ``nodes``."""
        begin, end = self.first_item[self.first_leaf[nodes]], self.first_item[self.last_leaf[nodes]]
        return excluded.between(begin, end)


def _distinct_titles(tokens: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One item per distinct title, in order; the items in the order of their titles; where those of each begin."""
    key_of = np.ascontiguousarray(tokens, dtype=">u4").tobytes()  # big-endian bytes sort like the tokens
    bounds = (4 * first).tolist()
    keys = [key_of[start:end] for start, end in zip(bounds[1:], bounds[2:], strict=False)]
    if not all(keys):
        raise ValueError(f"item {keys.index(b'') + 1} has no tokens")
    order = sorted(range(len(keys)), key=keys.__getitem__)
    begins = np.fromiter(
        (here == 0 or keys[order[here]] != keys[order[here - 1]] for here in range(len(order))), bool, len(order)
    )
    items = np.asarray(order) + 1
    first_item = np.append(np.flatnonzero(begins), len(items))
    return items[begins], items, first_item


def _nodes(tokens: np.ndarray, start: np.ndarray, length: np.ndarray) -> dict[str, np.ndarray]:
    """The nodes over sorted distinct titles, by name an array ``[nodes]`` each; found for all titles at once, by depth."""
    found = [{"first_leaf": np.array([0]), "last_leaf": np.array([len(start)]), "edge_begin": np.array([0])}]
    parted = []  # which nodes have children, at what depth, from which child on, and how many
    count, depth = 1, 0
    node, first_leaf, last_leaf = np.array([0]), np.array([0]), np.array([len(start)])  # where titles may part yet
    while len(node):
        owner, part_first, part_last = _parts(tokens, start, length, first_leaf=first_leaf, last_leaf=last_leaf, depth=depth)
        parts_of = np.bincount(owner, minlength=len(node))
        parts = (parts_of > 1) | (node == 0)  # the root is a node even if all titles begin alike
        is_child = parts[owner]
        child_first, child_last = part_first[is_child], part_last[is_child]
        child = count + np.arange(len(child_first))
        first_child = count + np.cumsum(parts_of[parts]) - parts_of[parts]
        found.append({"first_leaf": child_first, "last_leaf": child_last, "edge_begin": np.full(len(child), depth)})
        parted.append((node[parts], np.full(int(parts.sum()), depth), first_child, parts_of[parts]))
        count += len(child)
        opens = child_last - child_first > 1
        node = np.concatenate([node[~parts], child[opens]])
        first_leaf = np.concatenate([first_leaf[~parts], child_first[opens]])
        last_leaf = np.concatenate([last_leaf[~parts], child_last[opens]])
        depth += 1
    nodes = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    nodes["depth"] = length[nodes["first_leaf"]].copy()  # that of a leaf; inner nodes follow
    nodes["first_child"], nodes["n_children"] = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    for name, values in zip(
        ("depth", "first_child", "n_children"), zip(*(part[1:] for part in parted), strict=True), strict=True
    ):
        nodes[name][np.concatenate([part[0] for part in parted])] = np.concatenate(values)
    return nodes


def _parts(
    tokens: np.ndarray, start: np.ndarray, length: np.ndarray, *, first_leaf: np.ndarray, last_leaf: np.ndarray, depth: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut ranges of titles where the token at ``depth`` changes: range, first title and last title + 1 of each part."""
    sizes = last_leaf - first_leaf
    owner = np.repeat(np.arange(len(sizes)), sizes)
    leaf = np.arange(sizes.sum()) + np.repeat(first_leaf - (np.cumsum(sizes) - sizes), sizes)
    if (length[leaf] <= depth).any():
        raise ValueError("a title begins another one; the token that ends a title must be in no title")
    token = tokens[start[leaf] + depth]
    begins = np.append(True, (token[1:] != token[:-1]) | (owner[1:] != owner[:-1]))
    ends = np.append(begins[1:], True)
    return owner[begins], leaf[begins], leaf[ends] + 1
