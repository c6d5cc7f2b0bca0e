"""What our trainer does that RecBole's does not: groups of parameters, schedule, averaged weights, a sample of users."""

import math
import os

import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_trainer, init_seed
from torch import nn

from recbole_gr.experiment import run as run_module
from recbole_gr.experiment.run import run
from recbole_gr.integration.config import make_config
from recbole_gr.models.optimization import parameter_groups, with_one_kernel
from recbole_gr.models.schedule import LearningRateSchedule, Plan
from recbole_gr.models.weight_average import WeightAverage
from recbole_gr.utils.errors import SettingError


def prepared(settings, model="TIGER", **more):
    """A trainer before its first step, and the loaders."""
    config = make_config(model, "small", config_dict={**settings, **more})
    init_seed(config["seed"], config["reproducibility"])
    loaders = data_preparation(config, create_dataset(config))
    network = config.model_class(config, loaders[0]._dataset).to(config["device"])
    return get_trainer(config["MODEL_TYPE"], model)(config, network), loaders


class PowerCut(Exception):
    """Stands for a process that is ended from outside."""


def run_in_two_parts(settings, monkeypatch, stop_after, model="TIGER"):
    """A run that is stopped behind the state of an epoch, and resumed."""
    save = run_module.save_training_state

    def save_and_stop(trainer, train_data, epoch):
        save(trainer, train_data, epoch)
        if epoch == stop_after:
            raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_training_state", save_and_stop)
        with pytest.raises(PowerCut):
            run(model, "small", config_dict=settings)
    return run(model, "small", config_dict={**settings, "resume": state_path()})


def assert_equal_states(found, expected):
    """Two training states hold the same, bit for bit."""
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert list(found) == list(expected)
        for key in found.keys() - {"checkpoint", "settings"}:
            assert_equal_states(found[key], expected[key])
    elif isinstance(found, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            assert_equal_states(one, other)
    else:
        assert torch.equal(found, expected) if isinstance(found, torch.Tensor) else found == expected


def state_path(folder="saved"):
    (name,) = (name for name in os.listdir(folder) if name.endswith(".last.pth"))
    return os.path.join(folder, name)


def saved_state(folder):
    return torch.load(state_path(folder), weights_only=True)


# Groups of parameters


def names_by_decay(trainer):
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    groups = trainer.optimizer.param_groups
    return {group["weight_decay"]: {names[id(parameter)] for parameter in group["params"]} for group in groups}


@pytest.mark.parametrize("learner", ["adamw", "adam", "sgd", "adagrad", "rmsprop"])
def test_norms_biases_and_position_biases_do_not_decay(tiny_settings, learner):
    trainer, _ = prepared(tiny_settings, learner=learner, weight_decay=0.3)
    groups = names_by_decay(trainer)
    parameters = dict(trainer.model.named_parameters())
    assert set(groups) == {0.0, 0.3} and groups[0.0] | groups[0.3] == set(parameters)
    free = {name for name in parameters if "norm" in name or "position_bias" in name}
    assert groups[0.0] == free and len([name for name in free if "position_bias" in name]) == 2
    assert "network.embedding.weight" in groups[0.3]
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {0.003}


def test_an_adapter_and_a_frozen_model_have_the_groups_that_they_can(llm_settings):
    trainer, _ = prepared(llm_settings, model="LLMasRS", weight_decay=0.3)
    assert all("lora_" in name for name in names_by_decay(trainer)[0.3]) and set(names_by_decay(trainer)) == {0.3}
    frozen, _ = prepared(llm_settings, model="LLMasRS", tuning="frozen")
    assert not frozen.trains and len(frozen.optimizer.param_groups) == 1


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam])
def test_one_kernel_steps_as_a_loop_over_parameters_does(kind):
    def trained(change):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Embedding(5, 8), nn.LayerNorm(8), nn.Linear(8, 5))
        optimizer = change(kind(parameter_groups(network.named_parameters()), lr=0.01, weight_decay=0.5))
        for _ in range(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(torch.arange(5)), torch.arange(5).flip(0)).backward()
            optimizer.step()
        return dict(network.named_parameters()), optimizer

    expected, loop = trained(lambda optimizer: optimizer)
    found, fused = trained(with_one_kernel)
    assert all(group["fused"] for group in fused.param_groups) and not any(group["fused"] for group in loop.param_groups)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_a_training_state_of_an_older_version_says_what_it_lacks(tiny_settings):
    run("TIGER", "small", config_dict={**tiny_settings, "epochs": 1})
    state = torch.load(state_path(), weights_only=True)
    del state["settings"]["weight_decay"]
    torch.save(state, state_path())
    with pytest.raises(SettingError, match="was trained by a version without weight_decay; its checkpoint can be tested"):
        run("TIGER", "small", config_dict={**tiny_settings, "resume": state_path()})


# The learning rate


def rates(plan, steps, highest=2.0):
    """The learning rates that an optimizer's steps have."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=highest)
    LearningRateSchedule(optimizer, plan)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
    return seen


def test_warm_up_and_cosine_to_the_floor_are_those_worked_out_by_hand():
    assert rates(Plan("cosine", 2, 6, final=0.0), 7) == pytest.approx([1, 2, 2, 1 + 0.5**0.5, 1, 1 - 0.5**0.5, 0])
    # 2 * (.05 + .95 * cosine), and no lower however long it goes on
    assert rates(Plan("cosine", 2, 6, final=0.05), 9)[2:] == pytest.approx(
        [2, 0.1 + 0.95 * (1 + 0.5**0.5), 1.05, 0.1 + 0.95 * (1 - 0.5**0.5), 0.1, 0.1, 0.1]
    )
    assert rates(Plan("constant", 0, 6), 3) == [2, 2, 2]
    assert rates(Plan("inverse_sqrt", 4, 6), 17)[4:17:12] == pytest.approx([2, 1])


def test_the_curve_spans_the_true_number_of_steps(tiny_settings):
    trainer, (train, *_) = prepared(tiny_settings, epochs=2, final_learning_rate=0.1, learning_rate=1e-3)
    seen = []
    trainer.optimizer.register_step_pre_hook(lambda *_: seen.append(trainer.optimizer.param_groups[-1]["lr"]))
    trainer.fit(train, None)
    assert len(seen) == 2 * len(train)
    cosine = [0.5 * (1 + math.cos(math.pi * done / (len(seen) - 2))) for done in range(len(seen) - 1)]
    assert seen == pytest.approx([0.5e-3, 1e-3] + [1e-3 * (0.1 + 0.9 * share) for share in cosine[:-1]], rel=1e-9)


def test_a_resumed_run_with_more_epochs_goes_on_along_the_longer_curve(tiny_settings):
    from recbole_gr.integration.resume import read_training_state, restore_training_state

    run("TIGER", "small", config_dict={**tiny_settings, "epochs": 2})
    trainer, (train, *_) = prepared(tiny_settings, epochs=6)
    assert restore_training_state(read_training_state(state_path()), trainer, train)
    plan = Plan("cosine", 2, 6 * len(train))
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [0.003 * plan.share(2 * len(train))] * 2
    again, _ = prepared(tiny_settings, epochs=2)
    assert not restore_training_state(read_training_state(state_path()), again, train)


# The average of the weights


def test_the_average_is_that_of_a_loop_by_hand():
    torch.manual_seed(0)
    weights = {"a": nn.Parameter(torch.randn(3, 2)), "b": nn.Parameter(torch.randn(4))}
    average, expected = WeightAverage(weights, 0.6), {}
    for step in range(1, 12):
        for name, weight in weights.items():
            weight.data += torch.randn_like(weight)
            decay = [None, None, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 9 / 18, 10 / 19, 11 / 20, 12 / 21][step]
            assert step == 1 or decay < 0.6
            expected[name] = weight.data.clone() if step == 1 else decay * expected[name] + (1 - decay) * weight.data
        average.update()
    assert average.decay_at(20) == 0.6 and average.decay_at(10) == 0.55
    torch.testing.assert_close(dict(zip(weights, average.averages)), expected)

    own = {name: weight.detach().clone() for name, weight in weights.items()}
    with pytest.raises(PowerCut), average.in_place():
        torch.testing.assert_close({name: weight.detach() for name, weight in weights.items()}, expected)
        raise PowerCut
    assert all(torch.equal(weights[name], own[name]) for name in own)


def test_the_average_is_validated_saved_and_tested_and_the_weights_are_trained_on(tiny_settings):
    long = {**tiny_settings, "topk": [50, 100], "beam_size": 100, "learning_rate": 0.01}  # nothing is hit early so soon
    plain, (train, valid, test) = prepared(long)
    plain.fit(train, valid)
    trainer, (train, valid, test) = prepared(long, weight_ema_decay=0.9)
    validated = []
    trainer.fit(train, valid, callback_fn=lambda epoch, score: validated.append(score))
    raw = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    assert all(torch.equal(raw[name], value) for name, value in plain.model.state_dict().items())
    averaged = {**raw, **dict(zip(trainer.average.named, trainer.average.averages))}
    assert trainer.average.steps == 2 * len(train)

    of_average, of_weights = reference_result(long, averaged), reference_result(long, raw)
    assert of_average != of_weights and trainer.evaluate(test, load_best_model=False) == of_average
    assert all(torch.equal(raw[name], value) for name, value in trainer.model.state_dict().items())
    trainer._save_checkpoint(2)
    saved = torch.load(trainer.saved_model_file, weights_only=False)["state_dict"]
    assert all(torch.equal(saved[name], value) for name, value in averaged.items())
    assert validated[-1] == trainer._valid_epoch(valid)[0]
    assert trainer.evaluate(test) == of_average
    assert trainer.evaluate(test, load_best_model=False) == of_average  # the model has what was loaded
    trainer.model.load_state_dict(raw)
    assert trainer.evaluate(test, load_best_model=False) == of_weights


def reference_result(settings, weights):
    """The test's metrics of some weights, in a trainer that never trained."""
    trainer, (train, _, test) = prepared(settings)
    trainer.model.load_state_dict(weights)
    trainer.eval_collector.data_collect(train)
    return trainer.evaluate(test, load_best_model=False)


def test_a_resumed_average_goes_on_bit_for_bit(tiny_settings, monkeypatch):
    settings = {**tiny_settings, "epochs": 4, "stopping_step": 10, "weight_ema_decay": 0.95}
    whole = run("TIGER", "small", config_dict={**settings, "checkpoint_dir": "whole"})
    resumed = run_in_two_parts(settings, monkeypatch, stop_after=1)
    assert_equal_states(saved_state("saved"), saved_state("whole"))
    assert resumed["test_result"] == whole["test_result"] and resumed["best_valid_result"] == whole["best_valid_result"]


def test_no_average_of_what_is_not_trained(llm_settings):
    trainer, (train, valid, _) = prepared(llm_settings, model="LLMasRS", weight_ema_decay=0.9)
    assert trainer.average.named and all("lora_" in name for name in trainer.average.named)
