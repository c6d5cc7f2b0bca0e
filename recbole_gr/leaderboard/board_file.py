"""A board's yaml file: read, and checked key by key."""

import itertools
import json
import os
from pathlib import Path

import yaml

from recbole_gr.leaderboard.board import Board, Row
from recbole_gr.leaderboard.search import check_search
from recbole_gr.settings.checks import check_choice
from recbole_gr.settings.values import SettingsLoader
from recbole_gr.utils.errors import SettingError

ACCURACY = ("Recall", "NDCG", "MRR", "Hit", "MAP", "Precision")
OF_LISTS = ("ItemCoverage", "GiniIndex", "AveragePopularity", "TailPercentage", "ShannonEntropy")
METRICS = (*ACCURACY[:4], *OF_LISTS[:4])

#: Models of ours, which are compared with the best of the others.
GENERATIVE = ("TIGER", "LLMasRS")

#: Settings that follow from keys of the board. A file that is meant for ``recbole-gr run`` may hold them; the board's hold.
BY_KEYS = {"seed": "seeds", "metrics": "metrics", "topk": "topk", "valid_metric": "main_metric"}

#: Settings that a board may not hold, and why.
REFUSED = {
    **{key: f"is said by the key {word} of the board" for key, word in BY_KEYS.items()},
    **{key: f"is said by the key {key} of the board" for key in ("dataset", "config_files")},
    "model": "is said by the rows of the board",
    **{key: "every cell has its own" for key in ("checkpoint_dir", "record_dir", "record_name", "resume")},
    **{key: "a cell runs in one process" for key in ("nproc", "ip", "port", "world_size", "group_offset")},
}

_BOARD_KEYS = {
    **{"name": str, "dataset": str, "description": str, "main_metric": str, "config_files": list, "protocol": dict},
    **{"metrics": list, "topk": list, "seeds": list, "rows": list, "side_by_side": list, "published": list},
    **{"id_level": bool, "search": dict},
}
_ROW_KEYS = {
    **{"name": str, "model": str, "settings": dict, "config_files": list, "seeds": list, "baseline": bool},
    "search": dict,
}


def read_board(file, given=None):
    """Read and check a board.

    Args:
        file (str): the yaml file.
        given (dict): settings from the command line for every cell, for example ``data_path``.

    Returns:
        Board

    Raises:
        SettingError: names the file's key, its value and what is allowed.
    """
    asked = _read_yaml("leaderboard", file)
    _check_keys(asked, _BOARD_KEYS, file, ("dataset", "rows"))
    metrics, topk = asked.get("metrics", list(METRICS)), asked.get("topk", [5, 10, 20])
    for metric in metrics:
        check_choice("metrics", metric, (*ACCURACY, *OF_LISTS))
    _check_distinct("metrics", metrics)
    effort = {"trials": 10, "algorithm": "random", "seed": 2020, **asked.get("search", {})}
    given = _checked(given or {}, "the command line")
    board = Board(
        name=asked.get("name", Path(file).stem),
        dataset=asked["dataset"],
        description=asked.get("description", ""),
        protocol={**_read_config_files(asked), **_checked(asked.get("protocol", {}), f"protocol of {file}")},
        metrics=tuple(metrics),
        topk=tuple(_check_numbers("topk", topk, 1)),
        main_metric=asked.get("main_metric", "NDCG@10").lower(),
        rows=tuple(_rows(asked, effort, file, given)),
        published=tuple(asked.get("published", ())),
        id_level=asked.get("id_level", False),
        effort=effort,
        file=file,
        given=given,
    )
    ranked = [f"{metric.lower()}@{k}" for metric in metrics if metric in ACCURACY for k in topk]
    if board.main_metric not in ranked:
        raise SettingError("main_metric", board.main_metric, f"must be one of metrics at one of topk: {', '.join(ranked)}")
    return board


def _check_keys(asked, kinds, where, needed):
    for key in needed:
        if not asked.get(key):
            raise SettingError(key, asked.get(key), f"must be set in {where}")
    for key, value in asked.items():
        if key not in kinds:
            raise SettingError(key, value, f"no such key in {where}; there are {', '.join(kinds)}")
        if not isinstance(value, kinds[key]):
            raise SettingError(key, value, f"must be a {kinds[key].__name__} in {where}")


def _check_numbers(key, values, least):
    if not values or any(type(value) is not int or value < least for value in values):
        raise SettingError(key, values, f"must be a list of whole numbers of at least {least}")
    _check_distinct(key, values)
    return values


def _check_distinct(key, values):
    if len(set(values)) < len(values):
        raise SettingError(key, values, "must not hold the same twice")


def _read_yaml(key, file):
    if not os.path.isfile(file):
        raise SettingError(key, file, "no such file")
    try:
        read = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=SettingsLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(key, file, f"is not yaml: {' '.join(str(error).split())}") from error
    if not isinstance(read, dict):
        raise SettingError(key, file, "must hold keys and values")
    return read


def _read_config_files(asked):
    settings = {}
    for file in asked.get("config_files", ()):
        read = {key: value for key, value in _read_yaml("config_files", file).items() if key not in BY_KEYS}
        settings.update(_checked(read, file))
    return settings


def _checked(settings, where):
    """Settings of a cell, which must be plain, for they travel as json, and not be the board's to say."""
    for key, value in settings.items():
        if key in REFUSED:
            raise SettingError(key, value, f"{REFUSED[key]}, it cannot be a setting in {where}")
        try:
            json.dumps(value)
        except TypeError as error:
            raise SettingError(key, value, f"must be text, number, switch, list or mapping in {where}") from error
    return settings


def _variants(asked, file, given):
    """What the board varies side by side."""
    variants = asked.get("side_by_side") or [{}]
    for variant in variants:
        if not isinstance(variant, dict):
            raise SettingError("side_by_side", variant, f"must hold settings and their values in {file}")
        for key in _checked(variant, f"side_by_side of {file}").keys() & given.keys():
            raise SettingError(key, given[key], f"{file} varies it side by side, it cannot be set on the command line")
    return variants


def _rows(asked, effort, file, given):
    names = set()
    for variant, number in itertools.product(_variants(asked, file, given), range(len(asked["rows"]))):
        row = asked["rows"][number]
        where = f"row {number + 1} of {file}"
        if not isinstance(row, dict):
            raise SettingError("rows", row, f"{where} must hold keys and values, model among them")
        _check_keys(row, _ROW_KEYS, where, ("model",))
        name = row.get("name", row["model"])
        if (name, str(variant)) in names:
            raise SettingError("name", name, f"{where} has the name of another row")
        names.add((name, str(variant)))
        if "search" in row:
            check_search(row["search"], effort, where, {**REFUSED, **{key: "is set on the command line" for key in given}})
        yield Row(
            name=name,
            model=row["model"],
            settings={**_read_config_files(row), **_checked(row.get("settings", {}), f"settings of {where}")},
            seeds=tuple(_check_numbers("seeds", row.get("seeds", asked.get("seeds", [2020])), 0)),
            baseline=row.get("baseline", row["model"] not in GENERATIVE),
            search=row.get("search"),
            variant=variant,
        )
