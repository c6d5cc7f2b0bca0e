"""The network of TIGER; the T5 of transformers is the reference."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from recbole_gr.models.elementwise import Dropout, DropoutOfReLU, RMSNorm
from recbole_gr.models.tiger.encoder_decoder import EncoderDecoder
from recbole_gr.models.tiger.history import History
from recbole_gr.models.tiger.network import NetworkOptions
from recbole_gr.models.tiger.settings import MODEL_SIZES, ModelSize

SIZES = (7, 5, 6, 3)


def network(architecture=EncoderDecoder, **options):
    torch.manual_seed(0)
    defaults = dict(size=ModelSize(2, 24, 3, 40, 8), dropout=0.1, history_position="code")
    return architecture(SIZES, NetworkOptions(**{**defaults, **options})).eval()


def histories(users=5, longest=9, seed=0):
    rng = np.random.default_rng(seed)
    codes = torch.as_tensor(np.stack([rng.integers(0, size, (users, longest)) for size in SIZES], axis=-1))
    lengths = torch.as_tensor(rng.integers(1, longest + 1, users))
    return History(codes, lengths, torch.arange(users))


def items(users, per_user, seed=1):
    rng = np.random.default_rng(seed)
    return torch.as_tensor(np.stack([rng.integers(0, size, (users, per_user)) for size in SIZES], axis=-1))


def t5_with_weights_of(model, size, feed_forward):
    """transformers' T5 with the same weights; its one head holds our heads, level after level.

    If our encoder is causal, so are the buckets of its distances; the mask must be given.
    """
    config = T5Config(
        vocab_size=model.embedding.num_embeddings,
        d_model=size.d_model,
        d_kv=size.d_kv,
        d_ff=size.d_ff,
        num_layers=size.n_layers,
        num_heads=size.n_heads,
        feed_forward_proj={"relu": "relu", "gated": "gated-gelu"}[feed_forward],
        tie_word_embeddings=False,
        pad_token_id=0,
        decoder_start_token_id=0,
    )
    t5 = T5ForConditionalGeneration(config).eval()
    t5.lm_head = torch.nn.Linear(size.d_model, config.vocab_size, bias=False)  # transformers 5 ties it all the same

    def copy_attention(theirs, ours):
        for their, our in zip((theirs.q, theirs.k, theirs.v), ours.projection_weights()):
            their.weight.copy_(our)
        theirs.o.weight.copy_(ours.output.weight)

    def copy_feed_forward(theirs, ours):
        theirs.layer_norm.weight.copy_(ours.feed_forward_norm.weight)
        if ours.feed_forward.gate is None:
            theirs.DenseReluDense.wi.weight.copy_(ours.feed_forward.inner.weight)
        else:
            theirs.DenseReluDense.wi_0.weight.copy_(ours.feed_forward.gate.weight)
            theirs.DenseReluDense.wi_1.weight.copy_(ours.feed_forward.inner.weight)
        theirs.DenseReluDense.wo.weight.copy_(ours.feed_forward.outer.weight)

    with torch.no_grad():
        t5.shared.weight.copy_(model.embedding.weight)
        t5.lm_head.weight.zero_()
        start = 1
        for head in model.heads:
            t5.lm_head.weight[start : start + len(head.weight)] = head.weight
            start += len(head.weight)
        for theirs, ours in ((t5.encoder, model.encoder), (t5.decoder, model.decoder)):
            theirs.final_layer_norm.weight.copy_(ours.norm.weight)
            bias = theirs.block[0].layer[0].SelfAttention.relative_attention_bias.weight
            bias.copy_(ours.position_bias.bias.weight)
            for block, layer in zip(theirs.block, ours.layers):
                if theirs is t5.encoder:
                    block.layer[0].layer_norm.weight.copy_(layer.attention_norm.weight)
                    copy_attention(block.layer[0].SelfAttention, layer.attention)
                else:
                    block.layer[0].layer_norm.weight.copy_(layer.self_attention_norm.weight)
                    copy_attention(block.layer[0].SelfAttention, layer.self_attention)
                    block.layer[1].layer_norm.weight.copy_(layer.cross_attention_norm.weight)
                    copy_attention(block.layer[1].EncDecAttention, layer.cross_attention)
                copy_feed_forward(block.layer[-1], layer)
    t5.encoder.block[0].layer[0].SelfAttention.is_decoder = model.options.causal
    return t5


def randomise_norms_and_biases(model):
    """Fresh norms are all ones and biases small; a mistake there must show."""
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
        if "position_bias" in name:
            torch.nn.init.normal_(weight, std=1.0)


@pytest.mark.parametrize("feed_forward", ["relu", "gated"])
@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_logits_equal_those_of_transformers_t5(feed_forward, causal):
    size = ModelSize(2, 24, 3, 40, 8)
    model = network(size=size, feed_forward=feed_forward, causal=causal)
    randomise_norms_and_biases(model)
    t5 = t5_with_weights_of(model, size, feed_forward)
    history = histories(longest=40)
    codes, target = history.codes, items(5, 1)

    offsets = torch.tensor((1, *SIZES)).cumsum(0)[:-1]
    tokens = (codes + offsets).flatten(1)
    mask = history.items().repeat_interleave(len(SIZES), dim=1).long()
    begin = torch.zeros(len(codes), 1, dtype=torch.long)
    decoder_tokens = torch.cat([begin, (target[:, 0] + offsets)[:, :-1]], dim=1)
    encoded = None
    if causal:
        position = torch.arange(tokens.shape[1])
        visible = mask.bool()[:, None, None, :] & (position <= position[:, None])
        encoded = t5.encoder(input_ids=tokens, attention_mask=visible)
    theirs = t5(input_ids=tokens, attention_mask=mask, decoder_input_ids=decoder_tokens, encoder_outputs=encoded).logits

    ours = model.code_logits(model.encode(history), target)
    for level, logits in enumerate(ours):
        expected = theirs[:, level, offsets[level] : offsets[level] + SIZES[level]]
        torch.testing.assert_close(logits[:, 0], expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_checkpoint_of_an_older_version_gives_the_scores_that_it_gave():
    """Made by the version that held one matrix of queries and one of keys and values also where one does it all."""
    with np.load(Path(__file__).with_name("tiger_checkpoint_separate_projections.npz")) as file:
        found = {name: torch.as_tensor(file[name]) for name in file}
    weights = {name.removeprefix("network."): value for name, value in found.items() if name.startswith("network.")}
    options = NetworkOptions(ModelSize(1, 8, 2, 12, 4), "gated", history_position="code", separator=True, user_buckets=3)
    model = EncoderDecoder((7, 5, 3), options).eval()
    model.load_state_dict(weights)
    history = History(found["codes"], found["lengths"], found["users"])
    scores = model.log_likelihood(model.encode(history), found["items"])
    torch.testing.assert_close(scores, found["scores"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("history_position, separator", [("code", False), ("code", True), ("item", False)])
@torch.no_grad()
def test_padding_changes_nothing(history_position, separator):
    model = network(history_position=history_position, separator=separator, user_buckets=4)
    history, target = histories(), items(5, 3)
    together = model.log_likelihood(model.encode(history), target)
    for row, length in enumerate(history.lengths):
        here = slice(row, row + 1)
        alone = History(history.codes[here, :length], history.lengths[here], history.users[here])
        torch.testing.assert_close(model.log_likelihood(model.encode(alone), target[here])[0], together[row])


@torch.no_grad()
def test_order_of_the_history_counts():
    model = network(history_position="item")
    codes, lengths = histories().codes, torch.full((5,), 9)
    target = items(5, 1)
    forward = model.log_likelihood(model.encode(History(codes, lengths)), target)
    backward = model.log_likelihood(model.encode(History(codes.flip(1), lengths)), target)
    assert ((forward - backward).abs() > 1e-4).all()


@torch.no_grad()
def test_probabilities_of_all_ids_add_up_to_one():
    model = network()
    grid = torch.cartesian_prod(*(torch.arange(size) for size in SIZES)).expand(2, -1, -1)
    total = model.log_likelihood(model.encode(histories(users=2)), grid).exp().sum(1)
    torch.testing.assert_close(total, torch.ones(2), atol=1e-5, rtol=0)


@torch.no_grad()
def test_loss_is_the_mean_negative_log_likelihood_per_code():
    model = network()
    history, target = histories(), items(5, 1)
    expected = -model.log_likelihood(model.encode(history), target).mean() / len(SIZES)
    loss, _ = model(history, target, torch.ones(5, 1, dtype=torch.bool))
    torch.testing.assert_close(loss, expected)


@torch.no_grad()
def test_decoding_step_by_step_equals_teacher_forcing():
    model = network(user_buckets=3)
    encoded = model.encode(histories())
    target = items(5, 4)
    logits = model.code_logits(encoded, target)
    decoder = model.start_decoding(encoded).select(torch.arange(5))
    log_probs = decoder.start()
    torch.testing.assert_close(log_probs.expand(-1, 4, -1), logits[0].log_softmax(-1))
    parent = torch.zeros(5, 4, dtype=torch.long)
    for level in range(3):
        log_probs = decoder.advance(parent, target[..., level])
        torch.testing.assert_close(log_probs, logits[level + 1].log_softmax(-1))
        parent = torch.arange(4).expand(5, -1)


@torch.no_grad()
def test_users_of_one_bucket_are_alike_and_others_are_not():
    model = network(user_buckets=3)
    history, target = histories(users=1), items(1, 1)

    def score(user):
        return float(model.log_likelihood(model.encode(replace(history, users=torch.tensor([user]))), target))

    assert score(1) == score(4) != score(2)


# layers x (3 attentions of 4 d_model x heads x 64, and 2 feed-forwards of 2 d_model x d_ff), worked out by hand
@pytest.mark.parametrize(
    "name, weights",
    [("336K", 278_528), ("778K", 557_056), ("6.7M", 3_342_336), ("13M", 4_456_448), ("192M", 200_540_160)],
)
def test_named_sizes_have_the_weights_of_the_table(name, weights):
    with torch.device("meta"):
        model = EncoderDecoder((256,) * 4, NetworkOptions(MODEL_SIZES[name]))
    assert sum(p.numel() for n, p in model.named_parameters() if "layers" in n and p.dim() == 2) == weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("kind", [Dropout, DropoutOfReLU])
def test_dropout_zeroes_the_share_it_says_and_keeps_the_mean(kind, rate, dtype):
    torch.manual_seed(0)
    dropout, hidden = kind(rate), torch.full((1001, 333), 2.0, dtype=dtype, requires_grad=True)
    out = dropout(hidden)
    n = hidden.numel()
    zeros = int((out == 0).sum())
    assert abs(zeros - rate * n) < 5 * (rate * (1 - rate) * n) ** 0.5
    kept = out[out != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 2 / (1 - rate)))
    out.sum().backward()
    torch.testing.assert_close(hidden.grad, ((out != 0) / (1 - rate)).to(dtype))
    neighbours = ((out[:, 1:] == 0) & (out[:, :-1] == 0)).float().mean()
    assert abs(float(neighbours) - rate**2) < 0.005
    assert not torch.equal(dropout(hidden), out)
    torch.manual_seed(0)
    assert torch.equal(dropout(hidden), out)
    assert torch.equal(dropout.eval()(hidden), hidden)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_relu_with_dropout_stops_what_is_below_zero(rate):
    torch.manual_seed(0)
    hidden = torch.randn(50, 40, requires_grad=True)
    out = DropoutOfReLU(rate)(hidden)
    out.sum().backward()
    assert (out[hidden <= 0] == 0).all()
    passed = out > 0
    torch.testing.assert_close(out[passed], hidden[passed] / (1 - rate))
    torch.testing.assert_close(hidden.grad, passed / (1 - rate))
    if not rate:
        assert torch.equal(passed, hidden > 0)


@pytest.mark.parametrize("shape", [(7, 24), (2, 3, 4, 24)])
def test_norm_and_its_gradient_are_those_of_torch(shape):
    torch.manual_seed(0)
    ours, theirs = RMSNorm(24), torch.nn.RMSNorm(24, eps=1e-6)
    torch.nn.init.uniform_(ours.weight, 0.5, 1.5)
    theirs.load_state_dict(ours.state_dict())
    hidden, direction = 3 * torch.randn(shape), torch.randn(shape)
    hidden[0] *= 1e-4  # where eps counts
    results = []
    for norm in (ours, theirs):
        leaf = hidden.clone().requires_grad_()
        out = norm(leaf)
        out.backward(direction)
        results.append((out, leaf.grad, norm.weight.grad))
    for our, their in zip(*results):
        torch.testing.assert_close(our, their, atol=1e-5, rtol=1e-4)


def test_norm_under_autocast_gives_bfloat16_and_a_gradient_in_float32():
    torch.manual_seed(0)
    norm, hidden = RMSNorm(24), torch.randn(7, 24, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = norm(hidden)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, norm(hidden).bfloat16())
    out.sum().backward()
    assert hidden.grad.dtype == norm.weight.grad.dtype == torch.float32
