"""One stack for history and next item: decoder_only and prefix_lm. References: transformers' T5 stack, one sequence at a time."""

import pytest
import torch
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Stack

from recbole_gr.models.tiger.decoder_only import DecoderOnly
from recbole_gr.models.tiger.history import History
from recbole_gr.models.tiger.network import NetworkOptions
from recbole_gr.models.tiger.settings import ModelSize

SIZES = (7, 5, 6, 3)
SIZE = ModelSize(2, 24, 3, 40, 8)
BOTH = pytest.mark.parametrize("causal", [True, False], ids=["decoder_only", "prefix_lm"])


def network(causal, **options):
    """In evaluation mode, with norms and position biases in which a mistake shows: fresh ones are alike."""
    torch.manual_seed(0)
    model = DecoderOnly(SIZES, NetworkOptions(size=SIZE, causal=causal, history_position="code", **options)).eval()
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
        elif "position_bias" in name or name.startswith("heads"):
            torch.nn.init.normal_(weight)
    return model


def draw(*shape, seed):
    """Codes of items."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(size, shape, generator=generator) for size in SIZES], dim=-1)


def histories(users=5, longest=9, injected=False):
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, longest + 1, (users,), generator=generator)
    lengths[:1], lengths[1:2] = longest, 1
    vectors = torch.randn(users, longest, SIZE.d_model, generator=generator) if injected else None
    codes = draw(users, longest, seed=0)
    codes[torch.arange(longest) >= lengths.unsqueeze(1)] = 99  # what stands there may be anything
    return History(codes, lengths, torch.arange(users), vectors)


def prefix(history, row, length):
    """A user's first items."""
    injected = None if history.injected is None else history.injected[row : row + 1, :length]
    users = None if history.users is None else history.users[row : row + 1]
    return History(history.codes[row : row + 1, :length], torch.tensor([length]), users, injected)


def all_ids(users):
    return torch.cartesian_prod(*(torch.arange(size) for size in SIZES)).expand(users, -1, -1)


# Against transformers


def t5_stack(model, feed_forward):
    """transformers' stack with the weights of ours; causal: T5's decoder, which nothing is given to cross-attend to."""
    config = T5Config(
        vocab_size=model.embedding.num_embeddings,
        **{"d_model": SIZE.d_model, "d_kv": SIZE.d_kv, "d_ff": SIZE.d_ff},
        num_layers=SIZE.n_layers,
        num_heads=SIZE.n_heads,
        feed_forward_proj={"relu": "relu", "gated": "gated-gelu"}[feed_forward],
        is_decoder=model.options.causal,
        use_cache=False,
    )
    stack = T5Stack(config).eval()
    ours = model.stack
    with torch.no_grad():
        stack.embed_tokens.weight.copy_(model.embedding.weight)
        stack.final_layer_norm.weight.copy_(ours.norm.weight)
        stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight.copy_(ours.position_bias.bias.weight)
        for block, layer in zip(stack.block, ours.layers):
            attention, wide = block.layer[0], block.layer[-1]
            attention.layer_norm.weight.copy_(layer.attention_norm.weight)
            keys, values = layer.attention.key_value.weight.chunk(2)
            attention.SelfAttention.q.weight.copy_(layer.attention.query.weight)
            attention.SelfAttention.k.weight.copy_(keys)
            attention.SelfAttention.v.weight.copy_(values)
            attention.SelfAttention.o.weight.copy_(layer.attention.output.weight)
            wide.layer_norm.weight.copy_(layer.feed_forward_norm.weight)
            if feed_forward == "relu":
                wide.DenseReluDense.wi.weight.copy_(layer.feed_forward.inner.weight)
            else:
                wide.DenseReluDense.wi_0.weight.copy_(layer.feed_forward.gate.weight)
                wide.DenseReluDense.wi_1.weight.copy_(layer.feed_forward.inner.weight)
            wide.DenseReluDense.wo.weight.copy_(layer.feed_forward.outer.weight)
    return stack


def sequence(model, history, row, item):
    """The tokens of a user's history and of an item behind it, one after the other, and how many are history's."""
    offset = model.level_offset.tolist()
    items = [*history.codes[row, : history.lengths[row]].tolist(), item.tolist()]
    tokens = [token for codes in items for token in (0, *(code + shift for code, shift in zip(codes, offset)))]
    user = [model.first_user_token + int(history.users[row]) % model.options.user_buckets]
    return torch.tensor([user + tokens]), 1 + 5 * (len(items) - 1)


@pytest.mark.parametrize("feed_forward", ["relu", "gated"])
@BOTH
@torch.no_grad()
def test_logits_equal_those_of_transformers(causal, feed_forward):
    model = network(causal, feed_forward=feed_forward, user_buckets=4)
    stack, history = t5_stack(model, feed_forward), histories(longest=40)
    items = draw(len(history.codes), 3, seed=1)
    encoded = model.encode(history)
    logits, states = model.code_logits(encoded, items), model.states(encoded)
    for row in range(len(history.codes)):
        for candidate in range(3):
            tokens, before = sequence(model, history, row, items[row, candidate])
            position = torch.arange(tokens.shape[1])
            sees = position <= position[:, None]
            if not causal:
                sees[:before, :before] = True
            hidden = stack(input_ids=tokens, attention_mask=sees[None, None]).last_hidden_state[0]
            for level, head in enumerate(model.heads):
                found = logits[level][row, candidate]
                torch.testing.assert_close(found, head(hidden[before + level]), atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(states[row, 0], hidden[before - 1], atol=1e-4, rtol=1e-4)


# Against itself


@BOTH
@torch.no_grad()
def test_padding_changes_nothing(causal):
    model, history = network(causal, user_buckets=4), histories(injected=True)
    items = draw(len(history.codes), 3, seed=1)
    encoded = model.encode(history)
    together, states = model.log_likelihood(encoded, items), model.states(encoded)
    for row, length in enumerate(history.lengths.tolist()):
        alone = model.encode(prefix(history, row, length))
        torch.testing.assert_close(model.log_likelihood(alone, items[row : row + 1])[0], together[row])
        torch.testing.assert_close(model.states(alone)[0], states[row])


@BOTH
@torch.no_grad()
def test_probabilities_of_all_ids_add_up_to_one(causal):
    model, history = network(causal), histories(users=2)
    total = model.log_likelihood(model.encode(history), all_ids(2)).exp().sum(1)
    torch.testing.assert_close(total, torch.ones(2), atol=1e-5, rtol=0)


@BOTH
@torch.no_grad()
def test_decoding_step_by_step_equals_teacher_forcing(causal):
    """Beams that change places and come from one another, of some of the users in another order."""
    model, history = network(causal, user_buckets=3), histories()
    encoded, users = model.encode(history), torch.tensor([3, 0, 4])
    items = draw(len(history.codes), 4, seed=1)
    items[..., 1, :2] = items[..., 2, :2]  # two items that part at the third code
    log_probs = [level.log_softmax(-1)[users] for level in model.code_logits(encoded, items)]
    codes = items[users]
    decoder = model.start_decoding(encoded).select(users)
    torch.testing.assert_close(decoder.start().expand(-1, 4, -1), log_probs[0])
    # beams hold the first codes of items 2, 0, 3; then of 3, 1, 2, 0
    found = decoder.advance(torch.zeros(3, 3, dtype=torch.long), codes[:, [2, 0, 3], 0])
    torch.testing.assert_close(found, log_probs[1][:, [2, 0, 3]])
    found = decoder.advance(torch.tensor([[2, 0, 0, 1]] * 3), codes[:, [3, 1, 2, 0], 1])
    torch.testing.assert_close(found, log_probs[2][:, [3, 1, 2, 0]])
    found = decoder.advance(torch.tensor([[1, 2, 0, 3]] * 3), codes[:, [1, 2, 3, 0], 2])
    torch.testing.assert_close(found, log_probs[3][:, [1, 2, 3, 0]])


@BOTH
@torch.no_grad()
def test_loss_is_the_mean_negative_log_likelihood_per_code(causal):
    model, history = network(causal), histories()
    targets = draw(len(history.codes), 1, seed=1)
    present = torch.ones(len(targets), 1, dtype=torch.bool)
    encoded = model.encode(history)
    loss, states = model(history, targets, present)
    torch.testing.assert_close(loss, -model.log_likelihood(encoded, targets).mean() / len(SIZES))
    torch.testing.assert_close(states, model.states(encoded))


@torch.no_grad()
def test_only_a_history_that_is_not_causal_changes_with_what_comes_later():
    history = histories(users=1)
    changed = History(history.codes.clone(), history.lengths, history.users)
    changed.codes[:, -1] = (changed.codes[:, -1] + 1) % torch.tensor(SIZES)
    for causal in (True, False):
        model = network(causal)
        one, other = (model.states(model.encode(read), at_every_item=True)[0, :-1] for read in (history, changed))
        assert torch.equal(one, other) == causal


# A loss at every position


def windows(injected):
    """Histories whose items are targets of those before them, but for some; one more target follows each."""
    history = histories(injected=injected)
    targets = torch.cat([history.codes[:, 1:], draw(len(history.codes), 1, seed=5)], dim=1)
    rows, last = torch.arange(len(targets)), history.lengths - 1
    targets[rows, last] = draw(len(targets), seed=6)
    present = history.items()
    present[0, [1, 4]] = False  # items that are read and not trained
    targets[~present] = 0
    return history, targets, present


@pytest.mark.parametrize("injected", [False, True])
def test_a_loss_at_every_position_has_the_gradient_of_the_losses_of_all_prefixes(injected):
    model = network(True, user_buckets=4, label_smoothing=0.1)
    history, targets, present = windows(injected)
    loss, states = model(history, targets, present, at_every_item=True)
    loss.backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    total, n_targets = torch.zeros(()), int(present.sum())
    for row, position in present.nonzero().tolist():
        of_prefix, state = model(
            prefix(history, row, position + 1), targets[row, position].view(1, 1, -1), torch.ones(1, 1, dtype=torch.bool)
        )
        total = total + of_prefix / n_targets
        torch.testing.assert_close(states[row, position], state[0, 0], atol=1e-5, rtol=1e-5)
    total.backward()
    torch.testing.assert_close(loss, total)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, atol=1e-5, rtol=1e-5, msg=name)


@torch.no_grad()
def test_logits_of_any_items_after_every_item_are_those_after_the_prefixes():
    model, history = network(True, user_buckets=4), histories()
    items = draw(*history.codes.shape[:2], seed=7)
    logits = model.code_logits(model.encode(history), items, at_every_item=True)
    for row, position in history.items().nonzero().tolist():
        alone = model.code_logits(model.encode(prefix(history, row, position + 1)), items[row, position].view(1, 1, -1))
        for level, found in enumerate(logits):
            torch.testing.assert_close(found[row, position], alone[level][0, 0])


# Training


@BOTH
def test_dropout_is_applied_and_keeps_what_the_candidates_are_given_on_average(causal):
    """Of attention weights to the history and to own codes alike."""
    model, history = network(causal), histories()
    items, layer = draw(len(history.codes), 2, seed=1), model.stack.layers[0]
    encoded, seen = model.encode(history), []
    handle = layer.attention.output.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    with torch.no_grad():
        model.code_logits(encoded, items)
        model.stack.layers.train()
        layer.attention.dropout = 0.5
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        torch.manual_seed(0)
        for _ in range(2000):
            model.code_logits(encoded, items)
    handle.remove()
    exact, drawn = seen[0], torch.stack(seen[1:])
    assert (drawn.std(dim=0) > 0).any(dim=-1).all()
    error = (drawn.mean(dim=0) - exact).abs() / (drawn.std(dim=0) / len(drawn) ** 0.5).clamp(min=1e-4)
    assert error.max() < 5


@BOTH
def test_a_fresh_one_is_near_uniform(causal):
    torch.manual_seed(0)
    model = DecoderOnly(SIZES, NetworkOptions(size=SIZE, causal=causal, history_position="code")).eval()
    history = histories()
    targets = draw(len(history.codes), 1, seed=1)
    loss, _ = model(history, targets, torch.ones(len(targets), 1, dtype=torch.bool))
    uniform = torch.tensor(SIZES).log().mean()
    assert abs(float(loss) - float(uniform)) < 0.1
    # no layer is silent or drowns the others
    hidden = model.encode(history).hidden
    torch.testing.assert_close(hidden.square().mean(), torch.tensor(1.0), atol=0.1, rtol=0)


def test_named_sizes_have_one_stack_and_no_cross_attention():
    size = ModelSize(3, 128, 6, 1024)
    with torch.device("meta"):
        model = DecoderOnly((256,) * 4, NetworkOptions(size=size, causal=True, history_position="code"))
    weights = sum(p.numel() for n, p in model.named_parameters() if "layers" in n and p.dim() == 2)
    assert weights == 3 * (4 * 128 * 6 * 64 + 2 * 128 * 1024)  # layers x (attention and feed-forward)
