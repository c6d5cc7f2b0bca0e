"""RecBole's metrics from lists of items: memory grows with users and k, not with users and items."""

from typing import Any

import torch
from recbole.evaluator import Collector

from recbole_gr.decoding.exclusion import contains
from recbole_gr.decoding.item_lists import SCORES_AT_ONCE, RankedLists, TopItems


class ListCollector(Collector):
    """RecBole's collector, which takes lists of items where it is given some instead of the scores of all."""

    @property
    def needs_whole_rows(self) -> bool:
        """Whether some metric is not content with the first of each ranking, as GAUC."""
        return any(self.register.need(name) for name in ("rec.meanrank", "rec.score"))

    def eval_batch_collect(
        self, scores_tensor: Any, interaction: Any, positive_u: torch.Tensor, positive_i: torch.Tensor
    ) -> None:
        """As RecBole's.

        A metric that needs more than the first of each ranking gets whole rows of scores, of a few users at a time.

        Args:
            scores_tensor: a :class:`~recbole_gr.decoding.item_lists.RankedLists`, ``TopItems``, or a tensor, as RecBole has it.
            interaction: the batch.
            positive_u, positive_i: int64 each, rows and items that are targets.
        """
        if not isinstance(scores_tensor, (RankedLists, TopItems)):
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            return
        lists, targets = scores_tensor, (positive_u, positive_i)
        if self.needs_whole_rows and isinstance(lists, RankedLists):
            for rows in torch.arange(len(lists), device=positive_u.device).split(max(1, SCORES_AT_ONCE // lists.n_items)):
                mine = (positive_u >= rows[0]) & (positive_u <= rows[-1])
                here = interaction[rows.to(interaction[self.config["ITEM_ID_FIELD"]].device)]
                whole = lists.whole_rows(rows, targets)
                super().eval_batch_collect(whole, here, positive_u[mine] - rows[0], positive_i[mine])
            return
        top = lists.top(max(self.topk), targets)
        if self.register.need("rec.items"):
            self.data_struct.update_tensor("rec.items", top)
        if self.register.need("rec.topk"):
            rows = torch.arange(len(top), device=top.device).unsqueeze(1)
            pairs = (positive_u * lists.n_items + positive_i).unique()
            hits = contains(pairs, rows * lists.n_items + top)
            counts = torch.bincount(pairs // lists.n_items, minlength=len(top))
            self.data_struct.update_tensor("rec.topk", torch.cat((hits.long(), counts.unsqueeze(1)), dim=1))
