"""The files that a cell left: its record, the hit ranks of its targets, what a search found, why it failed; and its lock."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from recbole_gr.leaderboard.board import Cell
from recbole_gr.utils.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("user_id", "item_id", "rank", "history_length", "item_count")


@dataclass
class CellFiles:
    """What a cell left.

    Args:
        cell: the cell.
        record: the run record; None if it did not run, failed, or left files that cannot be read.
        hit_ranks: from :func:`read_hit_ranks`; None without a record.
        found: the settings that the search of its row found; None if there are none.
        error: what went wrong; None if nothing did.
    """

    cell: Cell
    record: dict[str, Any] | None = None
    hit_ranks: Any = None
    found: dict[str, Any] | None = None
    error: str | None = None


@contextlib.contextmanager
def locked(path: str, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a file, which is made if it is not there; the operating system frees it when the process ends.

    Args:
        path: the file.
        wait: until another process frees it; else yields False at once if one holds it.

    Yields:
        Whether the lock is held.
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def read_cell(cell: Cell, folder: str) -> CellFiles:
    """Read the files of a cell in the folder of records; damaged ones are its error, not the board's."""
    files = CellFiles(cell)
    try:
        if cell.row.search:
            files.found = (read_json(os.path.join(folder, f"{cell.first.key}.search.json")) or {}).get("found")
        record = read_json(os.path.join(folder, f"{cell.key}.json"))
        if record is None:
            files.error = (read_json(os.path.join(folder, f"{cell.key}.failed.json")) or {}).get("error")
        else:
            kept = record.get("hit_ranks")
            if kept is None:
                raise DataError(f"the record {cell.key}.json names no hit ranks")
            files.hit_ranks = read_hit_ranks(
                os.path.join(folder, os.path.basename(kept["file"])), kept["depth"], cell.board.topk
            )
            files.record = record
    except DataError as error:
        files.error = str(error)
    return files


def read_record(folder: str, key: str) -> dict[str, Any] | None:
    """The record of a cell; None if the cell has to run: there is no record, it is damaged, or its hit ranks are gone."""
    try:
        record = read_json(os.path.join(folder, f"{key}.json"))
    except DataError:
        return None
    kept = (record or {}).get("hit_ranks")
    return None if kept and not os.path.exists(os.path.join(folder, os.path.basename(kept["file"]))) else record


def read_json(path: str) -> dict[str, Any] | None:
    """A json file; None if there is none.

    Raises:
        DataError: it is not json.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"[{path}] is not json: {error}") from error


def read_hit_ranks(path: str, depth: int, topk: Sequence[int]) -> pd.DataFrame:
    """The hit ranks of a cell.

    Args:
        path: of the parquet file.
        depth: how far down the rankings were recorded.
        topk: the k of the metrics that shall be computed.

    Returns:
        One row per user and target: ``user_id`` and ``item_id`` (str), ``rank`` and, for models with semantic IDs,
        ``id_rank`` (float64, 1 is the first, NaN: not among the first ``depth``), ``history_length`` and ``item_count``
        (int32); ``ranking`` (int32) where users have several rankings.

    Raises:
        DataError: the file is missing or damaged, lacks a column, or was not made for so large a k.
    """
    import numpy as np
    import pandas as pd
    import pyarrow

    try:
        hit_ranks = pd.read_parquet(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"[{path}] with hit ranks cannot be read: {' '.join(str(error).split())}") from error
    missing = [column for column in COLUMNS if column not in hit_ranks]
    if missing:
        raise DataError(f"[{path}] has no column {', '.join(missing)}; it has {', '.join(hit_ranks.columns)}")
    if max(topk) > depth:
        raise DataError(f"[{path}] holds ranks down to {depth} only; k={max(topk)} needs more")
    ranks = hit_ranks.columns.intersection(["rank", "id_rank"])
    return hit_ranks.assign(**{column: hit_ranks[column].to_numpy(dtype="float64", na_value=np.nan) for column in ranks})
