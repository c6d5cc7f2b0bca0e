"""A target at every position: one pass over a history gives what passes over all of its prefixes give."""

import numpy as np
import pytest
import torch
from models.test_tiger_network import SIZES, histories, items, network

from recbole_gr.models.tiger.encoder_decoder import EncoderDecoder
from recbole_gr.models.tiger.history import History
from recbole_gr.models.tiger.temporal_depth import TemporalDepth

NETWORKS = [
    pytest.param(EncoderDecoder, {"history_position": "code"}, id="code"),
    pytest.param(EncoderDecoder, {"history_position": "code", "separator": True, "user_buckets": 3}, id="separator, user"),
    pytest.param(EncoderDecoder, {"history_position": "item", "feed_forward": "gated"}, id="item, gated"),
    pytest.param(EncoderDecoder, {"history_position": "item", "user_buckets": 3, "label_smoothing": 0.1}, id="item, user"),
    pytest.param(TemporalDepth, {"history_position": "item"}, id="temporal_depth"),
    pytest.param(
        TemporalDepth,
        {"history_position": "item", "user_buckets": 3, "feed_forward": "gated", "depth_layers": 2},
        id="temporal_depth, user, gated",
    ),
]


def prefixes(history, following):
    """Every prefix of every history as a batch of its own, with the item that follows it: ``(row, length, ...)``."""
    for row, length in enumerate(history.lengths.tolist()):
        for end in range(1, length + 1):
            here = History(history.codes[row : row + 1, :end], torch.tensor([end]), history.users[row : row + 1])
            yield row, end, here, following[row : row + 1, end - 1 : end]


@pytest.mark.parametrize("architecture, options", NETWORKS)
@torch.no_grad()
def test_logits_and_states_are_those_after_each_prefix(architecture, options):
    model = network(architecture, causal=True, **options)
    history, following = histories(users=3, longest=6), items(3, 6)
    encoded = model.encode(history)
    logits = model.code_logits(encoded, following, at_every_item=True)
    states = model.states(encoded, at_every_item=True)
    for row, end, prefix, target in prefixes(history, following):
        encoded = model.encode(prefix)
        for level, expected in enumerate(model.code_logits(encoded, target)):
            torch.testing.assert_close(logits[level][row, end - 1], expected[0, 0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(states[row, end - 1], model.states(encoded)[0, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture, options", NETWORKS)
def test_gradient_is_the_mean_of_those_of_all_prefixes(architecture, options):
    model = network(architecture, causal=True, **options)
    history, following = histories(users=3, longest=6), items(3, 6)
    loss, _ = model(history, following, history.items(), at_every_item=True)
    loss.backward()
    at_once = {name: weight.grad.clone() for name, weight in model.named_parameters()}

    model.zero_grad()
    one_target = torch.ones(1, 1, dtype=torch.bool)
    losses = [model(prefix, target, one_target)[0] for _, _, prefix, target in prefixes(history, following)]
    expected = torch.stack(losses).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(
            at_once[name], weight.grad, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("architecture", [EncoderDecoder, TemporalDepth])
def test_positions_that_are_no_target_have_no_part_in_the_loss(architecture):
    model = network(architecture, causal=True, history_position="item")
    history, following = histories(users=3, longest=6), items(3, 6)
    present = history.items()
    present[:, 1] = False
    loss, _ = model(history, following, present, at_every_item=True)
    chosen = [(prefix, target) for _, end, prefix, target in prefixes(history, following) if end != 2]
    one_target = torch.ones(1, 1, dtype=torch.bool)
    torch.testing.assert_close(loss, torch.stack([model(*each, one_target)[0] for each in chosen]).mean())


@pytest.mark.parametrize("architecture, options", NETWORKS)
@torch.no_grad()
def test_a_causal_history_decodes_as_it_scores(architecture, options):
    model = network(architecture, causal=True, **options)
    encoded, target = model.encode(histories()), items(5, 4)
    logits = model.code_logits(encoded, target)
    decoder = model.start_decoding(encoded).select(torch.arange(5))
    log_probs = decoder.start()
    torch.testing.assert_close(log_probs.expand(-1, 4, -1), logits[0].log_softmax(-1))
    parent = torch.zeros(5, 4, dtype=torch.long)
    for level in range(len(SIZES) - 1):
        log_probs = decoder.advance(parent, target[..., level])
        torch.testing.assert_close(log_probs, logits[level + 1].log_softmax(-1), atol=2e-6, rtol=2e-5)
        parent = torch.arange(4).expand(5, -1)


@pytest.mark.parametrize("architecture, options", NETWORKS)
def test_training_in_bfloat16_follows_that_in_float32(architecture, options):
    model = network(architecture, causal=True, **options)
    history, following = histories(users=20), items(20, 9)
    losses, gradients = [], []
    for bfloat16 in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss, _ = model(history, following, history.items(), at_every_item=True)
        loss.backward()
        losses.append(loss)
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))
    assert loss.dtype == gradients[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], atol=0, rtol=0.005)
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.995


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@torch.no_grad()
def test_the_temperature_of_codes_is_in_the_loss_and_not_in_the_ranking(temperature):
    """LETTER's ranking-guided generation loss, code by code in float64."""
    model = network(EncoderDecoder, causal=True, code_temperature=temperature)
    history, following = histories(users=3, longest=6), items(3, 6)
    present = history.items()
    logits = [level.double().numpy() for level in model.code_logits(model.encode(history), following, at_every_item=True)]
    losses = []
    for row, position in present.nonzero().tolist():
        for level, of_level in enumerate(logits):
            scaled = np.exp(of_level[row, position] / temperature)
            losses.append(-np.log(scaled[following[row, position, level]] / scaled.sum()))
    loss, _ = model(history, following, present, at_every_item=True)
    assert float(loss) == pytest.approx(np.mean(losses), abs=1e-4)
    plain = network(EncoderDecoder, causal=True)
    plain.load_state_dict(model.state_dict())
    found, expected = (one.log_likelihood(one.encode(history), following) for one in (model, plain))
    assert torch.equal(found, expected)
