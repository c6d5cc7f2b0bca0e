"""Run a model, ours or RecBole's, and record what came out."""

import os
from collections.abc import Mapping, Sequence
from inspect import signature
from logging import getLogger
from typing import Any

import recbole.quick_start.quick_start
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.transform import construct_transform
from recbole.utils import dict2str, get_environment, get_trainer, init_seed, set_color

from recbole_gr.data.catalogue import topk_checked_early
from recbole_gr.data.data_digest import data_digest
from recbole_gr.experiment.console import attach_checkpoint, start_log
from recbole_gr.experiment.flops import training_flops
from recbole_gr.experiment.monitor import Progress, add_cpu_of_other_processes, monitor_epochs
from recbole_gr.experiment.record import build_record, write_record
from recbole_gr.experiment.target_ranks import (
    cold_target_recall,
    collect_target_ranks,
    gathered_batches,
    quantised_ids,
    target_ranks_table,
)
from recbole_gr.integration.config import errors_name_places, make_config
from recbole_gr.integration.config_checks import check_training_settings
from recbole_gr.integration.making import make_model
from recbole_gr.integration.plugin import is_history_model
from recbole_gr.integration.resume import read_training_state, restore_training_state, save_training_state
from recbole_gr.integration.run_files import check_space
from recbole_gr.utils.atomic_files import remove_leftovers
from recbole_gr.utils.memory import keep_freed_memory
from recbole_gr.utils.process_group import ends_all, own_place
from recbole_gr.utils.processes import from_first, rank
from recbole_gr.utils.stopwatch import add_cost, add_rates, cost_since, stopwatch


def run(
    model: str | type = "TIGER",
    dataset: str = "ml-100k",
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    *,
    saved: bool = True,
) -> dict[str, Any]:
    """Train a model, measure it on validation and test data, and write a run record.

    The same as RecBole's ``run_recbole``, with one protocol for all models that rank the catalogue
    (``properties/overall.yaml``), resuming (``resume``), and the record (``record_dir``).

    Args:
        model: any model of ours or of RecBole, ``"package.module:Class"``, or a class.
        dataset: name of a folder under ``data_path`` with atomic files.
        config_file_list: yaml files, or names of recipes; settings from the command line and ``config_dict`` come first.
        config_dict: settings.
        saved: keep the best checkpoint, and test with it.

    Returns:
        RecBole's result (``best_valid_score``, ``valid_score_bigger``, ``best_valid_result``, ``test_result``),
        ``record``, the path of the run record, and ``checkpoint``, that of the best model. Of processes that torchrun started
        the first one has both paths.

    Raises:
        RecBoleGRError: a setting or a file cannot work; one line, before any long work.
        DiskError: a file could not be written; its ``checkpoint`` is what the run can be resumed from, or None.
    """
    place = own_place()
    if place is None:
        return _run_here(model, dataset, config_file_list, config_dict, saved)
    with ends_all(place):
        return _run_here(model, dataset, config_file_list, {**(config_dict or {}), **place.settings()}, saved)


def _run_here(model: Any, dataset: str, config_file_list: Any, config_dict: Any, saved: bool) -> dict[str, Any]:
    """Run in this process, alone or as one of a group."""
    config = make_config(model, dataset, config_file_list, config_dict)
    state = from_first(lambda: read_training_state(config["resume"])) if config["resume"] else None
    with errors_name_places(config):
        return _run(config, state, saved)


def _run(config: Config, state: dict[str, Any] | None, saved: bool) -> dict[str, Any]:
    check_training_settings(config)
    keep_freed_memory()
    remove_leftovers(config[key] for key in ("checkpoint_dir", "record_dir", "cache_dir"))
    init_seed(config["seed"], config["reproducibility"])
    start_log(config)
    logger = getLogger()

    progress = Progress()
    stages = progress.stages
    with stopwatch(stages, "data"), topk_checked_early():
        dataset = create_dataset(config)
        digest = data_digest(dataset)
        logger.info(dataset)
        loaders = train_data, valid_data, test_data = data_preparation(config, dataset)
    stages.update(getattr(dataset, "stages", {}))

    init_seed(config["seed"], config["reproducibility"])
    model = make_model(config, train_data._dataset)
    if rank() != 0:  # the same model everywhere, and from here on random numbers of its own for each process
        init_seed(config["seed"] + rank(), config["reproducibility"])
    logger.info(model)
    flops = recbole.quick_start.quick_start.get_flops(model, dataset, config["device"], logger, construct_transform(config))
    logger.info(set_color("FLOPs", "blue") + f": {flops}")
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.data_digest = digest
    if saved and hasattr(model, "state_dict"):  # decision trees have none
        check_space(trainer)
    monitor_epochs(trainer, progress)
    with attach_checkpoint(trainer):
        ranks, test_result = _train_and_test(trainer, state, loaders, saved=saved, ids=quantised_ids(dataset))
    add_rates(stages, _counts(trainer, *loaders))

    logger.info("The running environment of this training is as follows:\n" + get_environment(config).draw())
    logger.info(set_color("best valid ", "yellow") + f": {dict2str(trainer.best_valid_result or {})}")
    logger.info(set_color("test result", "yellow") + f": {dict2str(test_result or {})}")
    result = {
        "best_valid_score": trainer.best_valid_score,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": trainer.best_valid_result,
        "test_result": test_result,
    }
    if rank() == 0 and saved and os.path.isfile(trainer.saved_model_file):
        result["checkpoint"] = trainer.saved_model_file
    ranks = gathered_batches(ranks)
    add_cost(stages, "whole", cost_since(progress.start))
    processes = add_cpu_of_other_processes(stages)
    if rank() == 0 and config["record_dir"]:
        record = build_record(config, dataset, loaders, model, result=result, progress=progress)
        if is_history_model(type(model)):
            record["training_flops"] = training_flops(config, model, train_data, len(progress.learning_curve))
        if len(processes) > 1:
            record["processes"] = processes
        if getattr(trainer, "valid_users", None):
            record["valid_users"] = trainer.valid_users
        table = target_ranks_table(ranks, loaders) if ranks else None
        if table is not None:
            record["cold_targets"] = cold_target_recall(table, config["topk"])
        with attach_checkpoint(trainer):
            result["record"] = write_record(record, config["record_dir"], config["record_name"], table)
        logger.info(set_color("run record ", "yellow") + f": {result['record']}")
    return result


def _train_and_test(
    trainer: Any, state: dict[str, Any] | None, loaders: Sequence[Any], *, saved: bool, ids: Any
) -> tuple[Any, Any]:
    """Train, or go on from a state; then test the best checkpoint.

    Returns:
        The batches of target ranks, and the test's metrics.
    """
    train_data, valid_data, test_data = loaders
    config, progress = trainer.config, trainer.progress
    ours = is_history_model(type(trainer.model))
    if state is not None and state.get("progress") and rank() == 0:  # whose record is that of all
        progress.go_on_from(state["progress"], state["epoch"])
    if state is None or restore_training_state(state, trainer, train_data):
        callback = (lambda epoch, _: save_training_state(trainer, train_data, epoch)) if saved else None
        takes_callback = ours or "callback_fn" in signature(trainer.fit).parameters
        options = {"callback_fn": callback} if takes_callback else {}  # RecBole's decision trees have no epochs to call it
        trainer.fit(train_data, valid_data, saved=saved, show_progress=config["show_progress"], **options)
    else:
        getLogger().info("The interrupted run had already finished training; only the test remains.")
        trainer.eval_collector.data_collect(train_data)
        if ours:
            trainer.validate_best(valid_data, config["show_progress"])
    with stopwatch(progress.stages, "test"), collect_target_ranks(trainer, max(config["topk"]), ids) as ranks:
        result = trainer.evaluate(test_data, load_best_model=saved, show_progress=config["show_progress"])
    return ranks, result


def _counts(trainer: Any, train_data: Any, valid_data: Any, test_data: Any) -> dict[str, int]:
    """By stage, the samples or users that it goes through once."""
    ours = is_history_model(type(trainer.model))
    return {
        "training": train_data.batches.n_samples if ours else len(train_data._dataset),
        "validation": len((trainer.valid_sample(valid_data) if ours else valid_data)._dataset),
        "validation_of_all_users": len(valid_data._dataset),
        "test": len(test_data._dataset),
    }
