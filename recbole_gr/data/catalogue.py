"""The size of the catalogue against what is asked of it."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from logging import getLogger
from typing import Any

from recbole.utils import EvaluatorType

from recbole_gr.settings.eval_args import sampled_candidates
from recbole_gr.settings.protocol import LIST_METRICS
from recbole_gr.utils.errors import SettingError

_early: ContextVar[bool] = ContextVar("topk_checked_early", default=False)


@contextlib.contextmanager
def topk_checked_early() -> Iterator[None]:
    """Within, data is read to be ranked: ``topk`` is checked as soon as items are counted, before their semantic IDs are made."""
    token = _early.set(True)
    try:
        yield
    finally:
        _early.reset(token)


def is_checked_early() -> bool:
    """Whether this is within :func:`topk_checked_early`."""
    return _early.get()


def check_topk(dataset: Any) -> None:
    """Check once that the rankings are as long as ``topk`` asks.

    Where N items are sampled beside the target (``eval_args`` mode uniN, popN), rankings of N + 1 items are all there is: what
    is beyond makes every hit sure, which is said, and lists of k items do not exist, which is an error.

    Args:
        dataset: a RecBole ``Dataset`` whose items have their numbers.

    Raises:
        SettingError: k is larger than the number of items.
    """
    config = dataset.config
    if config["eval_type"] != EvaluatorType.RANKING or getattr(dataset, "topk_is_checked", False):
        return
    dataset.topk_is_checked = True  # its parts are copies, which have it too
    k, items = max(config["topk"]), dataset.item_num - 1
    if k > items:
        raise SettingError("topk", config["topk"], f"must be at most {items}, the number of items of {config['dataset']}")
    sampled = [number for phase in ("valid", "test") if (number := sampled_candidates(config["eval_args"], phase))]
    if sampled and k > min(sampled) + 1:
        lists = sorted({metric.lower() for metric in config["metrics"]} & LIST_METRICS)
        if lists:
            line = f"must be at most {min(sampled) + 1}, of which mode={config['eval_args']['mode']} makes lists, for {', '.join(lists)}"
            raise SettingError("topk", config["topk"], line)
        getLogger().warning(
            f"topk={config['topk']}: mode={config['eval_args']['mode']} ranks {min(sampled) + 1} items, so that every target is "
            f"among the first {k}."
        )
