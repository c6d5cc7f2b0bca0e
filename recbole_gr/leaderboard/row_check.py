"""Checks of a board's rows as their runs would make them, so that an error shows before hours of other rows.

What is compared must have been measured under one protocol. A row that leaves it, a recipe perhaps that does not mask seen
items, is refused; what a board varies on purpose it names under ``side_by_side``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from recbole_gr.integration.check_run import check_run, known_keys, settings_of_model, single_faults
from recbole_gr.leaderboard.board import NO_BASELINE, Board, Cell, Row
from recbole_gr.leaderboard.history_length import with_one_history_length
from recbole_gr.leaderboard.published import published_elsewhere
from recbole_gr.settings.check import unknown_keys
from recbole_gr.settings.field import Fault, keys_of
from recbole_gr.settings.protocol import ProtocolSettings
from recbole_gr.settings.recbole_keys import RecBoleSettings
from recbole_gr.settings.values import parse_text
from recbole_gr.utils.errors import RecBoleGRError, SettingError, SettingErrors

#: What a fault of a row says of its place, which is not the user's.
SET_HERE = " (set in config_dict)"


@dataclass(frozen=True)
class CheckedBoard:
    """A board that may run.

    Args:
        board: with one history length for all sequential rows.
        configs: RecBole's Config of the first cell of each row, in their order.
        notices: a line for each thing that the board decided by itself.
    """

    board: Board
    configs: list[Any]
    notices: list[str]


def check_rows(board: Board) -> CheckedBoard:
    """Check every row, and that all rows of a variant share their protocol.

    Args:
        board: the board.

    Raises:
        RecBoleGRError: names the row.
        SettingErrors: several rows have faults, one line each.
    """
    _check_each(board, _check_settings)  # what costs nothing comes first
    configs = _check_each(board, _config_of)
    agreed, notices = with_one_history_length(board, configs)
    if agreed is not board:
        configs = _check_each(agreed, _config_of)
    _raise(_protocol_faults(agreed, configs))
    if not any(row.baseline for row in board.rows):
        notices.append(NO_BASELINE)
    return CheckedBoard(agreed, list(configs.values()), [*notices, *published_elsewhere(board.published, board.dataset)])


def _check_each(board: Board, check: Callable[[Board, Row], Any]) -> dict[int, Any]:
    """What a check makes of each row by its number; the faults of all rows together."""
    faults: list[SettingError] = []
    made = {}
    for number, row in enumerate(board.rows):
        try:
            made[number] = check(board, row)
        except SettingError as error:
            faults.append(error)
        except SettingErrors as errors:
            faults += errors.errors
    _raise(faults)
    return made


def _raise(faults: Sequence[SettingError]) -> None:
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise SettingErrors(faults)


def _check_settings(board: Board, row: Row) -> None:
    """All faults of the row's settings, before RecBole is imported."""
    where = f"row {row.name!r} of {board.file}"
    try:
        check_run(row.model, board.dataset, None, Cell(board, row, row.seeds[0]).settings)
    except SettingError as error:
        raise SettingError(error.key, error.value, f"{error.allowed.removesuffix(SET_HERE)} ({where})") from error
    except SettingErrors as errors:
        placed = [
            SettingError(one.key, one.value, f"{one.allowed.removesuffix(SET_HERE)} ({where})") for one in errors.errors
        ]
        raise SettingErrors(placed) from errors
    for fault in _searched_faults(board, row):
        raise SettingError(fault.key, fault.value, f"{fault.allowed} (search of {where})")
    searched = {key: None for settings in (row.search or {}).values() for key in settings}
    for key, near in unknown_keys(searched, known_keys(searched)):
        raise SettingError("search", key, f"is not a setting of any model or dataset{near} ({where})")


def _searched_faults(board: Board, row: Row) -> Iterator[Fault]:
    """Values that a search may draw and that are wrong by themselves; of ``loguniform`` these are logarithms."""
    settings = settings_of_model(row.model)
    for draw, values_of in (row.search or {}).items():
        for key, values in values_of.items() if draw != "loguniform" else ():
            for value in values[:2] if draw != "choice" else values:
                yield from single_faults(row.model, settings, {key: parse_text(value)})


def _config_of(board: Board, row: Row) -> Any:
    """RecBole's Config of the row's first cell; it refuses settings in its own ways."""
    from recbole_gr.integration.config import make_config  # which imports RecBole

    try:
        return make_config(row.model, board.dataset, None, Cell(board, row, row.seeds[0]).settings)
    except RecBoleGRError:
        raise
    except Exception as error:
        where = f"row {row.name!r} of {board.file}"
        raise RecBoleGRError(f"{where}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def _protocol_faults(board: Board, configs: dict[int, Any]) -> list[SettingError]:
    """Rows that leave the protocol of the first row of their group."""
    faults = []
    first: dict[str, tuple[Row, dict[str, Any]]] = {}  # by group: the row that others must agree with, and its protocol
    for number, config in configs.items():
        row = board.rows[number]
        for group, protocol in _protocols(row, config).items():
            other, shared = first.setdefault(group, (row, protocol))
            for key, value in protocol.items():
                if value != shared[key]:
                    allowed = f"row {row.name!r} of {board.file} leaves the protocol, row {other.name!r} has {shared[key]!r}"
                    remedy = "set it for all under protocol, or vary it under side_by_side"
                    faults.append(SettingError(key, value, f"{allowed}; {remedy}"))
    return faults


def _protocols(row: Row, config: Any) -> dict[str, dict[str, Any]]:
    """The protocol of a row by those that must share it: all rows of a variant, and its sequential models."""
    variant = str(row.variant)
    shared = keys_of(ProtocolSettings, scope="protocol") | keys_of(RecBoleSettings, scope="protocol")
    protocols = {variant: {key: config[key] for key in sorted(shared)}}
    if str(config["MODEL_TYPE"]) == "ModelType.SEQUENTIAL":
        protocols[f"{variant}, sequential"] = {"MAX_ITEM_LIST_LENGTH": config["MAX_ITEM_LIST_LENGTH"]}
    return protocols
