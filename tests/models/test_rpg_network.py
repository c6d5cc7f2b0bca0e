"""The network of RPG against the same arithmetic written as loops over positions, digits and codes."""

import pytest
import torch
from models.test_tiger_temporal_depth import stack

from recbole_gr.models.rpg.network import RPGNetwork, RPGOptions
from recbole_gr.models.tiger.history import History

SIZES = (7, 5, 7)


def network(seed=0, **options):
    torch.manual_seed(seed)
    sizes = {"n_layers": 2, "d_model": 12, "n_heads": 2, "d_kv": 6, "d_ff": 20, "temperature": 0.1}
    return RPGNetwork(SIZES, RPGOptions(**{**sizes, **options}))


def items(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(size, shape, generator=generator) for size in SIZES], dim=-1)


def histories(users=4, longest=6):
    return History(items(users, longest), torch.tensor([6, 1, 3, 5])[:users])


@torch.enable_grad()
def trained(model):
    """The model after some steps, with norms, biases and heads that are no longer those it began with."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    history = histories()
    for _ in range(20):
        loss = model(history, items(4, 6, seed=1), history.items(), at_every_item=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def randomised(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def loops(model, history, row, end):
    """Log-probabilities of every code of every digit after the first ``end`` items of a history."""
    n_codes = max(SIZES)
    positions = []
    for item in history.codes[row, :end]:
        embedded = [model.embedding.weight[digit * n_codes + int(code)] for digit, code in enumerate(item)]
        positions.append(sum(embedded) / len(embedded) / 0.1)
    state = stack(positions, model.items, causal=True)[-1]
    for digit, size in enumerate(SIZES):
        inner = state @ model.heads[digit]
        of_digit = state + inner * torch.sigmoid(inner)
        cosines = []
        for code in range(size):
            embedding = model.embedding.weight[digit * n_codes + code]
            cosines.append(of_digit @ embedding / (of_digit.norm() * embedding.norm()))
        yield (torch.stack(cosines) / model.options.temperature).log_softmax(0)


@pytest.mark.parametrize("prepare", [randomised, trained])
@pytest.mark.parametrize("feed_forward", ["relu", "gated"])
def test_log_probabilities_equal_those_of_plain_loops(prepare, feed_forward):
    model, history = prepare(network(feed_forward=feed_forward)), histories()
    with torch.no_grad():
        at_every = model.log_probs(model.states(history).flatten(0, 1)).view(4, 6, len(SIZES), -1)
        at_last = model.log_probs(model.last_states(history)).view(4, len(SIZES), -1)
        for row, length in enumerate(history.lengths.tolist()):
            for end in range(1, length + 1):
                for digit, expected in enumerate(loops(model, history, row, end)):
                    found = at_every[row, end - 1, digit]
                    torch.testing.assert_close(found[: SIZES[digit]], expected, atol=2e-5, rtol=1e-4)
                    assert (found[SIZES[digit] :] == -torch.inf).all()
            torch.testing.assert_close(at_last[row], at_every[row, length - 1])


@pytest.mark.parametrize("prepare", [randomised, trained])
@torch.no_grad()
def test_the_loss_is_the_mean_cross_entropy_of_all_digits_and_targets(prepare):
    model, history, following = prepare(network()), histories(), items(4, 6, seed=1)
    present = history.items()
    present[0, 2] = False  # an item that follows and is no target
    losses = [
        -log_probs[following[row, end - 1, digit]]
        for row, length in enumerate(history.lengths.tolist())
        for end in range(1, length + 1)
        if present[row, end - 1]
        for digit, log_probs in enumerate(loops(model, history, row, end))
    ]
    loss = model(history, following, present, at_every_item=True)
    torch.testing.assert_close(loss, torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)


def test_the_losses_of_drawn_digits_and_their_gradients_have_those_of_all_as_their_mean():
    history, following = histories(), items(4, 6, seed=1)

    def loss_and_gradients(model):
        loss = model(history, following, history.items(), at_every_item=True)
        return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)]

    expected = loss_and_gradients(randomised(network()).train())
    model = randomised(network(digits_per_step=1)).train()
    of_digit = {}
    for seed in range(50):
        torch.manual_seed(seed)
        (digit,) = model.drawn_digits().tolist()
        torch.manual_seed(seed)
        of_digit[digit] = loss_and_gradients(model)
    assert sorted(of_digit) == [0, 1, 2]
    for every, some in zip(expected, zip(*of_digit.values(), strict=True), strict=True):
        torch.testing.assert_close(torch.stack(some).mean(dim=0), every, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(loss_and_gradients(model.eval())[0], expected[0])  # outside of training it is that of all


@torch.no_grad()
def test_each_dropout_has_its_places():
    history = histories()
    for_ranking = network().eval().states(history)
    torch.testing.assert_close(network().train().states(history), for_ranking)
    within = network(dropout=0.5).train().states(history)
    assert (within != 0).all() and not torch.allclose(within, for_ranking, atol=0.1)
    model = network(residual_dropout=0.5).train()
    zeros = torch.stack([model.states(history) == 0 for _ in range(50)]).double().mean()
    assert abs(zeros - 0.5) < 0.02


def test_one_pass_has_the_gradient_of_all_prefixes():
    model, history, following = network(), histories(), items(4, 6, seed=1)
    model(history, following, history.items(), at_every_item=True).backward()
    at_once = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    losses = [
        model(
            History(history.codes[row : row + 1, :end], torch.tensor([end])),
            following[row : row + 1, end - 1 : end],
            torch.ones(1, 1, dtype=torch.bool),
            at_every_item=False,
        )
        for row, length in enumerate(history.lengths.tolist())
        for end in range(1, length + 1)
    ]
    torch.stack(losses).mean().backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(at_once[name], weight.grad, atol=1e-5, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}")


@torch.no_grad()
def test_probabilities_of_all_ids_add_up_to_one():
    model = randomised(network())
    log_probs = model.log_probs(model.last_states(histories()))
    grid = torch.cartesian_prod(*(torch.arange(size) for size in SIZES))
    total = log_probs[:, model.places(grid)].sum(dim=-1).exp().sum(dim=1)
    torch.testing.assert_close(total, torch.ones(4), atol=1e-5, rtol=0)
