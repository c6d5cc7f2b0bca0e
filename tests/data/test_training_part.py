"""The training part of a dataset that is not split yet, against RecBole's own split of it."""

import numpy as np
import pytest
import torch
from recbole.data import create_dataset

from recbole_gr.data.dataset import HistoryDataset
from recbole_gr.data.training_part import training_part
from recbole_gr.integration.config import make_config

SPLITS = {
    "leave one out": {"split": {"LS": "valid_and_test"}},
    "test only": {"split": {"LS": "test_only"}},
    "by ratio of each user": {"split": {"RS": [0.6, 0.2, 0.2]}},
    "by ratio of all, in time": {"split": {"RS": [0.5, 0.2, 0.3]}, "group_by": None},
}


def config_of(small_part, **settings):
    name, data_path = small_part
    return make_config("SASRec", name, config_dict={"data_path": data_path, **settings})


def recboles_histories(config):
    """By user token, the tokens of the history and target of each user's last training sample, as RecBole lays them out."""
    train = create_dataset(config).build()[0]
    feat = train.inter_feat
    histories = {}
    for user, items, length, target in zip(
        feat[train.uid_field], feat["item_id_list"], feat["item_length"], feat[train.iid_field]
    ):
        known = [*items[:length].tolist(), int(target)]
        tokens = list(train.id2token(train.iid_field, known))
        token = train.id2token(train.uid_field, int(user))
        histories[token] = max(histories.get(token, []), tokens, key=len)
    return histories


@pytest.mark.parametrize("split", SPLITS)
def test_it_is_what_recbole_trains_on(small_part, split):
    config = config_of(small_part, eval_args=SPLITS[split], MAX_ITEM_LIST_LENGTH=50)
    part = training_part(HistoryDataset(config))
    expected = recboles_histories(config)
    assert len(part.first) == len(expected) + 1
    got = [part.item_tokens[part.items[begin:end]].tolist() for begin, end in zip(part.first, part.first[1:])]
    assert got == [expected[token] for token in sorted(expected)]
    assert part.item_tokens.tolist() == sorted({item for history in expected.values() for item in history})


def test_short_histories_do_not_shorten_it(small_part):
    long, short = (training_part(HistoryDataset(config_of(small_part, MAX_ITEM_LIST_LENGTH=n))) for n in (50, 1))
    assert (long.items == short.items).all() and (long.first == short.first).all()


def test_the_dataset_stays_as_it_is(small_part):
    """Also with a column that RecBole drops when it splits."""
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    config = config_of(small_part, load_col=columns, unused_col={"inter": ["timestamp"]})
    touched, untouched = HistoryDataset(config), HistoryDataset(config)
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    training_part(touched)
    assert (torch.get_rng_state() == state[0]).all() and (np.random.get_state()[1] == state[1]).all()
    assert touched.inter_feat.equals(untouched.inter_feat)
    assert vars(touched).keys() == vars(untouched).keys() and touched.field2type == untouched.field2type
    for one, other in zip(touched.build(), untouched.build()):
        assert all((one.inter_feat[field] == other.inter_feat[field]).all() for field in other.inter_feat)
