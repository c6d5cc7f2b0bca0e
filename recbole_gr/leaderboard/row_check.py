"""Checks of a board's rows as their runs would make them, so that an error shows before hours of other rows.

What is compared must have been measured under one protocol. A row that leaves it, a recipe perhaps that does not mask seen
items, is refused; what a board varies on purpose it names under ``side_by_side``.
"""

from __future__ import annotations

from typing import Any

from recbole_gr.experiment.run import known_settings, make_config
from recbole_gr.leaderboard.board import Board, Cell, Row
from recbole_gr.settings.general import check_settings
from recbole_gr.settings.llm import check_llm_settings
from recbole_gr.utils.errors import RecBoleGRError, SettingError, SettingErrors

#: What our models' datasets check when they are made, which is after the rows before them have run.
CHECKS = {"TIGER": check_settings, "LLMasRS": check_llm_settings}

#: Settings that decide on which data and how a model is measured.
PROTOCOL = (
    *("eval_args", "mask_seen", "timestamp_order", "tie_order", "tie_interval", "tie_seed", "benchmark_filename"),
    *("user_inter_num_interval", "item_inter_num_interval", "filter_inter_by_user_or_item", "val_interval", "rm_dup_inter"),
)


def check_rows(board: Board) -> None:
    """Check every row, and that all rows of a variant share their protocol.

    Args:
        board: the board.

    Raises:
        RecBoleGRError: names the row.
        SettingErrors: several rows have faults, one line each.
    """
    faults: list[SettingError] = []
    configs = {}
    for number, row in enumerate(board.rows):
        try:
            configs[number] = _check_row(board, row)
        except SettingError as error:
            faults.append(error)
        except SettingErrors as errors:
            faults += errors.errors
    faults += _protocol_faults(board, configs)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise SettingErrors(faults)


def _check_row(board: Board, row: Row) -> Any:
    """RecBole's Config of the row's first cell."""
    where = f"row {row.name!r} of {board.file}"
    try:
        config = make_config(row.model, board.dataset, None, Cell(board, row, row.seeds[0]).settings)
        if row.model in CHECKS:
            CHECKS[row.model](config)
    except SettingError as error:
        raise SettingError(error.key, error.value, f"{error.allowed} ({where})") from error
    except SettingErrors as errors:
        placed = [SettingError(one.key, one.value, f"{one.allowed} ({where})") for one in errors.errors]
        raise SettingErrors(placed) from errors
    except RecBoleGRError:
        raise
    except Exception as error:  # RecBole's Config refuses settings in its own ways
        raise RecBoleGRError(f"{where}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    for key in (key for settings in (row.search or {}).values() for key in settings):
        if key not in known_settings(config):
            raise SettingError("search", key, f"no model or dataset setting has this name ({where})")
    return config


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
    protocols = {variant: {key: config[key] for key in PROTOCOL}}
    if str(config["MODEL_TYPE"]) == "ModelType.SEQUENTIAL":
        protocols[f"{variant}, sequential"] = {"MAX_ITEM_LIST_LENGTH": config["MAX_ITEM_LIST_LENGTH"]}
    return protocols
