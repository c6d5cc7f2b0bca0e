"""The small inputs of tests/cases/ as datasets: what a folder lacks is that of the case ``plain``."""

import shutil
from pathlib import Path

from recbole.data import create_dataset, data_preparation

from recbole_gr.integration.config import make_config

CASES = Path(__file__).resolve().parents[1] / "cases"

#: Stands in a file for a title of 100,000 characters.
LONG = "LONG"

#: What a case is run with.
SETTINGS = {
    "csvquoted": {"field_separator": ","},
    "custom": {"USER_ID_FIELD": "customer_id", "ITEM_ID_FIELD": "article_id", "TIME_FIELD": "when"},
    "rating": {"val_interval": {"rating": "[4,inf)"}},
    "bench": {"split_files": ["train", "valid", "test"]},
    "benchseq": {"split_files": ["train", "valid", "test"]},
}


def write_case(name, data_path):
    """Write the dataset of a case below a folder; returns its own folder."""
    folder = Path(data_path) / name
    shutil.copytree(CASES / name, folder, dirs_exist_ok=True)
    for ending in ("inter", "item"):
        if not any(folder.glob(f"*.{ending}")):
            shutil.copy(CASES / "plain" / f"plain.{ending}", folder / f"{name}.{ending}")
    if name == "oddtitles":
        path = folder / "oddtitles.item"
        content = path.read_bytes()
        path.write_bytes(content.replace(LONG.encode(), b"long " * 20_000))
    return folder


def case_config(model, name, data_path="cases", **settings):
    """The Config of a case that has been written; our tokenizer models read ready semantic IDs, to need no text encoder."""
    given = {"data_path": str(data_path), "show_progress": False, "record_dir": None, **SETTINGS.get(name, {})}
    if model == "TIGER":
        given.update(sid_file=str(CASES / "sids" / "good.json"), cache_dir=None)
    return make_config(model, name, config_dict={**given, **settings})


def case_loaders(model, name, data_path="cases", **settings):
    """The three loaders of a case."""
    write_case(name, data_path)
    config = case_config(model, name, data_path, **settings)
    return data_preparation(config, create_dataset(config))


def plain_interactions():
    """Rows ``(user, item, time)`` of the case ``plain``, in the order of the file."""
    lines = (CASES / "plain" / "plain.inter").read_text().splitlines()[1:]
    return [(user, item, float(time)) for user, item, time in map(str.split, lines)]


def left_one_out(rows):
    """By user, the items in the order of time: all but two for training, one for validation, one for test."""
    items = {}
    for user, item, _ in sorted(rows, key=lambda row: row[2]):
        items.setdefault(user, []).append(item)
    return {user: (had[:-2], had[-2], had[-1]) for user, had in items.items()}
