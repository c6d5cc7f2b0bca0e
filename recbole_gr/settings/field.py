"""One setting, declared once: key, type, default, bounds or choices, a sentence and a scope; and what is allowed, in words.

A concern (the protocol, training, one model, ...) is a pydantic model that inherits :class:`Settings`; its fields are made by
:func:`setting`. Everything else that knows of settings is derived from these classes.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from recbole_gr.utils.errors import SettingError

#: What a setting decides on. ``protocol``: on which data, and how, models are measured; rows of a board share it.
#: ``dataset``: what the dataset, its semantic IDs and titles are. ``model``, ``training``, ``decoding``: as the words say.
#: ``runtime``: where and how fast, not what; a board's cell is the same and a resumed run may change it.
Scope = Literal["protocol", "dataset", "model", "training", "decoding", "runtime"]


def setting(
    default: Any,
    description: str,
    scope: Scope,
    *,
    path: bool = False,
    resumable: bool = False,
    allowed: str = "",
    **bounds: Any,
) -> Any:
    """A field of a :class:`Settings` class.

    Args:
        default: the value where the user sets none.
        description: one sentence.
        scope: see :data:`Scope`.
        path: whether the value may be a path of the user's machine, which a record does not print.
        resumable: whether a resumed run may have another value; those of scope ``runtime`` always may.
        allowed: what is allowed, in words, where type and bounds do not say it.
        **bounds: ``ge``, ``gt``, ``le``, ``lt`` and further arguments of ``pydantic.Field``.
    """
    extra: Any = {"scope": scope, "path": path, "resumable": resumable or scope == "runtime", "allowed": allowed}
    return Field(default, description=description, json_schema_extra=extra, **bounds)


def extra_of(info: FieldInfo) -> dict[str, Any]:
    """What :func:`setting` wrote beside type and bounds; empty for a field that was made without it."""
    return info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}


@dataclass(frozen=True)
class Fault:
    """A value that cannot work.

    Args:
        key: the setting.
        value: what it was set to.
        allowed: what is allowed, or what is wrong, in a few words.
    """

    key: str
    value: Any
    allowed: str


@dataclass(frozen=True)
class RunValues:
    """The values of all settings of a run, as checks of more than one setting need them.

    Args:
        values: by key, defaults included.
        given: where the user set a value, by key, in words: ``on the command line``.
    """

    values: Mapping[str, Any]
    given: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.values.get(key)


class Settings(BaseModel):
    """A concern: its fields are settings.

    A subclass may say which values cannot be combined (:meth:`conflicts`) and which have no effect (:meth:`idle`). Both are
    asked of every class of the hierarchy, so that they need not call ``super()``.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=())

    #: The heading above its settings in the generated files.
    title: ClassVar[str] = ""

    @classmethod
    def conflicts(cls, run: RunValues) -> Iterator[Fault]:
        """Values that are right by themselves and wrong together."""
        yield from ()

    @classmethod
    def idle(cls, run: RunValues) -> dict[str, str]:
        """Settings that have no effect beside the others, and why, by key."""
        return {}

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Default values by key; each call makes new lists and dicts."""
        return {key: info.get_default(call_default_factory=True) for key, info in cls.model_fields.items()}

    @classmethod
    def concerns(cls) -> list[type[Settings]]:
        """The classes of the hierarchy that declare settings, the most general first."""
        return [base for base in reversed(cls.__mro__) if issubclass(base, Settings) and base is not Settings]


def field_faults(settings: type[Settings], values: Mapping[str, Any]) -> list[Fault]:
    """Values that are of a wrong type or out of bounds, each by itself."""
    known = {key: values[key] for key in settings.model_fields if key in values}
    equal = {key for key, value in known.items() if not _is_choice(settings.model_fields[key].annotation, value)}
    faults = {key: Fault(key, known.pop(key), allowed_values(settings.model_fields[key])) for key in equal}
    for fault in nul_faults(known):
        faults[fault.key] = fault
        known.pop(fault.key)
    try:
        settings.model_validate(known)
    except ValidationError as error:
        for found in error.errors():
            key = str(found["loc"][0])
            own = str(found["ctx"]["error"]) if found["type"] == "value_error" else ""
            faults[key] = Fault(key, known[key], own or allowed_values(settings.model_fields[key]))
    return list(faults.values())


def nul_faults(values: Mapping[str, Any]) -> list[Fault]:
    """Texts with a NUL byte, which no path, column or name has."""
    return [
        Fault(key, value, "must be text without NUL bytes")
        for key, value in values.items()
        if isinstance(value, str) and "\0" in value
    ]


def _is_choice(annotation: Any, value: Any) -> bool:
    """Whether a value is one of the choices, where there are some; 1 is not True, which pydantic takes for equal."""
    kinds, optional = _without_none(annotation)
    if len(kinds) != 1 or get_origin(kinds[0]) is not Literal or (value is None and optional):
        return True
    return any(type(value) is type(choice) and value == choice for choice in get_args(kinds[0]))


def allowed_values(info: FieldInfo) -> str:
    """What a field allows, in words: ``must be a whole number of at least 1``."""
    if extra_of(info).get("allowed"):
        return extra_of(info)["allowed"]
    return _allowed(info.annotation, info.metadata)


def _allowed(annotation: Any, metadata: list[Any]) -> str:
    kinds, optional = _without_none(annotation)
    bounds = _bounds(metadata)
    if len(kinds) == 1:
        kind = kinds[0]
        if get_origin(kind) is Literal:
            choices = [*get_args(kind), *([None] if optional else [])]
            return f"must be one of {', '.join(map(str, choices))}"
        if kind is bool:
            return "must be True or False"
        if kind is int:
            return f"must be a whole number{' of' if bounds.startswith('at least') else ''} {bounds}".rstrip()
        if kind is float:
            return f"must be a number {bounds}".rstrip()
        if kind is str:
            return 'must be text; in yaml write it in quotes, "{title}"'
    names = [getattr(kind, "__name__", str(kind)) for kind in kinds] + (["None"] if optional else [])
    return f"must be of type {' or '.join(names)}"


def _without_none(annotation: Any) -> tuple[list[Any], bool]:
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return kinds, len(kinds) < len(get_args(annotation))
    return [annotation], False


def _bounds(metadata: list[Any]) -> str:
    words = []
    for kind, word, name in (
        (annotated_types.Gt, "above", "gt"),
        (annotated_types.Ge, "at least", "ge"),
        (annotated_types.Lt, "below", "lt"),
        (annotated_types.Le, "at most", "le"),
    ):
        words += [f"{word} {getattr(bound, name)}" for bound in metadata if isinstance(bound, kind)]
    return " and ".join(words)


def fits(info: FieldInfo, value: Any) -> bool:
    """Whether a value is of the type of a field, and within its bounds."""
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if isinstance(value, list) and get_origin(info.annotation) is tuple:  # as yaml has it
        value = tuple(value)
    annotated: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    adapter: TypeAdapter[Any] = TypeAdapter(annotated, config=ConfigDict(arbitrary_types_allowed=True))
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError:
        return False
    return _is_choice(info.annotation, value)


def check_value(key: str, value: Any, kind: Any, **bounds: Any) -> None:
    """Check an argument that is no setting of a run: ``check_value("k", 0, int, ge=1)``.

    Args:
        key: what it is called, for the error.
        value: the argument.
        kind: its type, ``Literal[...]`` for choices.
        **bounds: as :func:`setting` takes them.

    Raises:
        SettingError: names the key, the value and what is allowed.
    """
    annotated: Any = Annotated[kind, Field(**bounds)]
    info = FieldInfo.from_annotation(annotated)
    if not fits(info, value):
        raise SettingError(key, value, allowed_values(info))


def keys_of(settings: type[Settings], *, scope: Scope | None = None, **flags: bool) -> set[str]:
    """Keys of a class by scope and by flags of :func:`setting`: ``keys_of(RunSettings, path=True)``."""
    found = set()
    for key, info in settings.model_fields.items():
        extra = extra_of(info)
        if (scope is None or extra.get("scope") == scope) and all(extra.get(flag) == value for flag, value in flags.items()):
            found.add(key)
    return found
