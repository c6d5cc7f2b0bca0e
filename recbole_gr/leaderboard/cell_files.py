"""The files that a cell left: its record, the hit ranks of its targets, what a search found, why it failed."""

import json
import os
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow

from recbole_gr.utils.errors import DataError

COLUMNS = ("user_id", "item_id", "rank", "history_length", "item_count")


@dataclass
class CellFiles:
    """What a cell left.

    Args:
        cell (recbole_gr.leaderboard.board.Cell): whose files they are.
        record (dict): the run record; None if it did not run, failed, or left files that cannot be read.
        hit_ranks (pandas.DataFrame): from :func:`read_hit_ranks`; None without a record.
        found (dict): the settings that the search of its row found; None if there are none.
        error (str): what went wrong; None if nothing did.
    """

    cell: object
    record: dict = None
    hit_ranks: pd.DataFrame = None
    found: dict = None
    error: str = None


def read_cell(cell, folder):
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
            files.hit_ranks = read_hit_ranks(os.path.join(folder, kept["file"]), kept["depth"], cell.board.topk)
            files.record = record
    except DataError as error:
        files.error = str(error)
    return files


def read_record(folder, key):
    """The record of a cell; None if the cell has to run: there is no record, it is damaged, or its hit ranks are gone."""
    try:
        record = read_json(os.path.join(folder, f"{key}.json"))
    except DataError:
        return None
    kept = (record or {}).get("hit_ranks")
    return None if kept and not os.path.exists(os.path.join(folder, kept["file"])) else record


def read_json(path):
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


def read_hit_ranks(path, depth, topk):
    """The hit ranks of a cell.

    Args:
        path (str): of the parquet file.
        depth (int): how far down the rankings were looked.
        topk (iterable of int): the k of the metrics that shall be computed.

    Returns:
        pandas.DataFrame: one row per user and target: ``user_id`` and ``item_id`` (str), ``rank`` and, for models with
        semantic IDs, ``id_rank`` (float64, 1 is the first, NaN: not among the first ``depth``), ``history_length`` and
        ``item_count`` (int32); ``ranking`` (int32) where users have several rankings.

    Raises:
        DataError: the file is missing or damaged, lacks a column, or was not made for so large a k.
    """
    try:
        hit_ranks = pd.read_parquet(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"[{path}] with hit ranks cannot be read: {' '.join(str(error).split())}") from error
    missing = [column for column in COLUMNS if column not in hit_ranks]
    if missing:
        raise DataError(f"[{path}] has no column {', '.join(missing)}; it has {', '.join(hit_ranks.columns)}")
    if max(topk) > depth:
        raise DataError(f"[{path}] tells ranks down to {depth} only; k={max(topk)} needs more")
    ranks = hit_ranks.columns.intersection(["rank", "id_rank"])
    return hit_ranks.assign(**{column: hit_ranks[column].to_numpy(dtype="float64", na_value=np.nan) for column in ranks})
