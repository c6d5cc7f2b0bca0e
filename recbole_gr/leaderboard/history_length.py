"""One history length for all sequential rows of a board, where the models' own defaults differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from recbole_gr.leaderboard.board import Board, Row

KEY = "MAX_ITEM_LIST_LENGTH"


def with_one_history_length(board: Board, configs: Mapping[int, Any]) -> tuple[Board, list[str]]:
    """Give a board one history length if it sets none: what some rows set, else the shortest of its models' defaults.

    The shortest is the one that every model of the board can read. Rows that set different lengths are left as they are, and
    so is a board whose rows agree.

    Args:
        board: the board.
        configs: RecBole's Config of each row by its number.

    Returns:
        The board with the length in its protocol, and a line that says so; the board itself and no line if nothing is set.
    """
    rows = {number: row for number, row in enumerate(board.rows) if _is_sequential(configs[number])}
    lengths = {number: configs[number][KEY] for number in rows}
    chosen = {lengths[number] for number, row in rows.items() if _sets(board, row)}
    if len(set(lengths.values())) < 2 or len(chosen) > 1:
        return board, []
    length = min(chosen or set(lengths.values()))
    defaults = dict.fromkeys(f"{board.rows[n].model} {lengths[n]}" for n, row in rows.items() if not _sets(board, row))
    why = "as in the rows that set it" if chosen else "the shortest of them"
    line = f"{KEY}={length} for all rows, {why}: the models' defaults differ ({', '.join(defaults)}); set it under protocol"
    return replace(board, protocol={**board.protocol, KEY: length}), [line]


def _sets(board: Board, row: Row) -> bool:
    return any(KEY in settings for settings in (board.protocol, row.settings, row.variant or {}, board.given))


def _is_sequential(config: Any) -> bool:
    return str(config["MODEL_TYPE"]) == "ModelType.SEQUENTIAL"
