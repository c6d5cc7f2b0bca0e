"""The size of the catalogue against what is asked of it."""

from logging import getLogger
from typing import Any

from recbole.utils import EvaluatorType

from recbole_gr.settings.eval_args import sampled_candidates
from recbole_gr.settings.protocol import LIST_METRICS
from recbole_gr.utils.errors import SettingError


def check_topk(dataset: Any) -> None:
    """Check that the rankings are as long as ``topk`` asks, as soon as the items are counted.

    Where N items are sampled beside the target (``eval_args`` mode uniN, popN), rankings of N + 1 items are all there is: what
    is beyond makes every hit sure, which is said, and lists of k items do not exist, which is an error.

    Args:
        dataset: a RecBole ``Dataset`` whose items have their numbers.

    Raises:
        SettingError: k is larger than the number of items.
    """
    config = dataset.config
    if config["eval_type"] != EvaluatorType.RANKING:
        return
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
