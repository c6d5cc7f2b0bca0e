"""A board's yaml file: found, read, and checked; all faults are reported together.

The keys of the file are the pydantic models below. Published numbers that a board names are read here too: yaml files in
``properties/published/`` with ``source``, ``differences``, ``metrics`` and, by dataset, ``rows``: a list of numbers per name
in the order of ``metrics``, ``null`` where the source gives none.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo

from recbole_gr.leaderboard.axes import NAME, axis_keys, check_grid, holds, point_name, points_of, sweep_faults
from recbole_gr.leaderboard.board import Board, LawKeys, Row, Search
from recbole_gr.leaderboard.columns import METRICS
from recbole_gr.models.registry import is_generative
from recbole_gr.settings.forms import is_number
from recbole_gr.settings.properties import PROPERTIES, named_file, properties_file
from recbole_gr.settings.values import SettingsLoader
from recbole_gr.utils.errors import SettingError, SettingErrors
from recbole_gr.utils.file_names import is_file_name

DEFAULT_METRICS = ("Recall", "NDCG", "MRR", "Hit", "ItemCoverage", "GiniIndex", "AveragePopularity", "TailPercentage")

#: The ways to draw a value in a search, and how many numbers describe each; None: a list of values.
DRAWS = {"choice": None, "uniform": 2, "quniform": 3, "loguniform": 2}

#: Settings that follow from keys of the board. A file that is meant for ``recbole-gr run`` may hold them; the board's count.
BY_KEYS = {"seed": "seeds", "metrics": "metrics", "topk": "topk", "valid_metric": "main_metric"}

#: Settings that a board may not set, and why.
REFUSED = {
    **{key: f"is set by the key {word} of the board" for key, word in BY_KEYS.items()},
    **{key: f"is set by the key {key} of the board" for key in ("dataset", "config_files")},
    "model": "is set by the rows of the board",
    **{key: "every cell has its own" for key in ("checkpoint_dir", "record_dir", "record_name", "resume")},
    **{key: "a cell runs in one process" for key in ("nproc", "ip", "port", "world_size", "group_offset")},
}

#: Bytes of a board's name, to which the endings of files are added.
LONGEST_NAME = 200

BOARDS, STUDIES, PUBLISHED = "leaderboard", "study", "published"


def _numbers(least: int) -> Callable[[Any, ValidationInfo], Any]:
    """A check of a list of different whole numbers."""

    def check(values: Any, info: ValidationInfo) -> Any:
        if not isinstance(values, list) or not values or any(type(value) is not int or value < least for value in values):
            raise _fault(info, values, f"must be a list of whole numbers of at least {least}")
        return _different(values, info)

    return check


def _different(values: list[Any], info: ValidationInfo) -> list[Any]:
    if len(set(values)) < len(values):
        raise _fault(info, values, "must not hold the same twice")
    return values


def _metrics(values: list[str], info: ValidationInfo) -> list[str]:
    names = [metric.title for metric in METRICS.values() if metric.of_users or metric.of_lists]
    unknown = [value for value in values if value not in names]
    if unknown:
        allowed = f"must be one of {', '.join(names)}"
        raise SettingErrors([_fault(info, value, f"{allowed}{_nearest(value, names)}") for value in unknown])
    return _different(values, info)


def _plain_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a cell: plain values, for they travel as json, and none that the board sets itself."""
    faults = []
    for key, value in settings.items():
        if key in REFUSED:
            faults.append(SettingError(key, value, f"{REFUSED[key]}, it cannot be a setting"))
        elif not _is_plain(value):
            faults.append(SettingError(key, value, "must be text, number, switch, list or mapping"))
    if faults:
        raise SettingErrors(faults)
    return settings


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def _readable_files(files: list[str]) -> list[str]:
    faults: list[SettingError] = []
    for file in files:
        try:
            _read_config_file(file)
        except (SettingError, SettingErrors) as error:
            faults += [error] if isinstance(error, SettingError) else error.errors
    if faults:
        raise SettingErrors(faults)
    return files


def _search_space(space: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    refused = {**REFUSED, **{key: "is set on the command line" for key in (info.context or {}).get("given", {})}}
    faults = list(_space_faults(space, refused))
    if faults:
        raise SettingErrors(faults)
    if space and find_spec("hyperopt") is None:
        raise _fault(info, space, "needs the package hyperopt: pip install hyperopt")
    return space


def _space_faults(space: dict[str, Any], refused: Mapping[str, str]) -> Iterator[SettingError]:
    for draw, settings in space.items():
        if draw not in DRAWS or not isinstance(settings, dict):
            near = _nearest(draw, DRAWS)
            yield SettingError("search", space, f"must hold, under {', '.join(DRAWS)}, settings and their values{near}")
            continue
        for key, values in settings.items():
            count = DRAWS[draw]
            numbers = [value for value in values if is_number(value)] if isinstance(values, list) else []
            if key in refused:
                yield SettingError(key, values, f"{refused[key]}, it cannot be searched")
            elif not isinstance(values, list) or not values:
                yield SettingError(key, values, f"{draw} takes a list of values")
            elif count is not None and (len(values) != count or len(numbers) != count or values[0] >= values[1]):
                yield SettingError(key, values, f"{draw} takes a list of {count} numbers, the lower bound first")


def _published_names(names: list[str], info: ValidationInfo) -> list[str]:
    for name in names:
        _block(name)
    return names


def _not_blank(text: str, info: ValidationInfo) -> str:
    if not text.strip() or "\0" in text:
        raise _fault(info, text, "must be text that can be read")
    return text


def _file_name(name: str, info: ValidationInfo) -> str:
    """The pages and the folder of the records have the name of the board."""
    if not is_file_name(name) or not name.strip() or len(name.encode()) > LONGEST_NAME:
        raise _fault(info, name, f"must be a name without folders, of at most {LONGEST_NAME} bytes")
    return name


def _fault(info: ValidationInfo, value: Any, allowed: str) -> SettingError:
    return SettingError(str(info.field_name), value, allowed)


def _nearest(word: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


PlainSettings = Annotated[dict[str, Any], AfterValidator(_plain_settings)]
ConfigFiles = Annotated[list[str], AfterValidator(_readable_files)]
Seeds = Annotated[list[int], BeforeValidator(_numbers(0))]
Text = Annotated[str, Field(min_length=1), AfterValidator(_not_blank)]
FileName = Annotated[str, Field(min_length=1), AfterValidator(_file_name)]


class RowKeys(BaseModel):
    """A row of a board's file."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    name: Text | None = None
    model: Text
    settings: PlainSettings = {}
    config_files: ConfigFiles = []
    seeds: Seeds | None = None
    baseline: bool | None = None
    search: Annotated[dict[str, Any], AfterValidator(_search_space)] | None = None

    @property
    def shown_name(self) -> str:
        """The name that the pages print."""
        return self.name or self.model


def _listed_points(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for point in points:
        if not isinstance(point.get(NAME, ""), str) or not point:
            raise SettingError("points", point, "must hold settings and their values, and perhaps a name")
        _plain_settings(point)
    return [{NAME: point[NAME], **point} if NAME in point else point for point in points]  # the name comes first


class SweepKeys(RowKeys):
    """A sweep of a study: a row for each of its points."""

    baseline: bool | dict[str, Any] | None = None  # type: ignore[assignment]
    grid: Annotated[dict[str, Any], BeforeValidator(check_grid)] = {}
    points: Annotated[list[dict[str, Any]], AfterValidator(_listed_points)] = []

    def rows(self) -> list[tuple[RowKeys, dict[str, Any]]]:
        """A row of each point, and the values of the axes there."""
        made = []
        for point in points_of(self.grid, self.points):
            values = {key: value for key, value in point.items() if key != NAME}
            baseline = holds(self.baseline, values) if isinstance(self.baseline, dict) else self.baseline
            changed = {
                "name": point_name(self.shown_name, self._named(point)),
                "settings": {**self.settings, **values},
                "baseline": baseline,
            }
            row = self.model_dump(include=set(RowKeys.model_fields)) | changed
            made.append((RowKeys.model_construct(**row), values))
        return made

    def _named(self, point: dict[str, Any]) -> dict[str, Any]:
        """What a row's name says of its point: a listed point's own name stands for the settings that it lists."""
        return {key: value for key, value in point.items() if key == NAME or NAME not in point or key in self.grid}


class BoardKeys(BaseModel):
    """A board's file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: FileName | None = None
    dataset: Text
    description: str = ""
    main_metric: str = "NDCG@10"
    config_files: ConfigFiles = []
    protocol: PlainSettings = {}
    metrics: Annotated[list[str], AfterValidator(_metrics)] = list(DEFAULT_METRICS)
    topk: Annotated[list[int], BeforeValidator(_numbers(1))] = [5, 10, 20]
    seeds: Seeds = [2020]
    rows: Annotated[list[RowKeys], Field(min_length=1)] = []
    axes: Annotated[list[SweepKeys], Field(min_length=1)] = []
    law: LawKeys = Field(default_factory=LawKeys)
    side_by_side: list[PlainSettings] = []
    published: Annotated[list[str], AfterValidator(_published_names)] = []
    id_level: bool = False
    search: Search = Field(default_factory=Search)


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
    hint = _nearest(Path(name).stem, [*boards, *studies])
    there = f"boards with a short name: {', '.join(boards)}; studies: {', '.join(studies)}"
    raise SettingError("board", name, f"no such file; {there}{hint}")


def board_names() -> list[str]:
    """The short names of the boards that come with the package, sorted."""
    return _names(BOARDS)


def study_names() -> list[str]:
    """The short names of the studies that come with the package, sorted."""
    return _names(STUDIES)


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
    asked = _read_yaml("board", file, path)
    faults = _faults_of_given(given, asked, file)
    keys = None
    try:
        keys = BoardKeys.model_validate(asked, context={"given": given})
    except ValidationError as error:
        faults += _faults_of_file(error, asked, file)
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
        protocol={**_config_settings(keys.config_files), **keys.protocol},
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
        settings={**_config_settings(row.config_files), **row.settings},
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
        _plain_settings(given)
    except SettingErrors as errors:
        faults += _placed(errors, "the command line")
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
        faults += _placed(SettingErrors(found), f"axes, {number + 1} of {file}") if found else []
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


def _faults_of_file(error: ValidationError, asked: Any, file: str) -> list[SettingError]:
    """What pydantic found, each fault with its key, its value and its place in the file; each key of a place once."""
    faults: dict[tuple[str, str, str], SettingError] = {}
    for found in error.errors():
        keys: type[BaseModel] = BoardKeys
        values, place, path = asked, file, list(found["loc"])
        if path[0] == "rows" and len(path) > 1:
            keys, values, place = RowKeys, asked["rows"][path[1]], f"row {int(path[1]) + 1} of {file}"
            path = path[2:]
        elif path[0] == "axes" and len(path) > 1:
            keys, values, place = SweepKeys, asked["axes"][path[1]], f"axes, {int(path[1]) + 1} of {file}"
            path = path[2:]
        elif path[0] in ("search", "law") and len(path) > 1:
            keys = Search if path[0] == "search" else LawKeys
            values, place, path = asked[path[0]], f"{path[0]} of {file}", path[1:]
        for fault in _faults_of_key(found, keys, values, place, path):
            faults.setdefault((place, fault.key, repr(fault.value)), fault)
    return list(faults.values())


def _faults_of_key(found: Any, keys: type[BaseModel], values: Any, place: str, path: list[Any]) -> list[SettingError]:
    kind = found["type"]
    if not path:  # a row that is no mapping
        word = "axes" if keys is SweepKeys else "rows"
        return [SettingError(word, values, f"must hold keys and values, model among them ({place})")]
    key = str(path[0])
    value = values.get(path[0]) if isinstance(values, dict) else values
    if kind == "value_error":
        own = found["ctx"]["error"]
        inside = key in ("settings", "protocol", "side_by_side", "grid", "points")
        return _placed(own, f"{key} of {place}" if inside else place)
    if kind == "extra_forbidden":
        known = list(keys.model_fields)
        hint = _nearest(key, known) or "; "
        return [SettingError(key, value, f"no such key in {place}{hint.rstrip()} there are {', '.join(known)}")]
    if kind in ("missing", "too_short", "string_too_short") or (value is None and keys.model_fields[key].is_required()):
        return [SettingError(key, value, f"must be set in {place}")]
    if key == "side_by_side" and len(path) > 1:
        return [SettingError(key, values[key][path[1]], f"must hold settings and their values in {place}")]
    return [SettingError(key, value, f"{_allowed(kind, keys, key)} in {place}")]


def _allowed(kind: str, keys: type[BaseModel], key: str) -> str:
    """What a key allows, in words."""
    info = keys.model_fields[key]
    if kind == "literal_error":
        return f"must be one of {', '.join(get_args(info.annotation))}"
    if kind in ("int_type", "greater_than_equal"):
        return f"must be a whole number of at least {info.metadata[0].ge}"
    if key in ("published", "config_files", "metrics"):
        return "must be a list of texts"
    if key in ("rows", "axes"):
        return "must be a list of rows" if key == "rows" else "must be a list of sweeps"
    words = {"string_type": "must be text", "bool_type": "must be True or False", "list_type": "must be a list"}
    return words.get(kind, "must hold keys and values")


def _placed(error: Any, place: str) -> list[SettingError]:
    """Errors of a check, with the place in the file behind each."""
    errors = [error] if isinstance(error, SettingError) else error.errors
    return [SettingError(one.key, one.value, f"{one.allowed} ({place})") for one in errors]


def _read_yaml(key: str, file: str, path: str | Path) -> dict[str, Any]:
    if not os.path.isfile(path):
        raise SettingError(key, file, "no such file")
    try:
        read = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=SettingsLoader)
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        raise SettingError(key, file, f"is not yaml: {' '.join(str(error).split())}") from error
    if not isinstance(read, dict) or not all(isinstance(name, str) for name in read):
        raise SettingError(key, file, "must hold keys and values")
    return read


def _read_config_file(file: str) -> dict[str, Any]:
    """Settings of a file or a recipe for cells; what keys of the board set is left out."""
    path = named_file("recipes", file)
    read = {key: value for key, value in _read_yaml("config_files", file, path).items() if key not in BY_KEYS}
    try:
        return _plain_settings(read)
    except SettingErrors as errors:
        raise SettingErrors(_placed(errors, file)) from errors


def _config_settings(files: Iterable[str]) -> dict[str, Any]:
    return {key: value for file in files for key, value in _read_config_file(file).items()}


def published_blocks() -> list[str]:
    """The names of all blocks of published numbers, sorted."""
    return _names(PUBLISHED)


def _names(folder: str) -> list[str]:
    return sorted(file.stem for file in (PROPERTIES / folder).glob("*.yaml"))


def read_published(names: Collection[str], dataset: str) -> list[dict[str, Any]]:
    """The blocks of published numbers that a board names, with their numbers for its dataset.

    Args:
        names: of :func:`published_blocks`.
        dataset: for example ``amazon-beauty-2014``.

    Returns:
        ``source``, ``differences`` and ``rows`` of each, the rows dicts with ``name`` and the numbers by metric. Blocks
        without numbers for the dataset are left out, see :func:`published_elsewhere`.

    Raises:
        SettingError: there is no such block.
    """
    blocks = [(name, _block(name)) for name in names]
    return [_numbers_of(block, dataset) for _, block in blocks if dataset in block["rows"]]


def published_elsewhere(names: Collection[str], dataset: str) -> list[str]:
    """A line for each block that has no numbers for the dataset of a board that names it."""
    lines = []
    for name in names:
        others = ", ".join(_block(name)["rows"])
        if dataset not in _block(name)["rows"]:
            lines.append(f"published: {name} is left out, it has no numbers for {dataset}; it has some for {others}")
    return lines


def _block(name: str) -> dict[str, Any]:
    there = published_blocks()
    if name not in there:
        raise SettingError("published", name, f"no such block; there are {', '.join(there)}{_nearest(name, there)}")
    return yaml.safe_load(properties_file(PUBLISHED, name).read_text(encoding="utf-8"))


def _numbers_of(block: dict[str, Any], dataset: str) -> dict[str, Any]:
    rows = [
        {"name": row, **{metric: value for metric, value in zip(block["metrics"], values, strict=True) if value is not None}}
        for row, values in block["rows"][dataset].items()
    ]
    return {"source": block["source"], "differences": block["differences"], "rows": rows}
