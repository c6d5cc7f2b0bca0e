"""All faults of a run's settings at once, before any long work."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from recbole_gr.settings.field import Fault, RunValues, Settings, field_faults
from recbole_gr.utils.errors import SettingError, SettingErrors
from recbole_gr.utils.words import nearest


def faults_of(settings: Sequence[type[Settings]], run: RunValues, wrong: Collection[str] = ()) -> list[Fault]:
    """Values that cannot work, each key once.

    Combinations are looked at where the values of their concern are right by themselves.

    Args:
        settings: the classes of the run.
        run: its values.
        wrong: keys whose values are known to be wrong already; combinations with them are not looked at.
    """
    found: dict[str, Fault] = {}
    for fault in (fault for one in settings for fault in field_faults(one, run.values)):
        found.setdefault(fault.key, fault)
    right = _RightValues(run.values, run.given, frozenset({*found, *wrong}))
    for one in settings:
        for concern in one.concerns():
            if "conflicts" in vars(concern) and not right.wrong & concern.model_fields.keys():
                with contextlib.suppress(_WrongValueError):
                    for fault in vars(concern)["conflicts"].__func__(one, right):
                        found.setdefault(fault.key, fault)
    return list(found.values())


class _WrongValueError(Exception):
    """A combination was looked at of which one value is wrong by itself."""


@dataclass(frozen=True)
class _RightValues(RunValues):
    """Values of which those that are wrong by themselves cannot be read.

    Args:
        wrong: their keys.
    """

    wrong: frozenset[str] = frozenset()

    def __getitem__(self, key: str) -> Any:
        if key in self.wrong:
            raise _WrongValueError(key)
        return super().__getitem__(key)


def idle_settings(settings: Sequence[type[Settings]], run: RunValues) -> dict[str, str]:
    """Settings that the user set and that have no effect, and why."""
    reasons: dict[str, str] = {}
    for one in settings:
        for concern in one.concerns():
            if "idle" in vars(concern):
                reasons.update(vars(concern)["idle"].__func__(one, run))
    return {key: reasons[key] for key in sorted(reasons.keys() & run.given.keys())}


def unknown_keys(given: Iterable[str], known: Collection[str]) -> list[tuple[str, str]]:
    """Keys that no setting has, and for each the nearest one: ``; did you mean beam_size?``, or nothing."""
    return [(key, nearest(key, known)) for key in given if key not in known]


def raise_faults(faults: Sequence[Fault], run: RunValues | None = None) -> None:
    """Raise what was found, one line each, with the place that each value was set at, where the values of a run are given.

    Raises:
        SettingError: one fault.
        SettingErrors: several.
    """
    errors = [
        SettingError(
            fault.key,
            fault.value,
            fault.allowed if run is None else f"{fault.allowed} (set {run.given.get(fault.key, 'by default')})",
        )
        for fault in faults
    ]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise SettingErrors(errors)
