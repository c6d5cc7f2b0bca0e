"""Under what a board was measured, in words: its protocol and its environment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from recbole_gr.leaderboard.render.words import words

#: What the pages say of the protocol: the words, the setting, and words for its values.
PROTOCOL_WORDS: dict[str, tuple[str, dict[str, str]]] = {
    "split": (
        "split",
        {"{'LS': 'valid_and_test'}": "leave one out: a user's last interaction is for test, the one before for validation"},
    ),
    "order": ("order", {"TO": "by time", "RO": "random"}),
    "ranking": ("mode", {"{'valid': 'full', 'test': 'full'}": "all items", "full": "all items"}),
    "history length": ("MAX_ITEM_LIST_LENGTH", {}),
    "seen items": (
        "mask_seen",
        {"True": "masked for all models", "False": "not masked", "recbole": "masked for general models only, as in RecBole"},
    ),
    "timestamps": (
        "timestamp_order",
        {"exact": "in the file's full precision", "recbole": "rounded to float32, as in RecBole"},
    ),
    "tie order": ("tie_order", {"file": "as in the file", "shuffled": "shuffled"}),
}

#: What leaves a part of the data out: the words, the setting, and a form for its values.
FILTERS = {
    "users kept": ("user_inter_num_interval", "those with {} interactions"),
    "items kept": ("item_inter_num_interval", "those with {} interactions"),
    "values kept": ("val_interval", "{}"),
    "repeated interactions": ("rm_dup_inter", "{} kept"),
}


def protocol_words(records: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What the records were measured under, by their settings; where cells differ, all values that there are.

    Filters and the settings of ties are listed where they are set and play a part.

    Args:
        records: run records.

    Returns:
        Text by what it is about, :data:`FILTERS`, :data:`PROTOCOL_WORDS` and ``tie interval`` and ``tie seed``; empty
        without records.
    """
    settings = [{**record["config"]["eval_args"], **record["config"], **_split_in_files(record)} for record in records]
    return {**_filter_words(settings), **_setting_words(settings), **_tie_words(settings)}


def _split_in_files(record: dict[str, Any]) -> dict[str, str]:
    """Where the data brings its parts, in files or in a column, these are the split."""
    config = record["config"]
    parts = config.get("benchmark_filename") or config.get("split_files")
    if parts:
        return {"split": f"as the data's files give it: {words(parts)}"}
    column = config.get("split_column")
    return {"split": f"as the data's column {column} gives it"} if column else {}


def _filter_words(settings: Sequence[dict[str, Any]]) -> dict[str, str]:
    found = {}
    for name, (key, form) in FILTERS.items():
        values = [setting.get(key) for setting in settings]
        if any(value is not None for value in values):
            found[name] = _either("all" if value is None else form.format(_kept(value)) for value in values)
    return found


def _kept(value: Any) -> str:
    """An interval as RecBole writes it; of ``val_interval``, the fields with their intervals or values."""
    if isinstance(value, dict):
        return "; ".join(f"{field} in {words(values)}" for field, values in value.items())
    return "none" if value is False else str(value)  # rm_dup_inter: False keeps none of them


def _setting_words(settings: Sequence[dict[str, Any]]) -> dict[str, str]:
    found = {}
    for name, (key, named) in PROTOCOL_WORDS.items():
        # other models read no histories, whatever the setting
        readers = [setting for setting in settings if name != "history length" or _is_sequential(setting)]
        values = [str(setting[key]) for setting in readers if setting.get(key) is not None]
        if values:
            found[name] = _either(named.get(value, value) for value in values)
    return found


def _is_sequential(setting: dict[str, Any]) -> bool:
    return setting["MODEL_TYPE"] == "ModelType.SEQUENTIAL"


def _tie_words(settings: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Of shuffled ties, for those as in the file depend on neither."""
    shuffled = [setting for setting in settings if setting.get("tie_order") == "shuffled"]
    intervals = [setting.get("tie_interval") or 0 for setting in shuffled]
    seeds = [str(setting["tie_seed"]) for setting in shuffled if setting.get("tie_seed") is not None]
    found = {}
    if any(intervals):
        found["tie interval"] = _either(f"{length:,} seconds" if length else "equal timestamps only" for length in intervals)
    if seeds:
        found["tie seed"] = _either(seeds)
    return found


def _either(values: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(values))


def environment_words(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Versions, machines, revisions and the time from first to last of run records."""
    versions = {
        name: ", ".join(_distinct(record["versions"].get(name) for record in records))
        for name in ("recbole_gr", "recbole", "torch")
    }
    created = sorted(record["created"] for record in records)
    return {
        **versions,
        "device": _distinct(_device(record["machine"]) for record in records),
        "git_revision": _distinct(record["git_revision"] for record in records),
        "created": [created[0], created[-1]] if created else [],
    }


def _device(machine: dict[str, Any]) -> str:
    if machine["device"] != "cpu":
        return machine["device"]
    return f"cpu ({machine['processor']}, torch threads: {machine['torch_threads']})"


def _distinct(values: Iterable[Any]) -> list[Any]:
    return [value for value in dict.fromkeys(values) if value is not None]
