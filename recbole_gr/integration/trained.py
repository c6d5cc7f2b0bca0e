"""A trained model again: a checkpoint, the dataset that it was trained on, and its split."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recbole.config import Config
from recbole.data.dataset import SequentialDataset

from recbole_gr.integration.checkpoints import load_checkpoint
from recbole_gr.integration.config import RANKING_TYPES
from recbole_gr.utils.errors import DataError, RecBoleGRError, SettingError


@dataclass(frozen=True)
class TrainedModel:
    """What a checkpoint stands for.

    Args:
        checkpoint: the path of the file.
        config: the settings of its run.
        model: in evaluation mode, on its device.
        loaders: of training, validation and test data.
    """

    checkpoint: str
    config: Config
    model: Any
    loaders: tuple[Any, Any, Any]

    @property
    def parts(self) -> list[Any]:
        """The datasets of the training, validation and test part."""
        return [loader._dataset for loader in self.loaders]

    @property
    def dataset(self) -> Any:
        """The dataset that knows tokens and fields."""
        return self.parts[0]

    @property
    def is_sequential(self) -> bool:
        """Whether the model reads histories, and needs no known user for them; else it has learned of each user."""
        return isinstance(self.dataset, SequentialDataset)


def load_trained_model(
    checkpoint: str, config_dict: Mapping[str, Any] | None = None, *, verbose: bool = False
) -> TrainedModel:
    """Load a checkpoint of ours or of RecBole with its dataset, from the files as they are now.

    Args:
        checkpoint: what a run saved, ``saved/TIGER-....pth``.
        config_dict: settings by key on top of those of the run, ``data_path``, ``cache_dir``, ``sid_file``, ``load_items``, ``beam_size``, ...
        verbose: log what RecBole says of settings and dataset; else warnings only.

    Raises:
        RecBoleGRError: no such file, no checkpoint, one that does not fit the data as they are now, or a setting that belongs to
            what was trained; one line.
    """
    if not os.path.isfile(checkpoint):
        raise SettingError("checkpoint", checkpoint, "no such file")
    if checkpoint.endswith(".last.pth"):
        raise SettingError("checkpoint", checkpoint, "is a state of training; the model is in the file without .last")
    with open(checkpoint, "rb") as file:
        if file.read(4) != b"PK\x03\x04":  # what torch.save writes is a zip file
            raise SettingError("checkpoint", checkpoint, "is not a checkpoint of RecBole (not a file of torch.save)")
    try:
        with contextlib.nullcontext() if verbose else _warnings_only():
            config, model, _, *loaders = load_checkpoint(checkpoint, config_dict)
    except RecBoleGRError:
        raise
    except OSError as error:
        raise DataError(f"the dataset of the checkpoint [{checkpoint}] cannot be read: {_line(error)}") from error
    except Exception as error:  # what is no checkpoint, and data that have changed since, meet nearly any exception
        raise SettingError("checkpoint", checkpoint, f"cannot be loaded ({_line(error)})") from error
    if config["MODEL_TYPE"] not in RANKING_TYPES:
        raise SettingError("checkpoint", checkpoint, f"{config['model']} estimates clicks and ranks no catalogue")
    return TrainedModel(checkpoint, config, model.eval(), (loaders[0], loaders[1], loaders[2]))


@contextlib.contextmanager
def _warnings_only() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(max(before, logging.INFO))
    try:
        yield
    finally:
        logging.disable(before)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
