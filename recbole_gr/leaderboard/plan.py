"""What is to run, and how long it will take by what like cells took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING

from recbole_gr.leaderboard.board import Board, Cell

if TYPE_CHECKING:
    from recbole_gr.leaderboard.runner import Runner


class TimeLeft:
    """The time that the cells without a record will take.

    Args:
        runner: knows the records.
        cells: all of the board.
    """

    def __init__(self, runner: Runner, cells: Sequence[Cell]) -> None:
        self.runner, self.cells = runner, cells

    def measured(self) -> dict[str, float]:
        """Seconds of the cells that have a record, by cell key."""
        records = {cell.key: self.runner.record(cell.key) for cell in self.cells}
        return {key: record["stages"]["whole"]["seconds"] for key, record in records.items() if record}

    def expected(self, cell: Cell, measured: Mapping[str, float]) -> float | None:
        """Mean seconds of the cells of its row that have a record, else of those of its model; None if there are none."""
        for is_like in (lambda other: other.row.name == cell.row.name, lambda other: other.row.model == cell.row.model):
            like = [measured[other.key] for other in self.cells if other.key in measured and is_like(other)]
            if like:
                return mean(like)
        return None

    def _with_search(self, cell: Cell, measured: Mapping[str, float]) -> float | None:
        """Seconds of a cell, and of the trials of its row's search if it comes first."""
        seconds = self.expected(cell, measured)
        searches = cell.row.search and cell.seed == cell.row.seeds[0] and not self.runner.searched(cell)
        return seconds * (1 + cell.trials) if seconds is not None and searches else seconds

    def words(self, jobs: int) -> str:
        """The time left with so many processes, in words."""
        measured = self.measured()
        expected = [self._with_search(cell, measured) for cell in self.cells if cell.key not in measured]
        unknown = expected.count(None)
        known = duration(sum(seconds for seconds in expected if seconds is not None) / jobs)
        if not unknown:
            return known
        untimed = f"{unknown} cell{'s' * (unknown > 1)} of a kind not timed yet"
        return untimed if unknown == len(expected) else f"{known} and {untimed}"


def duration(seconds: float) -> str:
    """Seconds as ``2 h 05 min``, ``5 min`` or ``40 s``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def plan(runner: Runner, board: Board, jobs: int) -> str:
    """What would run, and how long like cells took: a table as text."""
    from tabulate import tabulate

    cells = board.cells()
    time_left = TimeLeft(runner, cells)
    measured = time_left.measured()
    lines = []
    for cell in cells:
        state = "there" if cell.key in measured else "running" if runner.is_running(cell) else "to run"
        seconds = measured.get(cell.key, time_left.expected(cell, measured))
        effort = f", {cell.trials} trials" if cell.row.search and cell.seed == cell.row.seeds[0] else ""
        took = "unknown" if seconds is None else duration(seconds)
        lines.append([cell.row.name, *(cell.row.variant or {}).values(), cell.seed, state + effort, took])
    head = ["row", *(board.rows[0].variant or {}), "seed", "state", "like cells took"]
    missing = len(cells) - len(measured)
    table = tabulate(lines, head, disable_numparse=True)
    return f"{table}\n{missing} of {len(cells)} cells to run with {jobs} at once, time left: {time_left.words(jobs)}"
