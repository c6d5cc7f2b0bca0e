"""The models that are known by name: those of this package, of others by entry point, and what a session registers.

A model is registered by one :class:`ModelSpec`; RecBole, the command line, the boards and the checks learn it from here.
Classes may be given as ``"package.module:Class"``, which is imported only when the model is asked for.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from recbole_gr.settings.field import Settings, keys_of
from recbole_gr.settings.protocol import ProtocolSettings
from recbole_gr.settings.recbole_keys import (
    RecBoleSettings,
    keys_of_recbole_model,
    keys_read_in,
    read_recbole_properties,
    recbole_model_names,
)
from recbole_gr.settings.training import DecodingSettings
from recbole_gr.utils.entry_points import entry_points
from recbole_gr.utils.errors import SettingError

#: Where a package names its models, ``Name = package.module:SPEC`` or ``package.module:Class``.
ENTRY_POINTS = "recbole_gr.models"


@dataclass(frozen=True)
class ModelSpec:
    """All that makes a model known.

    Args:
        model: the class, or ``"package.module:Class"``; its name is the name of the model.
        settings: the :class:`Settings` of the model, with its defaults; None: those of the nearest registered base class.
        dataset: what RecBole shall use with it, a class or ``"package.module:Class"``; None: that of the nearest registered
            base class, else what RecBole uses for its own models.
        trainer: as ``dataset``.
    """

    model: type | str
    settings: type[Settings] | str | None = None
    dataset: type | str | None = None
    trainer: type | str | None = None

    @property
    def name(self) -> str:
        """As in ``--model``."""
        return self.model.rpartition(":")[2] if isinstance(self.model, str) else self.model.__name__

    @property
    def generative(self) -> bool:
        """Whether the model generates what it recommends, by semantic ID or title: its settings are those of decoding."""
        settings = load(self.settings)
        return settings is not None and issubclass(settings, DecodingSettings)


_SPECS: dict[str, ModelSpec] = {}


def register(model: ModelSpec | type) -> ModelSpec:
    """Make a model known by the name of its class, in this process; an entry point makes it known everywhere.

    Args:
        model: a spec, or a class, whose dataset, trainer and settings are those of its nearest registered base class.

    Raises:
        SettingError: another model of ours has this name already.
    """
    spec = model if isinstance(model, ModelSpec) else ModelSpec(model)
    known = _SPECS.get(spec.name)
    if known is not None and _place(known.model) != _place(spec.model):
        raise SettingError("model", spec.name, f"there is a model of this name already, {_place(known.model)}")
    _SPECS[spec.name] = spec
    return completed(spec)


def find_spec(model: str | type) -> ModelSpec | None:
    """The spec of a registered model, completed by that of its nearest registered base class.

    Args:
        model: a name, ``"package.module:Class"``, which is registered by that, or a class.

    Returns:
        None for a model of RecBole that nobody registered.

    Raises:
        SettingError: a class cannot be imported.
    """
    _register_ours()
    if not isinstance(model, str):
        known = _SPECS.get(model.__name__)
        if known is None or _place(known.model) != _place(model):
            return register(model)
        if not isinstance(known.model, str):
            known = replace(known, model=model)  # a notebook may have defined the class anew
            _SPECS[known.name] = known
        return completed(known)
    if ":" in model:
        found = load(model)
        if not _is_model(found):
            raise SettingError("model", model, "is no class of a model, which inherits one of RecBole's")
        return register(_spec_beside(found))
    if model not in _SPECS:
        for point in entry_points(ENTRY_POINTS):
            if point.name == model:
                register(_loaded_point(point))
    if model not in _SPECS and (own := _subclass_named(model)) is not None:
        register(own)
    return completed(_SPECS[model]) if model in _SPECS else None


def completed(spec: ModelSpec) -> ModelSpec:
    """A spec with the dataset, trainer and settings of the nearest registered base class where it has none."""
    if isinstance(spec.model, str):
        return spec
    for base in spec.model.__mro__[1:]:
        known = _SPECS.get(base.__name__)
        if known is not None and _place(known.model) == _place(base):
            above = completed(known)
            parts = {name: getattr(spec, name) or getattr(above, name) for name in ("settings", "dataset", "trainer")}
            return replace(spec, **parts)
    return spec


def model_names() -> list[str]:
    """Names of all registered models, ours first."""
    _register_ours()
    named = {name: _place(spec.model).startswith("recbole_gr.") for name, spec in _SPECS.items()}
    named.update({point.name: False for point in entry_points(ENTRY_POINTS) if point.name not in _SPECS})
    return sorted(named, key=lambda name: (not named[name], name))  # not in the order in which they happened to be imported


def is_generative(model: str) -> bool:
    """Whether a model of this name generates what it recommends; False for RecBole's, and for names that nothing has."""
    spec = find_spec(model)
    return spec is not None and spec.generative


def check_model_name(model: str) -> None:
    """A name must be that of a registered model or of a model file of RecBole; nothing is imported.

    Raises:
        SettingError: names the nearest ones.
    """
    if find_spec(model) is None and model not in recbole_model_names():
        raise SettingError("model", model, f"no such model{suggestions(model)}")


def suggestions(name: str) -> str:
    """``; did you mean SASRec?``, or nothing."""
    by_lower = {known.lower(): known for known in [*recbole_model_names(), *model_names()]}
    near = [by_lower[lower] for lower in difflib.get_close_matches(name.lower(), by_lower)]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def load(named: Any) -> Any:
    """The object that ``"package.module:name"`` names; anything else as it is.

    Raises:
        SettingError: it cannot be imported.
    """
    if not isinstance(named, str):
        return named
    module, _, name = named.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is not None and module.startswith(error.name):
            raise SettingError("model", named, f"there is no module {error.name}") from error
        raise SettingError("model", named, f"needs the package {error.name}, which is not installed") from error
    except AttributeError as error:
        raise SettingError("model", named, f"the module {module} has no {name}") from error


def model_settings(name: str) -> type[Settings] | None:
    """The settings of a registered model; None for others."""
    spec = find_spec(name)
    return load(spec.settings) if spec is not None else None


def models_with_settings() -> Iterator[tuple[ModelSpec, type[Settings] | None]]:
    """All registered models and their settings; a package that cannot be imported is left out, for most runs do without it."""
    for name in model_names():
        try:
            spec = find_spec(name)
            settings = load(spec.settings) if spec is not None else None
        except SettingError:
            continue
        if spec is not None:
            yield spec, settings


def model_keys() -> set[str]:
    """Keys of all registered models: of their settings, and those that their source reads."""
    found: set[str] = set()
    for spec, settings in models_with_settings():
        if settings is not None:
            found |= settings.defaults().keys()
        if not isinstance(spec.model, str):
            found |= keys_read_by(spec.model)
    return found


def keys_of_model(model: str | type) -> set[str]:
    """Keys that one model has: of its settings, of RecBole's models that it inherits, and those that its source reads."""
    spec = find_spec(model)
    if spec is None:
        return keys_of_recbole_model(str(model))
    settings = load(spec.settings)
    found = set(settings.defaults()) if settings is not None else set()
    if not isinstance(spec.model, str):
        found |= keys_read_by(spec.model)
        for base in spec.model.__mro__:
            if base.__module__.startswith("recbole.model."):
                found |= keys_of_recbole_model(base.__name__)
    return found


def path_keys() -> set[str]:
    """Keys whose values may be paths of the user's machine."""
    return _keys_of_all(path=True)


def runtime_keys() -> set[str]:
    """Keys that say where and how fast a run runs, not what it computes."""
    return _keys_of_all(scope="runtime")


def _keys_of_all(**which: Any) -> set[str]:
    own = [settings for _, settings in models_with_settings() if settings is not None]
    classes: list[type[Settings]] = [RecBoleSettings, ProtocolSettings, *own]
    return set().union(*(keys_of(one, **which) for one in classes))


def keys_read_by(model: type) -> set[str]:
    """Keys that the source of a class and of its base classes reads, as far as the source is to be had."""
    found: set[str] = set()
    for base in model.__mro__[:-1]:
        if base.__module__.split(".")[0] in ("torch", "recbole", "recbole_gr"):
            continue
        try:
            found |= keys_read_in(inspect.getsource(base))
        except (OSError, TypeError):
            continue
    return found


def recbole_defaults_of(model: type) -> dict[str, Any]:
    """RecBole's property file of the nearest base class that has one, for a class that RecBole has no file for."""
    for base in model.__mro__:
        if read := read_recbole_properties(f"model/{base.__name__}"):
            return read
    return {}


def _is_model(found: Any) -> bool:
    """Whether something that was imported is the class of a model."""
    return isinstance(found, type) and any(base.__module__ == "recbole.model.abstract_recommender" for base in found.__mro__)


def _spec_beside(model: Any) -> ModelSpec | type:
    """The spec that the module of a class has for it; else the class itself, whose base classes may be registered."""
    for found in vars(sys.modules[model.__module__]).values():
        if isinstance(found, ModelSpec) and _place(found.model) == _place(model):
            return found
    return model


def _place(model: type | str) -> str:
    return model if isinstance(model, str) else f"{model.__module__}:{model.__qualname__}"


def _loaded_point(point: Any) -> ModelSpec | type:
    try:
        return point.load()
    except Exception as error:  # a module of others can fail in any way while it is imported
        reason = f"{type(error).__name__}: {error}"
        raise SettingError("model", point.name, f"[{point.value}] cannot be imported ({reason})") from error


def _subclass_named(name: str) -> type | None:
    """A class of this name that inherits a registered model whose module is imported already, as in a notebook."""
    for spec in list(_SPECS.values()):
        module, _, base_name = spec.model.partition(":") if isinstance(spec.model, str) else ("", "", "")
        base = spec.model if not isinstance(spec.model, str) else getattr(sys.modules.get(module), base_name, None)
        if base is not None and (found := _below(base, name)) is not None:
            return found
    return None


def _below(base: Any, name: str) -> type | None:
    for child in base.__subclasses__():
        if child.__name__ == name:
            return child
        if (found := _below(child, name)) is not None:
            return found
    return None


@cache
def _register_ours() -> None:
    """Every folder here registers its model when it is imported, which costs next to nothing."""
    package = __name__.rpartition(".")[0]
    for folder in pkgutil.iter_modules(sys.modules[package].__path__):
        if folder.ispkg:
            importlib.import_module(f"{package}.{folder.name}")
