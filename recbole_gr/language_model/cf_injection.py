"""Collaborative knowledge for a language model: item embeddings of a trained recommender (arXiv 2509.25522, Figure 9)."""

import torch
from torch import nn

KINDS = ("concat", "add")


class CFInjection(nn.Module):
    """Puts adapted item embeddings among the token embeddings of a prompt.

    The adapter is a multilayer perceptron with one hidden layer. ``concat`` lets the adapted embedding stand at a
    position of its own behind the item's tokens; it begins as large as a token embedding. ``add`` adds it to the
    embedding of each of the item's tokens; it begins at zero, so that the language model begins as it was.

    Args:
        vectors: float32 ``[n_items, d]``, row 0 is padding; they stay as they are.
        token_embedding: the language model's, ``[vocabulary, d_model]``.
        kind: ``concat`` or ``add``.
    """

    vectors: torch.Tensor

    def __init__(self, vectors: torch.Tensor, token_embedding: nn.Embedding, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("vectors", vectors)
        width = token_embedding.weight.shape[1]
        self.adapter = nn.Sequential(nn.Linear(vectors.shape[1], width), nn.GELU(), nn.Linear(width, width))
        last = self.adapter[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.bias)
        if kind == "add":
            nn.init.zeros_(last.weight)
            return
        with torch.no_grad():
            size = token_embedding.weight.float().pow(2).mean().sqrt()
            last.weight.mul_(size / self.adapter(vectors[1:1025]).pow(2).mean().sqrt())

    def forward(self, embedded: torch.Tensor, items: torch.Tensor, vector_places: torch.Tensor) -> torch.Tensor:
        """Token embeddings with the items' embeddings among them.

        Args:
            embedded: ``[b, t, d_model]``.
            items: int64 ``[b, t]``, the item of the history that a token belongs to, or 0; on the CPU, where to look for
                places makes no GPU wait, or where ``embedded`` is.
            vector_places: bool ``[b, t]``, where an embedding stands alone; on the device of ``items``.
        """
        where = vector_places if self.kind == "concat" else items > 0
        row, column = where.nonzero(as_tuple=True)
        chosen, row, column, where = (
            index.to(embedded.device, non_blocking=True) for index in (items[row, column], row, column, where)
        )
        adapted = self.adapter(self.vectors[chosen]).to(embedded.dtype)
        beneath = embedded if self.kind == "add" else embedded.masked_fill(where.unsqueeze(-1), 0)
        return beneath.index_put((row, column), adapted, accumulate=True)
