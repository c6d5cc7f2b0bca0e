"""The tables of the scaling law: laws against each other, and their parameters with intervals."""

from __future__ import annotations

from typing import Any

from recbole_gr.scaling.words import interval_text, number

SCALING_NOTE = (
    "Intervals hold 95 %. Those of points are by bootstrap over users, the same for all rows, and over seeds; those of parameters are the "
    "wider of that bootstrap and of the profile of the likelihood; a side that the points do not bound is open. The loss is in squared "
    "standard errors of a point. Saturated means that ten times the largest size would add less than 5 % of its accuracy, with "
    "the whole interval; not saturated, that it would add more."
)

LAW_HEAD = ["law", "parameters", "loss", "AIC", "held-out error"]
PARAMETER_HEAD = ["law", "parameter", "value", "95 % interval"]


def law_lines(curve: dict[str, Any]) -> list[list[str]]:
    """A line per law of a curve: how many parameters are free, twice the Huber loss, AIC, error of held-out points."""
    return [
        [
            f"{law['name']}{' (lowest AIC)' if law['name'] == curve['chosen'] else ''}",
            str(law["free"]),
            f"{law['loss']:.2f}",
            f"{law['aic']:.2f}",
            "-" if law["held_out"] is None else f"{law['held_out']:.2e}",
        ]
        for law in curve["laws"]
    ]


def parameter_lines(curve: dict[str, Any]) -> list[list[str]]:
    """A line per parameter of the laws that were looked at closer."""
    return [
        [
            law["name"],
            parameter["name"],
            number(parameter["value"]),
            interval_text(parameter["low"], parameter["high"]),
        ]
        for law in curve["laws"]
        for parameter in law["parameters"]
    ]
