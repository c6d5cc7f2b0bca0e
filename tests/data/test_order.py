"""The order of interactions in time: at 8.8e8 seconds neighbouring float32 values are 64 seconds apart."""

import numpy as np
import pytest
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.dataset import Dataset
from recbole.utils import init_seed

from recbole_gr.data.dataset import HistoryDataset
from recbole_gr.data.order import begin_of_interval

EPOCH = 880_000_000


@pytest.fixture
def shop(tmp_path):
    """Writes a dataset whose file is not in the order of time; returns settings that load it."""
    folder = tmp_path / "data" / "shop"
    folder.mkdir(parents=True)

    def write(rows):
        lines = [f"{user}\t{item}\t{time}" for user, item, time in rows]
        (folder / "shop.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(lines) + "\n")
        return {"data_path": str(tmp_path / "data"), "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}

    return write


def last_items(model, settings):
    """The test item of each user, by token."""
    protocol = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO"}, "normalize_all": False}
    config = Config(model, "shop", config_dict={**protocol, **settings, "train_neg_sample_args": None})
    dataset = HistoryDataset(config) if model == "TIGER" else create_dataset(config)
    test = dataset.build()[2].inter_feat
    users, items = (dataset.id2token(field, test[field].numpy()) for field in ("user_id", "item_id"))
    return dict(zip(users, items))


ROWS = [("u", "d", EPOCH + 5), ("u", "a", EPOCH), ("u", "c", EPOCH + 4), ("u", "b", EPOCH + 2)]


MODELS = ["SASRec", "BPR", "TIGER"]


@pytest.mark.parametrize("model", MODELS)
def test_the_true_order_decides(shop, model):
    assert last_items(model, {**shop(ROWS), "timestamp_order": "exact"}) == {"u": "d"}
    assert last_items(model, {**shop(ROWS), "timestamp_order": "recbole"}) == {"u": "b"}
    assert last_items(model, shop(ROWS)) == {"u": "d"}


@pytest.mark.parametrize("model", MODELS)
def test_true_ties_stay_in_the_order_of_the_file(shop, model):
    rows = [("u", "d", EPOCH + 1), ("u", "c", EPOCH + 1), ("u", "b", EPOCH + 1), ("u", "a", EPOCH)]
    assert last_items(model, shop(rows)) == {"u": "b"}
    tied = [("u", f"i{n}", EPOCH + n % 2) for n in range(500)]
    assert last_items(model, shop(tied)) == {"u": "i499"}


@pytest.mark.parametrize("model", MODELS)
def test_times_that_are_a_numerical_feature(shop, model):
    settings = {**shop(ROWS), "numerical_features": ["timestamp"]}
    assert last_items(model, settings) == {"u": "d"}
    assert last_items(model, {**settings, "timestamp_order": "recbole"}) == {"u": "b"}


@pytest.mark.parametrize("model", MODELS)
def test_normalised_times(shop, model):
    rows = [("v", item, 0) for item in "abcd"] + ROWS
    settings = {**shop(rows), "normalize_all": True}
    assert last_items(model, settings)["u"] == "d"
    assert last_items(model, {**settings, "timestamp_order": "recbole"})["u"] == "b"


def test_full_histories_are_in_the_order_of_time(shop):
    rng = np.random.default_rng(0)
    rows = [(f"u{user}", f"i{rng.integers(9)}", EPOCH + int(t)) for user in range(5) for t in rng.permutation(20)]
    settings = {**shop(rows), "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO"}, "normalize_all": False}
    dataset = create_dataset(Config("SASRec", "shop", config_dict={**settings, "train_neg_sample_args": None}))
    test = dataset.build()[2]
    fields = ("user_id", "item_id_list", "item_length", "item_id")
    for user, history, length, item in zip(*(test.inter_feat[field] for field in fields)):
        name = dataset.id2token("user_id", int(user))
        expected = [i for _, i in sorted((t, i) for u, i, t in rows if u == name)]
        found = [*history[: int(length)], item]
        assert dataset.id2token("item_id", found).tolist() == expected


def test_a_random_split_is_left_alone(shop):
    settings = {**shop(ROWS * 5), "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO"}}
    dataset = create_dataset(Config("BPR", "shop", config_dict=settings))
    dataset._change_feat_format()
    assert dataset.id2token("item_id", dataset.inter_feat["item_id"]).tolist() == [item for _, item, _ in ROWS * 5]


def random_split(settings):
    dataset = create_dataset(Config("BPR", "shop", config_dict=settings))
    init_seed(7, True)
    fields = ("user_id", "item_id", "timestamp")
    return [[part.inter_feat[field].tolist() for field in fields] for part in dataset.build()]


def test_a_random_split_is_plain_recboles(shop, monkeypatch):
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{rng.integers(9)}", EPOCH + rng.integers(50)) for u in range(5) for _ in range(20)]
    settings = {**shop(rows), "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": "user"}}
    ours = random_split(settings)
    monkeypatch.setattr(Dataset, "_change_feat_format", Dataset._change_feat_format.__wrapped__)
    assert ours == random_split(settings) and [len(part[0]) for part in ours] == [60, 20, 20]


DAY = 86400
TIES = [("u", f"i{n}", EPOCH) for n in range(40)] + [("u", "first", EPOCH - 90)]


def histories(model, settings):
    """Per user all items in the order that the model's splits see, by token."""
    protocol = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO"}, "normalize_all": False}
    config = Config(model, "shop", config_dict={**protocol, **settings, "train_neg_sample_args": None})
    dataset = create_dataset(config)
    dataset.build()
    feat = dataset.inter_feat
    tokens = dataset.id2token("item_id", feat["item_id"].numpy())
    if model == "BPR":
        return list(tokens)
    longest = feat["item_id_list"][feat["item_length"].argmax()].numpy()
    return [*dataset.id2token("item_id", longest[longest > 0]), tokens[feat["item_length"].argmax()]]


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_ties_in_random_order(shop, model):
    """Every model sees the same order, drawn by the seed; what does not share a timestamp stays where it is."""
    settings = {**shop(TIES), "tie_order": "shuffled", "tie_seed": 7, "tie_interval": 0}
    expected = [TIES[row][1] for row in np.random.default_rng(7).permutation(41) if row < 40]
    assert histories(model, settings) == ["first", *expected]
    assert histories(model, {**settings, "tie_seed": 8}) != ["first", *expected]
    assert histories(model, {**settings, "tie_order": "file"}) == ["first", *(f"i{n}" for n in range(40))]


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_times_of_one_day_as_ties(shop, model):
    """Seconds within a day only say the place in the file: shuffled they must not come back by RecBole's own sort."""
    day = EPOCH // DAY * DAY
    rows = [("u", f"i{n}", day + 1000 * n) for n in range(40)] + [("u", "next", day + DAY)]
    settings = {**shop(rows), "tie_order": "shuffled", "tie_seed": 7, "tie_interval": DAY}
    expected = [rows[row][1] for row in np.random.default_rng(7).permutation(41) if row < 40]
    assert histories(model, settings) == [*expected, "next"]
    untied = {**settings, "tie_interval": 0}
    assert histories(model, untied) == [*(f"i{n}" for n in range(40)), "next"]


def test_begin_of_interval():
    assert begin_of_interval(np.array([0.0, 9.0, 10.0, 25.5]), 10).tolist() == [0, 0, 10, 20]
    assert begin_of_interval(np.array([0.0, 9.0, 25.5]), 0).tolist() == [0, 9, 25.5]


def test_ties_of_a_numerical_time(shop):
    """RecBole holds the values of ``numerical_features`` in lists."""
    settings = {
        **shop(TIES),
        "numerical_features": ["timestamp"],
        "tie_order": "shuffled",
        "tie_seed": 7,
        "tie_interval": 10,
    }
    expected = [TIES[row][1] for row in np.random.default_rng(7).permutation(41) if row < 40]
    assert last_items("BPR", settings) == {"u": expected[-1]}
