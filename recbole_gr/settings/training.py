"""Settings of training and decoding that all models have that generate what they recommend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from recbole_gr.settings.field import Fault, RunValues, Settings, setting


class TrainingSettings(Settings):
    """How a generative model is trained; the keys of RecBole among them have defaults of their own here."""

    title: ClassVar[str] = "Training"

    epochs: int = setting(
        8,
        "The number of training epochs; enough for ml-100k in minutes, few for more data.",
        "training",
        resumable=True,
        ge=0,
    )
    epoch_samples: int | None = setting(None, "Samples drawn per epoch, counted by their targets; ~: all.", "training", ge=1)
    train_batch_size: int = setting(256, "Samples per step, counted by their targets.", "training", ge=1)
    train_neg_sample_args: dict[str, Any] | None = setting(
        None, "A generative model needs no negative samples.", "training", allowed="must be a dict"
    )
    learner: str = setting("adamw", "The name of used optimizer.", "training")
    learning_rate: float | None = setting(0.003, "The highest learning rate.", "training", ge=0)
    weight_decay: float = setting(0.01, "Decoupled weight decay.", "training", ge=0)
    schedule: Literal["cosine", "inverse_sqrt", "constant"] = setting(
        "cosine", "After the warm-up: cosine (to 0 at the last epoch), inverse_sqrt or constant.", "training"
    )
    warmup_steps: int = setting(200, "Steps of linear warm-up.", "training", ge=0)
    clip_grad_norm: dict[str, Any] | None = setting(
        {"max_norm": 1.0}, "Gradient clipping.", "training", allowed="must be a dict, {'max_norm': 1.0}"
    )
    stopping_step: int = setting(
        5, "Evaluations without improvement before early stopping.", "training", resumable=True, ge=0
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "auto: bfloat16 on a GPU that has it; float32; bfloat16.", "training"
    )
    MAX_ITEM_LIST_LENGTH: int = setting(20, "Items of the history that are read.", "dataset", ge=1)


class DecodingSettings(Settings):
    """How a generative model finds its ranking."""

    title: ClassVar[str] = "Decoding"

    beam_size: int = setting(50, "Beams per user; at least the largest k.", "decoding", ge=1)
    beam_certify: bool = setting(
        True,
        "In the test, search on for users whose top k is not yet proven equal to scoring every item.",
        "decoding",
    )
    eval_batch_size: int = setting(1024, "Users per evaluation batch.", "runtime", ge=1)
    leaf_order: Literal["popularity", "random"] = setting(
        "popularity",
        "Which of the items that share an ID or title comes first: popularity in the training part, random.",
        "model",
    )

    @classmethod
    def conflicts(cls, run: RunValues) -> Iterator[Fault]:
        topk = [run["topk"]] if isinstance(run["topk"], int) else run["topk"]
        if run["beam_size"] < max(topk):
            yield Fault("beam_size", run["beam_size"], f"must be at least the largest k of topk, {max(topk)}")
        names = [run["metrics"]] if isinstance(run["metrics"], str) else run["metrics"]
        metrics = {metric.lower() for metric in names}
        mode = run["eval_args"].get("mode", "full")
        if "full" in (mode.values() if isinstance(mode, dict) else [mode]) and "gauc" in metrics:
            yield Fault("metrics", "GAUC", "needs a score for every item; use it with eval_args mode uni100 or the like")
