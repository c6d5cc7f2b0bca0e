"""The trainer of LLMasRS: trains what requires gradients, and says what to do when a GPU is too small."""

from collections.abc import Callable
from typing import Any

import torch
from recbole.config import Config

from recbole_gr.models.trainer import BeamSearchTrainer
from recbole_gr.utils.errors import explain_out_of_memory

#: Where ``learning_rate`` is not set, by ``tuning``.
LEARNING_RATES = {"full": 0.002, "lora": 0.0002, "frozen": 0.0002}


class LLMasRSTrainer(BeamSearchTrainer):
    """The trainer of a language model: trains what requires gradients, and says what to do when a GPU is too small."""

    def __init__(self, config: Config, model: Any) -> None:
        if config["learning_rate"] is None:
            config["learning_rate"] = LEARNING_RATES[model.tuning]
        super().__init__(config, model)

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        self.trains = bool(self.trained_parameters())
        if not self.trains:  # an optimizer must have something; a frozen model gives it nothing
            kwargs["params"] = [torch.nn.Parameter(torch.zeros(1))]
        return super()._build_optimizer(**kwargs)

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[..., Any] | None = None,
    ) -> Any:
        """As RecBole's; a frozen model is only validated."""
        if self.trains:
            return super().fit(train_data, valid_data, verbose, saved, show_progress, callback_fn)
        self.logger.info("tuning=frozen: the language model is used as it is, nothing is trained")
        self.eval_collector.data_collect(train_data)
        self.start_schedule(train_data)
        if saved:
            self._save_checkpoint(-1, verbose=verbose)
        if valid_data:
            self.best_valid_score, self.best_valid_result = self._valid_epoch(valid_data, show_progress=show_progress)
        return self.best_valid_score, self.best_valid_result

    def valid_sample(self, valid_data: Any) -> Any:
        """As of other models; a frozen one is validated once, on all users."""
        return super().valid_sample(valid_data) if self.trains else valid_data

    def _train_epoch(self, *args: Any, **kwargs: Any) -> Any:
        batch = self.config["train_batch_size"]
        advice = (
            "in training, raise gradient_accumulation, set gradient_checkpointing=True, or lower this or prompt_max_tokens"
        )
        with explain_out_of_memory("train_batch_size", batch, advice):
            return super()._train_epoch(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As RecBole's; where a GPU is too small, the error says what to do."""
        advice = "in decoding, lower this or prompt_max_tokens, or set beam_certify=False"
        with explain_out_of_memory("eval_batch_size", self.config["eval_batch_size"], advice):
            return super().evaluate(*args, **kwargs)

    def set_reduce_hook(self) -> None:
        """Processes average their gradients in the next backward pass; before the last one of a batch they must not."""
        self.model.before_last_part = super().set_reduce_hook

    def sync_grad_loss(self) -> Any:
        """As RecBole's, without a pass over the weights of a frozen language model."""
        return sum(parameter.sum() * 0 for parameter in self.model.parameters() if parameter.requires_grad)
