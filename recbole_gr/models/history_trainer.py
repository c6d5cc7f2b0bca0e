"""What differs from RecBole's Trainer, and no more, for all networks of ours: how weights are trained and averaged."""

import math
from collections.abc import Callable
from typing import Any

import torch
from recbole.config import Config
from recbole.trainer import Trainer
from recbole.utils import calculate_valid_score, dict2str

from recbole_gr.data.user_sample import count_users, sample_of_users
from recbole_gr.models.list_collector import ListCollector
from recbole_gr.models.optimization import parameter_groups, with_one_kernel
from recbole_gr.models.schedule import LearningRateSchedule, Plan
from recbole_gr.models.weight_average import WeightAverage
from recbole_gr.utils.devices import LossOnDevice

#: Training steps on a GPU after which it is looked whether the loss is still a number.
STEPS_BETWEEN_CHECKS = 100


class HistoryTrainer(Trainer):
    """RecBole's trainer for the models of :class:`~recbole_gr.models.history_recommender.HistoryRecommender`.

    With ``weight_ema_decay`` it is the average of the weights that is validated, tested and saved as the best checkpoint; the weights
    themselves are trained on, and are what the model has between these.
    """

    #: Users that ``valid_users`` leaves for early stopping, and those of the result; None: all users in both.
    valid_users: dict[str, int] | None = None
    best_valid_result: Any

    def __init__(self, config: Config, model: Any) -> None:
        super().__init__(config, model)
        if not config["single_spec"]:
            self.distributed_model.broadcast_buffers = False  # codes, tries, vectors: the same everywhere, and so they stay
        self.eval_collector = ListCollector(config)
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

    def _evaluate_best(self, valid_data: Any, show_progress: bool) -> Any:
        return self.evaluate(valid_data, show_progress=show_progress)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with self.average.in_place():
            super()._save_checkpoint(*args, **kwargs)

    @torch.no_grad()
    def evaluate(
        self, eval_data: Any, load_best_model: bool = True, model_file: str | None = None, show_progress: bool = False
    ) -> Any:
        """As RecBole's, with the averaged weights where there are some."""
        if load_best_model and eval_data:
            self.average.restart()  # from here on the model's weights are those of the checkpoint
        with self.average.in_place():
            return super().evaluate(eval_data, load_best_model, model_file, show_progress)

    def _full_sort_batch_eval(self, batched_data: Any) -> tuple[Any, Any, torch.Tensor, torch.Tensor]:
        """As RecBole, but seen items are not searched for, a target that no beam reached is the last of all, and instead of the
        scores of all items there are lists of those that were found, for :class:`~recbole_gr.models.list_collector.ListCollector`.
        """
        # a loader's tensors lie on the CPU; what indexes the scores, and is indexed by them, lies where they do
        interaction, seen, positive_u, positive_i = batched_data
        positive_u, positive_i = positive_u.to(self.device), positive_i.to(self.device)
        seen = None if seen is None else tuple(index.to(self.device) for index in seen)
        if not self.model.gives_lists(self.eval_collector.needs_whole_rows):
            return super()._full_sort_batch_eval((interaction, seen, positive_u, positive_i))
        lists = self.model.ranked(interaction.to(self.device), seen, max(self.config["topk"]))
        return interaction, lists, positive_u, positive_i
