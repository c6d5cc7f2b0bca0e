"""After a sort of the file or another filter, an item has the score for a user that it had in training, for every model."""

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model
from recbole.utils import get_trainer, init_seed
from support.atomic import read_atomic

from recbole_gr.data.catalogue_match import TOKENS
from recbole_gr.data.trained_model import read_checkpoint_vectors
from recbole_gr.experiment.run import run
from recbole_gr.integration.checkpoints import load_checkpoint
from recbole_gr.integration.config import make_config
from recbole_gr.settings.field import keys_of
from recbole_gr.settings.protocol import ProtocolSettings
from recbole_gr.utils.errors import DataError, SettingError

CASES = os.path.join(os.path.dirname(__file__), os.pardir, "cases")
CODES = {"codebook_size": 8, "codebook_num": 2, "item_vector_file": "vectors.npz"}
SMALL = {"n_layers": 1, "d_model": 16, "n_heads": 2, "d_kv": 8, "d_ff": 32}
OURS = {
    "TIGER": {**CODES, **SMALL},
    "LIGER": {**CODES, **SMALL},
    "RPG": {**CODES, **SMALL, "codebook_num": 4},
    "HSTU": {"hidden_size": 16},
    "SASRecCausal": {"hidden_size": 16},
    "IDGenRec": SMALL,
    "LLMasRS": {"lora_rank": 4},
}
THEIRS = ("SASRec", "BPR", "BERT4Rec", "MultiVAE", "EASE", "ItemKNN", "LightGCN", "FPMC", "DMF")
#: Beside the codes, all that TIGER can know of items and users.
MORE = {"user_buckets": 7, "item_embedding": True, "dense_weight": 0.5, "rerank_weight": 0.5, "inject": "text"}


@pytest.fixture
def shop(tmp_path):
    """The data path of 60 users, 40 items and 476 interactions, and that of the same rows in another order."""
    items = read_atomic(os.path.join(CASES, "plain", "plain.item"))["item_id:token"]
    vectors = np.random.default_rng(0).normal(size=(len(items), 12)).astype(np.float32)
    np.savez("vectors.npz", item_id=items.to_numpy(dtype=str), vectors=vectors)
    paths = {}
    for name in ("as_trained", "sorted_anew"):
        shutil.copytree(os.path.join(CASES, "plain"), tmp_path / name / "plain")
        paths[name] = str(tmp_path / name)
    rows = read_atomic(tmp_path / "sorted_anew" / "plain" / "plain.inter").sample(frac=1, random_state=1)
    rows.to_csv(tmp_path / "sorted_anew" / "plain" / "plain.inter", sep="\t", index=False)
    return SimpleNamespace(**paths)


def prepared(model, given):
    """Config, loaders and a model of weights unlike any others, with the trainer that can save it."""
    # by their tokens, items would keep their numbers in a file in another order
    runtime = {"show_progress": False, "checkpoint_dir": "saved", "record_dir": None, "numbering": "file"}
    own = {} if model in THEIRS else {"topk": [10, 40], "beam_size": 40} if model in ("TIGER", "LLMasRS", "IDGenRec") else {}
    config = make_config(model, "plain", config_dict={**runtime, **own, **given})
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    loaders = data_preparation(config, dataset)
    built = config.model_class(config, loaders[0]._dataset).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in filter(lambda one: one.requires_grad, built.parameters()):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return config, loaders, built, get_trainer(config["MODEL_TYPE"], config["model"])(config, built)


def saved(model, given):
    """A checkpoint, and the model in it."""
    config, loaders, built, trainer = prepared(model, given)
    scores(built, loaders)  # some models of RecBole keep what they ranked by
    trainer._save_checkpoint(0, verbose=False)
    return trainer.saved_model_file, built, loaders


def scores(model, loaders):
    """Scores of all items by user and item token, of the histories of the test."""
    dataset, found = loaders[0]._dataset, {}
    tokens = dataset.field2id_token[dataset.iid_field]
    with torch.no_grad():
        for interaction, *_ in loaders[2]:
            rows = model.full_sort_predict(interaction).view(len(interaction), -1)
            for user, row in zip(dataset.id2token(dataset.uid_field, interaction[dataset.uid_field]), rows, strict=True):
                found[user] = dict(zip(tokens[1:], row[1:].tolist(), strict=True))
    return found


def assert_same_scores(found, trained):
    assert set(found) <= set(trained) and len(found) > 40
    for user, by_item in found.items():
        wanted = [trained[user][item] for item in by_item]
        np.testing.assert_allclose(list(by_item.values()), wanted, rtol=1e-5, atol=1e-5)
        assert np.isfinite(wanted).sum() >= 10


@pytest.mark.parametrize("model", [*OURS, *THEIRS, "TIGER with more"])
def test_the_same_user_and_item_have_the_same_score(model, shop, llama_folder):
    more = MORE if model.endswith("more") else {"llm": llama_folder} if model == "LLMasRS" else {}
    model = model.split()[0]
    given = {**OURS.get(model, {}), **more}
    path, built, loaders = saved(model, {**given, "data_path": shop.as_trained})
    trained = scores(built, loaders)
    filtered = {"data_path": shop.as_trained, "user_inter_num_interval": "[7,inf)"}
    for changes in ({"data_path": shop.sorted_anew}, filtered):
        config, other, *after = load_checkpoint(path, changes)
        assert_same_scores(scores(other.eval(), after[1:]), trained)
    # by the trainer, into a model that was made for the sorted file
    _, loaders, other, trainer = prepared(model, {**given, "data_path": shop.sorted_anew})
    trainer.evaluate(loaders[2], load_best_model=True, model_file=path)
    assert_same_scores(scores(other, loaders), trained)


def test_a_sorted_file_gives_the_result_of_the_record(shop):
    for model in ("TIGER", "SASRec", "BPR"):
        given = {**OURS.get(model, {}), "epochs": 2, "data_path": shop.as_trained, "show_progress": False}
        result = run(model, "plain", config_dict=given)
        config, built, _, _, _, test = load_checkpoint(result["checkpoint"], {"data_path": shop.sorted_anew})
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, built)
        assert trainer.evaluate(test, load_best_model=False) == result["test_result"]
        assert trainer.evaluate(test, model_file=result["checkpoint"]) == result["test_result"]


def test_recboles_own_loading_after_the_file_was_sorted(shop):
    path, built, loaders = saved("SASRec", {"data_path": shop.as_trained})
    trained = scores(built, loaders)
    os.replace(os.path.join(shop.sorted_anew, "plain", "plain.inter"), os.path.join(shop.as_trained, "plain", "plain.inter"))
    _, other, _, *loaders = load_data_and_model(path)
    assert_same_scores(scores(other.eval(), loaders), trained)


def test_items_that_are_new_to_a_checkpoint_are_counted_and_named(shop, caplog):
    rows = read_atomic(os.path.join(shop.as_trained, "plain", "plain.inter"))
    rows[rows["item_id:token"] != "i7"].to_csv(os.path.join(shop.sorted_anew, "plain", "plain.inter"), sep="\t", index=False)
    path, built, loaders = saved("BPR", {"data_path": shop.sorted_anew})
    trained = scores(built, loaders)
    _, other, _, *loaders = load_checkpoint(path, {"data_path": shop.as_trained})
    assert "The checkpoint does not know 1 of the 40 items here (i7); of them nothing was learned." in caplog.text
    found = {
        user: {item: by_item[item] for item in by_item if item != "i7"} for user, by_item in scores(other, loaders).items()
    }
    assert_same_scores(found, trained)
    path, *_ = saved("TIGER", {**OURS["TIGER"], "data_path": shop.sorted_anew})
    with pytest.raises(DataError, match=r"^the checkpoint has no semantic IDs for 1 items \(i7\), .*tokenize --extend"):
        load_checkpoint(path, {"data_path": shop.as_trained})


def test_nothing_matched_is_one_line(shop):
    path, *_ = saved("SASRec", {"data_path": shop.as_trained})
    inter = os.path.join(shop.sorted_anew, "plain", "plain.inter")
    rows = read_atomic(inter)
    rows["item_id:token"] = "x" + rows["item_id:token"]
    rows.to_csv(inter, sep="\t", index=False)
    with pytest.raises(DataError, match="^the checkpoint was trained on another catalogue: none of its 40 items") as raised:
        load_checkpoint(path, {"data_path": shop.sorted_anew})
    assert "\n" not in str(raised.value)


def test_a_model_of_columns_is_refused_in_one_line(shop):
    columns = {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "brand"]}}
    given = {"selected_features": ["brand"], **columns}
    state = prepared("SASRecF", {**given, "data_path": shop.as_trained})[2].state_dict()
    prepared("SASRecF", {**given, "data_path": shop.as_trained})[2].load_state_dict(state)
    other = prepared("SASRecF", {**given, "data_path": shop.sorted_anew})[2]
    with pytest.raises(DataError, match="^the checkpoint of SASRecF .* it embeds columns of the files or entities"):
        other.load_state_dict(state)


def test_a_state_alone_keeps_its_tokens_and_an_old_one_loads_as_before(shop):
    _, built, loaders = saved("SASRec", {"data_path": shop.as_trained})
    torch.save(built.state_dict(), "state.pth")
    state = torch.load("state.pth", weights_only=True)
    _, loaders_now, other, _ = prepared("SASRec", {"data_path": shop.sorted_anew})
    other.load_state_dict(state)
    assert_same_scores(scores(other, loaders_now), scores(built, loaders))
    del state._metadata[TOKENS]
    other.load_state_dict(state)
    assert torch.equal(other.item_embedding.weight, built.item_embedding.weight)


def test_training_does_not_go_on_with_other_numbers(shop):
    given = {**OURS["TIGER"], "epochs": 1, "data_path": shop.as_trained, "show_progress": False, "numbering": "file"}
    checkpoint = run("TIGER", "plain", config_dict=given)["checkpoint"]
    moved = f"^\\[{checkpoint}\\] was trained on other items and users, or in another order, than the files have now"
    with pytest.raises(DataError, match=moved):
        run("TIGER", "plain", config_dict={**given, "epochs": 2, "data_path": shop.sorted_anew, "resume": checkpoint})
    *_, trainer = prepared("TIGER", {**OURS["TIGER"], "data_path": shop.sorted_anew, "topk": [5, 10], "beam_size": 10})
    with pytest.raises(DataError, match=moved):
        trainer.resume_checkpoint(checkpoint)


def test_cf_vectors_go_by_the_tokens_of_the_checkpoint_and_need_no_files(shop):
    path, built, loaders = saved("SASRec", {"data_path": shop.as_trained})
    shutil.rmtree(shop.as_trained)
    vectors, _ = read_checkpoint_vectors(path, np.array(["[PAD]", "i9", "i1"]), "plain", "nowhere")
    rows = [loaders[0]._dataset.token2id("item_id", item) for item in ("i9", "i1")]
    assert np.array_equal(vectors[1:], built.item_embedding.weight[rows].detach().numpy())


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"d_model": 32}, "d_model=32: the checkpoint was trained with 16"),
        ({"no_such_key": 1}, "no_such_key=1: is not a setting of any model or dataset"),
        ({"load_items": "some"}, "load_items='some': must be one of interacted, all"),
    ],
)
def test_settings_that_a_checkpoint_cannot_be_loaded_with(shop, changes, error):
    path, *_ = saved("TIGER", {**OURS["TIGER"], "data_path": shop.as_trained})
    with pytest.raises(SettingError, match=f"^{error}"):
        load_checkpoint(path, changes)
    with pytest.raises(SettingError, match="^checkpoint='nowhere.pth': no such file"):
        load_checkpoint("nowhere.pth")


def test_load_items_is_part_of_the_protocol():
    assert "load_items" in keys_of(ProtocolSettings, scope="protocol")
