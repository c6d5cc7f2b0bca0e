"""What RecBole 1.2.1 needs on today's numpy, torch, scipy, pandas and ray.

One function patches one fault and says in its docstring what breaks, where, and since which version of the library.
``apply`` calls them all; ``import recbole_gr`` calls ``apply``. File and line numbers are those of RecBole 1.2.1.

Where the fault lies in one RecBole module, that module is patched as it is imported (or at once, if it already was):
so ``apply`` imports nothing slow, and nobody but that module sees a difference.
"""

import builtins
import contextlib
import functools
import importlib
import importlib.abc
import inspect
import itertools
import logging
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

from recbole_gr.integration.stand_in import stand_in
from recbole_gr.utils.errors import RecBoleGRError

#: Settings that a checkpoint is loaded with instead of its own, :func:`recbole_gr.integration.checkpoints.load_checkpoint`.
CHECKPOINT_SETTINGS: ContextVar[Mapping[str, Any] | None] = ContextVar("checkpoint_settings", default=None)

#: Given a module, a context within which the module is executed.
Patch = Callable[[Any], AbstractContextManager[None]]


class RayMissingError(RecBoleGRError):
    """More of ray than ``tune.report`` was asked for through RecBole, and ray cannot be imported."""


def apply() -> None:
    """Patch all that RecBole 1.2.1 needs. Cheap; calling it again changes nothing."""
    if _PATCHED_IMPORTS in sys.meta_path:
        return
    sys.meta_path.insert(0, _PATCHED_IMPORTS)
    patch_numpy_names()
    patch_ray_import()
    patch_checkpoint_loading()
    patch_dok_matrix()
    patch_list_metrics()
    patch_popularity()
    patch_anomaly_detection()
    patch_exhaustive_search()
    quiet_recbole_warnings()


def patch_numpy_names() -> None:
    """RecBole needs ``np.float`` and ``np.str``, gone since numpy 1.24; since numpy 2.0 no Config can be built at all.

    It uses ``np.float``, ``np.bool``, ``np.long`` and ``np.str`` (data/interaction.py:31, evaluator/metrics.py:90, 287,
    model/layers.py:932, trainer/hyper_tuning.py:386, ...). Every Config sets them (config/configurator.py:625-635), but
    by way of ``np.float_``, ``np.complex_`` and ``np.unicode_``, which numpy 2.0 dropped. Here those of the four that
    numpy lacks are set once, so that they are there without a Config too: one that comes out of a checkpoint is never
    initialised. numpy 2's own ``np.bool`` and ``np.long`` mean what RecBole needs and stay.

    Issues: https://github.com/RUCAIBox/RecBole/issues/1604, https://github.com/RUCAIBox/RecBole/issues/2174 (numpy 2).
    """

    @contextlib.contextmanager
    def patched(_recbole: Any) -> Iterator[None]:
        import numpy as np

        for name, meaning in {"float": np.float64, "bool": np.bool_, "long": np.int_, "str": np.str_}.items():
            vars(np).setdefault(name, meaning)  # hasattr() would make numpy warn about some of its old names
        yield

    @contextlib.contextmanager
    def patched_config(configurator: Any) -> Iterator[None]:
        yield
        configurator.Config.compatibility_settings = lambda config: None

    patch_on_import("recbole", patched)
    patch_on_import("recbole.config.configurator", patched_config)


def patch_ray_import() -> None:
    """``import recbole.quick_start`` fails without ray, and with the ray that RecBole allows on today's libraries.

    recbole/quick_start/quick_start.py:20 imports ``ray.tune`` for one call, ``tune.report`` at line 223. RecBole allows
    ray <= 2.6.3, which cannot be imported with setuptools >= 82 (no ``pkg_resources``) or numpy >= 2 (no ``np.bool8``).
    That module, and no other, is given ``ray_tune_stand_in()`` instead, whether or not ray works: to find out would
    take an import, which costs seconds where it works and leaves half of ray in sys.modules where it fails.

    Issues: https://github.com/RUCAIBox/RecBole/issues/1518 (no ray), https://github.com/RUCAIBox/RecBole/issues/2215.
    """

    @contextlib.contextmanager
    def patched(quick_start: Any) -> Iterator[None]:
        # The import statements of a module, and of the functions in it, call the __import__ of its own __builtins__.
        # A stand-in in sys.modules would be seen by whatever else is imported meanwhile, in every thread.
        quick_start.__builtins__ = {**vars(builtins), "__import__": _import_for_quick_start}
        yield
        quick_start.tune = ray_tune_stand_in()  # for a module that was imported before us

    patch_on_import("recbole.quick_start.quick_start", patched)


def _import_for_quick_start(name: str, *args: Any) -> Any:
    if name == "ray":
        return types.SimpleNamespace(tune=ray_tune_stand_in())
    if name == "torch":
        return _torch_with(_load_checkpoint_anywhere)
    return builtins.__import__(name, *args)


def ray_tune_stand_in() -> Any:
    """What ``recbole.quick_start`` sees as ``ray.tune``.

    Its ``report`` does nothing outside a ray search; RecBole calls it from every ``objective_function``, also from
    HyperTuning, which knows nothing of ray. Everything else is looked up in the real ``ray.tune``.

    Raises:
        RayMissingError: when anything but ``report`` is asked for and ray cannot be imported.
    """

    def report(**metrics: Any) -> None:
        tune = sys.modules.get("ray.tune")  # a process that runs a ray search has imported it
        if tune is None:
            return
        parameters = inspect.signature(tune.report).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            tune.report(**metrics)
        else:  # a ray newer than RecBole knows takes one dict
            tune.report(metrics)

    def look_up(name: str) -> Any:
        if name.startswith("__"):  # hasattr(tune, "__wrapped__") and the like mean the stand-in and must not import ray
            raise AttributeError(name)
        try:
            tune = importlib.import_module("ray.tune")
        except Exception as error:  # a ray too old for numpy or setuptools fails with whatever its first fault raises
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise RayMissingError(
                f"ray.tune.{name}: a ray search was asked for, but ray cannot be imported ({reason}); "
                "RecBole's HyperTuning works without ray"
            ) from error
        return getattr(tune, name)

    made: Any = types.ModuleType("ray.tune")
    made.report, made.__getattr__ = report, look_up
    return made


def patch_checkpoint_loading() -> None:
    """RecBole cannot read its own checkpoints with torch >= 2.6, where ``torch.load`` refuses all but tensors.

    A checkpoint holds the pickled Config. The calls at recbole/trainer/trainer.py:323 (resume_checkpoint) and 583
    (evaluate) and recbole/quick_start/quick_start.py:250 (load_data_and_model) read with
    :mod:`~recbole_gr.integration.safe_pickle`, which makes what RecBole's checkpoints hold and runs nothing. The last one
    also reads what a GPU saved on a machine without one, which RecBole left out.

    Issue: https://github.com/RUCAIBox/RecBole/issues/2215.
    """

    @contextlib.contextmanager
    def patched_trainer(trainer_package: Any) -> Iterator[None]:
        yield
        # After the package has run, so that its "from recbole.trainer.trainer import *" does not pass this torch on.
        vars(sys.modules["recbole.trainer.trainer"])["torch"] = _torch_with(_load_checkpoint, save=_save_checkpoint)

    @contextlib.contextmanager
    def patched_quick_start(quick_start: Any) -> Iterator[None]:
        yield
        load = quick_start.load_data_and_model
        if load.__builtins__ is not quick_start.__builtins__:
            # Imported before us: a function keeps the builtins it was made with. A copy takes ours, and the old one,
            # which others may hold by "from recbole.quick_start import load_data_and_model", calls the copy.
            quick_start._load_data_and_model = types.FunctionType(load.__code__, vars(quick_start))
            load.__code__ = _call_the_copy.__code__

    patch_on_import("recbole.trainer", patched_trainer)
    patch_on_import("recbole.quick_start.quick_start", patched_quick_start)


def _call_the_copy(model_file: str) -> Any:
    # a name of quick_start, whose globals this code is given
    return _load_data_and_model(model_file)  # type: ignore[name-defined]  # noqa: F821


def _torch_with(load: Callable[..., Any], **others: Callable[..., Any]) -> Any:
    """The module torch with another ``load``, and perhaps other functions."""
    import torch

    return stand_in(torch, load=load, **others)


def _load_checkpoint(file: Any, map_location: Any) -> Any:
    from recbole_gr.integration.safe_pickle import load_torch

    return load_torch(file, map_location)


def _save_checkpoint(state: Any, path: str, **options: Any) -> None:
    """RecBole opens the file and writes on: who reads it meanwhile, and whoever is left with it after a kill, has half of it."""
    from recbole_gr.integration.run_files import save_checkpoint

    save_checkpoint(state, path, **options)


def _load_checkpoint_anywhere(file: Any) -> Any:
    import torch

    checkpoint = _load_checkpoint(file, "cpu")  # the GPU that it was saved on may not be here; the model takes it along
    if changes := CHECKPOINT_SETTINGS.get():
        from recbole_gr.integration.checkpoints import change_settings

        change_settings(checkpoint["config"], changes)
    device, gpus = checkpoint["config"]["device"], torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not gpus:
        checkpoint["config"]["device"] = torch.device("cpu")  # where load_data_and_model then moves the model to
    elif device.type == "cuda" and (device.index or 0) >= gpus:
        checkpoint["config"]["device"] = torch.device("cuda")
    return checkpoint


def patch_dok_matrix() -> None:
    """LightGCN, NGCF, NCL, GCMC, SpectralCF, KGIN and MCCLK need ``dok_matrix._update``, gone since scipy 1.13.

    They fill an empty matrix with it (recbole/model/general_recommender/lightgcn.py:111 and the like). The method is
    put back if scipy has none, for models derived from these too; nothing that scipy has is changed.

    Issues: https://github.com/RUCAIBox/RecBole/issues/2090, https://github.com/RUCAIBox/RecBole/issues/2185.
    """

    @contextlib.contextmanager
    def patched(sparse: Any) -> Iterator[None]:
        yield
        if not hasattr(sparse.dok_matrix, "_update"):
            sparse.dok_matrix._update = lambda matrix, entries: matrix._dict.update(entries)

    patch_on_import("scipy.sparse", patched)


def patch_list_metrics() -> None:
    """ItemCoverage, GiniIndex, AveragePopularity and TailPercentage cannot be measured: 'int' has no attribute 'cpu'.

    ``Collector.get_data_struct`` (evaluator/collector.py:227) moves all it has to the CPU, the number of items and the
    popularity counter of those metrics too. Here they are set aside meanwhile.
    """

    @contextlib.contextmanager
    def patched(collector: Any) -> Iterator[None]:
        yield
        original = collector.Collector.get_data_struct

        def get_data_struct(self: Any) -> Any:
            held = self.data_struct._data_dict
            aside = {key: held.pop(key) for key in list(held) if not hasattr(held[key], "cpu")}
            result = original(self)
            held.update(aside)
            result._data_dict.update(aside)
            return result

        collector.Collector.get_data_struct = functools.wraps(original)(get_data_struct)

    patch_on_import("recbole.evaluator.collector", patched)


def patch_popularity() -> None:
    """Pop counts an item once per batch, and items sampled as negatives like the others: its ranking depends on the seed.

    It counts by ``self.item_cnt[item, :] = self.item_cnt[item, :] + 1`` (model/general_recommender/pop.py:47), which
    assigns equal items of a batch the same sum, and looks at no label, though RecBole's default draws a negative item for
    every interaction. On ml-100k its Recall@5 varied between seeds by a quarter. Here every interaction counts, once.
    """

    @contextlib.contextmanager
    def patched(pop: Any) -> Iterator[None]:
        yield
        original = pop.Pop.__init__

        def __init__(self: Any, config: Any, dataset: Any) -> None:
            original(self, config, dataset)
            self.LABEL = config["LABEL_FIELD"]

        def calculate_loss(self: Any, interaction: Any) -> Any:
            item = interaction[self.ITEM_ID]
            positive = interaction[self.LABEL] > 0 if self.LABEL in interaction else item > 0
            self.item_cnt.index_add_(0, item, positive.long().unsqueeze(1))
            self.max_cnt = self.item_cnt.max(dim=0)[0]
            return self.fake_loss.new_zeros(1, requires_grad=True)

        pop.Pop.__init__, pop.Pop.calculate_loss = functools.wraps(original)(__init__), calculate_loss

    patch_on_import("recbole.model.general_recommender.pop", patched)


def patch_anomaly_detection() -> None:
    """Every model of RecBole trains in torch's debugging mode, which is slow, because one of them turned it on.

    ``torch.autograd.set_detect_anomaly(True)`` stands at the top of model/sequential_recommender/sine.py:25, and whatever
    model of that package is asked for, all of them are imported. Then each operation keeps the python traceback that it was
    made at, and in the backward pass the gradient of each is searched for NaN, for which a GPU has to be waited for: 54
    times in a step of a small TIGER. Losses and gradients are the same without. Here the import leaves the mode as it was;
    who wants it turns it on afterwards.
    """

    @contextlib.contextmanager
    def patched(sine: Any) -> Iterator[None]:
        import torch

        before = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
        imported_before = hasattr(sine, "SINE")
        yield
        torch.autograd.set_detect_anomaly(*((False, True) if imported_before else before))

    patch_on_import("recbole.model.sequential_recommender.sine", patched)


def patch_exhaustive_search() -> None:
    """``HyperTuning(algo="exhaustive")``, its default, fails: 'RandomState' object has no attribute 'integers'.

    ``exhaustive_search`` (trainer/hyper_tuning.py:97) hands hyperopt >= 0.2.7 numpy's old random state. It draws at random
    until something new comes, a thousand times in vain at most, and so may leave combinations of a large space out; and a
    space with ranges, which have no end, it takes for one of a single trial. Here the combinations come in their order, each
    once, with a value drawn of each range, which a warning says. As before, ``early_stop`` trials without a better one end the search; ``early_stop`` above
    the number of combinations goes through all of them.
    """

    @contextlib.contextmanager
    def patched(hyper_tuning: Any) -> Iterator[None]:
        yield
        hyper_tuning.exhaustive_search = exhaustive_search
        hyper_tuning._spacesize = count_combinations

    patch_on_import("recbole.trainer.hyper_tuning", patched)


def exhaustive_search(new_ids: Sequence[int], domain: Any, trials: Any, seed: int, nbMaxSucessiveFailures: int = 0) -> list:
    """The next combinations of choices, as hyperopt asks for trials; none when all were tried.

    Args:
        new_ids: numbers of the trials that are wanted.
        domain: hyperopt's form of the space.
        trials: those so far, and what makes new ones.
        seed: of the values that are drawn of ranges.
        nbMaxSucessiveFailures: not used; as RecBole's function has it.

    Returns:
        Trials in hyperopt's form.
    """
    import numpy as np
    from hyperopt.base import miscs_update_idxs_vals
    from hyperopt.pyll.stochastic import sample

    rng = np.random.default_rng(seed)
    number = len(trials.trials)
    found = []
    for new_id, combination in zip(new_ids, itertools.islice(_combinations(domain.expr), number, None)):
        misc = {"tid": new_id, "cmd": domain.cmd, "workdir": domain.workdir}
        chosen: dict[str, list[Any]] = {name: [] for name in domain.params}
        for name, option in combination.items():
            chosen[name] = [sample(domain.params[name], rng).item() if option is None else option]
        miscs_update_idxs_vals([misc], {name: [new_id] * len(values) for name, values in chosen.items()}, chosen)
        found += trials.new_trial_docs([new_id], [None], [domain.new_result()], [misc])
    return found


def _combinations(node: Any) -> Iterator[dict[str, int | None]]:
    """The number of the option by the name of its choice, None of a range; those inside an option only where it is taken."""
    if node.name == "switch":  # what hp.choice makes: the parameter, then its options
        name = node.pos_args[0].pos_args[0].obj
        for number, option in enumerate(node.pos_args[1:]):
            for inner in _combinations(option):
                yield {name: number, **inner}
    elif node.name == "hyperopt_param":
        yield {node.pos_args[0].obj: None}
    else:
        parts = [list(_combinations(part)) for part in node.inputs()]
        for chosen in itertools.product(*parts):
            yield {name: number for part in chosen for name, number in part.items()}


def count_combinations(space: Any) -> int:
    """How many combinations the choices of a space have; a warning names its ranges, of which all values cannot be tried."""
    from hyperopt.pyll.base import as_apply

    combinations = list(_combinations(as_apply(space)))
    ranges = sorted({name for combination in combinations for name, option in combination.items() if option is None})
    if ranges:
        logging.getLogger().warning(
            f"algo='exhaustive': each combination of the choices is tried once, with one value drawn of {', '.join(ranges)}"
        )
    return len(combinations)


def quiet_recbole_warnings() -> None:
    """Each run with torch >= 2.4 and pandas >= 2.2 shows warnings that only RecBole's authors can act upon.

    Quiet are the ones named here, raised by a line of RecBole; the same warning raised elsewhere is still shown, and so
    is every other. That torch will read ``scores[[rows, columns]]`` differently some day (general_recommender/
    multivae.py:117 and its like) is not quiet: RecBole's result depends on it.
    """
    for category, module, message in (
        (FutureWarning, "data", "A value is trying to be set on a copy of a DataFrame"),  # data/dataset/dataset.py:648
        (FutureWarning, "data", "using <built-in function len> in Series.agg"),  # data/dataset/dataset.py:1217
        (FutureWarning, "trainer", "`torch.cuda.amp."),  # trainer/trainer.py:235, 1440, 1453
        (UserWarning, "model", "torch.sparse.SparseTensor"),  # model/.../lightgcn.py:125
        (UserWarning, "model", "Creating a tensor from a list of numpy.ndarrays"),  # model/.../gcmc.py:186
    ):
        warnings.filterwarnings("ignore", re.escape(message), category, rf"recbole\.{module}\.")


class _PatchedImports(importlib.abc.MetaPathFinder):
    """Wraps the execution of some modules in their patches: context managers that are given the module."""

    def __init__(self) -> None:
        self.patches: dict[str, list[Patch]] = {}

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None) -> Any:
        if name not in self.patches:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def execute_patched(module: types.ModuleType) -> None:
                with contextlib.ExitStack() as stack:
                    for patched in self.patches[name]:
                        stack.enter_context(patched(module))
                    execute(module)

            loader.exec_module = execute_patched
        return spec


_PATCHED_IMPORTS = _PatchedImports()


def patch_on_import(name: str, patched: Patch) -> None:
    """Patch a module when it is imported, or now if it already was."""
    _PATCHED_IMPORTS.patches.setdefault(name, []).append(patched)
    if name in sys.modules:
        with patched(sys.modules[name]):
            pass
