"""The trainer of models that find their ranking by a beam search: an exact top-k of beams."""

from typing import Any

import torch

from recbole_gr.decoding.tie_breaking import order_within_leaves
from recbole_gr.models.history_trainer import HistoryTrainer


class BeamSearchTrainer(HistoryTrainer):
    """The trainer for models that find their ranking by a beam search."""

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

    def _neg_sample_batch_eval(self, batched_data: Any) -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor]:
        interaction, scores, positive_u, positive_i = super()._neg_sample_batch_eval(batched_data)
        if scores.dim() == 2:  # rankings; the scores of single interactions, for AUC and the like, stay as they are
            scores = self._break_ties(scores)
        return interaction, scores, positive_u, positive_i

    def _break_ties(self, scores: torch.Tensor) -> torch.Tensor:
        """Items that share an ID have one score; their stated order decides, not the evaluator's sort."""
        return order_within_leaves(scores, self.model.leaf_ranks) if self.model.leaf_ranks.any() else scores
