"""What differs from RecBole's Trainer, and no more: how weights are trained and averaged, and an exact top-k of beams."""

import math
from collections.abc import Callable
from typing import Any

import torch
from recbole.config import Config
from recbole.trainer import Trainer
from recbole.utils import calculate_valid_score, dict2str

from recbole_gr.data.user_sample import count_users, sample_of_users
from recbole_gr.decoding.tie_breaking import order_within_leaves
from recbole_gr.models.optimization import parameter_groups, with_one_kernel
from recbole_gr.models.schedule import LearningRateSchedule, Plan
from recbole_gr.models.weight_average import WeightAverage
from recbole_gr.utils.devices import LossOnDevice

#: Training steps on a GPU after which it is looked whether the loss is still a number.
STEPS_BETWEEN_CHECKS = 100


class BeamSearchTrainer(Trainer):
    """RecBole's trainer for models that find their ranking by a beam search.

    With ``weight_ema_decay`` it is the average of the weights that is validated, tested and saved as the best checkpoint; the weights
    themselves are trained on, and are what the model has between these.
    """

    #: Users that ``valid_users`` leaves for early stopping, and those of the result; None: all users in both.
    valid_users: dict[str, int] | None = None
    best_valid_result: Any

    def __init__(self, config: Config, model: Any) -> None:
        super().__init__(config, model)
        decay = config["weight_ema_decay"] or 0.0  # which a Config of an old checkpoint does not have
        self.average = WeightAverage(dict(self.trained_parameters()), decay)
        self.optimizer.register_step_post_hook(lambda *_: self.average.update())

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        """As RecBole's; ``weight_decay`` is for matrices and embeddings (:func:`~recbole_gr.models.optimization.decays`)."""
        kwargs.setdefault("params", parameter_groups(self.trained_parameters()))
        optimizer = super()._build_optimizer(**kwargs)
        return with_one_kernel(optimizer) if self.device.type in ("cpu", "cuda") else optimizer

    def trained_parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        """The parameters that training changes, by name."""
        return [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]

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

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[..., Any] | None = None,
    ) -> Any:
        """As RecBole's, with the schedule of the learning rate; early stopping may look at a sample of users only.

        Returns:
            tuple: the best validation score and its metrics. With ``valid_users`` they are measured once more at the end, on all
            users with the best checkpoint; where none is saved they are those of the sample.
        """
        self.start_schedule(train_data)
        sample = self.valid_sample(valid_data)
        if sample is not valid_data:
            self.valid_users = dict.fromkeys(("in_training", "in_result"), count_users(sample))
            self.logger.info(
                f"early stopping looks at {count_users(sample)} of {count_users(valid_data)} users (valid_users)"
            )
        super().fit(train_data, sample, verbose, saved, show_progress, callback_fn)
        if saved:
            self.validate_best(valid_data, show_progress)
        return self.best_valid_score, self.best_valid_result

    def valid_sample(self, valid_data: Any) -> Any:
        """What is validated during training: a loader over ``valid_users`` of the users, else the data themselves."""
        n_users = self.config["valid_users"]
        return sample_of_users(valid_data, n_users, self.config["seed"]) if valid_data and n_users else valid_data

    def validate_best(self, valid_data: Any, show_progress: bool = False) -> None:
        """If only a sample of the users was validated, measure the best checkpoint on all, as the result to be reported."""
        sample = self.valid_sample(valid_data)
        if sample is valid_data or not self.best_valid_result:
            return
        self.best_valid_result = self._evaluate_best(valid_data, show_progress)
        self.best_valid_score = calculate_valid_score(self.best_valid_result, self.valid_metric)
        self.valid_users = {"in_training": count_users(sample), "in_result": count_users(valid_data)}
        self.logger.info(f"valid result of the best epoch, all users: {dict2str(self.best_valid_result)}")

    def start_schedule(self, train_data: Any) -> None:
        """Make the learning-rate schedule, whose length the training data decides, if it is not there yet."""
        if not hasattr(self, "schedule"):
            plan = Plan(
                self.config["schedule"],
                self.config["warmup_steps"],
                total_steps=self.epochs * len(train_data),
                final=self.config["final_learning_rate"] or 0.0,  # which a Config of an old checkpoint does not have
            )
            self.schedule = LearningRateSchedule(self.optimizer, plan)

    def _valid_epoch(self, *args: Any, **kwargs: Any) -> Any:
        with self.model.validating(self.config):
            return super()._valid_epoch(*args, **kwargs)

    def _evaluate_best(self, valid_data: Any, show_progress: bool) -> Any:
        with self.model.validating(self.config):
            return self.evaluate(valid_data, show_progress=show_progress)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with self.average.in_place():
            super()._save_checkpoint(*args, **kwargs)

    @torch.no_grad()
    def evaluate(
        self, eval_data: Any, load_best_model: bool = True, model_file: str | None = None, show_progress: bool = False
    ) -> Any:
        """As RecBole's, with the averaged weights where there are some; a log line says how many rankings are certified."""
        self.model.reset_certificates()
        if load_best_model and eval_data:
            self.average.restart()  # from here on the model's weights are those of the checkpoint
        with self.average.in_place():
            result = super().evaluate(eval_data, load_best_model, model_file, show_progress)
        if self.model.certificates["users"]:
            self.logger.info(self.model.what_was_proven())
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
