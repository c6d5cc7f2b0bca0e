"""What differs from RecBole's Trainer, and no more: the learning-rate schedule, and an exact top-k of beam searches."""

import math
from collections.abc import Callable
from typing import Any

import torch
from recbole.trainer import Trainer
from torch.optim.lr_scheduler import LambdaLR

from recbole_gr.decoding.tie_breaking import order_within_leaves
from recbole_gr.utils.devices import LossOnDevice

SCHEDULES: dict[str, Callable[[int, int, int], float]] = {
    "constant": lambda step, warmup, total: 1.0,
    "cosine": lambda step, warmup, total: 0.5 * (1 + math.cos(math.pi * min(1, (step - warmup) / max(1, total - warmup)))),
    "inverse_sqrt": lambda step, warmup, total: math.sqrt(max(1, warmup) / max(1, step)),
}


def learning_rate_schedule(optimizer: torch.optim.Optimizer, kind: str, warmup_steps: int, total_steps: int) -> LambdaLR:
    """A linear warm-up to the optimizer's learning rate, then ``constant``, ``cosine`` to 0, or ``inverse_sqrt``.

    The schedule steps by itself after every step of the optimizer.
    """
    after_warmup = SCHEDULES[kind]

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return after_warmup(step, warmup_steps, total_steps)

    schedule = LambdaLR(optimizer, factor)
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    return schedule


#: Training steps on a GPU after which it is looked whether the loss is still a number.
STEPS_BETWEEN_CHECKS = 100


class BeamSearchTrainer(Trainer):
    """RecBole's trainer for models that find their ranking by a beam search."""

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        """As RecBole's; on a GPU all parameters are updated by one kernel, where a CPU keeps its order of operations."""
        optimizer = super()._build_optimizer(**kwargs)
        if self.device.type != "cuda" or type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW):
            return optimizer
        (group,) = optimizer.param_groups
        return type(optimizer)(group["params"], lr=group["lr"], weight_decay=group["weight_decay"], fused=True)

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Callable[..., Any] | None = None, show_progress: bool = False
    ) -> Any:
        """As RecBole's, but a GPU is not made to wait for the value of every loss.

        Raises:
            ValueError: the loss is not a number; on a GPU up to :data:`STEPS_BETWEEN_CHECKS` steps later.
        """
        if self.device.type == "cpu":
            return super()._train_epoch(train_data, epoch_idx, loss_func, show_progress)
        calculate_loss = loss_func or self.model.calculate_loss
        self._unchecked_losses: list[torch.Tensor] = []
        summed = super()._train_epoch(
            train_data, epoch_idx, lambda batch: LossOnDevice(calculate_loss(batch)), show_progress
        )
        summed = float(summed)
        if math.isnan(summed):
            raise ValueError("Training loss is nan")
        return summed

    def _check_nan(self, loss: Any) -> None:
        if not isinstance(loss, LossOnDevice):
            return super()._check_nan(loss)
        self._unchecked_losses.append(loss.item())
        if len(self._unchecked_losses) == STEPS_BETWEEN_CHECKS:
            super()._check_nan(torch.stack(self._unchecked_losses).sum())
            self._unchecked_losses.clear()

    def fit(self, train_data: Any, *args: Any, **kwargs: Any) -> Any:
        """As RecBole's, with the schedule of the learning rate."""
        self.start_schedule(train_data)
        return super().fit(train_data, *args, **kwargs)

    def start_schedule(self, train_data: Any) -> None:
        """Make the learning-rate schedule, whose length the training data decides, if it is not there yet."""
        if not hasattr(self, "schedule"):
            total_steps = self.epochs * len(train_data)
            self.schedule = learning_rate_schedule(
                self.optimizer, self.config["schedule"], self.config["warmup_steps"], total_steps
            )

    def _valid_epoch(self, *args: Any, **kwargs: Any) -> Any:
        """Validation during training ranks by the plain beam: a model that knows little would need very wide ones."""
        certify, self.model.beam_certify = self.model.beam_certify, False
        try:
            return super()._valid_epoch(*args, **kwargs)
        finally:
            self.model.beam_certify = certify

    @torch.no_grad()
    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As RecBole's; a log line says how many rankings are certified."""
        self.model.reset_certificates()
        result = super().evaluate(*args, **kwargs)
        seen = self.model.certificates
        if seen["users"]:
            self.logger.info(
                f"{self.model.certified_lists} proven equal to scoring every item in {self.model.precision}: "
                f"{seen['certified']} of {seen['users']} users "
                f"({seen['certified_by_first_search']} with beam_size {self.config['beam_size']})"
            )
        return result

    def _full_sort_batch_eval(self, batched_data: Any) -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor]:
        """As RecBole, but seen items are not searched for, and a target that no beam reached is the last of all.

        RecBole takes the k largest scores of each row; in a row with fewer than k items found it would fill up with
        items of score -inf, the target perhaps among them, and count a hit that nobody recommended.
        """
        # a loader's tensors lie on the CPU; what indexes the scores, and is indexed by them, lies where they do
        interaction, seen, positive_u, positive_i = batched_data
        positive_u, positive_i = positive_u.to(self.device), positive_i.to(self.device)
        seen = None if seen is None else tuple(index.to(self.device) for index in seen)
        scores = self.model.rank(interaction.to(self.device), seen)
        if seen is not None:
            scores[seen] = -torch.inf  # an ID that a seen item shares with another one has a score
        missed = scores[positive_u, positive_i] == -torch.inf
        scores.clamp_(min=torch.finfo(scores.dtype).min)
        scores[positive_u[missed], positive_i[missed]] = -torch.inf
        return interaction, self._break_ties(scores), positive_u, positive_i

    def _neg_sample_batch_eval(self, batched_data: Any) -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor]:
        interaction, scores, positive_u, positive_i = super()._neg_sample_batch_eval(batched_data)
        if scores.dim() == 2:  # rankings; the scores of single interactions, for AUC and the like, stay as they are
            scores = self._break_ties(scores)
        return interaction, scores, positive_u, positive_i

    def _break_ties(self, scores: torch.Tensor) -> torch.Tensor:
        """Items that share an ID have one score; their stated order decides, not the evaluator's sort."""
        return order_within_leaves(scores, self.model.leaf_ranks) if self.model.leaf_ranks.any() else scores
