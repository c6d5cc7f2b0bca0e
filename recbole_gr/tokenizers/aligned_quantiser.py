"""An RQ-VAE whose quantised vectors agree with CF vectors and whose codes are spread (LETTER, arXiv 2405.07314, section 3)."""

import numpy as np
import torch
from torch.nn import functional as F

from recbole_gr.tokenizers.families.rkmeans import balanced_codes, kmeans
from recbole_gr.tokenizers.quantiser import QuantisingAutoencoder, ResidualQuantiser, squared_length

#: Lloyd iterations of the k-means that groups the codes of a level.
CLUSTERING_ITERATIONS = 10


class AligningAutoencoder(QuantisingAutoencoder):
    """The RQ-VAE with LETTER's collaborative and diversity regularisation.

    Args:
        quantiser, widths, estimator, commitment: as in :class:`~recbole_gr.tokenizers.quantiser.QuantisingAutoencoder`.
        alignment: weight of the contrastive loss between quantised vectors and CF vectors (the paper's alpha).
        diversity: weight of the diversity loss (the paper's beta).
        n_clusters: clusters of the codes of a level.
        clustering_steps: the codes are clustered anew after so many training steps.
        seed: of the clustering.
    """

    def __init__(
        self,
        quantiser: ResidualQuantiser,
        widths: list[int],
        estimator: str,
        commitment: float,
        *,
        alignment: float,
        diversity: float,
        n_clusters: int,
        clustering_steps: int,
        seed: int,
    ) -> None:
        super().__init__(quantiser, widths, estimator, commitment)
        self.alignment, self.diversity = alignment, diversity
        self.n_clusters, self.clustering_steps, self.seed = n_clusters, clustering_steps, seed
        self.step = 0
        #: What the last batch of the training gave, by name.
        self.last: dict[str, torch.Tensor] = {}
        self.clusters: list[CodeClusters] = []

    def loss(self, vectors: torch.Tensor, levels: range, *beside: torch.Tensor) -> torch.Tensor:
        """The loss of the RQ-VAE, the contrastive and the diversity loss by their weights, per dimension of the vectors.

        Args:
            vectors: float32 ``[B, d]``.
            levels: the levels that learn.
            beside: the CF vectors, float32 ``[B, latent]``; zeros for items without.
        """
        (cf,) = beside
        points = self.encoder(vectors)
        quantised, codebook_loss, commitment_loss = self.quantiser(points, levels)
        passed = self.estimate(points, quantised)
        error = squared_length(self.decoder(passed) - vectors).mean()
        loss = error + codebook_loss + self.commitment * commitment_loss
        parts = {"reconstruction_loss": error, "contrastive_loss": contrastive_loss(passed, cf)}
        loss = loss + self.alignment * parts["contrastive_loss"]
        if self.diversity:
            parts["diversity_loss"] = self._diversity_loss(points.detach())
            loss = loss + self.diversity * parts["diversity_loss"]
        self.last = {name: part.detach() for name, part in parts.items()}
        return loss / vectors.shape[1]

    def _diversity_loss(self, points: torch.Tensor) -> torch.Tensor:
        """Summed over the levels."""
        if self.training:
            if self.step % self.clustering_steps == 0:
                self.clusters = [
                    CodeClusters(codebook.detach(), self.n_clusters, self.seed) for codebook in self.quantiser.codebooks
                ]
            self.step += 1
        codes = self.quantiser.encode(points)[0].unbind(1)
        levels = zip(self.quantiser.codebooks, self.clusters, codes, strict=True)
        return sum(
            (diversity_loss(codebook, code, clusters.others(code)) for codebook, clusters, code in levels),
            points.new_zeros(()),
        )


def contrastive_loss(quantised: torch.Tensor, cf: torch.Tensor) -> torch.Tensor:
    """How far the batch's quantised vectors are from finding their own CF vector among those of the batch, a scalar.

    The cross-entropy of the softmax of inner products (InfoNCE), mean over the items that have a CF vector.

    Args:
        quantised: float32 ``[B, d]``.
        cf: float32 ``[B, d]``; items of zeros have none and count neither as an item nor as one to be found.
    """
    known = cf.abs().sum(dim=1) > 0
    if not known.any():
        return quantised.sum() * 0
    similarity = quantised[known] @ cf[known].T
    return F.cross_entropy(similarity, torch.arange(len(similarity), device=similarity.device))


def diversity_loss(codebook: torch.Tensor, code: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """How far items' codes are from being near another code of their cluster and far from the rest, a scalar.

    Args:
        codebook: float32 ``[W, d]``.
        code: int64 ``[B]``, the code of each item; it is left out of the items' own softmax.
        other: int64 ``[B]``, another code of its cluster.
    """
    similarity = F.embedding(code, codebook) @ codebook.T
    own = F.one_hot(code, len(codebook)).bool()
    return F.cross_entropy(similarity.masked_fill(own, -torch.inf), other)


class CodeClusters:
    """Clusters of even size of the codes of a level, by k-means.

    Args:
        codebook: float32 ``[W, d]``.
        n_clusters: how many; fewer where a cluster would have a single code.
        seed: of the k-means.
    """

    def __init__(self, codebook: torch.Tensor, n_clusters: int, seed: int) -> None:
        points = np.ascontiguousarray(codebook.float().cpu().numpy())
        n_clusters = max(1, min(n_clusters, len(points) // 2))
        self.of_code = balanced_codes(points, kmeans(points, n_clusters, CLUSTERING_ITERATIONS, seed)[0])
        order = np.argsort(self.of_code, kind="stable")
        size = np.bincount(self.of_code, minlength=n_clusters)
        first = np.cumsum(size) - size
        place = np.empty(len(points), dtype=np.int64)
        place[order] = np.arange(len(points))
        self._order, self._first, self._size, self._place = (
            torch.from_numpy(np.ascontiguousarray(part, dtype=np.int64)).to(codebook.device)
            for part in (order, first[self.of_code], size[self.of_code], place)
        )

    def others(self, code: torch.Tensor) -> torch.Tensor:
        """For each of some codes int64 ``[B]`` another one of its cluster, drawn by torch's random state of the CPU.

        A code that is alone in its cluster, as none is but where there are fewer than four codes, gets itself.
        """
        first, size = self._first[code], self._size[code]
        within = self._place[code] - first
        ahead = 1 + (torch.rand(len(code)).to(code.device) * (size - 1)).long()
        return self._order[first + (within + ahead) % size]


def fitted_to_width(vectors: np.ndarray, width: int) -> np.ndarray:
    """CF vectors with as many dimensions as what is quantised, so that the two have an inner product.

    Wider ones keep their principal components, narrower ones get zeros behind them. They are centred, which a softmax over items
    does not see, and scaled by one number.

    Args:
        vectors: float32 ``[n, d]``; zeros for items without.
        width: dimensions.

    Returns:
        numpy.ndarray: float32 ``[n, width]``, of mean squared length ``width``; zeros for items without.
    """
    known = np.any(vectors, axis=1)
    rows = vectors[known].astype(np.float64)
    rows -= rows.mean(axis=0)
    if rows.shape[1] > width:
        _, axes = np.linalg.eigh(rows.T @ rows)
        rows = rows @ axes[:, ::-1][:, :width]
    fitted = np.zeros((len(vectors), width), dtype=np.float32)
    scale = np.sqrt(width * len(rows) / max(np.square(rows).sum(), 1e-12))
    fitted[known, : rows.shape[1]] = rows * scale
    return fitted
