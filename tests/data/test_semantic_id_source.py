"""Processes that train together must make the same semantic IDs."""

import numpy as np
import torch.distributed
import torch.multiprocessing

from recbole_gr.data.semantic_id_source import as_in_first_process


def make_in_a_group(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    arrays, meta = as_in_first_process(({"codes": np.full((3, 2), rank)}, {"made_by": rank}))
    np.savez(f"{folder}/{rank}.npz", codes=arrays["codes"], made_by=meta["made_by"])
    torch.distributed.destroy_process_group()


def test_all_processes_get_the_codes_of_the_first(tmp_path):
    torch.multiprocessing.spawn(make_in_a_group, (str(tmp_path),), nprocs=2)
    for rank in (0, 1):
        with np.load(tmp_path / f"{rank}.npz") as made:
            assert made["codes"].tolist() == [[0, 0]] * 3 and made["made_by"] == 0


def test_a_single_process_keeps_its_own():
    made = ({"codes": np.zeros(1)}, {})
    assert as_in_first_process(made) is made
