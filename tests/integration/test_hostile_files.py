"""Files of others: whatever a checkpoint, a saved dataset, a yaml file or a setting holds, nothing of it runs."""

import builtins
import functools
import importlib
import io
import logging
import operator
import os
import pickle
import subprocess
import sys
import types

import numpy as np
import pandas as pd
import pytest
import recbole.data.utils
import torch
import yaml
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model
from recbole.utils import ModelType, get_model, get_trainer, init_seed

from recbole_gr.integration.config import make_config
from recbole_gr.integration.resume import read_training_state
from recbole_gr.integration.safe_pickle import UnsafeFileError, load, load_torch
from recbole_gr.settings.values import read_yaml
from recbole_gr.utils.errors import DataError, SettingError, SettingErrors

MARK = "made-by-a-payload"


class Call:
    """Pickled, it is a call."""

    def __init__(self, called, *arguments, state=None):
        self.parts = (called, arguments) if state is None else (called, arguments, state)

    def __reduce__(self):
        return self.parts


def nested(called, *arguments):
    return pickle.dumps(Call(called, *arguments))


def torch_bytes():
    file = io.BytesIO()
    torch.save(Call(os.mkdir, MARK), file)
    return file.getvalue()


PAYLOADS = {
    "a function of os": lambda: Call(os.mkdir, MARK),
    "a shell": lambda: Call(os.system, f"mkdir {MARK}"),
    "a process": lambda: Call(subprocess.Popen, ["mkdir", MARK]),
    "eval": lambda: Call(builtins.eval, f"__import__('os').mkdir('{MARK}')"),
    "exec": lambda: Call(builtins.exec, f"import os; os.mkdir('{MARK}')"),
    "open": lambda: Call(builtins.open, MARK, "w"),
    "an import": lambda: Call(importlib.import_module, "antigravity"),
    "a partial": lambda: Call(functools.partial, os.mkdir, MARK),
    "a caller of methods": lambda: Call(operator.methodcaller, "mkdir", MARK),
    "a read attribute": lambda: Call(builtins.getattr, Config, "_load_cmd_line"),
    "a reserved attribute": lambda: Call(builtins.getattr, Call(ModelType, 2), "__class__"),
    "a pickle in a table's reader": lambda: Call(pd.read_pickle, "x.pkl"),
    "a pickle in numpy's reader": lambda: Call(np.load, "x.npy", None, True),
    "a pickle in torch's reader": lambda: Call(torch.load, "x.pth"),
    "a pickle in a storage": lambda: Call(torch.storage._load_from_bytes, torch_bytes()),
    "a pickle in a pickle": lambda: Call(pickle.loads, nested(os.mkdir, MARK)),
    "another yaml reader": lambda: Call(yaml.unsafe_load, f"!!python/object/apply:os.mkdir ['{MARK}']"),
    "a function of RecBole": lambda: Call(recbole.data.utils.create_dataset, {}),
    "a class of RecBole with arguments": lambda: Call(Config, "BPR", "ml-100k"),
    "a change of a class": lambda: Call(pickle._getattribute, Config, "x"),
    "a path of names": lambda: raw(b"crecbole.config.configurator\nos.mkdir\n", MARK),
    "an old opcode": lambda: raw_old(MARK),
    "a function made of code": lambda: Call(types.SimpleNamespace),
}


def raw(name, argument):
    """A pickle, written by hand, that calls what ``name`` loads."""
    return b"\x80\x02" + name + b"X" + len(argument).to_bytes(4, "little") + argument.encode() + b"\x85R."


def raw_old(argument):
    """A call as protocol 0 wrote it, without a word about reducing."""
    return b"(S'" + argument.encode() + b"'\nios\nmkdir\n."


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_runs_from_a_saved_dataset(payload):
    content = PAYLOADS[payload]()
    data = content if isinstance(content, bytes) else pickle.dumps(content)
    with pytest.raises((UnsafeFileError, pickle.UnpicklingError)):
        load(io.BytesIO(data))
    assert not os.path.exists(MARK) and "antigravity" not in sys.modules


@pytest.mark.parametrize("payload", [name for name in PAYLOADS if not isinstance(PAYLOADS[name](), bytes)])
@pytest.mark.parametrize("place", ["config", "state_dict", "other_parameter"])
def test_no_payload_runs_from_a_checkpoint(payload, place):
    torch.save({"config": {}, "state_dict": {}, place: PAYLOADS[payload]()}, "x.pth")
    with pytest.raises((UnsafeFileError, pickle.UnpicklingError)) as caught:
        load_data_and_model("x.pth")
    assert len(str(caught.value).splitlines()) == 1
    assert not os.path.exists(MARK) and "antigravity" not in sys.modules


def test_a_class_is_not_changed_by_a_state():
    data = pickle.dumps(ModelType)[:-1] + b"N}X\x01\x00\x00\x00aK\x01s\x86b."  # BUILD with ({}, {"a": 1})
    with pytest.raises(UnsafeFileError, match="would change recbole.utils.enum_type.ModelType"):
        load(io.BytesIO(data))
    assert not hasattr(ModelType, "a")


def test_a_model_of_ones_own_must_be_imported_before():
    with pytest.raises(UnsafeFileError, match="names my_shop.Model, .* import my_shop before"):
        load(io.BytesIO(b"\x80\x02cmy_shop\nModel\n."))


COLUMNS = ["user_id", "item_id", "timestamp"]
MODELS = ("BPR", "SASRec", "TIGER", "FM", "BERT4Rec", "FDSA", "EASE", "ItemKNN")


@pytest.mark.parametrize("model", MODELS)
def test_what_recbole_writes_is_read_as_it_was(model, smaller_part):
    """Dataset, loaders and checkpoint: every table, array and tensor is the same as by Python's own reader."""
    name, data_path = smaller_part
    settings = {"data_path": data_path, "epochs": 1, "embedding_size": 8, "show_progress": False, "use_gpu": False}
    settings |= {"save_dataset": True, "save_dataloaders": True, "checkpoint_dir": "kept", "train_neg_sample_args": None}
    settings |= {"tokenizer": "random", "codebook_size": 8, "cache_dir": None} if model == "TIGER" else {}
    settings |= (
        {"selected_features": ["class"], "load_col": {"inter": COLUMNS, "item": ["item_id", "class"]}}
        if model == "FDSA"
        else {}
    )
    settings.pop("train_neg_sample_args") if model in ("BPR", "FM", "EASE", "ItemKNN") else None
    config = Config(model, name, config_dict=settings)
    init_seed(0, True)
    os.makedirs("kept", exist_ok=True)
    trainer = get_trainer(config["MODEL_TYPE"], model)
    train, valid, _ = data_preparation(config, create_dataset(config))
    trainer = trainer(config, get_model(model)(config, train._dataset))
    trainer._save_checkpoint(0, verbose=False)
    checkpoint = trainer.saved_model_file
    files = [os.path.join("kept", file) for file in os.listdir("kept") if os.path.join("kept", file) != checkpoint]
    assert len(files) == 2, files
    for file in files:
        with open(file, "rb") as ours, open(file, "rb") as python:
            assert described(load(ours)) == described(pickle.load(python))
    assert described(load_torch(checkpoint)) == described(torch.load(checkpoint, weights_only=False))
    assert type(create_dataset(config)).__name__ == type(train._dataset).__name__  # read from the file


def described(value, seen=None):
    """All that an object is made of, as text and numbers."""
    seen = set() if seen is None else seen
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, np.ndarray):
        return [
            str(value.dtype),
            [described(one, seen) for one in value.tolist()] if value.dtype == object else value.tolist(),
        ]
    if isinstance(value, pd.DataFrame):
        return value.to_csv()
    if isinstance(value, (str, int, float, bool, type(None), bytes)):
        return repr(value)
    if isinstance(value, (type, logging.Logger)):
        return str(value)
    if id(value) in seen:
        return "again"
    seen.add(id(value))
    if isinstance(value, dict):
        return {repr(key): described(one, seen) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(one, seen) for one in value]
    return [type(value).__name__, described(vars(value), seen) if hasattr(value, "__dict__") else str(value)]


EVALUATED = f"__import__('os').mkdir('{MARK}')"


def test_text_of_a_setting_is_not_evaluated_by_recbole_alone(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", f"--state={EVALUATED}"])
    config = Config(
        "BPR", "ml-100k", config_dict={"note": EVALUATED, "embedding_size": "16", "topk": "[3]", "learner": "adam"}
    )
    assert (config["note"], config["state"]) == (EVALUATED, EVALUATED)
    assert (config["embedding_size"], config["topk"], config["learner"]) == (16, [3], "adam")
    assert not os.path.exists(MARK)


def test_a_file_of_a_search_is_not_evaluated():
    from recbole.trainer import HyperTuning

    with open("space.txt", "w") as file:
        file.write(f"learning_rate choice [{EVALUATED}]\n")
    with pytest.raises(NameError):
        HyperTuning(lambda *_: {}, params_file="space.txt", algo="random")
    assert not os.path.exists(MARK)
    with open("space.txt", "w") as file:
        file.write("learning_rate choice [0.1,0.2]\n")
    assert list(HyperTuning(lambda *_: {}, params_file="space.txt", algo="random").space) == ["learning_rate"]


def test_the_name_of_a_teacher_is_looked_up():
    from recbole.model.context_aware_recommender import kd_dagfm

    assert kd_dagfm.eval("CrossNet") is kd_dagfm.CrossNet
    with pytest.raises(NameError):
        kd_dagfm.eval(EVALUATED)
    assert not os.path.exists(MARK)


def test_item_vectors_of_a_model_of_recbole_are_no_pickle():
    from recbole.model.general_recommender import ldiffrec

    np.save("x.npy", np.array([Call(os.mkdir, MARK)], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        ldiffrec.np.load("x.npy", allow_pickle=True)
    assert not os.path.exists(MARK) and ldiffrec.np.load.__module__ != "numpy"


@pytest.mark.parametrize("name", ["convncf", "nais", "neumf", "ract", "kd_dagfm", "s3rec"])
def test_pretrained_models_are_read_safely(name):
    folder = {"kd_dagfm": "context_aware", "s3rec": "sequential"}.get(name, "general")
    module = importlib.import_module(f"recbole.model.{folder}_recommender.{name}")
    torch.save({"config": Call(os.mkdir, MARK)}, "x.pth")
    with pytest.raises(UnsafeFileError):
        module.torch.load("x.pth")
    torch.save({"state_dict": {"weight": torch.ones(2)}, "config": ModelType.GENERAL}, "y.pth", pickle_protocol=4)
    assert module.torch.load("y.pth", map_location="cpu")["state_dict"]["weight"].tolist() == [1, 1]
    assert not os.path.exists(MARK)


@pytest.mark.parametrize(
    "text",
    [
        f"epochs: !!python/object/apply:os.mkdir ['{MARK}']",
        f"epochs: !!python/object/new:os.mkdir ['{MARK}']",
        "epochs: !!python/name:os.mkdir",
        "a: &a [1, 2]\n" + "".join(f"{c}: &{c} [{', '.join(['*' + b] * 9)}]\n" for b, c in zip("abcdefg", "bcdefgh")),
        "a: &a [*a]",
        "a: " + "[" * 5000,
        "a: " + "{b: " * 5000,
    ],
)
def test_a_yaml_file_runs_nothing_and_stays_small(text):
    with open("x.yaml", "w") as file:
        file.write(text)
    with pytest.raises(DataError) as caught:
        read_yaml("x.yaml", "config_files")
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 1000
    assert not os.path.exists(MARK)


def test_aliases_within_reason_are_read():
    with open("x.yaml", "w") as file:
        file.write("a: &a [1, 2]\nb: [*a, *a]")
    assert read_yaml("x.yaml", "config_files") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


@pytest.mark.parametrize("key", ["record_name", "dataset"])
@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a\\b", "..", "a/b"])
def test_names_stay_in_their_folders(key, name, smaller_part):
    dataset, data_path = smaller_part
    settings = {"data_path": data_path, "record_name": name} if key == "record_name" else {"data_path": data_path}
    with pytest.raises((SettingError, SettingErrors), match="must be a name without folders"):
        make_config("BPR", name if key == "dataset" else dataset, config_dict=settings)


def test_a_training_state_names_no_checkpoint_elsewhere(tmp_path):
    os.mkdir("saved")
    torch.save({"weight": 1}, tmp_path / "evil.pth")
    torch.save({"checkpoint": "../evil.pth", "epoch": 1}, "saved/x.last.pth")
    with pytest.raises(SettingError, match=r"its best checkpoint \[saved/evil.pth\] is missing"):
        read_training_state("saved/x.last.pth")
