"""Codes for new items, against plain loops over the codebooks and hand-worked collisions."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recbole_gr.tokenizers import Quantised, SemanticIDs, registry, tokenize
from recbole_gr.tokenizers.collision import append_digits_behind, recode_behind
from recbole_gr.tokenizers.extension import extend_semantic_ids
from recbole_gr.tokenizers.registry import find_encoder, tokenizer_names
from recbole_gr.utils.errors import DataError, SettingError
from recbole_gr.vectors.preparation import Preparation, centred, reduce_vectors

TRAINED = {"tokenizer_steps": 60, "tokenizer_batch_size": 64}
HIDDEN = {"rqvae_hidden": (16,), "rqvae_latent": 8}
FAMILIES = [
    ("rkmeans", {}),
    ("rkmeans", {"normalise_residual": False}),
    ("rvq", TRAINED),
    ("rvq", {**TRAINED, "codebook_update": "ema", "tokenizer_training": "layerwise"}),
    ("rqvae", {**TRAINED, **HIDDEN}),
    ("letter", {**TRAINED, **HIDDEN}),
    ("pq", {}),
    ("opq", {"opq_iterations": 3}),
    ("lsh", {}),
]


def vectors_of(n, seed=0, width=12):
    rows = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    return np.concatenate([np.zeros((1, width), np.float32), rows])


def tokens_of(n, name="i"):
    return np.array(["[PAD]", *(f"{name}{number}" for number in range(n))])


def made(tokenizer, settings, vectors, collision="none"):
    cf = {"cf_vectors": vectors_of(len(vectors) - 1, 5, 4)} if tokenizer == "letter" else {}
    tokens = tokens_of(len(vectors) - 1)
    return tokenize(vectors, tokenizer, 3, 16, collision, item_tokens=tokens, **cf, **settings)


def by_plain_loops(tokenizer, settings, ids, vectors):
    """Codes by what is kept, one item and one level at a time, in float64."""
    kept = {name: array.astype(np.float64) for name, array in ids.fitted.items()}
    codes = []
    for row in vectors[1:].astype(np.float64):
        if tokenizer == "lsh":
            sides = (row @ kept["normals"] > 0).reshape(3, 4)
            codes.append([sum(1 << place for place in range(4) if level[place]) for level in sides])
            continue
        if tokenizer in ("pq", "opq"):
            parts = np.split(kept.get("rotation", np.eye(12)) @ row, 3)
            pairs = zip(parts, kept["codebooks"], strict=True)
            codes.append([int(((part - codebook) ** 2).sum(axis=1).argmin()) for part, codebook in pairs])
            continue
        residual = row / kept.get("length", 1.0)
        layers = [name.removesuffix(".weight") for name in kept if name.endswith(".weight")]
        for number, layer in enumerate(layers):
            residual = kept[f"{layer}.weight"] @ residual + kept[f"{layer}.bias"]
            residual = residual if number + 1 == len(layers) else F.relu(torch.from_numpy(residual)).numpy()
        own = []
        for codebook in kept["codebooks"]:
            if tokenizer == "rkmeans" and settings.get("normalise_residual", True):
                residual = residual / np.linalg.norm(residual)
            own.append(int(((residual - codebook) ** 2).sum(axis=1).argmin()))
            residual = residual - codebook[own[-1]]
        codes.append(own)
    return np.array(codes)


@pytest.mark.parametrize(("tokenizer", "settings"), FAMILIES)
def test_new_items_get_the_codes_that_they_would_have_had(tokenizer, settings):
    ids = made(tokenizer, settings, vectors_of(150))
    ids.save("ids.npz")
    ids = SemanticIDs.load("ids.npz")
    # the items of the training, as if they were new, among others
    order = np.random.default_rng(1).permutation(150)
    both = np.concatenate([vectors_of(150)[:1], vectors_of(150)[1:][order], vectors_of(30, 3)[1:]])
    extended = extend_semantic_ids(ids, both, tokens_of(180, "new"))
    assert (extended.codes[:151] == ids.codes).all() and extended.codebook_sizes == ids.codebook_sizes
    assert (extended.codes[151:301] == ids.codes[1:][order]).all()
    assert (extended.codes[301:] == by_plain_loops(tokenizer, settings, ids, vectors_of(30, 3))).all()
    assert extended.item_tokens.tolist() == [*ids.item_tokens, *tokens_of(180, "new")[1:]]
    extended.save("more.npz")
    again = extend_semantic_ids(SemanticIDs.load("more.npz"), vectors_of(5, 4), tokens_of(5, "later"))
    assert again.n_items == 336 and again.source["extended_by"] == 185


def test_every_tokenizer_of_ours_is_tried_or_says_why_not():
    assert {name for name, _ in FAMILIES} | {"random"} == set(tokenizer_names())
    ids = made("rkmeans", {"kmeans_balanced": True}, vectors_of(40))
    with pytest.raises(SettingError, match="^kmeans_balanced=True: which code an item gets depends on all the others"):
        extend_semantic_ids(ids, vectors_of(2, 3), tokens_of(2, "new"))
    with pytest.raises(SettingError, match="^tokenizer='random': its codes know nothing of an item"):
        extend_semantic_ids(made("random", {}, vectors_of(40)), vectors_of(2, 3), tokens_of(2, "new"))


def test_a_tokenizer_of_another_package(monkeypatch):
    def signs(vectors, codebook_num, codebook_size, *, seed=2020):
        return Quantised((vectors[:, :codebook_num] > 0).astype(np.int32))

    monkeypatch.setitem(registry._TOKENIZERS, "signs_of_test", signs)
    with pytest.raises(SettingError, match="^tokenizer='signs_of_test': cannot give codes to new items"):
        find_encoder("signs_of_test")
    signs.encode = lambda vectors, fitted, settings: signs(vectors, settings["codebook_num"], settings["codebook_size"])
    ids = extend_semantic_ids(made("signs_of_test", {}, vectors_of(40)), vectors_of(3, 3), tokens_of(3, "new"))
    assert (ids.codes[41:] == (vectors_of(3, 3)[1:, :3] > 0)).all()


def test_digits_go_on_behind_those_that_are_taken():
    kept = np.array([[1, 2, 0], [1, 2, 1], [3, 3, 0], [4, 4, 5]])
    new = np.array([[1, 2], [7, 7], [1, 2], [4, 4], [7, 7], [3, 3]])
    digits = append_digits_behind(kept, new)
    assert digits.tolist() == [[1, 2, 2], [7, 7, 0], [1, 2, 3], [4, 4, 6], [7, 7, 1], [3, 3, 1]]


def test_nearest_leaves_old_codes_and_takes_the_nearest_that_is_free():
    codebook = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
    kept = np.array([[0, 0], [0, 2], [1, 1]])
    # of the new ones the first two collide with an old item, the next two with each other, the last has a free code
    codes = np.array([[0, 2], [0, 0], [2, 1], [2, 1], [1, 3]])
    residual = np.array([[2.4], [0.1], [1.2], [0.9], [3.0]], np.float32)
    quantised = Quantised(codes, residual, [codebook, codebook])
    found = recode_behind(kept, quantised, (4, 4), "nearest")
    assert found.tolist() == [[0, 3], [0, 1], [2, 2], [2, 1], [1, 3]]


@pytest.mark.parametrize("collision", ["digit", "nearest", "sinkhorn", "none"])
def test_each_collision_rule_holds_for_all_items_together(collision):
    ids = made("rkmeans", {}, vectors_of(100), collision)
    new = np.concatenate([vectors_of(100)[:31], vectors_of(20, 3)[1:]])
    extended = extend_semantic_ids(ids, new, tokens_of(50, "new"))
    assert (extended.codes[:101] == ids.codes).all()
    distinct = len(np.unique(extended.codes[1:], axis=0))
    assert distinct == 150 if collision != "none" else distinct < 125
    if collision == "none":
        assert (extended.codes[101:131] == ids.codes[1:31]).all()
    if collision == "digit":
        assert extended.codebook_sizes[-1] == extended.codes[:, -1].max() + 1
        assert (extended.codes[101:131, :3] == ids.codes[1:31, :3]).all()


def test_a_prefix_without_a_free_code_is_one_line():
    ids = tokenize(vectors_of(16), "rkmeans", 1, 16, "nearest", item_tokens=tokens_of(16))
    with pytest.raises(SettingError, match="^collision='nearest': 17 items share the prefix"):
        extend_semantic_ids(ids, vectors_of(1, 3), tokens_of(1, "new"))
    with pytest.raises(DataError, match="NaN or infinite"):
        extend_semantic_ids(ids, vectors_of(1, 3) * np.nan, tokens_of(1, "new"))


@pytest.mark.parametrize("options", [{"pca_dimension": 4}, {"whiten": True}, {"pca_dimension": 5, "whiten": True}])
def test_vectors_of_new_items_are_prepared_as_those_before(options):
    fitted = Preparation()
    before = reduce_vectors(vectors_of(60) + 2, **options, preparation=fitted)
    few = (vectors_of(60) + 2)[[0, 7, 3, 50]]
    after = reduce_vectors(few, **options, preparation=Preparation(fitted.arrays))
    np.testing.assert_allclose(after[1:], before[[7, 3, 50]], atol=1e-6)
    assert (reduce_vectors(vectors_of(60) + 2, **options) == before).all()
    mean = Preparation()
    whole = centred(vectors_of(60), mean, "text_mean")
    assert np.array_equal(centred(vectors_of(60)[[0, 9]], Preparation(mean.arrays), "text_mean"), whole[[0, 9]])
