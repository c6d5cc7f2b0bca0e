"""How an epoch of training is divided into batches."""

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation

from recbole_gr.data.batches import LengthGroupedBatches
from recbole_gr.data.dataloader import TrainingBatch


def lengths_like_beauty():
    """Lengths of the training histories of a set like 5-core Beauty.

    A user has 5 interactions and a lognormal number of further ones, rounded down, which gives Beauty's mean of 8.9 and
    median of 6. The last two are for validation and test, so n interactions give histories of 1 to n - 3 items.
    """
    counts = 5 + np.random.default_rng(0).lognormal(np.log(1.6), 1.42, size=4000).astype(int)
    assert counts.min() == 5 and np.median(counts) == 6 and abs(counts.mean() - 8.9) < 0.2
    return torch.as_tensor(np.minimum(np.concatenate([np.arange(1, count - 2) for count in counts]), 20))


class OfLengths:
    """Samples of which only the lengths are known."""

    def __init__(self, lengths):
        self.all = lengths

    def __len__(self):
        return len(self.all)

    def lengths(self, number):
        return self.all[number]


def grouped(lengths, batch_size, **options):
    return LengthGroupedBatches(OfLengths(lengths), batch_size, torch.Generator().manual_seed(0), **options)


def batches(**options):
    return grouped(lengths_like_beauty(), 128, **options)


def epoch_of_numbers(drawn):
    return [batch.tolist() for batch in drawn]


def test_every_sample_comes_once():
    drawn = batches()
    epoch = epoch_of_numbers(drawn)
    assert len(epoch) == len(drawn)
    assert sorted(sum(epoch, [])) == list(range(len(drawn.samples)))


def test_the_seed_decides_and_epochs_differ():
    first, again = batches(), batches()
    epoch = epoch_of_numbers(first)
    assert epoch == epoch_of_numbers(again)
    assert epoch != epoch_of_numbers(first)


def test_few_samples_per_epoch_are_drawn_without_replacement():
    drawn = batches(epoch_samples=1000)
    epochs = [sum(epoch_of_numbers(drawn), []) for _ in range(2)]
    assert all(len(set(epoch)) == len(epoch) == 1000 for epoch in epochs)
    assert set(epochs[0]) != set(epochs[1]) and len(drawn) == 8


def padding(drawn, epoch):
    lengths = drawn.samples.all
    places = sum(int(lengths[batch].max()) * len(batch) for batch in epoch)
    return 1 - int(lengths.sum()) / places


@pytest.mark.parametrize("batch_size", [128, 256, 1024])
def test_at_most_a_tenth_is_padding(batch_size):
    drawn = grouped(lengths_like_beauty(), batch_size)
    assert padding(drawn, drawn) < 0.1
    random = torch.randperm(len(drawn.samples), generator=torch.Generator().manual_seed(0)).split(batch_size)
    assert padding(drawn, random) > 0.4


def test_batches_are_mixed_and_come_in_random_order():
    drawn = batches()
    mean = torch.tensor([drawn.samples.all[batch].float().mean() for batch in drawn])
    assert abs(np.corrcoef(mean, np.arange(len(mean)))[0, 1]) < 0.3


def test_two_processes_share_an_epoch():
    ranks = [epoch_of_numbers(batches(rank=rank, world_size=2)) for rank in (0, 1)]
    alone = batches()
    assert [sorted(one + other) for one, other in zip(*ranks, strict=True)] == [
        sorted(epoch) for epoch in epoch_of_numbers(alone)
    ]
    lengths = alone.samples.all
    work = [sum(int(lengths[batch].max()) * len(batch) for batch in rank) for rank in ranks]
    assert work[0] == pytest.approx(work[1], rel=0.02)


def test_without_shuffling_samples_keep_their_order():
    assert sum(epoch_of_numbers(batches(shuffle=False)), []) == list(range(len(lengths_like_beauty())))


@pytest.mark.parametrize("n_samples, n_batches", [(1, 1), (4, 1), (12, 3), (13, 4), (30, 8), (33, 9)])
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_processes_share_every_batch_of_one(n_samples, n_batches, world_size):
    """A last batch with fewer samples than there are processes is that of all: none has nothing to do."""
    lengths = torch.arange(n_samples) + 1
    alone = epoch_of_numbers(grouped(lengths, 4))
    ranks = [epoch_of_numbers(grouped(lengths, 4, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert len(alone) == n_batches
    for whole, *shares in zip(alone, *ranks, strict=True):
        if len(whole) < world_size:
            assert shares == [whole] * world_size
        else:
            assert sorted(sum(shares, [])) == sorted(whole) and max(map(len, shares)) - min(map(len, shares)) <= 1


def loader(settings, **more):
    config = Config("TIGER", "small", config_dict={"loss_positions": "last", **settings, **more})
    return data_preparation(config, create_dataset(config))[0]


def epoch_of(train_data):
    """The samples of each batch, as (user, target, length, history)."""
    fields = ("user_id", "item_id", "item_length", "item_id_list")
    rows = [list(zip(*(batch[field].tolist() for field in fields))) for batch in train_data]
    assert not any(any(history[length:]) for batch in rows for _, _, length, history in batch)
    return [[(user, item, length, *history[:length]) for user, item, length, history in batch] for batch in rows]


def test_the_loader_gives_every_sample_once_and_the_seed_decides(small_part, tiny_settings):
    train_data, again, other = (loader(tiny_settings, seed=seed) for seed in (1, 1, 2))
    first, second = epoch_of(train_data), epoch_of(train_data)
    n_samples = len(train_data._dataset)
    assert len(first) == len(train_data) == -(-n_samples // 128)
    everything = sorted(epoch_of([train_data._dataset[:]])[0])
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == everything and len(everything) == n_samples
    assert first != second
    assert [epoch_of(again), epoch_of(again)] == [first, second]
    assert epoch_of(other) not in (first, second)


def test_a_batch_is_as_wide_as_its_longest_history_and_moved_knows_what_it_was(small_part, tiny_settings):
    for batch in loader(tiny_settings):
        assert batch["item_id_list"].shape == (len(batch), int(batch["item_length"].max()))
        moved = batch.to("meta")
        assert isinstance(moved, TrainingBatch) and moved.interaction.keys() == batch.interaction.keys()
        assert moved["item_id"].device.type == "meta" and moved.on_cpu is moved.to("meta").on_cpu is batch
    assert batch.to("meta", "item_id")["user_id"].device.type == "cpu"


def test_the_loader_draws_epoch_samples(small_part, tiny_settings):
    train_data = loader(tiny_settings, epoch_samples=300)
    first, second = (sum(epoch_of(train_data), []) for _ in range(2))
    assert len(train_data) == 3 and len(set(first)) == len(first) == 300 == len(set(second))
    assert set(first) != set(second)


def test_a_saved_loader_takes_over_the_new_settings(small_part, tiny_settings):
    settings = {**tiny_settings, "save_dataloaders": True}
    assert len(epoch_of(loader(settings))[0]) <= 128
    train_data = loader(settings, train_batch_size=32)
    epoch = epoch_of(train_data)
    assert max(map(len, epoch)) == 32 and len(epoch) == len(train_data) == -(-len(train_data._dataset) // 32)
