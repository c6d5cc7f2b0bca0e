"""What the parts of a split hold, and whom they have no target of."""

from collections.abc import Sequence
from logging import getLogger
from typing import Any

from recbole_gr.utils.errors import DataError


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


def check_parts(built_datasets: Sequence[Any]) -> None:
    """Training needs interactions, and what the split shall hold for validation and test must be there.

    Args:
        built_datasets: training, validation and test parts.

    Raises:
        DataError: a part is empty.
    """
    config = built_datasets[0].config
    split = config["eval_args"]["split"]
    ready = any(config[key] is not None for key in ("benchmark_filename", "split_files", "split_column"))
    asked = {"training", *(() if ready else _parts_of(split))}
    for part, word in zip(built_datasets, ("training", "validation", "test")):
        if word in asked and not len(part.inter_feat):
            least = {"validation": 3, "test": 2}.get(word, 2)
            raise DataError(
                f"no interaction of {config['dataset']} is left for {word}: eval_args split {split} takes it from users with at least "
                f"{least} interactions"
                if "LS" in split
                else f"no interaction of {config['dataset']} is left for {word} (eval_args split {split})"
            )


def _parts_of(split: dict[str, Any]) -> list[str]:
    """The parts beside training that a split shall make."""
    if "LS" in split:
        words = {"validation": ("valid_and_test", "valid_only"), "test": ("valid_and_test", "test_only")}
        return [word for word, modes in words.items() if split["LS"] in modes]
    shares = next(iter(split.values()))
    return [word for word, share in zip(("validation", "test"), shares[1:]) if share]
