"""LETTER's tokenizer: its losses against plain loops, and that the CF vectors reach it, by item."""

import json
import os

import numpy as np
import pytest
import torch
from recbole.data import create_dataset
from support.points import normal

from recbole_gr.data.training_part import training_part
from recbole_gr.experiment.run import run
from recbole_gr.experiment.tokenize_dataset import tokenize_dataset
from recbole_gr.integration.config import make_config
from recbole_gr.tokenizers import Quantised, registry, tokenize
from recbole_gr.tokenizers.aligned_quantiser import (
    AligningAutoencoder,
    CodeClusters,
    contrastive_loss,
    diversity_loss,
    fitted_to_width,
)
from recbole_gr.tokenizers.quantiser import QuantisingAutoencoder, ResidualQuantiser
from recbole_gr.utils.errors import DataError, SettingError
from recbole_gr.vectors.cooccurrence import cooccurrence_vectors

#: The defaults of ``cf_model: svd``, but the dimension.
SVD = {"dimension": 5, "window": 5, "shift": 1.0, "seed": 2020}
SMALL = {"tokenizer_steps": 20, "tokenizer_batch_size": 64, "rqvae_hidden": (16,), "rqvae_latent": 6}


def negative_log_softmax(scores, right):
    scores = np.asarray(scores, dtype=np.float64)
    return np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[right]


def test_the_contrastive_loss_is_that_of_a_plain_loop():
    quantised, cf = normal(7, 4), normal(7, 4, seed=1)
    cf[[2, 5]] = 0  # items without
    known = [0, 1, 3, 4, 6]
    losses = [negative_log_softmax([quantised[i] @ cf[j] for j in known], place) for place, i in enumerate(known)]
    found = contrastive_loss(torch.from_numpy(quantised), torch.from_numpy(cf))
    assert float(found) == pytest.approx(np.mean(losses), abs=1e-5)
    assert float(contrastive_loss(torch.from_numpy(quantised), torch.zeros(7, 4))) == 0


def test_the_diversity_loss_is_that_of_a_plain_loop():
    codebook, code, other = normal(6, 4), [3, 0, 3, 5], [1, 2, 2, 0]
    losses = []
    for own, near in zip(code, other):
        rest = [k for k in range(6) if k != own]
        losses.append(negative_log_softmax([codebook[own] @ codebook[k] for k in rest], rest.index(near)))
    found = diversity_loss(torch.from_numpy(codebook), torch.tensor(code), torch.tensor(other))
    assert float(found) == pytest.approx(np.mean(losses), abs=1e-5)


@pytest.mark.parametrize("codes, n_clusters", [(32, 4), (33, 4), (8, 10), (5, 2)])
def test_clusters_are_even_and_another_code_of_each_is_drawn_at_random(codes, n_clusters):
    torch.manual_seed(0)
    clusters = CodeClusters(torch.from_numpy(normal(codes, 3)), n_clusters, seed=3)
    of_code = clusters.of_code
    expected = max(1, min(n_clusters, codes // 2))
    assert of_code.max() < expected and np.bincount(of_code).max() <= -(-codes // expected)
    code = torch.arange(codes).repeat(200)
    drawn = clusters.others(code).numpy()
    assert (of_code[drawn] == of_code[code]).all()
    for one in range(codes):
        mates = set(np.flatnonzero(of_code == of_code[one])) - {one}
        assert set(drawn[code == one]) == (mates or {one})


def test_without_its_weights_it_is_the_rqvae():
    """The same weights, the same batch: only the two losses are added."""
    vectors, cf = torch.from_numpy(normal(40, 12)), torch.from_numpy(normal(40, 4, seed=1))

    def model(alignment, diversity):
        torch.manual_seed(0)
        quantiser = ResidualQuantiser(3, 8, 4)
        options = {"alignment": alignment, "diversity": diversity, "n_clusters": 2, "clustering_steps": 5, "seed": 0}
        made = AligningAutoencoder(quantiser, [12, 8, 4], "straight_through", 0.25, **options)
        for level in range(3):
            torch.nn.init.normal_(quantiser.codebooks[level])
        return made

    torch.manual_seed(0)
    plain = QuantisingAutoencoder(ResidualQuantiser(3, 8, 4), [12, 8, 4], "straight_through", 0.25)
    plain.load_state_dict(model(0, 0).state_dict())
    base = plain.loss(vectors, range(3))
    assert torch.allclose(model(0, 0).loss(vectors, range(3), cf), base)
    both = model(0.3, 0.2)
    loss = both.loss(vectors, range(3), cf)
    quantised = plain.quantiser(plain.encoder(vectors), range(3))[0]
    added = 0.3 * contrastive_loss(quantised, cf) + 0.2 * both.last["diversity_loss"]
    assert torch.allclose(loss, base + added / 12)
    loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in both.parameters())


def test_alignment_makes_the_codes_agree_with_the_cf_vectors():
    """Text that says little of the groups that users make of the items: codes know them the better, the higher the weight."""
    rng = np.random.default_rng(0)
    group = rng.integers(8, size=300)
    cf = np.zeros((301, 5), dtype=np.float32)
    cf[1:] = rng.normal(size=(8, 5))[group] + 0.05 * rng.normal(size=(300, 5))
    text = np.zeros((301, 10), dtype=np.float32)
    text[1:] = 0.6 * rng.normal(size=(8, 10))[group] + rng.normal(size=(300, 10))

    def agreement(weight):
        settings = {**SMALL, "tokenizer_steps": 400, "tokenizer_learning_rate": 0.005, "rqvae_hidden": (32,)}
        ids = tokenize(text, "letter", 2, 8, "none", cf_vectors=cf, alignment_weight=weight, **settings)
        same = ids.codes[1:, None, 0] == ids.codes[None, 1:, 0]
        np.fill_diagonal(same, False)
        return same[group[:, None] == group].sum() / same.sum(), ids.source["training"]["last_contrastive_loss"]

    (without, loss_without), (aligned, loss_aligned) = agreement(0.0), agreement(2.0)
    assert aligned > 1.3 * without and loss_aligned < loss_without - 0.5


def test_cf_vectors_get_the_width_of_what_is_quantised():
    rows = normal(20, 6)
    rows[4] = 0
    known = np.delete(np.arange(20), 4)
    centred = rows[known] - rows[known].mean(axis=0)
    wide = fitted_to_width(rows, 9)
    assert not wide[4].any() and not wide[:, 6:].any()
    assert np.square(wide[known]).sum() == pytest.approx(9 * 19, rel=1e-5)
    np.testing.assert_allclose(
        np.corrcoef((wide @ wide.T)[np.ix_(known, known)].ravel(), (centred @ centred.T).ravel())[0, 1], 1
    )
    narrow = fitted_to_width(rows, 2)
    assert narrow.shape == (20, 2) and narrow.dtype == np.float32
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    best = (left[:, :2] * values[:2]) @ (left[:, :2] * values[:2]).T
    found = narrow[known] @ narrow[known].T
    np.testing.assert_allclose(found / np.trace(found), best / np.trace(best), atol=1e-5)


def test_a_tokenizer_without_cf_vectors_is_one_line():
    vectors = np.concatenate([np.zeros((1, 5)), normal(20, 5)]).astype("f")
    with pytest.raises(SettingError, match=r"tokenizer='letter': needs CF vectors of the same 21 items, .* there are none$"):
        tokenize(vectors, "letter", 2, 4)
    with pytest.raises(SettingError, match=r"needs CF vectors of the same 21 items, \[n_items, d\]; not \[20, 5\]$"):
        tokenize(vectors, "letter", 2, 4, cf_vectors=vectors[1:])
    with pytest.raises(DataError, match="the CF vectors of all items are zeros"):
        tokenize(vectors, "letter", 2, 4, cf_vectors=np.zeros_like(vectors))
    bad = vectors.copy()
    bad[3, 1] = np.nan
    with pytest.raises(DataError, match=r"^of the CF vectors, the vectors of 1 items \(3\) are NaN"):
        tokenize(vectors, "letter", 2, 4, cf_vectors=bad)


def letter_ids(given, **more):
    made = tokenize_dataset("small", config_dict={**given, "tokenizer": "letter", **more}, output_dir="out")
    with open(made["semantic_ids"]) as file:
        return json.load(file), made["measures"]


def small_settings(tiny_settings):
    keys = ("data_path", "item_vector_file", "cache_dir", "codebook_size", "show_progress")
    steps = {**SMALL, "rqvae_hidden": [16], "cf_dimension": 5}
    return {**{key: tiny_settings[key] for key in keys}, **steps}


def test_a_run_makes_its_cf_vectors_and_keeps_the_codes_under_them(tiny_settings):
    given = small_settings(tiny_settings)
    first, _ = letter_ids(given)
    kept = set(os.listdir(given["cache_dir"]))
    again, _ = letter_ids(given)
    assert again == first and set(os.listdir(given["cache_dir"])) == kept
    others, _ = letter_ids(given, cf_window=1)
    assert others != first and len(set(os.listdir(given["cache_dir"])) - kept) == 2  # the CF vectors and the codes


def test_each_item_gets_its_own_cf_vector(tiny_settings, monkeypatch):
    """What the tokenizer is given is the CF vector of the item that the row of the vectors is of, by token."""
    given, seen = small_settings(tiny_settings), {}
    config = make_config("TIGER", "small", config_dict={**given, "tokenizer": "letter", "cache_dir": None})

    def spy(vectors, codebook_num, codebook_size, *, cf_vectors):
        seen.update(vectors=vectors, cf=cf_vectors)
        return Quantised(np.zeros((len(vectors), codebook_num), dtype=np.int32))

    monkeypatch.setitem(registry._TOKENIZERS, "letter", spy)
    dataset = create_dataset(config)
    part = training_part(dataset)
    by_token = dict(zip(part.item_tokens, cooccurrence_vectors(part.items, part.first, len(part.item_tokens), **SVD)))
    with np.load(tiny_settings["item_vector_file"]) as file:
        text_of = dict(zip(file["item_id"], file["vectors"]))
    tokens = dataset.field2id_token["item_id"][1:].astype(str)
    assert (seen["vectors"] == [text_of[token] for token in tokens]).all()
    assert (seen["cf"] == [by_token.get(token, np.zeros(5)) for token in tokens]).all()


def test_a_record_says_which_cf_vectors_shaped_the_codes(tiny_settings):
    given = {**tiny_settings, **small_settings(tiny_settings), "epochs": 1, "tokenizer": "letter"}
    with open(run("TIGER", "small", config_dict=given)["record"]) as file:
        source = json.load(file)["semantic_ids"]["source"]
    assert source["cf_model"] == "svd" and source["cf_dimension"] == 5 and source["item_vectors"] == "text"
    assert source["alignment_weight"] == 0.02 and source["training"]["last_contrastive_loss"] > 0


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"cf_checkpoint": "none.pth"}, "cf_checkpoint='none.pth'.*there is no such file"),
        ({"cf_model": "Pop2"}, "cf_model='Pop2'"),
        ({"alignment_weight": -1.0}, "alignment_weight=-1.0.*must be a number at least 0"),
        ({"code_clusters": 0}, "code_clusters=0.*must be a whole number of at least 1"),
    ],
)
def test_what_cannot_work_is_one_line_before_any_work(tiny_settings, settings, words):
    with pytest.raises(SettingError, match=words) as raised:
        letter_ids(small_settings(tiny_settings), **settings)
    assert "\n" not in str(raised.value)


def test_a_checkpoint_gives_its_embeddings(tiny_settings, small_part):
    sizes = {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "n_heads": 1, "epochs": 1}
    shared = {"data_path": tiny_settings["data_path"], "show_progress": False}
    checkpoint = run("SASRec", "small", config_dict={**shared, **sizes})["checkpoint"]
    given = small_settings(tiny_settings)
    given.pop("cf_dimension")
    by_svd, _ = letter_ids(given)
    by_checkpoint, _ = letter_ids(given, cf_checkpoint=checkpoint)
    assert by_checkpoint.keys() == by_svd.keys() and by_checkpoint != by_svd
