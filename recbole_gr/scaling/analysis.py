"""All that points tell of the scaling law: fits, comparison, intervals, predictions, and the verdict; plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recbole_gr.scaling.compare import Fitted, aic, held_out_error
from recbole_gr.scaling.fit import Points, fit, fit_draws
from recbole_gr.scaling.intervals import parameter_intervals, value_interval
from recbole_gr.scaling.law import CONSTANT, Law, laws_of
from recbole_gr.scaling.words import sentences

#: Fewer points than this are not fitted.
LEAST_POINTS = 4

#: A tenfold size that adds less than this share of the accuracy is none: the models are saturated.
WORTH = 0.05

#: Sizes of a drawn curve.
DRAWN = 60


@dataclass
class Parameter:
    """A parameter of a fitted law: its value, and its interval; None on a side where the points do not bound it."""

    name: str
    value: float
    low: float | None
    high: float | None

    @property
    def is_identified(self) -> bool:
        """Whether both sides of its interval are bounded."""
        return self.low is not None and self.high is not None


@dataclass
class FittedLaw:
    """A law of the comparison; ``parameters`` are told of those that are looked at closer."""

    name: str
    free: int
    loss: float
    aic: float
    held_out: float | None
    parameters: list[Parameter] = field(default_factory=list)


@dataclass
class Curve:
    """A law along its first size, with its interval; the other sizes are those of some points."""

    sizes: list[float]
    values: list[float]
    low: list[float]
    high: list[float]
    others: dict[str, float] = field(default_factory=dict)


@dataclass
class Analysis:
    """What is told of a group of points.

    Args:
        name: of the group.
        metric: as the pages print it.
        size: the name of the size along which predictions go.
        points: of each point its ``name``, sizes by name, ``value``, ``low`` and ``high``.
        laws: in the order from the simplest to the richest.
        chosen: the law with the lowest AIC.
        drawn: the law whose curves, predictions and effective sizes are told: the chosen one unless that is a constant.
        curves: of the drawn law.
        last_step: how the value changes from the second largest size to the largest: ``from``, ``to``, ``difference``, ``low``, ``high``.
        next_size: what is predicted of the next size: ``size``, ``value``, ``low`` and ``high`` of the law, ``new_low`` and
            ``new_high`` of a new measurement.
        tenfold: what ten times the largest size would add: ``gain``, ``low``, ``high``.
        coefficients: of the other sizes, in the richest law.
        untold: of each size that does not vary by itself its name and coefficients, which therefore are not identified.
        verdict: ``saturated``, ``not saturated``, ``not decided`` or ``too few points``.
        words: sentences, what is not identified among them.
    """

    name: str
    metric: str
    size: str
    points: list[dict[str, Any]] = field(default_factory=list)
    laws: list[FittedLaw] = field(default_factory=list)
    chosen: str = ""
    drawn: str = ""
    curves: list[Curve] = field(default_factory=list)
    last_step: dict[str, float] = field(default_factory=dict)
    next_size: dict[str, float] = field(default_factory=dict)
    tenfold: dict[str, float] = field(default_factory=dict)
    coefficients: dict[str, float] = field(default_factory=dict)
    untold: list[list[str]] = field(default_factory=list)
    verdict: str = "too few points"
    words: list[str] = field(default_factory=list)


def analyse(
    name: str,
    metric: str,
    points: Points,
    names: Sequence[str],
    size: str,
    others: Sequence[tuple[str, str, str]] = (),
    untold: Sequence[tuple[str, str, str]] = (),
) -> Analysis:
    """Fit all laws that the points can tell apart, and say what they tell.

    Args:
        name: of the group.
        metric: as printed.
        points: with their resamples.
        names: of each point.
        size: the measured size that both terms have.
        others: of the other sizes that vary, as for :func:`recbole_gr.scaling.law.laws_of`.
        untold: the same of those that do not vary, or only together with the first.
    """
    found = Analysis(name, metric, size, points=_told_points(points, names))
    found.last_step, found.untold = _last_step(points, size), [list(other) for other in untold]
    distinct = len(np.unique(np.stack(list(points.sizes.values())), axis=1).T)
    if distinct < LEAST_POINTS:
        found.words = sentences(found, distinct)
        return found
    laws = [law for law in laws_of(size, others) if _is_told_apart(law, points)]
    fits = [_fitted(law, points) for law in laws if len(law.parameters) < distinct or law is CONSTANT]
    chosen = min(fits, key=lambda one: one.aic)
    growing = [one for one in fits if one.law.terms]
    drawn = chosen if chosen.law.terms else min(growing, key=lambda one: one.aic)
    closer = {id(drawn.law): drawn, id(growing[-1].law): growing[-1]}
    found.chosen, found.drawn = chosen.law.name, drawn.law.name
    draws = fit_draws(drawn.law, points, drawn.theta)
    for one in fits:
        told = FittedLaw(one.law.name, len(one.law.parameters), one.loss, one.aic, one.held_out)
        if id(one.law) in closer:
            own = draws if one is drawn else fit_draws(one.law, points, one.theta)
            told.parameters = _told_parameters(one, points, own)
        found.laws.append(told)
    found.curves = _curves(drawn.law, points, drawn.theta, draws, size)
    found.next_size, found.tenfold = _predictions(drawn.law, points, drawn.theta, draws, size)
    found.coefficients = {
        key: float(values[0])
        for key, values in growing[-1].law.named(growing[-1].theta[None], points.references).items()
        if key in {name for other in others for name in other[1:] if name}
    }
    found.verdict = _verdict(found, points, size)
    found.words = sentences(found, distinct)
    return found


def _is_told_apart(law: Law, points: Points) -> bool:
    """Whether each of its terms has a size that varies."""
    return all(
        any(
            np.ptp(np.log(points.sizes[size][points.sizes[size] > 0])) > 0.01
            for size in (term.size, *(s for _, s in term.coefficients))
        )
        for term in law.terms
    )


def _fitted(law: Law, points: Points) -> Fitted:
    theta, loss = fit(law, points)
    held_out = held_out_error(law, points, theta)
    return Fitted(law, theta, loss, aic(loss, len(theta)), held_out)


def _told_points(points: Points, names: Sequence[str]) -> list[dict[str, Any]]:
    told = []
    for number, name in enumerate(names):
        low, high = value_interval(points.drawn[:, number]) if len(points.drawn) else (None, None)
        sizes = {size: float(values[number]) for size, values in points.sizes.items()}
        told.append({"name": name, **sizes, "value": float(points.values[number]), "low": low, "high": high})
    return told


def _told_parameters(one: Fitted, points: Points, draws: np.ndarray) -> list[Parameter]:
    values = {name: float(value[0]) for name, value in one.law.named(one.theta[None], points.references).items()}
    found = parameter_intervals(one.law, points, one.theta, one.loss, draws)
    references = points.references
    told = []
    for term_or_name in one.law.parameters:
        interval = found[term_or_name]
        told.append(
            Parameter(_parameter_words(term_or_name, one.law, references), values[term_or_name], interval.low, interval.high)
        )
    return told


def _parameter_words(name: str, law: Law, references: Mapping[str, float]) -> str:
    """``height of A`` as what it is: what the term takes off at its reference size."""
    for term in law.terms:
        if name == f"height of {term.letter}":
            number = f"{references[term.size]:,.0f}"
            power = term.letter.lower()
            return f"{term.letter} / N^{power} at N = {number}"
    return name


def _curves(law: Law, points: Points, theta: np.ndarray, draws: np.ndarray, size: str) -> list[Curve]:
    own = points.sizes[size]
    grid = np.geomspace(own.min(), 10 * own.max(), DRAWN)
    rest = [name for name in points.sizes if name != size and name in law.sizes()]
    combinations = np.unique(np.stack([points.sizes[name] for name in rest]), axis=1).T if rest else np.zeros((1, 0))
    curves = []
    for combination in combinations:
        others = dict(zip(rest, combination.tolist()))
        sizes = {size: grid, **{name: np.full(DRAWN, value) for name, value in others.items()}}
        values = law.values(theta[None], sizes, points.references)[0]
        low, high = _band(law.values(draws, sizes, points.references)) if len(draws) else (values, values)
        curves.append(Curve(grid.tolist(), values.tolist(), low.tolist(), high.tolist(), others))
    return curves


def _band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(values, [0.025, 0.975], axis=0)
    return low, high


def _last_step(points: Points, size: str) -> dict[str, float]:
    """From the second largest size to the largest, points of one size together."""
    own = points.sizes[size]
    largest = np.unique(own)[::-1]
    if len(largest) < 2:
        return {}
    last, before = own == largest[0], own == largest[1]
    told = {
        "from": float(largest[1]),
        "to": float(largest[0]),
        "difference": float(points.values[last].mean() - points.values[before].mean()),
    }
    if len(points.drawn):
        low, high = value_interval(points.drawn[:, last].mean(axis=1) - points.drawn[:, before].mean(axis=1))
        told |= {"low": low, "high": high}
    return told


def _predictions(
    law: Law, points: Points, theta: np.ndarray, draws: np.ndarray, size: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Of the next size, as far above the largest as that is above the one before; and what ten times the largest would add."""
    own = np.unique(points.sizes[size])
    at = int(points.sizes[size].argmax())
    following = own[-1] * (own[-1] / own[-2]) if len(own) > 1 else 10 * own[-1]
    sizes = {name: np.full(3, values[at]) for name, values in points.sizes.items()}
    sizes[size] = np.array([following, 10 * own[-1], own[-1]])
    value = law.values(theta[None], sizes, points.references)[0]
    told = {"size": float(following), "value": float(value[0])}
    gain = {"gain": float(value[1] - value[2])}
    if len(draws):
        drawn = law.values(draws, sizes, points.references)
        told |= dict(zip(("low", "high"), value_interval(drawn[:, 0])))
        told |= dict(zip(("new_low", "new_high"), value_interval(drawn[:, 0], points.error)))
        gain |= dict(zip(("low", "high"), value_interval(drawn[:, 1] - drawn[:, 2])))
    return told, gain


def _verdict(found: Analysis, points: Points, size: str) -> str:
    """By what ten times the largest size would add, with its interval."""
    largest = float(points.values[int(points.sizes[size].argmax())])
    low, high = found.tenfold.get("low"), found.tenfold.get("high")
    if low is None or high is None:
        return "not decided"
    if high < WORTH * largest:
        return "saturated"
    return "not saturated" if low > WORTH * largest else "not decided"
