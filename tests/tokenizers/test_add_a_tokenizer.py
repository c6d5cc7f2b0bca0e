"""docs/add_a_tokenizer.md, followed word for word: a tokenizer from outside the package, in processes of their own."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tomllib

import recbole_gr
from recbole_gr.experiment.tokenize_dataset import tokenize_dataset
from recbole_gr.tokenizers import Quantised, add_tokenizer, find_tokenizer, registry, tokenize
from recbole_gr.tokenizers.families.rkmeans import rkmeans
from recbole_gr.utils.errors import SettingError

REPOSITORY = os.path.dirname(os.path.dirname(recbole_gr.__file__))


@pytest.fixture
def page():
    with open(os.path.join(REPOSITORY, "docs", "add_a_tokenizer.md"), encoding="utf-8") as file:
        return file.read()


def block(page, language):
    return re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)[1]


@pytest.fixture
def site(page, tmp_path):
    """A folder as pip leaves it when it has installed the package of the page."""
    folder = tmp_path / "site"
    (folder / "shop_tokenizers-1.0.dist-info").mkdir(parents=True)
    (folder / "shop_tokenizers.py").write_text(block(page, "python"))
    (folder / "shop_tokenizers-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: shop_tokenizers\nVersion: 1.0\n"
    )
    ((group, points),) = tomllib.loads(block(page, "toml"))["project"]["entry-points"].items()
    lines = "".join(f"{name} = {function}\n" for name, function in points.items())
    (folder / "shop_tokenizers-1.0.dist-info" / "entry_points.txt").write_text(f"[{group}]\n{lines}")
    return str(folder)


def command(site, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from recbole_gr.cli import main; sys.exit(main())", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((site, REPOSITORY)), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def the_function(page):
    names = {}
    exec(block(page, "python"), names)
    return names["quantiles"]


def test_the_page_word_for_word(page, site, small_part, tiny_settings):
    with open("tiny.yaml", "w") as file:
        json.dump({**tiny_settings, "epochs": 1}, file)
    for line in block(page, "bash").splitlines():
        program, *arguments = line.replace("--dataset=ml-100k", "--dataset=small").split()
        status, output = command(site, *arguments, "--config_files=tiny.yaml")
        assert program == "recbole-gr" and status == 0, output[-3000:]
        assert "has this name" not in output and "is not used" not in output

    with open("results/tokenizers/small-quantiles/semantic_ids.json") as file:
        written = json.load(file)
    with np.load("vectors.npz") as file:
        row_of = {item: row for row, item in enumerate(file["item_id"])}
        vectors = file["vectors"][[row_of[item] for item in written]]
    expected = the_function(page)(vectors, 3, 16, skip_components=1).codes
    assert [codes[:3] for codes in written.values()] == expected.tolist()

    (name,) = [file for file in os.listdir("results/runs") if file.endswith(".json")]
    with open(os.path.join("results", "runs", name)) as file:
        record = json.load(file)
    assert record["semantic_ids"]["source"]["tokenizer"] == "quantiles"
    assert record["semantic_ids"]["source"]["skip_components"] == record["config"]["skip_components"] == 1
    assert record["semantic_ids"]["codes_used"][:3] == [16, 16, 16]


def test_a_package_that_cannot_be_imported(site):
    with open(os.path.join(site, "shop_tokenizers.py"), "w") as file:
        file.write("raise OSError('libshop.so: no such file')")
    status, output = command(site, "tokenize", "--dataset=ml-100k", "--tokenizer=quantiles")
    assert (
        status == 2
        and "OSError: libshop.so" in output
        and "error: tokenizer='quantiles': [shop_tokenizers:quantiles] cannot be imported" in output
    )
    status, output = command(site, "tokenize", "--dataset=ml-100k", "--tokenizer=nothing")
    assert status == 2 and "must be one of rkmeans, rvq, rqvae, letter, opq, pq, random, lsh, quantiles" in output


def test_an_edit_makes_the_codes_anew(site, small_part, tiny_settings):
    with open("tiny.yaml", "w") as file:
        json.dump(tiny_settings, file)
    arguments = ("tokenize", "--dataset=small", "--tokenizer=quantiles", "--config_files=tiny.yaml", "--output_dir=made")
    codes = []
    for edit in (("", ""), ("", ""), ("[skip_components:]", "[skip_components + 1:]")):
        path = os.path.join(site, "shop_tokenizers.py")
        with open(path) as file:
            source = file.read()
        with open(path, "w") as file:
            file.write(source.replace(*edit) if edit[0] else source)
        status, output = command(site, *arguments)
        assert status == 0, output[-2000:]
        with open("made/semantic_ids.json") as file:
            codes.append(json.load(file))
        assert ("Reused semantic_ids" in output) == (len(codes) == 2)
    assert codes[0] == codes[1] != codes[2]


@pytest.mark.parametrize(
    "made, words",
    [
        (np.zeros((80, 2), dtype=int), "must return Quantised with whole codes [80, 2], not ndarray"),
        (Quantised(np.zeros((79, 2), dtype=int)), "not codes int64 [79, 2]"),
        (Quantised(np.zeros((80, 2))), "not codes float64 [80, 2]"),
        (Quantised(np.full((80, 2), 8)), "must return codes from 0 to 7, not 8 to 8"),
        (Quantised(np.full((80, 2), -1)), "must return codes from 0 to 7, not -1 to -1"),
    ],
)
def test_what_a_tokenizer_hands_over_is_checked(monkeypatch, made, words):
    monkeypatch.setattr(registry, "_TOKENIZERS", dict(registry._TOKENIZERS))
    add_tokenizer("odd", lambda vectors, codebook_num, codebook_size: made)
    rows = np.random.default_rng(0).normal(size=(81, 8)).astype(np.float32)
    with pytest.raises(SettingError, match=re.escape(words)):
        tokenize(rows, tokenizer="odd", codebook_num=2, codebook_size=8)


def test_a_default_of_ones_own_under_a_name_of_ours(monkeypatch, small_part, tiny_settings):
    monkeypatch.setattr(registry, "_TOKENIZERS", dict(registry._TOKENIZERS))

    def thorough(vectors, codebook_num, codebook_size, *, seed=2020, kmeans_iterations=50):
        return Quantised(np.zeros((len(vectors), codebook_num), dtype=int), training={"iterations": kmeans_iterations})

    add_tokenizer("thorough", thorough)
    for given, used in (({}, 50), ({"kmeans_iterations": 7}, 7)):
        made = tokenize_dataset("small", config_dict={**tiny_settings, "tokenizer": "thorough", **given})
        with open(made["measures_file"]) as file:
            source = json.load(file)["source"]
        assert source["kmeans_iterations"] == source["training"]["iterations"] == used


def test_a_tokenizer_of_one_process(page, monkeypatch):
    monkeypatch.setattr(registry, "_TOKENIZERS", dict(registry._TOKENIZERS))  # forgotten when the test ends
    function = the_function(page)
    add_tokenizer("quantiles_here", function)
    add_tokenizer("quantiles_here", function)
    assert find_tokenizer("quantiles_here") is function
    rows = np.random.default_rng(0).normal(size=(81, 8)).astype(np.float32)
    ids = tokenize(rows, tokenizer="quantiles_here", codebook_num=2, codebook_size=8, collision="none")
    assert (np.bincount(ids.codes[1:, 0]) == 10).all() and ids.source["skip_components"] == 0
    for rule in ("nearest", "sinkhorn"):
        assert tokenize(rows, "quantiles_here", 2, 16, rule).statistics()["unique_share"] == 1.0
    with pytest.raises(SettingError, match="tokenizer='rkmeans': there is a tokenizer of this name already"):
        add_tokenizer("rkmeans", function)
    add_tokenizer("rkmeans", rkmeans)
    with pytest.raises(SettingError, match="its setting depth must have a default"):
        add_tokenizer("no_default", lambda vectors, codebook_num, codebook_size, *, depth: None)
