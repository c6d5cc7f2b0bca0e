"""Checks of a board's rows as their runs would make them, so that an error shows before hours of other rows.

What is compared must have been measured under one protocol. A row that leaves it, a recipe perhaps that does not mask seen
items, is refused; what a board varies on purpose it names under ``side_by_side``.
"""

from __future__ import annotations

from typing import Any

from recbole_gr.integration.check_run import check_run, known_keys
from recbole_gr.leaderboard.board import Board, Cell, Row
from recbole_gr.settings.check import unknown_keys
from recbole_gr.settings.field import keys_of
from recbole_gr.settings.protocol import ProtocolSettings
from recbole_gr.settings.recbole_keys import RecBoleSettings
from recbole_gr.utils.errors import RecBoleGRError, SettingError, SettingErrors

#: What a fault of a row says of its place, which is not the user's.
_SET_HERE = " (set in config_dict)"


def check_rows(board: Board) -> list[Any]:
    """Check every row, and that all rows of a variant share their protocol.

    Args:
        board: the board.

    Returns:
        RecBole's Config of the first cell of each row, in their order.

    Raises:
        RecBoleGRError: names the row.
        SettingErrors: several rows have faults, one line each.
    """
    for check in (_check_settings, _config_of):  # what costs nothing comes first
        faults: list[SettingError] = []
        configs = {}
        for number, row in enumerate(board.rows):
            try:
                configs[number] = check(board, row)
            except SettingError as error:
                faults.append(error)
            except SettingErrors as errors:
                faults += errors.errors
        if check is _config_of:
            faults += _protocol_faults(board, configs)
        if len(faults) == 1:
            raise faults[0]
        if faults:
            raise SettingErrors(faults)
    return list(configs.values())


def _check_settings(board: Board, row: Row) -> None:
    """All faults of the row's settings, before RecBole is imported."""
    where = f"row {row.name!r} of {board.file}"
    try:
        check_run(row.model, board.dataset, None, Cell(board, row, row.seeds[0]).settings)
    except SettingError as error:
        raise SettingError(error.key, error.value, f"{error.allowed.removesuffix(_SET_HERE)} ({where})") from error
    except SettingErrors as errors:
        placed = [
            SettingError(one.key, one.value, f"{one.allowed.removesuffix(_SET_HERE)} ({where})") for one in errors.errors
        ]
        raise SettingErrors(placed) from errors
    searched = {key: None for settings in (row.search or {}).values() for key in settings}
    for key, near in unknown_keys(searched, known_keys(searched)):
        raise SettingError("search", key, f"is not a setting of any model or dataset{near} ({where})")


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
