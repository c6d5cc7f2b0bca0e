"""Everything RecBole must know of us.

RecBole finds models, trainers and datasets by name; the places where it looks ask our registry first. What has no such place
is wrapped, each wrap as small as it can be with its reason beside it. Nothing of RecBole is copied, and nothing is imported
before RecBole imports it (:func:`recbole_gr.integration.compat.patch_on_import`).
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from recbole_gr.integration import filters
from recbole_gr.integration.checkpoint_tokens import keep_tokens, refuse_to_go_on
from recbole_gr.integration.compat import patch_on_import
from recbole_gr.integration.eval_batches import with_users_that_fit
from recbole_gr.integration.reading import read_as_people_write, with_checked_header
from recbole_gr.integration.run_files import name_logs, name_trainers, write_whole
from recbole_gr.models.registry import check_model_name, find_spec, load
from recbole_gr.utils.errors import DataError, SettingError

_applied = False


def apply() -> None:
    """Make RecBole find our models. Safe to call more than once."""
    global _applied
    if _applied:
        return
    _applied = True
    _after("recbole.utils.utils", _find_models)
    _after("recbole.utils.utils", lambda module: _wrap(module, "get_environment", _without_a_wait))
    _after("recbole.config.configurator", _know_our_settings)
    _after("recbole.data.dataset", functools.partial(_find_parts, part="dataset"))
    _after("recbole.trainer", functools.partial(_find_parts, part="trainer"))
    _after("recbole.data.dataset.dataset", _read_as_we_do)
    _after("recbole.data.dataset.dataset", lambda module: _wrap(module.Dataset, "_data_processing", _with_enough_items))
    _after("recbole.data.dataset.dataset", lambda module: _wrap(module.Dataset, "_remap_ID_all", _with_items_of_the_file))
    _after("recbole.data.utils", _load_as_we_do)
    _after("recbole.model.abstract_recommender", keep_tokens)
    _after("recbole.trainer.trainer", refuse_to_go_on)
    _after("recbole.trainer.trainer", name_trainers)
    _after("recbole.utils.logger", name_logs)
    _after("recbole.data.utils", write_whole)
    _after("recbole.data.dataset.dataset", write_whole)
    _after("recbole.trainer.trainer", lambda module: _wrap(module.Trainer, "fit", _of_enough_items))
    _after(
        "recbole.data.dataloader.general_dataloader",
        lambda module: _wrap(module.FullSortEvalDataLoader, "collate_fn", _with_equal_exclusion),
    )
    for loader in ("FullSortEvalDataLoader", "NegSampleEvalDataLoader"):
        _after("recbole.data.dataloader.general_dataloader", functools.partial(_of_users_that_fit, name=loader))
    _after("recbole.quick_start.quick_start", _start_as_we_do)
    _after("recbole.utils.case_study", _rank_as_measured)


def is_history_model(model_class: type) -> bool:
    """Whether it is a network of ours over histories, which our loader and trainer train."""
    from recbole_gr.models.history_recommender import HistoryRecommender

    return issubclass(model_class, HistoryRecommender)


def _after(name: str, change: Callable[[Any], Any]) -> None:
    """Change a module of RecBole once it has been imported, or now if it already was."""

    @contextlib.contextmanager
    def patched(module: Any) -> Iterator[None]:
        yield
        change(module)

    patch_on_import(name, patched)


def _wrap(owner: Any, name: str, make_wrapper: Callable) -> None:
    original = getattr(owner, name)
    setattr(owner, name, functools.wraps(original)(make_wrapper(original)))


def _find_models(utils: Any) -> None:
    """RecBole looks for a model in its own folders, and says of an unknown name only that lightgbm is missing."""
    original = utils.get_model

    @functools.wraps(original)
    def get_model(model_name: str) -> type:
        spec = find_spec(model_name)
        if spec is not None:
            return load(spec.model)
        check_model_name(model_name)
        try:
            return original(model_name)
        except ModuleNotFoundError as error:
            raise SettingError("model", model_name, f"needs the package {error.name}, which is not installed") from error

    _replace_everywhere("get_model", original, get_model)
    utils.get_model = get_model


def _replace_everywhere(name: str, original: Callable, ours: Callable) -> None:
    """Also in modules that took it by "from ... import" before we came."""
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get(name) is original:
            vars(module)[name] = ours


def _without_a_wait(original: Callable) -> Callable:
    """RecBole watches the processors for a second at the end of every run, to log how busy they are; psutil knows it since it
    was imported, or last asked, which is what the run took.
    """

    def get_environment(config: Any) -> Any:
        import psutil

        watch = psutil.cpu_percent
        psutil.cpu_percent = lambda interval=None, percpu=False: watch(None, percpu)
        try:
            return original(config)
        finally:
            psutil.cpu_percent = watch

    return get_environment


def _find_parts(package: Any, part: str) -> None:
    """RecBole asks these packages for ``<model>Dataset`` and ``<model>Trainer``; what they lack, the registry may have."""
    ending = part.capitalize()
    before = vars(package).get("__getattr__")

    def __getattr__(name: str) -> Any:
        spec = find_spec(name.removesuffix(ending)) if name.endswith(ending) and name != ending else None
        if spec is not None and getattr(spec, part) is not None:
            return load(getattr(spec, part))
        if before is not None:
            return before(name)
        raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")

    package.__getattr__ = __getattr__


def _know_our_settings(configurator: Any) -> None:
    """Config reads the property files beside its own source only; our defaults come after them."""

    def with_our_defaults(original: Callable) -> Callable:
        def load_internal(self: Any, model: str, model_class: type, dataset: str) -> None:
            from recbole_gr.integration.config import add_defaults

            original(self, model, model_class, dataset)
            add_defaults(self, model, model_class, dataset)

        return load_internal

    def with_merged_parts(original: Callable) -> Callable:
        def get_final(self: Any) -> dict[str, Any]:
            from recbole_gr.integration.config import holds_protocol, merge_with_defaults

            final = original(self)
            ours = holds_protocol(self.model_class)
            return merge_with_defaults(self, final) if ours else final

        return get_final

    def with_checks(original: Callable) -> Callable:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            from recbole_gr.integration.config import check_plain_config

            original(self, *args, **kwargs)
            if is_history_model(self.model_class):
                check_plain_config(self)

        return __init__

    def read_already(places: Callable[[str], bool]) -> Callable:
        """What our commands have read and checked is not read again by RecBole, which would evaluate it."""

        def wrapper(original: Callable) -> Callable:
            def read(self: Any, *args: Any) -> dict[str, Any]:
                from recbole_gr.integration.config import given_in

                ours = given_in(places)
                return original(self, *args) if ours is None else ours

            return read

        return wrapper

    in_files = read_already(lambda place: place not in ("in config_dict", "on the command line"))
    _wrap(configurator.Config, "_load_config_files", in_files)
    _wrap(configurator.Config, "_load_variable_config_dict", read_already(lambda place: place == "in config_dict"))
    _wrap(configurator.Config, "_load_cmd_line", read_already(lambda place: place == "on the command line"))
    _wrap(configurator.Config, "_load_internal_config_dict", with_our_defaults)
    _wrap(configurator.Config, "_get_final_config_dict", with_merged_parts)
    _wrap(configurator.Config, "__init__", with_checks)


def _read_as_we_do(module: Any) -> None:
    """Files as people have them, what is left out of them said, and the order of time exact."""
    read_as_people_write(module)
    for method, make_wrapper in (
        ("_load_feat", with_checked_header),
        ("_get_load_and_unload_col", filters.with_columns_in_use),
        ("_load_inter_feat", _with_ready_splits),
        ("_filter_nan_user_or_item", filters.with_counted_gaps),
        ("_filter_by_field_value", filters.with_intervals_that_work),
        ("_filter_inter_by_user_or_item", filters.with_counted_strangers),
        ("_reset_index", filters.with_something_left),
        ("_remap", _with_numbers_by_token),
        ("_fill_nan", filters.with_times_that_are_there),
        ("_change_feat_format", _with_exact_order),
        ("sort", _with_parts_in_order),
        ("build", _with_parts_as_given),
    ):
        _wrap(module.Dataset, method, make_wrapper)


def _with_ready_splits(original: Callable) -> Callable:
    """RecBole takes parts in files for histories that are made already, and knows no column that names the part."""

    def load_inter_feat(self: Any, token: str, dataset_path: str) -> None:
        from recbole_gr.data.ready_splits import load_interactions

        load_interactions(self, lambda: original(self, token, dataset_path))
        filters.check_id_types(self)
        filters.check_time_type(self)

    return load_inter_feat


def _with_numbers_by_token(original: Callable) -> Callable:
    """RecBole numbers users and items in the order of the rows, so that the same rows in another order give other results."""

    def remap(self: Any, remap_list: Any) -> None:
        from recbole_gr.data.numbering import number_by_token

        original(self, remap_list)
        if remap_list and self.config["numbering"] == "token":
            number_by_token(self, remap_list)

    return remap


def _with_exact_order(original: Callable) -> Callable:
    """RecBole sorts by time after rounding it to float32; a stable sort before the rounding keeps the exact order."""

    def change_feat_format(self: Any) -> Any:
        from recbole_gr.data.order import sort_interactions
        from recbole_gr.data.ready_splits import number_parts

        number_parts(self)
        sort_interactions(self)
        return original(self)

    return change_feat_format


def _with_enough_items(original: Callable) -> Callable:
    """RecBole asks ``torch.topk`` for k items of a smaller catalogue, and fails when the first epoch is validated."""

    def data_processing(self: Any) -> None:
        from recbole_gr.data.catalogue import check_topk, is_checked_early

        original(self)
        if is_checked_early():
            filters.check_labels(self)
            check_topk(self)

    return data_processing


def _of_enough_items(original: Callable) -> Callable:
    """As :func:`_with_enough_items`, of runs that RecBole's own functions begin."""

    def fit(self: Any, train_data: Any, *args: Any, **kwargs: Any) -> Any:
        from recbole_gr.data.catalogue import check_topk

        check_topk(train_data._dataset)
        filters.check_labels(train_data._dataset)
        return original(self, train_data, *args, **kwargs)

    return fit


def _with_parts_in_order(original: Callable) -> Callable:
    """Of a ready-made split, what is in a part comes after what is in the parts before, whatever its time."""

    def sort(self: Any, by: Any, ascending: Any = True) -> None:
        from recbole_gr.data.ready_splits import order_of

        original(self, order_of(self, by), ascending)

    return sort


def _with_parts_as_given(original: Callable) -> Callable:
    """A ready-made split is taken as it is, in place of the one of ``eval_args``; ``train_fraction`` leaves training targets out."""

    def build(self: Any) -> Any:
        from recbole_gr.data.ready_splits import PART, split_by_part
        from recbole_gr.data.train_fraction import with_train_fraction

        if PART not in self.field2type:
            return with_train_fraction(original(self))
        self._change_feat_format()
        return with_train_fraction(split_by_part(self))

    return build


def _with_items_of_the_file(original: Callable) -> Callable:
    """RecBole numbers the items of an ``.item`` file that nobody interacted with only where it loads columns of it."""

    def remap_all(self: Any) -> None:
        from recbole_gr.data.unseen_items import take_in_items

        filters.check_aliases(self)
        original(self)
        take_in_items(self)

    return remap_all


def _load_as_we_do(utils: Any) -> None:
    _wrap(utils, "save_split_dataloaders", _and_go_on)
    _wrap(utils, "load_split_dataloaders", _loaders_or_why_not)
    _wrap(utils, "create_dataset", _dataset_or_why_not)
    _wrap(utils, "get_dataloader", _with_length_grouping)
    _wrap(utils, "create_samplers", _with_seen_items)


def _and_go_on(original: Callable) -> Callable:
    """RecBole takes the random states off the loaders to write them, and leaves the run with loaders that have none."""

    def save_split_dataloaders(config: Any, dataloaders: Any) -> None:
        parts = [part for loader in dataloaders for part in (loader, loader.sampler)]
        held = [getattr(part, "generator", None) for part in parts]
        original(config, dataloaders)
        for part, generator in zip(parts, held):
            part.generator = generator

    return save_split_dataloaders


def _loaders_or_why_not(original: Callable) -> Callable:
    """RecBole is silent where the loaders that were asked for are of other settings."""

    def load_split_dataloaders(config: Any) -> Any:
        loaders = original(config)
        if loaders is None and config["dataloaders_save_path"]:
            _warn_made_anew("dataloaders_save_path", config)
        return loaders

    return load_split_dataloaders


def _dataset_or_why_not(original: Callable) -> Callable:
    """RecBole is silent where the dataset that was asked for is of other settings."""

    def create_dataset(config: Any) -> Any:
        dataset = original(config)
        if dataset.config is config and config["dataset_save_path"]:
            _warn_made_anew("dataset_save_path", config)
        return dataset

    return create_dataset


def _warn_made_anew(key: str, config: Any) -> None:
    from logging import getLogger

    getLogger().warning(f"{key}={config[key]!r} was made with other settings, or is not there; it is made anew.")


def _with_length_grouping(original: Callable) -> Callable:
    """RecBole chooses the training loader from a table inside the function."""

    def get_dataloader(config: Any, phase: str) -> Any:
        if phase == "train" and is_history_model(config.model_class):
            from recbole_gr.data.dataloader import LengthGroupedTrainDataLoader

            return LengthGroupedTrainDataLoader
        return original(config, phase)

    return get_dataloader


def _with_seen_items(original: Callable) -> Callable:
    """Here all parts of a split are at hand; a loader knows its own only."""

    def create_samplers(config: Any, dataset: Any, built_datasets: Any) -> Any:
        from recbole_gr.data.parts import check_parts, log_parts
        from recbole_gr.data.seen import add_seen_items
        from recbole_gr.integration.config import RANKING_TYPES

        if config["MODEL_TYPE"] in RANKING_TYPES and config["mask_seen"] is not None:
            log_parts(built_datasets)
            check_parts(built_datasets)
        if config["mask_seen"] is True and config["MODEL_TYPE"] in RANKING_TYPES:
            add_seen_items(built_datasets)
        try:
            return original(config, dataset, built_datasets)
        except ValueError as error:  # a user who had all items leaves none to be sampled
            raise DataError(
                f"RecBole cannot sample negative items of {config['dataset']}: {' '.join(str(error).split())}"
            ) from error

    return create_samplers


def _of_users_that_fit(module: Any, name: str) -> None:
    _wrap(getattr(module, name), "_init_batch_size_and_step", with_users_that_fit)


def _with_equal_exclusion(original: Callable) -> Callable:
    """RecBole excludes what a user had before for general models, targets spared, and not for sequential ones."""

    def collate_fn(self: Any, index: Any) -> Any:
        from recbole_gr.data.seen import with_own_histories

        interaction, history, positive_u, positive_i = original(self, index)
        if self.config["mask_seen"] is False:
            history = None
        elif self.config["mask_seen"] is True and hasattr(self._dataset, "seen_items"):
            seen = self._dataset.seen_items.of(interaction[self.uid_field].numpy())
            history = with_own_histories(seen, self._dataset, interaction)
        return interaction, history, positive_u, positive_i

    return collate_fn


def _rank_as_measured(case_study: Any) -> None:
    """RecBole's lists hold what was excluded when the model was measured, and places that no search was made for."""

    def make(name: str) -> Callable:
        original = getattr(case_study, name)

        @functools.wraps(original)
        def ours(*args: Any, **kwargs: Any) -> Any:
            from recbole_gr.integration import case_study as as_measured

            return getattr(as_measured, name)(*args, **kwargs)

        _replace_everywhere(name, original, ours)
        return ours

    for name in ("full_sort_scores", "full_sort_topk"):
        setattr(case_study, name, make(name))


def _start_as_we_do(quick_start: Any) -> None:
    _wrap(quick_start, "get_flops", _without_a_copy)
    quick_start.recboles_run_recboles = quick_start.run_recboles
    quick_start.run_recboles = run_recboles


def run_recboles(rank: int, *args: Any) -> None:
    """RecBole's ``run_recboles`` in a spawned process, which imports what it is to run, and by that makes us known there."""
    from recbole.quick_start import quick_start

    quick_start.recboles_run_recboles(rank, *args)


def _without_a_copy(original: Callable) -> Callable:
    """RecBole counts operations on a deep copy of the model, for which a large language model leaves no room."""

    def get_flops(model: Any, dataset: Any, device: Any, logger: Any, transform: Any, verbose: bool = False) -> Any:
        import torch

        if hasattr(model, "flops_per_user"):
            return model.flops_per_user(transform(dataset, dataset[torch.tensor([1])].to(device)))
        return original(model, dataset, device, logger, transform, verbose)

    return get_flops
