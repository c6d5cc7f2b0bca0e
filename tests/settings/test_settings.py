"""Settings: declared once, checked together, and everything that is derived from them."""

import json
import os
import pickle

import pytest
import yaml
from recbole.config import Config
from recbole.quick_start import run_recbole

from recbole_gr import cli
from recbole_gr.data.settings import SemanticIDSettings
from recbole_gr.experiment.run import run
from recbole_gr.experiment.tokenize_dataset import tokenize_dataset
from recbole_gr.integration import settings_pages
from recbole_gr.integration.check_run import check_run, known_keys
from recbole_gr.integration.config import checked_run, make_config
from recbole_gr.models.registry import find_spec, model_names, model_settings, path_keys, runtime_keys
from recbole_gr.settings.check import faults_of, idle_settings
from recbole_gr.settings.field import RunValues, Settings, allowed_values, extra_of, field_faults, keys_of, setting
from recbole_gr.settings.protocol import ProtocolSettings
from recbole_gr.settings.recbole_keys import RecBoleSettings, recbole_keys
from recbole_gr.settings.values import SettingsLoader, parse_text, read_given
from recbole_gr.utils.errors import DataError, SettingError, SettingErrors

OURS = [name for name in model_names() if find_spec(name).model.startswith("recbole_gr.")]
CONCERNS = [
    RecBoleSettings,
    ProtocolSettings,
    SemanticIDSettings,
    *map(model_settings, OURS),
]


def test_the_generated_files_are_those_that_the_settings_generate():
    for path, text in settings_pages.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python -m recbole_gr.integration.settings_pages"


@pytest.mark.parametrize("name", OURS)
def test_property_files_hold_the_defaults(name):
    read = {}
    for path in settings_pages.pages():
        if path.suffix == ".yaml" and path.stem in ("semantic_ids", name):
            read.update(yaml.load(path.read_text(encoding="utf-8"), Loader=SettingsLoader))
    defaults = {
        key: list(value) if isinstance(value, tuple) else value for key, value in model_settings(name).defaults().items()
    }
    assert {key: read[key] for key in defaults} == defaults


@pytest.mark.parametrize("settings", CONCERNS, ids=lambda settings: settings.__name__)
def test_every_setting_has_a_sentence_a_scope_and_a_default_that_it_allows(settings):
    for key, info in settings.model_fields.items():
        assert info.description and info.description.endswith("."), key
        assert extra_of(info)["scope"] in ("protocol", "dataset", "model", "training", "decoding", "runtime"), key
    assert field_faults(settings, settings.defaults()) == []


class Example(Settings):
    """One of each kind."""

    choice: "str" = setting("a", "A choice.", "model")
    count: int = setting(1, "A count.", "model", ge=1)
    rate: float | None = setting(None, "A rate.", "runtime", gt=0, lt=1)
    switch: bool = setting(True, "A switch.", "model")
    folder: str | None = setting(None, "A folder.", "runtime", path=True)


@pytest.mark.parametrize(
    "key, value, allowed",
    [
        ("choice", 3, 'must be text; in yaml write it in quotes, "{title}"'),
        ("count", 0, "must be a whole number of at least 1"),
        ("count", True, "must be a whole number of at least 1"),
        ("count", 1.5, "must be a whole number of at least 1"),
        ("rate", 1, "must be a number above 0 and below 1"),
        ("rate", float("nan"), "must be a number above 0 and below 1"),
        ("switch", 1, "must be True or False"),
        ("folder", 7, 'must be text; in yaml write it in quotes, "{title}"'),
    ],
)
def test_what_is_allowed_is_said_in_words(key, value, allowed):
    (fault,) = field_faults(Example, {**Example.defaults(), key: value})
    assert (fault.key, fault.allowed) == (key, allowed) == (key, allowed_values(Example.model_fields[key]))
    assert fault.value is value


def test_keys_by_scope_and_flag():
    assert keys_of(Example, scope="runtime") == {"rate", "folder"} == keys_of(Example, resumable=True)
    assert keys_of(Example, path=True) == {"folder"}


@pytest.mark.parametrize(
    "text, value",
    [
        ("3", 3),
        ("1e-3", 0.001),
        ("[5,10]", [5, 10]),
        ("{'mode':'uni20'}", {"mode": "uni20"}),
        ("0,1", (0, 1)),
        ("None", None),
        ("true", True),
        ("FALSE", False),
        ("ml-100k", "ml-100k"),
        ("[4,inf)", "[4,inf)"),
        ("{title}, {brand}", "{title}, {brand}"),
        ("", ""),
    ],
)
def test_text_means_what_it_means_to_recbole(text, value, monkeypatch):
    assert parse_text(text) == value and type(parse_text(text)) is type(value)
    monkeypatch.setattr("sys.argv", ["x", f"--text_template={text}"])
    read = Config._load_cmd_line(Config.__new__(Config))["text_template"]
    assert read == value and type(read) is type(value)


def test_text_is_never_run(tmp_path):
    text = f"__import__('os').mkdir({str(tmp_path / 'made')!r})"
    assert parse_text(text) == text
    with pytest.raises(SettingError):
        make_config("TIGER", "ml-100k", config_dict={"text_encoder": text})
    assert not (tmp_path / "made").exists()


def test_which_value_counts_and_where_it_was_set(tmp_path):
    (tmp_path / "a.yaml").write_text("epochs: 1\nseed: 1\ndropout: 0.1\neval_args: {order: RO}")
    (tmp_path / "b.yaml").write_text("epochs: 2\nseed: 2\neval_args: {mode: uni20}")
    given = read_given(["a.yaml", "b.yaml"], {"seed": "3"}, ["--seed=4", "-x", "--eval_args={'group_by':'none'}"])
    assert given.values == {
        "epochs": 2,
        "seed": 4,
        "dropout": 0.1,
        "eval_args": {"order": "RO", "mode": "uni20", "group_by": "none"},
    }
    assert given.where["epochs"] == "in b.yaml" and given.where["dropout"] == "in a.yaml"
    assert given.where["seed"] == given.where["eval_args"] == "on the command line"


@pytest.mark.parametrize("text", ["a: [", "- a\n- b", "!!python/object/apply:os.getcwd []", "\x00"])
def test_files_that_are_no_settings_are_one_line(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(DataError, match=r"^\[x\.yaml\] [^\n]+$"):
        read_given(["x.yaml"])


def test_a_part_of_a_dict_leaves_the_other_parts(small_part):
    """Replaced as a whole, the split would silently be random."""
    whole = {"data_path": small_part[1], "eval_args": {"mode": "uni20"}, "metrics": ["Recall"], "valid_metric": "Recall@10"}
    for config in (
        make_config("TIGER", "small", config_dict=whole),
        make_config("BPR", "small", config_dict=whole),
        Config("TIGER", "small", config_dict=whole),
    ):
        expected = {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO"}
        assert config["eval_args"] == {**expected, "mode": {"valid": "uni20", "test": "uni20"}}
    clip = make_config("TIGER", "small", config_dict={"data_path": small_part[1], "clip_grad_norm": {"norm_type": 1}})
    assert clip["clip_grad_norm"] == {"max_norm": 1.0, "norm_type": 1}


@pytest.mark.parametrize(
    "given, metric, beams",
    [
        ({"topk": [20]}, "NDCG@20", 50),
        ({"topk": 5}, "NDCG@5", 50),
        ({"topk": [1, 5, 20]}, "NDCG@5", 50),
        ({"topk": [5, 10, 100]}, "NDCG@10", 100),
        ({"topk": [20], "valid_metric": "Recall@20"}, "Recall@20", 50),
        ({"metrics": ["MRR", "Recall"]}, "MRR@10", 50),
        ({"metrics": "Recall", "topk": [20]}, "Recall@20", 50),
        ({"metrics": ["recall", "ndcg"]}, "NDCG@10", 50),
    ],
)
def test_what_topk_and_metrics_alone_take_along(small_part, given, metric, beams):
    config = make_config("TIGER", "small", config_dict={"data_path": small_part[1], **given})
    assert (config["valid_metric"], config["beam_size"]) == (metric, beams)
    assert len(checked_run(config).notices) == (metric not in ("NDCG@10", given.get("valid_metric"))) + (beams != 50)
    assert make_config("SASRec", "small", config_dict={"data_path": small_part[1], **given})["valid_metric"] == metric


def test_a_small_catalogue_gets_a_smaller_default_codebook(small_part, tiny_settings, caplog):
    settings = {key: value for key, value in tiny_settings.items() if key != "codebook_size"}
    few = write_few_items(settings["data_path"])
    run("TIGER", "few", config_dict={**settings, "item_vector_file": few, "epochs": 1, "topk": [5]})
    assert "codebook_size=16: the catalogue has only 20 items" in caplog.text
    with pytest.raises(SettingError, match="codebook_size=256: must be at most the number of items, 20"):
        run("TIGER", "few", config_dict={**settings, "item_vector_file": few, "codebook_size": 256, "topk": [5]})


def write_few_items(data_path):
    import numpy as np

    folder = os.path.join(data_path, "few")
    os.makedirs(folder)
    draw = np.random.default_rng(0)
    rows = [f"u{user}\ti{item}\t{time}" for user in range(12) for time, item in enumerate(draw.permutation(20))]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    with open(os.path.join(folder, "few.inter"), "w") as file:
        file.write("\n".join([header, *rows]) + "\n")
    names = np.array([f"i{item}" for item in range(20)])
    np.savez("few.npz", item_id=names, vectors=draw.normal(size=(20, 8)).astype(np.float32))
    return os.path.abspath("few.npz")


UNKNOWN = r"^architektur='x': is not a setting of any model or dataset"


def test_an_unknown_key_stops_every_command(small_part, tiny_settings, capsys):
    settings = {**tiny_settings, "architektur": "x"}
    with pytest.raises(SettingError, match=UNKNOWN):
        run("TIGER", "small", config_dict=settings)
    with pytest.raises(SettingError, match=UNKNOWN):
        run("SASRec", "small", config_dict={"data_path": small_part[1], "architektur": "x"})
    with pytest.raises(SettingError, match=UNKNOWN):
        tokenize_dataset("small", config_dict=settings)
    with open("board.yaml", "w") as file:
        json.dump({"dataset": "small", "rows": [{"model": "Pop", "settings": {"architektur": "x"}}]}, file)
    for options in ([], ["--dry-run"]):
        assert cli.main(["leaderboard", "board.yaml", f"--data_path={small_part[1]}", *options]) == 2
        assert "error: architektur='x': is not a setting of any model or dataset" in capsys.readouterr().err
    assert not os.path.exists("saved") or not any(name.endswith(".pth") for name in os.listdir("saved"))


def test_an_unknown_key_may_be_allowed(small_part, tiny_settings, caplog):
    settings = {**tiny_settings, "architektur": "x", "allow_unknown": True, "epochs": 1}
    run("TIGER", "small", config_dict=settings)
    assert "architektur='x' is not a setting of any model or dataset" in caplog.text


def test_keys_that_are_known():
    """Of RecBole itself, also where it has no default; of its models, ours and the tokenizers."""
    keys = [
        "epochs",
        "alias_of_user_id",
        "hidden_size",
        "mlp_hidden_size",
        "beam_size",
        "kmeans_iterations",
        "llm",
        "tie_seed",
    ]
    assert {*keys} <= known_keys(dict.fromkeys(keys))
    assert {"embedding_size", "n_layers", "topk", "load_col"} <= recbole_keys()


def test_what_a_dict_of_the_user_holds_is_not_changed(small_part):
    given = {
        "data_path": small_part[1],
        "topk": "[20]",
        "eval_args": {"mode": "uni20"},
        "metrics": "Recall",
        "valid_metric": "Recall@20",
    }
    before = json.dumps(given)
    make_config("SASRec", "small", config_dict=given)
    assert json.dumps(given) == before


def test_switches_without_effect_are_named_only_if_the_user_set_them():
    def idle(*arguments):
        return [notice for notice in check_run("TIGER", "ml-100k", arguments=arguments).notices if "is not used" in notice]

    assert idle() == []
    assert idle("--tie_seed=3") == ["tie_seed=3 is not used: tie_order=file shuffles nothing"]
    assert idle("--text_weight=2.0") == ["text_weight=2.0 is not used: item_vectors=text joins nothing"]
    assert idle("--tie_seed=3", "--tie_order=shuffled") == []


def test_samples_that_come_in_files_are_not_augmented():
    def faults(**values):
        defaults = {**model_settings("TIGER").defaults(), "topk": [10], "metrics": [], "eval_args": {}}
        run = RunValues({**defaults, "loss_positions": "last", **values})
        return [(fault.key, fault.value) for fault in faults_of([model_settings("TIGER")], run)]

    files = ["train", "valid", "test"]
    for possible in ({"augmentation": "window"}, {"benchmark_filename": files}, {"loss_positions": "all"}):
        assert faults(**possible) == []
    assert faults(augmentation="window", benchmark_filename=files) == [("augmentation", "window")]
    for more in ({"benchmark_filename": files}, {"transform": "crop_itemseq"}):
        assert faults(loss_positions="all", **more) == [("loss_positions", "all")]


def test_augmentation_is_idle_where_every_position_is_trained():
    for positions, expected in ((None, []), ("last", []), ("all", ["augmentation"])):
        values = {
            **ProtocolSettings.defaults(),
            **model_settings("TIGER").defaults(),
            "loss_positions": positions,
            "augmentation": "window",
        }
        run = RunValues(values, {"augmentation": "in config_dict"})
        assert list(idle_settings([model_settings("TIGER")], run)) == expected


@pytest.mark.parametrize(
    "model, arguments, named",
    [
        ("TIGER", ["--hidden_size=3", "--dropout=0.2", "--epochs=1"], ["hidden_size"]),
        ("SASRec", ["--dropout=2", "--hidden_size=32", "--loss_type=BPR", "--topk=[5]", "--seed=1"], ["dropout"]),
        ("LightGCN", ["--n_layers=3", "--reg_weight=1", "--val_interval={'rating':'[3,inf)'}"], []),
        ("BPR", ["--embedding_size=8", "--n_layers=3"], ["n_layers"]),
        ("SASRecBCE", ["--hidden_size=2", "--llm=x"], ["llm"]),
    ],
)
def test_settings_of_other_models_are_named(model, arguments, named):
    notices = check_run(model, "ml-100k", arguments=arguments).notices
    assert [
        notice.split("=")[0] for notice in notices if notice.endswith(f"is not used: {model} has no such setting")
    ] == named


def test_faults_of_several_settings_come_together_also_from_recboles_own_functions(small_part):
    wrong = {"data_path": small_part[1], "beam_size": 0, "dropout": 2, "schedule": "linear"}
    for start in (
        lambda: run("TIGER", "small", config_dict=wrong),
        lambda: run_recbole("TIGER", "small", config_dict=wrong),
    ):
        with pytest.raises(SettingErrors) as caught:
            start()
        assert {error.key for error in caught.value.errors} == {"beam_size", "dropout", "schedule"}


def test_paths_and_what_may_change():
    assert {
        "data_path",
        "checkpoint_dir",
        "resume",
        "llm",
        "text_encoder",
        "cf_checkpoint",
        "sid_file",
        "record_dir",
    } <= path_keys()
    assert {"data_path", "gpu_id", "use_gpu", "eval_batch_size", "cache_dir", "worker", "state"} <= runtime_keys()
    assert not {"epochs", "beam_size", "precision", "torch_compile", "mask_seen", "seed"} & runtime_keys()


def test_whether_a_model_is_generative_follows_from_its_class():
    from recbole_gr.models.base import GenerativeRecommender
    from recbole_gr.models.registry import load

    for name in model_names():
        spec = find_spec(name)
        assert spec.generative == issubclass(load(spec.model), GenerativeRecommender)
    assert [name for name in model_names() if find_spec(name).generative] == ["IDGenRec", "LIGER", "LLMasRS", "RPG", "TIGER"]


def test_a_checkpoint_of_ours_holds_a_plain_config(small_part):
    """So that RecBole alone reads those of its own models."""
    config = make_config("BPR", "small", config_dict={"data_path": small_part[1], "topk": [20]})
    again = pickle.loads(pickle.dumps(config))
    assert type(again) is Config and again.final_config_dict == config.final_config_dict
    assert b"recbole_gr" not in pickle.dumps(config)


@pytest.mark.parametrize(
    "model, setting, words",
    [
        ("SASRec", "--MAX_ITEM_LIST_LENGTH=0", "MAX_ITEM_LIST_LENGTH=0: must be a whole number of at least 1"),
        ("BPR", "--epochs=one", "epochs='one': must be a whole number of at least 0"),
        ("BPR", "--train_batch_size=1e3", "train_batch_size=1000.0: must be a whole number of at least 1"),
        ("Pop", "--eval_args={'splitt':{'LS':'test_only'}}", "has no part 'splitt'; it has split, group_by, order and mode"),
        ("Pop", "--encoding=latin-9x", "encoding='latin-9x': no such encoding"),
        ("Pop", "--checkpoint_dir=", "checkpoint_dir='': the folder cannot be made"),
        ("BPR", "--metrics=['Recal']", "metrics=['Recal']: there is no metric 'Recal'; there are recall, mrr, ndcg"),
        ("Pop", "--eval_args={'mode':'foo'}", "mode must be full, labeled, uniN or popN"),
        ("SASRec", "--train_neg_sample_args={'sample_num':1}", "RecBole refuses the settings: train_neg_sample_args"),
    ],
)
def test_what_recbole_would_stumble_over_is_one_line(small_part, capsys, model, setting, words):
    status = cli.main(["run", f"--model={model}", "--dataset=small", f"--data_path={small_part[1]}", setting])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert status == 2 and words in line


def test_values_that_recbole_takes_are_taken(small_part, tmp_path):
    """A folder as a Path, metrics as a tuple, and no column of time where none is needed."""
    given = {"data_path": tmp_path / "data", "checkpoint_dir": tmp_path / "saved", "metrics": ("Recall", "NDCG")}
    unordered = {"TIME_FIELD": None, "eval_args": {"order": "RO", "split": {"RS": [0.8, 0.1, 0.1]}}, "show_progress": 0}
    config = make_config("BPR", "small", config_dict={**given, **unordered})
    assert config["checkpoint_dir"] == str(tmp_path / "saved") and config["TIME_FIELD"] is None
    assert list(config["metrics"]) == ["Recall", "NDCG"] and config["eval_args"]["order"] == "RO"


def test_a_metric_without_a_ranking_keeps_no_ranks(small_part):
    settings = {"data_path": small_part[1], "epochs": 1, "show_progress": False, "metrics": ["AUC"], "valid_metric": "AUC"}
    result = run("BPR", "small", config_dict={**settings, "eval_args": {"mode": "uni20"}})
    assert 0 <= result["test_result"]["auc"] <= 1
    with open(result["record"]) as file:
        assert "hit_ranks" not in json.load(file)
