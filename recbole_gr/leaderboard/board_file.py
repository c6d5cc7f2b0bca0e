"""A board's yaml file: found, read, and checked; all faults are reported together.

The keys of the file are the pydantic models of :mod:`recbole_gr.leaderboard.board_keys`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from recbole_gr.leaderboard.axes import axis_keys, sweep_faults
from recbole_gr.leaderboard.board import Board, Row
from recbole_gr.leaderboard.board_faults import faults_of_file
from recbole_gr.leaderboard.board_keys import (
    BoardKeys,
    RowKeys,
    SweepKeys,
    config_settings,
    placed,
    plain_settings,
    read_yaml,
)
from recbole_gr.leaderboard.columns import METRICS
from recbole_gr.models.registry import is_generative
from recbole_gr.settings.properties import names_in, properties_file
from recbole_gr.utils.errors import SettingError, SettingErrors
from recbole_gr.utils.words import nearest

BOARDS, STUDIES = "leaderboard", "study"


def find_board(name: str) -> Path:
    """The yaml file of a board.

    Args:
        name: a path, or the short name of a board that comes with the package: ``ml-100k``.

    Raises:
        SettingError: there is neither.
    """
    if os.path.isfile(name):
        return Path(name)
    for kind in (BOARDS, STUDIES):
        if properties_file(kind, name).is_file() and not {os.sep, "/"} & set(name):
            return properties_file(kind, name)
    boards, studies = board_names(), study_names()
    hint = nearest(Path(name).stem, [*boards, *studies])
    there = f"boards with a short name: {', '.join(boards)}; studies: {', '.join(studies)}"
    raise SettingError("board", name, f"no such file; {there}{hint}")


def board_names() -> list[str]:
    """The short names of the boards that come with the package, sorted."""
    return names_in(BOARDS)


def study_names() -> list[str]:
    """The short names of the studies that come with the package, sorted."""
    return names_in(STUDIES)


def read_board(file: str, given: Mapping[str, Any] | None = None) -> Board:
    """Read and check a board.

    Args:
        file: the yaml file, or a short name; see :func:`find_board`.
        given: settings from the command line for every cell, for example ``data_path``.

    Raises:
        SettingError: one fault: the key, its value and what is allowed.
        SettingErrors: several, one line each.
    """
    path, given = find_board(file), dict(given or {})
    asked = read_yaml("board", file, path)
    faults = _faults_of_given(given, asked, file)
    keys = None
    try:
        keys = BoardKeys.model_validate(asked, context={"given": given})
    except ValidationError as error:
        faults += faults_of_file(error, asked, file)
    if keys is not None:
        faults += _faults_between_keys(keys, file)
    if len(faults) > 1:
        raise SettingErrors(faults)
    if keys is None or faults:
        raise faults[0]
    return Board(
        name=keys.name or path.stem,
        dataset=keys.dataset,
        description=keys.description,
        protocol={**config_settings(keys.config_files), **keys.protocol},
        metrics=tuple(keys.metrics),
        topk=tuple(keys.topk),
        main_metric=keys.main_metric.lower(),
        rows=tuple(row for variant in keys.side_by_side or [{}] for row in _rows(keys, variant)),
        published=tuple(keys.published),
        id_level=keys.id_level,
        effort=keys.search,
        file=file,
        given=given,
        law=keys.law,
    )


def _rows(board: BoardKeys, variant: dict[str, Any]) -> Iterator[Row]:
    """The rows of the file, then those of the sweeps."""
    for row in board.rows:
        yield _row(row, board, variant)
    for sweep in board.axes:
        for row, axes in sweep.rows():
            yield _row(row, board, variant, sweep.shown_name, axes)


def _row(
    row: RowKeys, board: BoardKeys, variant: dict[str, Any], sweep: str | None = None, axes: dict[str, Any] | None = None
) -> Row:
    return Row(
        name=row.shown_name,
        model=row.model,
        settings={**config_settings(row.config_files), **row.settings},
        seeds=tuple(row.seeds or board.seeds),
        baseline=not is_generative(row.model) if row.baseline is None else row.baseline,
        search=row.search,
        variant=variant,
        sweep=sweep,
        axes=axes or {},
    )


def _faults_of_given(given: dict[str, Any], asked: Mapping[str, Any], file: str) -> list[SettingError]:
    """What the command line may not set."""
    faults: list[SettingError] = []
    try:
        plain_settings(given)
    except SettingErrors as errors:
        faults += placed(errors, "the command line")
    variants = asked.get("side_by_side")
    listed = [variant for variant in variants if isinstance(variant, dict)] if isinstance(variants, list) else []
    varied = {key for variant in listed for key in variant} | _axes_of_file(asked)
    allowed = f"{file} varies it, it cannot be set on the command line"
    return [*faults, *(SettingError(key, given[key], allowed) for key in given if key in varied)]


def _axes_of_file(asked: Mapping[str, Any]) -> set[str]:
    """The settings that sweeps vary; the file is not checked yet."""
    try:
        sweeps = [SweepKeys.model_validate(sweep) for sweep in asked.get("axes") or []]
    except (ValidationError, TypeError):
        return set()
    return {key for sweep in sweeps for key in axis_keys(sweep.grid, sweep.points)}


def _faults_between_keys(keys: BoardKeys, file: str) -> list[SettingError]:
    faults = []
    if not keys.rows and not keys.axes:
        faults.append(SettingError("rows", None, f"must be set in {file}, or axes"))
    for number, sweep in enumerate(keys.axes):
        found = list(sweep_faults(sweep.grid, sweep.points, sweep.settings))
        faults += placed(SettingErrors(found), f"axes, {number + 1} of {file}") if found else []
    rows = [*keys.rows, *(row for sweep in keys.axes for row, _ in sweep.rows())]
    names = [row.shown_name for row in rows]
    for number, name in enumerate(names):
        if name in names[:number]:
            faults.append(SettingError("name", name, f"row {number + 1} of {file} has the name of another row"))
    if keys.search.algorithm == "exhaustive":
        for number, row in enumerate(rows):
            for draw in (row.search or {}).keys() - {"choice"}:
                allowed = (
                    f"has no end to try, as search: {{algorithm: exhaustive}} does; use choice (row {number + 1} of {file})"
                )
                faults.append(SettingError("search", draw, allowed))
    of_users = [metric for metric in keys.metrics if METRICS[metric.lower()].of_users]
    ranked = [f"{metric.lower()}@{k}" for metric in of_users for k in keys.topk]
    if keys.law.metric is not None and keys.law.metric.lower() not in ranked:
        faults.append(SettingError("metric", keys.law.metric, f"must be one of {', '.join(ranked)} (law of {file})"))
    if keys.main_metric.lower() not in ranked:
        allowed = f"must be one of metrics at one of topk: {', '.join(ranked)} ({file})"
        faults.append(SettingError("main_metric", keys.main_metric.lower(), allowed))
    return faults
