"""RecBole's own functions find our models by name, in this process and in others."""

import json
import os
import subprocess
import sys

import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model, objective_function, run_recbole
from recbole.utils import get_model, get_trainer
from support.processes import in_new_process

import recbole_gr
from recbole_gr.data.dataset import SemanticIDDataset
from recbole_gr.models.tiger.model import TIGER
from recbole_gr.models.trainer import BeamSearchTrainer


def test_recbole_finds_model_trainer_dataset_and_properties(small_part, tiny_settings):
    config = Config("TIGER", "small", config_dict=tiny_settings)
    assert get_model("TIGER") is TIGER
    assert get_trainer(config["MODEL_TYPE"], "TIGER") is BeamSearchTrainer
    assert type(create_dataset(config)) is SemanticIDDataset
    assert config["tokenizer"] == "rkmeans"
    assert config["metrics"] == ["Recall", "NDCG"] and config["topk"] == [5, 10]
    assert config["beam_size"] == 20  # the user's value comes before the property file's


def test_recboles_other_models_keep_recboles_settings(small_part):
    config = Config("BPR", "small", config_dict={"data_path": small_part[1]})
    assert config["metrics"] == ["Recall", "MRR", "NDCG", "Hit", "Precision"]
    assert config["eval_args"]["order"] == "RO"
    assert config["timestamp_order"] is None


#: Writes the settings of RecBole's models on ml-100k, as text; its ``alone`` has numpy's old names, which RecBole takes.
SETTINGS_OF_ALL = """
import glob, json, os, sys
import numpy as np
if sys.argv.pop() == "alone":
    for old, new in {"float_": "float64", "complex_": "complex128", "unicode_": "str_"}.items():
        setattr(np, old, getattr(np, new))
else:
    import recbole_gr
import recbole
from recbole.config import Config

found = {}
for path in glob.glob(os.path.join(os.path.dirname(recbole.__file__), "properties", "model", "*.yaml")):
    model = os.path.basename(path)[:-5]
    try:
        found[model] = {key: repr(value) for key, value in Config(model, "ml-100k").final_config_dict.items()}
    except (ValueError, ImportError):
        continue
json.dump(found, sys.stdout)
"""


def test_every_model_of_recbole_keeps_recboles_settings():
    """But for its own default loss, which RecBole's Config refuses with its own default of negative items."""
    ways = [[sys.executable, "-W", "ignore", "-c", SETTINGS_OF_ALL, way] for way in ("alone", "beside")]
    alone, beside = (json.loads(subprocess.run(way, capture_output=True, check=True, text=True).stdout) for way in ways)
    assert len(alone) > 60 and {"RepeatNet", "SINE", "FPMC", "BPR", "Pop"} <= alone.keys()
    of_dataset = {"text_template", "codebook_size"}  # of properties/dataset/ml-100k.yaml, which only our models read
    for model, settings in alone.items():
        assert beside[model].keys() - settings.keys() <= of_dataset
        assert {key: beside[model].get(key) for key in settings} == settings, model
    without = beside.keys() - alone.keys()
    assert "SASRec" in without
    assert all("'distribution': 'none'" in beside[model]["train_neg_sample_args"] for model in without)


def test_the_bundled_dataset_has_its_own_properties():
    config = Config("TIGER", "ml-100k")
    assert config["codebook_size"] == 64
    assert config["text_template"] == "{movie_title}, {release_year}, {class}"
    assert config["load_col"] == {"inter": ["user_id", "item_id", "rating", "timestamp"]}


def test_run_recbole_and_load_in_a_new_process(small_part, tiny_settings):
    result = run_recbole("TIGER", "small", config_dict=tiny_settings)
    checkpoint = next(os.path.join("saved", name) for name in os.listdir("saved") if name.startswith("TIGER-"))
    line = in_new_process(
        """
        import json, os
        import recbole_gr
        from recbole.quick_start import load_data_and_model
        from recbole.utils import get_trainer
        config, model, dataset, train, valid, test = load_data_and_model(json.loads(os.environ["ARGUMENTS"])[0])
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        print(json.dumps({k: float(v) for k, v in trainer.evaluate(test, load_best_model=False).items()}))
        """,
        checkpoint,
    )
    assert json.loads(line) == result["test_result"]


def test_a_checkpoint_brings_its_semantic_ids(small_part, tiny_settings):
    result = run_recbole("TIGER", "small", config_dict=tiny_settings)
    checkpoint = next(os.path.join("saved", name) for name in os.listdir("saved") if name.startswith("TIGER-"))
    saved = torch.load(checkpoint, weights_only=False)
    saved["config"]["seed"] = 7  # other semantic IDs are made for this dataset
    torch.save(saved, "other.pth")
    config, model, _, _, _, test = load_data_and_model("other.pth")
    assert torch.equal(model.item_codes, saved["state_dict"]["item_codes"])
    trainer = get_trainer(config["MODEL_TYPE"], "TIGER")(config, model)
    assert trainer.evaluate(test, load_best_model=False) == result["test_result"]


def test_objective_function(small_part, tiny_settings):
    settings = {**tiny_settings, "model": "TIGER", "dataset": "small"}
    result = objective_function(config_dict=settings)
    again = run_recbole("TIGER", "small", config_dict=tiny_settings)
    assert result["test_result"] == again["test_result"]
    assert result["model"] == "TIGER" and result["best_valid_score"] == again["best_valid_score"]


@pytest.mark.parametrize("where", ["recbole.quick_start.quick_start", "recbole_gr.integration.plugin"])
def test_a_spawned_worker_finds_the_model(where):
    """The function that RecBole's ``run`` spawns, and ours, unpickled in a process that knows nothing yet."""
    line = in_new_process(
        f"""
        import pickle, subprocess, sys
        import recbole_gr
        from {where} import run_recboles
        pickled = pickle.dumps(run_recboles)
        child = "import pickle, sys; pickle.load(sys.stdin.buffer); from recbole.utils import get_model; "
        child += "print(get_model('TIGER').__module__)"
        print(subprocess.run([sys.executable, "-c", child], input=pickled, capture_output=True).stdout.decode())
        """
    )
    assert line == "recbole_gr.models.tiger.model"


def test_worker_processes_of_the_loader_are_spawned(small_part, tiny_settings):
    config = Config("TIGER", "small", config_dict={**tiny_settings, "worker": 1})
    train_data, _, _ = data_preparation(config, create_dataset(config))
    batch = next(iter(train_data))
    assert set(batch.interaction) >= {"user_id", "item_id_target_list", "item_id_list", "item_length"}


def test_applying_twice_changes_nothing():
    before = Config._load_internal_config_dict
    recbole_gr.integration.plugin.apply()
    assert Config._load_internal_config_dict is before


def test_a_script_that_took_get_model_before_us():
    line = in_new_process(
        """
        from recbole.utils import get_model
        import recbole_gr
        print(get_model("TIGER").__module__)
        """
    )
    assert line == "recbole_gr.models.tiger.model"
