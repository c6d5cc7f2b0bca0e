"""Models that do not fit into memory, by the bytes of their parameters, gradients and optimizer states."""

import pytest
from recbole.data import create_dataset, data_preparation

from recbole_gr.integration import making
from recbole_gr.integration.config import make_config
from recbole_gr.integration.making import make_model
from recbole_gr.utils.errors import DataError, SettingError


def made(data_path, **settings):
    """The settings of a run of BPR, its training part, and the bytes of its parameters."""
    config = make_config("BPR", "small", None, {"data_path": data_path, "show_progress": False, **settings})
    training = data_preparation(config, create_dataset(config))[0]._dataset
    return config, training, 4 * config["embedding_size"] * (training.user_num + training.item_num)


@pytest.mark.parametrize("learner, copies", [("sgd", 2), ("adagrad", 3), ("rmsprop", 3), ("adam", 4), ("adamw", 4)])
def test_weights_gradients_and_states_are_counted(smaller_part, monkeypatch, learner, copies):
    config, training, size = made(smaller_part[1], learner=learner, embedding_size=48)
    monkeypatch.setattr(making, "free_memory", lambda: copies * size)
    assert sum(parameter.numel() for parameter in make_model(config, training).parameters()) == size // 4
    monkeypatch.setattr(making, "free_memory", lambda: copies * size - 1)
    with pytest.raises(SettingError, match="embedding_size=48: BPR needs .* GB of memory") as error:
        make_model(config, training)
    assert f"gradients and {copies - 2} states of {learner}" in str(error.value)


def test_they_are_counted_before_they_are_filled(smaller_part, monkeypatch):
    import torch

    config, training, size = made(smaller_part[1], embedding_size=48)
    monkeypatch.setattr(making, "free_memory", lambda: 0)
    filled = []
    monkeypatch.setattr(torch.nn.init, "normal_", lambda tensor, *_, **__: filled.append(tensor))
    with pytest.raises(SettingError):
        make_model(config, training)
    assert filled == [] and size > 0


def test_without_a_setting_the_data_are_named(smaller_part, monkeypatch):
    config, training, _ = made(smaller_part[1])
    monkeypatch.setattr(making, "free_memory", lambda: 0)
    with pytest.raises(DataError, match=r"the largest parameter has the shape \[17, 64\], small is too large for it"):
        make_model(config, training)


def test_what_is_not_trained_needs_its_parameters_alone(smaller_part, monkeypatch):
    config, training, size = made(smaller_part[1], epochs=0)
    monkeypatch.setattr(making, "free_memory", lambda: size)
    make_model(config, training)
    monkeypatch.setattr(making, "free_memory", lambda: size - 1)
    with pytest.raises(DataError, match="GB of memory .parameters., "):
        make_model(config, training)
