"""What spawned worker processes run; importing this module registers our models there."""

import torch.multiprocessing
from recbole.quick_start.quick_start import run_recboles as recboles_run_recboles

from recbole_gr.experiment.run import run


def run_recboles(rank, *args):
    """RecBole's ``run_recboles``, in a process in which our models are known."""
    recboles_run_recboles(rank, *args)


def spawn_runs(model, dataset, config_file_list, group):
    """Run one training on several processes, one per GPU.

    Args:
        group (dict): ``nproc``, ``world_size``, ``ip``, ``port``, ``offset``, as RecBole's Config takes them.

    Returns:
        dict: what :func:`recbole_gr.experiment.run.run` returned on rank 0, or None on a host without it.
    """
    queue = torch.multiprocessing.get_context("spawn").SimpleQueue()
    torch.multiprocessing.spawn(_run_rank, (model, dataset, config_file_list, group, queue), nprocs=group["nproc"])
    return None if queue.empty() else queue.get()


def _run_rank(rank, model, dataset, config_file_list, group, queue):
    run(model, dataset, config_file_list, {**group, "local_rank": rank}, queue=queue)
