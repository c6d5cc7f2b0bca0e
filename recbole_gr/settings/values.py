"""What the user set: on the command line, in a dict, in yaml files; which of them comes first, and where each value was set."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from recbole_gr.utils.errors import DataError, SettingError

#: Values that a file may hold, counted as often as aliases (``*name``) repeat them.
MAX_VALUES = 100_000

#: Dicts of a known form: a part that is set leaves the other parts as they are.
MERGED = ("eval_args", "clip_grad_norm", "alignment_templates")


class SettingsLoader(yaml.SafeLoader):
    """Safe yaml that reads 1e-3 as a number, as RecBole's loader does, bounds what aliases multiply, and takes each key once."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and _values_below(node, {}) > MAX_VALUES:
            raise yaml.YAMLError(f"its aliases make more than {MAX_VALUES} values of it")
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if key.value in seen:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"the key {key.value!r} is there twice", key.start_mark
                        )
                    seen.add(key.value)
        return super().construct_mapping(node, deep)


SettingsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _values_below(node: Any, known: dict[int, int]) -> int:
    """Values of a yaml node and all below it; what holds itself has too many."""
    if id(node) not in known:
        known[id(node)] = MAX_VALUES + 1  # while it is being counted
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for pair in inner for part in pair] if isinstance(node, yaml.MappingNode) else inner
        known[id(node)] = 1 + sum(_values_below(part, known) for part in parts)
    return known[id(node)]


@dataclass(frozen=True)
class Given:
    """What the user set.

    Args:
        values: by key, the value that counts; parts of :data:`MERGED` are put together.
        where: by key, where it was set, in words.
    """

    values: dict[str, Any]
    where: dict[str, str]


def read_given(
    config_files: Iterable[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    arguments: Sequence[str] = (),
) -> Given:
    """Put together what the user set; the command line comes first, then the dict, then the files, the last one first.

    Args:
        config_files: paths of yaml files.
        config_dict: settings; text is read as on the command line, as RecBole does.
        arguments: ``--key=value`` as on the command line; others are left alone.

    Raises:
        SettingError: there is no such file.
        DataError: a file is no yaml.
    """
    sources = [(read_yaml(path, "config_files"), f"in {path}") for path in config_files or []]
    sources.append(({key: parse_text(value) for key, value in (config_dict or {}).items()}, "in config_dict"))
    sources.append((read_arguments(arguments), "on the command line"))
    values: dict[str, Any] = {}
    where: dict[str, str] = {}
    for given, place in sources:
        for key, value in given.items():
            values[key] = merged(key, values.get(key), value)
            where[key] = place
    return Given(values, where)


def merged(key: str, below: Any, value: Any) -> Any:
    """A value on top of another: of :data:`MERGED`, the parts that are not set stay."""
    if key in MERGED and isinstance(below, dict) and isinstance(value, dict):
        return {**below, **value}
    return value


def read_yaml(path: str, key: str) -> dict[str, Any]:
    """The settings of a yaml file.

    Args:
        path: the file.
        key: the setting that names the file, for the error.

    Raises:
        SettingError: there is no such file.
        DataError: it is no yaml, or no settings by key.
    """
    if not os.path.isfile(path):
        raise SettingError(key, path, "no such file")
    try:
        with open(path, encoding="utf-8") as file:
            read = yaml.load(file, Loader=SettingsLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"[{path}] is no yaml: {' '.join(str(error).split())}") from error
    if read is None:
        return {}
    if not isinstance(read, dict) or not all(isinstance(name, str) for name in read):
        raise DataError(f"[{path}] must hold settings as key: value")
    return read


def read_arguments(arguments: Sequence[str]) -> dict[str, Any]:
    """Values by key of ``--key=value`` arguments; what is written otherwise is left out."""
    pairs = (argument[2:].partition("=") for argument in arguments if argument.startswith("--") and "=" in argument)
    return {key: parse_text(text) for key, _, text in pairs}


def parse_text(text: Any) -> Any:
    """What text on the command line means: a Python literal, else a switch in any case, else the text itself.

    RecBole evaluates it instead, which runs what it holds. Values that are no text stay as they are.
    """
    if isinstance(text, os.PathLike):
        return os.fspath(text)
    if not isinstance(text, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {"true": True, "false": False}.get(text.lower(), text)
    return value if value is None or isinstance(value, (str, int, float, list, tuple, dict, bool)) else text


def plain(value: Any) -> Any:
    """A setting as a json value; what json does not know becomes its text."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(inner) for inner in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
