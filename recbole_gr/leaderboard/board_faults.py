"""What pydantic finds in a board's file, as lines that name the key, the value and what is allowed."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from recbole_gr.leaderboard.board import LawKeys, Search
from recbole_gr.leaderboard.board_keys import BoardKeys, RowKeys, SweepKeys, placed
from recbole_gr.utils.errors import SettingError
from recbole_gr.utils.words import nearest


def faults_of_file(error: ValidationError, asked: Any, file: str) -> list[SettingError]:
    """What pydantic found, each fault with its key, its value and its place in the file; each key of a place once."""
    faults: dict[tuple[str, str, str], SettingError] = {}
    for found in error.errors():
        keys: type[BaseModel] = BoardKeys
        values, place, path = asked, file, list(found["loc"])
        if path[0] == "rows" and len(path) > 1:
            keys, values, place = RowKeys, asked["rows"][path[1]], f"row {int(path[1]) + 1} of {file}"
            path = path[2:]
        elif path[0] == "axes" and len(path) > 1:
            keys, values, place = SweepKeys, asked["axes"][path[1]], f"axes, {int(path[1]) + 1} of {file}"
            path = path[2:]
        elif path[0] in ("search", "law") and len(path) > 1:
            keys = Search if path[0] == "search" else LawKeys
            values, place, path = asked[path[0]], f"{path[0]} of {file}", path[1:]
        for fault in _faults_of_key(found, keys, values, place, path):
            faults.setdefault((place, fault.key, repr(fault.value)), fault)
    return list(faults.values())


def _faults_of_key(found: Any, keys: type[BaseModel], values: Any, place: str, path: list[Any]) -> list[SettingError]:
    kind = found["type"]
    if not path:  # a row that is no mapping
        word = "axes" if keys is SweepKeys else "rows"
        return [SettingError(word, values, f"must hold keys and values, model among them ({place})")]
    key = str(path[0])
    value = values.get(path[0]) if isinstance(values, dict) else values
    if kind == "value_error":
        own = found["ctx"]["error"]
        inside = key in ("settings", "protocol", "side_by_side", "grid", "points")
        return placed(own, f"{key} of {place}" if inside else place)
    if kind == "extra_forbidden":
        known = list(keys.model_fields)
        hint = nearest(key, known) or "; "
        return [SettingError(key, value, f"no such key in {place}{hint.rstrip()} there are {', '.join(known)}")]
    if kind in ("missing", "too_short", "string_too_short") or (value is None and keys.model_fields[key].is_required()):
        return [SettingError(key, value, f"must be set in {place}")]
    if key == "side_by_side" and len(path) > 1:
        return [SettingError(key, values[key][path[1]], f"must hold settings and their values in {place}")]
    return [SettingError(key, value, f"{_allowed(kind, keys, key)} in {place}")]


def _allowed(kind: str, keys: type[BaseModel], key: str) -> str:
    """What a key allows, in words."""
    info = keys.model_fields[key]
    if kind == "literal_error":
        return f"must be one of {', '.join(get_args(info.annotation))}"
    if kind in ("int_type", "greater_than_equal"):
        return f"must be a whole number of at least {info.metadata[0].ge}"
    if key in ("published", "config_files", "metrics"):
        return "must be a list of texts"
    if key in ("rows", "axes"):
        return "must be a list of rows" if key == "rows" else "must be a list of sweeps"
    words = {"string_type": "must be text", "bool_type": "must be True or False", "list_type": "must be a list"}
    return words.get(kind, "must hold keys and values")
