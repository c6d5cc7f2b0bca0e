"""For the tests of LLMasRS: models ready to be asked, what a run left behind, and the reference.

The reference writes prompts by plain lists and scores titles by plain passes of the language model.
"""

import json
import os
import shutil
from collections import Counter
from types import SimpleNamespace

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_trainer, init_seed
from support.atomic import read_atomic
from transformers import AutoTokenizer

from recbole_gr.models.llmasrs.model import LLMasRS

SMALL = {"epochs": 2, "epoch_samples": 96, "beam_certify": False}
#: A search gives up what scores less than the largest k of topk; with all items as k it finds all.
ALL_ITEMS = {"topk": [5, 10, 172], "beam_size": 172}


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


class Reference:
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


def outcome(result, folder="."):
    with open(os.path.join(folder, result["record"])) as file:
        record = json.load(file)
    names = [name for name in os.listdir(os.path.join(folder, "saved")) if name.endswith(".pth") and ".last" not in name]
    checkpoint = max((os.path.join(folder, "saved", name) for name in names), key=os.path.getmtime)
    state_file = checkpoint.replace(".pth", ".last.pth")
    losses = torch.load(state_file, weights_only=True)["train_loss"] if os.path.exists(state_file) else None
    facts = record.get("language_model")
    return SimpleNamespace(result=result, record=record, facts=facts, checkpoint=checkpoint, losses=losses)


def changed_items(settings, folder, change):
    """The settings for a copy of the dataset with other columns in its .item file."""
    shutil.copytree(os.path.join(settings["data_path"], "small"), folder / "changed" / "small")
    path = folder / "changed" / "small" / "small.item"
    items = read_atomic(path)
    change(items)
    items.to_csv(path, sep="\t", index=False)
    return {**settings, "data_path": str(folder / "changed")}
