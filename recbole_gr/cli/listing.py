"""``recbole-gr list``: what can be named on the command line, a line each."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from recbole_gr.data.settings import SemanticIDSettings
from recbole_gr.integration.check_run import downloadable, settings_of_model
from recbole_gr.integration.settings_pages import groups_of, tokenizer_groups
from recbole_gr.models.registry import find_spec, model_names, model_settings
from recbole_gr.settings.field import Settings, allowed_values
from recbole_gr.settings.properties import PROPERTIES
from recbole_gr.settings.recbole_keys import RecBoleSettings, recbole_folder, recbole_model_names
from recbole_gr.settings.recbole_models import model_fields
from recbole_gr.settings.recbole_values import VALUES
from recbole_gr.tokenizers.registry import find_tokenizer, tokenizer_names
from recbole_gr.utils.errors import SettingError

#: Folders below ``properties`` by what they hold.
FOLDERS = {"recipes": "recipes", "boards": "leaderboard", "studies": "study"}


@dataclass(frozen=True)
class Row:
    """A setting: its key, its default, what is allowed and what it means, in words."""

    key: str
    default: Any
    allowed: str
    sentence: str
    choices: tuple[str, ...] = ()


def lines_of(kind: str, model: str = "TIGER", data_path: str = "dataset") -> list[str]:
    """What ``recbole-gr list KIND`` prints."""
    if kind == "settings":
        lines = []
        for title, rows in settings_by_concern(model):
            lines += ["", title, *setting_lines(rows)]
        return lines[1:]
    return in_columns({"datasets": lambda: datasets(data_path)}.get(kind, lambda: _LISTED[kind]())())


def names_of(kind: str) -> list[str]:
    """What a shell completes."""
    return list(datasets("dataset") if kind == "datasets" else _LISTED[kind]())


def in_columns(rows: Mapping[str, str]) -> list[str]:
    """Names, and beside each its sentence."""
    width = max(map(len, rows), default=0)
    return [f"{name.ljust(width)}  {sentence}".rstrip() for name, sentence in rows.items()]


def property_files(kind: str) -> dict[str, str]:
    """The first comment of each yaml file of a kind, by the file's name without its ending."""
    found = {}
    for path in sorted((PROPERTIES / FOLDERS[kind]).glob("*.yaml")):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        found[path.stem] = first.removeprefix("#").strip() if first.startswith("#") else ""
    return found


def models() -> dict[str, str]:
    """A sentence for each of our models, which are first, and the kind of each of RecBole's."""
    found = {}
    for name in model_names():
        spec = find_spec(name)
        documented: Any = spec.model if spec else None
        if getattr(documented, "__module__", "").startswith("recbole."):  # registered by its class; listed below
            continue
        if isinstance(documented, str):  # its module would import torch; the folder's docstring says the same
            documented = importlib.import_module(documented.partition(":")[0].rpartition(".")[0])
        sentence = first_line(documented)
        found[name] = sentence.removeprefix(f"{name}: ")
    kinds = {name: folder.replace("_recommender", "").replace("_", " ") for name, folder in recbole_model_names().items()}
    return {**found, **{name: f"RecBole, {kind}" for name, kind in sorted(kinds.items()) if name not in found}}


def tokenizers() -> dict[str, str]:
    """The first line of each tokenizer's description."""
    found = {}
    for name in tokenizer_names():
        try:
            found[name] = first_line(find_tokenizer(name))
        except SettingError as error:  # a package that cannot be imported is listed with its reason
            found[name] = error.allowed
    return found


def datasets(data_path: str) -> dict[str, str]:
    """Where each dataset that can be named is to be had: those that are there first."""
    found = {"ml-100k": "bundled with RecBole"}
    if os.path.isdir(data_path):
        for name in sorted(os.listdir(data_path)):
            if os.path.isfile(os.path.join(data_path, name, f"{name}.inter")):
                found.setdefault(name, f"in {os.path.join(data_path, name)}")
    for path in sorted((PROPERTIES / "dataset").glob("*.yaml")):
        found.setdefault(path.stem, "made by recbole-gr prepare")
    for name in sorted(downloadable()):
        found.setdefault(name, "downloaded by RecBole")
    return found


def settings_by_concern(model: str) -> list[tuple[str, list[Row]]]:
    """The settings of a model: titles, and below each its settings. Those that are set more often come first.

    Raises:
        SettingError: there is no such model.
    """
    groups: list[tuple[str, list[Row]]] = []
    for settings in reversed(settings_of_model(model)):
        groups += _concerns(settings, model)
    if model_settings(model) is None:
        groups.insert(0, (f"RecBole's {model}", _property_rows(f"model/{model}", model_fields(model))))
    of_recbole = {key: info for one in (RecBoleSettings, *VALUES) for key, info in one.model_fields.items()}
    for title, name in (("RecBole, for all models", "overall"), ("RecBole's data, for all models", "dataset/sample")):
        known = {row.key for _, rows in groups for row in rows}
        groups.append((title, [row for row in _property_rows(name, of_recbole) if row.key not in known]))
    return [(title, rows) for title, rows in groups if rows]


def _concerns(settings: type[Settings], model: str) -> Iterable[tuple[str, list[Row]]]:
    for title, fields in groups_of(settings):
        yield title or model, rows_of(fields)
        if title == SemanticIDSettings.title:
            yield from ((f"Tokenizer {name}", rows_of(fields)) for name, fields in tokenizer_groups(ours=False))


def rows_of(fields: Mapping[str, FieldInfo]) -> list[Row]:
    """Settings in words."""
    return [row_of(key, info) for key, info in fields.items()]


def row_of(key: str, info: FieldInfo) -> Row:
    """A field in words."""
    allowed = allowed_values(info).removeprefix("must be ").partition(";")[0]
    choices: tuple[str, ...] = ()
    if allowed.startswith("one of "):
        choices = tuple(allowed.removeprefix("one of ").split(", "))
    elif allowed == "True or False":
        choices = ("True", "False")
    allowed = allowed.removeprefix("a ").removeprefix("of type ")
    return Row(key, info.get_default(call_default_factory=True), allowed, info.description or "", choices)


def _property_rows(name: str, fields: Mapping[str, FieldInfo]) -> list[Row]:
    """RecBole's own settings, from its property files: ``key: value  # (type) A sentence.``; fields say more than the type."""
    path = recbole_folder() / "properties" / f"{name}.yaml"
    rows = []
    if path.is_file():
        pattern = r"^([\w-]+)\s*:[ \t]*([^#\n]*?)[ \t]*(?:#[ \t]*(?:\(([^)]*)\))?[ \t]*(.*))?$"
        for key, default, kind, sentence in re.findall(pattern, path.read_text(encoding="utf-8"), re.M):
            known = row_of(key, fields[key]) if key in fields else Row(key, default, kind, sentence)
            allowed = known.allowed if known.allowed not in ("list", "Any") else kind
            rows.append(Row(key, default, allowed, sentence, known.choices))
    return rows


def setting_lines(rows: Iterable[Row]) -> list[str]:
    """A line for each setting, and below it what it means."""
    lines = []
    for row in rows:
        default = row.default if isinstance(row.default, str) and row.default else repr(row.default)
        lines.append(f"  --{row.key}={default}" + (f"   ({row.allowed})" if row.allowed and row.allowed != "Any" else ""))
        lines += textwrap.wrap(row.sentence, 110, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return lines


def first_line(documented: Any) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(documented) or "").strip().partition("\n")[0]


_LISTED: dict[str, Any] = {
    "recipes": lambda: property_files("recipes"),
    "boards": lambda: property_files("boards"),
    "studies": lambda: property_files("studies"),
    "models": models,
    "tokenizers": tokenizers,
}
