"""Settings of TIGER."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from recbole_gr.models.semantic_id_settings import SemanticIDModelSettings
from recbole_gr.settings.field import Fault, RunValues, setting


@dataclass(frozen=True)
class ModelSize:
    """Numbers of a T5 encoder-decoder: layers on each side, widths, heads."""

    n_layers: int
    d_model: int
    n_heads: int
    d_ff: int
    d_kv: int = 64


#: Sizes by name, from the table of arXiv 2509.25522.
MODEL_SIZES = {
    "336K": ModelSize(1, 64, 3, 512),
    "778K": ModelSize(2, 64, 3, 512),
    "1.9M": ModelSize(5, 64, 3, 512),
    "3.3M": ModelSize(9, 64, 3, 512),
    "6.7M": ModelSize(3, 128, 6, 1024),
    "13M": ModelSize(4, 128, 6, 1024),
    "21M": ModelSize(7, 128, 6, 1024),
    "43M": ModelSize(8, 192, 9, 1536),
    "88M": ModelSize(9, 320, 15, 2560),
    "192M": ModelSize(20, 384, 18, 3072),
}

#: Architectures that read and generate in one stack, and how their histories attend.
ONE_STACK = {"decoder_only": "causal", "prefix_lm": "bidirectional"}


class NetworkSettings(SemanticIDModelSettings):
    """The networks of TIGER, for every model that has one of them."""

    title: ClassVar[str] = "Network"

    epochs: int = setting(
        30,
        "The number of training epochs; enough for ml-100k in minutes, few for more data.",
        "training",
        resumable=True,
        ge=0,
    )
    train_batch_size: int = setting(1024, "Samples per step, counted by their targets.", "training", ge=1)
    model_size: Literal["336K", "778K", "1.9M", "3.3M", "6.7M", "13M", "21M", "43M", "88M", "192M"] = setting(
        "336K", "Named size of arXiv 2509.25522.", "model"
    )
    architecture: Literal["encoder_decoder", "decoder_only", "prefix_lm", "temporal_depth"] = setting(
        "encoder_decoder",
        "encoder_decoder: the paper's; decoder_only: one causal stack over all codes; prefix_lm: one stack, bidirectional in the "
        "history; temporal_depth: a stack over items, and a small one over the codes of the next item.",
        "model",
    )
    history_attention: Literal["auto", "causal", "bidirectional"] = setting(
        "auto",
        "Whether a position of the history sees those before it only; auto: as the architecture needs, "
        "else bidirectional with loss_positions: last and causal with all.",
        "model",
    )
    loss_positions: Literal["last", "all"] = setting(
        "all",
        "last: a sample trains the item that follows its history; all: one pass over a sequence trains each of its items.",
        "training",
    )
    depth_layers: int = setting(1, "Layers of the depth stack of architecture: temporal_depth.", "model", ge=1)
    depth_dropout: float = setting(0.0, "Dropout within the depth stack, beside that of its input.", "model", ge=0, lt=1)
    code_temperature: float = setting(
        1.0,
        "In training, logits of codes are divided by it: below 1, the loss is about the codes that are hard to tell from the right "
        "one (LETTER's ranking-guided generation loss); ranking has the logits as they are.",
        "training",
        gt=0,
    )
    label_smoothing: float = setting(
        0.0, "Share of the probability that is spread over all codes of a level.", "training", ge=0, lt=1
    )
    inject: Literal["none", "text", "cf", "text_cf"] = setting(
        "none",
        "Un-quantised vectors, each through a small MLP, that are added to the items' positions: of text, CF vectors, both.",
        "dataset",
    )
    item_embedding: bool = setting(
        False,
        "Add an embedding of its own to each item's position; the model then is not one of semantic IDs alone.",
        "model",
    )
    item_embedding_dropout: float = setting(
        0.3, "With item_embedding, the probability of an item's embedding to be dropped as a whole.", "training", ge=0, lt=1
    )
    n_layers: int | None = setting(
        None,
        "Overrides the size's layers, the same number in encoder and decoder, or those of the one stack.",
        "model",
        ge=1,
    )
    d_model: int | None = setting(None, "Overrides the size's width.", "model", ge=1)
    n_heads: int | None = setting(None, "Overrides the size's attention heads.", "model", ge=1)
    d_kv: int | None = setting(None, "Overrides the size's width of a head.", "model", ge=1)
    d_ff: int | None = setting(None, "Overrides the size's width of the feed-forward layer.", "model", ge=1)
    feed_forward: Literal["relu", "gated"] = setting("relu", "relu (T5 1.0) or gated (T5 1.1).", "model")
    dropout: float = setting(0.1, "The probability of an element to be zeroed.", "model", ge=0, lt=1)
    scaled_attention: bool = setting(
        False,
        "True: logits of attention are divided by the square root of d_kv, as GPT-2's; False: not, as T5's, whose query weights begin "
        "smaller instead. Adam moves unscaled logits further a step.",
        "model",
    )
    history_position: Literal["auto", "code", "item"] = setting(
        "auto",
        "Positions of the history: one per item (the sum of its codes), or one per code; auto: item, but code with architecture: "
        "decoder_only and prefix_lm.",
        "model",
    )
    separator: bool = setting(False, "A learned token after each item of the history; with history_position: code.", "model")
    user_buckets: int = setting(0, "Hashed user tokens; 0: none.", "model", ge=0)
    augmentation: Literal["prefix", "window", "none"] = setting(
        "prefix",
        "Training samples: prefix (each item with all before it), window (each item with its last item, its last two, ...: all "
        "contiguous sub-sequences), none (one per user, the longest).",
        "training",
    )

    @classmethod
    def conflicts(cls, run: RunValues) -> Iterator[Fault]:
        yield from _conflicts_of_one_stack(run)
        if run["separator"] and history_position(run) == "item":
            yield Fault("separator", True, "needs history_position=code; with one position per item nothing is to part")
        if run["benchmark_filename"] is not None and run["loss_positions"] != "all" and run["augmentation"] != "prefix":
            yield Fault(
                "augmentation", run["augmentation"], "must be prefix; the samples of benchmark_filename are used as they are"
            )
        if run["architecture"] == "temporal_depth" and run["history_position"] == "code":
            yield Fault("history_position", "code", "architecture=temporal_depth has one position per item")
        encoded_apart = run["architecture"] not in ONE_STACK
        if encoded_apart and run["loss_positions"] == "all" and run["history_attention"] == "bidirectional":
            yield Fault(
                "loss_positions", "all", "needs history_attention=causal; others would see what they are to generate"
            )

    @classmethod
    def idle(cls, run: RunValues) -> dict[str, str]:
        idle = {}
        if run["architecture"] != "temporal_depth":
            reason = "architecture=temporal_depth alone has a depth stack"
            idle.update(dict.fromkeys(("depth_layers", "depth_dropout"), reason))
        if not run["item_embedding"]:
            idle["item_embedding_dropout"] = "item_embedding=False"
        if run["loss_positions"] == "all":
            idle["augmentation"] = "every position is trained already"
        return idle


class TIGERSettings(NetworkSettings):
    """The network of TIGER, and a softmax over the items beside it."""

    title: ClassVar[str] = "TIGER"

    dense_weight: float = setting(
        0.0, "Weight of a second loss, the cross-entropy of a softmax over all items; 0: there is none.", "training", ge=0
    )
    rerank_weight: float = setting(
        0.0,
        "Add this times the log-probability of that softmax to the scores of the beams; the certificate is about the beams before.",
        "decoding",
        ge=0,
    )

    @classmethod
    def conflicts(cls, run: RunValues) -> Iterator[Fault]:
        if run["rerank_weight"] and not run["dense_weight"]:
            yield Fault("rerank_weight", run["rerank_weight"], "needs a dense_weight above 0, whose softmax it asks")


def _conflicts_of_one_stack(run: RunValues) -> Iterator[Fault]:
    """What the architectures of :data:`ONE_STACK` cannot be combined with."""
    architecture = run["architecture"]
    if architecture not in ONE_STACK:
        return
    beside = f"with architecture={architecture}"
    if run["separator"]:
        yield Fault("separator", True, f"must be False {beside}, which has a begin token between items already")
    if run["history_position"] == "item":
        yield Fault("history_position", "item", f"must be auto or code {beside}, which reads what it generates: codes")
    allowed = ONE_STACK[architecture]
    if run["history_attention"] not in ("auto", allowed):
        other = next(name for name, attention in ONE_STACK.items() if attention != allowed)
        words = f"must be auto or {allowed} {beside}; architecture={other} has the other"
        yield Fault("history_attention", run["history_attention"], words)
    if architecture == "prefix_lm" and run["loss_positions"] == "all":
        words = "needs loss_positions=last; its history sees all of itself, which it would have to generate"
        yield Fault("architecture", architecture, words)


def history_position(config: Any) -> str:
    """Whether a history has a position per ``item`` or per ``code``."""
    if config["history_position"] == "auto":
        return "code" if config["architecture"] in ONE_STACK else "item"
    return config["history_position"]


def history_is_causal(config: Any) -> bool:
    """Whether a position of the history sees only those before it.

    Checkpoints from before there was a choice have neither value; their histories are bidirectional.
    """
    if config["architecture"] in ONE_STACK:
        return ONE_STACK[config["architecture"]] == "causal"
    if config["history_attention"] == "auto":
        return config["loss_positions"] == "all"
    return config["history_attention"] == "causal"


def model_size(config: Any) -> ModelSize:
    """The named ``model_size`` with the numbers that are set by themselves."""
    numbers = {name: config[name] for name in ModelSize.__dataclass_fields__ if config[name] is not None}
    named = MODEL_SIZES[config["model_size"]]
    return ModelSize(**{**vars(named), **numbers})
