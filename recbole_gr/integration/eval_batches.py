"""How many users an evaluation ranks at a time where every item is scored: as many as memory holds the scores of."""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import Any

from recbole_gr.utils.memory import available_memory

#: Bytes for each score of a batch: itself, what a model makes on the way, and RecBole's matrix of what is a target.
BYTES_PER_SCORE = 16
#: The same where a metric ranks every item, as GAUC does by a sort.
BYTES_PER_RANK = 64
#: The share of the memory that is available which a batch may take where ``eval_memory`` is not set, and bytes at most.
SHARE = 0.25
MOST_MEMORY, MOST_MEMORY_OF_A_GPU = 2 * 10**9, 16 * 10**9


def most_users(config: Any, n_items: int) -> int:
    """How many users' scores of all items may be alive at a time, at least 1.

    Args:
        config: of the run; ``eval_memory`` is in megabytes.
        n_items: number of items, padding included.
    """
    memory = config["eval_memory"]
    device = config["device"]
    most = MOST_MEMORY if device.type == "cpu" else MOST_MEMORY_OF_A_GPU
    allowed = min(SHARE * available_memory(device), most) if memory is None else memory * 1e6
    return max(1, int(allowed // ((BYTES_PER_RANK if _ranks_all(config) else BYTES_PER_SCORE) * n_items)))


def with_users_that_fit(original: Callable) -> Callable:
    """RecBole makes the scores of all items for as many users as ``eval_batch_size`` says, whatever the memory."""

    def init_batch_size_and_step(self: Any) -> None:
        original(self)
        config, n_items = self.config, self._dataset.item_num
        if "eval_memory" not in config or not _scores_every_item(self):
            return
        users = most_users(config, n_items)
        if users < min(self.step, self.sample_size):
            getLogger().info(
                f"eval_batch_size={config['eval_batch_size']}: {users:,} users at a time, whose scores of {n_items - 1:,} items fit "
                "into memory (eval_memory)"
            )
            self.step = users

    return init_batch_size_and_step


def _scores_every_item(loader: Any) -> bool:
    """Whether an evaluation of the loader makes a matrix of users and items; lists of what was found are smaller."""
    samples = getattr(loader, "neg_sample_args", None)
    if samples is not None:
        return "none" not in (samples["distribution"], samples["sample_num"])
    gives_lists = getattr(loader.config.model_class, "gives_lists", None)  # which RecBole's models do not know
    return gives_lists is None or not gives_lists(_ranks_all(loader.config))


def _ranks_all(config: Any) -> bool:
    return "gauc" in {metric.lower() for metric in config["metrics"]}
