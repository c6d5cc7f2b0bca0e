"""Settings of training that all our networks have, and of decoding, for those that generate what they recommend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from recbole_gr.settings.field import Fault, RunValues, Settings, setting


class TrainingSettings(Settings):
    """How a model of ours is trained; the keys of RecBole among them have defaults of their own here."""

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
        None, "No negative samples of RecBole are needed.", "training", allowed="must be a dict"
    )
    learner: str = setting("adamw", "The name of used optimizer.", "training")
    learning_rate: float | None = setting(0.003, "The highest learning rate.", "training", ge=0)
    weight_decay: float = setting(
        0.01,
        "Weight decay of matrices and embeddings (decoupled with adamw); norms, biases and tables of relative position biases "
        "have none.",
        "training",
        ge=0,
    )
    schedule: Literal["cosine", "inverse_sqrt", "constant"] = setting(
        "cosine",
        "After the warm-up: cosine (down to final_learning_rate at the last step of the last epoch), inverse_sqrt or constant. "
        "A resumed run with other epochs goes on along the curve of the new number.",
        "training",
    )
    final_learning_rate: float = setting(
        0.0, "The share of learning_rate that schedule: cosine ends at.", "training", ge=0, le=1
    )
    warmup_steps: int = setting(200, "Steps of linear warm-up.", "training", ge=0)
    weight_ema_decay: float = setting(
        0.0,
        "Above 0, e.g. 0.999: an exponential moving average of the weights is validated, tested and saved, while the weights "
        "themselves are trained on; at step t the decay is at most (1 + t) / (10 + t), so that short trainings gain too. 0: off.",
        "training",
        ge=0,
        lt=1,
    )
    clip_grad_norm: dict[str, Any] | None = setting(
        {"max_norm": 1.0}, "Gradient clipping.", "training", allowed="must be a dict, {'max_norm': 1.0}"
    )
    stopping_step: int = setting(
        5, "Evaluations without improvement before early stopping.", "training", resumable=True, ge=0
    )
    valid_users: int | None = setting(
        None,
        "Early stopping looks at so many users, a fixed random sample by seed; the validation result of the best epoch is then "
        "measured on all at the end. ~: all users in every validation.",
        "training",
        ge=1,
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "auto: bfloat16 on a GPU that has it; float32; bfloat16.", "training"
    )
    MAX_ITEM_LIST_LENGTH: int = setting(20, "Items of the history that are read.", "dataset", ge=1)

    @classmethod
    def idle(cls, run: RunValues) -> dict[str, str]:
        reasons = {}
        if run["schedule"] != "cosine":
            reasons["final_learning_rate"] = f"schedule={run['schedule']} ends where it ends"
        if _validates_nothing(run):
            reasons["valid_users"] = f"eval_step={run['eval_step']} validates nothing"
        return reasons


class DecodingSettings(Settings):
    """How a generative model finds its ranking."""

    title: ClassVar[str] = "Decoding"

    beam_size: int = setting(50, "Beams per user; at least the largest k.", "decoding", ge=1)
    valid_beam_size: int | None = setting(
        None, "Beams per user in validations; at least the largest k; ~: beam_size.", "training", ge=1
    )
    beam_certify: bool = setting(
        True,
        "In the test, search on for users whose top k is not yet proven equal to scoring every item.",
        "decoding",
    )
    certify_budget: float | None = setting(
        10.0,
        "What these further searches may cost, as a share of what the first searches cost, counted in beams that go on and so the same "
        "on every machine; users that are left keep what was found and are not certified. 0: none, ~: no bound.",
        "decoding",
        ge=0,
    )
    eval_batch_size: int = setting(1024, "Users per evaluation batch.", "runtime", ge=1)
    leaf_order: Literal["popularity", "random"] = setting(
        "popularity",
        "Which of the items that share an ID or title comes first: popularity in the training part, random.",
        "model",
    )

    @classmethod
    def conflicts(cls, run: RunValues) -> Iterator[Fault]:
        yield from _too_few_beams("beam_size", run)
        if run["valid_beam_size"] is not None:
            yield from _too_few_beams("valid_beam_size", run)
        names = [run["metrics"]] if isinstance(run["metrics"], str) else run["metrics"]
        metrics = {metric.lower() for metric in names}
        if "full" in _modes(run, "valid", "test") and "gauc" in metrics:
            yield Fault("metrics", "GAUC", "needs a score for every item; use it with eval_args mode uni100 or the like")

    @classmethod
    def idle(cls, run: RunValues) -> dict[str, str]:
        idle = {}
        if _validates_nothing(run):
            idle["valid_beam_size"] = f"eval_step={run['eval_step']} validates nothing"
        elif _modes(run, "valid") != {"full"}:
            idle["valid_beam_size"] = "the sampled items of a validation are scored without beams"
        if not run["beam_certify"]:
            idle["certify_budget"] = "beam_certify=False searches no further"
        return idle


def _validates_nothing(run: RunValues) -> bool:
    return type(run["eval_step"]) is int and run["eval_step"] < 1


def _too_few_beams(key: str, run: RunValues) -> Iterator[Fault]:
    topk = [run["topk"]] if isinstance(run["topk"], int) else run["topk"]
    if run[key] < max(topk):
        yield Fault(key, run[key], f"must be at least the largest k of topk, {max(topk)}")


def _modes(run: RunValues, *phases: str) -> set[str]:
    """How items are ranked in some phases of the evaluation: ``full``, ``uni100``, ..."""
    mode = run["eval_args"].get("mode", "full")
    return {mode.get(phase, "full") for phase in phases} if isinstance(mode, dict) else {mode}
