"""The training loop of the tokenizers that are trained."""

import functools
import time
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from recbole_gr.utils.errors import SettingError
from recbole_gr.utils.memory import ROWS_AT_ONCE
from recbole_gr.tokenizers.residual_quantiser import nearest
from recbole_gr.tokenizers.rkmeans import SEEDING_POINTS, kmeans

LEARNERS = {
    "adam": torch.optim.Adam,
    # TensorFlow's and optax's Adagrad start so, and TIGER's rate of 0.4 is meant for it: from 0, torch's own default, the
    # first step moves every weight by the whole rate
    "adagrad": functools.partial(torch.optim.Adagrad, initial_accumulator_value=0.1),
}
ORDERS = ("joint", "layerwise")
#: Lloyd iterations that place the codes before they are trained.
PLACING_ITERATIONS = 10
#: How many losses of a training are kept.
KEPT_LOSSES = 20


@dataclass(frozen=True)
class Training:
    """How a quantiser is trained; :func:`recbole_gr.tokenizers.trained.rvq` says what each setting means."""

    steps: int
    batch_size: int
    learner: str
    learning_rate: float
    order: str
    dead_code_steps: int


def train(model, vectors, training, seed, show_progress):
    """Place the codes by k-means, level by level, and train the model.

    Args:
        model (QuantisingAutoencoder): trained in place, on its device.
        vectors (torch.Tensor): float32 ``[n, d]``, on the same device.
        training (Training): how.
        seed (int): of the placing and of the order of the items.
        show_progress (bool): show a progress bar.

    Returns:
        dict: ``steps``, ``seconds``, ``loss`` (means over twentieths of the training), ``revived_codes``.

    Raises:
        SettingError: the loss is no longer a finite number.
    """
    start = time.perf_counter()
    n_levels = len(model.quantiser.codebooks)
    stages = [range(n_levels)] if training.order == "joint" else [range(level, level + 1) for level in range(n_levels)]
    losses, revived = [], 0
    progress = tqdm(total=training.steps, desc="Train tokenizer", disable=not show_progress)
    # importing one of RecBole's models (SINE) turns anomaly detection on: slow, and a traceback where we have one line
    with progress, torch.autograd.set_detect_anomaly(False):
        for number, levels in enumerate(stages):
            _place_codes(model, vectors, levels, min(training.batch_size, len(vectors)), seed)
            steps = training.steps * (number + 1) // len(stages) - training.steps * number // len(stages)
            batches = _batches(len(vectors), training.batch_size, steps, seed + number)
            revived += _train_levels(model, vectors, levels, batches, steps, training, losses, progress)
    losses = torch.stack(losses).cpu()
    return {
        "steps": training.steps,
        "seconds": round(time.perf_counter() - start, 2),
        "loss": [float(f"{part.mean():.5g}") for part in losses.tensor_split(min(KEPT_LOSSES, len(losses)))],
        "revived_codes": revived,
    }


def _train_levels(model, vectors, levels, batches, steps, training, losses, progress):
    """Train some levels; adds to ``losses`` and returns how many codes were revived."""
    optimizer, revived = _optimizer(model, training), 0
    for step, rows in enumerate(batches, start=1):
        loss = model.loss(vectors[rows], levels)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.detach())
        reviving = training.dead_code_steps and step % training.dead_code_steps == 0
        if reviving or step == steps:
            _check_finite(model, vectors[rows], levels, len(losses), training)
        if reviving and step < steps:  # what is moved after the last step would never be trained
            revived += model.quantiser.revive(model.encoder(vectors[rows]).detach(), levels)
        progress.update()
    return revived


@torch.no_grad()
def _place_codes(model, vectors, levels, batch_size, seed):
    """Start the codes of some levels at the clusters of what the levels before them leave over."""
    n_codes = len(model.quantiser.codebooks[0])
    chosen = np.random.default_rng(seed).permutation(len(vectors))[: SEEDING_POINTS * n_codes]
    residual = model.encoder(vectors[torch.from_numpy(chosen).to(vectors.device)])
    for level in range(levels.stop):
        if level in levels:
            points = np.ascontiguousarray(residual.float().cpu().numpy())
            codebook, codes = kmeans(points, n_codes, PLACING_ITERATIONS, seed + level)
            share = torch.from_numpy(np.bincount(codes, minlength=n_codes)).float() / len(points)
            codebook = torch.from_numpy(codebook).to(vectors.device)
            model.quantiser.place(level, codebook, batch_size * share.to(vectors.device))
        codebook = model.quantiser.codebooks[level]
        codes = torch.cat([nearest(part, codebook) for part in residual.split(ROWS_AT_ONCE)])
        residual = residual - codebook[codes]


@torch.no_grad()
def _check_finite(model, batch, levels, step, training):
    """Look after the last step too, and before revival and the next level's k-means, which fail on anything but numbers."""
    model.eval()
    if not torch.isfinite(model.loss(batch, levels)):
        wrong = f"the training diverged within {step} steps; lower it"
        raise SettingError("tokenizer_learning_rate", training.learning_rate, wrong)
    model.train()


def _optimizer(model, training):
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return LEARNERS[training.learner](parameters, lr=training.learning_rate) if parameters else None


def _batches(n, batch_size, steps, seed):
    """Batches of rows, every item once before any comes again."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(rows) < min(batch_size, n):
            rows = torch.cat([rows, torch.randperm(n, generator=generator)])
        batch, rows = rows[:batch_size], rows[batch_size:]
        yield batch
