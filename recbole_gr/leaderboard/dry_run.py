"""What ``--dry-run`` checks beyond the settings: the rows that are to run, as far as their runs go before training."""

from __future__ import annotations

from tqdm import tqdm

from recbole_gr.leaderboard.board import Board, Cell
from recbole_gr.leaderboard.row_check import SET_HERE
from recbole_gr.leaderboard.runner import Runner
from recbole_gr.utils.errors import RecBoleGRError


def check_cells(board: Board, runner: Runner) -> None:
    """Check the first cell of each row that has no record yet, with its data, semantic IDs of its shape, and its model.

    Raises:
        RecBoleGRError: a line for each row that cannot run.
    """
    from recbole_gr.experiment.check_only import check_only

    waiting: dict[int, Cell] = {}
    for cell in board.cells():
        if runner.record(cell.key) is None:
            waiting.setdefault(id(cell.row), cell)
    lines = []
    for cell in tqdm(waiting.values(), desc="check", unit="row", dynamic_ncols=True, disable=None if waiting else True):
        try:
            check_only(cell.row.model, board.dataset, {"show_progress": False, **cell.settings})
        except Exception as error:  # whatever a run would end with
            words = str(error) if isinstance(error, RecBoleGRError) else f"{type(error).__name__}: {error}"
            lines += [f"row {cell.row.name!r} of {board.file}: {line.removesuffix(SET_HERE)}" for line in words.splitlines()]
    if lines:
        raise RecBoleGRError("\n".join(lines))
