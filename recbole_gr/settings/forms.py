"""Checks of values that are more than a number, a switch or a text: dicts of known parts, lists, names of a few kinds.

Each is given a value and returns it, or raises a ValueError that says what is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from recbole_gr.settings.intervals import intervals_fault

Check = Callable[[Any], Any]

#: Settings of ``torch.nn.utils.clip_grad_norm_`` beside ``max_norm``.
_CLIP_PARTS = ("max_norm", "norm_type", "error_if_nonfinite", "foreach")

#: Parts of ``train_neg_sample_args``, with RecBole's defaults.
NEG_SAMPLE_PARTS = {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0}


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; a switch is none."""
    return type(value) in (int, float) and math.isfinite(value)


def one_of(words: Collection[str], *, optional: bool = False) -> Check:
    """One of some words, in any case, as RecBole compares them."""

    def check(value: Any) -> Any:
        if (value is None and optional) or (isinstance(value, str) and value.lower() in words):
            return value
        raise ValueError(f"must be one of {', '.join([*words, *(['None'] if optional else [])])}")

    return check


def switch(value: Any) -> Any:
    """True or False; RecBole takes 1 and 0 too."""
    if not isinstance(value, bool) and value not in (0, 1):
        raise ValueError("must be True or False")
    return value


def text(value: Any) -> Any:
    """Text that is not empty."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError('must be text; in yaml write it in quotes, "name"')
    return value


def texts(value: Any) -> Any:
    """A list of texts, or None."""
    if value is not None and not (isinstance(value, (list, tuple)) and all(isinstance(one, str) and one for one in value)):
        raise ValueError("must be a list of names")
    return value


def text_or_texts(value: Any) -> Any:
    """One text or a list of them, or None."""
    return value if isinstance(value, str) and value else texts(value)


def columns_by_file(value: Any) -> Any:
    """Lists of columns by the ending of a file, or None."""
    if value is None:
        return value
    by_file = isinstance(value, dict) and all(isinstance(file, str) for file in value)
    if not by_file or not all(columns == "*" or _are_texts(columns) for columns in value.values()):
        raise ValueError("must hold, by file, lists of columns, for example {inter: [user_id, item_id]}")
    return value


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def texts_by_name(value: Any) -> Any:
    """A dict of texts by column, or None."""
    if value is not None and not (
        isinstance(value, dict) and all(isinstance(one, str) for pair in value.items() for one in pair)
    ):
        raise ValueError("must hold a column by column, for example {ent_id: ent_emb}")
    return value


def gpu_ids(value: Any) -> Any:
    """What CUDA_VISIBLE_DEVICES may hold: numbers or names of GPUs, separated by commas; empty for none."""
    ids = value if isinstance(value, tuple) else str(value).split(",")
    known = type(value) in (str, int, tuple) and all(
        re.fullmatch(r"(-1|[0-9]{1,5}|(GPU|MIG)-[\w/-]+)?", str(one).strip()) for one in ids
    )
    if not known:
        raise ValueError("must be numbers of GPUs, for example 0 or '0,1'; '' for none")
    return value


def clip_grad_norm(value: Any) -> Any:
    """The arguments of ``torch.nn.utils.clip_grad_norm_``, or None."""
    if value is None:
        return value
    allowed = "must be a dict, {'max_norm': 1.0}"
    if not isinstance(value, dict) or "max_norm" not in value:
        raise ValueError(allowed)
    for part, set_to in value.items():
        if part not in _CLIP_PARTS:
            raise ValueError(f"has no part {part!r}; it has {', '.join(_CLIP_PARTS)}")
        if part == "max_norm" and not (is_number(set_to) and set_to > 0):
            raise ValueError("max_norm must be a number above 0")
        if part == "norm_type" and not (set_to == math.inf or (is_number(set_to) and set_to > 0)):
            raise ValueError("norm_type must be a number above 0")
        if part in ("error_if_nonfinite", "foreach") and not isinstance(set_to, bool):
            raise ValueError(f"{part} must be True or False")
    return value


def train_neg_sample_args(value: Any) -> Any:
    """How negative items are drawn, or None."""
    if value is None or value == "None":
        return value
    if not isinstance(value, dict):
        raise ValueError(f"must be a dict with {', '.join(NEG_SAMPLE_PARTS)}, or None")
    kinds: Mapping[str, tuple[Callable[[Any], bool], str]] = {
        "distribution": (lambda one: one in ("uniform", "popularity", "None", None), "one of uniform, popularity, None"),
        "sample_num": (lambda one: type(one) is int and one >= 1, "a whole number of at least 1"),
        "alpha": (is_number, "a number"),
        "dynamic": (lambda one: isinstance(one, bool), "True or False"),
        "candidate_num": (lambda one: type(one) is int and one >= 0, "a whole number of at least 0"),
    }
    for part, set_to in value.items():
        if part not in kinds:
            raise ValueError(f"has no part {part!r}; it has {', '.join(kinds)}")
        if not kinds[part][0](set_to):
            raise ValueError(f"{part} must be {kinds[part][1]}")
    if value.get("dynamic") and not value.get("candidate_num"):
        raise ValueError("dynamic needs candidate_num, a whole number of at least 1")
    return value


def val_interval(value: Any) -> Any:
    """Intervals of numbers, or lists of tokens, by column; or None."""
    if value is None:
        return value
    if not isinstance(value, dict) or not all(isinstance(column, str) for column in value):
        raise ValueError("must hold intervals by column, for example {rating: '[4,inf)'}")
    for column, kept in value.items():
        if isinstance(kept, (list, tuple)):
            if not kept:
                raise ValueError(f"{column}: an empty list keeps nothing")
            if all(type(one) in (str, int, float) for one in kept):
                continue
        fault = intervals_fault(kept)
        if fault is not None:
            raise ValueError(f"{column}: {fault}; of a column of tokens a list of them")
    return value


def threshold(value: Any) -> Any:
    """One column and the least value that counts as liked, or None."""
    if value is None:
        return value
    if not isinstance(value, dict) or len(value) != 1 or not all(isinstance(column, str) for column in value):
        raise ValueError("must hold one column and a number, for example {rating: 4}")
    if not all(map(is_number, value.values())):
        raise ValueError("must hold one column and a number, for example {rating: 4}")
    return value


def lengths(value: Any) -> Any:
    """Whole numbers by column, or None."""
    if value is None:
        return value
    if not isinstance(value, dict) or any(
        not isinstance(column, str) or type(n) is not int or n < 1 for column, n in value.items()
    ):
        raise ValueError("must hold whole numbers of at least 1 by column, for example {title: 10}")
    return value


def discretization(value: Any) -> Any:
    """A way to make buckets by column, or None."""
    if value is None:
        return value
    allowed = "must hold by column {method: LD} or {method: ED, bucket: N}, N a whole number of at least 1"
    if not isinstance(value, dict):
        raise ValueError(allowed)
    for column, how in value.items():
        if not isinstance(column, str) or not isinstance(how, dict) or not how.keys() <= {"method", "bucket"}:
            raise ValueError(allowed)
        bucket = how.get("bucket")
        if how.get("method") not in ("ED", "LD") or (how["method"] == "ED" and (type(bucket) is not int or bucket < 1)):
            raise ValueError(allowed)
    return value


def topk(value: Any) -> Any:
    """A whole number of at least 1, or a list of them."""
    values = [value] if type(value) is int else value
    if not isinstance(values, list) or not values or any(type(k) is not int or k < 1 for k in values):
        raise ValueError("must be a list of whole numbers of at least 1")
    return value
