"""``recbole-gr tokenize``, and the files it writes as semantic IDs of a run."""

import glob
import json
import os
import re

import numpy as np
import pytest
from support.atomic import read_atomic

from recbole_gr import cli
from recbole_gr.experiment.run import run
from recbole_gr.integration.config import make_config
from recbole_gr.settings.properties import properties_file
from recbole_gr.tokenizers.measures import compare_with_vectors

FORMATS = {"json": "json", "tokens": "json", "pt": "pt", "parquet": "parquet", "npz": "npz"}


@pytest.fixture
def tokenize(small_part, tiny_settings, capsys):
    """Runs the command on the small part; returns exit status, what it printed, and what stood on stderr."""
    with open("tiny.yaml", "w") as file:
        json.dump(tiny_settings, file)

    def tokenize_with(*arguments):
        capsys.readouterr()
        status = cli.main(["tokenize", "--dataset=small", "--config_files=tiny.yaml", *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return tokenize_with


def read_json(*path):
    with open(os.path.join(*path)) as file:
        return json.load(file)


def record_of(result):
    return read_json(result["record"])


def test_the_folder_holds_codes_measures_and_a_report(tokenize, small_part, tiny_settings):
    status, printed, _ = tokenize("--tokenizer=rkmeans")
    folder = os.path.join("results", "tokenizers", "small-rkmeans")
    paths = [os.path.join(folder, name) for name in ("semantic_ids.json", "measures.json", "report.html")]
    assert [line.split() for line in printed.splitlines()] == [
        list(pair) for pair in zip(("codes", "measures", "report"), paths)
    ]
    assert status == 0 and sorted(os.listdir(folder)) == ["measures.json", "report.html", "semantic_ids.json"]
    written, measures = read_json(folder, "semantic_ids.json"), read_json(folder, "measures.json")
    record = record_of(run("TIGER", "small", config_dict=tiny_settings))["semantic_ids"]
    assert {key: measures[key] for key in record if key != "source"} == {
        key: record[key] for key in record if key != "source"
    }
    assert measures["source"]["vector_digest"] == record["source"]["vector_digest"]

    items = read_atomic(os.path.join(small_part[1], "small", "small.item"))
    assert sorted(written) == sorted(items["item_id:token"])
    with np.load("vectors.npz") as file:
        row_of = {item: row for row, item in enumerate(file["item_id"])}
        vectors = file["vectors"][[row_of[item] for item in written]]
    codes = np.array(list(written.values()))
    expected = compare_with_vectors(codes[:, :3], vectors)
    assert {key: measures[key] for key in expected} == expected
    assert measures["items"] == len(written) and measures["codes_used"][:3] == [16, 16, 16]
    genre = dict(zip(items["item_id:token"], items["class:token_seq"]))
    same = [[genre[a] == genre[b] for b in written if b > a and written[a][0] == written[b][0]] for a in written]
    assert measures["category_agreement"][0] == pytest.approx(np.mean(np.concatenate(same)), abs=1e-4)
    with open(os.path.join(folder, "report.html"), encoding="utf-8") as file:
        page = file.read()
    assert "Semantic IDs of small: rkmeans" in page and str(measures["perplexity"][0]) in page


def test_the_measures_are_logged(tokenize, caplog):
    caplog.set_level("INFO")  # which RecBole sets where pytest has not taken over
    tokenize("--tokenizer=random", "--collision=none")
    measures = read_json("results", "tokenizers", "small-random", "measures.json")
    assert f"{measures['unique_share']:.2%} distinct" in caplog.text and "collision rule: none" in caplog.text
    assert f"entropy of the first level: {measures['first_level_entropy']} bits" in caplog.text
    for values in zip(measures["codes_used"], measures["perplexity"], measures["reconstruction_error"]):
        assert all(str(value) in caplog.text for value in values)


@pytest.mark.parametrize("sid_format", FORMATS)
def test_every_format_comes_back_as_the_semantic_ids_of_a_run(tokenize, tiny_settings, sid_format):
    status, *_ = tokenize("--output_dir=made", f"--sid_format={sid_format}")
    path = os.path.join("made", f"semantic_ids.{FORMATS[sid_format]}")
    assert status == 0 and os.path.isfile(path)
    digest = read_json("made", "measures.json")["digest"]
    record = record_of(run("TIGER", "small", config_dict={**tiny_settings, "sid_file": path, "epochs": 1}))
    assert record["semantic_ids"]["digest"] == digest and record["semantic_ids"]["source"]["sid_file"] == path
    if sid_format in ("parquet", "npz"):
        assert record["semantic_ids"]["collision"] == "digit"


def test_a_collapse_is_said_every_time(tokenize, caplog):
    """The second run reuses the codes that were kept, and the tokenizer is not there to warn."""
    caplog.set_level("INFO")
    for said in ("Computed semantic_ids", "Reused semantic_ids"):
        caplog.clear()
        tokenize("--tokenizer=lsh", "--codebook_size=512", "--output_dir=made")
        collapsed = read_json("made", "measures.json")["collapsed_levels"]
        assert said in caplog.text and collapsed
        assert f"COLLAPSED: level {', '.join(map(str, collapsed))} uses too few of its codes" in caplog.text


def test_semantic_ids_made_elsewhere_are_compared_with_vectors(tokenize, caplog):
    tokenize("--output_dir=made")
    made = read_json("made", "measures.json")
    status, *_ = tokenize("--sid_file=made/semantic_ids.json", "--output_dir=looked_at")
    looked_at = read_json("looked_at", "measures.json")
    assert status == 0 and looked_at["reconstruction_error"][:3] == made["reconstruction_error"]
    assert looked_at["neighbours_sharing_prefix"][:3] == made["neighbours_sharing_prefix"]
    caplog.clear()
    status, *_ = tokenize("--sid_file=made/semantic_ids.json", "--compare_vectors=False", "--item_vector_file=None")
    measures = read_json("results", "tokenizers", "small-file", "measures.json")
    assert status == 0 and "reconstruction_error" not in measures and measures["codes_used"] == made["codes_used"]
    assert "codebook_size=16 is not used: sid_file is set" in caplog.text


def test_a_setting_of_another_tokenizer_is_pointed_out(tokenize, caplog):
    tokenize("--tokenizer=lsh", "--kmeans_iterations=3")
    assert "kmeans_iterations=3 is not used: tokenizer=lsh has no such setting" in caplog.text
    caplog.clear()
    tokenize("--tokenizer=rkmeans", "--kmeans_iterations=3")
    assert "is not used" not in caplog.text


@pytest.mark.parametrize(
    "setting, words",
    [
        ("--leaf_order=random", "leaf_order='random' is not used: with collision=digit no items share an ID"),
        ("--cf_weight=2.0", "cf_weight=2.0 is not used: item_vectors=text joins nothing"),
        ("--ema_decay=0.5", "ema_decay=0.5 is not used: codebook_update=loss keeps no mean"),
    ],
)
def test_a_setting_without_effect_is_pointed_out(tokenize, caplog, setting, words):
    tokenize("--tokenizer=rvq", "--tokenizer_steps=5", setting)
    assert words in caplog.text


def test_items_without_text_columns_are_called_by_their_tokens(tokenize, small_part):
    path = os.path.join(small_part[1], "small", "small.item")
    items = read_atomic(path)[["item_id:token"]]
    items.assign(**{"price:float": "1.0"}).to_csv(path, sep="\t", index=False)
    status, *_ = tokenize("--output_dir=made")
    with open(os.path.join("made", "report.html"), encoding="utf-8") as file:
        page = file.read()
    listed = re.findall("<li>(.*?)</li>", page)
    assert (
        status == 0
        and listed
        and set(listed) <= {*items["item_id:token"]} | {line for line in listed if line.startswith("and ")}
    )


def test_measures_of_a_part_of_a_file_are_not_those_of_the_full_file(tokenize):
    tokenize("--output_dir=made", "--sid_format=parquet")
    tokenize("--output_dir=part", "--sid_file=made/semantic_ids.parquet", "--item_inter_num_interval=[5,inf)")
    whole, part = read_json("made", "measures.json"), read_json("part", "measures.json")
    assert part["items"] < whole["items"] and part["collision"] == "digit"
    assert "unique_share_quantised" in whole and "unique_share_quantised" not in part


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--model=SASRec"], ["argument '--model=SASRec'", "recbole-gr tokenize has no such option"]),
        (["--sid_file=5"], ["sid_file=5", "must be text"]),
        (["--sid_format=tokens", "--codebook_num=26"], ["sid_format='tokens'", "26 levels at most", "will have 27"]),
        (["--sid_format=xml"], ["sid_format='xml'", "json, tokens, pt, parquet, npz"]),
        (["--compare_vectors=perhaps"], ["compare_vectors='perhaps'", "True or False"]),
        (["--codebook_size=100000"], ["codebook_size=100000", "at most the number of items", "on the command line"]),
        (["--codebook_num=2000000"], ["codebook_size=16: with codebook_num=2000000 there are more than 16777216 codes"]),
        (
            ["--tokenizer=pq", "--codebook_num=5"],
            ["codebook_num=5", "must divide the vectors' dimension 12", "on the command line"],
        ),
        (["--tokenizer=opq", "--codebook_size=12"], ["codebook_size=12", "power of two"]),
        (["--tokenizer=rqvae", "--commitment=-1"], ["commitment=-1", "at least 0"]),
        (["--leaf_order=age"], ["leaf_order='age'", "popularity, random"]),
        (["--category_column=colour"], ["small.item", "'colour'", "category_column"]),
        (["--sid_codebook_sizes=8"], ["sid_codebook_sizes=8", "no use without sid_file"]),
        (
            ["--sid_file=codes.json", "--sid_codebook_sizes=2"],
            ["sid_codebook_sizes=2", "has code 5 at level 0, allowed is 0 to 1"],
        ),
        (["--sid_file=foreign.json"], ["sid_file='foreign.json'", "looks like a file of another dataset", "B0001"]),
        (["--sid_file=missing.json"], ["sid_file='missing.json'", "no such file"]),
        (
            ["--collision=nearest", "--tokenizer=random", "--codebook_num=1"],
            ["collision='nearest'", "the last level has 16 codes"],
        ),
    ],
)
def test_bad_input_is_one_line(tokenize, small_part, arguments, words):
    items = read_atomic(os.path.join(small_part[1], "small", "small.item"))["item_id:token"]
    with open("codes.json", "w") as file:
        json.dump(dict.fromkeys(items, [5, 1]), file)
    with open("foreign.json", "w") as file:
        json.dump({"B0001": [5, 1]}, file)
    status, _, stderr = tokenize(*arguments)
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert status == 2 and len(lines) == 1 and "Traceback" not in stderr, stderr
    for word in words:
        assert word in lines[0], lines[0]
    assert not glob.glob("results/tokenizers/*/*")


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_vectors_that_cannot_be_quantised_are_named(tokenize, value):
    with np.load("vectors.npz") as file:
        names, vectors = file["item_id"], file["vectors"]
    vectors[[3, 5]] = value
    np.savez("bad.npz", item_id=names, vectors=vectors)
    status, _, stderr = tokenize("--item_vector_file=bad.npz")
    fault = "are all zeros" if value == 0 else "are NaN or infinite"
    assert status == 2 and fault in stderr and "2 items (" in stderr and names[3] in stderr and names[5] in stderr


@pytest.mark.parametrize("path", sorted(properties_file("recipes", "").parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_can_be_used(small_part, path):
    model = {"idgenrec": "IDGenRec", "lc_rec": "LLMasRS"}.get(path.stem, "TIGER")
    config = make_config(
        model,
        "small",
        [str(path)],
        {"data_path": small_part[1], **({"llm": "scratch", "tuning": "full"} if model == "LLMasRS" else {})},
    )
    assert model == "IDGenRec" or config["tokenizer"] in ("rkmeans", "rvq", "rqvae", "letter", "opq")
