"""RecBole's training on several processes, made to give what one process gives.

RecBole knows GPUs only, draws another order of samples for every number of processes, repeats samples and users to give each
process equally many, weighs what the processes measured by four for every batch, and reads the best checkpoint while
the first process may still write it. Here a batch of the training is the batch of one process, each process takes a share of it, and
gradients and losses are those of the whole batch; every user is evaluated by one process, and the metrics are taken from
what all have found.

Models of RecBole and of ours alike; one process alone (``single_spec``) never comes here.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

from recbole_gr.integration.compat import patch_on_import
from recbole_gr.integration.run_files import check_own_checkpoint
from recbole_gr.utils.errors import SettingError
from recbole_gr.utils.process_group import CONFIG_KEYS, Place, join
from recbole_gr.utils.processes import from_first, mean_over_processes, of_each, rank, wait_for_all, world_size


def apply() -> None:
    """Patch what RecBole does on several processes; modules are patched when they are imported."""
    for name, change in (
        ("recbole.config.configurator", lambda module: _wrap(module.Config, "_init_device", _with_any_device)),
        ("recbole.data.dataloader.abstract_dataloader", _share_data),
        ("recbole.data.dataset.dataset", lambda module: _wrap(module.Dataset, "save", _by_first)),
        ("recbole.data.utils", _refuse_kept_loaders),
        ("recbole.utils.utils", lambda module: setattr(module, "ensure_dir", _ensure_dir)),
        ("recbole.evaluator.collector", lambda module: _wrap(module.Collector, "get_data_struct", _of_all)),
        ("recbole.trainer.trainer", _train_together),
    ):
        patch_on_import(name, functools.partial(_afterwards, change=change))


@contextlib.contextmanager
def _afterwards(module: Any, change: Callable[[Any], Any]) -> Iterator[None]:
    yield
    change(module)


def _wrap(owner: Any, name: str, make_wrapper: Callable) -> None:
    original = getattr(owner, name)
    setattr(owner, name, functools.wraps(original)(make_wrapper(original)))


# Joining


def _with_any_device(original: Callable) -> Callable:
    """RecBole joins by nccl, which needs a GPU for each process; on CPUs it is gloo.

    It also documents ``use_gpu`` and takes a GPU all the same; only an empty ``gpu_id`` keeps it on the CPU.
    """

    def init_device(self: Any) -> None:
        values = self.final_config_dict
        if values["use_gpu"] is False:
            values["gpu_id"] = ""
        if "local_rank" not in values:
            original(self)
        else:
            _check_trains_by_gradients(self)
            _join(values)

    return init_device


def _check_trains_by_gradients(config: Any) -> None:
    from recbole.utils import ModelType

    name, several = config.model, config.final_config_dict["world_size"]
    if several > 1 and config.model_class.type in (ModelType.TRADITIONAL, ModelType.DECISIONTREE):
        raise SettingError("nproc", several, f"{name} is not trained by gradients, which runs in one process only")


def _join(values: dict[str, Any]) -> None:
    """Join the group, and say in the settings what this process is."""
    gpus = [part for part in _as_text(values["gpu_id"]).split(",") if part.strip()]
    values["gpu_id"] = ",".join(gpus)
    os.environ["CUDA_VISIBLE_DEVICES"] = values["gpu_id"]  # as RecBole does, before torch looks
    import torch

    local_rank, nproc, size, offset, ip, port = (values[key] for key in CONFIG_KEYS)
    on_gpu = bool(gpus) and torch.cuda.is_available()
    if on_gpu and torch.cuda.device_count() < nproc:
        allowed = f"must name a GPU for each of {nproc} processes (or use_gpu=False), and here {torch.cuda.device_count()} can be used"
        raise SettingError("gpu_id", values["gpu_id"], allowed)
    if on_gpu:
        torch.cuda.set_device(local_rank)
    # what is no tensor goes by gloo also where the tensors go by nccl: no GPU memory, and no waiting for the GPU
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    join(Place(local_rank + offset, local_rank, size, nproc, ip, int(port)), backend)
    values["device"] = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    values["single_spec"] = False
    if rank() != 0:
        values.update(state="error", show_progress=False, verbose=False, log_wandb=False)


def _as_text(gpu_id: Any) -> str:
    return ",".join(map(str, gpu_id)) if isinstance(gpu_id, (tuple, list)) else str(gpu_id)


@contextlib.contextmanager
def as_of_one_process(config: Any) -> Iterator[None]:
    """Within, a Config is that of one process, as it is written into a checkpoint: who opens it is alone."""
    held = [(values, dict(values)) for values in (config.final_config_dict, config.external_config_dict)]
    for values, _ in held:
        for key in CONFIG_KEYS:
            values.pop(key, None)
    config.final_config_dict.update(single_spec=True, local_rank=0)
    try:
        yield
    finally:
        for values, before in held:
            values.clear()
            values.update(before)


# Data


def _share_data(dataloader: Any) -> None:
    """RecBole's DistributedSampler repeats samples until all processes have equally many, and draws an order of its own."""

    def with_shares(original: Callable) -> Callable:
        def __init__(self: Any, config: Any, dataset: Any, sampler: Any, shuffle: bool = False) -> None:
            if config["single_spec"]:
                original(self, config, dataset, sampler, shuffle=shuffle)
                return
            config["single_spec"] = True  # which makes the loader of one process, whose batches are shared
            try:
                original(self, config, dataset, sampler, shuffle=shuffle)
            finally:
                config["single_spec"] = False
            # torch lets nobody change these behind the constructor, which RecBole's calls
            vars(self)["batch_sampler"] = _shares_of(self)
            vars(self)["sampler"].set_epoch = _nothing  # which RecBole calls; the generator draws every epoch anew

        return __init__

    _wrap(dataloader.AbstractDataLoader, "__init__", with_shares)


def _nothing(_epoch: int) -> None:
    pass


def _shares_of(loader: Any) -> Any:
    from recbole.data.dataloader import FullSortEvalDataLoader, NegSampleEvalDataLoader
    from torch.utils.data import BatchSampler

    if not isinstance(loader, (FullSortEvalDataLoader, NegSampleEvalDataLoader)):
        return SharedBatches(loader.batch_sampler, rank(), world_size())
    own = share_of(loader.sample_size, rank(), world_size())
    if loader.sample_size < world_size():
        raise SettingError("nproc", world_size(), f"there are only {loader.sample_size} users to evaluate")
    return BatchSampler(own, max(1, loader.step // world_size()), drop_last=False)


def share_of(n: int, number: int, shares: int) -> range:
    """Part ``number`` of ``n`` things that are divided among ``shares``: every one in one part, in their order."""
    return range(number * n // shares, (number + 1) * n // shares)


class SharedBatches:
    """Of every batch that all processes draw alike, the share of this one; a batch too small to be shared is everybody's.

    Args:
        batches: lists of sample numbers; iterating them draws the same on every process.
        number: the rank of the process.
        shares: how many processes there are.
    """

    def __init__(self, batches: Any, number: int, shares: int) -> None:
        self.batches, self.number, self.shares = batches, number, shares

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            yield batch if len(batch) < self.shares else batch[self.number :: self.shares]


def _by_first(original: Callable) -> Callable:
    """All processes come here, and would write one file at once."""

    def save(self: Any) -> None:
        if self.config["single_spec"]:
            original(self)
            return
        wait_for_all()  # who looks for the file looks before it is written
        if rank() == 0:
            with as_of_one_process(self.config):
                original(self)
        wait_for_all()

    return save


def _ensure_dir(dir_path: str) -> None:
    """RecBole looks whether a folder is there before it makes it, which another process may do meanwhile."""
    os.makedirs(dir_path, exist_ok=True)


def _refuse_kept_loaders(utils: Any) -> None:
    """RecBole pickles a loader with its sampler, which is that of one process of so many."""

    def wrapper(original: Callable) -> Callable:
        def create_dataset(config: Any) -> Any:
            for key in ("save_dataloaders", "dataloaders_save_path"):
                if config[key] and not config["single_spec"]:
                    raise SettingError(key, config[key], f"needs one process, and there are {world_size()} (nproc)")
            return original(config)

        return create_dataset

    _wrap(utils, "create_dataset", wrapper)


# Training


def _train_together(trainer: Any) -> None:
    _wrap(trainer.AbstractTrainer, "__init__", _on_any_device)
    _wrap(trainer.Trainer, "_save_checkpoint", _saved_by_first)
    _wrap(trainer.PretrainTrainer, "save_pretrained_model", _saved_by_first)
    _wrap(trainer.Trainer, "evaluate", _with_best_of_first)
    _wrap(trainer.Trainer, "_map_reduce", lambda _: lambda self, result, num_sample: result)  # of all users already
    _wrap(trainer, "get_tensorboard", _silent_but_first)
    for kind in (trainer.Trainer, trainer.NCLTrainer):
        _wrap(kind, "_train_epoch", _with_weights)


def _on_any_device(original: Callable) -> Callable:
    """RecBole names a GPU to DistributedDataParallel, and synchronises batch statistics as torch can on GPUs only."""

    def __init__(self: Any, config: Any, model: Any) -> None:
        import torch

        if config["single_spec"] or config["device"].type == "cuda":
            original(self, config, model)
            return
        self.config, self.model = config, model
        self.distributed_model = torch.nn.parallel.DistributedDataParallel(model)

    return __init__


def _with_weights(original: Callable) -> Callable:
    """torch takes the mean of the gradients over processes; that of the batch weighs each by what its loss is the mean of."""

    def train_epoch(self: Any, train_data: Any, epoch_idx: int, loss_func: Any = None, *args: Any, **options: Any) -> Any:
        if self.config["single_spec"]:
            return original(self, train_data, epoch_idx, loss_func, *args, **options)
        calculate_loss = loss_func or self.model.calculate_loss
        terms = getattr(self.model, "loss_terms", len)

        def weighted(batch: Any) -> Any:
            losses = calculate_loss(batch)
            weight = weight_of(terms(batch), self.device)
            return tuple(loss * weight for loss in losses) if isinstance(losses, tuple) else losses * weight

        return _mean_loss(original(self, train_data, epoch_idx, weighted, *args, **options), self.device)

    return train_epoch


def weight_of(terms: int | None, device: Any) -> Any:
    """What a process's mean over ``terms`` terms weighs in the mean over those of all processes: a scalar on the device.

    Args:
        terms: how many the loss of this process is the mean of; None: it is a share of the batch's loss already.
        device: where the loss is.
    """
    import torch

    if terms is None:
        return 1.0
    mean = mean_over_processes(torch.tensor(float(terms), device=device))
    return terms / mean


def _mean_loss(summed: Any, device: Any) -> Any:
    """The loss of an epoch over all processes, in the form in which one has it: a number, a tensor, or several."""
    import torch

    values = torch.as_tensor(summed, dtype=torch.float32 if device.type == "mps" else torch.float64).to(device)
    mean = mean_over_processes(values.clone())
    if isinstance(summed, tuple):
        return tuple(mean.tolist())
    return mean if isinstance(summed, torch.Tensor) else mean.item()


def _saved_by_first(original: Callable) -> Callable:
    """RecBole saves in the first process of every host; they may share the folder."""

    def save(self: Any, *args: Any, **options: Any) -> None:
        if self.config["single_spec"]:
            original(self, *args, **options)
        elif rank() == 0:
            with as_of_one_process(self.config):
                original(self, *args, **options)

    return save


def _with_best_of_first(original: Callable) -> Callable:
    """RecBole has every process read the best checkpoint, which the first may still be writing, or has on its own host."""

    def evaluate(
        self: Any, eval_data: Any, load_best_model: bool = True, model_file: str | None = None, show_progress: bool = False
    ) -> Any:
        if load_best_model and eval_data and not self.config["single_spec"]:
            _load_best(self, model_file)
            load_best_model = False
        return original(self, eval_data, load_best_model, model_file, show_progress)

    return evaluate


def _load_best(trainer: Any, model_file: str | None) -> None:
    from recbole.trainer import trainer as module

    path = model_file or trainer.saved_model_file

    def read() -> dict[str, Any]:
        if not model_file:
            check_own_checkpoint(path)
        checkpoint = module.torch.load(path, map_location="cpu")
        return {key: checkpoint.get(key) for key in ("state_dict", "other_parameter")}

    checkpoint = from_first(read)
    trainer.model.load_state_dict(checkpoint["state_dict"])
    trainer.model.load_other_parameter(checkpoint["other_parameter"])
    trainer.logger.info(f"Loading model structure and parameters from {path}")


def _silent_but_first(original: Callable) -> Callable:
    """Every process would write a folder for tensorboard."""

    def get_tensorboard(logger: Any) -> Any:
        return original(logger) if rank() == 0 else _Silent()

    return get_tensorboard


class _Silent:
    """Writes nothing, whatever it is asked to."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **options: None


# Evaluation


def _of_all(original: Callable) -> Callable:
    """What all processes have found, so that metrics are those of all users: a mean of means is not, and of some
    metrics (AUC, coverage, Gini) there is none.
    """

    def get_data_struct(self: Any) -> Any:
        import torch

        struct = original(self)
        if self.config["single_spec"]:
            return struct
        own = {key: value for key, value in struct._data_dict.items() if key in PER_USER}
        shares = of_each(own)
        struct._data_dict.update({key: torch.cat([share[key] for share in shares]) for key in own})
        return struct

    return get_data_struct


#: What RecBole's collector has a row of for each user, or interaction, that was evaluated.
PER_USER = ("rec.topk", "rec.meanrank", "rec.score", "rec.items", "data.label")
