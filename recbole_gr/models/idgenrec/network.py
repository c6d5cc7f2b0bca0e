"""An encoder-decoder over the words of textual IDs: a small one of its own, or a T5 in the same layers."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from recbole_gr.language_model.t5 import PretrainedT5
from recbole_gr.models.tiger.layers import Decoder, Encoder, initialise_attention


@dataclass(frozen=True)
class NetworkShape:
    """How a network is built; the settings of the same names say what each is."""

    n_layers: int
    d_model: int
    n_heads: int
    d_kv: int
    d_ff: int
    decoder_layers: int | None = None
    feed_forward: str = "relu"
    dropout: float = 0.0
    causal: bool = False
    scaled: bool = False


class Encoded(NamedTuple):
    """What was read.

    Args:
        hidden: ``[b, p, d]``.
        bias: ``[b, 1, 1, p]``, 0, or -inf at padding.
    """

    hidden: torch.Tensor
    bias: torch.Tensor


class IDNetwork(nn.Module):
    """A T5-style encoder-decoder that generates the words of an ID.

    Args:
        vocabulary: how many tokens there are.
        begin: the token that an ID is generated from.
        shape: how it is built.
    """

    def __init__(self, vocabulary: int, begin: int, shape: NetworkShape) -> None:
        super().__init__()
        self.begin, self.shape = begin, shape
        stack: dict[str, Any] = {
            **{"d_model": shape.d_model, "n_heads": shape.n_heads, "d_kv": shape.d_kv, "d_ff": shape.d_ff},
            **{"feed_forward": shape.feed_forward, "dropout": shape.dropout},
        }
        self.embedding = nn.Embedding(vocabulary, shape.d_model)
        self.encoder = Encoder(n_layers=shape.n_layers, causal=shape.causal, **stack)
        self.decoder = Decoder(n_layers=shape.decoder_layers or shape.n_layers, **stack)
        self.head = nn.Linear(shape.d_model, vocabulary, bias=False)
        self._initialise()

    def _initialise(self) -> None:
        """T5's scheme: unscaled attention needs small query weights; the head starts near uniform."""
        d_model = self.shape.d_model
        nn.init.normal_(self.embedding.weight, std=1.0)
        nn.init.normal_(self.head.weight, std=0.1 * d_model**-0.5)
        for name, weight in self.named_parameters():
            if name.endswith("position_bias.bias.weight"):
                nn.init.normal_(weight, std=d_model**-0.5)
            elif weight.dim() == 2 and ("encoder." in name or "decoder." in name):
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        initialise_attention(self, scaled=False)

    def encode(self, positions: torch.Tensor, present: torch.Tensor) -> Encoded:
        """Read positions.

        Args:
            positions: ``[b, p, d]``.
            present: bool ``[b, p]``, which there are; with a causal encoder they come before the padding.
        """
        bias = torch.zeros(present.shape, dtype=positions.dtype, device=positions.device)
        bias = bias.masked_fill(~present, -torch.inf)[:, None, None, :]
        return Encoded(self.encoder(positions, bias), bias)

    def states(self, encoded: Encoded, tokens: torch.Tensor, *, at_every_position: bool = False) -> torch.Tensor:
        """The decoder's states from which each token of given IDs is generated (teacher forcing).

        Args:
            encoded: from :meth:`encode`.
            tokens: int64 ``[b, r, l]``, the tokens of r IDs each; anything behind their ends.
            at_every_position: ID j follows position j, whatever comes after (r = p); otherwise all r follow all positions.

        Returns:
            ``[b, r, l, d]``.
        """
        inputs = F.pad(tokens[..., :-1], (1, 0), value=self.begin)
        bias = encoded.bias
        if at_every_position:  # padding is behind the positions and needs no bias of its own
            position = torch.arange(encoded.hidden.shape[1], device=tokens.device)
            later = position > position[: tokens.shape[1], None]
            bias = torch.zeros(later.shape, dtype=encoded.hidden.dtype, device=tokens.device)
            bias = bias.masked_fill(later, -torch.inf).repeat_interleave(tokens.shape[2], dim=0)[None, None]
        return self.decoder(self.embedding(inputs), self.decoder.history_keys_values(encoded.hidden), bias)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """``[..., d]`` -> float32 ``[..., vocabulary]``."""
        if self.shape.scaled:
            states = states * self.shape.d_model**-0.5
        return self.head(states).float()


def network_of_t5(t5: PretrainedT5, dropout: float) -> IDNetwork:
    """A pretrained T5 in our layers, with the same logits.

    Args:
        t5: what was read.
        dropout: in training.
    """
    config = t5.config
    shape = NetworkShape(
        config.num_layers,
        config.d_model,
        config.num_heads,
        config.d_kv,
        config.d_ff,
        decoder_layers=config.num_decoder_layers,
        feed_forward=t5.feed_forward,
        dropout=dropout,
        scaled=t5.scaled,
    )
    network = IDNetwork(config.vocab_size, config.decoder_start_token_id or 0, shape)
    network.load_state_dict(_renamed(t5.weights, config.num_layers, config.num_decoder_layers))
    if torch.equal(t5.weights["lm_head.weight"], t5.weights["shared.weight"]):
        network.head.weight = network.embedding.weight
    return network


def _renamed(weights: dict[str, torch.Tensor], n_encoder: int, n_decoder: int) -> dict[str, torch.Tensor]:
    """The weights of transformers' T5 by the names of :class:`IDNetwork`."""
    named = {"embedding.weight": weights["shared.weight"], "head.weight": weights["lm_head.weight"]}
    for stack, layers in (("encoder", n_encoder), ("decoder", n_decoder)):
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        named[f"{stack}.position_bias.bias.weight"] = weights[bias]
        named[f"{stack}.norm.weight"] = weights[f"{stack}.final_layer_norm.weight"]
        of_self, of_last = ("attention", 1) if stack == "encoder" else ("self_attention", 2)
        for layer in range(layers):
            there, here = f"{stack}.block.{layer}.layer", f"{stack}.layers.{layer}"
            joined = [weights[f"{there}.0.SelfAttention.{part}.weight"] for part in "qkv"]
            named[f"{here}.{of_self}.query_key_value.weight"] = torch.cat(joined)
            named[f"{here}.{of_self}.output.weight"] = weights[f"{there}.0.SelfAttention.o.weight"]
            named[f"{here}.{of_self}_norm.weight"] = weights[f"{there}.0.layer_norm.weight"]
            if stack == "decoder":
                crossed = f"{there}.1.EncDecAttention"
                named[f"{here}.cross_attention.query.weight"] = weights[f"{crossed}.q.weight"]
                keys_values = [weights[f"{crossed}.{part}.weight"] for part in "kv"]
                named[f"{here}.cross_attention.key_value.weight"] = torch.cat(keys_values)
                named[f"{here}.cross_attention.output.weight"] = weights[f"{crossed}.o.weight"]
                named[f"{here}.cross_attention_norm.weight"] = weights[f"{there}.1.layer_norm.weight"]
            forward = f"{there}.{of_last}.DenseReluDense"
            parts = {"inner": "wi", "outer": "wo"}
            if f"{forward}.wi_0.weight" in weights:
                parts = {"gate": "wi_0", "inner": "wi_1", "outer": "wo"}
            for ours, theirs in parts.items():
                named[f"{here}.feed_forward.{ours}.weight"] = weights[f"{forward}.{theirs}.weight"]
            named[f"{here}.feed_forward_norm.weight"] = weights[f"{there}.{of_last}.layer_norm.weight"]
    return named
