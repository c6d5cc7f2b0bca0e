"""Checks of the settings of LLMasRS, made before any long work; each failure is one line."""

from recbole_gr.settings.checks import check_number
from recbole_gr.utils.errors import SettingError
from recbole_gr.language_model import check_language_model
from recbole_gr.language_model.cf_injection import KINDS
from recbole_gr.language_model.lora import ALL_LINEAR
from recbole_gr.language_model.scratch import MIN_VOCABULARY, SCRATCH_SIZES
from recbole_gr.language_model.source import SCRATCH
from recbole_gr.language_model.lora import TUNINGS, tuning_of
from recbole_gr.settings.general import (
    SEMANTIC_ID_AT_LEAST,
    SEMANTIC_ID_CHOICES,
    check_cf_checkpoint,
    check_choices,
    check_protocol,
    check_semantic_ids,
    check_switches,
    check_texts,
    check_training,
    check_whole_numbers,
    idle_semantic_ids,
)
from recbole_gr.tokenizers import all_settings

CHOICES = {
    "scratch_size": tuple(SCRATCH_SIZES),
    "tuning": (None, *TUNINGS),
    "item_as": ("title", "sid"),
    "cf_injection": ("none", *KINDS),
}
AT_LEAST = {
    "title_max_tokens": 1,
    "prompt_max_tokens": 1,
    "gradient_accumulation": 1,
    "scratch_vocabulary": MIN_VOCABULARY,
}

#: Settings of training, which a frozen model has no use for.
TRAINING = (
    *("epochs", "epoch_samples", "train_batch_size", "gradient_accumulation", "gradient_checkpointing", "learner"),
    *("learning_rate", "weight_decay", "schedule", "warmup_steps", "clip_grad_norm", "stopping_step"),
)


def check_llm_settings(config):
    """Check the settings of LLMasRS.

    Args:
        config (recbole.config.Config): the merged settings.

    Raises:
        SettingError: names the key, its value and what is allowed.
        DataError: the interaction file is missing, or lacks a column.
    """
    check_protocol(config)
    check_choices(config, CHOICES)
    check_switches(config, "gradient_checkpointing")
    check_whole_numbers(config, AT_LEAST, {"lora_rank": 1})
    check_number("lora_alpha", config["lora_alpha"], above=0)
    check_number("lora_dropout", config["lora_dropout"], least=0, below=1)
    if config["lora_share"] is not None:
        check_number("lora_share", config["lora_share"], above=0, most=1)
    check_training(config)
    check_texts(config, "title_template", "duplicate_titles", "prompt_template", "history_separator", "cf_checkpoint", "llm")
    if config["duplicate_titles"] not in ("tied", "counter") and "{" not in str(config["duplicate_titles"]):
        raise SettingError("duplicate_titles", config["duplicate_titles"], "must be tied, counter, or columns in braces")
    if str(config["prompt_template"]).count("{history}") != 1:
        raise SettingError("prompt_template", config["prompt_template"], "must have {history} in it once")
    _check_tuning(config)
    if config["enable_scaler"] and config["gradient_accumulation"] > 1:
        raise SettingError(
            "enable_scaler", True, "scales the last part of gradient_accumulation only; bfloat16 needs no scaler"
        )
    if config["cf_injection"] != "none":
        check_cf_checkpoint(config, f"cf_injection={config['cf_injection']}")
    if config["item_as"] == "sid":
        check_semantic_ids(config, *(["cf_checkpoint"] if config["cf_injection"] == "none" else []))
    check_language_model(config["llm"])


def _check_tuning(config):
    tuning, llm = config["tuning"], config["llm"]
    if llm == SCRATCH and tuning not in (None, "full"):
        raise SettingError("tuning", tuning, "llm=scratch has random weights and needs tuning=full")
    targets = config["lora_targets"]
    if targets != ALL_LINEAR and not (isinstance(targets, list) and targets and all(type(name) is str for name in targets)):
        raise SettingError("lora_targets", targets, f"must be {ALL_LINEAR} or a list of names of layers")
    if config["lora_rank"] is None and config["lora_share"] is None:
        raise SettingError("lora_rank", None, "this or lora_share must be set")
    if tuning == "frozen" and config["item_as"] == "sid":
        raise SettingError("tuning", tuning, "item_as=sid brings new words, which must be trained")
    if tuning == "frozen" and config["cf_injection"] == "none" and not config["single_spec"]:
        raise SettingError("tuning", tuning, "trains nothing, which runs in one process only (nproc=1)")


def idle_llm_settings(config):
    """Which settings of LLMasRS have no effect beside the others: a dict of reasons."""
    reasons = {}
    tuning = tuning_of(config)
    if config["llm"] != SCRATCH:
        reasons.update(dict.fromkeys(("scratch_size", "scratch_vocabulary"), f"llm={config['llm']} is not from scratch"))
    if tuning != "lora":
        keys = ("lora_rank", "lora_share", "lora_alpha", "lora_dropout", "lora_targets")
        reasons.update(dict.fromkeys(keys, f"tuning={tuning} has no adapter"))
    elif config["lora_share"] is not None:
        reasons["lora_rank"] = "lora_share is set"
    if tuning == "frozen" and config["cf_injection"] == "none":
        reasons.update(dict.fromkeys(TRAINING, "tuning=frozen trains nothing"))
    if config["cf_injection"] == "none" and config["item_as"] == "title":
        reasons.update(dict.fromkeys(("cf_checkpoint", "cf_parameter"), "cf_injection=none"))
    if config["item_as"] == "sid":
        reasons.update(
            dict.fromkeys(("title_template", "title_max_tokens", "duplicate_titles"), "item_as=sid writes no titles")
        )
        return {**reasons, **idle_semantic_ids(config)}
    if config["duplicate_titles"] != "tied":
        reasons["leaf_order"] = f"with duplicate_titles={config['duplicate_titles']} no items share a title"
    of_semantic_ids = {*SEMANTIC_ID_CHOICES, *SEMANTIC_ID_AT_LEAST, *all_settings(), "tokenizer", "sid_file", "whiten"}
    of_semantic_ids |= {"pca_dimension", "text_encoder", "text_template", "item_vector_file", "category_column"}
    of_semantic_ids |= {"sid_codebook_sizes", "text_weight", "cf_weight"}
    return {**reasons, **dict.fromkeys(of_semantic_ids, "item_as=title makes no semantic IDs")}
