"""Settings of item vectors and semantic IDs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator

from recbole_gr.data.cf_models import SVD, cf_model_faults
from recbole_gr.settings.field import Fault, RunValues, Settings, setting
from recbole_gr.tokenizers.registry import (
    all_settings,
    check_tokenizer_settings,
    find_tokenizer,
    is_ours,
    settings_of,
    takes_cf_vectors,
)
from recbole_gr.utils.errors import SettingError
from recbole_gr.vectors.text_encoder import resolve_text_encoder


def _sizes(value: Any) -> Any:
    sizes = [value] if type(value) is int else value
    if value is not None and (
        not isinstance(sizes, (list, tuple)) or any(type(size) is not int or size < 1 for size in sizes)
    ):
        raise ValueError("must be a whole number of at least 1, or a list of them")
    return value


class SemanticIDSettings(Settings):
    """From item text or a trained model to vectors, and from vectors to semantic IDs.

    The settings of the tokenizers are the keyword-only parameters of their functions; :meth:`defaults` brings them along.
    """

    title: ClassVar[str] = "Item vectors and semantic IDs"

    item_vectors: Literal["text", "cf", "text_cf"] = setting(
        "text", "text; cf: collaborative vectors, by cf_model or of cf_checkpoint; text_cf: both, joined.", "dataset"
    )
    text_encoder: str = setting(
        "all-MiniLM-L6-v2",
        "Local folder or hub name of a sentence encoder or T5; the default is bundled.",
        "dataset",
        path=True,
    )
    text_template: str | None = setting(
        None, 'Columns of the .item file in braces, e.g. "{title}, {brand}"; ~: all text columns.', "dataset"
    )
    text_max_tokens: int = setting(128, "Longer texts are truncated.", "dataset", ge=1)
    item_vector_file: str | None = setting(None, "Vectors instead of an encoder: .npy, .npz or .pt.", "dataset", path=True)
    cf_model: str = setting(
        "svd",
        "Makes CF vectors from the training part of the run: svd, of which items follow each other, in seconds; SASRecCausal, trained "
        "first, in minutes; or any model of RecBole that embeds items, e.g. SASRec, LightGCN.",
        "dataset",
    )
    cf_settings: dict[str, Any] = setting(
        {},
        "With a model as cf_model, its settings, e.g. {epochs: 30, hidden_size: 64}.",
        "dataset",
        allowed="must be settings by key, e.g. {epochs: 30}",
    )
    cf_dimension: int = setting(64, "With cf_model: svd, dimensions of the vectors.", "dataset", ge=1)
    cf_window: int = setting(5, "With cf_model: svd, most steps between two items that count as a pair.", "dataset", ge=1)
    cf_shift: float = setting(
        1.0, "With cf_model: svd, its logarithm is taken off the mutual information; 5 suits sparse data.", "dataset", ge=1
    )
    cf_checkpoint: str | None = setting(
        None,
        "CF vectors without cf_model: checkpoint of any trained model of RecBole that embeds items, e.g. SASRec; on the same dataset.",
        "dataset",
        path=True,
    )
    cf_parameter: str | None = setting(
        None,
        "Name of the embedding in the checkpoint or of cf_model; ~: item_embedding.weight, or the only one like it.",
        "dataset",
    )
    text_weight: float = setting(1.0, "With item_vectors: text_cf, the length of each item's text vector.", "dataset", gt=0)
    cf_weight: float = setting(1.0, "With item_vectors: text_cf, the length of each item's embedding.", "dataset", gt=0)
    pca_dimension: int | None = setting(None, "Principal components that are kept; ~: no PCA.", "dataset", ge=1)
    whiten: bool = setting(False, "Give every principal component the same variance.", "dataset")
    cache_dir: str | None = setting(
        "saved/cache", "Where vectors and semantic IDs are kept between runs.", "runtime", path=True
    )
    tokenizer: str = setting(
        "rkmeans", "The kind of tokenizer; `recbole-gr list tokenizers` names all, those of other packages too.", "dataset"
    )
    codebook_num: int = setting(3, "Levels of the quantisation.", "dataset", ge=1)
    codebook_size: int = setting(
        256,
        "Codes per level; where it is not set and there are fewer items, the largest power of two that is not above their number.",
        "dataset",
        ge=1,
    )
    collision: Literal["digit", "none", "nearest", "sinkhorn"] = setting(
        "digit",
        "digit: one more code tells equal IDs apart; none: items share an ID; nearest, sinkhorn: they get free codes of the "
        "last level, one by one or by an optimal transport.",
        "dataset",
    )
    category_column: str | None = setting(
        None, "Column of the .item file to compare prefixes with; ~: categories, class, genres ... if there.", "dataset"
    )
    sid_file: str | None = setting(
        None, "Semantic IDs instead of a tokenizer: .json, .pt, .parquet or .npz.", "dataset", path=True
    )
    sid_codebook_sizes: Annotated[Any, AfterValidator(_sizes)] = setting(
        None,
        "Codes per level in sid_file; ~: as the file says, or the largest code of each + 1.",
        "dataset",
        allowed="must be a whole number of at least 1, a list of them, or ~",
    )

    @classmethod
    def makes_semantic_ids(cls, run: RunValues) -> bool:
        """Whether the run makes semantic IDs at all."""
        return True

    @classmethod
    def cf_for_vectors_only(cls, run: RunValues) -> tuple[str, ...]:
        """Which settings of a trained model have no use but for the item vectors."""
        return ("cf_checkpoint", "cf_parameter")

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        return {**all_settings(), **super().defaults()}

    @classmethod
    def conflicts(cls, run: RunValues) -> Iterator[Fault]:
        if not cls.makes_semantic_ids(run):
            return
        if run["sid_file"]:
            yield from needed_vector_faults(run, vectors_used(run))
            return
        try:
            check_tokenizer_settings(tokenizer_settings(run.values, run.given))
        except SettingError as error:
            yield Fault(error.key, error.value, error.allowed)
        yield from vector_faults(run, vectors_used(run), cls.cf_for_vectors_only(run))
        if run["sid_codebook_sizes"] is not None:
            yield Fault("sid_codebook_sizes", run["sid_codebook_sizes"], "has no use without sid_file")

    @classmethod
    def idle(cls, run: RunValues) -> dict[str, str]:
        if not cls.makes_semantic_ids(run):
            return {}
        if run["sid_file"]:
            made = ("tokenizer", "codebook_num", "codebook_size", "collision", *all_settings())
            return dict.fromkeys(made, "sid_file is set")
        chosen = tokenizer_settings(run.values, run.given)
        reasons = dict.fromkeys(all_settings().keys() - chosen, f"tokenizer={run['tokenizer']} has no such setting")
        if run["collision"] != "none":
            reasons["leaf_order"] = f"with collision={run['collision']} no items share an ID"
        if run["item_vectors"] != "text_cf":
            reasons.update(dict.fromkeys(("text_weight", "cf_weight"), f"item_vectors={run['item_vectors']} joins nothing"))
        reasons.update(_idle_cf(run))
        if chosen.get("codebook_update") == "loss":
            reasons["ema_decay"] = "codebook_update=loss keeps no mean"
        if chosen.get("codebook_update") == "ema" and run["tokenizer"] == "rvq":
            learner = ("tokenizer_learner", "tokenizer_learning_rate")
            reasons.update(dict.fromkeys(learner, "with codebook_update=ema, rvq has no gradients"))
        return reasons


def vectors_used(run: RunValues) -> set[str]:
    """Which vectors a run needs, ``text`` or ``cf``: to make semantic IDs, and for its model to read."""
    kinds = [None if run["sid_file"] else run["item_vectors"], run["inject"]]  # not every model can inject
    if not run["sid_file"] and tokenizer_takes_cf_vectors(run):
        kinds.append("cf")
    return {part for part in ("text", "cf") if part in kinds or "text_cf" in kinds}


def tokenizer_takes_cf_vectors(run: RunValues) -> bool:
    """Whether the chosen tokenizer learns from CF vectors too; not where there is no such tokenizer, which is a fault of its own."""
    try:
        return takes_cf_vectors(find_tokenizer(run["tokenizer"]))
    except SettingError:
        return False


def vector_faults(
    run: RunValues, used: set[str], cf_keys: tuple[str, ...] = ("cf_checkpoint", "cf_parameter")
) -> Iterator[Fault]:
    """What the item vectors are made of must be there, and what is set must be used.

    Args:
        run: the values.
        used: ``text``, ``cf`` or both.
        cf_keys: settings that have no use without ``cf``.
    """
    unused = (*(() if "cf" in used else cf_keys), *(() if "text" in used else ("item_vector_file",)))
    for key in unused:
        if run[key] is not None:
            yield Fault(key, run[key], f"has no use with item_vectors={run['item_vectors']}")
    yield from needed_vector_faults(run, used)


def needed_vector_faults(run: RunValues, used: set[str]) -> Iterator[Fault]:
    """What the item vectors are made of must be there."""
    if "cf" in used:
        yield from checkpoint_faults(run, "item_vectors=cf") if run["cf_checkpoint"] else made_cf_faults(run)
    if "text" in used and not run["item_vector_file"]:
        try:
            resolve_text_encoder(run["text_encoder"])
        except SettingError as error:
            yield Fault(error.key, error.value, error.allowed)


def made_cf_faults(run: RunValues) -> Iterator[Fault]:
    """CF vectors must be such that the run can make them from its training part."""
    yield from cf_model_faults(run["cf_model"], run["cf_settings"])
    if run["benchmark_filename"] is not None:
        yield Fault(
            "cf_model",
            run["cf_model"],
            "cannot be made from files that are split already (benchmark_filename); set cf_checkpoint",
        )


def _idle_cf(run: RunValues) -> dict[str, str]:
    of_svd = ("cf_dimension", "cf_window", "cf_shift")
    if "cf" not in vectors_used(run) or run["cf_checkpoint"]:
        reason = "cf_checkpoint is set" if run["cf_checkpoint"] else f"item_vectors={run['item_vectors']}"
        return dict.fromkeys(("cf_model", "cf_settings", *of_svd), reason)
    return dict.fromkeys(
        ("cf_settings", "cf_parameter") if run["cf_model"] == SVD else of_svd, f"cf_model={run['cf_model']}"
    )


def checkpoint_faults(run: RunValues, what_for: str) -> Iterator[Fault]:
    """The checkpoint of a trained model must be there; ``what_for`` is the setting that needs it."""
    checkpoint = run["cf_checkpoint"]
    if not checkpoint:
        yield Fault("cf_checkpoint", checkpoint, f"{what_for} needs the checkpoint of a trained model")
    elif not os.path.isfile(checkpoint):
        yield Fault("cf_checkpoint", checkpoint, "there is no such file")


def tokenizer_settings(values: Any, given: Any) -> dict[str, Any]:
    """The settings of the chosen tokenizer.

    Args:
        values: all settings by key.
        given: those that the user set, by key. A tokenizer from outside may share a name with a setting of ours and have
            another default; it then gets its own.

    Raises:
        SettingError: there is no such tokenizer.
    """
    function = find_tokenizer(values["tokenizer"])
    ours = is_ours(function)
    return {
        key: values[key] if key in given or (ours and key in values) else default
        for key, default in settings_of(function).items()
    }
