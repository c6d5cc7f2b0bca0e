"""``recbole-gr leaderboard BOARD.yaml``: run what is missing, then write table and page."""

import argparse
import os
import sys

from tabulate import tabulate

from recbole_gr.cli import parse
from recbole_gr.leaderboard.arguments import read_argument
from recbole_gr.leaderboard.board_file import read_board
from recbole_gr.leaderboard.page import write_page
from recbole_gr.leaderboard.published import read_published
from recbole_gr.leaderboard.row_check import check_rows
from recbole_gr.leaderboard.runner import Runner
from recbole_gr.leaderboard.summary import summarise
from recbole_gr.leaderboard.table import as_markdown
from recbole_gr.leaderboard.table_export import as_csv, as_latex
from recbole_gr.leaderboard.time_left import TimeLeft, duration
from recbole_gr.settings.checks import check_whole_number
from recbole_gr.utils.atomic_files import atomic_write
from recbole_gr.utils.errors import RecBoleGRError

#: Besides the markdown page and the html page.
FORMATS = {"csv": (".csv", as_csv), "latex": (".tex", as_latex)}


def launch_leaderboard(arguments):
    """The command.

    Args:
        arguments (list of str): what stands behind ``recbole-gr leaderboard``.

    Raises:
        RecBoleGRError: the board cannot work, before any cell runs; or cells failed, after the pages are written.
    """
    given, settings = _parse(arguments)
    board = read_board(given.board, settings)
    read_published(board.published, board.dataset)
    sys.argv = sys.argv[:1]  # RecBole's Config would read the command line
    check_rows(board)
    runner = Runner(os.path.join(given.results_dir, board.name, "cells"), given.jobs)
    if given.dry_run:
        return print(plan(runner, board, given.jobs))
    failed = runner.run_board(board)
    for path in write_results(board, runner.folder, given.results_dir, given.format):
        print(path)
    for cell in failed:
        print(f"failed: {cell.key}: see {runner.work_path(cell.key, '.log')}", file=sys.stderr)
    if failed:
        raise RecBoleGRError(f"{len(failed)} of {len(board.cells())} cells failed; the pages show their errors")


def _parse(arguments):
    parser = argparse.ArgumentParser(prog="recbole-gr leaderboard", allow_abbrev=False)
    parser.add_argument("board", help="the board's yaml file")
    parser.add_argument("--jobs", type=int, default=1, help="cells that run at once, on as many GPUs as there are")
    parser.add_argument(
        "--dry-run", "--dry_run", action="store_true", help="list what would run and how long like cells took"
    )
    parser.add_argument("--format", choices=FORMATS, help="a table for other programs, besides the pages")
    parser.add_argument("--results_dir", default="results", help="where the pages go; records lie below")
    known, others = parser.parse_known_args(arguments)
    check_whole_number("jobs", known.jobs, 1)
    return known, {key: read_argument(value) for key, value in parse(others).items()}


def plan(runner, board, jobs):
    """What would run, and how long like cells took: a table as text."""
    cells = board.cells()
    time_left = TimeLeft(runner, cells)
    measured = time_left.measured()
    lines = []
    for cell in cells:
        state = "there" if cell.key in measured else "running" if runner.is_running(cell) else "to run"
        seconds = measured.get(cell.key, time_left.expected(cell, measured))
        effort = f", {board.effort['trials']} trials" if cell.row.search and cell.seed == cell.row.seeds[0] else ""
        lines.append([cell.row.name, *(cell.row.variant or {}).values(), cell.seed, state + effort, _words(seconds)])
    varied = board.rows[0].variant or {}
    head = ["row", *varied, "seed", "state", "like cells took"]
    missing = len(cells) - len(measured)
    table = tabulate(lines, head, disable_numparse=True)
    return f"{table}\n{missing} of {len(cells)} cells to run with {jobs} at once, time left: {time_left.words(jobs)}"


def _words(seconds):
    return "unknown" if seconds is None else duration(seconds)


def write_results(board, records, folder, also=None):
    """Write the pages of a board from its records.

    Args:
        board (Board): the board.
        records (str): the folder of its cells' files.
        folder (str): where to.
        also (str): one of :data:`FORMATS`, or None.

    Returns:
        list of str: the paths.
    """
    summary = summarise(board, records)
    path = os.path.join(folder, board.name)
    texts = {".md": as_markdown}
    if also:
        ending, write = FORMATS[also]
        texts[ending] = write
    for ending, write in texts.items():
        with atomic_write(path + ending) as file:
            file.write(write(summary))
    write_page(f"{path}.html", summary)
    return [path + ending for ending in (*texts, ".html")]
