"""Processes that train together must make the same semantic IDs."""

import numpy as np
import torch.distributed
import torch.multiprocessing

from recbole_gr.utils.cache import cached


def make_in_a_group(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    made_here = []

    def make():
        made_here.append(rank)
        return {"codes": np.full((3, 2), rank)}, {"made_by": rank}

    arrays, meta = cached(None, "semantic_ids", "key", make)
    assert made_here == [0] * (rank == 0)  # the other waits
    np.savez(f"{folder}/{rank}.npz", codes=arrays["codes"], made_by=meta["made_by"])
    torch.distributed.destroy_process_group()


def test_all_processes_get_the_codes_of_the_first(tmp_path):
    torch.multiprocessing.spawn(make_in_a_group, (str(tmp_path),), nprocs=2)
    for rank in (0, 1):
        with np.load(tmp_path / f"{rank}.npz") as made:
            assert made["codes"].tolist() == [[0, 0]] * 3 and made["made_by"] == 0
