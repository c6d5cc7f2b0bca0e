"""What an item's position holds beside its codes: un-quantised vectors, and an embedding of the item's own."""

from collections.abc import Mapping

import torch
from torch import nn


class ItemInjection(nn.Module):
    """Vectors to be added to the positions of items, made from what is known of each item.

    Un-quantised text vectors and item embeddings of a trained model each go through a small MLP (arXiv 2509.25522, figure 6;
    LIGER, arXiv 2411.18814, section 3, has a linear layer). A free embedding per item makes a model that is no longer one of
    semantic IDs alone; where it is dropped, it is dropped as a whole, so that the codes must do without it.

    Args:
        vectors: by name, float32 ``[n_items, d]`` each, row 0 is the padding item; kept in the checkpoint.
        d_model: width of the positions.
        n_items: items with an embedding of their own; 0: there are none.
        embedding_dropout: the probability of an item's embedding to be dropped.
    """

    def __init__(self, vectors: Mapping[str, torch.Tensor], d_model: int, *, n_items: int, embedding_dropout: float) -> None:
        super().__init__()
        self.names = tuple(vectors)
        self.adapters = nn.ModuleDict()
        for name, rows in vectors.items():
            self.register_buffer(f"{name}_vectors", _of_unit_variance(rows))
            self.adapters[name] = nn.Sequential(
                nn.Linear(rows.shape[1], d_model), nn.ReLU(), nn.Linear(d_model, d_model, bias=False)
            )
        self.embedding = nn.Embedding(n_items, d_model) if n_items else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=0.1)
        self.embedding_dropout = embedding_dropout

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Item ids int64 ``[b, t]`` -> float32 ``[b, t, d_model]``."""
        parts = [self.adapted(name, items) for name in self.names]
        if self.embedding is not None:
            parts.append(self._drop_whole(self.embedding(items)))
        return sum(parts[1:], parts[0])

    def adapted(self, name: str, items: torch.Tensor) -> torch.Tensor:
        """The vectors of one name behind their MLP: item ids int64 ``[...]`` -> float32 ``[..., d_model]``."""
        return self.adapters[name](self.get_buffer(f"{name}_vectors")[items])

    def _drop_whole(self, embedded: torch.Tensor) -> torch.Tensor:
        if not self.training or self.embedding_dropout == 0:
            return embedded
        kept = torch.rand(embedded.shape[:-1], device=embedded.device).unsqueeze(-1) >= self.embedding_dropout
        return embedded * kept / (1 - self.embedding_dropout)


def on_the_scale_of(rows: torch.Tensor, kept: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Rows of new items as the catalogue that ``kept`` is of was centred and scaled.

    Args:
        rows: float32 ``[n_items, d]`` of all items, centred and scaled together.
        kept: float32 ``[n_items, d]``, the same vectors as others centred and scaled them; what it has for new items is not used.
        known: bool ``[n_items]``, which items both have.

    Returns:
        torch.Tensor: ``kept`` with the rows of new items; rows of zeros, of items without, stay zeros.
    """
    rows, known = rows.to(kept.device), known.to(kept.device)
    has = rows.abs().sum(dim=1) > 0
    shared = known & has & (kept.abs().sum(dim=1) > 0)
    if not shared.any():
        return torch.where(known.unsqueeze(1), kept, rows)
    middles = rows[shared].mean(dim=0), kept[shared].mean(dim=0)
    spreads = [(part[shared] - middle).norm().clamp(min=1e-12) for part, middle in zip((rows, kept), middles, strict=True)]
    moved = (rows - middles[0]) * (spreads[1] / spreads[0]) + middles[1]
    return torch.where(known.unsqueeze(1), kept, moved * has.unsqueeze(1))


def _of_unit_variance(rows: torch.Tensor) -> torch.Tensor:
    """Centred rows, scaled together so that their elements have the variance 1; rows of zeros, of items without, stay zeros."""
    known = rows.abs().sum(dim=1, keepdim=True) > 0
    count = known.sum().clamp(min=1)
    centred = (rows - (rows * known).sum(dim=0) / count) * known
    return centred / (centred.square().sum() / (count * rows.shape[1])).sqrt().clamp(min=1e-12)
