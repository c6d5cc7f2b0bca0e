"""The numbers that users and items have inside RecBole, which no result may depend on but does: weights are drawn by number."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from recbole.utils import FeatureType


def number_by_token(dataset: Any, columns: Sequence[tuple[Any, str, Any]]) -> None:
    """Give the values of some columns their numbers anew, from 1 on in the order of their tokens.

    RecBole numbers what it meets in the order of the rows, so that a file in another order is another run.

    Args:
        dataset: a RecBole ``Dataset``.
        columns: table, field and type of the columns that share their numbers, as ``Dataset._remap`` has numbered them.
    """
    tokens = dataset.field2id_token[columns[0][1]]
    order = np.append(0, 1 + np.argsort(tokens[1:], kind="stable"))
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    sorted_tokens = tokens[order]
    number_of = {token: n for n, token in enumerate(sorted_tokens)}
    for table, field, kind in columns:
        dataset.field2id_token[field], dataset.field2token_id[field] = sorted_tokens, number_of
        if kind == FeatureType.TOKEN:
            table[field] = number[table[field].to_numpy()]
        else:
            table[field] = [number[values] for values in table[field]]
