"""The network of TIGER; the T5 of transformers is the reference."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from recbole_gr.models.tiger.encoder_decoder import EncoderDecoder
from recbole_gr.models.tiger.history import History
from recbole_gr.models.tiger.layers import Dropout
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
    """transformers' T5 with the same weights; its one head holds our heads, level after level."""
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
        theirs.q.weight.copy_(ours.query.weight)
        keys, values = ours.key_value.weight.chunk(2)
        theirs.k.weight.copy_(keys)
        theirs.v.weight.copy_(values)
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
    return t5


def randomise_norms_and_biases(model):
    """Fresh norms are all ones and biases small; a mistake there must show."""
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
        if "position_bias" in name:
            torch.nn.init.normal_(weight, std=1.0)


@pytest.mark.parametrize("feed_forward", ["relu", "gated"])
@torch.no_grad()
def test_logits_equal_those_of_transformers_t5(feed_forward):
    size = ModelSize(2, 24, 3, 40, 8)
    model = network(size=size, feed_forward=feed_forward)
    randomise_norms_and_biases(model)
    t5 = t5_with_weights_of(model, size, feed_forward)
    history = histories(longest=40)
    codes, target = history.codes, items(5, 1)

    offsets = torch.tensor((1, *SIZES)).cumsum(0)[:-1]
    tokens = (codes + offsets).flatten(1)
    mask = history.items().repeat_interleave(len(SIZES), dim=1).long()
    begin = torch.zeros(len(codes), 1, dtype=torch.long)
    decoder_tokens = torch.cat([begin, (target[:, 0] + offsets)[:, :-1]], dim=1)
    theirs = t5(input_ids=tokens, attention_mask=mask, decoder_input_ids=decoder_tokens).logits

    ours = model.code_logits(model.encode(history), target)
    for level, logits in enumerate(ours):
        expected = theirs[:, level, offsets[level] : offsets[level] + SIZES[level]]
        torch.testing.assert_close(logits[:, 0], expected, atol=1e-4, rtol=0)


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


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_zeroes_the_share_it_says_and_keeps_the_mean(rate):
    torch.manual_seed(0)
    dropout, hidden = Dropout(rate), torch.full((1001, 333), 2.0, requires_grad=True)
    out = dropout(hidden)
    n = hidden.numel()
    zeros = int((out == 0).sum())
    assert abs(zeros - rate * n) < 5 * (rate * (1 - rate) * n) ** 0.5
    kept = out[out != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 2 / (1 - rate)))
    out.sum().backward()
    torch.testing.assert_close(hidden.grad, (out != 0) / (1 - rate))
    neighbours = ((out[:, 1:] == 0) & (out[:, :-1] == 0)).float().mean()
    assert abs(float(neighbours) - rate**2) < 0.005
    assert torch.equal(dropout.eval()(hidden), hidden)
