"""Training samples with one target each: prefixes, all contiguous sub-sequences, or one per user."""

from collections import Counter

import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.dataset import SequentialDataset
from support.sequences import ML_100K, training_loader, training_part, write_sequences

from recbole_gr.data.samples import AUGMENTATIONS
from recbole_gr.utils import arrays


def samples(batch):
    """(user, target, history) of each sample of a batch."""
    columns = (batch[field].tolist() for field in ("user_id", "item_id", "item_length", "item_id_list"))
    found = []
    for user, item, length, history in zip(*columns):
        assert not any(history[length:])
        found.append((user, item, tuple(history[:length])))
    return found


def loader_of_samples(name, **settings):
    return training_loader(name, **settings, loss_positions="last")


def epoch_of(loader):
    return [sample for batch in loader for sample in samples(batch)]


def brute_force(augmentation, name, **settings):
    """Every sample, from RecBole's prefixes."""
    config = Config("TIGER", name, config_dict={"show_progress": False, **settings})
    prefixes = samples(SequentialDataset(config).build()[0][:])
    if augmentation == "window":
        return [(user, item, history[start:]) for user, item, history in prefixes for start in range(len(history))]
    if augmentation == "none":
        return list({user: (user, item, history) for user, item, history in prefixes}.values())  # by time: the last
    return prefixes


@pytest.mark.parametrize("augmentation, count", [("prefix", 97171), ("window", 383026), ("none", 943)])
def test_the_samples_of_ml_100k_are_those_of_a_brute_force_list(augmentation, count):
    settings = {**ML_100K, "MAX_ITEM_LIST_LENGTH": 4}
    expected = brute_force(augmentation, "ml-100k", **settings)
    found = AUGMENTATIONS[augmentation](training_part("ml-100k", **settings))
    assert len(found) == len(expected) == count
    assert sorted(samples(found[torch.arange(count)])) == sorted(expected)


@pytest.mark.parametrize("augmentation", ["prefix", "window", "none"])
@pytest.mark.parametrize("split", [{"LS": "valid_and_test"}, {"RS": [0.6, 0.2, 0.2]}], ids=["leave one out", "ratio"])
@pytest.mark.parametrize("max_length", [3, 50])
def test_an_epoch_has_every_sample_once(small_part, tiny_settings, augmentation, split, max_length):
    args = {"split": split, "order": "TO", "group_by": "user", "mode": "full"}
    settings = {**tiny_settings, "MAX_ITEM_LIST_LENGTH": max_length, "eval_args": args}
    expected = Counter(brute_force(augmentation, "small", **settings))
    loader = loader_of_samples("small", **settings, augmentation=augmentation)
    first, second = epoch_of(loader), epoch_of(loader)
    assert Counter(first) == Counter(second) == expected and first != second
    assert len(loader) == -(-len(first) // 128) and loader.batches.n_samples == len(first)


def test_samples_by_hand(tmp_path):
    settings = write_sequences(tmp_path / "data", {"a": "12345", "b": "61", "c": "3"})
    expected = {
        "prefix": ["1 -> 2", "1 2 -> 3", "6 -> 1"],  # 4 and 5 are for validation and test
        "window": ["1 -> 2", "1 2 -> 3", "2 -> 3", "6 -> 1"],
        "none": ["1 2 -> 3", "6 -> 1"],
    }
    for augmentation, words in expected.items():
        loader = loader_of_samples("made", **settings, augmentation=augmentation)
        token_of = loader._dataset.field2id_token["item_id"]
        found = [f"{' '.join(token_of[list(history)])} -> {token_of[item]}" for _, item, history in epoch_of(loader)]
        assert sorted(found) == words


@pytest.mark.parametrize("augmentation", ["window", "none"])
def test_validation_and_test_are_not_augmented(small_part, tiny_settings, augmentation):
    parts = []
    for given in ("prefix", augmentation):
        config = Config("TIGER", "small", config_dict={**tiny_settings, "loss_positions": "last", "augmentation": given})
        _, *evaluated = data_preparation(config, create_dataset(config))
        parts.append([samples(loader._dataset[:]) for loader in evaluated])
    assert parts[0] == parts[1] and all(len(part) == 60 for part in parts[0])


@pytest.mark.parametrize("augmentation", ["window", "none"])
def test_batches_are_of_like_length_and_the_seed_decides(small_part, tiny_settings, augmentation):
    settings = {**tiny_settings, "augmentation": augmentation, "train_batch_size": 32}
    first, again, other = (loader_of_samples("small", **settings, seed=seed) for seed in (1, 1, 2))
    epoch = list(first)
    assert [samples(batch) for batch in epoch] == [samples(batch) for batch in again]
    assert [samples(batch) for batch in epoch] != [samples(batch) for batch in other]
    places = sum(batch["item_id_list"].numel() for batch in epoch)
    assert sum(int(batch["item_length"].sum()) for batch in epoch) > 0.95 * places


def test_an_interrupted_run_goes_on_with_the_same_batches(small_part, tiny_settings):
    loader, resumed = (loader_of_samples("small", **tiny_settings, augmentation="window") for _ in range(2))
    list(loader)
    resumed.generator.set_state(loader.generator.get_state())
    assert epoch_of(resumed) == epoch_of(loader)


def test_batches_are_the_same_from_a_worker_process(small_part, tiny_settings):
    settings = {**tiny_settings, "augmentation": "window"}
    here, there = (epoch_of(loader_of_samples("small", **settings, worker=workers)) for workers in (0, 1))
    assert here == there


def test_few_samples_are_drawn_without_listing_all(small_part, tiny_settings, monkeypatch):
    monkeypatch.setattr(arrays, "PERMUTED_AT_ONCE", 10)
    loader = loader_of_samples("small", **tiny_settings, augmentation="window", epoch_samples=300)
    everything = Counter(brute_force("window", "small", **tiny_settings))
    first, second = epoch_of(loader), epoch_of(loader)
    assert len(first) == len(second) == 300 and len(loader) == 3 and set(first) != set(second)
    assert not Counter(first) - everything


def test_drawing_is_without_replacement_and_fair(monkeypatch):
    monkeypatch.setattr(arrays, "PERMUTED_AT_ONCE", 10)
    generator = torch.Generator().manual_seed(0)
    draws = [arrays.draw_without_replacement(20, 8, generator).tolist() for _ in range(2000)]
    assert all(len(set(drawn)) == len(drawn) == 8 for drawn in draws)
    for place in (0, 7):  # each number 100 times, standard deviation 10
        counts = torch.bincount(torch.tensor([drawn[place] for drawn in draws]), minlength=20)
        assert 60 < counts.min() and counts.max() < 140
    large = arrays.draw_without_replacement(10**12, 1000, generator)
    assert len(large.unique()) == 1000 and large.max() > 9 * 10**11
