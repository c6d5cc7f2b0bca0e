"""The alignment tasks of LLMasRS (LC-Rec) against prompts and losses by plain lists."""

import os

import numpy as np
import pytest
import torch
from support.atomic import read_atomic
from support.llm_reference import changed_items, filled, first_batch, histories, outcome, prepared
from transformers import AutoTokenizer

from recbole_gr.experiment.run import run
from recbole_gr.language_model.alignment_tasks import TASKS
from recbole_gr.utils.errors import DataError, SettingError

EVERY = {"title_to_id": 1.0, "id_to_title": 0.5, "titles_to_id": 0.25, "ids_to_title": 1.5}


@pytest.fixture(scope="module")
def settings(llm_settings, tmp_path_factory):
    items = read_atomic(os.path.join(llm_settings["data_path"], "small", "small.item"))["item_id:token"]
    path = str(tmp_path_factory.mktemp("vectors") / "vectors.npz")
    vectors = np.random.default_rng(0).normal(size=(len(items), 12)).astype(np.float32)
    np.savez(path, item_id=items.to_numpy(dtype=str), vectors=vectors)
    codes = {"item_as": "sid", "item_vector_file": path, "codebook_size": 8, "codebook_num": 2}
    return {**llm_settings, **codes, "alignment_tasks": EVERY}


class ByHand:
    """Prompts and what follows them by plain lists of tokens."""

    def __init__(self, settings, dataset):
        self.tokenizer = AutoTokenizer.from_pretrained(settings["llm"])
        rows = read_atomic(os.path.join(settings["data_path"], "small", "small.item"))
        title_of = dict(zip(rows["item_id:token"], rows["movie_title:token_seq"]))
        self.titles = [[], *(self.text(title_of[dataset.id2token("item_id", item)]) for item in range(1, dataset.item_num))]
        ids = dataset.item_tokens
        self.ids = [ids.tokens[start:end].tolist() for start, end in zip(ids.first[:-1], ids.first[1:])]

    def text(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []

    def row(self, name, history, target):
        task, line = TASKS[name], self.text("\n")
        reads, writes = (self.titles, self.ids) if task.reads == "title" else (self.ids, self.titles)
        before, behind = task.template.split(task.slot)
        middle = sum(([*(line if nth else []), *reads[item]] for nth, item in enumerate(history)), [])
        generated = writes[target] + ([2] if task.generates == "title" else [])
        return self.text(before) + middle + self.text(behind), generated


def drawn(model, history, lengths, target, seed):
    torch.manual_seed(seed)
    by_layout = {id(task.layout): task.name for task in model.alignment.tasks}
    return [(by_layout[id(layout)], *columns) for layout, *columns in model.alignment.samples(history, lengths, target)]


def test_prompts_are_laid_out_by_their_templates(settings):
    here = prepared(settings)
    by_hand, batch = ByHand(settings, here.dataset), first_batch(here.train)
    columns = batch["item_id_list"], batch["item_length"], batch["item_id"]
    torch.manual_seed(3)
    found = here.model.alignment.samples(*columns)
    assert len(found) == 4
    for task, (layout, history, lengths, target) in zip(here.model.alignment.tasks, found):
        assert layout is task.layout and len(target) == EVERY[task.name] * len(batch)  # 32 samples: nothing to be rounded
        laid = layout(history, lengths, target)
        pairs = {(tuple(row), int(item)) for row, item in zip(histories(batch), batch["item_id"])}
        for row in range(len(target)):
            items = history[row, : lengths[row]].tolist()
            if TASKS[task.name].of_history:
                assert (tuple(items), int(target[row])) in pairs
            else:
                assert items == [int(target[row])] and 0 < items[0] < here.model.n_items
            prompt, generated = by_hand.row(task.name, items, int(target[row]))
            at = len(prompt)
            assert laid.tokens[row, :at].tolist() == prompt and laid.prompt_lengths[row] == at
            assert laid.tokens[row, at : at + len(generated)].tolist() == generated
            assert laid.target_lengths[row] == len(generated)


def test_the_loss_is_that_of_plain_passes(settings):
    """Every row alone, the next-item task and the others; the mean over all that is generated."""
    here = prepared(settings)
    model, by_hand, batch = filled(here.model), ByHand(settings, here.dataset), first_batch(here.train)[:8]
    columns = batch["item_id_list"], batch["item_length"], batch["item_id"]
    rows = []
    for history, target in zip(histories(batch), batch["item_id"].tolist()):
        line = by_hand.text("\n")
        rows.append((sum((by_hand.ids[item] + line for item in history), []), by_hand.ids[target]))
    for name, history, lengths, target in drawn(model, *columns, seed=5):
        rows += [by_hand.row(name, h[:n].tolist(), int(item)) for h, n, item in zip(history, lengths, target)]
    total, count = 0.0, 0
    with torch.no_grad():
        for prompt, generated in rows:
            logits = model.llm(input_ids=torch.tensor([prompt + generated])).logits[0, len(prompt) - 1 : -1]
            total -= float(logits.log_softmax(-1).gather(1, torch.tensor(generated).unsqueeze(1)).sum())
            count += len(generated)
    torch.manual_seed(5)
    assert float(model.calculate_loss(batch)) == pytest.approx(total / count, rel=1e-4)


def test_in_parts_the_gradient_is_the_same(settings):
    def gradient(parts):
        here = prepared(settings, gradient_accumulation=parts)
        filled(here.model)
        torch.manual_seed(5)
        here.model.calculate_loss(first_batch(here.train)).backward()
        return {name: p.grad for name, p in here.model.named_parameters() if p.grad is not None}

    torch.testing.assert_close(gradient(3), gradient(1), atol=1e-5, rtol=1e-4)


def test_a_weight_is_a_number_of_samples(settings):
    """A third of 8 samples is two or three of them; the rest decides at random."""
    here = prepared(settings, alignment_tasks={"title_to_id": 1 / 3})
    batch = first_batch(here.train)[:8]
    counts = [
        len(drawn(here.model, batch["item_id_list"], batch["item_length"], batch["item_id"], seed)[0][-1])
        for seed in range(60)
    ]
    assert set(counts) == {2, 3} and abs(np.mean(counts) - 8 / 3) < 0.2
    assert here.model.alignment.drawn == {"title_to_id": sum(counts)}


def test_a_run_tells_how_many_samples_there_were_and_the_seed_decides(settings):
    short = {**settings, "epochs": 1, "epoch_samples": 64, "beam_certify": False, "alignment_tasks": {"title_to_id": 0.3}}
    first, again = (outcome(run("LLMasRS", "small", config_dict=short)) for _ in range(2))
    assert first.losses == again.losses and first.facts["alignment_samples"] == again.facts["alignment_samples"]
    assert 10 <= first.facts["alignment_samples"]["title_to_id"] <= 30
    plain = outcome(run("LLMasRS", "small", config_dict={**short, "alignment_tasks": {}}))
    assert "alignment_samples" not in plain.facts and plain.losses != first.losses


def test_a_template_of_ones_own(settings):
    here = prepared(settings, alignment_tasks={"title_to_id": 1.0}, alignment_templates={"title_to_id": "what is {item}? "})
    layout, history, lengths, target = here.model.alignment.samples(
        *[torch.tensor([[3]]), torch.tensor([1]), torch.tensor([4])]
    )[0]
    laid = layout(history, lengths, target)
    text = here.dataset.tokenizer.decode(laid.tokens[0, : laid.prompt_lengths[0]])
    assert text.startswith("what is ") and text.rstrip().endswith("?")


@pytest.mark.parametrize(
    "more, words",
    [
        (
            {"alignment_tasks": {"title_to_sid": 1}},
            "title_to_sid: 1; must be numbers above 0 by task, of title_to_id, id_to_title",
        ),
        ({"alignment_tasks": {"title_to_id": 0}}, "title_to_id: 0; must be numbers above 0"),
        ({"alignment_tasks": ["title_to_id"]}, "must be numbers above 0 by task, of title_to_id"),
        ({"item_as": "title"}, "alignment_tasks=.*: needs item_as=sid"),
        ({"alignment_templates": {"title_to_id": "the ID"}}, r"title_to_id: must have \{item\} in it once"),
        ({"alignment_templates": {"ids_to_title": "{item}"}}, r"ids_to_title: must have \{history\} in it once"),
        ({"alignment_templates": {"ids": "{item}"}}, "ids: must be text by task, of title_to_id"),
        ({"prompt_max_tokens": 20}, "prompt_max_tokens=20: must be at least"),
    ],
)
def test_values_that_cannot_work(settings, more, words):
    given = {**settings, **more}
    if more.get("item_as") == "title":
        given = {key: value for key, value in given.items() if key != "item_vector_file"}
    with pytest.raises(SettingError, match=words) as raised:
        prepared(given)
    assert "\n" not in str(raised.value)


def test_a_catalogue_without_titles(settings, tmp_path):
    given = changed_items(settings, tmp_path, lambda items: items.drop(columns="movie_title:token_seq", inplace=True))
    with pytest.raises(DataError, match="^alignment_tasks=title_to_id, .* needs titles: .*small.item.* has no title column"):
        prepared(given)
