"""``recbole-gr recommend``: the lists of many users into a file, of which memory holds a batch."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from logging import getLogger
from time import perf_counter
from typing import Any

from tqdm import tqdm

from recbole_gr.integration.check_run import check_writable
from recbole_gr.integration.trained import load_trained_model
from recbole_gr.recommend.options import USERS_OF_A_PAGE, check_recommend_options
from recbole_gr.recommend.page import write_page
from recbole_gr.recommend.recommender import Asked, Recommender
from recbole_gr.recommend.tokens import read_tokens
from recbole_gr.recommend.writers import open_writer
from recbole_gr.utils.errors import SettingError


def recommend_to_file(
    checkpoint: str, *, verbose: bool = False, config_dict: Mapping[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    """Write what a model recommends to many users.

    Args:
        checkpoint: what a run saved.
        verbose: log settings and dataset.
        config_dict: settings on top of those of the run, as for :func:`recbole_gr.load`.
        **options: those of :class:`~recbole_gr.recommend.options.RecommendOptions`.

    Returns:
        ``output``, the path; ``users``, how many; ``rows``; ``certified``, how many users' lists are proven; ``seconds`` and
        ``users_per_second`` without loading.

    Raises:
        RecBoleGRError: an option or a file cannot work; one line for each fault.
    """
    chosen = check_recommend_options(checkpoint, options)
    check_writable("output", os.path.dirname(chosen["output"]) or ".")
    users = None if chosen["users"] == "all" else read_tokens(chosen["users"], "users")
    candidates = None if chosen["candidates"] is None else read_tokens(chosen["candidates"], "candidates")
    recommender = Recommender(load_trained_model(checkpoint, config_dict, verbose=verbose))
    asked = recommender.asked(
        users, k=chosen["k"], history=chosen["history"], exclude_seen=chosen["exclude_seen"], candidates=candidates
    )
    start = perf_counter()
    try:
        done = _write(recommender, asked, chosen)
    except OSError as error:
        raise SettingError("output", chosen["output"], f"cannot be written ({error.strerror or error})") from error
    seconds = perf_counter() - start
    return {
        "output": chosen["output"],
        **done,
        "seconds": seconds,
        "users_per_second": done["users"] / max(seconds, 1e-9),
    }


def _write(recommender: Recommender, asked: Asked, chosen: dict[str, Any]) -> dict[str, int]:
    if chosen["format"] == "html":
        shown = asked.users[:USERS_OF_A_PAGE]
        if len(shown) < len(asked.users):
            getLogger().warning(
                f"format=html shows the first {len(shown)} of {len(asked.users):,} users; --users=FILE chooses others, "
                "another format has all."
            )
        return write_page(chosen["output"], recommender, asked, shown, chosen["history"], chosen["tree_user"])
    done = {"users": 0, "rows": 0, "certified": 0}
    with open_writer(chosen["output"], chosen["format"]) as write, _progress(len(asked.users)) as bar:
        for users, lists in recommender.batches(asked):
            rows = recommender.table(recommender.user_tokens[users.numpy()], lists)
            write(rows)
            done["users"] += len(users)
            done["rows"] += len(rows)
            done["certified"] += int(lists.certified.sum())
            bar.update(len(users))
    return done


def _progress(total: int) -> Any:
    # which redraws itself: for a terminal only, as the bars of runs
    return tqdm(total=total, unit=" users", desc="Recommend", disable=not sys.stderr.isatty())
