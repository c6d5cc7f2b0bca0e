"""The trainer of IDGenRec: the recommender and the ID generator in turns."""

from dataclasses import dataclass
from typing import Any

import torch
from recbole.config import Config

from recbole_gr.models.optimization import parameter_groups
from recbole_gr.models.trainer import BeamSearchTrainer

GENERATOR = "generator."


@dataclass(frozen=True)
class Turns:
    """Which part an epoch trains.

    A round is epochs of the recommender, then ``generator_epochs`` of the ID generator; the last round is the recommender's
    alone. The recommender's epochs are divided as evenly as can be, the first rounds have what is left over.

    Args:
        epochs: of the training.
        rounds: how many.
        generator_epochs: of each round but the last.
    """

    epochs: int
    rounds: int
    generator_epochs: int

    def of(self, epoch: int) -> tuple[int, bool, bool]:
        """The round of an epoch, whether it trains the ID generator, and whether it is the last of its round; counted from 0."""
        for number, end in enumerate(self._ends()):
            if epoch < end:
                of_generator = number < self.rounds - 1 and epoch >= end - self.generator_epochs
                return number, of_generator, epoch == end - 1
        return self.rounds - 1, False, False

    def _ends(self) -> list[int]:
        of_recommender = self.epochs - (self.rounds - 1) * self.generator_epochs
        ends, end = [], 0
        for number in range(self.rounds):
            end += of_recommender // self.rounds + (number < of_recommender % self.rounds)
            end += self.generator_epochs * (number < self.rounds - 1)
            ends.append(end)
        return ends


class IDGenRecTrainer(BeamSearchTrainer):
    """Trains the recommender with the IDs as they are, then the ID generator through the frozen recommender, and so on."""

    def __init__(self, config: Config, model: Any) -> None:
        super().__init__(config, model)
        self.turns = Turns(config["epochs"], config["rounds"], config["generator_epochs"])

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        """As of other models; the ID generator has a learning rate of its own."""
        named = self.trained_parameters()
        of_generator = [(name, parameter) for name, parameter in named if name.startswith(GENERATOR)]
        rest = [(name, parameter) for name, parameter in named if not name.startswith(GENERATOR)]
        rate = {"lr": self.config["generator_learning_rate"]}
        groups = [*parameter_groups(rest), *({**group, **rate} for group in parameter_groups(of_generator))]
        return super()._build_optimizer(params=groups, **kwargs)

    def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
        number, of_generator, is_last = self.turns.of(epoch_idx)
        self.model.train_part(of_generator)
        if self.turns.rounds > 1:
            trained, frozen = ("ID generator", "recommender") if of_generator else ("recommender", "ID generator")
            self.logger.info(f"round {number + 1} of {self.turns.rounds}: training the {trained}, the {frozen} is frozen")
        loss = super()._train_epoch(train_data, epoch_idx, *args, **kwargs)
        if of_generator:
            self.model.train_part(False)  # what is validated reads whole words
            if is_last:
                changed = self.model.make_ids_anew()
                self.logger.info(
                    f"the ID generator wrote all IDs anew: {changed} of {self.model.n_items - 1} are other ones"
                )
        return loss
