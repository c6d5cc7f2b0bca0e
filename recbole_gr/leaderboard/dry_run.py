"""What ``--dry-run`` checks beyond the settings: the rows that are to run, as far as their runs go before training."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import TYPE_CHECKING

from tqdm import tqdm

from recbole_gr.leaderboard.board import Board, Cell
from recbole_gr.leaderboard.row_check import SET_HERE
from recbole_gr.leaderboard.runner import Runner
from recbole_gr.utils.errors import RecBoleGRError

if TYPE_CHECKING:
    from recbole_gr.experiment.probe import Cost


def check_cells(board: Board, runner: Runner) -> dict[str, Cost]:
    """Check the first cell of each row that has no record yet, with its data, semantic IDs of its shape, and its model.

    Returns:
        Of a study, by the key of that cell, what it will cost by a few of its steps; of other boards nothing.

    Raises:
        RecBoleGRError: a line for each row that cannot run.
    """
    from recbole_gr.experiment.check_only import check_only
    from recbole_gr.experiment.probe import probe

    waiting: dict[int, Cell] = {}
    for cell in board.cells():
        if runner.record(cell.key) is None:
            waiting.setdefault(id(cell.row), cell)
    lines: list[str] = []
    costs: dict[str, Cost] = {}
    for cell in tqdm(waiting.values(), desc="check", unit="row", dynamic_ncols=True, disable=None if waiting else True):
        try:
            settings = {"show_progress": False, **cell.settings}
            if board.is_study:
                if not costs:  # what a process does once, imports among it, is no cost of the first row
                    check_only(cell.row.model, board.dataset, settings)
                costs[cell.key] = probe(cell.row.model, board.dataset, settings)
            else:
                check_only(cell.row.model, board.dataset, settings)
        except Exception as error:  # whatever a run would end with
            words = str(error) if isinstance(error, RecBoleGRError) else f"{type(error).__name__}: {error}"
            lines += [f"row {cell.row.name!r} of {board.file}: {line.removesuffix(SET_HERE)}" for line in words.splitlines()]
    if lines:
        raise RecBoleGRError("\n".join(lines))
    return costs


def estimate(board: Board, runner: Runner, costs: Mapping[str, Cost]) -> str:
    """What a study will cost by the probes of its rows, and what it cost where it ran: a table as text."""
    from tabulate import tabulate

    lines, total = [], 0.0
    for row in board.rows:
        cells = [cell for cell in board.cells() if cell.row is row]
        records = [record for cell in cells if (record := runner.record(cell.key)) is not None]
        cost = next((costs[cell.key] for cell in cells if cell.key in costs), None)
        left = len(cells) - len(records)
        took = mean(record["stages"]["whole"]["cpu_seconds"] for record in records) if records else None
        expected = cost.seconds if cost is not None else None
        total += left * (took if took is not None else expected or 0.0)
        lines.append(
            [
                row.name,
                "-" if cost is None else f"{cost.parameters:,}",
                "-" if cost is None else f"{cost.flops:.2g}",
                "-" if expected is None else f"{expected / 60:.1f}",
                "-" if took is None else f"{took / 60:.1f}",
                left,
            ]
        )
    head = ["row", "trained weights", "training FLOPs", "CPU min by probe", "CPU min measured", "cells to run"]
    note = "; not counted: certificates, encoding of item texts, CF models; early stopping saves"
    return f"{tabulate(lines, head, disable_numparse=True)}\nestimate: {total / 3600:.2f} CPU hours{note}"
