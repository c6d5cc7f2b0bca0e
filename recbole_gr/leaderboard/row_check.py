"""Checks of a board's rows as their runs would make them, so that an error shows before hours of other rows.

What stands side by side must have been measured under one protocol. A row that leaves it, a recipe perhaps that does not mask,
is refused; what a board varies on purpose it names under ``side_by_side``.
"""

from recbole.utils import ModelType

from recbole_gr.integration.check_run import known_keys
from recbole_gr.integration.config import make_config
from recbole_gr.leaderboard.board import Cell
from recbole_gr.utils.errors import RecBoleGRError, SettingError

#: Settings that decide on which data and how a model is measured.
PROTOCOL = (
    *("eval_args", "mask_seen", "timestamp_order", "tie_order", "tie_interval", "tie_seed", "benchmark_filename"),
    *("user_inter_num_interval", "item_inter_num_interval", "filter_inter_by_user_or_item", "val_interval", "rm_dup_inter"),
)


def check_rows(board):
    """Check every row, and that all rows of a variant share their protocol.

    Args:
        board (recbole_gr.leaderboard.board.Board): what was asked for.

    Raises:
        RecBoleGRError: names the row.
    """
    first = {}  # of each variant, and of sequential models in it: the row that others must agree with, and its protocol
    for row in board.rows:
        for group, protocol in _protocols(row, _check_row(board, row)).items():
            other, shared = first.setdefault(group, (row, protocol))
            for key, value in protocol.items():
                if value != shared[key]:
                    allowed = f"row {row.name!r} of {board.file} leaves the protocol, row {other.name!r} has {shared[key]!r}"
                    raise SettingError(
                        key, value, f"{allowed}; set it for all under protocol, or vary it under side_by_side"
                    )


def _check_row(board, row):
    """RecBole's Config of the row's first cell."""
    where = f"row {row.name!r} of {board.file}"
    try:
        config = make_config(row.model, board.dataset, None, Cell(board, row, row.seeds[0]).settings)
    except SettingError as error:
        raise SettingError(error.key, error.value, f"{error.allowed} ({where})") from error
    except RecBoleGRError:
        raise
    except Exception as error:  # RecBole's Config refuses settings in its own ways
        raise RecBoleGRError(f"{where}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    searched = {key: None for settings in (row.search or {}).values() for key in settings}
    for key in searched:
        if key not in known_keys(searched):
            raise SettingError("search", key, f"no model or dataset setting has this name ({where})")
    return config


def _protocols(row, config):
    """The protocol of a row by those that must share it: all rows of a variant, and its sequential models."""
    variant = str(row.variant)
    protocols = {variant: {key: config[key] for key in PROTOCOL}}
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        protocols[f"{variant}, sequential"] = {"MAX_ITEM_LIST_LENGTH": config["MAX_ITEM_LIST_LENGTH"]}
    return protocols
