"""What a run will cost, by a few of its steps with an untrained model: seconds per run, for a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from time import process_time
from typing import Any

import torch

from recbole_gr.data.dataloader import TrainingBatch
from recbole_gr.experiment.check_only import before_training
from recbole_gr.experiment.flops import backward_step, flops_of_step
from recbole_gr.models.registry import keys_of_model

#: Seconds of a step above which a part of a batch stands for it: a large model computes at the same rate.
LONG_STEP = 3.0

#: A batch's share that is tried first, and users that are ranked.
PART = 16
USERS = 32

#: Steps that are timed, for batches of an epoch differ in length.
STEPS = 2


@dataclass(frozen=True)
class Cost:
    """What a run costs on this machine, early stopping left out.

    Args:
        parameters: that are trained.
        flops: of the training.
        training: CPU seconds of all epochs.
        evaluation: CPU seconds of validations and test, without what certificates cost.
        start: CPU seconds of imports, data and model; what is encoded or trained before the model is left out.
    """

    parameters: int
    flops: float
    training: float
    evaluation: float
    start: float

    @property
    def seconds(self) -> float:
        """CPU seconds of the run."""
        return self.training + self.evaluation + self.start


#: CPU seconds of a process before it reads data: imports of torch, RecBole and transformers.
IMPORTS = 6.0


def probe(model: str | type, dataset: str, config_dict: Mapping[str, Any]) -> Cost:
    """Make the model of a run, take a few steps with it and rank a few users, and scale that to the whole run.

    Args:
        model: as for :func:`recbole_gr.experiment.run.run`.
        dataset: as for :func:`recbole_gr.experiment.run.run`.
        config_dict: settings.

    Raises:
        RecBoleGRError: a setting or a file cannot work.
        Exception: whatever a model of RecBole raises for a value that it cannot take.
    """
    began = process_time()
    certify = {"beam_certify": False} if "beam_certify" in _keys(model) else {}
    with before_training(model, dataset, {**config_dict, **certify}) as (config, loaders, network):
        start = process_time() - began
        train, valid, test = loaders
        trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
        seconds, flops = _epoch(network, train, config["device"]) if trained else (0.0, 0.0)
        return Cost(
            parameters=trained,
            flops=flops * config["epochs"],
            training=seconds * config["epochs"],
            evaluation=_seconds_per_user(network, test, config["device"]) * _rankings(config, valid, test),
            start=IMPORTS + start,
        )


def _keys(model: str | type) -> set[str]:
    return set(keys_of_model(model)) if isinstance(model, str) else set()


def _epoch(network: Any, train: Any, device: Any) -> tuple[float, float]:
    """CPU seconds and floating-point operations of an epoch."""
    seconds, flops = [], []
    for batch in islice(train, STEPS):
        batch = batch.to(device)
        rows = len(batch)
        part = batch[: max(1, rows // PART)]
        if isinstance(batch, TrainingBatch):  # histories of one width stay so
            part = TrainingBatch.of(part)
        _step(network, part)  # what is made once is made
        of_part = _timed(partial(_step, network, part))
        share = rows / len(part)
        if of_part * share > LONG_STEP:
            seconds.append(of_part * share)
        else:
            seconds.append(_timed(partial(_step, network, batch)))
        flops.append(flops_of_step(network, part) * share)
    return _mean(seconds) * len(train), _mean(flops) * len(train)


def _step(network: Any, batch: Any) -> None:
    network.train()
    backward_step(network, batch)
    network.zero_grad(set_to_none=True)


@torch.no_grad()
def _seconds_per_user(network: Any, data: Any, device: Any) -> float:
    network.eval()
    batch = next(iter(data))[0]
    some = batch[: min(USERS, len(batch))].to(device)
    return _timed(partial(network.full_sort_predict, some)) / len(some)


def _rankings(config: Any, valid: Any, test: Any) -> float:
    """How many users are ranked in all, those of validations counted by their fewer beams."""
    users, of_test = len(valid._dataset), len(test._dataset)
    validations = config["epochs"] // max(1, config["eval_step"]) if config["eval_step"] else 0
    beams = (config["valid_beam_size"] or config["beam_size"] or 1) / (config["beam_size"] or 1)
    in_training = min(config["valid_users"] or users, users)
    of_all = users if in_training < users else 0
    return of_test + beams * (validations * in_training + of_all)


def _timed(work: Callable[[], Any]) -> float:
    began = process_time()
    work()
    return process_time() - began


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
