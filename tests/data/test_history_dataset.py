"""Histories on demand; RecBole's own SequentialDataset is the reference."""

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.dataset import SequentialDataset

from recbole_gr.data.dataset import HistoryDataset

FIELDS = ["user_id", "item_id", "timestamp"]


def split(dataset_class, name, **settings):
    config = Config("TIGER", name, config_dict={"show_progress": False, "loss_positions": "last", **settings})
    return dataset_class(config).build()


def samples(part):
    """Every sample as (user, target, history)."""
    batch = part[np.arange(len(part))]
    assert all(not history[length:].any() for history, length in zip(batch["item_id_list"], batch["item_length"]))
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


@pytest.mark.parametrize("order", ["exact", "recbole"])
def test_the_samples_of_all_of_ml_100k_are_recboles(order):
    settings = {"MAX_ITEM_LIST_LENGTH": 10, "timestamp_order": order, "load_col": {"inter": FIELDS}}
    ours, theirs = (split(kind, "ml-100k", **settings) for kind in (HistoryDataset, SequentialDataset))
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
    assert all(torch.equal(part[3][field], expected[field][1]) for field in expected.interaction)
    everything, backwards = part[:], part[np.arange(len(part))[::-1]]
    assert all(torch.equal(everything[field].flip(0), backwards[field]) for field in everything.interaction)
    nothing = part[np.array([], dtype=np.int64)]
    assert nothing["item_id_list"].shape == (0, 8)


def test_memory_does_not_grow_with_the_length_of_the_history(small_part, tiny_settings):
    short, long = (split(HistoryDataset, "small", **{**tiny_settings, "MAX_ITEM_LIST_LENGTH": n})[0] for n in (2, 200))
    size = [sum(t.numel() for t in part.inter_feat.interaction.values()) for part in (short, long)]
    assert size[0] == size[1]


def test_batches_are_the_same_from_a_worker_process(small_part, tiny_settings):
    batches, random_states = [], []
    for workers in (0, 1):
        config = Config("TIGER", "small", config_dict={**tiny_settings, "loss_positions": "last", "worker": workers})
        train_data, _, _ = data_preparation(config, create_dataset(config))
        batches.append(list(train_data))
        random_states.append(train_data.generator.get_state())
    assert torch.equal(*random_states)  # so the next epoch is the same too
    assert len(batches[0]) == len(batches[1]) > 1
    for here, there in zip(*batches):
        assert set(here.interaction) == set(there.interaction) > {"item_id_list", "item_length", "item_id", "user_id"}
        assert all(torch.equal(here[field], there[field]) for field in here.interaction)


def test_the_matrix_of_users_and_items_has_the_first_items_too(small_part, tiny_settings):
    parts = [split(kind, "small", **tiny_settings)[0] for kind in (HistoryDataset, SequentialDataset)]
    ours, theirs = (part.inter_matrix(form="csr") for part in parts)
    assert (ours != theirs).nnz == 0 and ours.sum() == len(parts[0]) + 60
    with pytest.raises(ValueError, match="value_field=.timestamp."):
        parts[0].inter_matrix(value_field="timestamp")


def test_files_that_are_a_split_bring_their_own_histories(tmp_path):
    folder = tmp_path / "data" / "made"
    folder.mkdir(parents=True)
    sequences = np.random.default_rng(0).integers(0, 20, size=(10, 8)).astype(str)
    for part, positions in (("train", range(1, 6)), ("valid", [6]), ("test", [7])):
        rows = [f"{user}\t{' '.join(row[:n])}\t{row[n]}" for user, row in enumerate(sequences) for n in positions]
        header = "user_id:token\titem_id_list:token_seq\titem_id:token"
        (folder / f"made.{part}.inter").write_text("\n".join([header, *rows]) + "\n")
    settings = {
        "data_path": str(tmp_path / "data"),
        "benchmark_filename": ["train", "valid", "test"],
        "alias_of_item_id": ["item_id_list"],
        "load_col": {"inter": ["user_id", "item_id", "item_id_list"]},
    }
    ours, theirs = split(HistoryDataset, "made", **settings), split(SequentialDataset, "made", **settings)
    assert [samples(part) for part in ours] == [samples(part) for part in theirs]
    token_of = ours[2].field2id_token["item_id"]
    for row, (_, item, history) in zip(sequences, samples(ours[2])):
        assert [*token_of[list(history)], token_of[item]] == row.tolist()
