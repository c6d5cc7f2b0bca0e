"""Defaults that follow what the user set, where both together would contradict each other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from recbole_gr.settings.recbole_keys import read_recbole_properties
from recbole_gr.utils.errors import RecBoleGRError
from recbole_gr.utils.table_files import read_header


def following(values: Mapping[str, Any], given: Mapping[str, Any], folder: str) -> Iterator[tuple[dict[str, Any], str]]:
    """What changes, and what it follows, in words.

    Args:
        values: all settings of the run by key.
        given: those that the user set.
        folder: of the dataset's files.
    """
    yield from _ready_split(values, given, folder)
    if given.get("repeatable") and values.get("repeatable") and "mask_seen" not in given and "mask_seen" in values:
        yield {"mask_seen": False}, "repeatable=True"


def _ready_split(values: Mapping[str, Any], given: Mapping[str, Any], folder: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Parts in files: those that bring histories are RecBole's ``benchmark_filename``, the others ours, whichever key named them."""
    key = next((key for key in ("split_files", "benchmark_filename") if values.get(key)), None)
    parts = values[key] if key else None
    if key is None or not isinstance(parts, (list, tuple)) or len(parts) != 3 or "split_files" not in values:
        return
    if values.get("split_files") and values.get("benchmark_filename"):
        return  # a fault of its own
    separator = values.get("field_separator") or "\t"
    columns = [
        read_columns(os.path.join(folder, f"{os.path.basename(folder)}.{part}.inter"), separator, values.get("encoding"))
        for part in parts
    ]
    if not all(columns):
        return  # files that are not there or cannot be read are faults of their own
    suffix = values.get("LIST_SUFFIX") or read_recbole_properties("dataset/sample").get("LIST_SUFFIX") or "_list"
    histories = f"{values['ITEM_ID_FIELD']}{suffix}"
    if not all(histories in of_part for of_part in columns):
        if key == "benchmark_filename":
            yield {"split_files": list(parts), "benchmark_filename": None}, f"the files of {key}, which have no {histories}"
        return
    changes: dict[str, Any] = {}
    if key == "split_files":
        changes = {"benchmark_filename": list(parts), "split_files": None}
    alias = values.get("alias_of_item_id") or []
    if histories not in alias:
        changes["alias_of_item_id"] = [*alias, histories]
    if "loss_positions" not in given and values.get("loss_positions") == "all":
        changes["loss_positions"] = "last"
    if changes:
        yield changes, f"the files of {key}, which have {histories}"


def read_columns(path: str, separator: str, encoding: str | None) -> set[str]:
    """The columns of a file; none where it cannot be read, which is a fault of its own."""
    try:
        return set(read_header(path, separator, encoding))
    except (OSError, RecBoleGRError):
        return set()
