"""Run a model, ours or RecBole's, and write down what came out."""

import contextlib
import difflib
import importlib
import os
import sys
from inspect import signature
from logging import getLogger
from pathlib import Path
from time import perf_counter

import recbole.model
import recbole.quick_start.quick_start
import torch.distributed as dist
import yaml
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.transform import construct_transform
from recbole.utils import dict2str, get_environment, get_model, get_trainer, init_logger, init_seed, set_color

from recbole_gr.utils.errors import SettingError
from recbole_gr.experiment.target_ranks import gathered_batches, hit_ranks_table, noted_hit_ranks, quantised_ids
from recbole_gr.experiment.learning_curve import note_epochs
from recbole_gr.integration.plugin import RANKING_TYPES, is_generative, properties_file, read_properties
from recbole_gr.experiment.record import build_record, write_record
from recbole_gr.settings.general import check_protocol, check_writable
from recbole_gr.experiment.stopwatch import add_rates, stopwatch, time_epochs
from recbole_gr.integration.resume import read_training_state, restore_training_state, save_training_state


def run(model="TIGER", dataset="ml-100k", config_file_list=None, config_dict=None, saved=True, queue=None):
    """Train a model, measure it on validation and test data, and write a run record.

    The same as RecBole's ``run_recbole``, with one protocol for all models that rank the catalogue
    (``properties/overall.yaml``), resuming (``resume``), and the record (``record_dir``).

    Args:
        model (str): any model of ours or of RecBole.
        dataset (str): name of a folder under ``data_path`` with atomic files.
        config_file_list (list of str): yaml files; settings from the command line and ``config_dict`` come first.
        config_dict (dict): settings.
        saved (bool): keep the best checkpoint, and test with it.
        queue (multiprocessing.SimpleQueue): where a worker process leaves the result.

    Returns:
        dict: RecBole's result (``best_valid_score``, ``valid_score_bigger``, ``best_valid_result``, ``test_result``)
        and ``record``, the path of the run record.

    Raises:
        RecBoleGRError: a setting or a file cannot work; one line, before any long work.
    """
    config = make_config(model, dataset, config_file_list, config_dict)
    state = read_training_state(config["resume"]) if config["resume"] else None
    with errors_say_where(config, config_file_list):
        result = _run(config, state, saved)
    if queue is not None and config["local_rank"] == 0:
        queue.put(result)
    return result


def make_config(model, dataset, config_file_list=None, config_dict=None):
    """RecBole's Config, with our protocol below the settings of the user, checked for what must be there.

    Raises:
        RecBoleGRError
    """
    model_class = find_model(model)
    protocol = [str(properties_file("", "overall"))] if model_class.type in RANKING_TYPES else []
    for file in config_file_list or []:
        if not os.path.isfile(file):
            raise SettingError("config_files", file, "no such file")
    config = Config(model, dataset, protocol + list(config_file_list or []), config_dict)
    if protocol:
        check_protocol(config)
    folder = config["data_path"]
    if not os.path.isfile(os.path.join(folder, f"{dataset}.inter")) and config["benchmark_filename"] is None:
        if os.path.isdir(folder):
            raise SettingError("dataset", dataset, f"the folder [{folder}] has no file {dataset}.inter")
        if dataset not in _downloadable():
            raise SettingError("dataset", dataset, f"no folder [{folder}] with {dataset}.inter; set data_path to its parent")
    if config["record_dir"]:
        check_writable("record_dir", config["record_dir"])
    warn_of_unknown_settings(config)
    return config


def find_model(name):
    """The class of a model.

    Raises:
        SettingError: no such model; names the nearest ones.
    """
    folder = Path(recbole.model.__file__).parent
    files = {file.stem: file.parent.name for file in folder.glob("*_recommender/*.py") if file.stem != "__init__"}
    files.update({found.rpartition(".")[2]: "sequential_recommender" for found in sys.modules if _is_registered(found)})
    if name.lower() in files:
        try:
            module = importlib.import_module(f"recbole.model.{files[name.lower()]}.{name.lower()}")
        except ModuleNotFoundError as error:
            raise SettingError("model", name, f"needs the package {error.name}, which is not installed") from error
        if hasattr(module, name):
            return getattr(module, name)
    near = [_class_name(files[file], file) for file in difflib.get_close_matches(name.lower(), sorted(files))]
    hint = f"; did you mean {' or '.join(filter(None, near))}?" if any(near) else ""
    raise SettingError("model", name, f"no such model{hint}")


def _is_registered(module_name):
    return module_name.startswith("recbole.model.sequential_recommender.")


def _class_name(folder, file):
    try:
        names = vars(importlib.import_module(f"recbole.model.{folder}.{file}"))
    except ImportError:
        return None
    return next((name for name in names if name.lower() == file), None)


def _downloadable():
    path = os.path.join(os.path.dirname(recbole.__file__), "properties", "dataset", "url.yaml")
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def known_settings(config):
    """All settings that a model, its dataset or the protocol has a default for; a set of str."""
    known = set(config.internal_config_dict) | set(read_properties(properties_file("", "overall")))
    return known.union(*config.parameters.values(), ["model", "dataset", "encoding"])


def warn_of_unknown_settings(config):
    """RecBole takes any key and ignores what nothing reads; say so for keys that have no default anywhere."""
    known = known_settings(config)
    for key in config.external_config_dict:
        launches = key in LAUNCH_SETTINGS or (key in TOKENIZE_OPTIONS and key in config.cmd_config_dict)
        if key not in known and not launches:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            getLogger().warning(f"{key}={config[key]!r}: no model or dataset setting has this name{hint}")


#: Options of ``recbole-gr tokenize`` on the command line.
TOKENIZE_OPTIONS = ("output_dir", "sid_format", "compare_vectors")
LAUNCH_SETTINGS = (*("config_files", "nproc", "ip", "port", "world_size", "group_offset", "offset", "local_rank"),)


@contextlib.contextmanager
def errors_say_where(config, config_file_list=None):
    """A SettingError from inside is raised with the place its value was set at."""
    try:
        yield
    except SettingError as error:
        where = set_where(error.key, config, config_file_list)
        raise SettingError(error.key, error.value, f"{error.allowed} (set {where})") from error


def set_where(key, config, config_file_list=None):
    """In words, where a setting got its value."""
    if key in config.cmd_config_dict:
        return "on the command line"
    if key in config.variable_config_dict:
        return "in config_dict"
    for file in reversed(config_file_list or []):
        with open(file, encoding="utf-8") as text:
            if key in (yaml.safe_load(text) or {}):
                return f"in {file}"
    return "by default"


def _run(config, state, saved):
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    logger = getLogger()
    logger.info(sys.argv)
    logger.info(config)

    stages, start = {}, perf_counter()
    with stopwatch(stages, "data"):
        dataset = create_dataset(config)
        logger.info(dataset)
        loaders = train_data, valid_data, test_data = data_preparation(config, dataset)
    stages.update(getattr(dataset, "stages", {}))

    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    model = get_model(config["model"])(config, train_data._dataset).to(config["device"])
    logger.info(model)
    flops = recbole.quick_start.quick_start.get_flops(model, dataset, config["device"], logger, construct_transform(config))
    logger.info(set_color("FLOPs", "blue") + f": {flops}")
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    time_epochs(trainer, stages)
    learning_curve = note_epochs(trainer)

    if state is None or restore_training_state(state, trainer, train_data):
        keep_state = saved and config["local_rank"] == 0
        callback = (lambda epoch, _: save_training_state(trainer, train_data, epoch)) if keep_state else None
        takes_callback = is_generative(type(model)) or "callback_fn" in signature(trainer.fit).parameters
        options = {"callback_fn": callback} if takes_callback else {}  # RecBole's decision trees have no epochs to call it
        trainer.fit(train_data, valid_data, saved=saved, show_progress=config["show_progress"], **options)
    else:
        logger.info("The interrupted run had already finished training; only the test remains.")
        trainer.eval_collector.data_collect(train_data)
    depth, ids = max(config["topk"]), quantised_ids(dataset)
    with stopwatch(stages, "test"), noted_hit_ranks(trainer, depth, ids) as noted:
        test_result = trainer.evaluate(test_data, load_best_model=saved, show_progress=config["show_progress"])
    epoch_samples = min(config["epoch_samples"] or len(train_data._dataset), len(train_data._dataset))
    add_rates(stages, epoch_samples, len(valid_data._dataset), len(test_data._dataset))

    logger.info("The running environment of this training is as follows:\n" + get_environment(config).draw())
    logger.info(set_color("best valid ", "yellow") + f": {dict2str(trainer.best_valid_result or {})}")
    logger.info(set_color("test result", "yellow") + f": {dict2str(test_result)}")
    result = {
        "best_valid_score": trainer.best_valid_score,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": trainer.best_valid_result,
        "test_result": test_result,
    }
    noted = gathered_batches(noted, config)
    stages["whole"] = {"seconds": round(perf_counter() - start, 3), "times": 1}
    if config["local_rank"] == 0 and config["record_dir"]:
        record = build_record(config, dataset, loaders, model, result, stages)
        record["learning_curve"] = learning_curve
        hit_ranks = hit_ranks_table(noted, loaders) if noted else None
        result["record"] = write_record(record, config["record_dir"], config["record_name"], hit_ranks)
        logger.info(set_color("run record ", "yellow") + f": {result['record']}")
    if not config["single_spec"]:
        dist.destroy_process_group()
    return result
