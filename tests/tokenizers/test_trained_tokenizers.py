"""R-VQ and RQ-VAE, and how they are trained. References: numpy in float64, hand computation, scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from support.points import codebooks_of, normal, plain_loop

from recbole_gr.tokenizers import tokenize
from recbole_gr.tokenizers.families.rqvae import rqvae, rvq
from recbole_gr.tokenizers.measures import reconstruct
from recbole_gr.tokenizers.quantiser import QuantisingAutoencoder, ResidualQuantiser, Training, _batches, _place_codes, train
from recbole_gr.utils.errors import SettingError


def clustered(n=2000, d=16, seed=0):
    """Items around 20 centres, in each of which 10 finer ones lie: something for each of two levels to find."""
    rng = np.random.default_rng(seed)
    coarse, fine = rng.normal(size=(20, d)), 0.3 * rng.normal(size=(10, d))
    rows = coarse[rng.integers(20, size=n)] + fine[rng.integers(10, size=n)] + 0.05 * rng.normal(size=(n, d))
    return rows.astype(np.float32)


# --- training


def how(**changes):
    settings = {
        "steps": 30,
        "batch_size": 64,
        "learner": "adam",
        "learning_rate": 0.01,
        "order": "joint",
        "dead_code_steps": 10,
    }
    return Training(**{**settings, **changes})


def model_for(dimension, ema_decay=None, widths=None):
    torch.manual_seed(0)
    widths = widths or [dimension]
    return QuantisingAutoencoder(ResidualQuantiser(3, 8, widths[-1], ema_decay), widths)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("widths", [[16], [16, 12, 6]])
def test_layerwise_training_leaves_the_levels_before_as_they_are(widths, ema_decay):
    """Training is repeated with the steps of the first stages only; codebooks of finished stages are the same to the bit."""
    vectors, after = torch.from_numpy(clustered(400)), []
    for stages in (1, 2, 3):
        model, training = model_for(16, ema_decay, widths), how(order="layerwise", steps=10 * stages)
        model.quantiser.codebooks = model.quantiser.codebooks[:stages]
        train(model, vectors, training, 0, show_progress=False)
        after.append([codebook.detach().clone() for codebook in model.quantiser.codebooks])
    for earlier, later in zip(after, after[1:]):
        assert all(torch.equal(a, b) for a, b in zip(earlier, later))
    placed = model_for(16, ema_decay, widths)
    _place_codes(placed, vectors, range(1), batch_size=64, seed=0)
    assert not torch.equal(placed.quantiser.codebooks[0], after[0][0])  # the first stage did train its own


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_joint_training_trains_every_level(ema_decay):
    vectors = torch.from_numpy(clustered(400))
    placed, model = model_for(16, ema_decay), model_for(16, ema_decay)
    _place_codes(placed, vectors, range(3), batch_size=64, seed=0)
    train(model, vectors, how(), 0, show_progress=False)
    for before, after in zip(placed.quantiser.codebooks, model.quantiser.codebooks):
        assert not torch.equal(before, after)


def test_codes_are_placed_at_clusters_of_what_the_levels_before_leave_over():
    vectors, model = normal(400, 16), model_for(16, 0.9)
    _place_codes(model, torch.from_numpy(vectors), range(3), batch_size=64, seed=0)
    codes, left = plain_loop(vectors, codebooks_of(model.quantiser))
    for level in range(3):
        inertia = KMeans(8, n_init=3, random_state=0).fit(left[level]).inertia_
        assert (left[level + 1] ** 2).sum() < 1.1 * inertia
        assert model.quantiser.mean_taken[level].sum().item() == pytest.approx(64, rel=1e-5)
        share = np.bincount(codes[:, level], minlength=8) / 400
        np.testing.assert_allclose(model.quantiser.mean_taken[level], 64 * share, atol=64 * 0.02)


@pytest.mark.parametrize("learner", ["adam", "adagrad"])
@pytest.mark.parametrize("order", ["joint", "layerwise"])
def test_the_loss_falls(learner, order):
    rate = {"adam": 0.003, "adagrad": 0.3}[learner]
    model = model_for(16, widths=[16, 32, 8])
    report = train(
        model,
        torch.from_numpy(clustered(400)),
        how(learner=learner, learning_rate=rate, order=order, steps=300),
        0,
        show_progress=False,
    )
    assert report["steps"] == 300 and len(report["loss"]) == 20
    assert report["loss"][-1] < 0.6 * report["loss"][0]


def test_the_losses_told_are_means_over_shares_of_the_steps():
    """With a rate of next to nothing the model stays, and its losses on the batches can be told beforehand."""
    vectors, model, placed = torch.from_numpy(clustered(100)), model_for(16), model_for(16)
    report = train(
        model, vectors, how(steps=40, batch_size=30, learning_rate=1e-20, dead_code_steps=0), 0, show_progress=False
    )
    _place_codes(placed, vectors, range(3), batch_size=30, seed=0)
    losses = [placed.loss(vectors[rows], range(3)).item() for rows in _batches(100, 30, 40, 0)]
    np.testing.assert_allclose(report["loss"], np.reshape(losses, (20, 2)).mean(axis=1), rtol=2e-5)
    assert report["revived_codes"] == 0


@pytest.mark.parametrize("dead_code_steps", [0, 1, 2])
@pytest.mark.parametrize("order", ["joint", "layerwise"])
@pytest.mark.parametrize("learner", ["adam", "adagrad"])
@pytest.mark.parametrize("quantise", [rvq, rqvae])
def test_a_training_that_diverges_is_one_line(quantise, learner, order, dead_code_steps):
    settings = {"tokenizer_learner": learner, "tokenizer_training": order, "dead_code_steps": dead_code_steps}
    with pytest.raises(SettingError) as raised:
        quantise(normal(200, 8), 2, 8, tokenizer_steps=6, tokenizer_batch_size=32, tokenizer_learning_rate=1e30, **settings)
    assert raised.value.key == "tokenizer_learning_rate" and raised.value.value == 1e30
    assert "tokenizer_learning_rate=1e+30: the training diverged within" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_training_that_diverges_where_anomalies_are_detected():
    with torch.autograd.set_detect_anomaly(True), pytest.raises(SettingError, match="the training diverged within"):
        rqvae(normal(200, 8), 2, 8, tokenizer_steps=6, tokenizer_batch_size=32, tokenizer_learning_rate=1e30)


def test_a_training_that_diverges_at_its_last_step():
    with pytest.raises(SettingError, match="diverged within 1 steps"):
        rvq(normal(200, 8), 2, 8, tokenizer_steps=1, tokenizer_learning_rate=1e30)


@pytest.mark.parametrize("n, batch_size", [(10, 3), (10, 10), (10, 7), (7, 1), (100, 33)])
def test_every_item_comes_once_before_any_comes_again(n, batch_size):
    batches = list(_batches(n, batch_size, 50, seed=0))
    assert [len(rows) for rows in batches] == [batch_size] * 50
    order = torch.cat(batches)
    for start in range(0, len(order) - n + 1, n):
        assert sorted(order[start : start + n].tolist()) == list(range(n))
    assert torch.equal(order, torch.cat(list(_batches(n, batch_size, 50, seed=0))))
    assert not torch.equal(order, torch.cat(list(_batches(n, batch_size, 50, seed=1)))) or n == 1


def test_a_batch_larger_than_the_catalogue_is_the_catalogue():
    assert [sorted(rows.tolist()) for rows in _batches(5, 100, 3, seed=0)] == [[0, 1, 2, 3, 4]] * 3


@pytest.mark.parametrize("quantise", [rvq, rqvae])
@pytest.mark.parametrize("update", ["loss", "ema"])
def test_the_seed_decides_whatever_was_drawn_before_and_nothing_is_drawn_from_the_outside(quantise, update):
    vectors, made = clustered(300), []
    untouched = vectors.copy()
    for before in (1, 2):
        torch.manual_seed(before)
        np.random.seed(before)
        state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
        settings = {"codebook_update": update, "tokenizer_steps": 25, "tokenizer_batch_size": 32, "dead_code_steps": 5}
        made.append(quantise(vectors, 2, 32, seed=5, **settings))
        assert torch.equal(torch.get_rng_state(), state) and (np.random.get_state()[1] == numpy_state).all()
    first, again = made
    assert (first.codes == again.codes).all() and first.training["loss"] == again.training["loss"]
    assert all((a == b).all() for a, b in zip(first.codebooks, again.codebooks))
    assert (vectors == untouched).all()


# --- rvq and rqvae


@pytest.mark.parametrize("order", ["joint", "layerwise"])
@pytest.mark.parametrize("update", ["loss", "ema"])
def test_rvq_is_about_as_good_as_kmeans_level_by_level(update, order):
    vectors = clustered()
    settings = {"codebook_update": update, "tokenizer_training": order, "tokenizer_steps": 400, "tokenizer_batch_size": 512}
    made = rvq(vectors, 2, 32, seed=0, **settings)
    rows = vectors / np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1).mean())
    codes, left = plain_loop(rows, made.codebooks)
    assert (made.codes == codes).mean() > 0.999 and made.codes.dtype == np.int32
    np.testing.assert_allclose(made.last_residual, left[1], atol=1e-3)
    errors = np.mean([kmeans_errors(rows, random_state) for random_state in range(4)], axis=0)
    assert (left[1] ** 2).sum() < 1.05 * errors[0] and (left[2] ** 2).sum() < 1.1 * errors[1]


def kmeans_errors(residual, random_state):
    """The error after each of two levels of scikit-learn's k-means from one start."""
    errors = []
    for _ in range(2):
        fitted = KMeans(32, n_init=1, random_state=random_state).fit(residual)
        residual = residual - fitted.cluster_centers_[fitted.labels_]
        errors.append((residual**2).sum())
    return errors


def test_vectors_of_any_scale_give_the_same_codes():
    vectors = clustered(500)
    small, large = (rvq(scale * vectors, 2, 16, seed=0, tokenizer_steps=50) for scale in (2.0**-10, 2.0**10))
    assert (small.codes == large.codes).all()


def rqvae_of_clusters(order, update, gradient):
    settings = {"tokenizer_steps": 600, "tokenizer_batch_size": 256, "rqvae_hidden": (64, 32), "rqvae_latent": 8}
    settings.update(tokenizer_training=order, codebook_update=update, quantiser_gradient=gradient, dead_code_steps=50)
    return rqvae(clustered(), 3, 32, seed=0, **settings)


def codes_used(made):
    return [len(np.unique(level)) for level in made.codes.T]


@pytest.mark.parametrize("update", ["loss", "ema"])
@pytest.mark.parametrize("gradient", ["straight_through", "rotation"])
def test_rqvae_uses_its_codes_and_they_tell_the_clusters(gradient, update):
    vectors, made = clustered(), rqvae_of_clusters("joint", update, gradient)
    assert min(codes_used(made)) >= 0.95 * 32
    variance = ((vectors - vectors.mean(axis=0)) ** 2).sum()
    best = KMeans(32, n_init=1, random_state=0).fit(vectors).inertia_ / variance
    errors, _ = reconstruct(made.codes, vectors)
    assert errors[0] < best + 0.15 and errors[2] < errors[1] < errors[0]
    assert made.training["loss"][-1] < 0.5 * made.training["loss"][0]


@pytest.mark.parametrize("update", ["loss", "ema"])
@pytest.mark.parametrize("gradient", ["straight_through", "rotation"])
def test_layer_by_layer_the_level_that_was_trained_last_uses_its_codes(gradient, update):
    """Those before it are frozen while the encoder goes on, and so may lose some."""
    assert codes_used(rqvae_of_clusters("layerwise", update, gradient))[-1] >= 0.95 * 32


def test_revival_saves_a_codebook_that_collapses_without_it(caplog):
    """A rate so high that codes fly apart; without revival most never get a point again."""
    rows = np.concatenate([np.zeros((1, 16), np.float32), clustered(600)])
    settings = {
        "tokenizer": "rqvae",
        "codebook_num": 2,
        "codebook_size": 64,
        "collision": "none",
        "seed": 0,
        "tokenizer_steps": 200,
        "tokenizer_batch_size": 128,
        "tokenizer_learning_rate": 0.2,
        "rqvae_hidden": [32],
        "rqvae_latent": 8,
    }
    collapsed = tokenize(rows, dead_code_steps=0, **settings)
    used = collapsed.statistics()["codes_used"]
    assert 0 in collapsed.source["collapsed_levels"] and used[0] < 0.8 * 64
    assert f"tokenizer=rqvae: level 0 uses {used[0]} of its 64 codes" in caplog.text
    assert collapsed.source["training"]["revived_codes"] == 0
    revived = tokenize(rows, dead_code_steps=10, **settings)
    assert revived.source["training"]["revived_codes"] > 0
    assert min(revived.statistics()["codes_used"]) > max(used)


@pytest.mark.parametrize("name, settings", [("rqvae", {}), ("rqvae", {"codebook_update": "ema"}), ("rvq", {})])
def test_several_threads_give_the_same_codes_every_time(name, settings):
    """Gradients of codes that many items of a batch take are sums, which threads must not add up in any order."""
    torch.set_num_threads(2)
    rows = np.random.default_rng(0).normal(size=(4000, 32)).astype(np.float32)
    shape = {
        "codebook_num": 3,
        "codebook_size": 16,
        "tokenizer_steps": 40,
        "tokenizer_batch_size": 2000,
        "collision": "none",
    }
    first, *others = (tokenize(rows, tokenizer=name, **shape, **settings).codes for _ in range(4))
    assert all((other == first).all() for other in others)
