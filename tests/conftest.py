"""What the tests share: a folder of their own, and a small real part of ml-100k."""

import csv
import logging
import os
import sys

import numpy as np
import pandas as pd
import pytest
import recbole_gr  # noqa: F401  mends RecBole before any test imports it
import torch


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """RecBole writes into the current folder, reads settings from the command line, and adds log handlers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    torch.set_num_threads(1)  # tiny models; more threads only wait for each other
    before = logging.getLogger().handlers[:]
    yield
    for handler in set(logging.getLogger().handlers) - set(before):
        logging.getLogger().removeHandler(handler)
        handler.close()


@pytest.fixture(scope="session")
def ml100k_folder():
    """The folder of ml-100k inside the installed RecBole."""
    import recbole

    return os.path.join(os.path.dirname(recbole.__file__), "dataset_example", "ml-100k")


@pytest.fixture
def small_part(tmp_path, ml100k_folder):
    """The last 30 interactions of the first 60 users of ml-100k, and their items, as the dataset ``small``.

    Returns:
        tuple: its name; the ``data_path`` that it lies in.
    """
    inter = read_atomic(os.path.join(ml100k_folder, "ml-100k.inter"))
    inter = inter[inter["user_id:token"].astype(int) <= 60]
    time = inter["timestamp:float"].astype(float)
    inter = inter.iloc[time.argsort(kind="stable")].groupby("user_id:token").tail(30).sort_index()
    items = read_atomic(os.path.join(ml100k_folder, "ml-100k.item"))
    items = items[items["item_id:token"].isin(inter["item_id:token"])]
    folder = tmp_path / "data" / "small"
    folder.mkdir(parents=True)
    columns = ["user_id:token", "item_id:token", "timestamp:float"]
    inter.to_csv(folder / "small.inter", sep="\t", index=False, columns=columns)
    items.to_csv(folder / "small.item", sep="\t", index=False)
    return "small", str(tmp_path / "data")


def read_atomic(path):
    """An atomic file as a table of strings, columns named as in its first line."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)


@pytest.fixture
def tiny_settings(small_part, tmp_path):
    """Settings with which TIGER trains on the small part in seconds; seeded vectors stand in for an encoder's."""
    name, data_path = small_part
    items = read_atomic(os.path.join(data_path, name, f"{name}.item"))["item_id:token"]
    vectors = np.random.default_rng(0).normal(size=(len(items), 12)).astype(np.float32)
    np.savez(tmp_path / "vectors.npz", item_id=items.to_numpy(dtype=str), vectors=vectors)
    return {
        "data_path": data_path,
        "item_vector_file": str(tmp_path / "vectors.npz"),
        "cache_dir": str(tmp_path / "cache"),
        "codebook_size": 16,
        "n_layers": 1,
        "d_model": 16,
        "n_heads": 2,
        "d_kv": 8,
        "d_ff": 32,
        "MAX_ITEM_LIST_LENGTH": 8,
        "epochs": 2,
        "train_batch_size": 128,
        "warmup_steps": 2,
        "beam_size": 20,
        "show_progress": False,
    }
