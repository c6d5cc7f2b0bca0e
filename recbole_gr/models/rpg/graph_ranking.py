"""Ranking by a walk over a graph of similar semantic IDs, which follows the embeddings of their codes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recbole_gr.decoding.code_scores import CodeScores
from recbole_gr.decoding.item_graph import ItemGraph, Walk, build_graph
from recbole_gr.utils.cache import Artifact, cached, digest


@dataclass(frozen=True)
class GraphOptions:
    """The settings of the graph and the walk; those of the same names say what each is."""

    graph_neighbours: int
    graph_starts: int | None
    graph_steps: int
    graph_expand: int
    graph_check_users: int
    beam_size: int
    seed: int

    @classmethod
    def of(cls, config: Any) -> "GraphOptions":
        """From the merged settings."""
        return cls(**{name: config[name] for name in cls.__dataclass_fields__})


class GraphRanking:
    """Finds the best semantic IDs of users by a walk; the graph is made when it is first asked for, and anew for new embeddings.

    Args:
        options: of the graph and the walk.
        cache_dir: where graphs are kept; None keeps none.
        item_counts: int64 ``[n_items]``, how often an item occurs in the training part.
    """

    def __init__(self, options: GraphOptions, cache_dir: str | None, item_counts: np.ndarray) -> None:
        self.options, self.cache_dir, self.item_counts = options, cache_dir, item_counts
        self.made_of: torch.Tensor | None = None
        self.walk: Walk
        self.restart()

    def restart(self) -> None:
        """Restart what :meth:`report` counts."""
        self.users = self.scored = self.nodes = self.compared = self.found = self.to_find = 0

    def scores(
        self,
        tables: torch.Tensor,
        items: torch.Tensor,
        *,
        id_of_item: torch.Tensor,
        ids: CodeScores,
        embeddings: torch.Tensor,
    ) -> torch.Tensor:
        """Scores of the nodes that the walks of some users meet.

        Args:
            tables: float32 ``[users, m * codes]``, log-probabilities.
            items: int64 ``[users, t]``, the users' histories, 0 where there is none.
            id_of_item: int64 ``[n_items]``, the number of each item's semantic ID.
            ids: the nodes, distinct semantic IDs.
            embeddings: float32 ``[m, codes, d]``, of their codes.

        Returns:
            float32 ``[users, nodes]``, -inf for nodes that were not met.
        """
        if self.made_of is None or not torch.equal(self.made_of, embeddings):
            self.walk = self._walk(ids, embeddings, id_of_item)
            self.made_of = embeddings.detach().clone()
        scores = tables.new_full((len(tables), len(ids)), -torch.inf)
        known = torch.where(items > 0, id_of_item[items], -1)
        for part in torch.arange(len(tables), device=tables.device).split(self.walk.users_at_once):
            users, nodes, values = self.walk(tables[part], known[part])
            scores[part[users], nodes] = values
            self.scored += len(nodes)
        self.users, self.nodes = self.users + len(tables), len(ids)
        return scores

    def to_compare(self, users: int) -> int:
        """How many of so many further users are to be compared with their exact ranking."""
        return min(users, self.options.graph_check_users - self.compared)

    def compare(self, scores: torch.Tensor, exact: torch.Tensor, k: int) -> torch.Tensor:
        """Count how many of the k best items a walk has found.

        Args:
            scores: float32 ``[users, n_items]``, -inf for items that were not met, and for those that are excluded.
            exact: float32 ``[users, n_items]``, of all items but those excluded.
            k: length of the lists.

        Returns:
            bool ``[users]``, whose list is the exact one.
        """
        # an item of the same score is as good; the two sums may differ in their last digit
        last = exact.topk(k, dim=1).values[:, -1:]
        hits = (exact.gather(1, scores.topk(k, dim=1).indices) >= last).sum(dim=1)
        self.compared += len(scores)
        self.found += int(hits.sum())
        self.to_find += k * len(scores)
        return hits == k

    def report(self) -> dict[str, Any]:
        """What a record says of the walks since :meth:`restart`."""
        return {
            "users_compared": self.compared,
            "graph_recall": round(self.found / self.to_find, 6) if self.to_find else None,
            "scored_per_user": round((self.scored / max(1, self.users)) + len(self.walk.graph.starts), 1)
            if self.users
            else None,
            "distinct_ids": self.nodes,
        }

    def _walk(self, ids: CodeScores, embeddings: torch.Tensor, id_of_item: torch.Tensor) -> Walk:
        options = self.options
        counts = np.zeros(len(ids), dtype=np.int64)
        np.add.at(counts, id_of_item[1:].cpu().numpy(), self.item_counts[1:])
        m, n_codes, _ = embeddings.shape
        codes = ids.places.long().cpu() - torch.arange(m) * n_codes
        weights = embeddings.detach().float().cpu()

        def compute() -> Artifact:
            made = build_graph(codes, weights, options.graph_neighbours, options.graph_starts, options.seed, counts)
            return {"neighbours": made.neighbours.numpy(), "starts": made.starts.numpy()}, {}

        shaped_by = (codes.numpy(), weights.numpy(), options.graph_neighbours, options.graph_starts, options.seed, counts)
        arrays, _ = cached(self.cache_dir, "item_graph", digest("graph of items, 2", *shaped_by), compute)
        device = ids.places.device
        graph = ItemGraph(*(torch.from_numpy(arrays[name]).to(device) for name in ("neighbours", "starts")))
        return Walk(graph, ids, beam_size=options.beam_size, expand=options.graph_expand, steps=options.graph_steps)
