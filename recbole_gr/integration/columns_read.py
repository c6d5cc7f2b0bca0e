"""Which columns of the files a run reads (``load_col``, ``unload_col``): those that it cannot do without must be among them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from recbole_gr.integration.following import read_columns
from recbole_gr.settings.field import Fault, RunValues


def column_faults(run: RunValues) -> Iterator[Fault]:
    """Columns that are left out and needed, and settings of another form than RecBole reads.

    Args:
        run: the values; ``load_col`` and ``unload_col`` are looked at where the user set them.
    """
    for key in ("load_col", "unload_col"):
        if key in run.given and run[key] is not None and not _is_by_file(run[key]):
            yield Fault(key, run[key], "must hold, by file, lists of columns, for example {inter: [user_id, item_id]}")
            return
    loaded, unloaded = (run[key] if key in run.given else None for key in ("load_col", "unload_col"))
    if loaded and unloaded and loaded.keys() & unloaded.keys():
        both = ", ".join(sorted(loaded.keys() & unloaded.keys()))
        yield Fault("unload_col", unloaded, f"load_col is set for {both} too; one of them is enough")
        return
    needed = [run["USER_ID_FIELD"], run["ITEM_ID_FIELD"]]
    ready = any(run[key] is not None for key in ("benchmark_filename", "split_files", "split_column"))
    if run["eval_args"]["order"] == "TO" and not ready:
        needed.append(run["TIME_FIELD"])
    if loaded is not None:
        read = loaded.get("inter", [])
        yield from _left_out("load_col", loaded, [column for column in needed if read != "*" and column not in read])
        yield from _not_there(loaded, run)
    if unloaded is not None:
        yield from _left_out("unload_col", unloaded, [column for column in needed if column in unloaded.get("inter", [])])


def _is_by_file(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(columns, list) or columns == "*" for columns in value.values())


def _left_out(key: str, value: Any, columns: list[str]) -> Iterator[Fault]:
    if columns:
        yield Fault(
            key,
            value,
            f"leaves out {', '.join(columns)} of inter; users, items and, for the order of time, times are needed",
        )


def _not_there(loaded: dict[str, Any], run: RunValues) -> Iterator[Fault]:
    """Columns that a file lacks, which RecBole passes over."""
    for file, columns in loaded.items():
        path = os.path.join(str(run["data_path"]), f"{run['dataset']}.{file}")
        there = read_columns(path, run["field_separator"], run["encoding"])  # in no order
        if columns == "*" or not there:
            continue
        missing = [column for column in columns if column not in there]
        if missing:
            yield Fault(
                "load_col", loaded, f"[{path}] has no column {', '.join(missing)}; it has {', '.join(sorted(there))}"
            )
