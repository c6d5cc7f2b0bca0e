"""HSTU: a plain loop over heads and positions is the reference."""

import math
import os

import numpy as np
import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_trainer, init_seed
from support.atomic import read_atomic

from recbole_gr.experiment.run import run
from recbole_gr.integration.config import make_config
from recbole_gr.models.hstu.network import HSTUNetwork, bucket_of

OPTIONS = {"n_layers": 2, "n_heads": 2, "longest": 9, "dropout": 0.5, "attention_dropout": 0.2, "eps": 1e-6, "std": 0.5}


def silu(x):
    return x / (1 + np.exp(-x))


def normed(x, eps):
    return (x - x.mean()) / np.sqrt(x.var() + eps)


def reference(network, embedded, times):
    """The states after the items of one history: embedded ``[t, d]``, times int ``[t]`` or None."""
    weight = {name: value.detach().double().numpy() for name, value in network.state_dict().items()}
    t, d = embedded.shape
    hidden = [embedded[i] * math.sqrt(d) + weight["position_embedding.weight"][i] for i in range(t)]
    for number, layer in enumerate(network.layers):
        own = {name.split(".", 2)[2]: value for name, value in weight.items() if name.startswith(f"layers.{number}.")}
        size = d // layer.n_heads
        gates, values, queries, keys = [], [], [], []
        for x in hidden:
            gate, value, query, key = np.split(silu(own["projection.weight"] @ normed(x, layer.eps)), 4)
            gates.append(gate), values.append(value), queries.append(query), keys.append(key)
        after = []
        for i in range(t):
            attended = np.zeros(d)
            for head in range(layer.n_heads):
                part = slice(head * size, (head + 1) * size)
                for j in range(i + 1):
                    bias = own["position_bias"][i - j]
                    if times is not None:
                        elapsed = max(1, abs(int(times[i]) - int(times[j])))
                        bias += own["time_bias"][min(int(math.log(elapsed) / 0.301), network.time_buckets - 1)]
                    attended[part] += silu(queries[i][part] @ keys[j][part] + bias) / layer.longest * values[j][part]
            gated = normed(attended, layer.eps) * gates[i]
            after.append(hidden[i] + own["output.weight"] @ gated + own["output.bias"])
        hidden = after
    return np.stack(hidden)


@pytest.mark.parametrize("time_buckets", [0, 1, 40])
def test_states_are_those_of_a_plain_loop(time_buckets):
    torch.manual_seed(0)
    network = HSTUNetwork(8, time_buckets=time_buckets, **OPTIONS).eval()
    embedded = torch.randn(3, 7, 8)
    times = torch.tensor([3, 50, 86_400 * 30, 7]).repeat(6)[: 3 * 7].view(3, 7).cumsum(1) + 1_300_000_000
    with torch.no_grad():
        found = network(embedded, times if time_buckets else None)
    for row in range(3):
        expected = reference(network, embedded[row].double().numpy(), times[row].numpy() if time_buckets else None)
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("time_bias", [True, False])
def test_a_trained_model_ranks_as_the_plain_loop(small_part, time_bias):
    given = {"data_path": small_part[1], "show_progress": False, "epochs": 4, "learning_rate": 0.02, "warmup_steps": 2}
    given.update(hidden_size=8, MAX_ITEM_LIST_LENGTH=6, train_batch_size=128, time_bias=time_bias)
    config = make_config("HSTU", "small", config_dict=given)
    init_seed(1, True)
    train, _, test = data_preparation(config, create_dataset(config))
    model = config.model_class(config, train._dataset)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    get_trainer(config["MODEL_TYPE"], "HSTU")(config, model).fit(train, saved=False, show_progress=False)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == before.keys() and any("time_bias" in name for name in changed) == time_bias
    interaction = next(iter(test))[0]
    scores = model.eval().full_sort_predict(interaction)
    items = model.item_embedding.weight.detach().double().numpy()
    for row in range(0, len(interaction), 9):
        length = int(interaction["item_length"][row])
        history = interaction["item_id_list"][row, :length].numpy()
        times = interaction["timestamp_list"][row, :length].numpy() if time_bias else None
        expected = items[1:] @ reference(model.network, items[history], times)[-1]
        np.testing.assert_allclose(scores[row, 1:].numpy(), expected, atol=1e-4, rtol=1e-3)


def test_buckets_by_hand():
    elapsed = torch.tensor([0, 1, -1, 2, 60, -86_400, 10**18])
    assert bucket_of(elapsed, 64).tolist() == [0, 0, 0, 2, 13, 37, 63]
    assert bucket_of(elapsed, 10).tolist() == [0, 0, 0, 2, 9, 9, 9]


def exact_times(small_part):
    """Of each user, the times of the items in their order, and the items."""
    table = read_atomic(os.path.join(small_part[1], "small", "small.inter"))
    table["time"] = table["timestamp:float"].astype(float)
    table = table.iloc[table["time"].argsort(kind="stable")]
    return {user: rows for user, rows in table.groupby("user_id:token")}


@pytest.mark.parametrize("positions", ["all", "last"])
def test_histories_bring_the_exact_times_of_their_items(small_part, positions):
    given = {"data_path": small_part[1], "MAX_ITEM_LIST_LENGTH": 7, "loss_positions": positions, "time_bias": True}
    config = make_config("HSTU", "small", config_dict=given)
    loaders = data_preparation(config, create_dataset(config))
    dataset, files = loaders[0]._dataset, exact_times(small_part)
    time_of = {
        (dataset.token2id("user_id", user), dataset.token2id("item_id", item)): int(time)
        for user, rows in files.items()
        for item, time in zip(rows["item_id:token"], rows["time"])
    }
    seen = set()
    for batch in [*loaders[0], *(batch[0] for loader in loaders[1:] for batch in loader)]:
        assert batch["timestamp_list"].dtype == torch.int64
        for row in range(len(batch)):
            user, length = int(batch["user_id"][row]), int(batch["item_length"][row])
            items, times = batch["item_id_list"][row].tolist(), batch["timestamp_list"][row].tolist()
            assert [time_of[user, item] for item in items[:length]] == times[:length] and not any(times[length:])
            seen |= {(user, item) for item in items[:length]}
    assert len(seen) == len(time_of) - len(files)  # all but each user's last
    assert any(int(np.float32(time)) != time for time in time_of.values())


def test_with_shuffled_ties_times_say_no_more_than_the_interval(small_part):
    given = {"data_path": small_part[1], "tie_order": "shuffled", "tie_interval": 86_400}
    config = make_config("HSTU", "small", config_dict=given)
    times = data_preparation(config, create_dataset(config))[0]._dataset.time_sequence
    assert not (times % 86_400).any() and len(times.unique()) > 5


def test_times_without_units_are_one_line(small_part):
    path = os.path.join(small_part[1], "small", "small.inter")
    table = read_atomic(path)
    time = table["timestamp:float"].astype(float)
    table["timestamp:float"] = ((time - time.min()) / (2.1 * (time.max() - time.min()))).astype(str)
    table.to_csv(path, sep="\t", index=False)
    given = {"data_path": small_part[1], "show_progress": False, "epochs": 1, "hidden_size": 8}
    words = (
        "^the values of column 'timestamp' of small are all one when rounded; time_bias=True needs whole units, such as sec"
    )
    with pytest.raises(ValueError, match=words):
        run("HSTU", "small", config_dict=given)
    assert run("HSTU", "small", config_dict={**given, "time_bias": False})["test_result"]


def test_files_that_are_split_already_bring_no_times(small_part):
    given = {"data_path": small_part[1], "benchmark_filename": ["a", "b", "c"], "loss_positions": "last"}
    with pytest.raises(
        ValueError, match="time_bias=True: must be False with benchmark_filename, whose histories bring no exact"
    ):
        run("HSTU", "small", config_dict={**given, "mask_seen": "recbole"})
