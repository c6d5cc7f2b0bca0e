"""What RecBole evaluates, or unpickles with everything allowed, is read as values here.

RecBole 1.2.1 calls ``eval`` on the text of settings, and ``pickle`` and ``torch.load`` on whatever lies in its folders. A yaml file,
a command copied from a page, a checkpoint of someone else's would so run as a program. Each function here replaces one such
name inside one RecBole module, for all models, also where RecBole is used without our commands. docs/security.md tells
what that leaves open.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from recbole_gr.integration.compat import patch_on_import
from recbole_gr.integration.stand_in import stand_in

#: Modules of RecBole's models that read another model's checkpoint; with torch >= 2.6 they cannot read even their own.
_MODELS_WITH_PRETRAINING = (
    "general_recommender.convncf",  # convncf.py:82
    "general_recommender.nais",  # nais.py:127
    "general_recommender.neumf",  # neumf.py:84
    "general_recommender.ract",  # ract.py:75
    "context_aware_recommender.kd_dagfm",  # kd_dagfm.py:56
    "sequential_recommender.s3rec",  # s3rec.py:120
)


def apply() -> None:
    """Replace them all as their modules are imported. Cheap."""
    _replace("recbole.config.configurator", "eval", lambda module: literal)  # configurator.py:131
    _replace("recbole.trainer.hyper_tuning", "eval", lambda module: literal)  # hyper_tuning.py:239
    _replace("recbole.model.context_aware_recommender.kd_dagfm", "eval", _name_of)  # kd_dagfm.py:44
    _replace("recbole.data.utils", "pickle", _safe_pickle)  # data/utils.py:61 and 122
    _replace("recbole.model.general_recommender.ldiffrec", "np", _numpy_without_pickles)  # ldiffrec.py:232
    for name in _MODELS_WITH_PRETRAINING:
        _replace(f"recbole.model.{name}", "torch", _torch_with_safe_load)


def literal(text: str) -> Any:
    """The value of a Python literal, in place of ``eval``.

    Raises:
        NameError: it is none; RecBole then takes the text itself.
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise NameError("not a literal") from error


def _replace(module: str, name: str, make: Callable[[Any], Any]) -> None:
    """Give a module another value of one of its names, once it has been imported."""

    @contextlib.contextmanager
    def patched(imported: Any) -> Iterator[None]:
        yield
        vars(imported)[name] = make(imported)

    patch_on_import(module, patched)


def _name_of(module: Any) -> Callable[[str], Any]:
    """``eval`` of the name of a class in a module."""

    def look_up(name: str) -> Any:
        found = vars(module).get(name)
        if not isinstance(found, type):
            raise NameError(f"{name!r} is no network of {module.__name__}")
        return found

    return look_up


def _safe_pickle(_module: Any) -> Any:
    import pickle

    from recbole_gr.integration.safe_pickle import load

    return stand_in(pickle, load=load)


def _torch_with_safe_load(_module: Any) -> Any:
    import torch

    from recbole_gr.integration.safe_pickle import load_torch

    return stand_in(torch, load=load_torch)


def _numpy_without_pickles(_module: Any) -> Any:
    import numpy as np

    return stand_in(np, load=lambda path, **_: np.load(path, allow_pickle=False))
