"""The settings of RecBole's single models, with type and bounds, made from their property files.

A line there reads ``hidden_act: 'gelu'  # (str) The activation function ... Range in [gelu, relu].``: the type of a setting is
that of its default, the choices of a text are those that the sentence lists, and the bounds of a number follow from its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Literal

from pydantic.fields import FieldInfo

from recbole_gr.settings.field import Fault, allowed_values, fits, setting
from recbole_gr.settings.forms import is_number
from recbole_gr.settings.recbole_keys import (
    RecBoleSettings,
    read_recbole_properties,
    recbole_folder,
    recbole_model_names,
)
from recbole_gr.settings.recbole_values import VALUES

#: Words that RecBole's files do not list, by key.
_CHOICES = {
    "hidden_act": ("gelu", "relu", "swish", "tanh", "sigmoid"),  # model/layers.py:503
    "mlp_act_func": ("sigmoid", "tanh", "relu", "leakyrelu", "dice", "none"),  # model/layers.py:99
    "ae_act_func": ("sigmoid", "tanh", "relu", "leakyrelu", "dice", "none"),
    "noise_schedule": ("linear", "linear-var", "cosine", "binomial"),  # diffrec.py:232
    "mean_type": ("x0", "eps"),
    "knn_method": ("item", "user"),
    "structure": ("stacked", "parallel"),  # dcnv2.py
    "phase": ("teacher_training", "distillation", "finetuning"),  # whose list lacks a mark
}

#: Shares, from 0 to 1.
_SHARE = re.compile(r"dropout|drop_|_prob$|mask_ratio|l1_ratio|corruption_ratio|ft_ratio")
#: Numbers that divide.
_ABOVE_0 = re.compile(r"^tau$|temp(erature)?$|ssl_tau|initializer_range|layer_norm_eps")
#: Weights of losses and of their parts, which a whole default does not make whole.
_WEIGHT = re.compile(r"weight$|_weight|_ratio$|lambda|alpha|beta|gamma|noise|^w_|resolution|dropout|reg|^q$|_prob$")
#: Sizes, of which there is no 0.
_SIZE = re.compile(
    r"size|^(num_|n_)heads|^n_factors|dimension|^rank$|^k$|kernel|_dim$|^n_memory$|interest|^num_clusters|^class_num"
)


@cache
def model_fields(model: str) -> Mapping[str, FieldInfo]:
    """The settings of a model of RecBole by key, as far as its property file says what they may be; empty for others."""
    if model not in recbole_model_names():
        return {}
    general = set(RecBoleSettings.model_fields).union(*(one.model_fields for one in VALUES))
    sentences = _sentences(model)
    fields = {}
    for key, default in read_recbole_properties(f"model/{model}").items():
        kind, bounds = _kind(key, default, sentences.get(key, ""))
        if kind is not None and key not in general:
            info = setting(default, sentences.get(key) or f"A setting of {model}.", "model", **bounds)
            info.annotation = kind
            fields[key] = info
    return fields


def model_faults(model: str, given: Mapping[str, Any]) -> Iterator[Fault]:
    """Values that the user set for settings of a model of RecBole and that cannot work."""
    for key, info in model_fields(model).items():
        if key in given:
            value = given[key]
            default = info.get_default()
            if isinstance(default, list):
                yield from _list_faults(key, value, default)
            elif not fits(info, value):
                yield Fault(key, value, allowed_values(info))


def _kind(key: str, default: Any, sentence: str) -> tuple[Any, dict[str, Any]]:
    """The type of a setting and its bounds; None for one of which nothing is known."""
    if isinstance(default, bool):
        return bool, {}
    if isinstance(default, list):
        return list, {}
    if key == "reranker_CAN_NUM":  # a number, or several in a text
        return None, {}
    if isinstance(default, str):
        if default == "None":
            return str | None, {}
        choices = _choices(key, default, sentence)
        return (Literal[choices] if choices else str), {}
    if type(default) not in (int, float):
        return None, {}
    bounds: dict[str, Any] = {"ge": 0} if default >= 0 else {}
    if _SHARE.search(key):
        bounds["le"] = 1
    elif _ABOVE_0.search(key):
        bounds = {"gt": 0}
    elif isinstance(default, float) and not _WEIGHT.search(key):
        bounds = {}  # margins, for example, may be below 0
    elif type(default) is int and default > 0 and _SIZE.search(key):
        bounds = {"ge": 1}
    return (int if type(default) is int and not _WEIGHT.search(key) else float), bounds


def _choices(key: str, default: str, sentence: str) -> tuple[str, ...]:
    if key in _CHOICES:
        return _CHOICES[key]
    if key == "loss_type" and default != "BCE":
        only = "only be" in sentence or "Range in ['BPR']" in sentence
        return (default,) if only else tuple(dict.fromkeys((default, *_listed(sentence), "BPR", "CE")))
    listed = _listed(sentence)
    return listed if default in listed else ()


def _listed(sentence: str) -> tuple[str, ...]:
    found = re.search(r"rang(?:e|ing) in `*\[([^\]]+)\]", sentence, re.I)
    words = [word.strip(" '\"") for word in found[1].split(",")] if found else []
    return tuple(words) if all(re.fullmatch(r"\w+", word) for word in words) else ()


def _list_faults(key: str, value: Any, default: list[Any]) -> Iterator[Fault]:
    """A list must hold what its default holds: whole numbers, numbers or texts."""
    if not default:
        if not isinstance(value, list):
            yield Fault(key, value, "must be a list")
        return
    right: Callable[[Any], bool]
    if all(type(one) is int for one in default):
        right, what = lambda one: type(one) is int and one >= 1, "whole numbers of at least 1"
    elif all(map(is_number, default)):
        right, what = lambda one: is_number(one) and one >= 0, "numbers of at least 0"
    else:
        right, what = lambda one: isinstance(one, str), "names"
    if not isinstance(value, list) or not all(map(right, value)):
        yield Fault(key, value, f"must be a list of {what}, for example {default}")


@cache
def _sentences(model: str) -> dict[str, str]:
    path = recbole_folder() / "properties" / "model" / f"{model}.yaml"
    if not path.is_file():
        return {}
    lines = re.findall(r"^([\w-]+)\s*:[^#\n]*#[ \t]*(?:\([^)]*\))?[ \t]*(.*)$", path.read_text(encoding="utf-8"), re.M)
    return {key: sentence.strip() for key, sentence in lines}
