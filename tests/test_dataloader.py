import numpy as np
import torch

from recbole_gr.data.dataloader import LengthGroupedBatches


def lengths_like_beauty(n=20_000, longest=20):
    """Histories of a 5-core set with many short users: lengths 1 to n - 1 of users with at least 5, geometric, mean 8.9."""
    users = 4 + np.random.default_rng(0).geometric(1 / 4.9, size=n // 8)
    every_prefix = np.concatenate([np.arange(1, count - 1) for count in users])
    return torch.as_tensor(np.minimum(every_prefix, longest)[:n])


def batches(**options):
    generator = torch.Generator().manual_seed(0)
    return LengthGroupedBatches(lengths_like_beauty(), 128, options.pop("generator", generator), **options)


def test_every_sample_comes_once():
    drawn = batches()
    epoch = list(drawn)
    assert len(epoch) == len(drawn)
    assert sorted(sum(epoch, [])) == list(range(len(drawn.lengths)))


def test_the_seed_decides_and_epochs_differ():
    first, again = batches(), batches()
    epoch = list(first)
    assert epoch == list(again)
    assert epoch != list(first)


def test_few_samples_per_epoch_are_drawn_without_replacement():
    drawn = batches(epoch_samples=1000)
    epochs = [sum(drawn, []) for _ in range(2)]
    assert all(len(set(epoch)) == len(epoch) == 1000 for epoch in epochs)
    assert set(epochs[0]) != set(epochs[1]) and len(drawn) == 8


def test_at_most_a_tenth_is_padding():
    drawn = batches()
    longest = sum(int(drawn.lengths[batch].max()) * len(batch) for batch in drawn)
    assert 1 - int(drawn.lengths.sum()) / longest < 0.1
    random = torch.randperm(len(drawn.lengths)).split(128)
    assert 1 - int(drawn.lengths.sum()) / sum(int(drawn.lengths[b].max()) * len(b) for b in random) > 0.4


def test_batches_are_mixed_and_come_in_random_order():
    drawn = batches()
    mean = torch.tensor([drawn.lengths[batch].float().mean() for batch in drawn])
    assert abs(np.corrcoef(mean, np.arange(len(mean)))[0, 1]) < 0.3


def test_two_processes_share_an_epoch():
    ranks = [list(batches(rank=rank, world_size=2)) for rank in (0, 1)]
    assert len(ranks[0]) == len(ranks[1]) == len(batches(world_size=2))
    first, second = (set(sum(rank, [])) for rank in ranks)
    assert not first & second
    assert len(first | second) > len(lengths_like_beauty()) - 2 * 128


def test_without_shuffling_samples_keep_their_order():
    assert sum(batches(shuffle=False), []) == list(range(len(lengths_like_beauty())))
