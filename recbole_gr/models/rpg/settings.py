"""Settings of RPG."""

from __future__ import annotations

from typing import ClassVar, Literal

from recbole_gr.models.semantic_id_settings import SemanticIDModelSettings
from recbole_gr.settings.field import RunValues, setting


class RPGSettings(SemanticIDModelSettings):
    """The network of RPG, and its two ways to rank."""

    title: ClassVar[str] = "RPG"

    tokenizer: str = setting(
        "opq", "The kind of tokenizer; RPG needs codes in no order, of opq or pq, and reads those of all kinds.", "dataset"
    )
    codebook_num: int = setting(32, "Codes of an item, 4 to 64 in RPG; must divide the vectors' dimension.", "dataset", ge=1)
    collision: Literal["digit", "none", "nearest", "sinkhorn"] = setting(
        "none", "As for all models; RPG lets items share an ID: long ones seldom do.", "dataset"
    )
    epochs: int = setting(
        20,
        "The number of training epochs; enough for ml-100k in minutes, few for more data.",
        "training",
        resumable=True,
        ge=0,
    )
    train_batch_size: int = setting(512, "Samples per step, counted by their targets.", "training", ge=1)
    loss_positions: Literal["last", "all"] = setting(
        "all",
        "last: a sample trains the item that follows its history; all: one pass over a sequence trains each of its items.",
        "training",
    )
    augmentation: Literal["prefix", "window", "none"] = setting(
        "prefix",
        "Training samples with loss_positions: last: prefix (each item with all before it), window (each item with its last item, "
        "its last two, ...), none (one per user, the longest).",
        "training",
    )
    n_layers: int = setting(2, "Layers of the causal stack over the items of the history.", "model", ge=1)
    d_model: int = setting(128, "Width of the network.", "model", ge=1)
    n_heads: int = setting(2, "Attention heads.", "model", ge=1)
    d_kv: int = setting(64, "Width of an attention head.", "model", ge=1)
    d_ff: int = setting(512, "Width of the feed-forward layers.", "model", ge=1)
    feed_forward: Literal["relu", "gated"] = setting("relu", "relu (T5 1.0) or gated (T5 1.1).", "model")
    dropout: float = setting(
        0.3,
        "The probability of an element to be zeroed, of what goes into the stack and of attention weights.",
        "model",
        ge=0,
        lt=1,
    )
    residual_dropout: float = setting(
        0.0, "The same of what each layer adds, within its feed-forward layer and of the states.", "model", ge=0, lt=1
    )
    scaled_attention: bool = setting(
        False,
        "True: logits of attention are divided by the square root of d_kv, as GPT-2's; False: not, as T5's, whose query weights begin "
        "smaller instead. Adam moves unscaled logits further a step, and a wide stack can get stuck.",
        "model",
    )
    temperature: float = setting(
        0.03,
        "Cosines of head and code embeddings are divided by it before the softmax over the codes of a digit.",
        "model",
        gt=0,
    )
    digits_per_step: int | None = setting(
        None,
        "Digits whose losses a training step computes, drawn anew for each step; ~: all. A quarter of them makes a step about a "
        "third as long.",
        "training",
        ge=1,
    )
    ranking: Literal["exact", "graph"] = setting(
        "exact",
        "exact: every item is scored by its log-probability; graph: those that a walk over a graph of similar items meets, for "
        "catalogues of hundreds of thousands; validations are exact.",
        "decoding",
    )
    graph_neighbours: int = setting(
        48, "With ranking: graph, the most similar items that each item is joined to.", "decoding", ge=1
    )
    graph_starts: int | None = setting(
        None,
        "With ranking: graph, IDs whose best ones a walk begins with, besides those of the user's history: half the most frequent in "
        "training, half drawn at random; ~: one in 32, at least 256.",
        "decoding",
        ge=1,
    )
    graph_expand: int = setting(
        8, "With ranking: graph, best items so far whose neighbours are met in a step of the walk.", "decoding", ge=1
    )
    graph_steps: int = setting(8, "With ranking: graph, steps of the walk.", "decoding", ge=1)
    graph_check_users: int = setting(
        1000,
        "With ranking: graph, users of the test whose exact ranking is computed too; the record says how much of it the walk found.",
        "decoding",
        ge=0,
    )

    @classmethod
    def idle(cls, run: RunValues) -> dict[str, str]:
        idle = {
            "decoding": "RPG generates no code after the other; ranking says how it ranks",
            "beam_certify": "an exact ranking is certain, and one by a graph is compared with it (graph_check_users)",
            "certify_budget": "no search goes on for a certificate",
            "valid_beam_size": "RPG validates exactly",
        }
        if run["loss_positions"] == "all":
            idle["augmentation"] = "every position is trained already"
        if run["ranking"] == "exact":
            walk = ("graph_neighbours", "graph_starts", "graph_expand", "graph_steps", "graph_check_users", "beam_size")
            idle.update(dict.fromkeys(walk, "ranking=exact scores every item"))
        return idle
