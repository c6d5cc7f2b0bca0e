"""Equal effort: RecBole's HyperTuning with the same number of trials for every row that has a space to search.

A trial is a cell like any other, run in a process of its own and kept; a search that was stopped draws the same trials
again and finds their records.
"""

from dataclasses import replace

import numpy as np

from recbole_gr.settings.checks import check_choice, check_whole_number
from recbole_gr.utils.errors import RecBoleGRError, SettingError

ALGORITHMS = ("random", "bayes")

#: The ways to draw a value, and how many numbers describe each; None: a list of values.
DRAWS = {"choice": None, "uniform": 2, "quniform": 3, "loguniform": 2}


class CellKilled(RecBoleGRError):
    """A process was ended from outside, which says nothing of its settings."""


class BoardStopped(Exception):
    """The user stopped the board while the cell was waiting or running."""


def check_search(space, effort, where, refused):
    """Check a row's space, as RecBole's ``HyperTuning(params_dict=...)`` takes it, and the board's effort.

    Args:
        space (dict): the row's.
        effort (dict): the board's.
        where (str): the row, in words.
        refused (dict): settings that cannot be searched, and why.

    Raises:
        SettingError
        RecBoleGRError: hyperopt is not installed.
    """
    for key in effort:
        check_choice("search", key, ("trials", "algorithm", "seed"))
    check_whole_number("trials", effort["trials"], 1)
    check_whole_number("seed", effort["seed"], 0)
    check_choice("algorithm", effort["algorithm"], ALGORITHMS)
    for draw, settings in space.items():
        if draw not in DRAWS or not isinstance(settings, dict):
            raise SettingError("search", space, f"in {where} must hold, under {', '.join(DRAWS)}, settings and their values")
        for key, values in settings.items():
            if key in refused:
                raise SettingError(key, values, f"{refused[key]}, it cannot be searched in {where}")
            count = DRAWS[draw]
            if not isinstance(values, list) or not values:
                raise SettingError(key, values, f"{draw} takes a list of values")
            numbers = [value for value in values if type(value) in (int, float)]
            if count is not None and (len(values) != count or len(numbers) != count or values[0] >= values[1]):
                raise SettingError(key, values, f"{draw} takes a list of {count} numbers, the lower bound first")
    try:
        import hyperopt  # noqa: F401
    except ImportError as error:
        raise RecBoleGRError(f"search in {where} needs the package hyperopt: pip install hyperopt") from error


def search_settings(cell, run_trial):
    """The settings of a row's space with the best validation score.

    Args:
        cell (Cell): the row's first cell.
        run_trial (callable): takes the cell of a trial, returns its record, or None if it failed of itself. What it
            raises ends the search: a trial that was stopped or killed is not one that failed.

    Returns:
        dict: ``found``, the settings; ``trials``, of each its settings, key and score; ``effort``, the board's.

    Raises:
        RecBoleGRError: all trials failed.
    """
    import hyperopt
    from recbole.trainer import HyperTuning, hyper_tuning

    hyper_tuning.print = lambda *_: None  # it prints every trial, in the middle of the progress bar
    trials, effort = [], cell.board.effort

    def objective(settings, _):
        found = {key: _plain(value) for key, value in settings.items()}
        trial = replace(cell, row=replace(cell.row, search=None, name=f"{cell.row.name} trial"), found=found)
        record = run_trial(trial)
        score = record["valid"][cell.board.main_metric] if record else None
        trials.append({"settings": found, "key": trial.key, "score": score})
        measured = {"best_valid_score": score or 0.0, "best_valid_result": {}, "test_result": {}}
        return {"model": cell.row.model, "valid_score_bigger": True, **measured}

    tuning = HyperTuning(objective, params_dict=cell.row.search, algo=effort["algorithm"], max_evals=effort["trials"])
    # HyperTuning.run would draw other trials at every start, and stop a row that makes no progress: no equal effort
    hyperopt.fmin(
        tuning.trial,
        tuning.space,
        algo=tuning.algo,
        max_evals=tuning.max_evals,
        rstate=np.random.default_rng(effort["seed"]),
        show_progressbar=False,
    )
    scored = [trial for trial in trials if trial["score"] is not None]
    if not scored:
        raise RecBoleGRError(f"search of {cell.row.name}: all {len(trials)} trials failed")
    best = max(scored, key=lambda trial: trial["score"])
    return {"found": best["settings"], "trials": trials, "effort": effort}


def _plain(value):
    """hyperopt draws numpy's numbers."""
    return value.item() if hasattr(value, "item") else value
