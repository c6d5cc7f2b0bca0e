"""Equal effort: the same number of trials for every row that has a search space, drawn as RecBole's HyperTuning draws them;
or every combination of its choices.

A trial is a cell like any other, run in a process of its own and kept; a search that was stopped draws the same trials
again and finds their records.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from recbole_gr.leaderboard.board import Cell
from recbole_gr.utils.errors import RecBoleGRError


class CellKilled(RecBoleGRError):
    """A process was ended from outside, which says nothing of its settings."""


class BoardStopped(Exception):
    """The user stopped the board while the cell was waiting or running."""


def search_settings(cell: Cell, run_trial: Callable[[Cell], dict[str, Any] | None]) -> dict[str, Any]:
    """The settings of a row's search space with the best validation score.

    Args:
        cell: the row's first cell.
        run_trial: takes the cell of a trial, returns its record, or None if it failed of itself. What it raises ends the
            search: a trial that was stopped or killed is not one that failed.

    Returns:
        ``found``, the settings; ``trials``, of each its settings, key and score; ``effort``, the board's.

    Raises:
        RecBoleGRError: all trials failed.
    """
    import hyperopt
    import numpy as np

    trials: list[dict[str, Any]] = []
    effort = cell.board.effort

    def objective(settings: Mapping[str, Any]) -> dict[str, Any]:
        """Run a trial; hyperopt wants its loss."""
        found = {key: _plain(value) for key, value in settings.items()}
        trial = replace(cell, row=replace(cell.row, search=None, name=f"{cell.row.name} trial"), found=found)
        record = run_trial(trial)
        score = record["valid"][cell.board.main_metric] if record else None
        trials.append({"settings": found, "key": trial.key, "score": score})
        return {"loss": -(score or 0.0), "status": hyperopt.STATUS_OK}

    if effort.algorithm == "exhaustive":
        for settings in combinations(cell.row.search or {}):
            objective(settings)
    else:
        # HyperTuning.run would draw other trials at every start, and stop a row that makes no progress: no equal effort
        hyperopt.fmin(
            objective,
            search_space(cell.row.search or {}),
            algo={"random": hyperopt.rand.suggest, "bayes": hyperopt.tpe.suggest}[effort.algorithm],
            max_evals=effort.trials,
            rstate=np.random.default_rng(effort.seed),
            show_progressbar=False,
        )
    scored = [trial for trial in trials if trial["score"] is not None]
    if not scored:
        raise RecBoleGRError(f"search of {cell.row.name}: all {len(trials)} trials failed")
    best = max(scored, key=lambda trial: trial["score"])
    return {"found": best["settings"], "trials": trials, "effort": effort.model_dump()}


def combinations(asked: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of the choices of a search space; the values of the last setting change first."""
    choices = asked.get("choice", {})
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values))


def search_space(asked: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """hyperopt's form of a search space, as RecBole's ``HyperTuning(params_dict=...)`` makes it."""
    from hyperopt import hp

    space = {}
    for draw, settings in asked.items():
        for key, values in settings.items():
            space[key] = hp.choice(key, values) if draw == "choice" else getattr(hp, draw)(key, *map(float, values))
    return space


def _plain(value: Any) -> Any:
    """hyperopt draws numpy's numbers."""
    return value.item() if hasattr(value, "item") else value
