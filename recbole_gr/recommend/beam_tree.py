"""The beams of one user as a tree: which prefixes of semantic IDs went on, which were pruned, and where each is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from recbole_gr.decoding.beam_search import Expansion, beam_search

#: Beams of the search that is drawn, and pruned prefixes that each level shows: as many as a picture holds.
BEAMS, PRUNED_SHOWN = 8, 6

#: Of the picture, in pixels.
COLUMN, ROW, MARGIN, LAST_COLUMN = 150, 24, 16, 340


@dataclass
class Prefix:
    """A node of the tree.

    Args:
        code: the last code of the prefix; None at the root.
        log_probability: of the prefix.
        kept: whether the search went on with it.
        item: of a complete ID, the item; 0 where it is no item's, or none yet.
        children: in the order of their log-probabilities.
        x, y: where it is drawn.
    """

    code: int | None
    log_probability: float
    kept: bool
    item: int = 0
    children: list[Prefix] = field(default_factory=list)
    x: int = 0
    y: int = 0


@dataclass(frozen=True)
class Drawing:
    """A tree in its place.

    Args:
        prefixes: all nodes, the root first.
        lines: pairs of a node and its child.
        width, height: in pixels.
        beams: of the search.
    """

    prefixes: list[Prefix]
    lines: list[tuple[Prefix, Prefix]]
    width: int
    height: int
    beams: int


@torch.no_grad()
def draw_beams(
    model: Any,
    interaction: Any,
    excluded: tuple[torch.Tensor, torch.Tensor] | None = None,
    allowed: torch.Tensor | None = None,
    *,
    beams: int = BEAMS,
) -> Drawing:
    """Search once more for one user, with few beams, and draw what was found and pruned.

    Args:
        model: a :class:`~recbole_gr.models.semantic_id.SemanticIDRecommender`.
        interaction: one history.
        excluded: rows (all 0) and items, int64 each, that are not recommended.
        allowed: bool ``[n_items]``, what may be recommended; None: all.
        beams: of the search.
    """
    row = torch.zeros(1, dtype=torch.int64, device=model.device)
    none = row[:0], row[:0]
    seen = none if excluded is None else (excluded[0].to(model.device), excluded[1].to(model.device))
    allowed = None if allowed is None else allowed.to(model.device)
    steps: list[Expansion] = []
    with model.autocast():
        decoder = model.start_decoding(interaction.to(model.device), row)
        without = model.trie.exclusion(1, seen, allowed)
        beam_search(decoder, model.trie, beams, constrained=model.constrained, excluded=without, watch=steps.append)
    may = torch.ones(model.trie.n_items, dtype=torch.bool, device=model.device) if allowed is None else allowed.clone()
    may[seen[1]] = False
    return _drawing(_tree(steps, model.trie, may, model.leaf_ranks), len(steps), beams)


def _tree(steps: Sequence[Expansion], trie: Any, may: torch.Tensor, leaf_ranks: torch.Tensor) -> Prefix:
    root = Prefix(None, 0.0, True)
    here: list[Prefix | None] = [root]
    for step in steps:
        is_last = step is steps[-1]
        scores = step.scores[0].flatten().float().cpu().numpy()
        width = step.scores.shape[-1]
        nodes = step.nodes[0].flatten().tolist()
        codes = np.tile(np.arange(width), len(here)) if step.codes is None else step.codes[0].flatten().cpu().numpy()
        kept = step.kept[0].tolist()
        best = np.argsort(-scores, kind="stable")[: len(kept) + PRUNED_SHOWN]
        pruned = [place for place in best.tolist() if place not in kept][:PRUNED_SHOWN]
        following: list[Prefix | None] = []
        for place in [*kept, *pruned]:
            parent = here[place // width]
            made = None
            if parent is not None and scores[place] > -np.inf:
                item = _item_of(nodes[place], trie, may, leaf_ranks) if is_last else 0
                made = Prefix(int(codes[place]), float(scores[place]), place in kept, item)
                parent.children.append(made)
            following.append(made)
        here = following[: len(kept)]
    return root


def _item_of(leaf: int, trie: Any, may: torch.Tensor, leaf_ranks: torch.Tensor) -> int:
    """Of the items with an ID that may be recommended, the first."""
    if leaf < 0:
        return 0
    items = trie.items[int(trie.first_item[leaf]) : int(trie.first_item[leaf + 1])]
    items = items[may[items]]
    return int(items[leaf_ranks[items].argmin()]) if len(items) else 0


def _drawing(root: Prefix, depth: int, beams: int) -> Drawing:
    """Leaves below each other, every other prefix in the middle of what follows it."""
    prefixes: list[Prefix] = []
    lines: list[tuple[Prefix, Prefix]] = []
    rows = 0

    def place(prefix: Prefix, level: int) -> None:
        nonlocal rows
        prefixes.append(prefix)
        prefix.x = MARGIN + level * COLUMN
        prefix.children.sort(key=lambda child: -child.log_probability)
        if not prefix.children:
            prefix.y = MARGIN + rows * ROW
            rows += 1
            return
        for child in prefix.children:
            lines.append((prefix, child))
            place(child, level + 1)
        prefix.y = (prefix.children[0].y + prefix.children[-1].y) // 2

    place(root, 0)
    return Drawing(prefixes, lines, 2 * MARGIN + depth * COLUMN + LAST_COLUMN, 2 * MARGIN + rows * ROW, beams)
