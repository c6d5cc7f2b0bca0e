"""The trainer of models that find their ranking by a beam search: an exact top-k of beams."""

from typing import Any

import torch
from recbole.config import Config
from recbole.evaluator import Collector

from recbole_gr.decoding.exclusion import contains
from recbole_gr.decoding.item_lists import SCORES_AT_ONCE, RankedLists
from recbole_gr.decoding.tie_breaking import order_within_leaves
from recbole_gr.models.history_trainer import HistoryTrainer


class ListCollector(Collector):
    """RecBole's collector, which takes lists of items where it is given some instead of the scores of all."""

    def eval_batch_collect(
        self, scores_tensor: Any, interaction: Any, positive_u: torch.Tensor, positive_i: torch.Tensor
    ) -> None:
        """As RecBole's.

        A metric that needs more than the first of each ranking gets whole rows of scores, of a few users at a time.

        Args:
            scores_tensor: a :class:`~recbole_gr.decoding.item_lists.RankedLists`, or a tensor, as RecBole has it.
            interaction: the batch.
            positive_u, positive_i: int64 each, rows and items that are targets.
        """
        if not isinstance(scores_tensor, RankedLists):
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            return
        lists, targets = scores_tensor, (positive_u, positive_i)
        if any(self.register.need(name) for name in ("rec.meanrank", "rec.score")):
            for rows in torch.arange(len(lists), device=positive_u.device).split(
                max(1, SCORES_AT_ONCE // lists.lists.n_items)
            ):
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
            pairs = (positive_u * lists.lists.n_items + positive_i).unique()
            hits = contains(pairs, rows * lists.lists.n_items + top)
            counts = torch.bincount(pairs // lists.lists.n_items, minlength=len(top))
            self.data_struct.update_tensor("rec.topk", torch.cat((hits.long(), counts.unsqueeze(1)), dim=1))


class BeamSearchTrainer(HistoryTrainer):
    """The trainer for models that find their ranking by a beam search."""

    def __init__(self, config: Config, model: Any) -> None:
        super().__init__(config, model)
        self.eval_collector = ListCollector(config)

    def _valid_epoch(self, *args: Any, **kwargs: Any) -> Any:
        with self.model.validating(self.config):
            return super()._valid_epoch(*args, **kwargs)

    def _evaluate_best(self, valid_data: Any, show_progress: bool) -> Any:
        with self.model.validating(self.config):
            return super()._evaluate_best(valid_data, show_progress)

    @torch.no_grad()
    def evaluate(
        self, eval_data: Any, load_best_model: bool = True, model_file: str | None = None, show_progress: bool = False
    ) -> Any:
        """As that of :class:`HistoryTrainer`; a log line says how many rankings are certified."""
        self.model.expect(len(eval_data._dataset) if eval_data else 0)
        result = super().evaluate(eval_data, load_best_model, model_file, show_progress)
        self.model.count_of_all()
        if self.model.certificates["users"]:
            self.logger.info(self.model.what_was_proven())
        return result

    def _full_sort_batch_eval(self, batched_data: Any) -> tuple[Any, RankedLists, torch.Tensor, torch.Tensor]:
        """As RecBole, but seen items are not searched for, a target that no beam reached is the last of all, and instead of the
        scores of all items there are lists of those that were found, for :class:`ListCollector`.
        """
        # a loader's tensors lie on the CPU; what indexes the scores, and is indexed by them, lies where they do
        interaction, seen, positive_u, positive_i = batched_data
        positive_u, positive_i = positive_u.to(self.device), positive_i.to(self.device)
        seen = None if seen is None else tuple(index.to(self.device) for index in seen)
        lists = self.model.ranked(interaction.to(self.device), seen, max(self.config["topk"]))
        return interaction, lists, positive_u, positive_i

    def _neg_sample_batch_eval(self, batched_data: Any) -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor]:
        interaction, scores, positive_u, positive_i = super()._neg_sample_batch_eval(batched_data)
        if scores.dim() == 2:  # rankings; the scores of single interactions, for AUC and the like, stay as they are
            scores = self._break_ties(scores)
        return interaction, scores, positive_u, positive_i

    def _break_ties(self, scores: torch.Tensor) -> torch.Tensor:
        """Items that share an ID have one score; their stated order decides, not the evaluator's sort."""
        return order_within_leaves(scores, self.model.leaf_ranks) if self.model.leaf_ranks.any() else scores
