"""A sample of users: who is in it, what they bring, and that nothing else changes."""

import numpy as np
import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed

from recbole_gr.data.user_sample import count_users, sample_of_users
from recbole_gr.integration.config import make_config

RATIO = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "mode": "full"}
SAMPLED = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni7"}


def valid_loader(settings, **more):
    config = make_config("TIGER", "small", config_dict={**settings, "eval_batch_size": 16, **more})
    init_seed(config["seed"], config["reproducibility"])
    return data_preparation(config, create_dataset(config))[1]


def rows_of(loader):
    """User, target and history of every ranking that a loader brings, in order."""
    found = []
    for interaction, _, _, positive_i in loader:
        if len(positive_i) < len(interaction):  # a user's target, and then the sampled items
            interaction = interaction[torch.nonzero(interaction["label"] == 1).squeeze(1)]
        lengths = interaction["item_length"].tolist()
        histories = [tuple(row[:length]) for row, length in zip(interaction["item_id_list"].tolist(), lengths)]
        found += list(zip(interaction["user_id"].tolist(), positive_i.tolist(), histories))
    return found


@pytest.mark.parametrize("eval_args", [None, RATIO, SAMPLED], ids=["leave one out", "ratio", "sampled"])
def test_it_brings_what_its_users_have_and_nothing_else(tiny_settings, eval_args):
    loader = valid_loader(tiny_settings, **({"eval_args": eval_args} if eval_args else {}))
    everything = rows_of(loader)
    sample = sample_of_users(loader, 13, seed=5)
    found = rows_of(sample)
    users = {user for user, *_ in found}
    assert type(sample) is type(loader) and len(users) == 13 == count_users(sample)
    assert count_users(loader) == len({user for user, *_ in everything}) == 60
    assert found == [row for row in everything if row[0] in users]
    assert (len(found) > 13) == (eval_args is RATIO)


def test_the_seed_decides_who_is_in_it(tiny_settings):
    loader = valid_loader(tiny_settings)

    def users(n_users, seed):
        return set(sample_of_users(loader, n_users, seed)._dataset.inter_feat["user_id"].tolist())

    assert users(20, 1) == users(20, 1) != users(20, 2)
    drawn = np.concatenate([sorted(users(20, seed)) for seed in range(60)])
    counts = np.bincount(drawn, minlength=61)[1:]  # 60 users, each in a third of the samples
    assert counts.sum() == 1200 and 5 <= counts.min() and counts.max() <= 35
    assert sample_of_users(loader, 60, 1) is loader is sample_of_users(loader, 99, 1)


def test_nothing_is_drawn_for_it(tiny_settings):
    for more in ({}, {"eval_args": SAMPLED}):
        loader = valid_loader(tiny_settings, **more)
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), loader.generator.get_state()
        sample_of_users(loader, 9, 1)
        after = torch.get_rng_state(), np.random.get_state()[1], loader.generator.get_state()
        assert all(np.array_equal(one, other) for one, other in zip(before, after))
