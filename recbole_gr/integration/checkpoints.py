"""A checkpoint as RecBole loads it, with other settings for data, semantic IDs and decoding than it was trained with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from recbole_gr.integration.check_run import known_keys, settings_of_model
from recbole_gr.integration.compat import CHECKPOINT_SETTINGS
from recbole_gr.settings.check import faults_of, raise_faults, unknown_keys
from recbole_gr.settings.field import RunValues, extra_of
from recbole_gr.utils.errors import SettingError

_PLACE = "for the checkpoint"


def load_checkpoint(model_file: str, config_dict: Mapping[str, Any] | None = None) -> tuple[Any, Any, Any, Any, Any, Any]:
    """RecBole's ``load_data_and_model`` with settings that are changed: ``sid_file``, ``load_items``, ``data_path``, filters, ...

    Items and users are matched by token, see :mod:`recbole_gr.data.catalogue_match`.

    Args:
        model_file: the checkpoint.
        config_dict: settings by key, on top of those that it was trained with.

    Returns:
        tuple: config, model, dataset, and the loaders for training, validation and test.

    Raises:
        RecBoleGRError: there is no such file, a setting cannot work or belongs to what was trained, or nothing matches.
    """
    from recbole.quick_start import load_data_and_model

    if not os.path.isfile(model_file):
        raise SettingError("checkpoint", model_file, "no such file")
    token = CHECKPOINT_SETTINGS.set(dict(config_dict or {}))
    try:
        return load_data_and_model(model_file)
    finally:
        CHECKPOINT_SETTINGS.reset(token)


def change_settings(config: Any, changes: Mapping[str, Any]) -> None:
    """Put settings into the Config of a checkpoint, as if it had been trained with them.

    Raises:
        SettingError, SettingErrors: a key is unknown, or belongs to what was trained; a value cannot work.
    """
    settings = settings_of_model(config["model"])
    for key, near in unknown_keys(changes, known_keys(changes)):
        raise SettingError(key, changes[key], f"is not a setting of any model or dataset{near}")
    for one in settings:
        for key in changes.keys() & one.model_fields.keys():
            if extra_of(one.model_fields[key])["scope"] == "model" and config[key] != changes[key]:
                raise SettingError(key, changes[key], f"the checkpoint was trained with {config[key]!r}")
    changed = dict(changes)
    if "data_path" in changed:  # as every Config has it
        changed["data_path"] = os.path.join(str(changed["data_path"]), config["dataset"])
    values = config.final_config_dict
    # what a version has that the one of the checkpoint had not
    defaults = {key: value for one in settings for key, value in one.defaults().items() if key not in values}
    run = RunValues({**defaults, **values, **changed}, dict.fromkeys(changed, _PLACE))
    raise_faults([fault for fault in faults_of(settings, run) if fault.key in changed], run)
    values.update(changed)
    config.external_config_dict.update(changed)
