"""Everything RecBole must be told about us.

RecBole finds models, trainers and datasets by name; :func:`register` adds ours at those places. What has no such place
is wrapped, each wrap as small as it can be with its reason beside it. Nothing of RecBole is copied.
"""

import functools
import os
import re
import sys
from importlib.resources import files

import recbole.data.dataset
import recbole.data.utils
import recbole.quick_start.quick_start
import recbole.trainer
import torch
import yaml
from recbole.config import Config
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.dataset import Dataset
from recbole.utils import ModelType
from recbole.utils.argument_list import dataset_arguments

from recbole_gr.data.dataloader import LengthGroupedTrainDataLoader
from recbole_gr.data.dataset import LLMasRSDataset, TIGERDataset
from recbole_gr.data.order import settle_order
from recbole_gr.data.seen import add_seen_items
from recbole_gr.errors import SettingError
from recbole_gr.model import llmasrs, sasrec_bce, tiger
from recbole_gr.model.beam_search_recommender import BeamSearchRecommender
from recbole_gr.tokenizer import all_settings
from recbole_gr.trainer import BeamSearchTrainer, LLMasRSTrainer

PROPERTIES = files("recbole_gr") / "properties"
if not PROPERTIES.is_dir():  # a plain checkout or an editable install keeps it beside the package
    PROPERTIES = files("recbole_gr") / ".." / "properties"

#: Models that rank the catalogue; the protocol of ``properties/overall.yaml`` is theirs. The others estimate clicks.
RANKING_TYPES = (ModelType.GENERAL, ModelType.SEQUENTIAL, ModelType.KNOWLEDGE, ModelType.TRADITIONAL)

#: Our settings that shape a dataset, its semantic IDs and its titles.
SHAPING_SETTINGS = (
    *("timestamp_order", "tie_order", "tie_interval", "tie_seed", "mask_seen"),
    *("text_encoder", "text_template", "text_max_tokens", "item_vector_file", "item_vectors"),
    *("cf_checkpoint", "cf_parameter", "text_weight", "cf_weight", "pca_dimension", "whiten"),
    *("tokenizer", "codebook_num", "codebook_size", "collision", "category_column", "sid_file", "sid_codebook_sizes"),
    *("llm", "scratch_vocabulary", "item_as", "title_template", "title_max_tokens", "duplicate_titles"),
    *("prompt_template", "history_separator", "cf_injection"),
)


def register():
    """Make RecBole find our models. Safe to call more than once."""
    if hasattr(recbole.trainer, "TIGERTrainer"):
        return
    add_model(tiger, "TIGER", TIGERDataset, BeamSearchTrainer)
    add_model(llmasrs, "LLMasRS", LLMasRSDataset, LLMasRSTrainer)
    add_model(sasrec_bce, "SASRecBCE")
    _wrap(Config, "_load_internal_config_dict", _with_our_properties)
    _wrap(Config, "_init_device", _with_use_gpu)
    _wrap(Dataset, "_change_feat_format", _with_exact_order)
    _wrap(recbole.data.utils, "get_dataloader", _with_length_grouping)
    _wrap(recbole.data.utils, "create_samplers", _with_seen_items)
    _wrap(FullSortEvalDataLoader, "collate_fn", _with_equal_masking)
    _wrap(recbole.quick_start.quick_start, "get_flops", _without_a_copy)
    _spawn_workers_that_know_us()
    # what a dataset or loader kept by save_dataset or save_dataloaders must agree in to be used again
    dataset_arguments.extend(SHAPING_SETTINGS)


def add_model(module, name, dataset_class=None, trainer_class=None):
    """Enter a model where ``recbole.utils.get_model``, ``create_dataset`` and ``get_trainer`` look.

    Args:
        module: the module that defines the class ``name``.
        name (str): the model's name, as in ``--model``.
        dataset_class, trainer_class (type): what RecBole shall use with it; None: what it uses for its own models.
    """
    sys.modules[f"recbole.model.sequential_recommender.{name.lower()}"] = module
    if dataset_class is not None:
        setattr(recbole.data.dataset, f"{name}Dataset", dataset_class)
        setattr(recbole.trainer, f"{name}Trainer", trainer_class)


def is_generative(model_class):
    """Whether a model of ours writes what it recommends, by semantic ID or title."""
    return issubclass(model_class, BeamSearchRecommender)


def properties_file(kind, name):
    """Path of ``properties/<kind>/<name>.yaml``, whether it exists or not."""
    return PROPERTIES / kind / f"{name}.yaml"


def _wrap(owner, name, make_wrapper):
    original = getattr(owner, name)
    setattr(owner, name, functools.wraps(original)(make_wrapper(original)))


def _with_our_properties(original):
    """Config reads the property files beside its own source only; ours are read after them."""

    def load(self, model, model_class, dataset):
        original(self, model, model_class, dataset)
        ours, outside = self.internal_config_dict, self.external_config_dict
        if is_generative(model_class):
            for name in ("overall", "semantic_ids"):
                ours.update(read_properties(properties_file("", name)))
            for key, default in all_settings().items():
                ours.setdefault(key, default)  # those of tokenizers from outside
                if key not in dataset_arguments:
                    dataset_arguments.append(key)
        ours.update(read_properties(properties_file("model", model)))
        ours.update(read_properties(properties_file("dataset", dataset)))
        if not _has_properties(dataset):
            # RecBole's fallback (sample.yaml) leaves out the time column that a split by time needs
            fields = [{**ours, **outside}[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
            ours["load_col"] = {"inter": fields}
        if model_class.type == ModelType.SEQUENTIAL and {**ours, **outside}.get("loss_type") == "CE":
            # RecBole's default of one negative per positive makes its own Config refuse its own default loss
            ours["train_neg_sample_args"] = None

    return load


def _with_use_gpu(original):
    """RecBole documents ``use_gpu`` and takes a GPU all the same; only an empty ``gpu_id`` keeps it on the CPU."""

    def init_device(self):
        if self.final_config_dict["use_gpu"] is False and "local_rank" not in self.final_config_dict:
            self.final_config_dict["gpu_id"] = ""
        original(self)

    return init_device


def read_properties(path):
    """The settings of a yaml file as a dict; empty if there is no such file."""
    if not path.is_file():
        return {}
    return yaml.load(path.read_text(encoding="utf-8"), Loader=SettingsLoader) or {}


class SettingsLoader(yaml.SafeLoader):
    """Safe yaml that reads 1e-3 as a number, as RecBole's loader does."""


SettingsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _has_properties(dataset):
    recboles = os.path.join(os.path.dirname(recbole.__file__), "properties", "dataset", f"{dataset}.yaml")
    return os.path.isfile(recboles) or properties_file("dataset", dataset).is_file()


def _with_exact_order(original):
    """RecBole sorts by time after rounding it to float32; a stable sort before the rounding settles the order."""

    def change_feat_format(self):
        settle_order(self)
        return original(self)

    return change_feat_format


def _with_length_grouping(original):
    """RecBole chooses the training loader from a table inside the function."""

    def get_dataloader(config, phase):
        if phase == "train" and is_generative(config.model_class):
            return LengthGroupedTrainDataLoader
        return original(config, phase)

    return get_dataloader


def _with_seen_items(original):
    """Here all parts of a split are at hand; a loader knows its own only."""

    def create_samplers(config, dataset, built_datasets):
        if config["mask_seen"] is True and config["MODEL_TYPE"] in RANKING_TYPES:
            if config["benchmark_filename"] is not None:
                raise SettingError(
                    "mask_seen", True, "files that are split already do not tell all a user had; set it to recbole"
                )
            add_seen_items(built_datasets)
        return original(config, dataset, built_datasets)

    return create_samplers


def _with_equal_masking(original):
    """RecBole masks what a user had before for general models, targets spared, and not for sequential ones."""

    def collate_fn(self, index):
        interaction, history, positive_u, positive_i = original(self, index)
        if self.config["mask_seen"] is False:
            history = None
        elif self.config["mask_seen"] is True and hasattr(self._dataset, "seen_items"):
            history = self._dataset.seen_items.of(interaction[self.uid_field].numpy())
        return interaction, history, positive_u, positive_i

    return collate_fn


def _without_a_copy(original):
    """RecBole counts operations on a deep copy of the model, for which a large language model leaves no room."""

    def get_flops(model, dataset, device, logger, transform, verbose=False):
        if hasattr(model, "flops_per_user"):
            return model.flops_per_user(transform(dataset, dataset[torch.tensor([1])].to(device)))
        return original(model, dataset, device, logger, transform, verbose)

    return get_flops


def _spawn_workers_that_know_us():
    """A spawned process imports what it is told to run; RecBole's own function would not import us."""
    from recbole_gr import workers

    recbole.quick_start.quick_start.run_recboles = workers.run_recboles
