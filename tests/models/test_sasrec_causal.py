"""SASRec's network: RecBole's own SASRec with the same weights is the reference."""

import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender.sasrec import SASRec
from recbole.utils import get_trainer, init_seed

from recbole_gr.experiment.run import run
from recbole_gr.integration.config import make_config

SIZES = {"hidden_size": 16, "inner_size": 24, "n_layers": 2, "n_heads": 2, "MAX_ITEM_LIST_LENGTH": 8}


def weights_of(sasrec):
    """RecBole's weights under our names."""
    found = {
        "item_embedding.weight": sasrec.item_embedding.weight,
        "network.position_embedding.weight": sasrec.position_embedding.weight,
        "network.norm.weight": sasrec.LayerNorm.weight,
        "network.norm.bias": sasrec.LayerNorm.bias,
    }
    for number, layer in enumerate(sasrec.trm_encoder.layer):
        attention, feed_forward = layer.multi_head_attention, layer.feed_forward
        parts = {
            "output": attention.dense,
            "attention_norm": attention.LayerNorm,
            "inner": feed_forward.dense_1,
            "outer": feed_forward.dense_2,
            "feed_forward_norm": feed_forward.LayerNorm,
        }
        for kind in ("weight", "bias"):
            name = f"network.layers.{number}."
            joined = [getattr(part, kind) for part in (attention.query, attention.key, attention.value)]
            found[f"{name}query_key_value.{kind}"] = torch.cat(joined)
            found.update({f"{name}{part}.{kind}": getattr(module, kind) for part, module in parts.items()})
    return found


@pytest.mark.parametrize("trained", [False, True])
def test_states_and_scores_are_those_of_recboles_sasrec(small_part, trained):
    given = {"data_path": small_part[1], "show_progress": False, "epochs": 2, "learning_rate": 0.01, **SIZES}
    theirs_config = make_config("SASRec", "small", config_dict=given)
    init_seed(1, True)
    train, _, test = data_preparation(theirs_config, create_dataset(theirs_config))
    theirs = SASRec(theirs_config, train._dataset)
    if trained:
        get_trainer(theirs_config["MODEL_TYPE"], "SASRec")(theirs_config, theirs).fit(
            train, saved=False, show_progress=False
        )
    else:
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.5)
            theirs.item_embedding.weight[0] = 0
    config = make_config("SASRecCausal", "small", config_dict=given)
    ours = config.model_class(config, create_dataset(config)).eval()
    ours.load_state_dict(weights_of(theirs.eval()))
    interaction = next(iter(test))[0]
    with torch.no_grad():
        expected = theirs.forward(interaction["item_id_list"], interaction["item_length"])
        torch.testing.assert_close(ours.last_states(interaction), expected, atol=1e-5, rtol=1e-4)
        scores = ours.full_sort_predict(interaction)[:, 1:]
        torch.testing.assert_close(scores, theirs.full_sort_predict(interaction)[:, 1:], atol=1e-4, rtol=1e-4)
    assert scores.std() > 0.05


def test_recboles_function_holds_our_protocol(small_part):
    config = Config("SASRecCausal", "small", config_dict={"data_path": small_part[1]})
    assert config["eval_args"]["order"] == "TO" and config["mask_seen"] is True and config["loss_positions"] == "all"


def test_heads_must_divide_the_width(small_part):
    with pytest.raises(ValueError, match="^n_heads=3: must divide hidden_size=64"):
        run("SASRecCausal", "small", config_dict={"data_path": small_part[1], "n_heads": 3})


def test_more_negatives_than_items_are_one_line(small_part):
    given = {"data_path": small_part[1], "softmax": "sampled", "n_negatives": 5000, "show_progress": False}
    with pytest.raises(ValueError, match="^n_negatives=5000: must be below the number of items and padding, [0-9]+ [(]set"):
        run("SASRecCausal", "small", config_dict=given)
