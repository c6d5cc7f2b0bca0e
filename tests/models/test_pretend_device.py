"""The pretended device keeps the rules that torch has for a real one."""

import io

import numpy as np
import pytest
import torch
from support.pretend_device import DEVICE, DEVICE_INDEX, MIXED, NO_NUMPY, Pretended, pretend_device
from torch import nn


@pytest.fixture
def traffic():
    with pretend_device() as traffic:
        yield traffic


def raises(message, kind=RuntimeError):
    import re

    return pytest.raises(kind, match=re.escape(message))


# Where tensors are


@pytest.mark.parametrize("device", ["cuda", "cuda:0", DEVICE, torch.device("cuda")])
def test_what_is_made_or_moved_there_says_so(traffic, device):
    made = [
        torch.zeros(3, device=device),
        torch.tensor([1.0, 2.0, 3.0], device=device),
        torch.as_tensor(np.arange(3), device=device),
        torch.arange(3, device=device),
        torch.zeros(3).to(device),
        torch.zeros(3).to(device=device, dtype=torch.float64),
        torch.zeros(3).new_full((3,), 1, device=device),
        torch.zeros(3).cuda(),
    ]
    for tensor in made:
        assert isinstance(tensor, Pretended) and tensor.device == DEVICE and tensor.is_cuda and tensor.shape == (3,)
    derived = [made[0] + 1, torch.zeros_like(made[0]), made[0].new_ones(2), made[0][1:], made[0].double()]
    assert all(tensor.device == DEVICE for tensor in derived)
    assert all(tensor.cpu().device.type == "cpu" and type(tensor.cpu()) is torch.Tensor for tensor in made + derived)
    assert torch.zeros(3).device.type == "cpu" and torch.zeros_like(made[0], device="cpu").device.type == "cpu"


def test_values_are_those_of_the_cpu(traffic):
    values = torch.randn(4, 5)
    there = values.to(DEVICE)
    torch.testing.assert_close((there @ there.T).softmax(-1).cpu(), (values @ values.T).softmax(-1))
    assert there.sum().item() == values.sum().item() and there.tolist() == values.tolist()
    assert float(there[1, 2]) == float(values[1, 2]) and int((there > 0).sum()) == int((values > 0).sum())


def test_views_share_memory_and_copies_do_not(traffic):
    there = torch.zeros(2, 3, device=DEVICE)
    view, copied = there[:, 1], there.cpu()
    view.fill_(5)
    there.T[2, 0] = 7
    assert there.tolist() == [[0, 5, 7], [0, 5, 0]] and copied.tolist() == [[0, 0, 0], [0, 0, 0]]
    there.view(-1)[torch.tensor([0, 3], device=DEVICE)] = 1
    assert there.tolist() == [[1, 5, 7], [1, 5, 0]]


# Where they meet


def test_numbers_of_the_cpu_may_mix_and_others_may_not(traffic):
    there, here = torch.ones(3, device=DEVICE), torch.ones(3)
    assert (there + torch.tensor(2.0)).tolist() == [3, 3, 3] and (torch.tensor(2.0) * there).device == DEVICE
    assert torch.where(there > 0, there, torch.tensor(0.0)).device == DEVICE
    assert there.masked_fill(there > 0, torch.tensor(4.0)).tolist() == [4, 4, 4]
    there += torch.tensor(1.0)
    for meeting in (
        lambda: there + here,
        lambda: here * there,
        lambda: torch.cat([there, here]),
        lambda: torch.stack([there, here]),
        lambda: torch.where(here > 0, there, there),
        lambda: there.masked_fill(here > 0, 0),
        lambda: there @ here,
        lambda: here + torch.tensor(1.0, device=DEVICE),
        lambda: torch.zeros(()).add_(torch.tensor(1.0, device=DEVICE)),
        lambda: here.add_(torch.tensor(1.0, device=DEVICE)),
        lambda: torch.equal(there, here),
        lambda: nn.functional.embedding(torch.tensor([0]), torch.ones(2, 2, device=DEVICE)),
        lambda: torch.ones(2, 2, device=DEVICE).gather(1, torch.zeros(2, 1, dtype=torch.long)),
        lambda: there.index_select(0, torch.tensor([0])),
        lambda: nn.functional.cross_entropy(torch.ones(2, 3, device=DEVICE), torch.tensor([0, 1])),
        lambda: nn.Linear(3, 2)(there),
    ):
        with raises(MIXED):
            meeting()


def test_indices_of_the_cpu_index_the_device_and_not_the_other_way_round(traffic):
    there, here = torch.arange(4.0, device=DEVICE), torch.arange(4.0)
    assert there[torch.tensor([2, 0])].tolist() == [2, 0] and there[torch.arange(4) > 1].tolist() == [2, 3]
    there[torch.tensor([1])] = 9
    there[torch.tensor([2])] = torch.tensor(8.0)
    assert there.tolist() == [0, 9, 8, 3]
    for chosen in (torch.tensor([1], device=DEVICE), torch.arange(4, device=DEVICE) > 1):
        with raises(DEVICE_INDEX):
            here[chosen]
        with raises(DEVICE_INDEX):
            here[chosen] = 1
    with raises(MIXED):
        there[torch.tensor([0, 1])] = torch.ones(2)


def test_copies_go_across(traffic):
    there = torch.zeros(3, device=DEVICE)
    there.copy_(torch.arange(3))
    here = torch.zeros(3)
    here.copy_(there)
    assert here.tolist() == there.tolist() == [0, 1, 2]
    there[1:] = torch.tensor([5.0, 6.0])  # torch copies into a slice
    assert there.tolist() == [0, 5, 6]


def test_there_is_no_numpy_of_it(traffic):
    there = torch.zeros(3, device=DEVICE)
    for convert in (lambda: there.numpy(), lambda: np.asarray(there)):
        with raises(NO_NUMPY, TypeError):
            convert()


# What is trained there


def trained(device, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 8), nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), nn.Linear(8, 7))
    model.to(device)
    model[2].weight = model[0].weight
    # the gradient of the keys' bias is rounding error, which Adam without an eps of note would make steps of
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, eps=1e-3, **options)
    tokens = torch.randint(7, (4, 5)).to(device)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.roll(1, 1).flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return loss.detach(), model


@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}])
def test_training_there_ends_where_it_does_on_the_cpu(options):
    with pretend_device():
        loss, model = trained(DEVICE, **options)
        loss, state = loss.cpu(), {name: value.cpu() for name, value in model.state_dict().items()}
        assert all(parameter.device == DEVICE and parameter.grad.device == DEVICE for parameter in model.parameters())
    expected_loss, expected = trained("cpu", **options)
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(state, dict(expected.state_dict()))


def test_a_parameter_that_is_moved_stays_the_same_object(traffic):
    first, second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    both = nn.Sequential(first, second)
    weight = first.weight
    both.to(DEVICE)
    both.to(DEVICE)
    assert first.weight is second.weight is weight and weight.device == DEVICE
    assert len(list(both.parameters())) == 1


@pytest.mark.parametrize("weights_only", [True, False])
def test_what_is_saved_there_is_loaded_where_it_is_asked_for(weights_only):
    file = io.BytesIO()

    def loaded(**options):
        file.seek(0)
        return torch.load(file, weights_only=weights_only, **options)["a"][0]

    with pretend_device():
        torch.save({"a": [torch.arange(3, device=DEVICE)]}, file)
        assert loaded().device == loaded(map_location=DEVICE).device == DEVICE
        assert type(loaded(map_location="cpu")) is torch.Tensor and loaded(map_location="cpu").tolist() == [0, 1, 2]


# What is counted


def test_what_makes_the_cpu_wait_is_counted(traffic):
    there = torch.arange(6.0, device=DEVICE).view(2, 3)
    mask = there > 2
    for waits, does in {
        1: lambda: there.sum().item(),
        2: lambda: (int(there[0, 0]), bool(mask[0, 0])),
        3: lambda: (there.cpu(), there.tolist(), torch.zeros(2, 3).copy_(there)),
        4: lambda: (there[mask], mask.nonzero(), there.masked_select(mask), there.unique()),
        0: lambda: there[mask[:, 0].long()].masked_fill(mask, 0).softmax(-1).sum(),
    }.items():
        traffic.clear()
        does()
        assert len(traffic.waits) == waits, traffic.waits
    assert len(traffic.operations) >= 4 and not traffic.uploads
    torch.zeros(3).to(DEVICE), there[:, torch.tensor([0, 1])]
    assert len(traffic.uploads) == 2 and len(traffic.waits) == 2
    torch.zeros(3).to(DEVICE, non_blocking=True)
    assert len(traffic.uploads) == 3 and len(traffic.waits) == 2


def test_nothing_is_left_of_it_outside():
    before = torch.cuda.is_available, torch.load, torch.__future__.get_swap_module_params_on_conversion()
    with pretend_device(), pytest.raises(ZeroDivisionError):
        raise ZeroDivisionError
    assert (torch.cuda.is_available, torch.load, torch.__future__.get_swap_module_params_on_conversion()) == before
    assert type(torch.zeros(2) + 1) is torch.Tensor
