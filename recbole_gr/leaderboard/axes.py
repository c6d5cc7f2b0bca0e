"""Axes of a study: settings with values, crossed or listed. Each point becomes a row that is named by its values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from recbole_gr.leaderboard.arguments import as_argument
from recbole_gr.utils.errors import SettingError, SettingErrors

#: The key of a listed point that names its row; all others are settings.
NAME = "name"


def check_grid(grid: Any) -> Any:
    """A grid as its file has it: by setting a list of values, or ``values`` with the condition ``when``.

    Raises:
        SettingErrors: an axis is neither, has no or equal values, or its condition is about no axis before it.
    """
    if not isinstance(grid, dict):
        return grid  # pydantic says what is wrong
    faults = list(_axis_faults(grid))
    if faults:
        raise SettingErrors(faults)
    return grid


def _axis_faults(grid: Mapping[str, Any]) -> Iterator[SettingError]:
    for key, axis in grid.items():
        conditional = isinstance(axis, dict)
        values = axis.get("values") if conditional else axis
        if not isinstance(values, list) or not values:
            yield SettingError(
                key, axis, "an axis must be a list of values, or {values: [...], when: {another axis: value}}"
            )
            continue
        texts = [json.dumps(value, default=str) for value in values]
        if len(set(texts)) < len(texts):
            yield SettingError(key, values, "an axis must not hold the same value twice")
        if not conditional:
            continue
        for other in axis.keys() - {"values", "when"}:
            yield SettingError(other, axis[other], f"no such key of the axis {key}; there are values, when")
        if not isinstance(axis.get("when"), dict) or not axis["when"]:
            yield SettingError("when", axis.get("when"), f"of the axis {key} must hold other axes and their values")


def axis_keys(grid: Mapping[str, Any], points: Iterable[Mapping[str, Any]]) -> list[str]:
    """The settings that a sweep varies: those of its points, then those of its grid."""
    return list(dict.fromkeys([*(key for point in points for key in point if key != NAME), *grid]))


def sweep_faults(
    grid: Mapping[str, Any], points: Sequence[Mapping[str, Any]], fixed: Mapping[str, Any]
) -> Iterator[SettingError]:
    """What cannot be between the parts of a sweep.

    Args:
        grid: checked by :func:`check_grid`.
        points: settings of each listed point.
        fixed: settings of all points.
    """
    of_points = set(axis_keys({}, points))
    if not grid and not points:
        yield SettingError("grid", None, "a sweep must have a grid or points")
    before = set(of_points)
    for key, axis in grid.items():
        if key in of_points:
            yield SettingError(key, axis, "is in grid and in points; a setting varies in one of them")
        for other in axis["when"] if isinstance(axis, dict) else ():
            if other not in before:
                allowed = (
                    f"when of the axis {key} must be about an axis before it: {', '.join(sorted(before)) or 'there is none'}"
                )
                yield SettingError("when", other, allowed)
        before.add(key)
    for key in before & fixed.keys():
        yield SettingError(key, fixed[key], "is an axis, it cannot be set under settings too")


def points_of(grid: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All points of a sweep: each listed point with each combination of the grid.

    An axis with a condition takes part where the condition holds; elsewhere the point does not have it.

    Returns:
        Values by axis, the last axis changing first; a point's own name is under :data:`NAME`.
    """
    made = [dict(point) for point in points] or [{}]
    for key, axis in grid.items():
        values, when = (axis["values"], axis["when"]) if isinstance(axis, dict) else (axis, {})
        made = [
            {**point, **addition}
            for point in made
            for addition in ([{key: value} for value in values] if holds(when, point) else [{}])
        ]
    return made


def holds(when: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    """Whether a point has, of every axis of a condition, the value or one of the values that it names."""
    return all(
        key in point and point[key] in (wanted if isinstance(wanted, list) else [wanted]) for key, wanted in when.items()
    )


def point_name(sweep: str, point: Mapping[str, Any]) -> str:
    """``TIGER, model_size 336K, inject text``; the name of a listed point stands for the settings that it lists."""
    return ", ".join([sweep, *(value_text(key, value) for key, value in point.items())])


def value_text(key: str, value: Any) -> str:
    """An axis and its value, as names have it."""
    return str(value) if key == NAME else f"{key} {value if isinstance(value, str) else as_argument(value)}"
