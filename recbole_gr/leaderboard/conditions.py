"""Under what a board was measured, in words: its protocol and its environment."""

#: What the pages tell of the protocol: the words, the setting, and words for its values.
PROTOCOL = {
    "split": (
        "split",
        {"{'LS': 'valid_and_test'}": "leave one out: a user's last interaction is for test, the one before for validation"},
    ),
    "order": ("order", {"TO": "by time", "RO": "random"}),
    "ranking": ("mode", {"{'valid': 'full', 'test': 'full'}": "all items", "full": "all items"}),
    "history length": ("MAX_ITEM_LIST_LENGTH", {}),
    "seen items": (
        "mask_seen",
        {"True": "masked for all models", "False": "not masked", "recbole": "masked for general models only, as in RecBole"},
    ),
    "timestamps": (
        "timestamp_order",
        {"exact": "in the file's full precision", "recbole": "rounded to float32, as in RecBole"},
    ),
    "tie order": ("tie_order", {"file": "as in the file", "shuffled": "shuffled"}),
}


def protocol_words(records):
    """What the records were measured under, as their settings tell; where cells differ, all that there is.

    Args:
        records (list of dict): run records.

    Returns:
        dict: text by what it tells, :data:`PROTOCOL`; empty without records.
    """
    told = {}
    for name, (key, words) in PROTOCOL.items():
        settings = [{**record["config"]["eval_args"], **record["config"]} for record in records]
        if name == "history length":  # other models read no histories, whatever the setting
            settings = [setting for setting in settings if setting["MODEL_TYPE"] == "ModelType.SEQUENTIAL"]
        values = dict.fromkeys(str(setting[key]) for setting in settings if setting.get(key) is not None)
        if values:
            told[name] = " or ".join(words.get(value, value) for value in values)
    return told


def environment_words(records):
    """Versions, machines, revisions and the time from first to last of run records."""
    versions = {
        name: ", ".join(_distinct(record["versions"].get(name) for record in records))
        for name in ("recbole_gr", "recbole", "torch")
    }
    created = sorted(record["created"] for record in records)
    return {
        **versions,
        "device": _distinct(_device(record["machine"]) for record in records),
        "git_revision": _distinct(record["git_revision"] for record in records),
        "created": [created[0], created[-1]] if created else [],
    }


def _device(machine):
    if machine["device"] != "cpu":
        return machine["device"]
    return f"cpu ({machine['processor']}, torch threads: {machine['torch_threads']})"


def _distinct(values):
    return [value for value in dict.fromkeys(values) if value is not None]
