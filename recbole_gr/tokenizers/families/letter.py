"""LETTER's learnable tokenizer (arXiv 2405.07314): an RQ-VAE that learns from CF vectors too, and spreads its codes."""

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from recbole_gr.tokenizers.families.rqvae import (
    BatchSize,
    Commitment,
    DeadCodeSteps,
    Gradient,
    HiddenWidths,
    LatentWidth,
    Learner,
    LearningRate,
    Steps,
    encode_trained,
    quantise_by_training,
    seeded,
)
from recbole_gr.tokenizers.semantic_ids import Quantised


def letter(
    vectors: np.ndarray,
    codebook_num: int,
    codebook_size: int,
    *,
    cf_vectors: np.ndarray,
    seed: int = 2020,
    device: str = "cpu",
    show_progress: bool = False,
    tokenizer_steps: Steps = 1000,
    tokenizer_batch_size: BatchSize = 1024,
    tokenizer_learner: Learner = "adam",
    tokenizer_learning_rate: LearningRate = 0.001,
    dead_code_steps: DeadCodeSteps = 100,
    rqvae_hidden: HiddenWidths = (512, 256, 128),
    rqvae_latent: LatentWidth = 32,
    quantiser_gradient: Gradient = "straight_through",
    commitment: Commitment = 0.25,
    alignment_weight: Annotated[
        float, Field(description="Weight of the contrastive loss with the CF vectors (LETTER's alpha).", ge=0)
    ] = 0.02,
    diversity_weight: Annotated[float, Field(description="Weight of the diversity loss (LETTER's beta).", ge=0)] = 0.0001,
    code_clusters: Annotated[
        int,
        Field(
            description="Clusters of even size of a level's codes, within which the diversity loss draws them together; at most "
            "half as many as there are codes.",
            ge=1,
        ),
    ] = 10,
) -> Quantised:
    """An RQ-VAE with a contrastive loss between quantised vectors and CF vectors, and a diversity loss on the codes.

    Args:
        vectors: float32 ``[n, d]``, one row per item, no padding row. They are scaled by one number, so that their mean
            squared length is 1.
        codebook_num, codebook_size: levels L and codes per level W.
        cf_vectors: float32 ``[n, d']``, the CF vectors of the same items; items of zeros have none, and do not
            count in the contrastive loss. See :func:`~recbole_gr.tokenizers.aligned_quantiser.fitted_to_width`.
        seed, ..., commitment: as in :func:`~recbole_gr.tokenizers.families.rqvae.rqvae`; all levels learn at once, and codes follow
            the gradient, without which they could not be spread.
        alignment_weight: weight of the contrastive loss, beside a reconstruction error that begins near 1.
        diversity_weight: weight of the diversity loss.
        code_clusters: clusters of a level's codes, made anew once per pass over the items.

    Raises:
        SettingError: the training diverged.
    """
    from recbole_gr.tokenizers.aligned_quantiser import AligningAutoencoder, fitted_to_width
    from recbole_gr.tokenizers.quantiser import ResidualQuantiser, Training

    training = Training(
        steps=tokenizer_steps,
        batch_size=tokenizer_batch_size,
        learner=tokenizer_learner,
        learning_rate=tokenizer_learning_rate,
        order="joint",
        dead_code_steps=dead_code_steps,
    )
    with seeded(seed):
        model = AligningAutoencoder(
            ResidualQuantiser(codebook_num, codebook_size, rqvae_latent),
            [vectors.shape[1], *rqvae_hidden, rqvae_latent],
            quantiser_gradient,
            commitment,
            alignment=alignment_weight,
            diversity=diversity_weight,
            n_clusters=code_clusters,
            clustering_steps=-(-len(vectors) // tokenizer_batch_size),
            seed=seed,
        )
        cf = fitted_to_width(cf_vectors, rqvae_latent)
        made = quantise_by_training(model.to(device), vectors, training, seed, beside=[cf], show_progress=show_progress)
    last = {f"last_{name}": float(f"{float(part):.5g}") for name, part in model.last.items()}
    return replace(made, training={**made.training, **last})


TOKENIZERS = {"letter": letter}
ENCODERS = {"letter": encode_trained}
