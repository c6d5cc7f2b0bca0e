"""Datasets written by hand, and their training parts."""

from recbole.config import Config

from recbole_gr.data.dataloader import LengthGroupedTrainDataLoader
from recbole_gr.data.dataset import HistoryDataset

ML_100K = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}


def write_sequences(folder, sequences):
    """An interaction file in which each user has the given items, in this order; the settings that read it.

    Args:
        folder: a ``pathlib.Path``.
        sequences: item tokens by user token; the file has the users' first items, then their second, ...
    """
    path = folder / "made"
    path.mkdir(parents=True)
    rows = [(time, user, item) for user, items in sequences.items() for time, item in enumerate(items)]
    lines = [f"{user}\t{item}\t{time}" for time, user, item in sorted(rows, key=lambda row: row[0])]
    (path / "made.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines]) + "\n")
    return {"data_path": str(folder), "train_batch_size": 4}


def training_part(name, **settings):
    config = Config("TIGER", name, config_dict={"show_progress": False, **settings})
    return HistoryDataset(config).build()[0]


def training_loader(name, part=None, **settings):
    """The training loader of TIGER, of a given training part or of that of the dataset."""
    part = part or training_part(name, **settings)
    config = Config("TIGER", name, config_dict={"show_progress": False, **settings})
    return LengthGroupedTrainDataLoader(config, part, None, shuffle=config["shuffle"])
