"""Item vectors from the checkpoints of trained models: the right rows, nothing run, and no dataset made in vain."""

import json
import logging
import os
import random

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.model.general_recommender import BPR
from recbole.quick_start import load_data_and_model
from recbole.utils import ModelType

from recbole_gr.data.item_vectors import make_item_vectors
from recbole_gr.data.trained_model import read_checkpoint_vectors
from recbole_gr.experiment.run import run
from recbole_gr.integration.config import make_config
from recbole_gr.utils.cache import digest
from recbole_gr.utils.errors import SettingError, SettingErrors
from recbole_gr.vectors.preparation import centred, join_vectors, reduce_vectors


def train(model, small_part, **settings):
    """One epoch; the path of the checkpoint."""
    sizes = {"embedding_size": 8, "hidden_size": 8, "inner_size": 8, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": 8}
    common = {"data_path": small_part[1], "epochs": 1, "show_progress": False, "record_dir": None}
    run(model, "small", config_dict={**common, **sizes, **settings})
    names = (name for name in os.listdir("saved") if name.startswith(model) and not name.endswith(".last.pth"))
    return os.path.join("saved", max(names, key=lambda name: os.path.getmtime(os.path.join("saved", name))))


def configured(small_part, model="BPR", **settings):
    return make_config(model, "small", config_dict={"data_path": small_part[1], **settings})


def catalogue(config):
    """The tokens by item id of the dataset that RecBole makes of a Config."""
    return create_dataset(config).field2id_token["item_id"]


def save(config, state_dict, path="made.pth", **more):
    """A checkpoint with the keys and the protocol of RecBole's Trainer, without the training."""
    state = {"config": config, "epoch": 0, "cur_step": 0, "best_valid_score": np.float64(0.5), "optimizer": {}}
    torch.save({**state, "other_parameter": {}, "state_dict": state_dict, **more}, path, pickle_protocol=4)
    return path


def embedding(items, dimension=4):
    return torch.arange(1.0, items * dimension + 1).reshape(items, dimension)


def folder_of(small_part):
    return os.path.join(small_part[1], "small")


def vectors_of(path, tokens, small_part, parameter=None):
    return read_checkpoint_vectors(path, tokens, "small", folder_of(small_part), parameter=parameter)


def assert_refused(error, path, tokens, small_part, parameter=None):
    with pytest.raises(SettingError, match=error) as raised:
        vectors_of(path, tokens, small_part, parameter)
    assert "\n" not in str(raised.value)


# The right rows


@pytest.mark.parametrize("model", ["SASRec", "BPR", "BERT4Rec"])
def test_rows_are_those_of_the_trained_model(small_part, model):
    path = train(model, small_part)
    tokens = catalogue(configured(small_part))
    tokens[1:] = tokens[:0:-1].copy()  # another order than the checkpoint's
    vectors, provenance = vectors_of(path, tokens, small_part)
    _, trained, dataset, *_ = load_data_and_model(path)
    weight = trained.item_embedding.weight.detach()
    assert len(weight) == dataset.item_num + (model == "BERT4Rec")  # the mask token of BERT4Rec comes last
    expected = np.stack([weight[dataset.token2id("item_id", token)] for token in tokens[1:]])
    assert vectors.dtype == np.float32 and not vectors[0].any()
    np.testing.assert_array_equal(vectors[1:], expected)
    assert json.loads(json.dumps(provenance)) == {
        "cf_checkpoint": path,
        "cf_model": model,
        "cf_parameter": "item_embedding.weight",
        "cf_dimension": 8,
        "cf_digest": digest(vectors),
    }


def test_a_checkpoint_of_other_filters(small_part):
    many, few = (configured(small_part, item_inter_num_interval=f"[{least},inf)") for least in (2, 5))
    path = train("BPR", small_part, item_inter_num_interval="[2,inf)")
    config, trained, dataset, *_ = load_data_and_model(path)
    tokens = catalogue(few)
    assert 1 < len(tokens) < len(catalogue(many)) == dataset.item_num
    vectors, _ = vectors_of(path, tokens, small_part)
    ids = dataset.token2id("item_id", tokens)
    assert (ids[1:] != np.arange(1, len(ids))).any()
    np.testing.assert_array_equal(vectors[1:], trained.item_embedding.weight.detach()[ids[1:]].numpy())
    every_item = catalogue(configured(small_part))
    missing = [token for token in every_item[1:] if token not in dataset.field2token_id["item_id"]]
    words = rf"{len(missing)} items \({', '.join(missing[:3])}, ...\) of the {len(every_item) - 1} of the catalogue"
    assert_refused(f"^cf_checkpoint='{path}': {words} have no embedding$", path, every_item, small_part)


class ByName:
    """A member of ModelType as Python 3.11.0 to 3.11.3 pickled it."""

    def __reduce__(self):
        return getattr, (ModelType, "KNOWLEDGE")


@pytest.mark.parametrize("by_name", [False, True])
def test_models_with_a_knowledge_graph_leave_out_what_it_does_not_know(small_part, by_name):
    every_item = catalogue(configured(small_part))
    linked = every_item[1:60:2]
    folder = folder_of(small_part)
    with open(os.path.join(folder, "small.link"), "w") as file:
        file.write("item_id:token\tentity_id:token\n" + "".join(f"{token}\te{token}\n" for token in linked))
    with open(os.path.join(folder, "small.kg"), "w") as file:
        triples = "".join(f"e{token}\tr\tx\n" for token in linked)
        file.write("head_id:token\trelation_id:token\ttail_id:token\n" + triples)
    columns = {"inter": ["user_id", "item_id"], "kg": ["head_id", "relation_id", "tail_id"]}
    columns["link"] = ["item_id", "entity_id"]
    config = configured(small_part, "CKE", load_col=columns, eval_args={"order": "RO"})
    tokens = catalogue(config)
    assert set(tokens) == {"[PAD]", *linked}
    if by_name:
        config["MODEL_TYPE"] = ByName()
    path = save(config, {"item_embedding.weight": embedding(len(tokens))})
    vectors, _ = vectors_of(path, tokens, small_part)
    np.testing.assert_array_equal(vectors[1:], embedding(len(tokens))[1:].numpy())
    assert_refused(r"items \(.*\) of the \d+ of the catalogue have no embedding$", path, every_item, small_part)


def test_which_parameter(small_part):
    config = configured(small_part)
    tokens = catalogue(config)
    users, items = torch.ones(5, 4), embedding(len(tokens))
    candidates = {"item_src_emb": items, "item_dst_emb": -items, "item_bias_emb": items[:, 0], "item_layer": items}
    cases = [
        ({"user_embedding": users, "item_emb": items, "item_id_emb": items.long()}, None, "item_emb", items),
        ({"short_item_emb": users, "item_emb": items.bfloat16()}, None, "item_emb", items.bfloat16()),
        ({**candidates, "item_embedding.weight": 2 * items}, None, "item_embedding.weight", 2 * items),
        (candidates, "item_dst_emb", "item_dst_emb", -items),
        (candidates, "item_layer", "item_layer", items),
    ]
    for state_dict, parameter, name, expected in cases:
        vectors, provenance = vectors_of(save(config, state_dict), tokens, small_part, parameter)
        np.testing.assert_array_equal(vectors[1:], expected[1:].float().numpy())
        assert provenance["cf_parameter"] == name
    path, shape = save(config, candidates), rf"\[{len(tokens)}, 4\]"
    several = f"BPR has several item embeddings, cf_parameter chooses: item_src_emb {shape}, item_dst_emb {shape}"
    assert_refused(f"^cf_checkpoint='{path}': {several}$", path, tokens, small_part)
    matrices = f"item_src_emb {shape}, item_dst_emb {shape}, item_layer {shape}"
    absent = rf"^cf_parameter='item_bias_emb': must be one of {matrices}, of \[{path}\]$"
    assert_refused(absent, path, tokens, small_part, "item_bias_emb")
    path = save(config, {"user_embedding.weight": users, "item_embedding.weight": items[:-1]})
    no_rows = rf"no row for each of the {len(tokens)} items of the checkpoint's dataset \(padding is one\)"
    named = "user_embedding.weight"
    assert_refused(rf"^cf_parameter='{named}': has {no_rows}: {named} \[5, 4\]$", path, tokens, small_part, named)
    found = rf"item_embedding.weight \[{len(tokens) - 1}, 4\]"
    changed = f"BPR has {no_rows}: {found}; cf_parameter chooses another, or the data have changed since"
    assert_refused(f"^cf_checkpoint='{path}': {changed}$", path, tokens, small_part)


def test_loading_the_dataset_again_leaves_no_trace(small_part):
    config = configured(small_part, save_dataset=True, seed=7)
    tokens = catalogue(configured(small_part))
    path = save(config, {"item_embedding.weight": embedding(len(tokens))})
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    logger = logging.getLogger()
    before = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]
    listing, handlers, level = sorted(os.walk(".")), logger.handlers[:], logger.level
    vectors_of(path, tokens, small_part)
    assert before == [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]
    assert (sorted(os.walk(".")), logger.handlers, logger.level) == (listing, handlers, level)


# Nothing is run


class Call:
    """Pickles to a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class OwnModel(BPR):
    """A model outside RecBole."""


def test_a_model_of_ones_own_is_read(small_part):
    config = configured(small_part)
    config.model_class, config["model"] = OwnModel, "OwnModel"
    tokens = catalogue(configured(small_part))
    path = save(config, {"item_embedding.weight": embedding(len(tokens))})
    vectors, provenance = vectors_of(path, tokens, small_part)
    np.testing.assert_array_equal(vectors[1:], embedding(len(tokens))[1:].numpy())
    assert provenance["cf_model"] == "OwnModel"


def test_a_pickle_is_never_run(small_part):
    config = configured(small_part)
    tokens = catalogue(config)
    state_dict = {"item_embedding.weight": embedding(len(tokens))}
    trap = Call(os.mkdir, os.path.abspath("trap"))
    path = save(config, state_dict, other_parameter={"w": trap})
    words = "which checkpoints of RecBole do not; it was not run"
    refusal = f"^cf_checkpoint='made.pth': would call (posix|nt).mkdir, {words}$"
    assert_refused(refusal, path, tokens, small_part)
    assert_refused(refusal, save(trap, state_dict), tokens, small_part)
    torch.save(trap, path)
    assert_refused(refusal, path, tokens, small_part)
    assert_refused("would call builtins.exec", save(config, state_dict, epoch=Call(exec, "1")), tokens, small_part)
    config["seed"] = trap
    assert_refused(refusal, save(config, state_dict), tokens, small_part)
    assert not os.path.exists("trap")
    torch.load(path, weights_only=False)
    assert os.path.exists("trap")  # the trap would have sprung


def test_nothing_of_recbole_is_run_either(small_part):
    """Neither Config nor load_data_and_model, which have guards of their own, is called at all."""
    tokens = catalogue(configured(small_part))
    state_dict = {"item_embedding.weight": embedding(len(tokens))}
    evaluated = {"data_path": small_part[1], "x": f"__import__('os').mkdir({os.path.abspath('trap')!r})"}
    torch.save(Call(os.mkdir, os.path.abspath("trap")), "inner.pth")
    for call in (Call(Config, "BPR", "small", None, evaluated), Call(load_data_and_model, "inner.pth")):
        path = save(call, state_dict)
        assert_refused(r"is not a checkpoint of RecBole \(without a Config or a ", path, tokens, small_part)
        assert not os.path.exists("trap")
    torch.load("inner.pth", weights_only=False)
    assert os.path.exists("trap")  # the trap would have sprung


# What cannot work


def test_files_that_are_no_checkpoints(small_part):
    tokens = np.array(["[PAD]", "1"])
    assert_refused("^cf_checkpoint='none.pth': there is no such file$", "none.pth", tokens, small_part)
    with open("noise.pth", "w") as file:
        file.write("this is no checkpoint")
    assert_refused(r"is not a checkpoint of RecBole \(not a file of torch.save\)$", "noise.pth", tokens, small_part)
    torch.save({"config": 1}, "old.pth", _use_new_zipfile_serialization=False)
    assert_refused(r"is not a checkpoint of RecBole \(not a file of torch.save\)$", "old.pth", tokens, small_part)
    np.savez("vectors.pth.npz", vectors=np.ones(3))
    assert_refused(r"is not a checkpoint of RecBole \(\w+: ", "vectors.pth.npz", tokens, small_part)
    words = r"is not a checkpoint of RecBole \(without a Config or a state_dict\)$"
    for content in ([1], {"state_dict": {}}, {"config": {"model": "BPR"}, "state_dict": {}}):
        torch.save(content, "other.pth")
        assert_refused(words, "other.pth", tokens, small_part)


def test_what_is_said_before_a_dataset_is_loaded(small_part, tiny_settings):
    """There is none in this folder, so loading one would be another error."""
    nowhere, tokens = "nowhere", np.array(["[PAD]", "1"])
    bpr, tiger = configured(small_part), make_config("TIGER", "small", config_dict=tiny_settings)
    two = {"item_embedding.weight": embedding(2)}
    with pytest.raises(SettingError, match="^cf_checkpoint=.*: was trained on the dataset small, this one is large$"):
        read_checkpoint_vectors(save(bpr, two), tokens, "large", nowhere)
    words = "no parameter of TIGER is named like an item embedding; cf_parameter could name one of network"
    with pytest.raises(SettingError, match=rf"{words}.embedding.weight \[2, 4\]$"):
        read_checkpoint_vectors(save(tiger, {"network.embedding.weight": embedding(2)}), tokens, "small", nowhere)
    with pytest.raises(SettingError, match=r"BPR has no embeddings \(no parameter is a matrix\)$"):
        read_checkpoint_vectors(save(bpr, {"bias": torch.ones(2)}), tokens, "small", nowhere)
    os.mkdir(nowhere)
    with pytest.raises(SettingError, match=r"its dataset cannot be loaded again from \[nowhere\] \(ValueError: File "):
        read_checkpoint_vectors(save(bpr, two), tokens, "small", nowhere)


@pytest.mark.parametrize(
    "value, words", [(np.nan, "are NaN or infinite"), (np.inf, "are NaN or infinite"), (0, "are all zeros")]
)
def test_vectors_that_cannot_be_quantised(small_part, value, words):
    config = configured(small_part)
    tokens = catalogue(config)
    weight = embedding(len(tokens))
    weight[[0, 2, 3, 5, 9]] = value  # that of padding does not matter
    names = rf"4 items \({tokens[2]}, {tokens[3]}, {tokens[5]}, ...\)"
    path = save(config, {"item_embedding.weight": weight})
    assert_refused(f"^cf_checkpoint='made.pth': the vectors of {names} {words}$", path, tokens, small_part)


# Whole runs


def source_of(result):
    with open(result["record"]) as file:
        return json.load(file)["semantic_ids"]["source"]


def test_tiger_on_item_embeddings(small_part, tiny_settings):
    path = train("SASRec", small_part)
    tokens = catalogue(configured(small_part))
    cf, made_from = vectors_of(path, tokens, small_part)
    settings = {**tiny_settings, "item_vectors": "cf", "cf_checkpoint": path, "item_vector_file": None, "epochs": 1}
    source = source_of(run("TIGER", "small", config_dict=settings))
    assert source.items() >= made_from.items()
    assert (source["item_vectors"], source["dimension"], source["vector_digest"]) == ("cf", 8, digest(cf))
    assert (source["pca_dimension"], source["whiten"]) == (None, False)
    assert not {"source", "item_vector_file", "text_encoder", "text_weight", "cf_weight"} & set(source)


def test_tiger_on_text_and_item_embeddings(small_part, tiny_settings):
    path = train("BPR", small_part)
    settings = {"item_vectors": "text_cf", "cf_checkpoint": path, "text_weight": 2.0, "cf_weight": 0.5, "epochs": 1}
    settings = {**tiny_settings, **settings, "pca_dimension": 6, "whiten": True}
    source = source_of(run("TIGER", "small", config_dict=settings))
    tokens = catalogue(configured(small_part))
    text, _ = make_item_vectors(make_config("TIGER", "small", config_dict=tiny_settings), tokens, None, {})
    cf, made_from = vectors_of(path, tokens, small_part)
    joined = join_vectors([centred(cf), centred(text)], [0.5, 2.0])
    assert joined.shape[1] == 8 + 12
    expected = digest(reduce_vectors(joined, 6, True))
    assert source.items() >= made_from.items()
    assert (source["item_vectors"], source["dimension"], source["vector_digest"]) == ("text_cf", 6, expected)
    assert (source["text_weight"], source["cf_weight"]) == (2.0, 0.5)
    assert (source["pca_dimension"], source["whiten"]) == (6, True)
    assert (source["source"], source["item_vector_file"]) == ("file", tiny_settings["item_vector_file"])


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"item_vectors": "both"}, "^item_vectors='both': must be one of text, cf, text_cf"),
        (
            {"item_vectors": "cf", "item_vector_file": None, "cf_checkpoint": "none.pth"},
            "^cf_checkpoint='none.pth': there is no such file",
        ),
        ({"item_vectors": "text_cf", "cf_checkpoint": "none.pth"}, "^cf_checkpoint='none.pth': there is no such file"),
        ({"item_vectors": "cf", "cf_checkpoint": "x.pth"}, "^item_vector_file='.*': has no use with item_vectors=cf"),
        ({"cf_checkpoint": "x.pth"}, "^cf_checkpoint='x.pth': has no use with item_vectors=text"),
        ({"cf_parameter": "item_emb"}, "^cf_parameter='item_emb': has no use with item_vectors=text"),
        ({"text_weight": 0}, "^text_weight=0: must be a number above 0"),
        ({"cf_weight": "much"}, "^cf_weight='much': must be a number above 0"),
        ({"whiten": 1}, "^whiten=1: must be True or False"),
        ({"pca_dimension": 0}, "^pca_dimension=0: must be a whole number of at least 1"),
        ({"pca_dimension": 13}, "^pca_dimension=13: must be at most 12, the dimension of the vectors"),
        (
            {"item_vector_file": None, "text_encoder": "/no/such/folder"},
            "^text_encoder='/no/such/folder': there is no such folder",
        ),
    ],
)
def test_settings_that_cannot_work(small_part, tiny_settings, settings, words):
    with pytest.raises(
        (SettingError, SettingErrors), match=rf"(?m){words} \(set in config_dict\)$|{words} \(set by default\)$"
    ):
        run("TIGER", "small", config_dict={**tiny_settings, **settings})


def test_the_text_encoder_is_not_asked_for_where_no_text_is_used(small_part, tiny_settings):
    config = configured(small_part)
    tokens = catalogue(config)
    save(config, {"item_embedding.weight": embedding(len(tokens))})
    settings = {"item_vectors": "cf", "cf_checkpoint": "made.pth", "item_vector_file": None}
    settings = {**tiny_settings, **settings, "text_encoder": "/no/such/folder"}
    tiger = make_config("TIGER", "small", config_dict=settings)
    dataset = create_dataset(tiger)
    assert dataset.semantic_ids.source["cf_model"] == "BPR"
