"""Interrupting and resuming: all that training needs to go on as if it had never stopped.

RecBole's checkpoint keeps the best model. Beside it, after every validation, this keeps the last one: weights, their average,
optimizer, schedule, the counters of early stopping and every random state. It holds tensors and plain values only,
so it is read with ``weights_only=True``.
"""

import os
import random
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.utils import init_seed

from recbole_gr.data.catalogue_match import matching
from recbole_gr.integration.checkpoint_tokens import check_same_catalogue
from recbole_gr.integration.config import places_of
from recbole_gr.integration.run_files import forget_previous, own_digest, take_over
from recbole_gr.models.registry import model_settings
from recbole_gr.settings.field import keys_of
from recbole_gr.settings.protocol import ProtocolSettings
from recbole_gr.settings.recbole_keys import RecBoleSettings
from recbole_gr.settings.values import plain
from recbole_gr.utils.atomic_files import atomic_write
from recbole_gr.utils.errors import SettingError
from recbole_gr.utils.processes import of_each, rank, world_size
from recbole_gr.utils.signals import signals_wait

SUFFIX = ".last.pth"


def state_file(checkpoint: str) -> str:
    """The training state beside a checkpoint ``X.pth`` is ``X.last.pth``; its own name is taken as it is."""
    return checkpoint if checkpoint.endswith(SUFFIX) else os.path.splitext(checkpoint)[0] + SUFFIX


def save_training_state(trainer: Any, train_data: Any, epoch: int) -> None:
    """Write the state after ``epoch`` beside the trainer's checkpoint; all processes come here, and the first writes.

    Args:
        trainer: with ``data_digest``, that of its data, and ``progress``, what is to be recorded of training so far, where it
            has them.
        train_data: the training loader.
        epoch: its number.

    Raises:
        DiskError: it cannot be written; the one before is still there.
    """
    path = state_file(trainer.saved_model_file)
    state = {
        "run": _identity(trainer, train_data),
        "settings": _settings(trainer.config),
        "checkpoint": os.path.basename(trainer.saved_model_file),
        "checkpoint_digest": own_digest(trainer.saved_model_file),
        "epoch": epoch,
        "cur_step": trainer.cur_step,
        "best_valid_score": float(trainer.best_valid_score),
        "best_valid_result": {key: float(value) for key, value in (trainer.best_valid_result or {}).items()},
        "train_loss": {int(key): float(value) for key, value in trainer.train_loss_dict.items()},
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "schedule": trainer.schedule.state_dict() if hasattr(trainer, "schedule") else None,
        "average": trainer.average.state_dict() if hasattr(trainer, "average") else None,
        "chance": of_each(_random_states(train_data)),
        "progress": trainer.progress.so_far_of_all() if hasattr(trainer, "progress") else None,
    }
    if rank() != 0:
        return
    with signals_wait():
        with atomic_write(path, "wb") as file:
            torch.save(state, file)
        forget_previous(trainer.saved_model_file)


def read_training_state(path: str) -> dict[str, Any]:
    """Read a state; it and its checkpoint must be there, as they were saved.

    Raises:
        SettingError: nothing that can be resumed.
    """
    path = state_file(str(path))
    if not os.path.isfile(path):
        raise SettingError("resume", path, "no such training state; it is written beside a checkpoint at every validation")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        # beside the state, whatever folders the state names
        checkpoint = os.path.join(os.path.dirname(path), os.path.basename(state["checkpoint"]))
    except Exception as error:
        raise SettingError("resume", path, f"not a training state ({type(error).__name__})") from error
    if not take_over(checkpoint, state.get("checkpoint_digest")):
        there = os.path.isfile(checkpoint)
        reason = "is not the one that was saved with it: someone else has changed it" if there else "is missing"
        raise SettingError("resume", path, f"its best checkpoint [{checkpoint}] {reason}")
    state["checkpoint"] = checkpoint
    return state


def restore_training_state(state: dict[str, Any], trainer: Any, train_data: Any) -> bool:
    """Put a trainer and its data where the state was saved.

    Returns:
        Whether training goes on; False if it had already stopped early or reached the last epoch.

    Raises:
        SettingError: the state belongs to another model, dataset or split.
        DataError: items or users have other numbers now than when it was saved.
    """
    here = _identity(trainer, train_data)
    if all(here[key] == state["run"][key] for key in ("model", "dataset", "users", "items")):
        check_same_catalogue(matching(trainer.model, state["model"]), state["checkpoint"])
    for key, value in state["run"].items():
        if key == "data" and here.get(key) not in (None, value):
            line = f"its data have changed since (digest {value}, now {here[key]}); its checkpoint can be tested, its training not go on"
            raise SettingError("resume", state["checkpoint"], line)
        if key != "data" and here.get(key) != value:
            raise SettingError(
                "resume", state["checkpoint"], f"was trained with {key} {value}, this run has {here.get(key)}"
            )
    settings, trained_with = _settings(trainer.config), state["settings"]
    new = (
        {key for key, value in settings.items() if value is not None}
        - trained_with.keys()
        - places_of(trainer.config).keys()
    )
    if new:
        line = f"was trained by a version without {', '.join(sorted(new))}; its checkpoint can be tested, its training not go on"
        raise SettingError("resume", state["checkpoint"], line)
    for key, value in settings.items():
        trained = trained_with.get(key)
        if trained != value:
            raise SettingError("resume", state["checkpoint"], f"was trained with {key}={trained!r}, this run has {value!r}")
    trainer.saved_model_file = state["checkpoint"]
    trainer.start_epoch = state["epoch"] + 1
    trainer.cur_step = state["cur_step"]
    trainer.best_valid_score = state["best_valid_score"]
    trainer.best_valid_result = state["best_valid_result"]
    trainer.train_loss_dict = state["train_loss"]
    trainer.model.load_state_dict(state["model"])
    for saved, here in zip(state["optimizer"]["param_groups"], trainer.optimizer.param_groups):
        saved["fused"] = here.get("fused")  # how a step is computed is this device's affair, not the other one's
    if state["schedule"] is not None:
        trainer.start_schedule(train_data)  # which takes the optimizer's learning rate for the highest
    trainer.optimizer.load_state_dict(state["optimizer"])
    if state["schedule"] is not None:
        trainer.schedule.load_state_dict(state["schedule"])
    if state.get("average") is not None:
        trainer.average.load_state_dict(state["average"])
    _go_on_with_chance(state, trainer, train_data)
    return trainer.start_epoch < trainer.epochs and trainer.cur_step <= trainer.stopping_step


def _settings(config: Any) -> dict[str, Any]:
    """Settings that a resumed run must share with the interrupted one: all but those that say where, or how far."""
    own = model_settings(config["model"])
    free = set().union(
        *(keys_of(one, resumable=True) for one in (RecBoleSettings, ProtocolSettings, own) if one is not None)
    )
    return {key: plain(value) for key, value in config.final_config_dict.items() if key not in free}


def _identity(trainer: Any, train_data: Any) -> dict[str, Any]:
    dataset = train_data._dataset
    identity = {
        "model": trainer.config["model"],
        "dataset": trainer.config["dataset"],
        "users": int(dataset.user_num),
        "items": int(dataset.item_num),
        "training samples": len(dataset),
        "seed": trainer.config["seed"],
    }
    if hasattr(trainer, "data_digest"):
        identity["data"] = trainer.data_digest
    if hasattr(dataset, "semantic_ids"):
        identity["semantic IDs"] = dataset.semantic_ids.digest()
    return identity


def _random_states(train_data: Any) -> dict[str, Any]:
    of_numpy: Any = np.random.get_state()
    kind, keys, position, has_gauss, gauss = of_numpy
    return {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "loader": [generator.get_state() for generator in _generators(train_data)],
    }


def _go_on_with_chance(state: dict[str, Any], trainer: Any, train_data: Any) -> None:
    """Each process goes on with its own random numbers; one that was not there begins with those of its seed and the epoch."""
    states = state["chance"] if isinstance(state["chance"], list) else [state["chance"]]  # of an older version: one process
    if len(states) != world_size():
        getLogger().warning(
            f"The training was interrupted with {len(states)} processes and goes on with {world_size()}: batches are the same, but "
            "from here on other random numbers are drawn (dropout, negative items)."
        )
    if rank() < len(states):
        _set_random_states(states[rank()], train_data)
    else:
        init_seed(trainer.config["seed"] + rank() + world_size() * trainer.start_epoch, trainer.config["reproducibility"])
        _draw_batches_as(states[0]["loader"], train_data)  # all processes draw alike


def _set_gpu_random_states(states: list[torch.Tensor]) -> None:
    """Of as many GPUs as both machines have; the others go on with what they were seeded with."""
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for number, random_state in enumerate(states[:here]):
        torch.cuda.set_rng_state(random_state, number)
    if len(states) != here:
        getLogger().warning(
            f"The training state holds the random states of {len(states)} GPUs and here are {here}: "
            "from here on other random numbers are drawn than where it was saved."
        )


def _set_random_states(states: dict[str, Any], train_data: Any) -> None:
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(states["torch"])
    _set_gpu_random_states(states["cuda"])
    _draw_batches_as(states["loader"], train_data)


def _generators(train_data: Any) -> list[torch.Generator]:
    """What draws the batches; RecBole's loader of a knowledge graph has two loaders inside."""
    loaders = [train_data] if hasattr(train_data, "generator") else [train_data.general_dataloader, train_data.kg_dataloader]
    return [loader.generator for loader in loaders]


def _draw_batches_as(states: Any, train_data: Any) -> None:
    for generator, state in zip(_generators(train_data), states if isinstance(states, list) else [states], strict=True):
        generator.set_state(state)  # one state alone is that of an older version
