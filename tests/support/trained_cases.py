"""Small data sets that are part of the tests, and runs on them."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

#: 60 users, 40 items, 476 interactions.
CASES = Path(__file__).resolve().parents[1] / "cases"

#: What makes a run on 40 items quick.
QUICK = {"epochs": 2, "show_progress": False, "topk": [5, 10]}
QUICK_GENERATIVE = {
    **QUICK,
    **{"beam_size": 10, "warmup_steps": 5, "codebook_size": 8, "codebook_num": 2},
    **{"n_layers": 1, "d_model": 16, "n_heads": 2, "d_kv": 8, "d_ff": 32},
}
QUICK_LLM = {
    **QUICK,
    **{"beam_size": 10, "warmup_steps": 2, "llm": "scratch", "scratch_size": "tiny", "scratch_vocabulary": 300},
    **{"epochs": 1, "epoch_samples": 64, "train_batch_size": 32},
}


def run_case(model, folder, case="plain", **settings):
    """Train a model in a folder of its own.

    Returns:
        dict: what ``run`` returns, with absolute paths.
    """
    from recbole_gr.experiment.run import run

    items = pd.read_csv(CASES / case / f"{case}.item", sep="\t", dtype=str)["item_id:token"]
    vectors = np.random.default_rng(0).normal(size=(len(items), 12)).astype(np.float32)
    np.savez(folder / "vectors.npz", item_id=items.to_numpy(dtype=str), vectors=vectors)
    paths = {"data_path": str(CASES), "cache_dir": str(folder / "cache"), "item_vector_file": str(folder / "vectors.npz")}
    known = settings.pop("known", None)
    given = {key: value for key, value in {**paths, **settings}.items() if known is None or key in known}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["pytest"])
        result = run(model, case, config_dict=given)
    return {**result, **{key: os.path.join(folder, result[key]) for key in ("checkpoint", "record")}}


def settings_of(model):
    """Quick settings of a model, and the keys that it has."""
    from recbole_gr.models.registry import model_settings
    from recbole_gr.settings.protocol import ProtocolSettings

    shared = {*QUICK, "data_path", *ProtocolSettings.model_fields}
    own = model_settings(model)
    if own is None:
        return {**QUICK, "known": shared}
    quick = QUICK_LLM if model == "LLMasRS" else QUICK_GENERATIVE
    return {**quick, "known": {*own.defaults(), *shared}}
