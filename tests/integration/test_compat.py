"""What compat.py patches in RecBole 1.2.1; seen broken with numpy 2.4, torch 2.13, scipy 1.17, pandas 2.3, ray 2.6.3."""

import pickle
import subprocess
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

import recbole_gr.integration.compat as compat
from recbole_gr.integration.safe_pickle import UnsafeFileError

REPOSITORY = Path(__file__).resolve().parents[2]
USERS, ITEMS = 12, 9

NO_RAY = """
import sys

class NoRay:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ray":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoRay())
"""

# The files of a ray that works; its report takes what that of ray 2.60 takes.
WORKING_RAY = {
    "__init__.py": "",
    "tune.py": "reported, choice = [], 'a choice'\ndef report(metrics, *, checkpoint=None): reported.append(metrics)\n",
}
# Those of a ray that fails as ray 2.6.3 does with numpy 2, but only in ray.tune.
BROKEN_RAY = {
    "__init__.py": "print('ray was imported')",
    "tune.py": "raise AttributeError(\"module 'numpy' has\\nno attribute 'bool8'\")",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a small data set in it; RecBole writes its log and checkpoints there, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    (tmp_path / "tiny").mkdir()
    draw = np.random.default_rng(0)
    interactions = [f"{user}\t{item}" for user in range(USERS) for item in draw.permutation(ITEMS)[:6]]
    (tmp_path / "tiny" / "tiny.inter").write_text("user_id:token\titem_id:token\n" + "\n".join(interactions))
    ages = [f"{user}\t{'' if user == 3 else 20 + user}" for user in range(USERS)]
    (tmp_path / "tiny" / "tiny.user").write_text("user_id:token\tage:float\n" + "\n".join(ages))
    return tmp_path


def settings(folder):
    return {
        "dataset": "tiny",
        "data_path": str(folder),
        "load_col": {"inter": ["user_id", "item_id"], "user": ["user_id", "age"]},
        "epochs": 1,
        "embedding_size": 4,
        "topk": [3],
        "valid_metric": "MRR@3",
        "metrics": ["MRR", "NDCG", "MAP"],
        "show_progress": False,
        "state": "ERROR",
        "use_gpu": False,
        "gpu_id": "",
    }


def trained(folder, model="BPR", **more):
    config = Config(model=model, config_dict={**settings(folder), **more})
    init_seed(0, True)
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, get_model(model)(config, train.dataset))
    trainer.fit(train, valid, saved=True, show_progress=False)
    return trainer, test


def run_python(folder, *lines, options=()):
    """What the lines print in a fresh Python that knows this checkout and the folder."""
    code = "\n".join((f"import sys; sys.path[:0] = [{str(folder)!r}, {str(REPOSITORY)!r}]", *lines))
    command = [sys.executable, *options, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")


def write_package(folder, files):
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)


def test_numpy_names_before_any_config_and_after(folder):
    printed = run_python(
        folder,
        "import numpy as np",
        "import recbole_gr",
        "from recbole.data.interaction import _convert_to_tensor",
        "print(_convert_to_tensor(np.array([1.5, 2.5])).tolist())",
        "from recbole.config import Config",
        f"Config(model='BPR', config_dict={settings(folder)!r})",
        "print(np.float is np.float64, np.bool is np.bool_, np.dtype(np.long).kind, np.array([7]).astype(np.str)[0])",
        "print([name for name in ('float_', 'complex_', 'unicode_', 'object', 'int') if name in vars(np)])",
    )
    assert printed[:3] == ["[1.5, 2.5]", "True True i 7", "[]"]


def test_config_leaves_the_names_numpy_has(folder, monkeypatch):
    monkeypatch.setattr(np, "long", np.int32)
    Config(model="BPR", config_dict=settings(folder))
    assert np.long is np.int32


def test_without_ray(folder):
    printed = run_python(
        folder,
        NO_RAY,
        "import recbole_gr",
        "import recbole.quick_start as quick_start",
        f"result = quick_start.objective_function({dict(settings(folder), model='Pop')!r})",
        "print(sorted(result['test_result']), 'ray' in sys.modules)",
        "from recbole.quick_start.quick_start import tune",
        "from recbole_gr.utils.errors import RecBoleGRError",
        "try:",
        "    tune.run(print)",
        "except RecBoleGRError as error:",
        "    print(error)",
    )
    assert printed[0] == "['map@3', 'mrr@3', 'ndcg@3'] False"
    assert printed[1] == (
        "ray.tune.run: a ray search was asked for, but ray cannot be imported "
        "(ModuleNotFoundError: No module named 'ray'); RecBole's HyperTuning works without ray"
    )


def test_with_a_ray_that_cannot_be_imported(folder):
    write_package(folder / "ray", BROKEN_RAY)
    printed = run_python(
        folder,
        "import recbole_gr",
        "from recbole.quick_start.quick_start import tune",
        "print(tune.report(mrr=0.5), 'ray' in sys.modules)",
        "try:",
        "    tune.with_parameters",
        "except recbole_gr.integration.compat.RayMissingError as error:",
        "    print(error)",
    )
    assert printed[:2] == ["None False", "ray was imported"]
    assert "ray.tune.with_parameters" in printed[2]
    assert "(AttributeError: module 'numpy' has no attribute 'bool8')" in printed[2]  # in one line


def test_recbole_imported_first_with_a_ray_that_works(folder):
    """All of RecBole may be imported by the time it is patched: search and checkpoint still work."""
    write_package(folder / "ray", WORKING_RAY)
    printed = run_python(
        folder,
        "import recbole.quick_start",
        "import recbole_gr, ray.tune",
        "from recbole.quick_start import objective_function, load_data_and_model",
        f"result = objective_function({dict(settings(folder), model='BPR')!r})",
        "print(ray.tune.reported == [dict(result['test_result'])])",
        "print(sys.modules['recbole.quick_start.quick_start'].tune.choice)",
        "from pathlib import Path",
        "checkpoint = next(Path('saved').glob('BPR*.pth'))",
        "print(load_data_and_model(checkpoint)[0]['model'])",
        "print(sys.modules['recbole.quick_start.quick_start'].load_data_and_model(checkpoint)[0]['model'])",
    )
    assert printed[:4] == ["True", "a choice", "BPR", "BPR"]


def test_report_of_ray_2_6_takes_keywords(monkeypatch):
    reported = []

    def report(_metric=None, **metrics):
        reported.append(metrics)

    monkeypatch.setitem(sys.modules, "ray.tune", types.SimpleNamespace(report=report))
    compat.ray_tune_stand_in().report(**{"mrr@10": 0.25})
    assert reported == [{"mrr@10": 0.25}]


def test_recbole_loads_its_checkpoints_and_others_stay_strict(folder):
    import recbole.trainer
    from recbole.quick_start import load_data_and_model

    trainer, test = trained(folder)
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    result = trainer.evaluate(test, load_best_model=False)

    for value in trainer.model.state_dict().values():
        value.zero_()
    assert trainer.evaluate(test, load_best_model=True) == result
    assert all(torch.equal(value, weights[name]) for name, value in trainer.model.state_dict().items())

    trainer.start_epoch = 0
    trainer.resume_checkpoint(trainer.saved_model_file)
    assert trainer.start_epoch == 1

    config, model, *_ = load_data_and_model(trainer.saved_model_file)
    assert config["model"] == "BPR"
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())

    for users_torch in (torch, recbole.trainer.torch):
        with pytest.raises(pickle.UnpicklingError):
            users_torch.load(trainer.saved_model_file)


def test_a_checkpoint_from_a_gpu_is_loaded_without_one(folder, monkeypatch):
    from recbole.quick_start import load_data_and_model

    trainer, _ = trained(folder)
    trainer.config["device"] = torch.device("cuda")
    with monkeypatch.context() as on_a_gpu:
        on_a_gpu.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        trainer._save_checkpoint(0, verbose=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # wherever this test runs
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(trainer.saved_model_file, weights_only=False)

    config, model, *_ = load_data_and_model(trainer.saved_model_file)
    assert config["device"] == model.user_embedding.weight.device == torch.device("cpu")
    assert torch.equal(model.user_embedding.weight, trainer.model.user_embedding.weight)


def test_adjacency_of_lightgcn(folder):
    config = Config(model="LightGCN", config_dict=settings(folder))
    train, _, _ = data_preparation(config, create_dataset(config))
    model = get_model("LightGCN")(config, train.dataset)

    adjacency = np.zeros((USERS + 1 + ITEMS + 1,) * 2)
    users, items = (train.dataset.inter_feat[field].numpy() for field in ("user_id", "item_id"))
    adjacency[users, USERS + 1 + items] = adjacency[USERS + 1 + items, users] = 1
    assert adjacency.sum() == 2 * len(users) == 2 * USERS * 4  # of a user's six items four train
    degree = (adjacency.sum(axis=1) + 1e-7) ** -0.5
    expected = degree[:, None] * adjacency * degree
    np.testing.assert_allclose(model.norm_adj_matrix.to_dense().numpy(), expected, rtol=1e-6, atol=1e-9)


def test_dok_matrix_update_overwrites_and_keeps_the_type():
    from scipy.sparse import dok_matrix

    matrix = dok_matrix((2, 3), dtype=np.float32)
    matrix[0, 0] = 5
    matrix._update({(np.int32(0), np.int32(0)): 2, (1, 2): 1})
    assert matrix.nnz == 2
    np.testing.assert_array_equal(matrix.toarray(), np.array([[2, 0, 0], [0, 0, 1]], dtype=np.float32), strict=True)


def test_recboles_warnings_are_quiet_and_the_users_are_not(folder):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        compat.quiet_recbole_warnings()
        trainer, _ = trained(folder, "LightGCN")
        of_recbole = [str(warning.message) for warning in shown if "recbole/" in warning.filename]
        shown.clear()
        torch.cuda.amp.GradScaler(enabled=False)
    assert of_recbole == []
    assert trainer.model.training is False  # it did run: the last thing that fit does is to evaluate
    assert [warning.category for warning in shown] == [FutureWarning]
    assert shown[0].filename == __file__


def test_applying_again_changes_nothing():
    import recbole.quick_start
    import recbole.trainer.trainer
    import scipy.sparse

    def state():
        return (
            list(warnings.filters),
            list(sys.meta_path),
            dict(vars(np)),
            {name: list(patches) for name, patches in compat._PATCHED_IMPORTS.patches.items()},
            scipy.sparse.dok_matrix._update,
            Config.compatibility_settings,
            recbole.trainer.trainer.torch,
            dict(vars(recbole.quick_start)),
        )

    with warnings.catch_warnings():
        compat.apply()
        once = state()
        compat.apply()
        assert state() == once


def test_numpy_names_do_not_need_recboles_config(folder):
    printed = run_python(
        folder,
        "import types",
        "package = sys.modules['recbole_gr'] = types.ModuleType('recbole_gr')  # its __init__ imports Config",
        f"package.__path__ = [{str(REPOSITORY / 'recbole_gr')!r}]",
        "from recbole_gr.integration import compat",
        "compat.apply()",
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'recbole', 'torch', 'pandas', 'ray'}))",
        "import numpy as np",
        "from recbole.evaluator.metrics import NDCG",
        "print(NDCG.metric_info(None, np.array([[False, True]]), np.array([2])).round(4).tolist())",
        "print('recbole.config.configurator' in sys.modules)",
    )
    # a hit at rank 2 of two: (1 / log2 3) / (1 + 1 / log2 3)
    assert printed[:3] == ["[]", "[[0.0, 0.3869]]", "False"]


def test_questions_about_the_stand_in_itself_do_not_import_ray(folder):
    write_package(folder / "ray", BROKEN_RAY)
    printed = run_python(
        folder,
        "import recbole_gr, inspect",
        "from recbole.quick_start.quick_start import tune",
        "print(hasattr(tune, '__wrapped__'), inspect.unwrap(tune) is tune, 'ray' in sys.modules)",
    )
    assert printed[0] == "False True False"


def test_load_data_and_model_held_by_someone_who_imported_it_first(folder):
    write_package(folder / "ray", WORKING_RAY)
    trainer, _ = trained(folder)
    printed = run_python(
        folder,
        "from recbole.quick_start import load_data_and_model as held",
        "import recbole_gr",
        "from recbole.quick_start import load_data_and_model",
        f"for load in (held, load_data_and_model): print(load({str(folder / trainer.saved_model_file)!r})[1]"
        ".user_embedding.weight[1].tolist())",
    )
    assert printed[:2] == [str(trainer.model.user_embedding.weight[1].tolist())] * 2


class MakesAFolder:
    def __reduce__(self):
        return Path.mkdir, (Path("made"),)


def test_nobody_runs_what_a_checkpoint_holds(folder):
    import recbole.trainer
    from recbole.quick_start import load_data_and_model

    torch.save({"state_dict": MakesAFolder()}, "pickled.pth")
    for users_torch in (torch, recbole.trainer.torch):
        with pytest.raises(pickle.UnpicklingError):
            users_torch.load("pickled.pth")
        assert not Path("made").exists()
    with pytest.raises(UnsafeFileError, match="pickled.pth"):
        load_data_and_model("pickled.pth")
    assert not Path("made").exists()


def test_adjacency_of_lightgcn_on_ml_100k(folder):
    config = Config(model="LightGCN", dataset="ml-100k", config_dict={"state": "ERROR", "embedding_size": 4})
    train, _, _ = data_preparation(config, create_dataset(config))
    model = get_model("LightGCN")(config, train.dataset)

    n_users, n = 944, 944 + 1683
    users, items = (train.dataset.inter_feat[field].numpy() for field in ("user_id", "item_id"))
    adjacency = np.zeros((n, n))
    adjacency[users, n_users + items] = adjacency[n_users + items, users] = 1
    assert adjacency.sum() == 2 * len(users) > 2 * 79000
    degree = (adjacency.sum(axis=1) + 1e-7) ** -0.5
    expected = degree[:, None] * adjacency * degree
    np.testing.assert_allclose(model.norm_adj_matrix.to_dense().numpy(), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("model", ["NGCF", "NCL", "GCMC", "SpectralCF"])
def test_the_other_graph_models_train(folder, model):
    trainer, test = trained(
        folder, model, topk=[9], valid_metric="MRR@9", num_clusters=3, m_step=1, warm_up_step=0, gcn_output_dim=8
    )
    assert 1 / 9 < trainer.evaluate(test)["mrr@9"] <= 1  # with all nine items ranked, no user is without a hit
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())


@pytest.mark.parametrize("model", ["GCMC", "FM"])
def test_a_run_shows_no_warning_about_recboles_own_lines(folder, model):
    more = dict(settings(folder), gcn_output_dim=8)
    if model == "FM":  # which reads fields of several values and predicts labels
        kinds = [f"{item}\t{'a b' if item % 2 else 'b'}" for item in range(ITEMS)]
        (folder / "tiny" / "tiny.item").write_text("item_id:token\tkind:token_seq\n" + "\n".join(kinds))
        first, *lines = (folder / "tiny" / "tiny.inter").read_text().split("\n")
        labelled = [f"{first}\tlabel:float", *(f"{line}\t{number % 2}" for number, line in enumerate(lines))]
        (folder / "tiny" / "tiny.inter").write_text("\n".join(labelled))
        more.update(load_col=None, metrics=["AUC"], valid_metric="AUC", eval_args={"mode": "labeled"})
    printed = run_python(
        folder,
        "sys.stderr, sys.argv = sys.stdout, sys.argv[:1]",
        "import recbole_gr",
        "from recbole.quick_start import run_recbole",
        f"print('done', list(run_recbole(model={model!r}, config_dict={more!r})['test_result']))",
        options=("-W", "default"),
    )
    assert [line for line in printed if "Warning" in line and "/recbole/" in line] == []
    assert f"done {['auc'] if model == 'FM' else ['mrr@3', 'ndcg@3', 'map@3']}" in printed


def test_only_the_named_warnings_of_recbole_are_quiet():
    noise = [
        ("recbole.data.dataset.dataset", "A value is trying to be set on a copy of a DataFrame or", FutureWarning),
        ("recbole.data.dataset.dataset", "using <built-in function len> in Series.agg cannot", FutureWarning),
        ("recbole.trainer.trainer", "`torch.cuda.amp.autocast(args...)` is deprecated.", FutureWarning),
        ("recbole.model.general_recommender.ngcf", "torch.sparse.SparseTensor(...) is deprecated.", UserWarning),
        ("recbole.model.general_recommender.gcmc", "Creating a tensor from a list of numpy.ndarrays is", UserWarning),
    ]
    others = ["my_model", "recbole_gr.models.tiger.model", "__main__"]
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        compat.quiet_recbole_warnings()
        for module, message, category in noise:
            for where in (module, *others):
                warnings.warn_explicit(message, category, where, 1, module=where)
            warnings.warn_explicit("something new", category, module, 1, module=module)
    assert [warning.filename for warning in shown] == [name for module, *_ in noise for name in (*others, module)]


def test_list_metrics_by_hand():
    """Four users' two items out of six; they stay measurable after the first evaluation."""
    from collections import Counter

    import torch
    from recbole.config import Config
    from recbole.evaluator import Collector, Evaluator

    metrics = ["ItemCoverage", "GiniIndex", "AveragePopularity", "TailPercentage"]
    own = {"metrics": metrics, "topk": [2], "valid_metric": "ItemCoverage@2", "tail_ratio": 1.5}
    config = Config("Pop", "ml-100k", config_dict=own)
    collector = Collector(config)
    collector.data_struct.set("data.num_items", 6)
    collector.data_struct.set("data.count_items", Counter({1: 9, 2: 4, 3: 1}))
    for _ in range(2):
        collector.data_struct.update_tensor("rec.items", torch.tensor([[1, 2], [1, 2], [1, 3], [1, 4]]))
        result = Evaluator(config).evaluate(collector.get_data_struct())
        # recommended 0, 0, 1, 1, 2, 4 times: sum of (2 i - 6 - 1) times the i-th, over 6 * 8
        gini = (-1 * 1 + 1 * 1 + 3 * 2 + 5 * 4) / (6 * 8)
        popularity = (9 + 4 + 9 + 4 + 9 + 1 + 9 + 0) / 8
        expected = {
            "itemcoverage@2": 4 / 6,
            "giniindex@2": gini,
            "averagepopularity@2": popularity,
            "tailpercentage@2": 1 / 8,
        }
        assert dict(result) == pytest.approx(expected, abs=5.1e-5)


def test_pop_counts_every_interaction():
    """Against the counts of the training part, whatever the batches."""
    import numpy as np
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.general_recommender.pop import Pop

    scores = []
    for batch_size in (7000, 100_000):
        own = {"train_batch_size": batch_size, "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO"}}
        config = Config("Pop", "ml-100k", config_dict=own)
        training, _, _ = data_preparation(config, create_dataset(config))
        model = Pop(config, training._dataset)
        for batch in training:
            loss = model.calculate_loss(batch)
        assert loss.item() == 0 and loss.requires_grad
        counts = np.bincount(training._dataset.inter_feat["item_id"].numpy(), minlength=model.n_items)
        scores.append(model.full_sort_predict({"user_id": torch.tensor([1])}))
        assert np.array_equal(model.item_cnt.squeeze(1).numpy(), counts)
        assert scores[-1].tolist() == (counts / counts.max()).tolist()


@pytest.mark.parametrize("first", ["recbole_gr.experiment.run", "recbole.model.sequential_recommender"])
@pytest.mark.parametrize("wanted", [False, True])
def test_recboles_models_do_not_turn_on_anomaly_detection(folder, first, wanted):
    """Nor off, where somebody wants it; but what RecBole turned on before us cannot be distinguished from that."""
    lines = ["import torch", f"torch.autograd.set_detect_anomaly({wanted})", "import recbole_gr", f"import {first}"]
    said = run_python(
        folder, *lines, "import recbole.model.sequential_recommender.sine", "print(torch.is_anomaly_enabled())"
    )
    assert said[-2] == str(wanted)


def test_exhaustive_search_tries_every_combination_once(caplog):
    """In their order, choices inside an option only with that option; of ranges, which have no end, one value is drawn."""
    from hyperopt import hp
    from recbole.trainer import HyperTuning

    def tried(**space):
        def objective(settings, _):
            seen.append(dict(settings))
            result = {"best_valid_score": settings.get("a", 0) - settings.get("b", 0), "valid_score_bigger": True}
            return {**result, "model": "BPR", "best_valid_result": {}, "test_result": {}}

        seen = []
        tuning = HyperTuning(objective, early_stop=100, **space)
        tuning.run()
        return seen, tuning.best_params

    flat = {"choice": {"a": [1, 3, 2], "b": [0.5, 0.25]}}
    seen, best = tried(params_dict=flat)
    assert seen == [{"a": a, "b": b} for a in (1, 3, 2) for b in (0.5, 0.25)] and best == {"a": 3, "b": 0.25}
    seen, _ = tried(params_dict={"choice": {"a": list(range(12)), "b": list(range(10))}})
    assert seen == [{"a": a, "b": b} for a in range(12) for b in range(10)]
    inside = {"m": hp.choice("m", [{"n": 1, "x": hp.choice("x", [1, 2, 3])}, {"n": 2, "y": hp.choice("y", [5, 6])}])}
    seen, _ = tried(space=inside)
    assert [settings["m"] for settings in seen] == [
        *({"n": 1, "x": x} for x in (1, 2, 3)),
        *({"n": 2, "y": y} for y in (5, 6)),
    ]
    seen, _ = tried(params_dict={"choice": {"a": [1, 2]}, "uniform": {"b": [3, 4]}, "quniform": {"c": [1, 9, 1]}})
    assert [settings["a"] for settings in seen] == [1, 2] and all(3 < settings["b"] < 4 for settings in seen)
    assert all(settings["c"] in range(1, 10) for settings in seen)
    assert "each combination of the choices is tried once, with one value drawn of b, c" in caplog.text
