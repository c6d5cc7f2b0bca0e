"""The kinds of tokenizers by name, to which other packages can add theirs.

A tokenizer is a function ``(vectors, codebook_num, codebook_size, *, seed, ...) -> Quantised``. Its further keyword-only
parameters are its settings: each is a config key of the same name, with the same default. An annotation
``name: Annotated[int, Field(description="One sentence.", ge=1)] = 20`` says what a setting means and allows; it is checked
before any work and stands in the documentation. Parameters named ``device`` and ``show_progress`` get the values of the run, and
one named ``cf_vectors`` a second set of vectors, collaborative ones, float32 ``[n, d']``, a row for each of ``vectors``.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_type_hints

from pydantic.fields import FieldInfo

from recbole_gr.settings.field import allowed_values, fits
from recbole_gr.tokenizers import families
from recbole_gr.utils.entry_points import entry_points
from recbole_gr.utils.errors import SettingError
from recbole_gr.version import __version__

#: A function as the module describes; the settings differ from one to the next.
Tokenizer = Callable[..., Any]

#: ``(vectors of other items, Quantised.fitted of the first ones, settings of the tokenizer) -> Quantised``.
Encoder = Callable[[Any, Mapping[str, Any], Mapping[str, Any]], Any]

#: Where a package names its tokenizers, ``name = package.module:function``.
ENTRY_POINTS = "recbole_gr.tokenizers"
#: Parameter of a tokenizer that learns from collaborative vectors too.
CF_VECTORS = "cf_vectors"
#: Parameters that a run fills in by itself.
GIVEN_BY_THE_RUN = ("seed", "device", "show_progress", CF_VECTORS)

#: The order of lists begins with these; further files of the folder follow by name.
_FIRST = ("rkmeans", "rqvae", "letter", "product", "baselines")
_FAMILIES = sorted(
    (module.name for module in pkgutil.iter_modules(families.__path__)),
    key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name),
)

_TOKENIZERS: dict[str, Tokenizer] = {}
_ENCODERS: dict[str, Encoder] = {}
for _family in _FAMILIES:
    _module = importlib.import_module(f"{families.__name__}.{_family}")
    _TOKENIZERS.update(_module.TOKENIZERS)
    _ENCODERS.update(_module.ENCODERS)


def add_tokenizer(name: str, function: Tokenizer) -> None:
    """Make a tokenizer known in this process; one that is named as an entry point is known everywhere.

    Args:
        name: for ``tokenizer: name``.
        function: as the module describes.

    Raises:
        SettingError: the name is taken by another function, or a setting has no default.
    """
    settings_of(function)
    if _TOKENIZERS.get(name, function) is not function:
        raise SettingError("tokenizer", name, "there is a tokenizer of this name already")
    _TOKENIZERS[name] = function


def tokenizer_names() -> list[str]:
    """Names of all tokenizers, ours first."""
    return [*_TOKENIZERS, *(point.name for point in entry_points(ENTRY_POINTS) if point.name not in _TOKENIZERS)]


def find_tokenizer(name: str) -> Tokenizer:
    """The function of a name.

    Raises:
        SettingError: there is none, or the package that names it cannot be imported.
    """
    if name in _TOKENIZERS:
        return _TOKENIZERS[name]
    for point in entry_points(ENTRY_POINTS):
        if point.name == name:
            try:
                function = point.load()
            except Exception as error:  # a module of others can fail in any way while it is imported
                reason = f"{type(error).__name__}: {error}"
                raise SettingError("tokenizer", name, f"[{point.value}] cannot be imported ({reason})") from error
            if not callable(function):
                raise SettingError("tokenizer", name, f"[{point.value}] is not a function")
            return function
    raise SettingError("tokenizer", name, f"must be one of {', '.join(tokenizer_names())}")


def find_encoder(name: str) -> Encoder:
    """What gives items their codes by a tokenizer that was fitted to others.

    A tokenizer of another package may have it as the attribute ``encode`` of its function.

    Raises:
        SettingError: there is no such tokenizer, or new items cannot get codes by it.
    """
    if name in _ENCODERS:
        return _ENCODERS[name]
    encode = getattr(find_tokenizer(name), "encode", None)
    if encode is None:
        raise SettingError("tokenizer", name, "cannot give codes to new items: its function has no attribute encode")
    return encode


def settings_of(function: Tokenizer) -> dict[str, Any]:
    """The settings of a tokenizer and their defaults.

    Raises:
        SettingError: a setting has no default.
    """
    parameters = inspect.signature(function).parameters.values()
    settings = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in GIVEN_BY_THE_RUN}
    for name, default in settings.items():
        if default is inspect.Parameter.empty:
            raise SettingError("tokenizer", function.__name__, f"its setting {name} must have a default")
    return settings


def setting_fields(function: Tokenizer) -> dict[str, FieldInfo]:
    """The settings of a tokenizer with type, default, bounds and description, by key.

    A setting without annotation, as another package may have it, is a field of type ``Any`` with its default.

    Raises:
        SettingError: a setting has no default.
    """
    return dict(_setting_fields(function))


@cache
def _setting_fields(function: Tokenizer) -> dict[str, FieldInfo]:
    """Asked for ten times while the settings of one run are checked."""
    hints: dict[str, Any] = {}
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # annotations of others that only a type checker can read
        pass
    return {
        name: FieldInfo.from_annotated_attribute(hints.get(name, Any), default)
        for name, default in settings_of(function).items()
    }


def all_settings() -> dict[str, Any]:
    """The settings of all tokenizers and their defaults; of several of one name, the first default counts."""
    return {key: field.default for key, field in all_setting_fields().items()}


def all_setting_fields() -> dict[str, FieldInfo]:
    """The settings of all tokenizers as :func:`setting_fields`; of several of one name, the first counts."""
    fields: dict[str, FieldInfo] = {}
    for name in tokenizer_names():
        try:
            fields = {**setting_fields(find_tokenizer(name)), **fields}
        except SettingError:  # a package that cannot be imported must not stop a run that does without it
            continue
    return fields


def check_tokenizer_settings(settings: Mapping[str, Any], function: Tokenizer | None = None) -> None:
    """Check values against the annotations of the tokenizers' parameters.

    Args:
        settings: values by key; keys that no tokenizer of this package has are left alone.
        function: a tokenizer whose own annotations come first; None: those of this package's tokenizers alone.

    Raises:
        SettingError: one line with key, value and what is allowed.
    """
    fields: dict[str, FieldInfo] = {}
    for known in filter(is_ours, _TOKENIZERS.values()):
        fields = {**setting_fields(known), **fields}
    if function is not None:
        fields |= {key: field for key, field in setting_fields(function).items() if field.annotation is not Any}
    for key, value in settings.items():
        if key in fields and not fits(fields[key], value):
            raise SettingError(key, value, allowed_values(fields[key]))


def is_ours(function: Tokenizer) -> bool:
    """Whether a tokenizer comes with this package."""
    return (function.__module__ or "").startswith("recbole_gr.")


def fingerprint(function: Tokenizer) -> str | None:
    """What changes when a tokenizer may make other codes: our version, or the source of another's module.

    Returns:
        None where the source cannot be read, as in an interactive session.
    """
    if is_ours(function):
        return __version__
    module = inspect.getmodule(function)
    try:
        return None if module is None else inspect.getsource(module)
    except (OSError, TypeError):
        return None


def given_by_the_run(function: Tokenizer) -> list[str]:
    """Which of :data:`GIVEN_BY_THE_RUN` a tokenizer has as parameters."""
    return [name for name in GIVEN_BY_THE_RUN if name in inspect.signature(function).parameters]


def takes_cf_vectors(function: Tokenizer) -> bool:
    """Whether a tokenizer learns from collaborative vectors beside those that it quantises."""
    return CF_VECTORS in given_by_the_run(function)
