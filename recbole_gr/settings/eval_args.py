"""Faults of ``eval_args``, which RecBole finds after the data is read, or after an epoch, or never."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from recbole_gr.settings.forms import is_number

#: The modes of leave one out.
LEAVE_ONE_OUT_MODES = ("valid_and_test", "valid_only", "test_only")

PARTS = ("split", "group_by", "order", "mode")


def eval_args_faults(eval_args: dict[str, Any]) -> Iterator[str]:
    """What cannot work, in words.

    Args:
        eval_args: the parts that are set; those that are left out have RecBole's or our defaults.
    """
    for part in eval_args.keys() - set(PARTS):
        yield f"has no part {part!r}; it has split, group_by, order and mode"
    if "split" in eval_args:
        yield from _split_faults(eval_args["split"])
    if "order" in eval_args and eval_args["order"] not in ("TO", "RO"):
        yield "order must be TO, by time, or RO, random"
    if "group_by" in eval_args and str(eval_args["group_by"]) not in ("user", "none", "None"):
        yield "group_by must be user or none"
    mode = eval_args.get("mode", "full")
    modes = mode if isinstance(mode, dict) else {"valid": mode, "test": mode}
    if modes.keys() - {"valid", "test"} or not all(map(_is_mode, modes.values())):
        yield "mode must be full, labeled, uniN or popN with a number N of sampled items, or a dict of these by valid and test"


def _split_faults(split: Any) -> Iterator[str]:
    """RecBole takes one way to split, and three numbers where it is by ratio."""
    if not isinstance(split, dict) or len(split) != 1 or not split.keys() <= {"LS", "RS", "TS"}:
        yield "split must hold one of LS, RS and TS, for example {LS: valid_and_test} or {RS: [0.8,0.1,0.1]}"
    elif "LS" in split and split["LS"] not in LEAVE_ONE_OUT_MODES:
        yield f"split by LS must be one of {', '.join(LEAVE_ONE_OUT_MODES)}"
    elif "LS" not in split and (fault := _ratios_fault(*split.values())):
        yield fault


def _ratios_fault(ratios: Any) -> str | None:
    numbers = [ratio for ratio in ratios if is_number(ratio)] if isinstance(ratios, (list, tuple)) else []
    if len(numbers) != 3 or len(ratios) != 3 or numbers[0] <= 0 or min(numbers) < 0:
        return "split by ratio must be a list of three numbers: training, validation and test"
    whole = all(type(number) is int for number in numbers)
    if not whole and abs(sum(numbers) - 1) > 1e-6:  # [8,1,1] can only be meant as RecBole takes it
        return f"the shares of a split must sum to 1, not to {sum(numbers):g}; or be whole numbers, [8,1,1]"
    return None


def _is_mode(mode: Any) -> bool:
    return mode in ("full", "labeled") or (isinstance(mode, str) and re.fullmatch("(uni|pop)[1-9][0-9]*", mode) is not None)


def sampled_candidates(eval_args: dict[str, Any], phase: str) -> int | None:
    """How many items are sampled beside a target, in a phase (``valid`` or ``test``); None if all items are ranked."""
    mode = eval_args.get("mode", "full")
    mode = mode.get(phase, "full") if isinstance(mode, dict) else mode
    number = re.fullmatch("(?:uni|pop)([0-9]+)", str(mode))
    return int(number[1]) if number else None
