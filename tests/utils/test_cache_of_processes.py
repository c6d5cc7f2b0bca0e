"""Processes that train together must make the same semantic IDs."""

import numpy as np
from support.groups import run_together

from recbole_gr.utils.cache import cached
from recbole_gr.utils.processes import from_first, of_each, rank, sums_over_processes


def test_all_processes_get_the_codes_of_the_first(tmp_path):
    """The other waits; what is made on the way, from something else that is kept, is made by the first one too."""
    made_here = []

    def make():
        made_here.append(rank())
        return {"codes": np.full((3, 2), from_first(rank))}, {"made_by": rank()}

    def work():
        from recbole_gr.utils.process_group import join, own_place

        join(own_place(), "gloo")
        arrays, meta = cached("cache", "semantic_ids", "key", make)
        counts = sums_over_processes({"users": 3, f"of {rank()}": 1})
        return of_each((arrays["codes"].tolist(), meta, made_here)), counts

    answers, counts = run_together(2, work, tmp_path)
    assert answers == [([[0, 0]] * 3, {"made_by": 0}, [0]), ([[0, 0]] * 3, {"made_by": 0}, [])]
    assert counts == {"users": 6, "of 0": 1, "of 1": 1}
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npz"]
