"""What TIGER reads beside the codes, and its softmax over the catalogue."""

import json

import numpy as np
import pytest
import torch
from recbole.data import create_dataset, data_preparation

from recbole_gr.experiment.run import run
from recbole_gr.integration.config import make_config
from recbole_gr.models.tiger.dense_head import DenseHead
from recbole_gr.models.tiger.injection import ItemInjection
from recbole_gr.utils.errors import SettingError

SMALL = {"history_position": "auto", "d_model": 16, "n_heads": 2, "d_kv": 8, "d_ff": 32, "train_batch_size": 256}


def vectors(items=7, dimension=5, seed=0):
    rows = np.random.default_rng(seed).normal(3, 2, (items, dimension)).astype(np.float32)
    rows[[0, 4]] = 0  # the padding item, and one without
    return torch.from_numpy(rows)


def test_vectors_are_centred_and_scaled_and_added_after_an_mlp():
    torch.manual_seed(0)
    rows = vectors()
    injection = ItemInjection({"text": rows, "cf": vectors(dimension=3, seed=1)}, 6, n_items=7, embedding_dropout=0.5).eval()
    known = rows[rows.abs().sum(1) > 0].numpy()
    scaled = (known - known.mean(0)) / np.sqrt(np.square(known - known.mean(0)).mean())
    kept = injection.get_buffer("text_vectors")
    np.testing.assert_allclose(kept[rows.abs().sum(1) > 0], scaled, atol=1e-6)
    assert not kept[[0, 4]].any()

    items = torch.tensor([[1, 4, 0], [6, 6, 2]])
    made = injection(items)
    for row, column in np.ndindex(2, 3):
        item = items[row, column]
        expected = injection.embedding.weight[item].clone()
        for name in ("text", "cf"):
            first, _, second = injection.adapters[name]
            inner = torch.relu(first.weight @ injection.get_buffer(f"{name}_vectors")[item] + first.bias)
            expected += second.weight @ inner
        torch.testing.assert_close(made[row, column], expected)


def test_embeddings_are_dropped_as_a_whole():
    torch.manual_seed(0)
    injection = ItemInjection({}, 8, n_items=4, embedding_dropout=0.25).train()
    torch.nn.init.ones_(injection.embedding.weight)
    made = injection(torch.ones(100, 400, dtype=torch.long))
    per_item = made.unique(dim=-1)
    assert per_item.shape[-1] == 1  # all elements of a position alike
    assert per_item.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float((per_item == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert torch.equal(injection.eval()(torch.tensor([[1]])), torch.ones(1, 1, 8))


def test_the_dense_loss_is_the_cross_entropy_over_all_items_but_padding():
    torch.manual_seed(0)
    head, states, items = DenseHead(6, 9), torch.randn(5, 6), torch.tensor([1, 8, 3, 3, 2])
    torch.nn.init.normal_(head.embedding.weight)
    logits = (states @ head.embedding.weight.T).detach().numpy().astype(np.float64)[:, 1:]
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -log_probs[np.arange(5), items.numpy() - 1]
    assert float(head.loss(states, items)) == pytest.approx(expected.mean(), abs=1e-5)
    np.testing.assert_allclose(head.log_probs(states)[:, 1:].detach(), log_probs, atol=1e-5)


def prepared(small_part, tiny_settings, **settings):
    config = make_config("TIGER", "small", config_dict={**tiny_settings, **SMALL, **settings})
    loaders = data_preparation(config, create_dataset(config))
    torch.manual_seed(0)
    return config.model_class(config, loaders[0]._dataset).eval(), loaders


@pytest.mark.parametrize("architecture", ["encoder_decoder", "decoder_only", "temporal_depth"])
def test_every_item_of_a_history_counts_by_what_is_injected(small_part, tiny_settings, architecture):
    model, (_, _, test) = prepared(
        small_part, tiny_settings, architecture=architecture, inject="cf", item_embedding=True, cf_dimension=4
    )
    interaction = next(iter(test))[0][:3]
    rows, items = torch.arange(3), torch.arange(1, 6).expand(3, -1)
    before = model.log_likelihood(interaction, rows, items)
    for change in (model.injection.embedding.weight, model.injection.get_buffer("cf_vectors")):
        with torch.no_grad():
            change[interaction["item_id_list"][0, 0]] += 1  # the first item of the first user
        after = model.log_likelihood(interaction, rows, items)
        assert not torch.allclose(after[0], before[0], atol=1e-6)
        before = after


def test_beams_are_reranked_by_the_dense_softmax(small_part, tiny_settings):
    model, (_, _, test) = prepared(small_part, tiny_settings, dense_weight=1.0, rerank_weight=0.7)
    with torch.no_grad():
        model.dense_head.embedding.weight.normal_()
    interaction = next(iter(test))[0][:4]
    rows, items = torch.arange(4), torch.arange(1, model.n_items).expand(4, -1)
    reranked, exact = model.rank(interaction).dense(), model.log_likelihood(interaction, rows, items)
    model.rerank_weight = 0.0
    by_codes = model.log_likelihood(interaction, rows, items)
    history = model.read_history(interaction)
    dense = model.dense_head.log_probs(model.network.states(model.network.encode(history))[:, 0])[:, 1:]
    torch.testing.assert_close(exact, by_codes + 0.7 * dense, atol=1e-5, rtol=0)
    found = reranked[:, 1:] > -torch.inf
    assert found.sum(1).min() >= 10
    torch.testing.assert_close(reranked[:, 1:][found], exact[found], atol=1e-4, rtol=0)
    assert torch.equal(model.rank(interaction).dense()[:, 1:] > -torch.inf, found)  # the beams are those without it
    every = interaction.repeat_interleave(items.shape[1])
    every.update(type(every)({"item_id": items.flatten()}))
    model.rerank_weight = 0.7
    torch.testing.assert_close(model.predict(every).view(4, -1), exact, atol=1e-4, rtol=0)


def test_a_record_says_what_a_certificate_is_about(small_part, tiny_settings):
    given = {**tiny_settings, **SMALL, "dense_weight": 1.0, "rerank_weight": 1.0, "inject": "cf", "cf_dimension": 4}
    with open(run("TIGER", "small", config_dict=given)["record"]) as file:
        assert "before they are re-ranked" in json.load(file)["test_rankings"]["of"]


def test_reranking_needs_a_dense_softmax(small_part, tiny_settings):
    with pytest.raises(SettingError, match="^rerank_weight=0.5: needs a dense_weight above 0"):
        make_config("TIGER", "small", config_dict={**tiny_settings, "rerank_weight": 0.5})
