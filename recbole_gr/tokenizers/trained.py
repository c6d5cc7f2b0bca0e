"""Tokenizers that are trained by gradients: R-VQ on the vectors themselves, RQ-VAE on what an autoencoder makes of them."""

import contextlib

import numpy as np
import torch

from recbole_gr.utils.memory import ROWS_AT_ONCE, copy_in_pieces
from recbole_gr.tokenizers.quantised import Quantised
from recbole_gr.tokenizers.quantiser_training import Training, train
from recbole_gr.tokenizers.quantising_autoencoder import QuantisingAutoencoder
from recbole_gr.tokenizers.residual_quantiser import ResidualQuantiser

CODEBOOK_UPDATES = ("loss", "ema")


def rvq(
    vectors,
    codebook_num,
    codebook_size,
    *,
    seed=2020,
    device="cpu",
    show_progress=False,
    tokenizer_steps=1000,
    tokenizer_batch_size=1024,
    tokenizer_learner="adam",
    tokenizer_learning_rate=0.001,
    tokenizer_training="joint",
    codebook_update="loss",
    ema_decay=0.99,
    dead_code_steps=100,
):
    """Residual vector quantisation, trained by mini-batches (GRID's R-VQ, arXiv 2507.22224, section 3).

    Before the codebooks there is nothing that could learn, so this kind knows no gradient estimator and no commitment.

    Args:
        vectors (np.ndarray): float32 ``[n, d]``, one row per item, no padding row. They are scaled by one number, so that
            their mean squared length is 1.
        codebook_num, codebook_size (int): levels L and codes per level W.
        seed (int): of the k-means that places the codes, of the weights, and of the order of the items.
        device (str): where to train.
        show_progress (bool): show a progress bar.
        tokenizer_steps (int): training steps in all.
        tokenizer_batch_size (int): items per step.
        tokenizer_learner (str): ``adam`` or ``adagrad``.
        tokenizer_learning_rate (float): its learning rate, constant.
        tokenizer_training (str): ``joint``: all levels at once; ``layerwise``: one level after the other, each for its
            share of the steps, those before it frozen.
        codebook_update (str): ``loss``: codes follow the gradient of the codebook loss; ``ema``: the running mean of the
            points that take them.
        ema_decay (float): decay of that mean.
        dead_code_steps (int): after so many steps, codes that no point took meanwhile move onto points; 0: never.

    Returns:
        Quantised

    Raises:
        SettingError: the training diverged.
    """
    training = Training(
        tokenizer_steps, tokenizer_batch_size, tokenizer_learner, tokenizer_learning_rate, tokenizer_training, dead_code_steps
    )
    with _seeded(seed):
        decay = ema_decay if codebook_update == "ema" else None
        quantiser = ResidualQuantiser(codebook_num, codebook_size, vectors.shape[1], decay)
        model = QuantisingAutoencoder(quantiser, [vectors.shape[1]])
        return _quantise(model.to(device), vectors, training, seed, show_progress)


def rqvae(
    vectors,
    codebook_num,
    codebook_size,
    *,
    seed=2020,
    device="cpu",
    show_progress=False,
    tokenizer_steps=1000,
    tokenizer_batch_size=1024,
    tokenizer_learner="adam",
    tokenizer_learning_rate=0.001,
    tokenizer_training="joint",
    codebook_update="loss",
    ema_decay=0.99,
    dead_code_steps=100,
    rqvae_hidden=(512, 256, 128),
    rqvae_latent=32,
    quantiser_gradient="straight_through",
    commitment=0.25,
):
    """The residual-quantised variational autoencoder of TIGER (arXiv 2305.05065, section 3.1; Lee et al., CVPR 2022).

    Args:
        vectors to dead_code_steps: as in :func:`rvq`. Encoder and decoder learn in all steps: trained layer by layer, they
            move on while the codes of earlier levels are frozen, some of which may lose their points.
        rqvae_hidden (list of int): widths of the encoder's layers; the decoder has them in reverse.
        rqvae_latent (int): width of what is quantised.
        quantiser_gradient (str): ``straight_through``, or ``rotation`` for the rotation trick (arXiv 2410.06424).
        commitment (float): weight of the commitment loss.

    Returns:
        Quantised

    Raises:
        SettingError: the training diverged.
    """
    training = Training(
        tokenizer_steps, tokenizer_batch_size, tokenizer_learner, tokenizer_learning_rate, tokenizer_training, dead_code_steps
    )
    with _seeded(seed):
        decay = ema_decay if codebook_update == "ema" else None
        quantiser = ResidualQuantiser(codebook_num, codebook_size, rqvae_latent, decay)
        widths = [vectors.shape[1], *rqvae_hidden, rqvae_latent]
        model = QuantisingAutoencoder(quantiser, widths, quantiser_gradient, commitment)
        return _quantise(model.to(device), vectors, training, seed, show_progress)


@contextlib.contextmanager
def _seeded(seed):
    """torch draws from ``seed``, and afterwards goes on as if nothing had been drawn."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _quantise(model, vectors, training, seed, show_progress):
    points = torch.from_numpy(copy_in_pieces(vectors))
    lengths = sum(float(part.double().square().sum()) for part in points.split(ROWS_AT_ONCE))
    points /= max((lengths / len(points)) ** 0.5, 1e-12)
    points = points.to(next(model.parameters()).device)
    report = train(model, points, training, seed, show_progress)
    with torch.no_grad():
        encoded = [model.quantiser.encode(model.encoder(part)) for part in points.split(ROWS_AT_ONCE)]
    codes, last_residual = (torch.cat(parts).cpu().numpy() for parts in zip(*encoded))
    codebooks = [codebook.detach().cpu().numpy() for codebook in model.quantiser.codebooks]
    return Quantised(codes.astype(np.int32), last_residual, codebooks, report)
