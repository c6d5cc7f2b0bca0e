"""What can be known of a run before RecBole and torch are imported: its model, its files and all faults of its settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from recbole_gr.data.settings import SemanticIDSettings
from recbole_gr.integration.columns_read import column_faults
from recbole_gr.integration.following import following
from recbole_gr.models.registry import check_model_name, find_spec, keys_of_model, load, model_keys
from recbole_gr.settings.check import faults_of, idle_settings, raise_faults, unknown_keys
from recbole_gr.settings.field import Fault, RunValues, Settings, field_faults, nul_faults
from recbole_gr.settings.properties import named_file, properties_file, read_properties
from recbole_gr.settings.protocol import UNRANKED_METRICS, ProtocolSettings
from recbole_gr.settings.recbole_keys import (
    RecBoleSettings,
    keys_of_every_model,
    keys_read_by_recbole,
    read_recbole_properties,
    recbole_folder,
    recbole_keys,
    recbole_model_names,
)
from recbole_gr.settings.recbole_models import model_faults
from recbole_gr.settings.recbole_values import name_faults, recbole_faults
from recbole_gr.settings.values import Given, merged, read_given
from recbole_gr.utils.atomic_files import probe
from recbole_gr.utils.errors import DataError, SettingError

#: Folders of RecBole's models that rank the catalogue; the common protocol is theirs. The others estimate clicks.
RANKING = ("general_recommender", "sequential_recommender", "knowledge_aware_recommender")

#: Settings that say which files are read, and how.
_OF_FILES = {
    *("data_path", "dataset", "benchmark_filename", "split_files", "field_separator", "encoding", "load_col", "unload_col"),
    *("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "split_column"),
}

#: Settings that others follow, see :func:`adapted`.
_ADAPTED_FROM = _OF_FILES | {
    *("metrics", "topk", "valid_metric", "beam_size", "repeatable", "mask_seen", "alias_of_item_id", "loss_positions"),
    "LIST_SUFFIX",
}

#: Options of commands that are no settings of a run.
COMMAND_OPTIONS = {"config_files", "output_dir", "sid_format", "compare_vectors", "extend"}


@dataclass(frozen=True)
class CheckedRun:
    """A run that may begin.

    Args:
        settings: the classes of settings that hold for it.
        given: what the user set.
        notices: one line each, to be logged: defaults that were adapted, settings that have no effect.
    """

    settings: list[type[Settings]]
    given: Given
    notices: list[str]


def check_run(
    model: str | type,
    dataset: str,
    config_files: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    *,
    arguments: Sequence[str] | None = None,
) -> CheckedRun:
    """Check everything that can be checked in a second.

    Args:
        model: a model's name, ``"package.module:Class"`` or class.
        dataset: name of a folder under ``data_path``.
        config_files: yaml files, or names of recipes.
        config_dict: settings.
        arguments: the command line's ``--key=value``; None: those of this process.

    Raises:
        SettingError, SettingErrors: one line for each fault.
        DataError: a file cannot be read or lacks a column.
    """
    settings = settings_of_model(model)
    files = [named_file("recipes", file) for file in config_files or []]
    given = read_given(files, config_dict, process_arguments() if arguments is None else arguments)
    run = RunValues(_values(model, dataset, settings, given), given.where)
    run, notices = (run, []) if _single_faults(model, settings, run).keys() & _ADAPTED_FROM else adapted(run)
    unknown = unknown_keys(given.values, known_keys(given.values))
    refused, allowed = (unknown, []) if run["allow_unknown"] is not True else ([], unknown)
    faults = [Fault(key, given.values[key], f"is not a setting of any model or dataset{near}") for key, near in refused]
    faults += value_faults(model, settings, run)
    wrong = {fault.key for fault in faults}
    if not wrong & _OF_FILES:
        faults += _file_faults(dataset, run, wrong)
    if ProtocolSettings in settings and not wrong & {"eval_args", *_OF_FILES}:
        faults += column_faults(run)
    raise_faults(list({fault.key: fault for fault in reversed(faults)}.values())[::-1], run)
    check_logs(run)
    notices += [f"{key}={given.values[key]!r} is not a setting of any model or dataset{near}" for key, near in allowed]
    idle = {**_of_other_models(model, given.values.keys() - {key for key, _ in unknown}), **idle_settings(settings, run)}
    notices += [f"{key}={run[key]!r} is not used: {reason}" for key, reason in sorted(idle.items())]
    notices += _idle_grouping(given, run)
    return CheckedRun(settings, given, notices)


def value_faults(
    model: str | type, settings: Sequence[type[Settings]], run: RunValues, given: Mapping[str, Any] | None = None
) -> list[Fault]:
    """Values that cannot work, each key once; of RecBole's settings those that the user set are looked at.

    Args:
        model: as for :func:`check_run`.
        settings: the classes of its settings.
        run: the values.
        given: what the user set, where RecBole has made other values of it; None: as in ``run``.
    """
    single = _single_faults(model, settings, run, given)
    names = {fault.key: fault for fault in name_faults(run)}
    together = {fault.key: fault for fault in faults_of(settings, run, single.keys() | names.keys())}
    return list({**together, **names, **single}.values())


def single_faults(model: str | type, settings: Sequence[type[Settings]], values: Mapping[str, Any]) -> list[Fault]:
    """Which of some values that a user may set are wrong by themselves.

    Args:
        model: as for :func:`check_run`.
        settings: the classes of its settings.
        values: by key.
    """
    return list(_single_faults(model, settings, RunValues(values, dict.fromkeys(values, ""))).values())


def _single_faults(
    model: str | type, settings: Sequence[type[Settings]], run: RunValues, given: Mapping[str, Any] | None = None
) -> dict[str, Fault]:
    """Values that are wrong by themselves, by key."""
    given = {key: run.values[key] for key in run.given if key in run.values} if given is None else given
    name = model if isinstance(model, str) else model.__name__
    faults = [fault for one in settings for fault in field_faults(one, run.values)]
    # a key of RecBole that a model of ours has too, has the model's values
    own = {key for one in settings if one not in (RecBoleSettings, ProtocolSettings) for key in one.model_fields}
    of_recbole = {fault.key: fault for fault in (*recbole_faults(given), *model_faults(name, given)) if fault.key not in own}
    of_recbole |= {fault.key: fault for fault in nul_faults(given)}
    return {**of_recbole, **{fault.key: fault for fault in reversed(faults)}}


def _idle_grouping(given: Given, run: RunValues) -> list[str]:
    """A line where ``group_by`` was set and does not count: only a split by ratio asks for it."""
    asked = given.values.get("eval_args")
    group_by = asked.get("group_by", "user") if isinstance(asked, dict) else "user"
    split = next(iter((run["eval_args"] or {}).get("split", ["RS"])))
    if group_by == "user" or split == "RS":
        return []
    return [f"eval_args: group_by={group_by!r} is not used: a split by {split} goes through each user's interactions"]


def process_arguments() -> list[str]:
    """The command line of this process, as RecBole reads it; that of a notebook's kernel is none."""
    return [] if "ipykernel_launcher" in sys.argv[0] else sys.argv[1:]


def settings_of_model(model: str | type) -> list[type[Settings]]:
    """The classes of settings of a model: RecBole's, the protocol where it ranks the catalogue, and its own.

    Raises:
        SettingError: there is no such model.
    """
    if isinstance(model, str) and ":" not in model:
        check_model_name(model)
    spec = find_spec(model)
    own = load(spec.settings) if spec is not None else None
    ranks = spec is not None or recbole_model_names().get(str(model)) in RANKING
    return [RecBoleSettings, *([ProtocolSettings] if ranks else []), *([own] if own is not None else [])]


def known_keys(given: Mapping[str, Any]) -> set[str]:
    """Keys that RecBole, its models, ours or a tokenizer have; RecBole's source is searched only where one is missing."""
    known = {
        *recbole_keys(),
        *model_keys(),
        *ProtocolSettings.model_fields,
        *SemanticIDSettings.defaults(),
        *COMMAND_OPTIONS,
    }
    if not given.keys() <= known:
        known |= keys_read_by_recbole()
    return known


def _of_other_models(model: str | type, given: Collection[str]) -> dict[str, str]:
    """Keys that are known and that this model has no use for, and why."""
    shared = {*RecBoleSettings.model_fields, *ProtocolSettings.model_fields, *COMMAND_OPTIONS}
    rest = {*given} - shared - keys_of_model(model)
    name = model if isinstance(model, str) else model.__name__
    return dict.fromkeys(rest - keys_of_every_model(), f"{name} has no such setting") if rest else {}


def adapted(run: RunValues) -> tuple[RunValues, list[str]]:
    """Defaults that would contradict what the user set follow it, and a line for each."""
    values = dict(run.values)
    notices: list[str] = []
    for changes, why in following(values, run.given, str(run["data_path"])):
        values.update(changes)
        notices += [f"{key}={value!r} follows {why}" for key, value in changes.items() if value is not None]
    topk = [run["topk"]] if isinstance(run["topk"], int) else run["topk"]
    if not isinstance(topk, list) or not topk or any(type(k) is not int for k in topk):
        return RunValues(values, run.given), notices
    for key, value in follow_metrics(values, topk, run.given).items():
        values[key] = value
        notices.append(f"{key}={value!r} follows metrics={run['metrics']} and topk={topk}")
    return RunValues(values, run.given), notices


def follow_metrics(values: Mapping[str, Any], topk: Sequence[int], given: Mapping[str, Any]) -> dict[str, Any]:
    """``valid_metric`` and ``beam_size`` that go with ``metrics`` and ``topk``, where the user set neither of the first two.

    Returns:
        dict: what changes; empty if they go together already.
    """
    changed: dict[str, Any] = {}
    metrics = [values["metrics"]] if isinstance(values["metrics"], str) else values["metrics"]
    if not isinstance(metrics, (list, tuple)):
        return changed
    metric, at, k = str(values.get("valid_metric")).partition("@")
    if "valid_metric" not in given and at and k.isdigit() and metrics:
        if "metrics" in given and metric.lower() not in {str(name).lower() for name in metrics}:
            metric = str(metrics[0])
        if "topk" in given and int(k) not in topk:
            k = str(min(topk, key=lambda other: (abs(other - int(k)), other)))
        followed = metric if metric.lower() in UNRANKED_METRICS else f"{metric}@{k}"
        if followed != values["valid_metric"]:
            changed["valid_metric"] = followed
    beams = values.get("beam_size")
    if "topk" in given and "beam_size" not in given and type(beams) is int and beams < max(topk):
        changed["beam_size"] = max(topk)
    return changed


def _values(model: str | type, dataset: str, settings: Sequence[type[Settings]], given: Given) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for one in settings:
        values.update(one.defaults())
    values.update(read_recbole_properties(f"dataset/{dataset}"))
    values.update(read_properties(properties_file("dataset", dataset)))
    for key, value in given.values.items():
        values[key] = merged(key, values.get(key), value)
    name = model if isinstance(model, str) else model.__name__
    values.update(model=name.rpartition(":")[2], dataset=dataset)
    parent = str(values["data_path"])
    values["data_path"] = (
        str(recbole_folder() / "dataset_example" / dataset) if dataset == "ml-100k" else os.path.join(parent, dataset)
    )
    return values


def _file_faults(dataset: str, run: RunValues, wrong: Collection[str]) -> list[Fault]:
    """What the run reads and writes must be there, or be to be had; paths that are wrong by themselves are left out."""
    faults = []
    folder = run["data_path"]
    parts = next((key for key in ("benchmark_filename", "split_files") if run[key] is not None), None)
    if parts is not None:
        files = [f"{dataset}.{part}.inter" for part in run[parts]] if isinstance(run[parts], (list, tuple)) else []
        missing = [name for name in files if not os.path.isfile(os.path.join(folder, name))]
        if missing:
            faults.append(Fault(parts, run[parts], f"the folder [{folder}] has no file {', '.join(missing)}"))
    elif not os.path.isfile(os.path.join(folder, f"{dataset}.inter")):
        if os.path.isdir(folder):
            faults.append(Fault("dataset", dataset, f"the folder [{folder}] has no file {dataset}.inter"))
        elif dataset not in downloadable():
            line = f"no folder [{folder}] with {dataset}.inter; set data_path to its parent"
            faults.append(Fault("dataset", dataset, line))
    for key, writes in (("dataset_save_path", "save_dataset"), ("dataloaders_save_path", "save_dataloaders")):
        if key not in wrong and run[key] is not None and not os.path.isfile(run[key]):
            faults.append(
                Fault(key, run[key], f"no such file; it is read from here, {writes} writes it into checkpoint_dir")
            )
    for key in ("record_dir", "checkpoint_dir"):
        if key not in wrong and (run[key] or key == "checkpoint_dir"):
            try:
                check_writable(key, run[key])
            except SettingError as error:
                faults.append(Fault(error.key, error.value, error.allowed))
    return faults


def downloadable() -> dict[str, str]:
    """Datasets that RecBole downloads, by name."""
    path = recbole_folder() / "properties" / "dataset" / "url.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def check_writable(key: str, folder: str) -> None:
    """Make a folder that results go to, and write a little into it.

    Raises:
        SettingError: it cannot be made or written.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise SettingError(key, folder, f"the folder cannot be made ({reason})") from error
    try:
        probe(folder)
    except OSError as error:
        raise SettingError(key, folder, f"the folder cannot be written ({error.strerror})") from error


def check_logs(run: RunValues) -> None:
    """RecBole makes ``log/`` and ``log_tensorboard/`` in the current folder; nothing is made here.

    Raises:
        DataError: they cannot be written.
    """
    for folder in (os.path.join("log", str(run["model"])), "log_tensorboard"):
        there = os.path.abspath(folder)
        while not os.path.lexists(there):
            there = os.path.dirname(there)
        try:
            probe(there)
        except OSError as error:
            raise DataError(
                f"[{there}] cannot be written ({error.strerror}); RecBole writes {folder} into the current folder: start from one "
                "that can be written"
            ) from error
