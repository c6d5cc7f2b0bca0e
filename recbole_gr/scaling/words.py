"""What an analysis says, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recbole_gr.scaling.analysis import Analysis, Parameter

#: Laws whose AIC differs by less are told apart by nothing (Burnham and Anderson 2002).
TIE = 2.0


def sentences(found: Analysis, distinct: int) -> list[str]:
    """All that is to be said, the verdict first."""
    if not found.laws:
        why = f"{distinct} different size{'s' * (distinct != 1)}: too few for a law."
        return [why, *_last_step(found)]
    return [*_verdict(found), *_choice(found), *_not_identified(found), *_last_step(found), *_next(found)]


def number(value: float | None) -> str:
    """Four digits that count, thousands with commas."""
    if value is None:
        return "-"
    if value and not 1e-4 <= abs(value) < 1e5:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def interval_text(low: float | None, high: float | None) -> str:
    """``0.1 to 0.2``; a side that is open in words."""
    if low is None and high is None:
        return "not identified"
    if low is None:
        return f"at most {number(high)}, open below"
    if high is None:
        return f"at least {number(low)}, open above"
    return f"{number(low)} to {number(high)}"


def size_text(value: float) -> str:
    """``1.4M`` weights."""
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.0f}"


def _verdict(found: Analysis) -> Iterator[str]:
    gain = found.tenfold
    largest = max(point[found.size] for point in found.points)
    at = f"ten times the largest {found.size} of {size_text(largest)}"
    told = f"{at} would add {gain['gain']:+.4f} {found.metric}"
    if "low" in gain:
        told += f" ({gain['low']:+.4f} to {gain['high']:+.4f})"
    words = {
        "saturated": f"Saturated: {told}.",
        "not saturated": f"Not saturated: {told}.",
        "not decided": f"Whether it saturates is not decided: {told}.",
    }
    yield words[found.verdict]


def _choice(found: Analysis) -> Iterator[str]:
    if len(found.laws) < 2:
        return
    first, second = sorted(found.laws, key=lambda law: law.aic)[:2]
    margin = second.aic - first.aic
    if margin < TIE:
        yield f"AIC does not tell {first.name} and {second.name} apart ({margin:.1f})."
    else:
        yield f"AIC prefers {first.name} to {second.name} by {margin:.1f}."
    held = [law for law in found.laws if law.held_out is not None]
    if len(held) > 1:
        best = min(held, key=lambda law: law.held_out or 0.0)
        errors = ", ".join(f"{law.name}: {law.held_out:.2e}" for law in held)
        yield f"Held-out points are best predicted by {best.name} (mean squared errors {errors})."
    if found.chosen != found.drawn:
        yield f"A size that makes no difference is as good an account as any: what follows is told of {found.drawn}."


def _not_identified(found: Analysis) -> Iterator[str]:
    if found.untold:
        names = " and ".join(f"{' and '.join(filter(None, names))} (of {size})" for size, *names in found.untold)
        one = "" if len(found.laws) > 2 else f"; nor can two terms be told apart that both have the size {found.size}"
        yield f"Not identified: {names}, for these sizes do not vary here apart from {found.size}{one}."
    for law in found.laws:
        open_ones = [parameter for parameter in law.parameters if not parameter.is_identified]
        if open_ones:
            yield f"Not identified in {law.name}: {'; '.join(_open(parameter) for parameter in open_ones)}."


def _open(parameter: Parameter) -> str:
    if parameter.low is None and parameter.high is None:
        return f"{parameter.name} (any value fits)"
    return f"{parameter.name} ({interval_text(parameter.low, parameter.high)})"


def _last_step(found: Analysis) -> Iterator[str]:
    step = found.last_step
    if not step:
        return
    told = f"From {size_text(step['from'])} to {size_text(step['to'])} {found.metric} changes by {step['difference']:+.4f}"
    if "low" in step:
        told += f" ({step['low']:+.4f} to {step['high']:+.4f})"
        if step["high"] < 0:
            told += ": it falls, which no law of this form does"
    yield f"{told}."


def _next(found: Analysis) -> Iterator[str]:
    told = found.next_size
    if "low" not in told:
        return
    yield (
        f"At {size_text(told['size'])} the law predicts {told['value']:.4f} ({told['low']:.4f} to {told['high']:.4f}); a new "
        f"measurement there {told['new_low']:.4f} to {told['new_high']:.4f}."
    )
