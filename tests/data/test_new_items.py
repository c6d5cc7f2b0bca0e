"""The page ``docs/new_items.md``, word for word; and ``load_items``."""

import os
import re
import shlex
import shutil

import pytest
import torch
from recbole.data import create_dataset
from recbole.quick_start import load_data_and_model

from recbole_gr import cli
from recbole_gr.experiment.run import run
from recbole_gr.integration.config import make_config
from recbole_gr.tokenizers.semantic_ids import SemanticIDs
from recbole_gr.utils.errors import DataError, SettingError

HERE = os.path.dirname(__file__)
PAGE = os.path.join(HERE, os.pardir, os.pardir, "docs", "new_items.md")
CASE = os.path.join(HERE, os.pardir, "cases", "plain")
TINY = "--show_progress=False --n_layers=1 --d_model=32 --n_heads=2 --d_kv=16 --d_ff=64"


@pytest.fixture
def shop(tmp_path):
    """The folder of the dataset ``shop``, 60 users and 40 items, in the folder ``mydata``."""
    folder = tmp_path / "mydata" / "shop"
    folder.mkdir(parents=True)
    for ending in ("inter", "item"):
        shutil.copy(os.path.join(CASE, f"plain.{ending}"), folder / f"shop.{ending}")
    return folder


def add_items(shop, *lines):
    with open(shop / "shop.item", "a") as file:
        file.writelines(f"{line}\n" for line in lines)


def blocks(language):
    with open(PAGE, encoding="utf-8") as file:
        return re.findall(rf"```{language}\n(.*?)```", file.read(), re.DOTALL)


def the_checkpoint():
    (checkpoint,) = (name for name in os.listdir("saved") if name.endswith(".pth") and not name.endswith(".last.pth"))
    return os.path.join("saved", checkpoint)


def launch(command, monkeypatch):
    program, *arguments = shlex.split(command)
    assert program == "recbole-gr"
    monkeypatch.setattr("sys.argv", ["recbole-gr"])
    assert cli.main(arguments) == 0


def test_the_page_a_cold_item_is_recommended(shop, monkeypatch, capsys):
    before, after = blocks("bash")
    tokenize, train = before.strip().splitlines()
    launch(tokenize, monkeypatch)
    launch(f"{train} {TINY}", monkeypatch)
    (listed,) = blocks("text")
    add_items(shop, *listed.strip().splitlines())
    launch(after.strip(), monkeypatch)
    checkpoint = the_checkpoint()

    old, new = SemanticIDs.load("ids/semantic_ids.npz"), SemanticIDs.load("ids_extended/semantic_ids.npz")
    assert (new.codes[: old.n_items] == old.codes).all() and new.item_tokens.tolist() == [*old.item_tokens, "new1", "new2"]
    twin = old.item_tokens.tolist().index("i1")  # which has the same text
    assert (new.codes[-2] == old.codes[twin]).all()

    names = {"checkpoint": checkpoint}
    capsys.readouterr()
    exec(blocks("python")[0], names)
    said = capsys.readouterr().out.strip().splitlines()[-1]
    users = int(re.fullmatch(r"new1 is recommended to (\d+) of 60 users", said)[1])
    assert users > 0
    model, dataset, interaction = names["model"], names["dataset"], names["interaction"]
    scores = model.full_sort_predict(interaction)
    ids = [dataset.token2id("item_id", item) for item in ("i1", "new1")]
    assert torch.equal(scores[:, ids[0]], scores[:, ids[1]])
    # what it was trained on has the scores that it had
    _, alone, known, *loaders = load_data_and_model(checkpoint)
    rows = next(iter(loaders[2]))[0]
    tokens = known.field2id_token["item_id"][1:]
    here = [dataset.token2id("item_id", token) for token in tokens]
    first = alone.eval().full_sort_predict(rows)[:, 1:]
    both = torch.isfinite(first) & torch.isfinite(scores[:, here])
    torch.testing.assert_close(scores[:, here][both], first[both])
    assert both.sum(dim=1).min() >= 5


def test_a_code_beyond_those_that_were_trained_is_one_line(shop, monkeypatch):
    data = "--dataset=shop --data_path=mydata"
    made = "--codebook_num=1 --codebook_size=8 --collision=digit"
    launch(f"recbole-gr tokenize {data} {made} --sid_format=npz --output_dir=ids", monkeypatch)
    launch(f"recbole-gr run {data} --sid_file=ids/semantic_ids.npz --epochs=1 {TINY}", monkeypatch)
    add_items(shop, *(f"new{number}\ttable lamp shoe soft 1\tBrio" for number in range(40)))
    again = f"recbole-gr tokenize {data} --load_items=all --extend=ids/semantic_ids.npz --sid_format=npz --output_dir=more"
    launch(again, monkeypatch)
    assert (
        SemanticIDs.load("more/semantic_ids.npz").codebook_sizes[1]
        > SemanticIDs.load("ids/semantic_ids.npz").codebook_sizes[1]
    )
    from recbole_gr.integration.checkpoints import load_checkpoint

    checkpoint = the_checkpoint()
    with pytest.raises(DataError, match=r"^the checkpoint has no semantic IDs for 40 items .* larger codes for \d+ of them"):
        load_checkpoint(checkpoint, {"sid_file": "more/semantic_ids.npz", "load_items": "all"})
    assert cli.main(shlex.split(again.replace("=ids/", "=more/"))[1:]) == 2  # all have codes


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("--extend=nowhere.npz", "extend='nowhere.npz': no such file"),
        ("--extend=ids/measures.json", "must be a .npz of `recbole-gr tokenize --sid_format=npz`"),
        (
            "--extend=ids/semantic_ids.npz",
            "extend='ids/semantic_ids.npz': has codes for all 40 items of the catalogue; load_items=all",
        ),
        (
            "--extend=ids/semantic_ids.npz --load_items=all --codebook_num=2",
            "codebook_num=2: the codes to extend were made with 3",
        ),
        ("--extend=random/semantic_ids.npz --load_items=all", "tokenizer='random': its codes know nothing of an item"),
        (
            "--extend=even/semantic_ids.npz --load_items=all",
            "kmeans_balanced=True: which code an item gets depends on all the others",
        ),
        (
            "--extend=cf/semantic_ids.npz --load_items=all",
            "item_vectors='cf': items that nobody interacted with have no CF vectors",
        ),
    ],
)
def test_what_cannot_be_extended_is_one_line(shop, monkeypatch, capsys, options, error):
    made = {
        "ids": "",
        "random": "--tokenizer=random",
        "even": "--kmeans_balanced=True",
        "cf": "--item_vectors=cf --cf_dimension=8",
    }
    name = re.search(r"--extend=(\w+)", options)[1]
    data = "recbole-gr tokenize --dataset=shop --data_path=mydata"
    if name in made:
        launch(f"{data} --codebook_size=8 {made[name]} --sid_format=npz --output_dir={name}", monkeypatch)
    add_items(shop, "new1\tsoft lamp\tBrio")
    capsys.readouterr()
    assert cli.main(shlex.split(f"{data} {options}")[1:]) == 2
    printed = capsys.readouterr().err
    assert error in printed and printed.count("error: ") == 1 and "Traceback" not in printed


def test_items_without_interactions_are_counted_or_taken_in(shop, caplog):
    add_items(shop, "new1\tsoft lamp\tBrio", "i3\tonce more\tBrio", "new2\tlarge shoe\tAcme", "\tnobody\tAcme")
    caplog.set_level("INFO")
    given = {"data_path": "mydata", "show_progress": False}
    for model in ("SASRec", "BPR", "SASRecCausal"):
        caplog.clear()
        counted = create_dataset(make_config(model, "shop", config_dict=given))
        assert counted.item_num == 41
        assert (
            "2 items of [mydata/shop/shop.item] have no interactions here and are left out (new1, new2); load_items=all"
            in caplog.text
        )
        taken = create_dataset(make_config(model, "shop", config_dict={**given, "load_items": "all"}))
        assert taken.item_num == 43 and list(taken.field2id_token["item_id"][:41]) == list(counted.field2id_token["item_id"])
        assert taken.token2id("item_id", ["new1", "new2"]).tolist() == [41, 42]
        if model != "SASRecCausal":
            result = run(
                model, "shop", config_dict={**given, "load_items": "all", "epochs": 1, "topk": [42], "metrics": ["Recall"]}
            )
            assert result["test_result"] == {"recall@42": 1.0}


def test_all_items_of_no_file_are_one_line(shop):
    (shop / "shop.item").unlink()
    with pytest.raises(SettingError, match="^load_items='all': there is no item file"):
        create_dataset(make_config("BPR", "shop", config_dict={"data_path": "mydata", "load_items": "all"}))
