"""SASRec's network (Kang and McAuley, ICDM 2018), as RecBole lays it out: norms behind the residual sums, GELU."""

import torch
from torch import nn
from torch.nn import functional as F

from recbole_gr.models.elementwise import Dropout


class CausalTransformer(nn.Module):
    """Reads embedded items, each of which sees those before it and itself.

    Args:
        hidden_size: width ``d``.
        n_layers: layers.
        n_heads: heads of each, which share ``d``.
        inner_size: width within a feed-forward layer.
        longest: positions at most.
        dropout: of what goes in and of what each sub-layer adds.
        attention_dropout: of attention weights.
        eps: of the norms.
        std: of the first weights.
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        n_layers: int,
        n_heads: int,
        inner_size: int,
        longest: int,
        dropout: float,
        attention_dropout: float,
        eps: float,
        std: float,
    ) -> None:
        super().__init__()
        self.position_embedding = nn.Embedding(longest, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=eps)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(hidden_size, n_heads, inner_size, dropout, attention_dropout, eps) for _ in range(n_layers)
        )
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, embedded: torch.Tensor) -> torch.Tensor:
        """``[b, t, d]``, oldest item first, padding behind -> the state after each item, ``[b, t, d]``."""
        positions = self.position_embedding.weight[: embedded.shape[1]]
        hidden = self.dropout(self.norm(embedded + positions))
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class TransformerLayer(nn.Module):
    """Causal self-attention and a feed-forward layer."""

    def __init__(
        self, hidden_size: int, n_heads: int, inner_size: int, dropout: float, attention_dropout: float, eps: float
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.attention_norm = nn.LayerNorm(hidden_size, eps=eps)
        self.inner = nn.Linear(hidden_size, inner_size)
        self.outer = nn.Linear(inner_size, hidden_size)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, eps=eps)
        self.dropout, self.attention_dropout = Dropout(dropout), Dropout(attention_dropout)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[b, t, d]`` -> ``[b, t, d]``."""
        hidden = self.attention_norm(hidden + self.dropout(self.output(self._attend(hidden))))
        return self.feed_forward_norm(hidden + self.dropout(self.outer(F.gelu(self.inner(hidden)))))

    def _attend(self, hidden: torch.Tensor) -> torch.Tensor:
        b, t, d = hidden.shape
        by_head = self.query_key_value(hidden).view(b, t, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        queries, keys, values = by_head.contiguous().unbind(0)
        if hidden.device.type == "cpu":  # where torch's function is slow with dropout
            later = torch.full((t, t), -torch.inf, dtype=queries.dtype).triu(1)
            scores = (queries @ keys.transpose(2, 3)).mul_(queries.shape[-1] ** -0.5).add_(later)
            attended = self.attention_dropout(scores.softmax(dim=-1)) @ values
        else:
            dropout = self.attention_dropout.p if self.training else 0.0
            attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, dropout_p=dropout)
        return attended.transpose(1, 2).reshape(b, t, d)
