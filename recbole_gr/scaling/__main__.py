"""The law on points of a file: ``python -m recbole_gr.scaling POINTS.csv --users=22363``.

The file has the columns ``name``, ``size`` and ``value``: a share of users who had a hit, as Recall of one target is. What is not
known of points that are read from a paper, resamples of users and seeds, is drawn: users as so many independent draws; seeds as
``--seed-error`` says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
from tabulate import tabulate

from recbole_gr.scaling.analysis import Analysis, analyse
from recbole_gr.scaling.fit import Points
from recbole_gr.scaling.words import interval_text, number
from recbole_gr.utils.errors import DataError, RecBoleGRError, SettingError

COLUMNS = ("name", "size", "value")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what the points of a file tell; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m recbole_gr.scaling", description="Fit the scaling law to points.")
    parser.add_argument("points", help="a csv file with the columns name, size and value")
    parser.add_argument("--users", type=int, required=True, help="users that each value is a mean over")
    parser.add_argument(
        "--seed-error", type=float, default=0.0, help="standard deviation between seeds, where it is known (0)"
    )
    parser.add_argument("--draws", type=int, default=500, help="resamples for the intervals (500)")
    parser.add_argument("--metric", default="value", help="as it shall be printed")
    options = parser.parse_args(arguments)
    try:
        if options.users < 1:
            raise SettingError("users", options.users, "must be a whole number of at least 1")
        print(report(analyse_file(options.points, options.users, options.seed_error, options.draws, options.metric)))
    except RecBoleGRError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def analyse_file(path: str, users: int, seed_error: float = 0.0, draws: int = 500, metric: str = "value") -> Analysis:
    """Fit the law to the points of a csv file.

    Raises:
        DataError: the file cannot be read or lacks a column, or its numbers are no sizes and shares.
    """
    try:
        table = pd.read_csv(path, comment="#")
    except (OSError, ValueError) as error:
        raise DataError(f"[{path}] cannot be read: {' '.join(str(error).split())}") from error
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise DataError(f"[{path}] has no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    sizes, values = (pd.to_numeric(table[column], errors="coerce").to_numpy(float) for column in ("size", "value"))
    if not ((sizes > 0) & (values > 0) & (values < 1)).all():
        raise DataError(f"[{path}] must have sizes above 0 and values between 0 and 1 in all rows")
    errors = np.sqrt(values * (1 - values) / users + seed_error**2)
    drawn = np.random.default_rng(2020).normal(values, errors, (draws, len(values)))
    points = Points({"N": sizes}, values, 1 / errors**2, float(np.sqrt((errors**2).mean())), drawn)
    return analyse(path, metric, points, table["name"].astype(str).tolist(), "N")


def report(found: Analysis) -> str:
    """What the points tell, as text."""
    points = [
        [point["name"], number(point["N"]), f"{point['value']:.4f}", interval_text(point["low"], point["high"])]
        for point in found.points
    ]
    laws = [
        [law.name, law.free, f"{law.loss:.2f}", f"{law.aic:.2f}", "-" if law.held_out is None else f"{law.held_out:.2e}"]
        for law in found.laws
    ]
    parameters = [
        [law.name, one.name, number(one.value), interval_text(one.low, one.high)]
        for law in found.laws
        for one in law.parameters
    ]
    parts = [
        tabulate(points, ["point", "N", found.metric, "95 % interval"], disable_numparse=True),
        tabulate(laws, ["law", "parameters", "loss", "AIC", "held-out error"], disable_numparse=True),
        tabulate(parameters, ["law", "parameter", "value", "95 % interval"], disable_numparse=True),
        "\n".join(found.words),
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
