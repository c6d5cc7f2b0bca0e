"""Settings of LIGER: those of TIGER's networks, and of the dense score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from recbole_gr.models.tiger.settings import NetworkSettings
from recbole_gr.settings.field import Fault, RunValues, setting


class LIGERSettings(NetworkSettings):
    """The network of LIGER and how it ranks."""

    title: ClassVar[str] = "LIGER"

    inject: Literal["text", "text_cf"] = setting(
        "text",
        "Un-quantised vectors, each through a small MLP, that are added to the items' positions: of text, or text and CF vectors.",
        "dataset",
    )
    liger_candidates: int = setting(
        50,
        "So many items of most probable codes, and all cold items, are ranked by the dense score; at most beam_size, and as many as "
        "valid_beam_size finds in validations.",
        "decoding",
        ge=1,
    )
    liger_temperature: float = setting(
        0.07,
        "The cosines between state and text vectors are divided by it before the softmax over the items.",
        "model",
        gt=0,
    )
    liger_weight: float = setting(1.0, "Weight of the dense loss beside that of the codes.", "training", gt=0)

    @classmethod
    def conflicts(cls, run: RunValues) -> Iterator[Fault]:
        candidates, topk = run["liger_candidates"], run["topk"]
        longest = max([topk] if isinstance(topk, int) else topk)
        if candidates < longest:
            yield Fault("liger_candidates", candidates, f"must be at least the largest k of topk, {longest}")
        if candidates > run["beam_size"]:
            yield Fault("liger_candidates", candidates, f"must be at most beam_size, {run['beam_size']}, which finds them")
