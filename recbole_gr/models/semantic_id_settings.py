"""Settings that every model has that generates semantic IDs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from recbole_gr.data.settings import SemanticIDSettings
from recbole_gr.models.history_settings import HistoryModelSettings
from recbole_gr.settings.field import Fault, RunValues, setting
from recbole_gr.settings.protocol import LIST_METRICS
from recbole_gr.settings.training import DecodingSettings


class SemanticIDModelSettings(SemanticIDSettings, HistoryModelSettings, DecodingSettings):
    """How a network over semantic IDs is run; a model adds the settings of its own network."""

    title: ClassVar[str] = "Models of semantic IDs"

    decoding: Literal["constrained", "free"] = setting(
        "constrained", "constrained: only IDs of items can be generated; free: any codes.", "decoding"
    )

    @classmethod
    def conflicts(cls, run: RunValues) -> Iterator[Fault]:
        if run["decoding"] != "free":
            return
        if run["beam_certify"]:
            yield Fault("beam_certify", True, "needs decoding=constrained; the free-form search space has no end")
        names = [run["metrics"]] if isinstance(run["metrics"], str) else run["metrics"]
        listed = {metric.lower() for metric in names} & LIST_METRICS
        if listed:
            lists = ", ".join(sorted(listed))
            yield Fault("metrics", lists, "needs k items for every user, which decoding=free cannot promise")
