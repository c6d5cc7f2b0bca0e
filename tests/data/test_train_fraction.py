"""A fraction of the training part: what is kept, and that nothing else changes."""

import numpy as np
import pytest
from recbole.data import create_dataset, data_preparation

from recbole_gr.data.seen import interactions_of
from recbole_gr.integration.config import make_config
from recbole_gr.utils.errors import RecBoleGRError


def parts(small_part, tiny_settings, model="SASRec", **settings):
    name, data_path = small_part
    own = tiny_settings if model == "TIGER" else {"show_progress": False}
    config = make_config(model, name, config_dict={**own, "data_path": data_path, **settings})
    dataset = create_dataset(config)
    return config, [loader._dataset for loader in data_preparation(config, dataset)]


def rows(part):
    """User, target and the length of the history of each row, by tokens."""
    feat = part.inter_feat
    columns = [part.id2token(field, feat[field].numpy()).tolist() for field in (part.uid_field, part.iid_field)]
    return list(zip(*columns))


@pytest.mark.parametrize("model", ["TIGER", "SASRec", "BPR"])
def test_users_are_left_out_of_the_training_part_alone(small_part, tiny_settings, model):
    _, whole = parts(small_part, tiny_settings, model)
    _, half = parts(small_part, tiny_settings, model, train_fraction=0.5)
    kept = {user for user, _ in rows(half[0])}
    assert len(kept) == 30  # of 60
    assert rows(half[0]) == [row for row in rows(whole[0]) if row[0] in kept]
    for part, same in zip(half[1:], whole[1:]):
        assert rows(part) == rows(same)
        for left, right in zip(part.seen_items.of(np.arange(1, 61)), same.seen_items.of(np.arange(1, 61))):
            assert (left == right).all()


def test_a_smaller_fraction_is_part_of_a_larger_one_and_numbers_do_not_matter(small_part, tiny_settings):
    users = {}
    for fraction in (0.1, 0.3):
        for numbering in ("token", "file"):
            _, (train, *_) = parts(small_part, tiny_settings, train_fraction=fraction, numbering=numbering)
            users[fraction, numbering] = {user for user, _ in rows(train)}
    assert users[0.1, "token"] == users[0.1, "file"] < users[0.3, "token"] == users[0.3, "file"]
    _, (train, *_) = parts(small_part, tiny_settings, train_fraction=0.1, train_fraction_seed=1)
    assert {user for user, _ in rows(train)} != users[0.1, "token"]


def test_of_interactions(small_part, tiny_settings):
    _, (whole, *_) = parts(small_part, tiny_settings)
    config, (quarter, *_) = parts(small_part, tiny_settings, train_fraction=0.25, train_fraction_of="interactions")
    assert len(quarter.inter_feat) == round(len(whole.inter_feat) / 4)
    assert set(rows(quarter)) <= set(rows(whole))
    assert len(interactions_of(whole)[0]) > len(whole.inter_feat)  # which has no rows of first interactions


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"train_fraction": 0}, "train_fraction=0: must be a number above 0 and at most 1"),
        ({"train_fraction": 0.5, "mask_seen": "recbole"}, "mask_seen='recbole': must be True or False"),
    ],
)
def test_what_cannot_be(small_part, tiny_settings, settings, words):
    with pytest.raises(RecBoleGRError) as caught:
        parts(small_part, tiny_settings, **settings)
    assert words in str(caught.value) and "\n" not in str(caught.value)
