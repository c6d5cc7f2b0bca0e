"""``recbole-gr leaderboard BOARD`` and ``recbole-gr study STUDY``: run what is missing, then write the pages."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from recbole_gr.leaderboard.board import Board, Cell
from recbole_gr.leaderboard.board_file import read_board
from recbole_gr.settings.values import parse_text
from recbole_gr.utils.errors import RecBoleGRError, SettingError

if TYPE_CHECKING:
    from recbole_gr.leaderboard.runner import Runner
    from recbole_gr.leaderboard.summary import Summary

#: Besides the markdown page and the html page, and how their files end.
FORMATS = {"csv": ".csv", "latex": ".tex"}


def launch_leaderboard(arguments: Sequence[str], command: str = "leaderboard") -> None:
    """The command.

    Args:
        arguments: what follows ``recbole-gr leaderboard``.
        command: ``study`` demands a board with axes, and is the same otherwise.

    Raises:
        RecBoleGRError: the board cannot work, before any cell runs; or cells failed, after the pages are written.
    """
    options, settings = read_options(arguments, command)
    board = read_board(options.board, settings)
    if command == "study" and not board.is_study:
        raise SettingError(
            "axes", None, f"must be set in {board.file}, which is a board: recbole-gr leaderboard {board.file}"
        )
    from recbole_gr.leaderboard.other_defaults import other_defaults
    from recbole_gr.leaderboard.plan import plan
    from recbole_gr.leaderboard.row_check import check_rows

    sys.argv = sys.argv[:1]  # RecBole's Config would read the command line
    checked = check_rows(board)
    board = replace(checked.board, options=_options_given(options))
    runner = _runner(options, os.path.join(options.results_dir, board.name, "cells"))
    for line in [*checked.notices, *other_defaults(board, runner, checked.configs)]:
        print(line, file=sys.stderr)
    if options.dry_run:
        print(plan(runner, board, options.jobs), flush=True)
        from recbole_gr.leaderboard.dry_run import check_cells, estimate

        costs = check_cells(board, runner)
        if board.is_study:
            print(estimate(board, runner, costs), flush=True)
        return
    try:
        failed = runner.run_board(board)
    finally:
        runner.close()
    for path in write_results(board, runner.folder, options.results_dir, options.format):
        print(path)
    for cell in failed:
        print("\n".join(_failure_lines(runner, cell)), file=sys.stderr)
    if failed:
        raise RecBoleGRError(f"{len(failed)} of {len(board.cells())} cells failed; the pages show their errors")


def _runner(options: argparse.Namespace, folder: str) -> Runner:
    """Of this machine, or of a cluster; a dry run asks no cluster."""
    from recbole_gr.leaderboard.cluster import ClusterRunner, read_resources
    from recbole_gr.leaderboard.runner import Runner

    resources = read_resources(options.resources or "")
    if options.executor == "dask" and not options.dry_run:
        return ClusterRunner(folder, options.jobs, options.scheduler, resources)
    return Runner(folder, options.jobs)


def _options_given(options: argparse.Namespace) -> dict[str, Any]:
    """Options that shape the pages, where they are not the defaults."""
    asked = {
        "jobs": options.jobs,
        "format": options.format,
        "results_dir": options.results_dir,
    }
    defaults = {"jobs": 1, "format": None, "results_dir": "results"}
    return {key: value for key, value in asked.items() if value != defaults[key]}


def _failure_lines(runner: Runner, cell: Cell) -> list[str]:
    """Why a cell failed, where its log is, and the command that repeats it."""
    from recbole_gr.leaderboard.cell_files import read_cell

    files = read_cell(cell, runner.folder)
    lines = [f"failed: {cell.key}: {files.error}", f"  log: {runner.work_path(cell.key, '.log')}"]
    if cell.row.search and files.found is None:  # the search failed: there is nothing to repeat yet
        return lines
    return [*lines, f"  repeat: {replace(cell, found=files.found).command_here}"]


class _Parser(argparse.ArgumentParser):
    """Errors are one line, as those of settings are."""

    def error(self, message: str) -> NoReturn:
        raise RecBoleGRError(message)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command; what it does not know is a setting of every cell."""
    parser.add_argument("board", help="a yaml file, or the name of a board that comes with the package: ml-100k")
    parser.add_argument("--jobs", type=int, default=1, help="cells that run at once, on as many GPUs as there are (1)")
    parser.add_argument(
        "--dry-run", "--dry_run", action="store_true", help="list what would run and how long like cells took"
    )
    parser.add_argument(
        "--executor", choices=("local", "dask"), default="local", help="where cells run: here, or on a Dask cluster (local)"
    )
    parser.add_argument("--scheduler", help="with --executor dask: the address of the scheduler, tcp://HOST:8786")
    parser.add_argument("--resources", help="with --executor dask: what a cell takes of a worker, GPU=1 (nothing)")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="a table for other programs, besides the pages; latex: figures of a study as pdf too",
    )
    parser.add_argument(
        "--results_dir", "--results-dir", default="results", help="folder of the pages (results); records are below it"
    )


def read_options(arguments: Sequence[str], command: str = "leaderboard") -> tuple[argparse.Namespace, dict[str, Any]]:
    """The options of the command, and the settings of every cell.

    Raises:
        RecBoleGRError: an option cannot work, or an argument is no setting.
    """
    parser = _Parser(prog=f"recbole-gr {command}", allow_abbrev=False)
    add_options(parser)
    options, others = parser.parse_known_args(list(arguments))
    if options.jobs < 1:
        raise SettingError("jobs", options.jobs, "must be a whole number of at least 1")
    if options.executor == "dask" and not options.scheduler:
        raise SettingError("scheduler", None, "must be set with --executor dask: tcp://HOST:8786")
    for key in ("scheduler", "resources"):
        if options.executor == "local" and getattr(options, key) is not None:
            raise SettingError(key, getattr(options, key), "has no use without --executor dask")
    settings: dict[str, Any] = {}
    for argument in others:
        key, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not equals:
            raise RecBoleGRError(f"argument {argument!r}: settings are written --key=value or --key value")
        if key in settings:
            raise RecBoleGRError(f"argument {argument!r}: {key} is set twice")
        settings[key] = parse_text(value)
    return options, settings


def write_results(board: Board, records: str, folder: str, also: str | None = None) -> list[str]:
    """Write the pages of a board from its records.

    Args:
        board: the board.
        records: the folder of its cells' files.
        folder: where to.
        also: one of :data:`FORMATS`, or None.

    Returns:
        The paths.
    """
    from recbole_gr.leaderboard.render.csv import as_csv
    from recbole_gr.leaderboard.render.html import write_page
    from recbole_gr.leaderboard.render.latex import as_latex
    from recbole_gr.leaderboard.render.markdown import as_markdown
    from recbole_gr.leaderboard.summarise import summarise
    from recbole_gr.utils.atomic_files import atomic_write

    summary = summarise(board, records)
    path = os.path.join(folder, board.name)
    writers = {".md": as_markdown, ".csv": as_csv, ".tex": as_latex}
    endings = [".md", *([FORMATS[also]] if also else [])]
    for ending in endings:
        with atomic_write(path + ending) as file:
            file.write(writers[ending](summary))
    write_page(f"{path}.html", summary)
    return [path + ending for ending in (*endings, ".html")] + _write_figures(summary, folder, also == "latex")


def _write_figures(summary: Summary, folder: str, with_pdf: bool) -> list[str]:
    """The plots of a study as svg, and as pdf for LaTeX; returns their paths."""
    from recbole_gr.leaderboard.render.pdf import as_pdf
    from recbole_gr.leaderboard.render.scaling_plots import figure_path, scaling_plots
    from recbole_gr.leaderboard.render.svg import as_svg
    from recbole_gr.utils.atomic_files import atomic_write

    paths = []
    for plot in scaling_plots(summary) if summary.scaling else ():
        path = os.path.join(folder, figure_path(summary.name, plot.key))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with atomic_write(path) as file:
            file.write(as_svg(plot))
        paths.append(path)
        if with_pdf:
            paths.append(path.removesuffix(".svg") + ".pdf")
            with atomic_write(paths[-1], "wb") as file:
                file.write(as_pdf(plot))
    return paths
