"""Tokenizers that are trained by gradients: R-VQ on the vectors themselves, RQ-VAE on the latent vectors of an autoencoder.

Here are the settings and the order of events. Codebooks, losses and training loop are in
:mod:`recbole_gr.tokenizers.quantiser`, which imports torch; it is imported inside the functions, so that settings are read
without it.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from recbole_gr.tokenizers.semantic_ids import Quantised
from recbole_gr.utils.arrays import ROWS_AT_ONCE, copy_in_chunks

if TYPE_CHECKING:
    from recbole_gr.tokenizers.quantiser import QuantisingAutoencoder, Training


#: Before the names of the encoder's weights in what is fitted.
_ENCODER = "encoder."

#: What tokenizers that are trained can be set to, each written once.
Steps = Annotated[int, Field(description="Training steps of the tokenizer in all.", ge=1)]
BatchSize = Annotated[int, Field(description="Items per training step of the tokenizer.", ge=1)]
Learner = Annotated[Literal["adam", "adagrad"], Field(description="The optimizer of the tokenizer's training.")]
LearningRate = Annotated[float, Field(description="The learning rate of the tokenizer's training, constant.", gt=0)]
TrainingOrder = Annotated[
    Literal["joint", "layerwise"],
    Field(description="Train all levels at once, or one after the other with those before it frozen."),
]
CodebookUpdate = Annotated[
    Literal["loss", "ema"],
    Field(description="Codes follow the gradient of the codebook loss, or the running mean of the points that take them."),
]
EMADecay = Annotated[float, Field(description="The decay of that running mean.", ge=0, lt=1)]
DeadCodeSteps = Annotated[
    int, Field(description="After so many steps, codes that no point took meanwhile move onto points; 0: never.", ge=0)
]
HiddenWidths = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...],
    Field(
        description="Widths of the encoder's hidden layers; the decoder has them in reverse.",
        json_schema_extra={"allowed": "must be a list of whole numbers of at least 1, [] for a single layer"},
    ),
]
LatentWidth = Annotated[int, Field(description="Width of what is quantised.", ge=1)]
Gradient = Annotated[
    Literal["straight_through", "rotation"],
    Field(description="How the gradient passes the quantisation: straight through, or by the rotation trick."),
]
Commitment = Annotated[float, Field(description="Weight of the commitment loss.", ge=0)]


def rvq(
    vectors: np.ndarray,
    codebook_num: int,
    codebook_size: int,
    *,
    seed: int = 2020,
    device: str = "cpu",
    show_progress: bool = False,
    tokenizer_steps: Steps = 1000,
    tokenizer_batch_size: BatchSize = 1024,
    tokenizer_learner: Learner = "adam",
    tokenizer_learning_rate: LearningRate = 0.001,
    tokenizer_training: TrainingOrder = "joint",
    codebook_update: CodebookUpdate = "loss",
    ema_decay: EMADecay = 0.99,
    dead_code_steps: DeadCodeSteps = 100,
) -> Quantised:
    """Residual vector quantisation, trained by mini-batches (GRID's R-VQ, arXiv 2507.22224, section 3).

    Nothing before the codebooks is trained, so this kind has no gradient estimator and no commitment.

    Args:
        vectors: float32 ``[n, d]``, one row per item, no padding row. They are scaled by one number, so that
            their mean squared length is 1.
        codebook_num, codebook_size: levels L and codes per level W.
        seed: of the k-means that places the codes, of the weights, and of the order of the items.
        device: where to train.
        show_progress: show a progress bar.
        tokenizer_steps: training steps in all.
        tokenizer_batch_size: items per step.
        tokenizer_learner: ``adam`` or ``adagrad``.
        tokenizer_learning_rate: its learning rate, constant.
        tokenizer_training: ``joint``: all levels at once; ``layerwise``: one level after the other, each for its
            share of the steps, those before it frozen.
        codebook_update: ``loss``: codes follow the gradient of the codebook loss; ``ema``: the running mean of the
            points that take them.
        ema_decay: decay of that mean.
        dead_code_steps: after so many steps, codes that no point took meanwhile move onto points; 0: never.

    Raises:
        SettingError: the training diverged.
    """
    from recbole_gr.tokenizers.quantiser import QuantisingAutoencoder, ResidualQuantiser, Training

    training = Training(
        steps=tokenizer_steps,
        batch_size=tokenizer_batch_size,
        learner=tokenizer_learner,
        learning_rate=tokenizer_learning_rate,
        order=tokenizer_training,
        dead_code_steps=dead_code_steps,
    )
    with seeded(seed):
        decay = ema_decay if codebook_update == "ema" else None
        quantiser = ResidualQuantiser(codebook_num, codebook_size, vectors.shape[1], decay)
        model = QuantisingAutoencoder(quantiser, [vectors.shape[1]])
        return quantise_by_training(model.to(device), vectors, training, seed, show_progress=show_progress)


def rqvae(
    vectors: np.ndarray,
    codebook_num: int,
    codebook_size: int,
    *,
    seed: int = 2020,
    device: str = "cpu",
    show_progress: bool = False,
    tokenizer_steps: Steps = 1000,
    tokenizer_batch_size: BatchSize = 1024,
    tokenizer_learner: Learner = "adam",
    tokenizer_learning_rate: LearningRate = 0.001,
    tokenizer_training: TrainingOrder = "joint",
    codebook_update: CodebookUpdate = "loss",
    ema_decay: EMADecay = 0.99,
    dead_code_steps: DeadCodeSteps = 100,
    rqvae_hidden: HiddenWidths = (512, 256, 128),
    rqvae_latent: LatentWidth = 32,
    quantiser_gradient: Gradient = "straight_through",
    commitment: Commitment = 0.25,
) -> Quantised:
    """The residual-quantised variational autoencoder of TIGER (arXiv 2305.05065, section 3.1; Lee et al., CVPR 2022).

    Args:
        vectors, ..., dead_code_steps: as in :func:`rvq`. Encoder and decoder learn in all steps: trained layer by
            layer, they move on while the codes of earlier levels are frozen, some of which may lose their points.
        rqvae_hidden: widths of the encoder's layers; the decoder has them in reverse.
        rqvae_latent: width of what is quantised.
        quantiser_gradient: ``straight_through``, or ``rotation`` for the rotation trick (arXiv 2410.06424).
        commitment: weight of the commitment loss.

    Raises:
        SettingError: the training diverged.
    """
    from recbole_gr.tokenizers.quantiser import QuantisingAutoencoder, ResidualQuantiser, Training

    training = Training(
        steps=tokenizer_steps,
        batch_size=tokenizer_batch_size,
        learner=tokenizer_learner,
        learning_rate=tokenizer_learning_rate,
        order=tokenizer_training,
        dead_code_steps=dead_code_steps,
    )
    with seeded(seed):
        decay = ema_decay if codebook_update == "ema" else None
        quantiser = ResidualQuantiser(codebook_num, codebook_size, rqvae_latent, decay)
        widths = [vectors.shape[1], *rqvae_hidden, rqvae_latent]
        model = QuantisingAutoencoder(quantiser, widths, quantiser_gradient, commitment)
        return quantise_by_training(model.to(device), vectors, training, seed, show_progress=show_progress)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch; afterwards its random state is as before."""
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def quantise_by_training(
    model: "QuantisingAutoencoder",
    vectors: np.ndarray,
    training: "Training",
    seed: int,
    *,
    beside: Sequence[np.ndarray] = (),
    show_progress: bool,
) -> Quantised:
    """Train a model on vectors, scaled by one number to a mean squared length of 1, and quantise them by it.

    Args:
        model: trained in place, on its device.
        vectors: float32 ``[n, d]``.
        training: how.
        seed: of the placing of the codes and of the order of the items.
        beside: what the model's loss takes beside the vectors, ``[n, ...]`` each.
        show_progress: show a progress bar.

    Raises:
        SettingError: the training diverged.
    """
    import torch

    from recbole_gr.tokenizers.quantiser import train

    points = torch.from_numpy(copy_in_chunks(vectors))
    lengths = sum(float(part.double().square().sum()) for part in points.split(ROWS_AT_ONCE))
    length = max((lengths / len(points)) ** 0.5, 1e-12)
    points /= length
    device = next(model.parameters()).device
    points = points.to(device)
    rows = [torch.from_numpy(part).to(device) for part in beside]
    report = train(model, points, training, seed, beside=rows, show_progress=show_progress)
    with torch.no_grad():
        encoded = [model.quantiser.encode(model.encoder(part)) for part in points.split(ROWS_AT_ONCE)]
    codes, last_residual = (torch.cat(parts).cpu().numpy() for parts in zip(*encoded, strict=True))
    codebooks = [codebook.detach().cpu().numpy() for codebook in model.quantiser.codebooks]
    weights = {f"{_ENCODER}{name}": weight.cpu().numpy() for name, weight in model.encoder.state_dict().items()}
    fitted = {"length": np.array(length), "codebooks": np.stack(codebooks), **weights}
    return Quantised(codes.astype(np.int32), last_residual, codebooks, report, fitted)


def encode_trained(vectors: np.ndarray, fitted: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Quantised:
    """Codes of other items by what :func:`quantise_by_training` trained: its scale, encoder and codebooks."""
    import torch

    from recbole_gr.tokenizers.quantiser import ResidualQuantiser, perceptron

    codebooks = fitted["codebooks"]
    weights = {name.removeprefix(_ENCODER): array for name, array in fitted.items() if name.startswith(_ENCODER)}
    widths = [weight.shape[1] for weight in weights.values() if weight.ndim == 2] + [codebooks.shape[2]]
    encoder, quantiser = perceptron(widths), ResidualQuantiser(*codebooks.shape)
    encoder.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    for codebook, kept in zip(quantiser.codebooks, codebooks, strict=True):
        codebook.data.copy_(torch.from_numpy(kept))
    points = torch.from_numpy(copy_in_chunks(vectors)) / float(fitted["length"])
    with torch.no_grad():
        encoded = [quantiser.encode(encoder(part)) for part in points.split(ROWS_AT_ONCE)]
    codes, last_residual = (torch.cat(parts).numpy() for parts in zip(*encoded, strict=True))
    return Quantised(codes.astype(np.int32), last_residual, list(codebooks))


TOKENIZERS = {"rvq": rvq, "rqvae": rqvae}
ENCODERS = {"rvq": encode_trained, "rqvae": encode_trained}
