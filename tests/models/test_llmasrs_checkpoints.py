"""Checkpoints of LLMasRS: what they hold, where they are read again, going on from one, and those that do not belong."""

import json
import os
import shutil

import pytest
import torch
from recbole.trainer import Trainer
from support.llm_reference import SMALL, changed_items, outcome, prepared
from support.processes import in_new_process
from transformers import AutoModelForCausalLM, AutoTokenizer

from recbole_gr.experiment.run import run
from recbole_gr.utils.errors import DataError, SettingError


def test_a_checkpoint_holds_the_adapter_only(lora_run, llm_settings):
    state = torch.load(lora_run.checkpoint, weights_only=False)["state_dict"]
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapted = [(n, layer, m) for n in range(2) for layer in layers for m in "AB"]
    found = [name for name in state if "lora_" in name]
    assert len(found) == len(adapted)
    for n, layer, m in adapted:
        assert sum(f"layers.{n}." in name and layer in name and f"lora_{m}" in name for name in found) == 1
    assert state.keys() - set(found) == {"base_digest", "titles_digest", "title_numbers", "leaf_ranks"}
    assert len(state["base_digest"]) == len(state["titles_digest"]) == 8  # 16 hexadecimal digits
    base = os.path.getsize(os.path.join(llm_settings["llm"], "model.safetensors"))
    adapter_bytes = sum(value.numel() * value.element_size() for name, value in state.items() if "lora_" in name)
    assert adapter_bytes == 4 * lora_run.facts["N_LoRA"] < base / 8


def test_a_checkpoint_in_a_new_process(lora_run):
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
        lora_run.checkpoint,
    )
    assert json.loads(line) == lora_run.record["test"]


class Interrupted(Exception):
    """Stands for the power cut."""


def test_resuming_goes_on_as_if_never_interrupted(llm_settings, monkeypatch):
    """With dropout, whose random state must go on, too."""
    settings = {**llm_settings, **SMALL, "epoch_samples": 64, "epochs": 3, "lora_dropout": 0.2, "stopping_step": 10}
    uninterrupted = outcome(run("LLMasRS", "small", config_dict=settings))
    train_epoch = Trainer._train_epoch

    def stop_in_the_third_epoch(self, train_data, epoch_idx, *args, **kwargs):
        if epoch_idx == 2:
            raise Interrupted
        return train_epoch(self, train_data, epoch_idx, *args, **kwargs)

    shutil.rmtree("saved")
    with monkeypatch.context() as power_cut:
        power_cut.setattr(Trainer, "_train_epoch", stop_in_the_third_epoch)
        with pytest.raises(Interrupted):
            run("LLMasRS", "small", config_dict=settings)
    (checkpoint,) = (name for name in os.listdir("saved") if ".last" not in name)
    resumed = outcome(run("LLMasRS", "small", config_dict={**settings, "resume": os.path.join("saved", checkpoint)}))
    assert resumed.losses == uninterrupted.losses and len(uninterrupted.losses) == 3
    assert (
        resumed.record["test"] == uninterrupted.record["test"] and resumed.record["valid"] == uninterrupted.record["valid"]
    )


def test_a_checkpoint_of_another_base_model(lora_run, llm_settings, tmp_path):
    state = torch.load(lora_run.checkpoint, weights_only=False)["state_dict"]
    base = AutoModelForCausalLM.from_pretrained(llm_settings["llm"])
    with torch.no_grad():
        base.model.layers[1].mlp.down_proj.weight += 0.1
    base.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(llm_settings["llm"]).save_pretrained(tmp_path / "other")
    other = prepared(llm_settings, llm=str(tmp_path / "other"))
    with pytest.raises(SettingError, match=f"^llm='{tmp_path}/other': the checkpoint was trained on another base model"):
        other.model.load_state_dict(state)


def test_a_title_that_changed_is_named(lora_run, llm_settings, tmp_path, caplog):
    def change(items):
        items.loc[3, "movie_title:token_seq"] += " II"
        changed_item.append(items.loc[3, "item_id:token"])

    changed_item = []
    changed = prepared(changed_items(llm_settings, tmp_path, change))
    changed.model.load_state_dict(torch.load(lora_run.checkpoint, weights_only=False)["state_dict"])
    named = f"The titles of 1 items ({changed_item[0]}) are others than the checkpoint was trained on"
    assert named in caplog.text


def test_a_checkpoint_of_other_titles(lora_run, llm_settings, tmp_path):
    def change(items):
        items["movie_title:token_seq"] += " II"

    changed = prepared(changed_items(llm_settings, tmp_path, change))
    with pytest.raises(DataError, match="^the checkpoint was trained on other items or titles"):
        changed.model.load_state_dict(torch.load(lora_run.checkpoint, weights_only=False)["state_dict"])


@pytest.mark.parametrize("tuning", ["full", "frozen"])
def test_a_checkpoint_of_another_tuning(lora_run, llm_settings, tuning):
    """A frozen model must not pass over an adapter in silence."""
    other = prepared(llm_settings, tuning=tuning)
    with pytest.raises(SettingError, match=f"^tuning='{tuning}': the checkpoint has .* tuned in another way"):
        other.model.load_state_dict(torch.load(lora_run.checkpoint, weights_only=False)["state_dict"])


def test_a_checkpoint_of_another_model(llm_settings):
    with pytest.raises(SettingError, match="^model='LLMasRS': the checkpoint is of another model"):
        prepared(llm_settings).model.load_state_dict({"network.weight": torch.zeros(1)})
