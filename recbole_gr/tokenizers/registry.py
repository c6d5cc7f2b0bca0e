"""The kinds of tokenizers by name, to which other packages can add theirs.

A tokenizer is a function ``(vectors, codebook_num, codebook_size, *, seed, ...) -> Quantised``. Its further keyword-only
parameters are its settings: each is a config key of the same name, with the same default. If it has parameters named
``device`` and ``show_progress``, it is told the run's.
"""

import inspect
from importlib.metadata import entry_points

from recbole_gr.utils.errors import SettingError
from recbole_gr.tokenizers.controls import lsh, random
from recbole_gr.tokenizers.product import opq, pq
from recbole_gr.tokenizers.rkmeans import rkmeans
from recbole_gr.tokenizers.trained import rqvae, rvq
from recbole_gr.version import __version__

#: Where a package names its tokenizers, ``name = package.module:function``.
ENTRY_POINTS = "recbole_gr.tokenizers"
#: Parameters that a run fills in by itself.
GIVEN_BY_THE_RUN = ("seed", "device", "show_progress")

_TOKENIZERS = {"rkmeans": rkmeans, "rvq": rvq, "rqvae": rqvae, "opq": opq, "pq": pq, "random": random, "lsh": lsh}


def add_tokenizer(name, function):
    """Make a tokenizer known in this process; one that is named as an entry point is known everywhere.

    Args:
        name (str): for ``tokenizer: name``.
        function (callable): as the module describes.

    Raises:
        SettingError: the name is taken by another function, or a setting has no default.
    """
    settings_of(function)
    if _TOKENIZERS.get(name, function) is not function:
        raise SettingError("tokenizer", name, "there is a tokenizer of this name already")
    _TOKENIZERS[name] = function


def tokenizer_names():
    """Names of all tokenizers, ours first."""
    return [*_TOKENIZERS, *(point.name for point in entry_points(group=ENTRY_POINTS) if point.name not in _TOKENIZERS)]


def find_tokenizer(name):
    """The function of a name.

    Raises:
        SettingError: there is none, or the package that names it cannot be imported.
    """
    if name in _TOKENIZERS:
        return _TOKENIZERS[name]
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            try:
                function = point.load()
            except Exception as error:  # a module of others can fail in any way while it is imported
                reason = f"{type(error).__name__}: {error}"
                raise SettingError("tokenizer", name, f"[{point.value}] cannot be imported ({reason})") from error
            if not callable(function):
                raise SettingError("tokenizer", name, f"[{point.value}] is no function")
            return function
    raise SettingError("tokenizer", name, f"must be one of {', '.join(tokenizer_names())}")


def settings_of(function):
    """The settings of a tokenizer and their defaults, a dict.

    Raises:
        SettingError: a setting has no default.
    """
    parameters = inspect.signature(function).parameters.values()
    settings = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in GIVEN_BY_THE_RUN}
    for name, default in settings.items():
        if default is inspect.Parameter.empty:
            raise SettingError("tokenizer", function.__name__, f"its setting {name} must have a default")
    return settings


def all_settings():
    """The settings of all tokenizers and their defaults, a dict; of several of one name, the first default counts."""
    defaults = {}
    for name in tokenizer_names():
        try:
            defaults = {**settings_of(find_tokenizer(name)), **defaults}
        except SettingError:  # a package that cannot be imported must not stop a run that does without it
            continue
    return defaults


def is_ours(function):
    """Whether a tokenizer comes with this package."""
    return function.__module__.startswith("recbole_gr.")


def fingerprint(function):
    """What changes when a tokenizer may make other codes: our version, or the source of another's module.

    Returns:
        str: None where the source is not to be had, as in an interactive session.
    """
    if is_ours(function):
        return __version__
    try:
        return inspect.getsource(inspect.getmodule(function))
    except (OSError, TypeError):
        return None


def given_by_the_run(function):
    """Which of :data:`GIVEN_BY_THE_RUN` a tokenizer wants to know."""
    return [name for name in GIVEN_BY_THE_RUN if name in inspect.signature(function).parameters]
