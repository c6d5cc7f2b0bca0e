"""The keys of a board's yaml file, as pydantic models, and what their values may be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from recbole_gr.leaderboard.axes import NAME, check_grid, holds, point_name, points_of
from recbole_gr.leaderboard.board import LawKeys, Search
from recbole_gr.leaderboard.columns import METRICS
from recbole_gr.leaderboard.published import check_published
from recbole_gr.settings.forms import is_number
from recbole_gr.settings.properties import named_file
from recbole_gr.settings.values import SettingsLoader
from recbole_gr.utils.errors import SettingError, SettingErrors
from recbole_gr.utils.file_names import is_file_name
from recbole_gr.utils.words import nearest

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
        raise SettingErrors([_fault(info, value, f"{allowed}{nearest(value, names)}") for value in unknown])
    return _different(values, info)


def plain_settings(settings: dict[str, Any]) -> dict[str, Any]:
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
            near = nearest(draw, DRAWS)
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


def read_yaml(key: str, file: str, path: str | Path) -> dict[str, Any]:
    if not os.path.isfile(path):
        raise SettingError(key, file, "no such file")
    try:
        read = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=SettingsLoader)
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        raise SettingError(key, file, f"is not yaml: {' '.join(str(error).split())}") from error
    if not isinstance(read, dict) or not all(isinstance(name, str) for name in read):
        raise SettingError(key, file, "must hold keys and values")
    return read


def placed(error: Any, place: str) -> list[SettingError]:
    """Errors of a check, with the place in the file behind each."""
    errors = [error] if isinstance(error, SettingError) else error.errors
    return [SettingError(one.key, one.value, f"{one.allowed} ({place})") for one in errors]


def _read_config_file(file: str) -> dict[str, Any]:
    """Settings of a file or a recipe for cells; what keys of the board set is left out."""
    path = named_file("recipes", file)
    read = {key: value for key, value in read_yaml("config_files", file, path).items() if key not in BY_KEYS}
    try:
        return plain_settings(read)
    except SettingErrors as errors:
        raise SettingErrors(placed(errors, file)) from errors


def config_settings(files: Iterable[str]) -> dict[str, Any]:
    return {key: value for file in files for key, value in _read_config_file(file).items()}


PlainSettings = Annotated[dict[str, Any], AfterValidator(plain_settings)]
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
        plain_settings(point)
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
    published: Annotated[list[str], AfterValidator(check_published)] = []
    id_level: bool = False
    search: Search = Field(default_factory=Search)
