"""RecBole's own SequentialDataset is the referee."""

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.dataset import SequentialDataset

from recbole_gr.data.dataset import HistoryDataset


def split(dataset_class, name, **settings):
    config = Config("TIGER", name, config_dict={"show_progress": False, **settings})
    return dataset_class(config).build()


def samples(part):
    """Every sample as (user, target, history)."""
    batch = part[np.arange(len(part))]
    return [
        (int(user), int(item), tuple(history[: int(length)].tolist()))
        for user, item, history, length in zip(
            batch["user_id"], batch["item_id"], batch["item_id_list"], batch["item_length"]
        )
    ]


@pytest.mark.parametrize("length", [3, 50])
@pytest.mark.parametrize("order", ["exact", "recbole"])
def test_the_samples_are_recboles(small_part, tiny_settings, length, order):
    settings = {**tiny_settings, "MAX_ITEM_LIST_LENGTH": length, "timestamp_order": order}
    ours, theirs = split(HistoryDataset, "small", **settings), split(SequentialDataset, "small", **settings)
    for our_part, their_part in zip(ours, theirs):
        assert samples(our_part) == samples(their_part)
        assert len(our_part) > 0


def test_the_samples_of_the_whole_set_are_recboles():
    ours, theirs = (split(kind, "ml-100k", MAX_ITEM_LIST_LENGTH=10) for kind in (HistoryDataset, SequentialDataset))
    assert [len(part) for part in ours] == [97171, 943, 943]
    for our_part, their_part in zip(ours, theirs):
        assert samples(our_part) == samples(their_part)


def test_a_split_by_ratio_is_recboles(small_part, tiny_settings):
    settings = {**tiny_settings, "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "user"}}
    ours, theirs = split(HistoryDataset, "small", **settings), split(SequentialDataset, "small", **settings)
    assert [samples(part) for part in ours] == [samples(part) for part in theirs]


def test_every_kind_of_index(small_part, tiny_settings):
    part = split(HistoryDataset, "small", **tiny_settings)[0]
    expected = part[np.array([2, 3, 4])]
    for index in ([2, 3, 4], slice(2, 5), torch.tensor([2, 3, 4])):
        found = part[index]
        assert all(torch.equal(found[field], expected[field]) for field in expected.interaction)


def test_memory_does_not_grow_with_the_length_of_the_history(small_part, tiny_settings):
    short, long = (split(HistoryDataset, "small", **{**tiny_settings, "MAX_ITEM_LIST_LENGTH": n})[0] for n in (2, 200))
    size = [sum(t.numel() for t in part.inter_feat.interaction.values()) for part in (short, long)]
    assert size[0] == size[1]


def test_batches_are_the_same_from_a_worker_process(small_part, tiny_settings):
    batches = []
    for workers in (0, 1):
        config = Config("TIGER", "small", config_dict={**tiny_settings, "worker": workers})
        train_data, _, _ = data_preparation(config, create_dataset(config))
        batches.append([batch["item_id_list"] for batch in train_data])
    assert all(torch.equal(*pair) for pair in zip(*batches)) and len(batches[0]) == len(batches[1]) > 1
