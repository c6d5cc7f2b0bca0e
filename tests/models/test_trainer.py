"""What our trainer does that RecBole's does not: groups of parameters, schedule, averaged weights, a sample of users."""

import math
import os

import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_trainer, init_seed
from torch import nn

from recbole_gr.experiment.run import run
from recbole_gr.integration.config import make_config
from recbole_gr.models.optimization import parameter_groups, with_one_kernel
from recbole_gr.models.schedule import LearningRateSchedule, Plan
from recbole_gr.utils.errors import SettingError


def prepared(settings, model="TIGER", **more):
    """A trainer before its first step, and the loaders."""
    config = make_config(model, "small", config_dict={**settings, **more})
    init_seed(config["seed"], config["reproducibility"])
    loaders = data_preparation(config, create_dataset(config))
    network = config.model_class(config, loaders[0]._dataset).to(config["device"])
    return get_trainer(config["MODEL_TYPE"], model)(config, network), loaders


def state_path():
    (name,) = (name for name in os.listdir("saved") if name.endswith(".last.pth"))
    return os.path.join("saved", name)


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
