"""Settings of IDGenRec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator

from recbole_gr.language_model.t5 import check_t5
from recbole_gr.settings.field import Fault, RunValues, setting
from recbole_gr.settings.recbole_keys import on_several_processes
from recbole_gr.settings.training import DecodingSettings, TrainingSettings
from recbole_gr.utils.errors import SettingError

KEYPHRASES, SCRATCH = "keyphrases", "scratch"
#: Of the network from scratch; a T5 brings its own.
OF_SCRATCH = ("n_layers", "d_model", "n_heads", "d_kv", "d_ff", "feed_forward")
OF_KEYPHRASES = ("id_words", "id_phrase_words", "id_min_items")
OF_T5_GENERATOR = ("text_max_tokens", "id_groups", "id_diversity", "id_attempts", "cache_dir")


def _prompt(value: str) -> str:
    if value.count("{history}") != 1:
        raise ValueError("must have {history} in it once")
    return value


class IDGenRecSettings(TrainingSettings, DecodingSettings):
    """The textual IDs, the recommender, and how they are trained in turns."""

    title: ClassVar[str] = "IDGenRec"

    id_generator: str = setting(
        KEYPHRASES,
        "keyphrases: of the items' texts, by tf-idf, nothing to train; or a local folder or hub name of a T5 that writes IDs.",
        "dataset",
        path=True,
    )
    recommender: str = setting(
        SCRATCH,
        "scratch: an encoder-decoder of random weights; or a local folder or hub name of a T5.",
        "model",
        path=True,
    )
    text_template: str | None = setting(
        None, 'Columns that IDs are made from, in braces, e.g. "{title}, {brand}"; ~: all text columns.', "dataset"
    )
    text_max_tokens: int = setting(128, "With a T5 as id_generator: longer texts are truncated.", "dataset", ge=1)
    id_words: int = setting(3, "Words of keyphrases that an ID begins with; more make it unique.", "dataset", ge=1)
    id_phrase_words: int = setting(2, "Words of the longest keyphrase.", "dataset", ge=1)
    id_min_items: int = setting(
        5, "Items that must have a keyphrase for an ID to begin with it; rarer ones only make IDs unique.", "dataset", ge=1
    )
    id_max_tokens: int = setting(10, "With a T5: tokens of an ID at most, its number and end not counted.", "dataset", ge=1)
    id_groups: int = setting(4, "Diverse beams of each item, of which the first free one is its ID.", "dataset", ge=1)
    id_diversity: float = setting(
        1.0, "Taken off a token's log-probability for every beam before that took it at this step.", "dataset", ge=0
    )
    id_attempts: int = setting(
        3, "Attempts, each with twice the beams and the diversity, before a number makes an ID unique.", "dataset", ge=1
    )
    cache_dir: str | None = setting("saved/cache", "Where the IDs of a T5 are kept between runs.", "runtime", path=True)

    rounds: int = setting(
        1,
        "Turns of training: in each but the last the recommender is trained with the IDs as they are, then the ID generator with "
        "the recommender frozen, and all IDs are generated anew; in the last one only the recommender.",
        "training",
        ge=1,
    )
    generator_epochs: int = setting(1, "Epochs of a round that train the ID generator.", "training", ge=1)
    generator_learning_rate: float = setting(1e-5, "The highest learning rate of the ID generator.", "training", ge=0)

    epochs: int = setting(
        20,
        "The number of training epochs, those of the ID generator among them; enough for ml-100k in minutes.",
        "training",
        resumable=True,
        ge=0,
    )
    train_batch_size: int = setting(1024, "Samples per step, counted by their targets.", "training", ge=1)
    train_precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto",
        "Of the matrix products of training; auto: bfloat16 on a GPU or CPU that has them in hardware. Ranking has precision.",
        "training",
    )
    loss_positions: Literal["last", "all"] = setting(
        "all",
        "last: a sample trains the item that follows its history; all: one pass over a sequence, whose positions then see only those "
        "before them, trains each of its items.",
        "training",
    )
    history_position: Literal["item", "word"] = setting(
        "item", "Positions of the history: one per item (the sum of its words), or one per word.", "model"
    )
    prompt_template: Annotated[str, AfterValidator(_prompt)] = setting(
        "What would the user purchase after {history}?",
        "With a T5 as recommender: the prompt; the IDs of the history stand in it once.",
        "dataset",
    )
    history_separator: str = setting(", ", "With a T5 as recommender: between two IDs of the history.", "dataset")
    n_layers: int = setting(1, "Layers of the encoder, and of the decoder.", "model", ge=1)
    d_model: int = setting(64, "Width of the network.", "model", ge=1)
    n_heads: int = setting(3, "Attention heads.", "model", ge=1)
    d_kv: int = setting(64, "Width of a head.", "model", ge=1)
    d_ff: int = setting(512, "Width of the feed-forward layer.", "model", ge=1)
    feed_forward: Literal["relu", "gated"] = setting("relu", "relu (T5 1.0) or gated (T5 1.1).", "model")
    dropout: float = setting(0.1, "The probability of an element to be zeroed.", "model", ge=0, lt=1)

    @classmethod
    def conflicts(cls, run: RunValues) -> Iterator[Fault]:
        yield from _turn_faults(run)
        if run["loss_positions"] == "all":
            for key in ("benchmark_filename", "transform"):
                if run[key] is not None:
                    words = f"must be last with {key}={run[key]!r}, which is about single samples"
                    yield Fault("loss_positions", "all", words)
            if run["history_position"] == "word" and run["recommender"] == SCRATCH:
                yield Fault("history_position", "word", "needs loss_positions=last; all has one position per item")
        if run["recommender"] != SCRATCH:
            beside = f"with recommender={run['recommender']}, which reads text and sees all of it"
            for key, needed in (("loss_positions", "last"), ("history_position", "word")):
                if run[key] != needed:
                    yield Fault(key, run[key], f"must be {needed} {beside}")
        for key, embedded in (("id_generator", KEYPHRASES), ("recommender", SCRATCH)):
            if run[key] != embedded:
                try:
                    check_t5(key, run[key], embedded)
                except SettingError as error:
                    yield Fault(error.key, error.value, error.allowed)

    @classmethod
    def idle(cls, run: RunValues) -> dict[str, str]:
        embedded, scratch = run["id_generator"] == KEYPHRASES, run["recommender"] == SCRATCH
        unused = OF_T5_GENERATOR if embedded else OF_KEYPHRASES
        reasons = dict.fromkeys(unused, f"id_generator={run['id_generator']} has no such setting")
        if embedded and scratch:
            reasons["id_max_tokens"] = "IDs of keyphrases are as long as id_words and uniqueness make them"
        if not scratch:
            reasons.update(dict.fromkeys(OF_SCRATCH, f"recommender={run['recommender']} has its own sizes"))
        else:
            words = "recommender=scratch reads IDs alone"
            reasons.update(dict.fromkeys(("prompt_template", "history_separator"), words))
        if embedded:
            words = "id_generator=keyphrases has nothing to train"
            reasons.update(dict.fromkeys(("generator_epochs", "generator_learning_rate"), words))
        elif run["rounds"] == 1:
            words = "with rounds=1 the ID generator stays as it is"
            reasons.update(dict.fromkeys(("generator_epochs", "generator_learning_rate"), words))
        reasons["leaf_order"] = "no two items share a textual ID"
        return reasons


def _turn_faults(run: RunValues) -> Iterator[Fault]:
    rounds = run["rounds"]
    if rounds == 1:
        return
    if run["id_generator"] == KEYPHRASES:
        yield Fault("rounds", rounds, "must be 1 with id_generator=keyphrases, which has nothing to train")
        return
    least = (rounds - 1) * run["generator_epochs"] + rounds
    if run["epochs"] < least:
        yield Fault(
            "epochs", run["epochs"], f"must be at least {least} for rounds={rounds}, each with an epoch of the recommender"
        )
    if on_several_processes(run):
        yield Fault("rounds", rounds, "training in turns runs in one process only (nproc=1)")
