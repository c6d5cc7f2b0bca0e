"""A residual quantiser with or without an autoencoder, for R-VQ and RQ-VAE: gradient, codebooks, loss, training loop."""

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from recbole_gr.tokenizers.families.rkmeans import SEEDING_POINTS, kmeans
from recbole_gr.utils.arrays import ROWS_AT_ONCE
from recbole_gr.utils.errors import SettingError

LEARNERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    # TensorFlow's and optax's Adagrad start so, and TIGER's rate of 0.4 is meant for it: from 0, torch's own default, the
    # first step moves every weight by the full rate
    "adagrad": functools.partial(torch.optim.Adagrad, initial_accumulator_value=0.1),
}
#: Lloyd iterations that place the codes before they are trained.
PLACING_ITERATIONS = 10
#: How many losses of a training are kept.
KEPT_LOSSES = 20


def straight_through(points: torch.Tensor, quantised: torch.Tensor) -> torch.Tensor:
    """The quantised points, with the gradient of the points themselves (van den Oord et al., arXiv 1711.00937).

    Args:
        points, quantised: float32 ``[B, d]``.

    Returns:
        torch.Tensor: the values of ``quantised``.
    """
    return points + (quantised - points).detach()


def rotation_trick(points: torch.Tensor, quantised: torch.Tensor) -> torch.Tensor:
    """The quantised points, as the points turned and scaled onto them; the gradient turns along.

    Fifty et al., arXiv 2410.06424, section 4.2: with e and q of unit length, the rotation from e to q in the plane that
    they span is I - 2 r r' + 2 q e', r being the direction of e + q.

    Args:
        points, quantised: float32 ``[B, d]``.

    Returns:
        torch.Tensor: the values of ``quantised``.
    """
    with torch.no_grad():
        length = points.norm(dim=1, keepdim=True).clamp(min=1e-8)
        scale = quantised.norm(dim=1, keepdim=True) / length
        start, end = points / length, torch.nn.functional.normalize(quantised, dim=1)
        # of nearly opposite directions the sum is rounding error, which must not become a direction of its own
        middle = torch.nn.functional.normalize(start + end, dim=1, eps=1e-3)
    along_middle = (points * middle).sum(dim=1, keepdim=True)
    along_start = (points * start).sum(dim=1, keepdim=True)
    return straight_through(scale * (points - 2 * along_middle * middle + 2 * along_start * end), quantised)


ESTIMATORS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "straight_through": straight_through,
    "rotation": rotation_trick,
}


class ResidualQuantiser(nn.Module):
    """L codebooks, each of which quantises the residual of those before it (TIGER, arXiv 2305.05065, section 3.1).

    Args:
        codebook_num, codebook_size: levels L and codes per level W.
        dimension: width d of what is quantised.
        ema_decay: codes follow the running mean of the points that take them, with this decay (van den Oord et
            al., arXiv 1711.00937, appendix A.1); None: they are parameters that follow the codebook loss.
    """

    taken: torch.Tensor
    mean_taken: torch.Tensor
    mean_sum: torch.Tensor

    def __init__(self, codebook_num: int, codebook_size: int, dimension: int, ema_decay: float | None = None) -> None:
        super().__init__()
        self.ema_decay = ema_decay
        self.codebooks = nn.ParameterList(
            nn.Parameter(torch.zeros(codebook_size, dimension), requires_grad=ema_decay is None) for _ in range(codebook_num)
        )
        self.register_buffer("taken", torch.zeros(codebook_num, codebook_size))
        self.register_buffer("mean_taken", torch.zeros(codebook_num, codebook_size))
        self.register_buffer("mean_sum", torch.zeros(codebook_num, codebook_size, dimension))

    @torch.no_grad()
    def place(self, level: int, codebook: torch.Tensor, counts: torch.Tensor) -> None:
        """Put the codes of a level where k-means found clusters of so many points of a batch."""
        self.codebooks[level].copy_(codebook)
        self.mean_taken[level] = counts
        self.mean_sum[level] = counts.unsqueeze(1) * codebook

    def forward(self, points: torch.Tensor, levels: range) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Quantise by the first codebooks; in training, the last of ``levels`` are those that learn.

        Args:
            points: float32 ``[B, d]``.
            levels: the levels that learn; those before them quantise as they are.

        Returns:
            tuple: the sum of the codes' vectors ``[B, d]``, without gradient; the codebook loss and the commitment loss,
            squared distances summed over the levels that learn, means over the batch.
        """
        residual = points
        codebook_loss = commitment_loss = torch.zeros((), device=points.device)
        for level in range(levels.stop):
            code = nearest(residual.detach(), self.codebooks[level].detach())
            # not by indexing, whose gradient adds up in another order every time when there are several threads
            chosen = nn.functional.embedding(code, self.codebooks[level])
            if level in levels:
                codebook_loss = codebook_loss + squared_length(residual.detach() - chosen).mean()
                commitment_loss = commitment_loss + squared_length(residual - chosen.detach()).mean()
                if self.training:
                    self._count(level, code, residual.detach())
            residual = residual - chosen.detach()
        return (points - residual).detach(), codebook_loss, commitment_loss

    @torch.no_grad()
    def encode(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes int64 ``[B, L]``, and the residual that the last level quantised ``[B, d]``."""
        residual, codes = points, []
        for codebook in self.codebooks:
            last_residual = residual
            codes.append(nearest(residual, codebook))
            residual = residual - codebook[codes[-1]]
        return torch.stack(codes, dim=1), last_residual

    @torch.no_grad()
    def _count(self, level: int, code: torch.Tensor, residual: torch.Tensor) -> None:
        counts = torch.bincount(code, minlength=len(self.codebooks[level])).float()
        self.taken[level] += counts
        if self.ema_decay is not None:
            sums = torch.zeros_like(self.mean_sum[level]).index_add_(0, code, residual)
            self.mean_taken[level].lerp_(counts, 1 - self.ema_decay)
            self.mean_sum[level].lerp_(sums, 1 - self.ema_decay)
            weight = self.mean_taken[level].unsqueeze(1)
            known = weight > 1e-6  # below that a code had no point for so long that its mean is noise
            self.codebooks[level].copy_(torch.where(known, self.mean_sum[level] / weight, self.codebooks[level]))

    @torch.no_grad()
    def revive(self, points: torch.Tensor, levels: range) -> int:
        """Move codes that no point took since the last call onto points, those far from their own code the likelier.

        Args:
            points: float32 ``[B, d]``.
            levels: as in :meth:`forward`.

        Returns:
            int: how many codes were moved.
        """
        residual, revived = points, 0
        for level in range(levels.stop):
            codebook = self.codebooks[level]
            dead = torch.nonzero(self.taken[level] == 0).squeeze(1)[: len(points)]
            if level in levels and len(dead):
                error = squared_length(residual - codebook[nearest(residual, codebook)])
                self._place_some(level, dead, residual[torch.multinomial(error + 1e-12, len(dead))])
                revived += len(dead)
            residual = residual - codebook[nearest(residual, codebook)]  # points may take the moved codes
        self.taken.zero_()
        return revived

    def _place_some(self, level: int, codes: torch.Tensor, points: torch.Tensor) -> None:
        """Put some codes of a level onto one point each."""
        self.codebooks[level][codes] = points
        self.mean_taken[level, codes], self.mean_sum[level, codes] = 1.0, points


def nearest(points: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """The nearest code of each point: int64 ``[B]``."""
    return (codebook.square().sum(dim=1) - 2 * points @ codebook.T).argmin(dim=1)


def squared_length(rows: torch.Tensor) -> torch.Tensor:
    """Sum of squares along the last dimension."""
    return rows.square().sum(dim=-1)


class QuantisingAutoencoder(nn.Module):
    """Encoder, codebooks and decoder as one module with one loss; R-VQ leaves out the autoencoder.

    Args:
        quantiser: the codebooks.
        widths: of the layers from a vector to what is quantised; the decoder mirrors them. One width: the
            vectors themselves are quantised.
        estimator: a key of :data:`ESTIMATORS`.
        commitment: weight of the commitment loss.
    """

    def __init__(
        self, quantiser: ResidualQuantiser, widths: list[int], estimator: str = "straight_through", commitment: float = 0.25
    ) -> None:
        super().__init__()
        self.quantiser, self.commitment = quantiser, commitment
        self.estimate = ESTIMATORS[estimator]
        self.has_autoencoder = len(widths) > 1
        self.encoder, self.decoder = perceptron(widths), perceptron(widths[::-1])

    def loss(self, vectors: torch.Tensor, levels: range, *beside: torch.Tensor) -> torch.Tensor:
        """Squared reconstruction error, codebook loss and weighted commitment loss, per dimension of the vectors.

        Means over the batch. Per dimension, so that Adagrad at TIGER's rate of 0.4 trains; summed over the dimensions, the
        gradients are so large that it diverges; Adam hardly depends on it.

        Args:
            vectors: float32 ``[B, d]``.
            levels: the levels that learn, see :meth:`ResidualQuantiser.forward`.
            beside: what a subclass learns from beside the vectors, ``[B, ...]`` each; here nothing.
        """
        points = self.encoder(vectors)
        quantised, codebook_loss, commitment_loss = self.quantiser(points, levels)
        if not self.has_autoencoder:  # the other losses are those of an encoder
            return codebook_loss / vectors.shape[1]
        error = squared_length(self.decoder(self.estimate(points, quantised)) - vectors).mean()
        return (error + codebook_loss + self.commitment * commitment_loss) / vectors.shape[1]


def perceptron(widths: list[int]) -> nn.Module:
    """Linear layers of these widths with ReLU between them; one width is no layer at all."""
    layers = [(nn.Linear(before, after), nn.ReLU()) for before, after in itertools.pairwise(widths)]
    return nn.Sequential(*itertools.chain.from_iterable(layers))[:-1] if layers else nn.Identity()


@dataclass(frozen=True)
class Training:
    """How a quantiser is trained; :func:`recbole_gr.tokenizers.families.rqvae.rvq` says what each setting means."""

    steps: int
    batch_size: int
    learner: str
    learning_rate: float
    order: str
    dead_code_steps: int


def train(
    model: QuantisingAutoencoder,
    vectors: torch.Tensor,
    training: Training,
    seed: int,
    *,
    beside: Sequence[torch.Tensor] = (),
    show_progress: bool,
) -> dict[str, Any]:
    """Place the codes by k-means, level by level, and train the model.

    Args:
        model: trained in place, on its device.
        vectors: float32 ``[n, d]``, on the same device.
        training: how.
        seed: of the placing and of the order of the items.
        beside: what the model's loss takes beside the vectors, ``[n, ...]`` each, a row for each vector.
        show_progress: show a progress bar.

    Returns:
        dict: ``steps``, ``seconds``, ``loss`` (means over twentieths of the training), ``revived_codes``.

    Raises:
        SettingError: the loss is no longer a finite number.
    """
    start = time.perf_counter()
    n_levels = len(model.quantiser.codebooks)
    stages = [range(n_levels)] if training.order == "joint" else [range(level, level + 1) for level in range(n_levels)]
    losses: list[torch.Tensor] = []
    revived = 0
    progress = tqdm(total=training.steps, desc="Train tokenizer", disable=not show_progress)
    # importing one of RecBole's models (SINE) turns anomaly detection on: slow, and a traceback where we have one line
    with progress, torch.autograd.set_detect_anomaly(False):
        for number, levels in enumerate(stages):
            _place_codes(model, vectors, levels, batch_size=min(training.batch_size, len(vectors)), seed=seed)
            steps = training.steps * (number + 1) // len(stages) - training.steps * number // len(stages)
            batches = _batches(len(vectors), training.batch_size, steps, seed + number)
            revived += _train_levels(
                model,
                (vectors, *beside),
                levels,
                batches=batches,
                steps=steps,
                training=training,
                losses=losses,
                progress=progress,
            )
    history = torch.stack(losses).cpu()
    return {
        "steps": training.steps,
        "seconds": round(time.perf_counter() - start, 2),
        "loss": [float(f"{part.mean():.5g}") for part in history.tensor_split(min(KEPT_LOSSES, len(history)))],
        "revived_codes": revived,
    }


def _train_levels(
    model: QuantisingAutoencoder,
    data: tuple[torch.Tensor, ...],
    levels: range,
    *,
    batches: Iterator[torch.Tensor],
    steps: int,
    training: Training,
    losses: list[torch.Tensor],
    progress: tqdm,
) -> int:
    """Train some levels; adds to ``losses`` and returns how many codes were revived."""
    optimizer, revived = _optimizer(model, training), 0
    for step, rows in enumerate(batches, start=1):
        vectors, *beside = (part[rows] for part in data)
        loss = model.loss(vectors, levels, *beside)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.detach())
        reviving = training.dead_code_steps and step % training.dead_code_steps == 0
        if reviving or step == steps:
            _check_finite(model, (vectors, *beside), levels, step=len(losses), training=training)
        if reviving and step < steps:  # what is moved after the last step would never be trained
            revived += model.quantiser.revive(model.encoder(vectors).detach(), levels)
        progress.update()
    return revived


@torch.no_grad()
def _place_codes(model: QuantisingAutoencoder, vectors: torch.Tensor, levels: range, *, batch_size: int, seed: int) -> None:
    """Initialise the codes of some levels by k-means of the residual of the levels before them."""
    n_codes = len(model.quantiser.codebooks[0])
    chosen = np.random.default_rng(seed).permutation(len(vectors))[: SEEDING_POINTS * n_codes]
    residual = model.encoder(vectors[torch.from_numpy(chosen).to(vectors.device)])
    for level in range(levels.stop):
        if level in levels:
            points = np.ascontiguousarray(residual.float().cpu().numpy())
            centroids, nearest_ones = kmeans(points, n_codes, PLACING_ITERATIONS, seed + level)
            share = torch.from_numpy(np.bincount(nearest_ones, minlength=n_codes)).float() / len(points)
            model.quantiser.place(
                level, torch.from_numpy(centroids).to(vectors.device), batch_size * share.to(vectors.device)
            )
        codebook = model.quantiser.codebooks[level]
        codes = torch.cat([nearest(part, codebook) for part in residual.split(ROWS_AT_ONCE)])
        residual = residual - codebook[codes]


@torch.no_grad()
def _check_finite(
    model: QuantisingAutoencoder, batch: tuple[torch.Tensor, ...], levels: range, *, step: int, training: Training
) -> None:
    """Called after the last step too, and before revival and the next level's k-means, which fail on NaN."""
    model.eval()
    vectors, *beside = batch
    if not torch.isfinite(model.loss(vectors, levels, *beside)):
        wrong = f"the training diverged within {step} steps; lower it"
        raise SettingError("tokenizer_learning_rate", training.learning_rate, wrong)
    model.train()


def _optimizer(model: QuantisingAutoencoder, training: Training) -> torch.optim.Optimizer | None:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return LEARNERS[training.learner](parameters, lr=training.learning_rate) if parameters else None


def _batches(n: int, batch_size: int, steps: int, seed: int) -> Iterator[torch.Tensor]:
    """Batches of rows, every item once before any comes again."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(rows) < min(batch_size, n):
            rows = torch.cat([rows, torch.randperm(n, generator=generator)])
        batch, rows = rows[:batch_size], rows[batch_size:]
        yield batch
