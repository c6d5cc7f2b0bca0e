"""The temporal and the depth stack against the same arithmetic written as loops over positions, heads and levels."""

import pytest
import torch
from models.test_tiger_network import SIZES, histories, items, network, randomise_norms_and_biases

from recbole_gr.models.tiger.temporal_depth import TemporalDepth


def normed(hidden, norm):
    return hidden / (hidden.square().mean() + 1e-6).sqrt() * norm.weight


def fed_forward(hidden, layer):
    inner = layer.inner.weight @ hidden
    if layer.gate is None:
        return layer.outer.weight @ inner.clamp(min=0)
    return layer.outer.weight @ (torch.nn.functional.gelu(layer.gate.weight @ hidden, approximate="tanh") * inner)


def looked_back(position, normed_inputs, attention, bias, visible):
    """Attention of one position to the ``visible`` ones, head by head."""
    queries, keys, values = attention.projection_weights()
    heads = []
    for head in range(attention.n_heads):
        mine = slice(head * attention.d_kv, (head + 1) * attention.d_kv)
        query = queries[mine] @ normed_inputs[position]
        scores = []
        for other in visible:
            bucket = int(bias.bucket(torch.tensor(other - position)))
            scores.append(query @ (keys[mine] @ normed_inputs[other]) + bias.bias.weight[bucket, head])
        share = torch.stack(scores).softmax(0)
        heads.append(sum(share[i] * (values[mine] @ normed_inputs[other]) for i, other in enumerate(visible)))
    return attention.output.weight @ torch.cat(heads)


def stack(inputs, encoder, causal):
    """What a stack makes of a list of positions."""
    hidden = list(inputs)
    for layer in encoder.layers:
        before = [normed(each, layer.attention_norm) for each in hidden]
        hidden = [
            each
            + looked_back(i, before, layer.attention, encoder.position_bias, range(i + 1) if causal else range(len(hidden)))
            for i, each in enumerate(hidden)
        ]
        hidden = [each + fed_forward(normed(each, layer.feed_forward_norm), layer.feed_forward) for each in hidden]
    return [normed(each, encoder.norm) for each in hidden]


def code_embedding(model, codes, level):
    return model.embedding.weight[1 + sum(SIZES[:level]) + int(codes[level])]


def loops(model, history, row, target):
    """Logits of every level of ``target`` after a history."""
    positions = []
    if model.options.user_buckets:
        token = 1 + sum(SIZES) + 1 + int(history.users[row]) % model.options.user_buckets
        positions.append(model.embedding.weight[token])
    for item in history.codes[row, : history.lengths[row]]:
        positions.append(sum(code_embedding(model, item, level) for level in range(len(SIZES))))
    state = stack(positions, model.temporal, model.options.causal)[-1]
    read = [state]
    for level in range(len(SIZES) - 1):
        read.append(read[-1] + code_embedding(model, target, level))
    return [head.weight @ hidden for head, hidden in zip(model.heads, stack(read, model.depth, causal=True))]


@pytest.mark.parametrize(
    "options",
    [
        {"causal": True},
        {"causal": False, "depth_layers": 2},
        {"causal": True, "user_buckets": 3, "feed_forward": "gated"},
    ],
    ids=str,
)
@torch.no_grad()
def test_logits_equal_those_of_plain_loops(options):
    model = network(TemporalDepth, history_position="item", **options)
    randomise_norms_and_biases(model)
    history, target = histories(users=3, longest=5), items(3, 2)
    logits = model.code_logits(model.encode(history), target)
    for row in range(3):
        for j in range(2):
            for level, expected in enumerate(loops(model, history, row, target[row, j])):
                torch.testing.assert_close(logits[level][row, j], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_probabilities_of_all_ids_add_up_to_one():
    model = network(TemporalDepth, history_position="item", causal=True)
    grid = torch.cartesian_prod(*(torch.arange(size) for size in SIZES)).expand(2, -1, -1)
    total = model.log_likelihood(model.encode(histories(users=2)), grid).exp().sum(1)
    torch.testing.assert_close(total, torch.ones(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_padding_changes_nothing(causal):
    model = network(TemporalDepth, history_position="item", causal=causal, user_buckets=4)
    history, target = histories(), items(5, 3)
    together = model.log_likelihood(model.encode(history), target)
    for row, length in enumerate(history.lengths):
        here = slice(row, row + 1)
        alone = type(history)(history.codes[here, :length], history.lengths[here], history.users[here])
        torch.testing.assert_close(model.log_likelihood(model.encode(alone), target[here])[0], together[row])
