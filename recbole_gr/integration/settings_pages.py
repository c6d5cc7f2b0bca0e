"""``python -m recbole_gr.integration.settings_pages``: writes the property files and docs/settings.md from the settings.

The property files are there to be read and copied from; the defaults of a run come from the classes of settings themselves.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic.fields import FieldInfo

from recbole_gr.data.settings import SemanticIDSettings
from recbole_gr.models.registry import find_spec, load, model_names
from recbole_gr.settings.field import Settings, allowed_values, extra_of
from recbole_gr.settings.properties import PROPERTIES
from recbole_gr.settings.protocol import ProtocolSettings
from recbole_gr.tokenizers.registry import find_tokenizer, is_ours, setting_fields, tokenizer_names
from recbole_gr.utils.atomic_files import atomic_write
from recbole_gr.utils.errors import SettingError

WIDTH = 125
#: Characters of an entry that has its comment beside it.
LONGEST = 40
_BEGINNING = "# Generated from {where} by python -m recbole_gr.integration.settings_pages; edit that, not this.\n"

#: A table: its heading and its fields by key.
Group = tuple[str, Mapping[str, FieldInfo]]


def pages() -> dict[Path, str]:
    """The generated files: text by path."""
    written = {
        PROPERTIES / "overall.yaml": _property_file("recbole_gr/settings/protocol.py", groups_of(ProtocolSettings)),
        PROPERTIES / "semantic_ids.yaml": _property_file(
            "recbole_gr/data/settings.py and recbole_gr/tokenizers", [*groups_of(SemanticIDSettings), *tokenizer_groups()]
        ),
    }
    models = _our_models()
    for name, (where, settings) in models.items():
        own = [group for group in groups_of(settings) if group[0] != SemanticIDSettings.title]
        written[PROPERTIES / "model" / f"{name}.yaml"] = _property_file(where, own)
    written[PROPERTIES.parent / "docs" / "settings.md"] = _markdown(
        {name: settings for name, (_, settings) in models.items()}
    )
    return written


def write_pages() -> list[Path]:
    """Write what differs; returns the files that were written."""
    changed = []
    for path, text in pages().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            with atomic_write(str(path)) as file:
                file.write(text)
            changed.append(path)
    return changed


def _our_models() -> dict[str, tuple[str, type[Settings]]]:
    found = {}
    for name in model_names():
        spec = find_spec(name)
        settings = load(spec.settings) if spec is not None else None
        if settings is not None and settings.__module__.startswith("recbole_gr."):
            found[name] = (settings.__module__.replace(".", "/") + ".py", settings)
    return found


def groups_of(settings: type[Settings]) -> list[Group]:
    """The fields of a class by the concern that declares them; a field that is declared again stands with the last one."""
    owner = {key: concern for concern in settings.concerns() for key in vars(concern).get("__annotations__", {})}
    groups: list[Group] = []
    for concern in reversed(settings.concerns()):
        keys = [key for key in settings.model_fields if owner.get(key) is concern]
        if keys:
            groups.append((concern.title, {key: settings.model_fields[key] for key in keys}))
    return groups


def tokenizer_groups(ours: bool = True) -> list[Group]:
    """The settings of each tokenizer, of ours or of all that are installed; one that several have stands with the first."""
    groups: list[Group] = []
    seen: set[str] = set()
    for name in tokenizer_names():
        try:
            function = find_tokenizer(name)
            fields = {key: info for key, info in setting_fields(function).items() if key not in seen}
        except SettingError:  # a package that cannot be imported
            continue
        if fields and (is_ours(function) or not ours):
            groups.append((name, fields))
            seen |= fields.keys()
    return groups


def _property_file(where: str, groups: Iterable[Group]) -> str:
    lines = []
    for title, fields in groups:
        lines.append(f"\n# {title}")
        entries = {key: f"{key}: {_as_yaml(info.get_default(call_default_factory=True))}" for key, info in fields.items()}
        column = max(len(entry) for entry in entries.values() if len(entry) <= LONGEST) + 2
        for key, info in fields.items():
            lines += _commented(entries[key], _sentence(info), column)
    return _BEGINNING.format(where=where) + "\n".join(lines) + "\n"


def _commented(entry: str, sentence: str, column: int) -> list[str]:
    """The comment stands beside the entry, above a long one."""
    if len(entry) > LONGEST:
        return [*(f"# {line}" for line in textwrap.wrap(sentence, WIDTH - 2)), entry]
    first, *others = textwrap.wrap(sentence, WIDTH - column - 2)
    return [f"{entry.ljust(column)}# {first}", *(f"{'#'.rjust(column + 1)} {line}" for line in others)]


def _sentence(info: FieldInfo) -> str:
    """What is allowed, and what it means."""
    return f"({_kind(info)}) {info.description}"


def _kind(info: FieldInfo) -> str:
    allowed = allowed_values(info).removeprefix("must be ")
    if allowed.startswith("text; "):
        allowed = "text"
    optional = type(None) in get_args(info.annotation)
    return allowed.removeprefix("a ").removeprefix("one of ").removeprefix("of type ") + (" or ~" if optional else "")


def _as_yaml(value: Any) -> str:
    if value is None:
        return "~"
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value)  # which yaml reads as it is meant, in one line
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
        .removesuffix("\n")
        .removesuffix("\n...")
    )


def _markdown(models: Mapping[str, type[Settings]]) -> str:
    parts = [
        "# Settings",
        "Generated from the code by `python -m recbole_gr.integration.settings_pages`. RecBole's own settings all apply too. "
        "What a user sets on the command line comes before `config_dict`, that before yaml files, and these before the "
        "defaults below. `~` is no value.",
        "Scope: a board's rows share the settings of the `protocol`; `dataset` shapes the dataset, its semantic IDs and titles; "
        "`runtime` says where and how fast, so that a resumed run may change it.",
        *_tables(groups_of(ProtocolSettings), "## "),
        *_tables([*groups_of(SemanticIDSettings)], "## "),
        "## Tokenizers",
        *_tables(tokenizer_groups(), "### ", scope="dataset"),
    ]
    for name, settings in models.items():
        own = [group for group in groups_of(settings) if group[0] != SemanticIDSettings.title]
        parts += [f"## Model {name}", *_tables(own, "### ")]
    return "\n\n".join(parts) + "\n"


def _tables(groups: Iterable[Group], level: str, scope: str = "") -> list[str]:
    parts = []
    for title, fields in groups:
        rows = ["| key | default | allowed | scope | meaning |", "|---|---|---|---|---|"]
        for key, info in fields.items():
            default = _as_yaml(info.get_default(call_default_factory=True))
            cells = (f"`{key}`", f"`{default}`", _kind(info), extra_of(info).get("scope", scope), info.description or "")
            rows.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
        parts += [level + title, "\n".join(rows)]
    return parts


if __name__ == "__main__":
    for page in write_pages():
        print(page)
