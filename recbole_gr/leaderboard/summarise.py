"""Makes the summary of a board from its cells' files alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_gr.leaderboard.arguments import publishable
from recbole_gr.leaderboard.board import NO_BASELINE, Board, Row
from recbole_gr.leaderboard.cell_files import CellFiles, read_cell
from recbole_gr.leaderboard.columns import DIGITS, ID_LEVEL, METRICS, metric_of, read_records
from recbole_gr.leaderboard.conditions import environment_words, protocol_words
from recbole_gr.leaderboard.measures import Bounds, measure_rankings, slice_bounds, slice_measures
from recbole_gr.leaderboard.published import read_published
from recbole_gr.leaderboard.significance import NOTE, NOTHING_TESTED, compare_with_best_baseline
from recbole_gr.leaderboard.study import analyse_rows, as_plain, injection_gains
from recbole_gr.leaderboard.summary import Comparison, LearningCurve, Measure, RowSummary, Summary
from recbole_gr.settings.values import plain

#: Metrics of slices and of semantic IDs, at the k of the main metric.
SHOWN_BY = ("recall", "ndcg")

STATISTICS = ("users", "items", "interactions", "mean_length", "sparsity")


def summarise(board: Board, records_folder: str) -> Summary:
    """Read what there is of a board's cells.

    Args:
        board: the board.
        records_folder: where the cells' files are.

    Returns:
        Its ``rows`` are in the order of the board, those whose cells failed or did not run included.

    Raises:
        SettingError: the board names published numbers that there are not.
    """
    metrics, list_metrics = _metric_names(board)
    published = read_published(board.published, board.dataset)
    rows: list[RowSummary] = []
    users: list[pd.DataFrame | None] = []
    tables: list[list[pd.DataFrame]] = []
    bounds: Bounds | None = None  # of the data alone: the same groups for all rows
    records: list[dict[str, Any]] = []
    by_interaction: list[bool] = []
    for row in board.rows:
        cells = [read_cell(cell, records_folder) for cell in board.cells() if cell.row is row]
        done = [cell for cell in cells if cell.record is not None]
        if done:
            bounds = bounds or slice_bounds(done[0].hit_ranks)
        per_seed = [_measure_cell(board, cell) for cell in done]
        tables.append(per_seed)
        rows.append(_summarise_row(board, row, cells, per_seed, bounds=bounds, folder=records_folder))
        users.append(_mean_over_seeds([_by_user(rankings) for rankings in per_seed]) if done else None)
        by_interaction.append(bool(done) and "ranking" in done[0].hit_ranks)
        records += [cell.record for cell in cells if cell.record is not None]
    tested = [name for name in metrics if not name.endswith(ID_LEVEL)]
    smaller = [name for name in tested + list_metrics if metric_of(name).smaller_is_better]
    for members in _comparable_rows(board, by_interaction):
        _add_significance(rows, users, members, tested)
        _add_places([rows[number] for number in members], tested + list_metrics, smaller)
    return Summary(
        name=board.name,
        dataset=board.dataset,
        description=board.description,
        command=board.command,
        protocol={**protocol_words(records), **_rankings_words(board, by_interaction)},
        statistics={key: records[0]["dataset_statistics"][key] for key in STATISTICS} if records else {},
        environment=environment_words(records),
        metrics=metrics,
        main_metric=board.main_metric,
        smaller_is_better=smaller,
        list_metrics=list_metrics,
        significance_note=_significance_note(rows),
        rows=rows,
        published=published,
        scaling=as_plain(analyse_rows(board, rows, tables)),
        injections=injection_gains(board, rows, tables),
    )


def _significance_note(rows: Sequence[RowSummary]) -> str:
    if any(row.significance for row in rows):
        return NOTE
    return NOTHING_TESTED if any(row.baseline for row in rows) else NO_BASELINE


def _metric_names(board: Board) -> tuple[list[str], list[str]]:
    """Metrics per user, those that count semantic IDs last, and metrics of lists."""
    names = [f"{metric.lower()}@{k}" for k in board.topk for metric in board.metrics]
    metrics = [name for name in names if metric_of(name).of_users]
    list_metrics = [name for name in names if name not in metrics]
    if board.id_level:
        metrics += [f"{metric}@{_main_k(board)}{ID_LEVEL}" for metric in SHOWN_BY]
    return metrics, list_metrics


def _main_k(board: Board) -> int:
    return int(board.main_metric.partition("@")[2])


def _variant(row: Row) -> str:
    return json.dumps(row.variant or {}, sort_keys=True)


def _comparable_rows(board: Board, by_interaction: Sequence[bool]) -> Collection[list[int]]:
    """The numbers of the rows that share a protocol and are measured by like rankings, group by group."""
    members: dict[tuple[str, bool], list[int]] = {}
    for number, row in enumerate(board.rows):
        members.setdefault((_variant(row), by_interaction[number]), []).append(number)
    return members.values()


def _rankings_words(board: Board, by_interaction: Sequence[bool]) -> dict[str, str]:
    """Where a user has several test interactions, which RecBole ranks by kind of model, how they are ranked."""
    if not any(by_interaction):
        return {}
    names = list(dict.fromkeys(row.name for row, several in zip(board.rows, by_interaction) if several))
    ranked = f"one per test interaction for {', '.join(names)}, paired by the user's mean"
    return {
        "rankings": ranked if all(by_interaction) else f"{ranked}; one per user for the others, which are compared apart"
    }


def _measure_cell(board: Board, cell: CellFiles) -> pd.DataFrame:
    """A table of rankings by metrics, those that count semantic IDs included where the model has such."""
    accuracy = [metric.lower() for metric in board.metrics if METRICS[metric.lower()].of_users]
    rankings = measure_rankings(cell.hit_ranks, accuracy, board.topk)
    if board.id_level and "id_rank" in cell.hit_ranks:
        by_id = measure_rankings(cell.hit_ranks, SHOWN_BY, [_main_k(board)], rank="id_rank")
        rankings = pd.concat([rankings, by_id], axis=1)
    return rankings


def _by_user(rankings: pd.DataFrame) -> pd.DataFrame:
    """A table of users by metrics."""
    return rankings if rankings.index.is_unique else rankings.groupby(level=0).mean()


def _mean_over_seeds(per_seed: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Of every user that all seeds were tested on: a table of users by metrics."""
    mean = per_seed[0]
    for users in per_seed[1:]:
        mean = (mean + users).dropna()  # a user that one of them lacks is NaN
    return mean / len(per_seed)


def _summarise_row(
    board: Board, row: Row, cells: list[CellFiles], per_seed: list[pd.DataFrame], *, bounds: Bounds | None, folder: str
) -> RowSummary:
    done = [cell for cell in cells if cell.record is not None]
    records = [cell.record for cell in cells if cell.record is not None]
    chosen = cells[0].found or {}
    first = (done or cells)[0].cell
    slices = slice_measures([cell.hit_ranks for cell in done], bounds, SHOWN_BY, _main_k(board)) if bounds and done else {}
    return RowSummary(
        name=row.name,
        model=row.model,
        variant=plain(publishable(row.variant or {})),
        sweep=row.sweep,
        axes=plain(publishable(row.axes)),
        baseline=row.baseline,
        state=_state(cells),
        errors=_errors(cells, per_seed),
        seeds=list(row.seeds),
        seeds_done=[cell.cell.seed for cell in done],
        measures=_measures(board, records, per_seed),
        slices=slices,
        cost=read_records(records, of_study=board.is_study),
        learning_curves=[_learning_curve(cell) for cell in done if cell.record and cell.record.get("learning_curve")],
        settings=plain(publishable(row.settings)),
        configuration=records[0]["config"] if records else {},
        chosen=chosen,
        search={**board.effort.model_dump(), "space": plain(row.search)} if row.search else None,
        reproduce=replace(first, found=chosen or None).command,
        records=[f"{_from_the_pages(folder)}/{cell.cell.key}.json" for cell in done],
    )


def _from_the_pages(folder: str) -> str:
    """The path to a board's cells, ``BOARD/cells``, from the folder where its pages are."""
    return "/".join(Path(folder).absolute().parts[-2:])


def _state(cells: Sequence[CellFiles]) -> str:
    done = sum(cell.record is not None for cell in cells)
    if done:
        return "complete" if done == len(cells) else "incomplete"
    return "failed" if any(cell.error for cell in cells) else "missing"


def _errors(cells: Sequence[CellFiles], per_seed: Sequence[pd.DataFrame]) -> list[str]:
    errors = [f"seed {cell.cell.seed}: {cell.error}" for cell in cells if cell.error]
    for cell, rankings in zip([cell for cell in cells if cell.record is not None], per_seed):
        errors += [f"seed {cell.cell.seed}: {words}" for words in _disagreements(cell.record or {}, rankings)]
    return errors


def _disagreements(record: dict[str, Any], rankings: pd.DataFrame) -> Iterator[str]:
    """Where hit ranks and RecBole's evaluator differ, in the digits that the latter printed."""
    digits = record["config"]["metric_decimal_place"]
    for name, value in rankings.mean().items():
        printed = record["test"].get(name, value)
        if abs(printed - value) > 0.5 * 10**-digits + 1e-9:
            yield f"{name} is {value:.{digits}f} by the hit ranks, {printed:.{digits}f} by RecBole's evaluator"


def _measures(board: Board, records: Sequence[dict[str, Any]], per_seed: Sequence[pd.DataFrame]) -> dict[str, Measure]:
    _, list_metrics = _metric_names(board)
    values = {str(name): [float(seed[name].mean()) for seed in per_seed] for name in (per_seed[0] if per_seed else ())}
    for name in list_metrics:
        recorded = [record["test"][name] for record in records if name in record["test"]]
        if recorded:
            values[name] = recorded
    return {name: _spread(numbers) for name, numbers in values.items()}


def _spread(values: list[float]) -> Measure:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Measure(float(np.mean(values)), std, list(values))


def _learning_curve(cell: CellFiles) -> LearningCurve:
    curve = (cell.record or {})["learning_curve"]
    return LearningCurve(
        cell.cell.seed,
        [point["epoch"] for point in curve],
        [point.get("valid_score") for point in curve],
        [point.get("train_loss") for point in curve],
    )


def _add_significance(
    rows: Sequence[RowSummary], users: Sequence[pd.DataFrame | None], members: Sequence[int], metrics: Sequence[str]
) -> None:
    measured = {number: table for number in members if (table := users[number]) is not None}
    baselines = {number for number in measured if rows[number].baseline}
    for number, found in compare_with_best_baseline(measured, baselines, metrics).items():
        rows[number].significance = {
            metric: Comparison(**{**values, "against": rows[values["against"]].name}) for metric, values in found.items()
        }


def _add_places(rows: Sequence[RowSummary], metrics: Sequence[str], smaller: Collection[str]) -> None:
    """Which rows are the best and the second in which metrics, at the printed digits."""
    for name in metrics:
        sign = 1 if name in smaller else -1
        worth = {
            number: round(sign * (row.measures[name].mean or 0.0), DIGITS)
            for number, row in enumerate(rows)
            if name in row.measures
        }
        ranked = sorted(set(worth.values()))
        for number, value in worth.items():
            if value == ranked[0]:
                rows[number].best.append(name)
            elif value == ranked[1]:
                rows[number].second.append(name)
