"""A run's files are its own: checkpoint, training state, log, tensorboard folder.

RecBole names them by the second. Two runs that began in one second had one checkpoint: each was tested with whatever the other had
saved last. Here a name has a random part, whoever makes the trainer, and the checkpoint that is tested is that which this run saved,
by its digest.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from recbole_gr.integration.run_log import RunLog, WatchedWriter
from recbole_gr.integration.stand_in import stand_in
from recbole_gr.settings.values import plain
from recbole_gr.utils.atomic_files import atomic_write
from recbole_gr.utils.errors import DataError, SettingError
from recbole_gr.utils.processes import from_first, rank
from recbole_gr.utils.signals import signals_wait

#: How the best checkpoint that the training state speaks of is named, until the state of a better one is written.
PREVIOUS = ".previous.pth"

#: Names that a log has been given, and no trainer yet.
_named: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

#: The name of the log that is being opened.
_log_name: ContextVar[str] = ContextVar("log_name")

#: The name of the run whose trainer is being made.
_trainer_name: ContextVar[str | None] = ContextVar("trainer_name", default=None)

#: What this process saved, or resumes from: the digest of a checkpoint by its path.
_saved: dict[str, str] = {}


def make_run_name(config: Any) -> str:
    """A name that no other run has: model, dataset, time, digest of the settings, random digits.

    Of several processes each would make another one; their trainers have that of the first. It ends with a digit.
    """
    what = "-".join(re.sub(r"[^\w+-]+", "_", str(config[key]))[:80] for key in ("model", "dataset"))
    settings = repr(sorted((key, repr(plain(value))) for key, value in config.final_config_dict.items()))
    time = datetime.now().strftime("%b-%d-%Y_%H-%M-%S")  # as RecBole has it
    content = hashlib.sha256(settings.encode()).hexdigest()[:6]
    return f"{what}-{time}-{content}-{secrets.randbelow(10**12):012d}"


def name_logs(logger_module: Any) -> None:
    """Patch ``recbole.utils.logger``: each run has a log of its own, also the second one of a process."""
    original = logger_module.init_logger

    @functools.wraps(original)
    def init_logger(config: Any) -> None:
        root = logging.getLogger()
        for handler in [one for one in root.handlers if getattr(one, "recbole_gr_run", False)]:
            root.removeHandler(handler)  # of the run before, which has ended
            handler.close()
        others = root.handlers[:]
        _named[config] = name = make_run_name(config)
        _log_name.set(name if rank() == 0 else f"{name}-{rank()}")
        original(config)
        for handler in set(root.handlers) - set(others):
            vars(handler)["recbole_gr_run"] = True

    logger_module.init_logger = init_logger
    logger_module.logging = stand_in(logging, FileHandler=lambda path: RunLog(_of_this_run(path)))
    for module in list(sys.modules.values()):  # those that took it by "from ... import" before us
        if getattr(module, "__dict__", {}).get("init_logger") is original:
            vars(module)["init_logger"] = init_logger


def _of_this_run(path: str) -> str:
    return os.path.join(os.path.dirname(path), f"{_log_name.get()}.log")


def name_trainers(trainer_module: Any) -> None:
    """Patch ``recbole.trainer.trainer``: each trainer has files of its own, and tests what it saved."""
    for name in ("Trainer", "DecisionTreeTrainer"):
        owner = getattr(trainer_module, name)
        owner.__init__ = _with_own_files(owner.__init__)
    trainer_module.Trainer.evaluate = _with_what_it_saved(trainer_module.Trainer.evaluate)
    trainer_module.get_tensorboard = _in_own_folder(trainer_module.get_tensorboard)


def _with_own_files(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def __init__(self: Any, config: Any, model: Any) -> None:
        # a second trainer of one Config is another run
        own = _named.pop(config, None) or make_run_name(config)
        name = from_first(lambda: own)
        token = _trainer_name.set(name)
        try:
            original(self, config, model)
        finally:
            _trainer_name.reset(token)
        for attribute, ending in (("saved_model_file", ""), ("temp_file", "-temp"), ("temp_best_file", "-temp-best")):
            if hasattr(self, attribute):  # the last two are those of decision trees
                setattr(self, attribute, os.path.join(self.checkpoint_dir, f"{name}{ending}.pth"))

    return __init__


def _in_own_folder(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """RecBole names it after the first log of the process, up to its first dot."""

    @functools.wraps(original)
    def get_tensorboard(logger: Any) -> Any:
        name = _trainer_name.get()
        if name is None:
            return original(logger)
        from torch.utils.tensorboard import SummaryWriter

        return WatchedWriter(SummaryWriter, os.path.join("log_tensorboard", name))

    return get_tensorboard


def _with_what_it_saved(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def evaluate(
        self: Any, eval_data: Any, load_best_model: bool = True, model_file: Any = None, show_progress: bool = False
    ) -> Any:
        if eval_data and load_best_model and not model_file:
            check_own_checkpoint(self.saved_model_file)
        return original(self, eval_data, load_best_model, model_file, show_progress)

    return evaluate


def save_checkpoint(state: Any, path: str, **options: Any) -> None:
    """Save a checkpoint by an atomic write, and remember its digest.

    Where a training state lies beside it, the checkpoint that the state speaks of stays, as ``X.previous.pth``, until
    :func:`forget_previous`: a process that is killed between the two files leaves a pair that belongs together.

    Raises:
        DiskError: it cannot be written; the one before is still there.
    """
    import torch

    path = str(path)
    with signals_wait():
        with atomic_write(path, "wb") as file:
            torch.save(state, file, **options)
            file.flush()
            digest = file_digest(file.name)
            if os.path.exists(path) and os.path.exists(_beside(path, ".last.pth")) and not os.path.exists(_previous(path)):
                _also_named(path, _previous(path))
        _saved[os.path.abspath(path)] = digest


def check_space(trainer: Any) -> None:
    """Before training: the disk has room for the best checkpoint and the training state, as far as can be told.

    Raises:
        SettingError: it has not.
    """
    model, config = trainer.model, trainer.config
    weights = sum(value.nbytes for value in model.state_dict().values() if hasattr(value, "nbytes"))
    moments = 2 if "adam" in str(config["learner"]).lower() else 0
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    needed = 2 * (weights + moments * trained)
    free = shutil.disk_usage(config["checkpoint_dir"]).free
    if free < needed:
        line = f"has room for {free / 1e6:,.1f} MB; the best checkpoint and the training state take {needed / 1e6:,.1f} MB"
        raise SettingError("checkpoint_dir", config["checkpoint_dir"], line)


def _also_named(path: str, other: str) -> None:
    try:
        os.link(path, other)
    except OSError:  # a file system without links; for a moment the checkpoint has the other name only
        os.replace(path, other)


def forget_previous(path: str) -> None:
    """Once the state of a checkpoint is written, the one before it is no longer needed."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(_previous(path))


def own_digest(path: str) -> str | None:
    """The digest of a checkpoint that this process saved or resumes from; None: neither."""
    return _saved.get(os.path.abspath(path))


def take_over(path: str, digest: str | None) -> bool:
    """Go on with the checkpoint of an interrupted run, its digest as its training state says.

    Args:
        path: the checkpoint; where it is one that was saved after the state, the one before takes its place again.
        digest: None: the state is of a version that kept none.

    Returns:
        Whether the checkpoint is the one of the state.
    """
    if digest is None:
        return os.path.isfile(path)
    for candidate in (path, _previous(path)):
        if os.path.isfile(candidate) and file_digest(candidate) == digest:
            if candidate != path:
                os.replace(candidate, path)
            forget_previous(path)
            _saved[os.path.abspath(path)] = digest
            return True
    return False


def check_own_checkpoint(path: str) -> None:
    """Before the checkpoint of a run is tested.

    Raises:
        DataError: it is not what this run saved.
    """
    digest = own_digest(path)
    if digest is None:  # this process saved none, as of several only the first does
        return
    if not os.path.isfile(path):
        raise DataError(f"[{path}], the best checkpoint of this run, was removed by someone else; it cannot be tested")
    if file_digest(path) != digest:
        raise DataError(f"[{path}] is not the checkpoint that this run saved: someone else has changed it")


def file_digest(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


def write_whole(module: Any) -> None:
    """Patch a module of RecBole that keeps datasets or loaders under fixed names: two runs that keep the same have one whole file."""

    def open_whole(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        return atomic_write(str(path), mode) if mode == "wb" else open(path, mode, *args, **options)

    vars(module)["open"] = open_whole


def _previous(path: str) -> str:
    return _beside(path, PREVIOUS)


def _beside(path: str, ending: str) -> str:
    return os.path.splitext(path)[0] + ending
