"""Attention that is scaled is that of the formula, at every place where a network computes it."""

import math

import numpy as np
import pytest
import torch
from models import test_rpg_network
from models.test_tiger_network import SIZES, histories, network

from recbole_gr.decoding.beam_search import SearchLimits, certified_beam_search
from recbole_gr.decoding.trie import Trie
from recbole_gr.models.tiger.decoder_only import DecoderOnly
from recbole_gr.models.tiger.encoder_decoder import EncoderDecoder
from recbole_gr.models.tiger.layers import Attention, Encoder, SelfAttention, initialise_attention
from recbole_gr.models.tiger.temporal_depth import TemporalDepth

ARCHITECTURES = [
    (EncoderDecoder, {}),
    (DecoderOnly, {"causal": True}),
    (DecoderOnly, {"causal": False}),
    (TemporalDepth, {"causal": True, "history_position": "item"}),
]


@torch.no_grad()
def test_logits_are_divided_by_the_root_of_the_width_of_a_head():
    """GPT-2's formula, by torch's own function."""
    torch.manual_seed(0)
    attention = SelfAttention(12, 2, 9, 0.0).eval()
    attention.scale = 1 / math.sqrt(9)
    hidden, bias = torch.randn(3, 5, 12), torch.randn(1, 2, 5, 5)
    queries, keys, values = (
        (hidden @ weight.T).unflatten(-1, (2, 9)).transpose(1, 2) for weight in attention.projection_weights()
    )
    expected = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
    found, _ = attention(hidden, bias)
    torch.testing.assert_close(found, attention.output(expected.transpose(1, 2).flatten(2)))


def with_longer_queries(scaled, plain):
    """The weights of a network without scaling, and queries longer by what the scale takes away."""
    scaled.load_state_dict(plain.state_dict())
    for module in scaled.modules():
        if isinstance(module, Attention):
            module.projection_weights()[0].mul_(math.sqrt(module.d_kv))
    return scaled


@pytest.mark.parametrize(("architecture", "options"), ARCHITECTURES, ids=str)
@torch.no_grad()
def test_all_of_tigers_stacks_score_and_search_alike(architecture, options):
    """Scoring, and the search, which computes attention position by position, with scale and longer queries and without both."""
    plain = network(architecture, **options)
    for module in plain.modules():
        if isinstance(module, Attention):
            module.projection_weights()[0].mul_(5)  # queries that matter
    scaled = with_longer_queries(network(architecture, scaled_attention=True, **options), plain)
    rng = np.random.default_rng(0)
    codes = np.unique(np.stack([rng.integers(0, size, 60) for size in SIZES], axis=1), axis=0)
    trie = Trie(np.concatenate([np.full((1, len(SIZES)), -1), codes]), SIZES)
    every_item = torch.as_tensor(codes)
    scores = []
    for model in (plain, scaled):
        encoded = model.encode(histories())
        scores.append(model.log_likelihood(encoded, every_item.expand(5, -1, -1)))
        lists = certified_beam_search(model.start_decoding(encoded), trie, SearchLimits(len(codes), 10)).lists.dense()
        torch.testing.assert_close(lists[:, 1:], scores[-1], atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(scores[0], scores[1], atol=2e-5, rtol=1e-5)
    unlike = network(architecture, scaled_attention=True, **options)
    unlike.load_state_dict(plain.state_dict())
    assert not torch.allclose(
        unlike.log_likelihood(unlike.encode(histories()), every_item.expand(5, -1, -1)), scores[0], atol=1e-3
    )


@torch.no_grad()
def test_rpgs_stack_too():
    history = test_rpg_network.histories()
    plain = test_rpg_network.randomised(test_rpg_network.network())
    scaled = with_longer_queries(test_rpg_network.network(scaled_attention=True).eval(), plain)
    for row, length in enumerate(history.lengths.tolist()):
        torch.testing.assert_close(
            scaled.states(history)[row, :length], plain.states(history)[row, :length], atol=2e-5, rtol=1e-5
        )


@pytest.mark.parametrize("scaled", [True, False])
@torch.no_grad()
def test_a_fresh_network_has_the_same_logits_either_way(scaled):
    """Their variance is that of unit vectors' products: about 1 of normed inputs."""
    torch.manual_seed(0)
    encoder = Encoder(n_layers=1, d_model=64, n_heads=4, d_kv=16, d_ff=8, feed_forward="relu", dropout=0.0)
    attention = encoder.layers[0].attention
    torch.nn.init.normal_(attention.query_key_value.weight, std=64**-0.5)
    initialise_attention(encoder, scaled=scaled)
    queries, (keys, _) = attention.project(torch.randn(20, 30, 64))
    assert (queries @ keys.transpose(2, 3)).var().item() == pytest.approx(1.0, rel=0.1)
    assert queries.shape == (20, 4, 30, 16)
