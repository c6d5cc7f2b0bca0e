"""The scaling law on a study: which rows are points of one curve, their sizes, and the resamples of their users and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from recbole_gr.leaderboard.arguments import as_argument
from recbole_gr.leaderboard.board import Board, Row
from recbole_gr.leaderboard.columns import metric_title
from recbole_gr.leaderboard.quantities import N_CF, N_SI
from recbole_gr.leaderboard.summary import RowSummary
from recbole_gr.scaling.analysis import Analysis, analyse
from recbole_gr.scaling.fit import Points
from recbole_gr.scaling.intervals import value_interval

#: Axes that make a model, its encoder or its tokenizer larger; the values of all others keep curves apart.
SIZE_AXES = frozenset(
    (
        *("model_size", "n_layers", "depth_layers", "d_model", "n_heads", "d_kv", "d_ff"),
        *("embedding_size", "hidden_size", "inner_size", "mlp_hidden_size"),
        *("scratch_size", "scratch_vocabulary", "llm", "tuning", "lora_rank", "lora_share", "lora_targets"),
        *("text_encoder", "item_vector_file", "codebook_num", "codebook_size", "sid_file", "rqvae_hidden", "rqvae_latent"),
    )
)

#: Axes whose gain is drawn against size, and the value that injects nothing.
INJECTIONS = {"inject": "none", "cf_injection": "none"}

#: By the size that both terms have, the other sizes and their coefficients in N_SI and N_CF.
OTHERS = {"N_RS": (("N_LLM", "g1", ""), ("N_QT", "g2", "")), "N_trained": (("N_LLM", "gamma", "beta"),)}

#: Sizes that differ by less are one.
SAME = 0.01


def analyse_rows(board: Board, rows: Sequence[RowSummary], per_seed: Sequence[Sequence[pd.DataFrame]]) -> list[Analysis]:
    """Fit the law to every curve of a study.

    Args:
        board: the study.
        rows: its rows, as summarised; those of a curve get ``N_SI`` and ``N_CF`` in their costs.
        per_seed: of each row and seed a table of users by metrics.

    Returns:
        One per curve, in the order of the rows.
    """
    metric = law_metric(board)
    curves: dict[tuple[str, ...], list[int]] = {}
    for number, row in enumerate(board.rows):
        if row.sweep is not None and per_seed[number] and _main_size(rows[number]):
            curves.setdefault(curve_of(row), []).append(number)
    found = []
    for members in curves.values():
        size = _main_size(rows[members[0]])
        assert size is not None
        points, others, untold = _points(board, [rows[n] for n in members], [per_seed[n] for n in members], metric, size)
        name = curve_name(board.rows[members[0]])
        analysis = analyse(name, metric_title(metric), points, [rows[n].name for n in members], size, others, untold)
        for number in members:
            rows[number].cost |= effective_sizes(rows[number], size, others, analysis.coefficients)
        found.append(analysis)
    return found


def law_metric(board: Board) -> str:
    """The metric of the law: that of the board's key ``law``, else Recall at the k of the main metric."""
    return (board.law.metric or f"recall@{board.main_metric.partition('@')[2]}").lower()


def curve_of(row: Row) -> tuple[str, ...]:
    """What all points of a curve share: the sweep, the variant, and the values of the axes that are no sizes."""
    return (row.sweep or "", repr(sorted((row.variant or {}).items())), repr(sorted(_apart(row).items(), key=str)))


def curve_name(row: Row) -> str:
    """``TIGER, inject text``."""
    apart = {**(row.variant or {}), **_apart(row)}
    return ", ".join([row.sweep or "", *(f"{key} {as_argument(value)}" for key, value in apart.items())])


def _apart(row: Row) -> dict[str, Any]:
    """The values of axes that keep curves apart; nothing injected is as if the axis were not there."""
    return {key: value for key, value in row.axes.items() if key not in SIZE_AXES and INJECTIONS.get(key) != value}


def _main_size(row: RowSummary) -> str | None:
    """The size that counts as it is: what is trained of a language model, else the sequence model."""
    for size in ("N_trained", "N_RS"):
        if row.cost.get(size):
            return size
    return None


def _points(
    board: Board, rows: Sequence[RowSummary], per_seed: Sequence[Sequence[pd.DataFrame]], metric: str, size: str
) -> tuple[Points, list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """The points of a curve with their resamples, which other sizes vary among them, and which do not."""
    own = np.array([float(row.cost[size] or 0) for row in rows])
    sizes, others, untold = {size: own}, [], []
    for other in OTHERS[size]:
        values = [row.cost.get(other[0]) for row in rows]
        if any(value is None for value in values):
            continue
        column = np.array([float(value or 0) for value in values])
        if (column > 0).all() and np.ptp(np.log(column)) > SAME and np.ptp(np.log(column / own)) > SAME:
            sizes[other[0]] = column
            others.append(other)
        else:
            untold.append(other)
    tables = [[table[metric] for table in seeds] for seeds in per_seed]
    means, drawn, users = resample(tables, board.law.resamples, board.law.seed)
    spread = drawn - drawn.mean(axis=1, keepdims=True)  # what all rows share moves the ceiling, not the shape
    count = len(rows)
    error = float(np.sqrt(spread.var(axis=0).mean() * count / max(1, count - 1)))
    weights = np.array([float(users * len(seeds)) for seeds in per_seed])
    return Points(sizes, means, weights, max(error, 1e-6), drawn), others, untold


def resample(tables: Sequence[Sequence[pd.Series]], draws: int, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Draw users, the same for all rows, and the seeds of each row.

    A draw of so few seeds spreads less than the seeds do, by ``(k - 1) / k``; it is widened by that. A row of one seed spreads as
    those of several do on average.

    Args:
        tables: of each row and seed, a value per user, indexed by user.
        draws: how many.
        seed: of the draws.

    Returns:
        The means float64 ``[rows]``, the draws of them float64 ``[draws, rows]``, and the number of users that all have.
    """
    rng = np.random.default_rng(seed)
    shared = tables[0][0].groupby(level=0).mean().index
    for row in tables:
        for table in row:
            shared = shared.intersection(table.index.unique())
    cells = [[table.groupby(level=0).mean().reindex(shared).to_numpy(float) for table in row] for row in tables]
    users = len(shared)
    counts = rng.multinomial(users, np.full(users, 1 / users), size=draws) / users
    of_cells = [counts @ np.array(row).T for row in cells]  # [draws, seeds] of each row
    several = [np.var([cell.mean() for cell in row], ddof=1) for row in cells if len(row) > 1]
    usual = float(np.sqrt(np.mean(several))) if several else 0.0
    drawn = np.empty((draws, len(cells)))
    for number, row in enumerate(of_cells):
        seeds = row.shape[1]
        mean = row.mean(axis=1)
        if seeds == 1:
            drawn[:, number] = mean + rng.normal(0.0, usual, draws)
            continue
        chosen = np.take_along_axis(row, rng.integers(0, seeds, (draws, seeds)), axis=1).mean(axis=1)
        drawn[:, number] = mean + np.sqrt(seeds / (seeds - 1)) * (chosen - mean)
    return np.array([np.mean(row) for row in cells]), drawn, users


def effective_sizes(
    row: RowSummary, size: str, others: Sequence[tuple[str, str, str]], coefficients: Mapping[str, float]
) -> dict[str, float]:
    """``N_SI`` and ``N_CF`` of a row by the fit's coefficients; sizes without one, for they did not vary, are left out."""
    own = float(row.cost[size] or 0)
    of_si = sum(coefficients.get(si, 0.0) * float(row.cost[name] or 0) for name, si, _ in others)
    of_cf = sum(coefficients.get(cf, 0.0) * float(row.cost[name] or 0) for name, _, cf in others if cf)
    return {N_SI: round(own + of_si), N_CF: round(own + of_cf)}


def injection_gains(
    board: Board, rows: Sequence[RowSummary], per_seed: Sequence[Sequence[pd.DataFrame]]
) -> list[dict[str, Any]]:
    """What injected vectors add to the row that is the same without them.

    Returns:
        ``row``, ``axis``, ``value``, ``size``, and in the law's metric ``gain`` with ``low`` and ``high``; in the order of the rows.
    """
    metric, found = law_metric(board), []
    measured = [number for number, row in enumerate(rows) if per_seed[number] and _main_size(row)]
    for number in measured:
        row = board.rows[number]
        for axis, nothing in INJECTIONS.items():
            value = row.settings.get(axis, nothing)
            others = [other for other in measured if _same_without(row, board.rows[other], axis, nothing)]
            if row.sweep is None or value == nothing or not others:
                continue
            plain = others[0]
            tables = [[table[metric] for table in per_seed[one]] for one in (number, plain)]
            values, drawn, _ = resample(tables, board.law.resamples, board.law.seed)
            low, high = value_interval(drawn[:, 0] - drawn[:, 1])
            gain = {"gain": float(values[0] - values[1]), "low": low, "high": high}
            size = float(rows[plain].cost[str(_main_size(rows[plain]))] or 0)
            found.append({"row": rows[number].name, "axis": axis, "value": str(value), "size": size, **gain})
    return found


def _same_without(row: Row, other: Row, axis: str, nothing: Any) -> bool:
    """Whether a row is another one with nothing injected."""
    own, plain = ({key: value for key, value in one.settings.items() if key != axis} for one in (row, other))
    return (
        own == plain
        and (row.model, row.variant) == (other.model, other.variant)
        and other.settings.get(axis, nothing) == nothing
    )


def as_plain(analyses: Sequence[Analysis]) -> list[dict[str, Any]]:
    """For the summary's json."""
    return [asdict(analysis) for analysis in analyses]
