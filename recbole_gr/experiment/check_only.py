"""All that a run does before its training, to find what is wrong with it; nothing is trained, encoded or kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from logging import disable
from typing import Any

from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed

from recbole_gr.data.catalogue import topk_checked_early
from recbole_gr.data.checks_only import checks_only
from recbole_gr.integration.config import errors_name_places, make_config
from recbole_gr.integration.config_checks import check_training_settings
from recbole_gr.integration.making import make_model
from recbole_gr.utils.temporary_folders import temporary_folder


def check_only(model: str | type, dataset: str, config_dict: Mapping[str, Any]) -> None:
    """Read the data, split it and make the model.

    Args:
        model: as for :func:`recbole_gr.experiment.run.run`.
        dataset: as for :func:`recbole_gr.experiment.run.run`.
        config_dict: settings.

    Raises:
        RecBoleGRError: a setting or a file cannot work.
        Exception: whatever a model of RecBole raises for a value that it cannot take.
    """
    with before_training(model, dataset, config_dict):
        pass


@contextlib.contextmanager
def before_training(
    model: str | type, dataset: str, config_dict: Mapping[str, Any]
) -> Iterator[tuple[Any, tuple[Any, Any, Any], Any]]:
    """As :func:`check_only`; within, there are the merged settings, the three loaders and the untrained model."""
    with temporary_folder("recbole_gr-check-") as folder, checks_only(), topk_checked_early():
        own = {"checkpoint_dir": folder, "record_dir": None, "save_dataset": False, "save_dataloaders": False}
        config = make_config(model, dataset, None, {**config_dict, **own})
        init_seed(config["seed"], config["reproducibility"])
        disable(50)  # what a run logs of data and model is not asked for
        try:
            with errors_name_places(config):
                check_training_settings(config)
                read = create_dataset(config)
                loaders = data_preparation(config, read)
                yield config, loaders, make_model(config, loaders[0]._dataset)
        finally:
            disable(0)
