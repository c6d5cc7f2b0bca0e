"""What the parts of a split hold, and whom they have no target of."""

from collections.abc import Sequence
from logging import getLogger
from typing import Any


def log_parts(built_datasets: Sequence[Any]) -> None:
    """Log the targets of each part, and the users who have none for validation or test.

    Args:
        built_datasets: training, validation and test parts.
    """
    users = built_datasets[0].user_num - 1
    words = ("training", "validation", "test")
    counts = ", ".join(f"{len(part.inter_feat):,} for {word}" for part, word in zip(built_datasets, words))
    line = f"Targets of {users:,} users: {counts}."
    for part, word in zip(built_datasets[1:], words[1:]):
        with_target = len(part.inter_feat[part.uid_field].unique()) if len(part.inter_feat) else 0
        if with_target < users:
            line += f" {users - with_target:,} users have none for {word}."
    getLogger().info(line)
