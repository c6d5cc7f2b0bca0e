"""Checks of the settings, made before any long work; each failure is one line."""

import os
from logging import getLogger

from recbole_gr.checks import check_choice, check_number, check_switch, check_whole_number
from recbole_gr.decoding.leaf_order import LEAF_ORDERS
from recbole_gr.embedding import resolve_text_encoder
from recbole_gr.errors import DataError, SettingError
from recbole_gr.model.sequence_model import MODEL_SIZES, ModelSize
from recbole_gr.tokenizer import COLLISION_RULES, all_settings, check_tokenizer_settings, find_tokenizer, is_ours, settings_of

CHOICES = {
    "collision": COLLISION_RULES,
    "leaf_order": LEAF_ORDERS,
    "item_vectors": ("text", "cf", "text_cf"),
    "model_size": tuple(MODEL_SIZES),
    "feed_forward": ("relu", "gated"),
    "history_position": ("code", "item"),
    "schedule": ("cosine", "inverse_sqrt", "constant"),
    "precision": ("auto", "float32", "bfloat16"),
    "decoding": ("constrained", "free"),
}
PROTOCOL_CHOICES = {"mask_seen": (True, False, "recbole"), "timestamp_order": ("exact", "recbole")}
SWITCHES = ("whiten", "separator", "torch_compile", "beam_certify")
AT_LEAST = {
    "codebook_num": 1,
    "codebook_size": 1,
    "text_max_tokens": 1,
    "beam_size": 1,
    "user_buckets": 0,
    "warmup_steps": 0,
    "MAX_ITEM_LIST_LENGTH": 1,
}
OPTIONAL_AT_LEAST = {"pca_dimension": 1, "epoch_samples": 1, **dict.fromkeys(ModelSize.__dataclass_fields__, 1)}


def check_settings(config):
    """Check the settings of a generative recommender.

    Args:
        config (recbole.config.Config): the merged settings.

    Raises:
        SettingError: names the key, its value and what is allowed.
        DataError: the interaction file is missing, or lacks a column.
    """
    check_protocol(config)
    _check_choices(config, CHOICES)
    for key in SWITCHES:
        check_switch(key, config[key])
    for key, least in {**AT_LEAST, **OPTIONAL_AT_LEAST}.items():
        if config[key] is not None or key not in OPTIONAL_AT_LEAST:
            check_whole_number(key, config[key], least)
    check_number("dropout", config["dropout"], least=0, below=1)
    if not config["sid_file"]:
        check_tokenizer_settings(tokenizer_settings(config))
    if config["separator"] and config["history_position"] == "item":
        raise SettingError("separator", True, "needs history_position=code; with one position per item nothing is to part")
    if not isinstance(config["text_template"], (str, type(None))):
        raise SettingError("text_template", config["text_template"], 'must be text; in yaml write it in quotes, "{title}"')
    check_beams(config)
    for key in ("sid_file", "cf_checkpoint", "item_vector_file", "category_column"):
        if not isinstance(config[key], (str, type(None))):
            raise SettingError(key, config[key], "must be text; in yaml write it in quotes")
    if not config["sid_file"]:
        check_item_vectors(config)
        if config["sid_codebook_sizes"] is not None:
            raise SettingError("sid_codebook_sizes", config["sid_codebook_sizes"], "has no use without sid_file")
    warn_of_idle_settings(config)


def check_protocol(config):
    """Check the settings of ``properties/overall.yaml``, which hold for RecBole's models too.

    Raises:
        SettingError
    """
    _check_choices(config, PROTOCOL_CHOICES)
    ranked = {f"{metric.lower()}@{k}" for metric in config["metrics"] for k in config["topk"]}
    unranked = {metric.lower() for metric in config["metrics"]}
    if str(config["valid_metric"]).lower() not in ranked | unranked:
        raise SettingError("valid_metric", config["valid_metric"], f"must be one of metrics at one of topk: {sorted(ranked)}")
    if config["eval_args"]["order"] == "TO":
        check_inter_file(config)


def _check_choices(config, choices):
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


def warn_of_idle_settings(config):
    """Say which settings of tokenizers were given for one that is not used; a recipe may hold more than one needs."""
    if config["sid_file"]:
        idle, reason = {"tokenizer", "codebook_num", "codebook_size", "collision", *all_settings()}, "sid_file is set"
    else:
        chosen = tokenizer_settings(config)
        idle, reason = all_settings().keys() - chosen, f"tokenizer={config['tokenizer']} has no such setting"
    reasons = dict.fromkeys(idle, reason)
    if not config["sid_file"]:
        if config["collision"] != "none":
            reasons["leaf_order"] = f"with collision={config['collision']} no items share an ID"
        if config["item_vectors"] != "text_cf":
            reasons.update(dict.fromkeys(("text_weight", "cf_weight"), f"item_vectors={config['item_vectors']} joins nothing"))
        if chosen.get("codebook_update") == "loss":
            reasons["ema_decay"] = "codebook_update=loss keeps no mean"
        if chosen.get("codebook_update") == "ema" and config["tokenizer"] == "rvq":
            learner = ("tokenizer_learner", "tokenizer_learning_rate")
            reasons.update(dict.fromkeys(learner, "with codebook_update=ema, rvq has no gradients"))
    for key in sorted(reasons.keys() & config.external_config_dict.keys()):
        getLogger().warning(f"{key}={config[key]!r} is not used: {reasons[key]}")


def check_item_vectors(config):
    """What the vectors are made of must be there, and what is set must be used.

    Raises:
        SettingError
    """
    for key in ("text_weight", "cf_weight"):
        check_number(key, config[key], above=0)
    kind, checkpoint = config["item_vectors"], config["cf_checkpoint"]
    unused = ("cf_checkpoint", "cf_parameter") if kind == "text" else ("item_vector_file",) if kind == "cf" else ()
    for key in unused:
        if config[key] is not None:
            raise SettingError(key, config[key], f"has no use with item_vectors={kind}")
    if kind != "text" and not checkpoint:
        raise SettingError("cf_checkpoint", checkpoint, f"item_vectors={kind} needs the checkpoint of a trained model")
    if kind != "text" and not os.path.isfile(checkpoint):
        raise SettingError("cf_checkpoint", checkpoint, "there is no such file")
    if kind != "cf" and not config["item_vector_file"]:
        resolve_text_encoder(config["text_encoder"])


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
