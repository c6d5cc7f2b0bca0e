"""The yaml files of ``properties/``: data sets, recipes, boards and published numbers by name, from a checkout or a wheel."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from recbole_gr.settings.values import SettingsLoader

PROPERTIES = Path(str(files("recbole_gr") / "properties"))
if not PROPERTIES.is_dir():  # a checkout or an editable install keeps it beside the package
    PROPERTIES = Path(str(files("recbole_gr"))).parent / "properties"


def properties_file(kind: str, name: str) -> Path:
    """Path of ``properties/<kind>/<name>.yaml``, whether it exists or not."""
    return PROPERTIES / kind / f"{name}.yaml"


def names_in(kind: str) -> list[str]:
    """The names of the files of ``properties/<kind>``, sorted."""
    return sorted(file.stem for file in (PROPERTIES / kind).glob("*.yaml"))


def read_properties(path: Path) -> dict[str, Any]:
    """The settings of a yaml file as a dict; empty if there is no such file."""
    if not path.is_file():
        return {}
    return yaml.load(path.read_text(encoding="utf-8"), Loader=SettingsLoader) or {}


def named_file(kind: str, name: str) -> str:
    """A path as it is; a bare name that is no file is looked up below ``properties/<kind>``: ``grid`` -> its recipe."""
    own = properties_file(kind, name)
    if "/" not in name and not Path(name).exists() and own.is_file():
        return str(own)
    return name
