"""The options of ``recbole-gr recommend``, and what can be said of them before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from recbole_gr.settings.check import raise_faults
from recbole_gr.settings.field import Fault, Settings, field_faults, setting

#: Formats, and how their files end.
FORMATS = {"parquet": ".parquet", "csv": ".csv", "jsonl": ".jsonl", "html": ".html"}

#: Users that a page shows; a file of another format has them all.
USERS_OF_A_PAGE = 200


class RecommendOptions(Settings):
    """Who is recommended what, and where it goes."""

    title: ClassVar[str] = "recommend"

    k: int = setting(20, "items per user (20)", "runtime", ge=1)
    users: str = setting("all", "all, or a file with a user token a line (all)", "runtime", path=True)
    history: Literal["all", "train", "valid"] = setting(
        "all",
        "what is known of a user: all; train; valid, as the test has it, training and validation part (all)",
        "runtime",
    )
    exclude_seen: bool = setting(True, "False: also recommend what is in that history (True)", "runtime")
    candidates: str | None = setting(None, "a file with an item token a line: recommend these only", "runtime", path=True)
    format: Literal["parquet", "csv", "jsonl", "html"] | None = setting(
        None, f"html: a page of at most {USERS_OF_A_PAGE} users (by the ending of --output, else parquet)", "runtime"
    )
    output: str | None = setting(
        None,
        "the file, replaced if it is there (results/recommendations/CHECKPOINT.FORMAT)",
        "runtime",
        path=True,
    )
    tree_user: str | None = setting(None, "html: the user whose beams are drawn (the first)", "runtime")


def check_recommend_options(checkpoint: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Check options by key and complete them.

    Args:
        checkpoint: the file that is to be loaded.
        options: those that were set.

    Returns:
        All options, ``format`` and ``output`` decided.

    Raises:
        SettingError, SettingErrors: a line for each that cannot work.
    """
    faults = [*_checkpoint_faults(checkpoint), *field_faults(RecommendOptions, options)]
    chosen = {**RecommendOptions.defaults(), **options}
    for key, free in (("users", "all"), ("candidates", None)):
        if isinstance(chosen[key], str) and chosen[key] != free and not os.path.isfile(chosen[key]):
            hint = "no such file; it must be all or a file" if free else "no such file"
            faults.append(Fault(key, chosen[key], f"{hint} with a token a line"))
    raise_faults(faults)
    ending = os.path.splitext(chosen["output"] or "")[1]
    if chosen["format"] is None:
        by_ending = {ending: name for name, ending in FORMATS.items()}
        chosen["format"] = by_ending.get(ending.lower(), "parquet")
    if chosen["output"] is None:
        name = os.path.splitext(os.path.basename(str(checkpoint)))[0] + FORMATS[chosen["format"]]
        chosen["output"] = os.path.join("results", "recommendations", name)
    if os.path.isdir(chosen["output"]):
        raise_faults([Fault("output", chosen["output"], "is a folder; must be a file")])
    if chosen["tree_user"] is not None and chosen["format"] != "html":
        raise_faults([Fault("tree_user", chosen["tree_user"], f"has no use with format={chosen['format']}, only with html")])
    return chosen


def _checkpoint_faults(checkpoint: str | None) -> list[Fault]:
    if not checkpoint:
        return [Fault("checkpoint", checkpoint, "must be a file that a run saved: recbole-gr recommend saved/TIGER-....pth")]
    if not os.path.isfile(checkpoint):
        return [Fault("checkpoint", checkpoint, "no such file")]
    with open(checkpoint, "rb") as file:
        if file.read(4) != b"PK\x03\x04":  # what torch.save writes is a zip file
            return [Fault("checkpoint", checkpoint, "is not a checkpoint of RecBole (not a file of torch.save)")]
    return []
