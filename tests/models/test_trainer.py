"""What our trainer does that RecBole's does not: groups of parameters, schedule, averaged weights, a sample of users."""

import json
import math
import os

import numpy as np
import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_trainer, init_seed
from torch import nn

from recbole_gr.experiment import run as run_module
from recbole_gr.experiment.run import run
from recbole_gr.experiment.target_ranks import collect_target_ranks
from recbole_gr.integration.config import checked_run, make_config
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
        for key in found.keys() - {"checkpoint", "checkpoint_digest", "settings", "progress"}:
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


def test_norms_biases_and_position_biases_do_not_decay(tiny_settings):
    trainer, _ = prepared(tiny_settings, weight_decay=0.3)
    parameters = dict(trainer.model.named_parameters())
    free = {name for name in parameters if "norm" in name or "position_bias" in name}
    assert len([name for name in free if "position_bias" in name]) == 2 and "network.embedding.weight" not in free
    for learner in ("adamw", "adam", "sgd", "adagrad", "rmsprop"):
        trainer.optimizer = trainer._build_optimizer(learner=learner)
        assert type(trainer.optimizer).__name__.lower() == learner
        assert names_by_decay(trainer) == {0.3: parameters.keys() - free, 0.0: free}
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
    # nothing is hit early so soon, and the average must have fallen behind
    long = {**tiny_settings, "topk": [50, 100], "beam_size": 100, "learning_rate": 0.03, "epochs": 6}
    plain, (train, valid, test) = prepared(long)
    plain.fit(train, valid)
    trainer, (train, valid, test) = prepared(long, weight_ema_decay=0.9)
    validated = []
    trainer.fit(train, valid, callback_fn=lambda epoch, score: validated.append(score))
    raw = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    assert all(torch.equal(raw[name], value) for name, value in plain.model.state_dict().items())
    averaged = {**raw, **dict(zip(trainer.average.named, trainer.average.averages))}
    assert trainer.average.steps == 6 * len(train)

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


def test_no_average_of_what_is_not_trained(llm_settings):
    trainer, (train, valid, _) = prepared(llm_settings, model="LLMasRS", weight_ema_decay=0.9)
    assert trainer.average.named and all("lora_" in name for name in trainer.average.named)


# Validation


LONG = {"topk": [50], "valid_metric": "NDCG@50", "beam_size": 60, "learning_rate": 0.01}  # something is hit so soon
SAMPLED = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni100"}}


def record_of(result):
    with open(result["record"]) as file:
        return json.load(file)


@pytest.mark.parametrize("more", [{}, SAMPLED], ids=["full", "sampled"])
def test_early_stopping_looks_at_the_sample_and_the_result_is_that_of_all_users(tiny_settings, more):
    trainer, (train, valid, _) = prepared({**tiny_settings, **LONG, **more}, epochs=3, valid_users=15)
    seen, evaluate = [], trainer.evaluate

    def watched(loader, *args, **kwargs):
        seen.append(sorted(set(loader._dataset.inter_feat["user_id"].tolist())))
        return evaluate(loader, *args, **kwargs)

    trainer.evaluate = watched
    score, result = trainer.fit(train, valid)
    assert [len(users) for users in seen] == [15, 15, 15, 60] and seen[0] == seen[1] == seen[2]
    assert trainer.valid_users == {"in_training": 15, "in_result": 60}
    assert score == result["ndcg@50"] == trainer.best_valid_score and result is trainer.best_valid_result
    if not more:  # what is sampled is drawn anew every time
        with trainer.model.validating(trainer.config):
            assert evaluate(valid) == result
        of_all, of_sample = ranks_by_user(trainer, valid), ranks_by_user(trainer, trainer.valid_sample(valid))
        assert of_sample == {user: rank for user, rank in of_all.items() if user in seen[0]}
        assert 0 < result["recall@50"] == pytest.approx(np.mean([rank > 0 for rank in of_all.values()]), abs=1e-4)


def ranks_by_user(trainer, loader):
    with trainer.model.validating(trainer.config), collect_target_ranks(trainer, 50) as batches:
        trainer.evaluate(loader)
    users, ranks = (np.concatenate([batch[name] for batch in batches]).tolist() for name in ("user", "rank"))
    return dict(zip(users, ranks))


def test_without_a_checkpoint_the_result_is_that_of_the_sample(tiny_settings):
    trainer, (train, valid, _) = prepared({**tiny_settings, **LONG}, epochs=1, valid_users=15)
    score, result = trainer.fit(train, valid, saved=False)
    assert trainer.valid_users == {"in_training": 15, "in_result": 15}
    assert (score, result) == trainer._valid_epoch(trainer.valid_sample(valid))


def test_validations_have_their_own_beams_and_no_certificate(tiny_settings):
    settings = {**tiny_settings, "beam_size": 30, "valid_beam_size": 12, "beam_certify": True}
    trainer, (train, valid, test) = prepared(settings, epochs=1)
    seen, rank = [], trainer.model.rank

    def watched(*args):
        seen.append((trainer.model.beam_size, trainer.model.beam_certify))
        return rank(*args)

    trainer.model.rank = watched
    trainer.fit(train, valid)
    assert set(seen) == {(12, False)}
    seen.clear()
    trainer.evaluate(test)
    assert set(seen) == {(30, True)}


def test_beams_of_validations_must_reach_the_largest_k(tiny_settings):
    with pytest.raises(SettingError, match="^valid_beam_size=9: must be at least the largest k of topk, 10"):
        make_config("TIGER", "small", config_dict={**tiny_settings, "valid_beam_size": 9})
    for more, reason in (({"eval_step": 0}, "eval_step=0 validates nothing"), (SAMPLED, "scored without beams")):
        config = make_config("TIGER", "small", config_dict={**tiny_settings, "valid_beam_size": 10, **more})
        (line,) = checked_run(config).notices
        assert line.startswith("valid_beam_size=10 is not used") and reason in line


@pytest.mark.parametrize("model", ["TIGER", "LLMasRS"])
def test_a_run_that_is_resumed_ends_bit_for_bit_as_one_that_is_not(model, tiny_settings, llm_settings, monkeypatch):
    settings = {**tiny_settings, **LONG, "eval_step": 2} if model == "TIGER" else {**llm_settings, "topk": [10]}
    if model == "LLMasRS":
        settings |= {"valid_metric": "NDCG@10", "llm": "scratch", "beam_certify": False}
    settings |= {
        "epochs": 4,
        "stopping_step": 10,
        "weight_ema_decay": 0.95,
        "valid_users": 9,
        "valid_beam_size": settings["beam_size"],
    }
    whole = run(model, "small", config_dict={**settings, "checkpoint_dir": "whole"})
    resumed = run_in_two_parts(settings, monkeypatch, stop_after=1, model=model)
    assert_equal_states(saved_state("saved"), saved_state("whole"))
    once_more = run(model, "small", config_dict={**settings, "resume": state_path()})
    expected = record_of(whole)
    users = expected["dataset_statistics"]["users"]
    assert expected["valid_users"] == {"in_training": 9, "in_result": users} and expected["config"]["valid_users"] == 9
    stages = expected["stages"]
    assert stages["validation"]["times"] == len([e for e in expected["learning_curve"] if "valid_score" in e])
    assert stages["validation_of_all_users"]["times"] == 1 and stages["validation_of_all_users"]["users_per_second"] > 0
    for result in (resumed, once_more):
        record = record_of(result)
        assert [record[key] for key in ("valid", "test", "valid_users")] == [
            expected[k] for k in ("valid", "test", "valid_users")
        ]
        assert result["best_valid_score"] == whole["best_valid_score"]


def test_a_frozen_model_is_validated_once_on_all_users(llm_settings):
    trainer, (train, valid, _) = prepared(llm_settings, model="LLMasRS", tuning="frozen", valid_users=5)
    assert trainer.valid_sample(valid) is valid
    (line,) = [line for line in checked_run(trainer.config).notices if "valid_users" in line]
    assert "tuning=frozen trains nothing" in line
