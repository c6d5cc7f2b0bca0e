"""What differs from RecBole's Trainer, and no more: the learning-rate schedule, and an exact top-k of beam searches."""

import math

import torch
from recbole.trainer import Trainer
from torch.optim.lr_scheduler import LambdaLR

from recbole_gr.decoding.tie_breaking import order_within_leaves

SCHEDULES = {
    "constant": lambda step, warmup, total: 1.0,
    "cosine": lambda step, warmup, total: 0.5 * (1 + math.cos(math.pi * min(1, (step - warmup) / max(1, total - warmup)))),
    "inverse_sqrt": lambda step, warmup, total: math.sqrt(max(1, warmup) / max(1, step)),
}


def learning_rate_schedule(optimizer, kind, warmup_steps, total_steps):
    """A linear warm-up to the optimizer's learning rate, then ``constant``, ``cosine`` to 0, or ``inverse_sqrt``.

    The schedule steps by itself after every step of the optimizer.

    Returns:
        torch.optim.lr_scheduler.LambdaLR
    """
    after_warmup = SCHEDULES[kind]

    def factor(step):
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return after_warmup(step, warmup_steps, total_steps)

    schedule = LambdaLR(optimizer, factor)
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    return schedule


class BeamSearchTrainer(Trainer):
    """RecBole's trainer for models that find their ranking by a beam search."""

    def fit(self, train_data, *args, **kwargs):
        self.start_schedule(train_data)
        return super().fit(train_data, *args, **kwargs)

    def start_schedule(self, train_data):
        """Make the learning-rate schedule, whose length the training data decides, if it is not there yet."""
        if not hasattr(self, "schedule"):
            total_steps = self.epochs * len(train_data)
            self.schedule = learning_rate_schedule(
                self.optimizer, self.config["schedule"], self.config["warmup_steps"], total_steps
            )

    def _valid_epoch(self, *args, **kwargs):
        """Validation during training ranks by the plain beam: a model that knows little would need very wide ones."""
        certify, self.model.beam_certify = self.model.beam_certify, False
        try:
            return super()._valid_epoch(*args, **kwargs)
        finally:
            self.model.beam_certify = certify

    @torch.no_grad()
    def evaluate(self, *args, **kwargs):
        self.model.reset_certificates()
        result = super().evaluate(*args, **kwargs)
        seen = self.model.certificates
        if seen["users"]:
            self.logger.info(
                f"rankings proven equal to scoring every item in {self.model.precision}: "
                f"{seen['certified']} of {seen['users']} users "
                f"({seen['certified_by_first_search']} with beam_size {self.config['beam_size']})"
            )
        return result

    def _full_sort_batch_eval(self, batched_data):
        """As RecBole, but a target that no beam reached is the last of all.

        RecBole takes the k largest scores of each row; in a row with fewer than k items found it would fill up with
        items of score -inf, the target perhaps among them, and count a hit that nobody recommended.
        """
        self.model.seen = batched_data[1]
        interaction, scores, positive_u, positive_i = super()._full_sort_batch_eval(batched_data)
        self.model.seen = None
        missed = scores[positive_u, positive_i] == -torch.inf
        scores.clamp_(min=torch.finfo(scores.dtype).min)
        scores[positive_u[missed], positive_i[missed]] = -torch.inf
        return interaction, self._told_apart(scores), positive_u, positive_i

    def _neg_sample_batch_eval(self, batched_data):
        interaction, scores, positive_u, positive_i = super()._neg_sample_batch_eval(batched_data)
        if scores.dim() == 2:  # rankings; the scores of single interactions, for AUC and the like, stay as they are
            scores = self._told_apart(scores)
        return interaction, scores, positive_u, positive_i

    def _told_apart(self, scores):
        """Items that share an ID have one score; their stated order decides, not the evaluator's sort."""
        return order_within_leaves(scores, self.model.leaf_ranks) if self.model.leaf_ranks.any() else scores
