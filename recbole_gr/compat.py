"""What RecBole 1.2.1 needs on today's numpy, torch, scipy, pandas and ray.

One function mends one fault and says in its docstring what breaks, where, and since which version of the library.
``apply`` calls them all; ``import recbole_gr`` calls ``apply``. File and line numbers are those of RecBole 1.2.1.

Where the fault lies in one RecBole module, that module is mended as it is imported (or at once, if it already was):
so ``apply`` imports nothing slow, and nobody but that module sees a difference.
"""

import builtins
import contextlib
import importlib
import importlib.abc
import sys
import types
import warnings

from recbole_gr.errors import RecBoleGRError


class RayMissingError(RecBoleGRError):
    """More of ray than ``tune.report`` was asked for through RecBole, and ray cannot be imported."""


def apply():
    """Mends all that RecBole 1.2.1 needs. Cheap; calling it again changes nothing."""
    if _MENDED_IMPORTS in sys.meta_path:
        return
    sys.meta_path.insert(0, _MENDED_IMPORTS)
    mend_numpy_names()
    mend_ray_import()
    mend_checkpoint_loading()
    mend_dok_matrix()
    quiet_recbole_warnings()


def mend_numpy_names():
    """No Config can be built with numpy >= 2.0, which has no ``np.float_``, ``np.complex_`` and ``np.unicode_``.

    ``Config.compatibility_settings`` (recbole/config/configurator.py:625-635) reads them to bring back ``np.float`` and
    other names that numpy 1.24 dropped and RecBole uses (data/interaction.py:31, evaluator/metrics.py:90,
    model/layers.py:932, trainer/hyper_tuning.py:386, ...). In its place the names that RecBole uses are set where
    numpy lacks them; numpy 2's own ``np.bool`` and ``np.long`` mean what RecBole needs and stay. They are also set when
    the module is imported, because a Config that comes out of a checkpoint is never initialised.

    Issues: https://github.com/RUCAIBox/RecBole/issues/2215 (numpy 2), https://github.com/RUCAIBox/RecBole/issues/1604.
    """

    @contextlib.contextmanager
    def mended(configurator):
        yield
        _set_numpy_names()
        configurator.Config.compatibility_settings = lambda config: _set_numpy_names()

    _mend_on_import("recbole.config.configurator", mended)


def _set_numpy_names():
    import numpy as np

    for name, meaning in {"float": np.float64, "bool": np.bool_, "long": np.int_, "str": np.str_}.items():
        vars(np).setdefault(name, meaning)  # hasattr() would make numpy warn about some of its old names


def mend_ray_import():
    """``import recbole.quick_start`` fails without ray, and with the ray that RecBole allows on today's libraries.

    recbole/quick_start/quick_start.py:20 imports ``ray.tune`` for one call, ``tune.report`` at line 223. RecBole allows
    ray <= 2.6.3, which cannot be imported with setuptools >= 81 (no ``pkg_resources``) or numpy >= 2 (no ``np.bool8``).
    That module, and no other, is given ``ray_tune_stand_in()`` instead. It is given it whether or not ray works: to find
    out would take an import, which costs seconds where it works and leaves half of ray in sys.modules where it fails.

    Issues: https://github.com/RUCAIBox/RecBole/issues/2215, https://github.com/RUCAIBox/RecBole/pull/2078.
    """

    @contextlib.contextmanager
    def mended(quick_start):
        # The import statements of a module, and of the functions in it, call the __import__ of its own __builtins__.
        # A stand-in in sys.modules would be seen by whatever else is imported meanwhile, in every thread.
        quick_start.__builtins__ = {**vars(builtins), "__import__": _import_for_quick_start}
        yield

    _mend_on_import("recbole.quick_start.quick_start", mended)


def _import_for_quick_start(name, *args):
    if name == "ray":
        return types.SimpleNamespace(tune=ray_tune_stand_in())
    if name == "torch":
        return _torch_with(_load_checkpoint_anywhere)
    return builtins.__import__(name, *args)


def ray_tune_stand_in():
    """What ``recbole.quick_start`` sees as ``ray.tune``.

    Its ``report`` does nothing outside a ray search; RecBole calls it from every ``objective_function``, also from
    HyperTuning, which knows nothing of ray. Everything else is looked up in the real ``ray.tune``.

    Raises:
        RayMissingError: when anything but ``report`` is asked for and ray cannot be imported.
    """

    def report(**metrics):
        if "ray.tune" in sys.modules:  # a process that runs a ray search has imported it
            sys.modules["ray.tune"].report(**metrics)

    def look_up(name):
        try:
            return getattr(importlib.import_module("ray.tune"), name)
        except Exception as error:  # a ray too old for numpy or setuptools fails with whatever its first fault raises
            raise RayMissingError(
                f"ray.tune.{name}: a ray search was asked for, but ray cannot be imported "
                f"({type(error).__name__}: {error}); RecBole's HyperTuning works without ray"
            ) from error

    stand_in = types.ModuleType("ray.tune")
    stand_in.report, stand_in.__getattr__ = report, look_up
    return stand_in


def mend_checkpoint_loading():
    """RecBole cannot read its own checkpoints with torch >= 2.6, where ``torch.load`` refuses all but tensors.

    A checkpoint holds the pickled Config. The calls at recbole/trainer/trainer.py:323 (resume_checkpoint) and 583
    (evaluate) and recbole/quick_start/quick_start.py:250 (load_data_and_model), and no others, read with
    ``weights_only=False``. The last one also reads what a GPU saved on a machine without one, which RecBole left out.

    Issue: https://github.com/RUCAIBox/RecBole/issues/2215.
    """

    @contextlib.contextmanager
    def mended_trainer(trainer):
        yield
        trainer.torch = _torch_with(_load_checkpoint)

    @contextlib.contextmanager
    def mended_quick_start(quick_start):
        yield
        load_data_and_model = quick_start.load_data_and_model
        if load_data_and_model.__builtins__ is quick_start.__builtins__:
            return
        # The module was imported before us: its function keeps the builtins it was made with, a new one takes ours.
        renewed = types.FunctionType(load_data_and_model.__code__, vars(quick_start), "load_data_and_model")
        quick_start.load_data_and_model = sys.modules["recbole.quick_start"].load_data_and_model = renewed

    _mend_on_import("recbole.trainer.trainer", mended_trainer)
    _mend_on_import("recbole.quick_start.quick_start", mended_quick_start)


def _torch_with(load):
    """The module torch with another ``load``."""
    import torch

    stand_in = types.ModuleType("torch")
    stand_in.load, stand_in.__getattr__ = load, lambda name: getattr(torch, name)
    return stand_in


def _load_checkpoint(file, map_location):
    import torch

    return torch.load(file, map_location=map_location, weights_only=False)


def _load_checkpoint_anywhere(file):
    import torch

    return _load_checkpoint(file, None if torch.cuda.is_available() else "cpu")


def mend_dok_matrix():
    """LightGCN, NGCF, NCL, GCMC, SpectralCF, KGIN and MCCLK fill a graph by ``dok_matrix._update``, gone in scipy 1.12.

    They pass a dict of (row, column) to value, which is what a dok_matrix keeps inside. For example
    recbole/model/general_recommender/lightgcn.py:111.

    Issue: https://github.com/RUCAIBox/RecBole/issues/2215.
    """
    from scipy.sparse import dok_matrix

    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = lambda matrix, entries: matrix._dict.update(entries)


def quiet_recbole_warnings():
    """Warnings of torch and pandas about RecBole's own lines tell its users nothing; those of other code stay.

    ``torch.cuda.amp`` (trainer/trainer.py:235, 1440, 1453) and ``feat[field].fillna(..., inplace=True)``
    (data/dataset/dataset.py:554, 648) are announced to go; the pinned versions have them.
    """
    for category, module in ((FutureWarning, r"recbole\.trainer\."), (FutureWarning, r"recbole\.data\.")):
        warnings.filterwarnings("ignore", category=category, module=module)


class _MendedImports(importlib.abc.MetaPathFinder):
    """Wraps the execution of some modules in their mendings: context managers that are given the module."""

    def __init__(self):
        self.mendings = {}

    def find_spec(self, name, path=None, target=None):
        if name not in self.mendings:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None:
            execute = spec.loader.exec_module

            def execute_mended(module):
                with contextlib.ExitStack() as stack:
                    for mended in self.mendings[name]:
                        stack.enter_context(mended(module))
                    execute(module)

            spec.loader.exec_module = execute_mended
        return spec


_MENDED_IMPORTS = _MendedImports()


def _mend_on_import(name, mended):
    """Mend a module when it is imported, or now if it already was."""
    _MENDED_IMPORTS.mendings.setdefault(name, []).append(mended)
    if name in sys.modules:
        with mended(sys.modules[name]):
            pass
