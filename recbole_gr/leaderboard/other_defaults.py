"""Records that were made when other defaults held: what a row says does not shape them alone.

A cell is found by what its board sets. When a default changes, the record stays the one of that cell, though the command on the
page would train something else; so it is said, and the user decides whether it is run again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_gr.leaderboard.board import Board
from recbole_gr.leaderboard.runner import Runner
from recbole_gr.models.registry import keys_of_model, path_keys, runtime_keys
from recbole_gr.settings.field import keys_of
from recbole_gr.settings.protocol import ProtocolSettings
from recbole_gr.settings.recbole_keys import RecBoleSettings

#: Values that stand for one that the run finds, which the record has in their place.
FOUND_BY_THE_RUN = ("auto", None)

#: Of settings that are newer than some records, what runs did before there was a choice.
BEFORE = {"numbering": "file"}


def other_defaults(board: Board, runner: Runner, configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each row with records that its defaults of today would not make.

    Args:
        board: the board.
        runner: knows the records.
        configs: RecBole's Config of each row, in their order.
    """
    lines = []
    for row, config in zip(board.rows, configs, strict=True):
        records = [record for cell in board.cells() if cell.row is row and (record := runner.record(cell.key))]
        changed: dict[str, tuple[Any, Any]] = {}
        for record in records:
            changed |= changed_settings(row.model, record["config"], config)
        if changed:
            what = ", ".join(f"{key}={then} (now {now})" for key, (then, now) in sorted(changed.items()))
            lines.append(
                f"row {row.name!r}: its records were made with {what}; remove them from {runner.folder} to run again"
            )
    return lines


def changed_settings(model: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that shape a run of a model and differ between a record and a Config, with both values.

    Args:
        model: its name.
        then: the settings of the record.
        now: those of the Config; keys that only one of the two has are left out.
    """
    shaping = keys_of_model(model) | keys_of(RecBoleSettings) | keys_of(ProtocolSettings)
    then = {**BEFORE, **then}
    changed = {}
    for key in shaping - runtime_keys() - path_keys() - {"seed"}:
        if key in then and now[key] not in FOUND_BY_THE_RUN:
            value = json.loads(json.dumps(now[key], default=str))  # as a record has it: lists, no tuples
            if then[key] != value:
                changed[key] = (then[key], value)
    return changed
