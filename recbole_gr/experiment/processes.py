"""One training on several processes of this host, one per GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.multiprocessing

from recbole_gr.experiment.run import run


def spawn_runs(
    model: str, dataset: str, config_file_list: Sequence[str] | None, group: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Run one training on several processes.

    Args:
        model, dataset, config_file_list: as for :func:`recbole_gr.experiment.run.run`.
        group: ``nproc``, ``world_size``, ``ip``, ``port``, ``offset``, as RecBole's Config takes them.

    Returns:
        dict: what :func:`recbole_gr.experiment.run.run` returned on rank 0, or None on a host without it.
    """
    queue = torch.multiprocessing.get_context("spawn").SimpleQueue()
    torch.multiprocessing.spawn(_run_rank, (model, dataset, config_file_list, group, queue), nprocs=group["nproc"])
    return None if queue.empty() else queue.get()


def _run_rank(rank: int, model: str, dataset: str, config_file_list: Any, group: Mapping[str, Any], queue: Any) -> None:
    run(model, dataset, config_file_list, {**group, "local_rank": rank}, queue=queue)
