"""A softmax over the catalogue, trained beside the codes."""

import torch
from torch import nn
from torch.nn import functional as F

from recbole_gr.models.item_softmax import full_softmax_loss


class DenseHead(nn.Module):
    """Scores of all items from one state, by an output embedding per item.

    Args:
        d_model: width of the states.
        n_items: the items, padding included, which is never scored.
    """

    def __init__(self, d_model: int, n_items: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_items, d_model)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """``[n, d_model]`` -> float32 ``[n, n_items]``, -inf for padding."""
        logits = F.linear(states, self.embedding.weight).float()
        logits[:, 0] = -torch.inf
        return logits

    def loss(self, states: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of the items int64 ``[n]`` that follow the states; 0, the padding item, does not count."""
        return full_softmax_loss(states, self.embedding.weight, items)

    def log_probs(self, states: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of all items, float32 ``[n, n_items]``."""
        return self.logits(states).log_softmax(dim=-1)
