"""HSTU (Zhai et al., ICML 2024, arXiv 2402.17152, section 3): layers of pointwise aggregated attention.

Shapes: ``b`` histories, ``t`` positions, ``d`` width, ``h`` heads, ``e = d / h``.
"""

import torch
from torch import nn
from torch.nn import functional as F

from recbole_gr.models.elementwise import Dropout

#: A bucket of time reaches ``e ** 0.301`` = 1.35 times as far as the one before it.
LOG_STEP = 0.301


class HSTUNetwork(nn.Module):
    """Reads embedded items, each of which sees those before it and itself.

    Args:
        hidden_size: width ``d``.
        n_layers: layers.
        n_heads: heads of each.
        longest: positions at most.
        time_buckets: buckets of the time bias; 0: attention knows positions only.
        dropout: of what goes in and of what each layer puts out.
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
        longest: int,
        time_buckets: int,
        dropout: float,
        attention_dropout: float,
        eps: float,
        std: float,
    ) -> None:
        super().__init__()
        self.time_buckets = time_buckets
        self.position_embedding = nn.Embedding(longest, hidden_size)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            HSTULayer(hidden_size, n_heads, longest, time_buckets, dropout, attention_dropout, eps) for _ in range(n_layers)
        )
        for name, weight in self.named_parameters():
            if weight.dim() > 1 or name.endswith(("position_bias", "time_bias")):
                nn.init.normal_(weight, std=std)

    def forward(self, embedded: torch.Tensor, times: torch.Tensor | None) -> torch.Tensor:
        """The state after each item.

        Args:
            embedded: ``[b, t, d]``, oldest item first, padding behind.
            times: int64 ``[b, t]``, anything at padding; None if there are no buckets.

        Returns:
            ``[b, t, d]``.
        """
        t, d = embedded.shape[1:]
        hidden = self.dropout(embedded * d**0.5 + self.position_embedding.weight[:t])
        buckets = None if times is None else bucket_of(times.unsqueeze(2) - times.unsqueeze(1), self.time_buckets)
        for layer in self.layers:
            hidden = layer(hidden, buckets)
        return hidden


def bucket_of(elapsed: torch.Tensor, n_buckets: int) -> torch.Tensor:
    """``floor(ln(max(1, |elapsed|)) / 0.301)``, at most the last bucket: int64 of the shape of ``elapsed``, which is int64."""
    bucket = (elapsed.abs().clamp(min=1).float().log() / LOG_STEP).long()
    return bucket.clamp(max=n_buckets - 1)


class HSTULayer(nn.Module):
    """One layer: ``u, v, q, k = silu(W norm(x))``; ``x + W' (norm(silu(q k' + bias) v) * u)``.

    The bias is shared by the heads; attention weights are divided by ``longest``, and do not depend on the width of a batch.
    """

    def __init__(
        self,
        hidden_size: int,
        n_heads: int,
        longest: int,
        time_buckets: int,
        dropout: float,
        attention_dropout: float,
        eps: float,
    ) -> None:
        super().__init__()
        self.n_heads, self.longest, self.eps = n_heads, longest, eps
        self.projection = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.position_bias = nn.Parameter(torch.empty(longest))
        self.time_bias = nn.Parameter(torch.empty(time_buckets)) if time_buckets else None
        self.dropout, self.attention_dropout = Dropout(dropout), Dropout(attention_dropout)
        nn.init.zeros_(self.output.bias)

    def forward(self, hidden: torch.Tensor, buckets: torch.Tensor | None) -> torch.Tensor:
        """``[b, t, d]`` and int64 ``[b, t, t]``, of the time between query and key -> ``[b, t, d]``."""
        b, t, d = hidden.shape
        projected = F.silu(self.projection(F.layer_norm(hidden, (d,), eps=self.eps)))
        gate, rest = projected[..., :d], projected[..., d:]
        by_head = rest.view(b, t, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        values, queries, keys = by_head.contiguous().unbind(0)
        weights = F.silu(queries @ keys.transpose(2, 3) + self.bias(t, buckets).to(queries.dtype))
        position = torch.arange(t, device=hidden.device)
        weights = weights * (position <= position[:, None]).to(weights.dtype) / self.longest
        attended = (self.attention_dropout(weights) @ values).transpose(1, 2).reshape(b, t, d)
        normed = F.layer_norm(attended, (d,), eps=self.eps)
        return hidden + self.output(self.dropout(normed * gate))

    def bias(self, t: int, buckets: torch.Tensor | None) -> torch.Tensor:
        """Of position, and of time where there are ``buckets``: ``[1 or b, 1, t, t]``, anything at keys behind the query."""
        position = torch.arange(t, device=self.position_bias.device)
        bias = self.position_bias[(position[:, None] - position).clamp(min=0)].unsqueeze(0)
        if buckets is not None and self.time_bias is not None:
            bias = bias + self.time_bias[buckets]
        return bias.unsqueeze(1)
