"""A fraction of the training part, for studies of how much data a model needs; validation and test stay as they are."""

from __future__ import annotations

from logging import getLogger
from typing import Any

import numpy as np

from recbole_gr.data.seen import interactions_of


def with_train_fraction(parts: list[Any]) -> list[Any]:
    """Leave training targets out, as ``train_fraction`` says; what is drawn for a fraction is among that of a larger one.

    Histories keep what is left out, in validation and test as in training: what a user had is known, but not learned from where
    it is no target. ``interactions_before`` of the training part holds all of its interactions, for what is excluded as seen.

    Args:
        parts: training, validation and test, as RecBole's ``build`` returns them.

    Returns:
        The same parts, the first of them smaller.
    """
    train = parts[0]
    fraction = train.config["train_fraction"]
    if fraction in (None, 1.0) or not parts[1:]:
        return parts
    users = train.inter_feat[train.uid_field].numpy()
    rng = np.random.default_rng(train.config["train_fraction_seed"])
    if train.config["train_fraction_of"] == "users":
        tokens = train.field2id_token[train.uid_field].astype(str)
        distinct = np.unique(users)
        by_token = distinct[np.argsort(tokens[distinct], kind="stable")]  # the same users however they are numbered
        kept = np.isin(users, rng.permutation(by_token)[: _count(fraction, len(distinct))])
    else:
        kept = np.zeros(len(users), bool)
        kept[rng.permutation(len(users))[: _count(fraction, len(users))]] = True
    smaller = train.copy(train.inter_feat[np.flatnonzero(kept)])
    smaller.interactions_before = interactions_of(train)
    getLogger().info(f"train_fraction={fraction}: {int(kept.sum()):,} of {len(kept):,} training targets are kept")
    return [smaller, *parts[1:]]


def _count(fraction: float, of: int) -> int:
    return max(1, round(fraction * of))
