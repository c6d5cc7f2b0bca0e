"""RecBole's Config with the defaults of our settings: for our models everywhere, for all ranking models in our own commands."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from logging import getLogger
from typing import Any
from weakref import WeakKeyDictionary

from recbole.config import Config
from recbole.utils import ModelType
from recbole.utils.argument_list import dataset_arguments

from recbole_gr.integration.check_run import (
    CheckedRun,
    check_run,
    follow_metrics,
    settings_of_model,
    value_faults,
)
from recbole_gr.integration.following import following
from recbole_gr.integration.plugin import is_history_model
from recbole_gr.models.registry import find_spec, load, recbole_defaults_of
from recbole_gr.settings.check import idle_settings, raise_faults
from recbole_gr.settings.field import RunValues, keys_of
from recbole_gr.settings.properties import properties_file, read_properties
from recbole_gr.settings.protocol import ProtocolSettings
from recbole_gr.settings.recbole_keys import read_recbole_properties
from recbole_gr.settings.values import MERGED, merged
from recbole_gr.utils.errors import DataError, RecBoleGRError, SettingError, SettingErrors

#: Models that rank the catalogue; the common protocol is theirs.
RANKING_TYPES = (ModelType.GENERAL, ModelType.SEQUENTIAL, ModelType.KNOWLEDGE, ModelType.TRADITIONAL)


#: The run whose Config is being made by :func:`make_config`.
_made_for: ContextVar[CheckedRun | None] = ContextVar("made_for", default=None)

_checked: WeakKeyDictionary[Config, CheckedRun] = WeakKeyDictionary()


def make_config(
    model: str | type,
    dataset: str,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
) -> Config:
    """The settings of a run of ours: checked together, read safely, with one protocol for all models that rank the catalogue.

    It is RecBole's own class, so that RecBole alone can read the checkpoints that hold it.

    Args:
        model: a model's name, ``"package.module:Class"`` or class.
        dataset: name of a folder under ``data_path``.
        config_file_list: yaml files, or names of recipes.
        config_dict: settings.

    Raises:
        SettingError, SettingErrors, DataError: one line for each fault.
    """
    checked = check_run(model, dataset, config_file_list, config_dict)
    spec = find_spec(model)
    token = _made_for.set(checked)
    try:
        config = Config(load(spec.model) if spec else model, dataset)
    except (ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, RecBoleGRError):
            raise
        raise DataError(f"RecBole refuses the settings: {' '.join(str(error).split())}") from error
    finally:
        _made_for.reset(token)
    _checked[config] = checked
    check_order(config)
    return config


def checked_run(config: Config) -> CheckedRun | None:
    """What :func:`make_config` found when it made a Config; None for one that RecBole made."""
    return _checked.get(config)


def given_in(places: Callable[[str], bool]) -> dict[str, Any] | None:
    """Of the run whose Config is being made, what was set at some places; None while RecBole makes its own."""
    checked = _made_for.get()
    if checked is None:
        return None
    return {key: checked.given.values[key] for key, place in checked.given.where.items() if places(place)}


def add_defaults(config: Config, model: str, model_class: Any, dataset: str) -> None:
    """Put our defaults on top of RecBole's, below what the user set."""
    ours, outside = config.internal_config_dict, config.external_config_dict
    spec = find_spec(model_class) if find_spec(model) is None else find_spec(model)
    if not read_recbole_properties(f"model/{model}"):
        ours.update(recbole_defaults_of(model_class))  # a class that inherits one of RecBole's
    if holds_protocol(model_class):
        ours.update(ProtocolSettings.defaults())
        shaping = keys_of(ProtocolSettings, scope="protocol") | keys_of(ProtocolSettings, scope="dataset")
        _shape_dataset(shaping - {"eval_args", "metrics", "topk", "valid_metric"})
    if spec is not None and spec.settings is not None:
        own = load(spec.settings)
        ours.update(own.defaults())
        # the settings of tokenizers are not fields
        _shape_dataset(keys_of(own, scope="dataset") | (own.defaults().keys() - own.model_fields.keys()))
        _shape_dataset({"eval_args"})  # CF vectors are made from the training part
    of_dataset = read_properties(properties_file("dataset", dataset))
    ours.update(of_dataset)
    if not of_dataset and not read_recbole_properties(f"dataset/{dataset}"):
        # RecBole's fallback (sample.yaml) leaves out the time column that a split by time needs
        fields = [{**ours, **outside}[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
        ours["load_col"] = {"inter": fields}
    if outside.get("unload_col") and "load_col" not in outside:
        ours["load_col"] = None  # RecBole refuses both, and the default of load_col is not the user's
    chosen_loss = model_class.type == ModelType.SEQUENTIAL and not hasattr(model_class, "input_type")
    if chosen_loss and {**ours, **outside}.get("loss_type") == "CE":
        # RecBole's default of one negative per positive makes its own Config refuse its own default loss; it does not ask for
        # the loss of a model that says itself what it is trained on, such as SINE (pairs) and RepeatNet
        ours["train_neg_sample_args"] = None


def _shape_dataset(keys: set[str]) -> None:
    """A dataset kept by ``save_dataset``, or a loader, is used again only where it agrees in these."""
    dataset_arguments.extend(sorted(keys - {*dataset_arguments}))


def holds_protocol(model_class: Any) -> bool:
    """Whether the common protocol is the default: for our networks everywhere, for the others in our commands."""
    return model_class.type in RANKING_TYPES if _made_for.get() is not None else is_history_model(model_class)


def merge_with_defaults(config: Config, final: dict[str, Any]) -> dict[str, Any]:
    """The user's values on top of the defaults: parts of dicts are merged, and what follows ``topk`` follows it."""
    for key in MERGED:
        final[key] = merged(key, config.internal_config_dict.get(key), final.get(key))
    folder = os.path.join(str(final["data_path"]), config.dataset)
    for changes, _ in following(final, config.external_config_dict, folder):
        final.update(changes)
    topk = [final["topk"]] if isinstance(final["topk"], int) else final["topk"]
    if isinstance(topk, list) and topk and all(type(k) is int for k in topk):
        final.update(follow_metrics(final, topk, config.external_config_dict))
    return final


def check_plain_config(config: Config) -> None:
    """Check the settings of a model of ours whose Config RecBole makes by itself; :func:`make_config` has checked its own.

    Raises:
        SettingError, SettingErrors, DataError: one line for each fault.
    """
    if _made_for.get() is not None:
        return
    check_order(config)
    settings = settings_of_model(config.model_class)[1:]  # of RecBole's own, RecBole has made what it needs
    run = RunValues(config.final_config_dict, places_of(config))
    raise_faults(value_faults(config.model_class, settings, run, config.external_config_dict), run)
    for key, reason in idle_settings(settings, run).items():
        getLogger().warning(f"{key}={run[key]!r} is not used: {reason}")


def check_order(config: Config) -> None:
    """A model that reads histories has them in the order of time; RecBole says so when the data is read.

    Raises:
        SettingError: ``eval_args`` asks for another order.
    """
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL and config["eval_args"]["order"] != "TO":
        where = places_of(config).get("eval_args", "by default")
        allowed = f"order must be TO, {config['model']} reads histories in the order of time (set {where})"
        raise SettingError("eval_args", config["eval_args"], allowed)


def places_of(config: Config) -> dict[str, str]:
    """In words, where each setting that the user set was set."""
    if (checked := checked_run(config)) is not None:
        return checked.given.where
    return {
        **dict.fromkeys(config.file_config_dict, "in a config file"),
        **dict.fromkeys(config.variable_config_dict, "in config_dict"),
        **dict.fromkeys(config.cmd_config_dict, "on the command line"),
    }


@contextlib.contextmanager
def errors_name_places(config: Config) -> Iterator[None]:
    """A SettingError from inside is raised with the place its value was set at."""
    try:
        yield
    except SettingErrors:
        raise
    except SettingError as error:
        where = places_of(config).get(error.key, "by default")
        raise SettingError(error.key, error.value, f"{error.allowed} (set {where})") from error
