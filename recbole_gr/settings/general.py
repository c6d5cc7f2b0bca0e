"""Checks of the settings, made before any long work; each failure is one line."""

import os
from logging import getLogger

from recbole_gr.settings.checks import check_choice, check_number, check_switch, check_whole_number
from recbole_gr.decoding.tie_breaking import LEAF_ORDERS
from recbole_gr.vectors import resolve_text_encoder
from recbole_gr.utils.errors import DataError, SettingError
from recbole_gr.models.tiger.network import MODEL_SIZES, ModelSize
from recbole_gr.tokenizers import (
    COLLISION_RULES,
    all_settings,
    check_tokenizer_settings,
    find_tokenizer,
    is_ours,
    settings_of,
)

SEMANTIC_ID_CHOICES = {"collision": COLLISION_RULES, "item_vectors": ("text", "cf", "text_cf")}
TRAINING_CHOICES = {
    "leaf_order": LEAF_ORDERS,
    "schedule": ("cosine", "inverse_sqrt", "constant"),
    "precision": ("auto", "float32", "bfloat16"),
}
TIGER_CHOICES = {
    "model_size": tuple(MODEL_SIZES),
    "feed_forward": ("relu", "gated"),
    "history_position": ("code", "item"),
    "decoding": ("constrained", "free"),
}
PROTOCOL_CHOICES = {
    "mask_seen": (True, False, "recbole"),
    "timestamp_order": ("exact", "recbole"),
    "tie_order": ("file", "shuffled"),
}
SEMANTIC_ID_AT_LEAST = {"codebook_num": 1, "codebook_size": 1, "text_max_tokens": 1}
TRAINING_AT_LEAST = {"beam_size": 1, "warmup_steps": 0, "MAX_ITEM_LIST_LENGTH": 1}
MODEL_NUMBERS = dict.fromkeys(ModelSize.__dataclass_fields__, 1)


def check_settings(config):
    """Check the settings of TIGER.

    Args:
        config (recbole.config.Config): the merged settings.

    Raises:
        SettingError: names the key, its value and what is allowed.
        DataError: the interaction file is missing, or lacks a column.
    """
    check_protocol(config)
    check_choices(config, TIGER_CHOICES)
    check_switches(config, "separator", "torch_compile")
    check_whole_numbers(config, {"user_buckets": 0}, MODEL_NUMBERS)
    check_number("dropout", config["dropout"], least=0, below=1)
    if config["separator"] and config["history_position"] == "item":
        raise SettingError("separator", True, "needs history_position=code; with one position per item nothing is to part")
    check_training(config)
    check_semantic_ids(config, "cf_checkpoint")
    warn_of_idle_settings(config, idle_semantic_ids(config))


def check_semantic_ids(config, *cf_keys):
    """Check the settings that semantic IDs are made by.

    Args:
        cf_keys (str): which of the keys of a trained model have no use but for the item vectors.
    """
    check_choices(config, SEMANTIC_ID_CHOICES)
    check_switches(config, "whiten")
    check_whole_numbers(config, SEMANTIC_ID_AT_LEAST, {"pca_dimension": 1})
    check_texts(config, "text_template", "sid_file", "cf_checkpoint", "item_vector_file", "category_column")
    if config["sid_file"]:
        return
    check_tokenizer_settings(tokenizer_settings(config))
    check_item_vectors(config, cf_keys)
    if config["sid_codebook_sizes"] is not None:
        raise SettingError("sid_codebook_sizes", config["sid_codebook_sizes"], "has no use without sid_file")


def check_training(config):
    """Check the settings of training and decoding that all our models have."""
    check_choices(config, TRAINING_CHOICES)
    check_switches(config, "beam_certify")
    check_whole_numbers(config, TRAINING_AT_LEAST, {"epoch_samples": 1})
    check_beams(config)


def check_switches(config, *keys):
    """Each must be True or False."""
    for key in keys:
        check_switch(key, config[key])


def check_whole_numbers(config, least, optional=None):
    """Each must be a whole number of at least what stands beside its key; the optional ones may be None."""
    for key, bound in {**least, **(optional or {})}.items():
        if config[key] is not None or key in least:
            check_whole_number(key, config[key], bound)


def check_texts(config, *keys):
    """Each must be text or None."""
    for key in keys:
        if not isinstance(config[key], (str, type(None))):
            raise SettingError(key, config[key], 'must be text; in yaml write it in quotes, "{title}"')


def check_protocol(config):
    """Check the settings of ``properties/overall.yaml``, which hold for RecBole's models too.

    Raises:
        SettingError
    """
    check_choices(config, PROTOCOL_CHOICES)
    check_whole_numbers(config, {"tie_interval": 0, "tie_seed": 0})
    check_texts(config, "record_name")
    if config["tie_order"] == "shuffled" and config["timestamp_order"] == "recbole":
        raise SettingError("timestamp_order", "recbole", "has no use with tie_order=shuffled")
    ranked = {f"{metric.lower()}@{k}" for metric in config["metrics"] for k in config["topk"]}
    unranked = {metric.lower() for metric in config["metrics"]}
    if str(config["valid_metric"]).lower() not in ranked | unranked:
        raise SettingError(
            "valid_metric", config["valid_metric"], f"must be one of metrics at one of topk: {sorted(ranked)}"
        )
    if config["eval_args"]["order"] == "TO":
        check_inter_file(config)


def check_choices(config, choices):
    """Each key of ``choices`` must have one of the values there."""
    for key, allowed in choices.items():
        check_choice(key, config[key], allowed)


def check_writable(key, folder):
    """Make a folder that results go to.

    Raises:
        SettingError: it cannot be made or written.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise SettingError(key, folder, f"the folder cannot be made ({error.strerror})") from error
    if not os.access(folder, os.W_OK):
        raise SettingError(key, folder, "the folder cannot be written")


def check_beams(config):
    """The beam must hold the longest ranking, and a metric must need no more than the ranking.

    Raises:
        SettingError
    """
    if config["beam_size"] < max(config["topk"]):
        raise SettingError(
            "beam_size", config["beam_size"], f"must be at least the largest k of topk, {max(config['topk'])}"
        )
    if config["beam_certify"] and config["decoding"] == "free":
        raise SettingError("beam_certify", True, "needs decoding=constrained; the free-form search space has no end")
    metrics = {metric.lower() for metric in config["metrics"]}
    if "full" in config["eval_args"]["mode"].values() and "gauc" in metrics:
        raise SettingError("metrics", "GAUC", "needs a score for every item; use it with eval_args mode uni100 or the like")
    list_metrics = metrics & {"itemcoverage", "averagepopularity", "shannonentropy", "giniindex", "tailpercentage"}
    if config["decoding"] == "free" and list_metrics:
        raise SettingError(
            "metrics", ", ".join(sorted(list_metrics)), "needs k items for every user, which decoding=free cannot promise"
        )


def warn_of_idle_settings(config, reasons):
    """Say which settings were given that are not used; a recipe may hold more than one needs.

    Args:
        reasons (dict): why, by key.
    """
    for key in sorted(reasons.keys() & config.external_config_dict.keys()):
        getLogger().warning(f"{key}={config[key]!r} is not used: {reasons[key]}")


def idle_semantic_ids(config):
    """Which settings of semantic IDs have no effect beside the others: a dict of reasons."""
    if config["sid_file"]:
        return dict.fromkeys({"tokenizer", "codebook_num", "codebook_size", "collision", *all_settings()}, "sid_file is set")
    chosen = tokenizer_settings(config)
    reasons = dict.fromkeys(all_settings().keys() - chosen, f"tokenizer={config['tokenizer']} has no such setting")
    if config["collision"] != "none":
        reasons["leaf_order"] = f"with collision={config['collision']} no items share an ID"
    if config["item_vectors"] != "text_cf":
        reasons.update(dict.fromkeys(("text_weight", "cf_weight"), f"item_vectors={config['item_vectors']} joins nothing"))
    if chosen.get("codebook_update") == "loss":
        reasons["ema_decay"] = "codebook_update=loss keeps no mean"
    if chosen.get("codebook_update") == "ema" and config["tokenizer"] == "rvq":
        learner = ("tokenizer_learner", "tokenizer_learning_rate")
        reasons.update(dict.fromkeys(learner, "with codebook_update=ema, rvq has no gradients"))
    return reasons


def check_item_vectors(config, cf_keys=("cf_checkpoint",)):
    """What the vectors are made of must be there, and what is set must be used.

    Args:
        cf_keys: as in :func:`check_semantic_ids`.

    Raises:
        SettingError
    """
    for key in ("text_weight", "cf_weight"):
        check_number(key, config[key], above=0)
    kind = config["item_vectors"]
    of_models = (*cf_keys, "cf_parameter") if cf_keys else ()
    unused = of_models if kind == "text" else ("item_vector_file",) if kind == "cf" else ()
    for key in unused:
        if config[key] is not None:
            raise SettingError(key, config[key], f"has no use with item_vectors={kind}")
    if kind != "text":
        check_cf_checkpoint(config, f"item_vectors={kind}")
    if kind != "cf" and not config["item_vector_file"]:
        resolve_text_encoder(config["text_encoder"])


def check_cf_checkpoint(config, what_for):
    """The checkpoint of a trained model must be there.

    Args:
        what_for (str): the setting that needs it, for the error.

    Raises:
        SettingError
    """
    checkpoint = config["cf_checkpoint"]
    if not checkpoint:
        raise SettingError("cf_checkpoint", checkpoint, f"{what_for} needs the checkpoint of a trained model")
    if not os.path.isfile(checkpoint):
        raise SettingError("cf_checkpoint", checkpoint, "there is no such file")


def check_inter_file(config):
    """The interaction file must be there and have the user, item and time columns.

    Raises:
        DataError: names the file, what is missing and what there is.
    """
    if config["benchmark_filename"] is not None:
        return
    path = os.path.join(config["data_path"], f"{config['dataset']}.inter")
    if not os.path.isfile(path):
        return  # a dataset that RecBole knows is downloaded by RecBole; quick_start has checked for the others
    with open(path, encoding=config["encoding"] or "utf-8") as file:
        columns = [column.split(":")[0] for column in file.readline().rstrip("\n").split(config["field_separator"])]
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"):
        if config[key] not in columns:
            raise DataError(f"[{path}] has no column {config[key]!r} ({key}); it has {', '.join(columns)}")


def tokenizer_settings(config):
    """The settings of the chosen tokenizer, a dict.

    Raises:
        SettingError: there is no such tokenizer.
    """
    function = find_tokenizer(config["tokenizer"])
    given = config.final_config_dict if is_ours(function) else config.external_config_dict
    # a tokenizer from outside may share a name with a setting of ours and have another default
    return {key: config[key] if key in given else default for key, default in settings_of(function).items()}


def model_size(config):
    """The named ``model_size`` with the numbers that are set by themselves."""
    numbers = {name: config[name] for name in ModelSize.__dataclass_fields__ if config[name] is not None}
    named = MODEL_SIZES[config["model_size"]]
    return ModelSize(**{**vars(named), **numbers})
