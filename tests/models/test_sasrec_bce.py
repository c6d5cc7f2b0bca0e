"""SASRec with the loss of its paper."""

import json

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation

from recbole_gr.experiment.run import run
from recbole_gr.models.sasrec_bce.model import SASRecBCE


@pytest.fixture
def settings(small_part):
    return {"data_path": small_part[1], "hidden_size": 16, "epochs": 2, "show_progress": False, "MAX_ITEM_LIST_LENGTH": 5}


def test_loss_by_hand(settings):
    """The same scores as RecBole's predict, in numpy."""
    by_time = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO"}}
    config = Config("SASRecBCE", "small", config_dict={**settings, **by_time})
    batch = next(iter(data_preparation(config, create_dataset(config))[0]))
    torch.manual_seed(0)
    model = SASRecBCE(config, create_dataset(config)).eval()
    with torch.no_grad():
        model.item_embedding.weight.mul_(50)  # scores away from 0
        loss = model.calculate_loss(batch).item()
        target = model.predict(batch).double().numpy()
        sampled = model.predict({**batch.interaction, "item_id": batch["neg_item_id"]}).double().numpy()
    assert np.abs(target).mean() > 0.5
    assert loss == pytest.approx((np.log1p(np.exp(-target)).mean() + np.log1p(np.exp(sampled)).mean()) / 2, rel=1e-5)


def test_it_trains_and_is_measured_like_the_others(settings):
    result = run(
        "SASRecBCE", "small", config_dict={**settings, "epochs": 15, "learning_rate": 0.01, "hidden_dropout_prob": 0.1}
    )
    with open(result["record"]) as file:
        record = json.load(file)
    losses = [epoch["train_loss"] for epoch in record["learning_curve"]]
    assert losses[-1] < 0.8 * losses[0] and record["config"]["mask_seen"] is True
    assert len(losses) == 15 and record["model"] == "SASRecBCE"
