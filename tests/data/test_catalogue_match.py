"""Rows of a saved state by token, against hand-worked examples."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

from recbole_gr.data.catalogue_match import (
    TOKENS,
    Catalogue,
    add_tokens,
    matched_parameters,
    matched_state,
    saved_tokens,
)
from recbole_gr.utils.errors import DataError

ITEMS, USERS = ["[PAD]", "a", "b", "c"], ["[PAD]", "u", "v"]


class Tables(nn.Module):
    """Embeddings and layers as RecBole's models have them, with the tokens that a patch gives these."""

    def __init__(self, items, users, width=5, columns="", **layers):
        super().__init__()
        self.item_embedding = nn.Embedding(len(items), width)
        self.user_embedding = nn.Embedding(len(users), width)
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.recbole_gr_catalogue = Catalogue(np.array(items), np.array(users), columns)


def state_of(model):
    return add_tokens(model, model.state_dict())


def test_rows_go_where_the_tokens_are():
    saved, here = Tables(ITEMS, USERS), Tables(["[PAD]", "c", "a"], ["[PAD]", "v", "u"])
    state = matched_state(here, state_of(saved))
    assert torch.equal(state["item_embedding.weight"], saved.item_embedding.weight[[0, 3, 1]])
    assert torch.equal(state["user_embedding.weight"], saved.user_embedding.weight[[0, 2, 1]])
    assert saved_tokens(state)["items"] == ["[PAD]", "c", "a"] and saved_tokens(state_of(saved))["items"] == ITEMS
    here.load_state_dict(state)


def test_what_is_not_known_keeps_fresh_rows_and_is_named(caplog):
    saved, here = Tables(ITEMS, USERS), Tables(["[PAD]", "x", "b", "y"], USERS)
    caplog.set_level("INFO")
    state = matched_state(here, state_of(saved))["item_embedding.weight"]
    assert torch.equal(state[2], saved.item_embedding.weight[2])
    assert torch.equal(state[[1, 3]], here.item_embedding.weight[[1, 3]])
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "The checkpoint does not know 2 of the 3 items here (x, y); of them nothing was learned.",
        "2 of the 3 items of the checkpoint are not in the dataset as it is now.",
    ]


def test_equal_tokens_and_states_without_tokens_are_left_as_they_are():
    saved, here = Tables(ITEMS, USERS), Tables(ITEMS, USERS)
    state = state_of(saved)
    assert matched_state(here, state) is state
    old = OrderedDict(saved.state_dict())
    assert (
        matched_state(Tables(["[PAD]", "c", "a", "b"], USERS), old) is old
        and TOKENS not in state_of(nn.Linear(1, 1))._metadata
    )


def test_nothing_matched_is_one_line():
    with pytest.raises(
        DataError, match=r"^the checkpoint was trained on another catalogue: none of its 3 items \(a, b, c\)"
    ):
        matched_state(Tables(["[PAD]", "x", "y", "z"], USERS), state_of(Tables(ITEMS, USERS)))


def test_both_sides_of_linear_layers_and_a_row_of_a_mask_token():
    other = ["[PAD]", "c", "b", "a"]

    def model(items):
        layers = {"encoder": nn.Linear(4, 6), "decoder": nn.Linear(6, 4), "square": nn.Linear(4, 4)}
        made = Tables(items, USERS, **layers)
        made.item_embedding = nn.Embedding(5, 7)  # of items and a mask
        return made

    saved = model(ITEMS)
    state, order = matched_state(model(other), state_of(saved)), [0, 3, 2, 1]
    assert torch.equal(state["encoder.weight"], saved.encoder.weight[:, order])
    assert torch.equal(state["encoder.bias"], saved.encoder.bias)
    assert torch.equal(state["decoder.weight"], saved.decoder.weight[order])
    assert torch.equal(state["decoder.bias"], saved.decoder.bias[order])
    assert torch.equal(state["square.weight"], saved.square.weight[order][:, order])
    assert torch.equal(state["item_embedding.weight"], saved.item_embedding.weight[[0, 3, 2, 1, 4]])


@pytest.mark.parametrize(
    ("layers", "width", "reason"),
    [
        (
            {"decoder": nn.Linear(6, 4)},
            4,
            r"decoder.weight \[4, 6\] may be of the 4 items, padding included, or of something else",
        ),
        ({"both": nn.Embedding(7, 5)}, 5, r"both.weight \[7, 5\] holds users and items in one table"),
        ({"FMEmbedding": type("FMEmbedding", (nn.Embedding,), {})(9, 5)}, 5, "it embeds columns of the files or entities"),
    ],
)
def test_what_cannot_be_told_is_one_line(layers, width, reason):
    with pytest.raises(DataError, match=f"^the checkpoint of Tables was trained on another order.*{reason}"):
        matched_state(
            Tables(["[PAD]", "c", "b", "a"], USERS, width, **layers), state_of(Tables(ITEMS, USERS, width, **layers))
        )


def test_as_many_users_as_items_are_told_apart_by_name_only():
    users = ["[PAD]", "u", "v", "w"]
    saved, here = Tables(ITEMS, users), Tables(ITEMS, ["[PAD]", "w", "v", "u"])
    state = matched_state(here, state_of(saved))
    assert torch.equal(state["item_embedding.weight"], saved.item_embedding.weight)
    assert torch.equal(state["user_embedding.weight"], saved.user_embedding.weight[[0, 3, 2, 1]])
    layer = {"table": nn.Embedding(4, 5)}
    with pytest.raises(DataError, match=r"table.weight \[4, 5\] may be of users or of items"):
        matched_state(Tables(ITEMS, here.recbole_gr_catalogue.users, **layer), state_of(Tables(ITEMS, users, **layer)))


@pytest.mark.parametrize("kind", [np.array, np.matrix, sparse.csr_matrix, sparse.coo_matrix, torch.tensor])
def test_what_a_model_keeps_beside_its_state(kind):
    rng = np.random.default_rng(0)
    similarity, of_users = rng.random((4, 4)).astype(np.float32), rng.random((3, 4)).astype(np.float32)
    here = Tables(["[PAD]", "c", "x", "a"], ["[PAD]", "v", "u"])
    matched_state(here, state_of(Tables(ITEMS, USERS)))
    kept = {"similarity": kind(similarity), "of_users": kind(of_users), "restore": None, "largest": torch.tensor(3)}
    found = matched_parameters(here, kept)
    expected = similarity[[0, 3, 0, 1]][:, [0, 3, 0, 1]]
    expected[2] = expected[:, 2] = 0
    users = of_users[[0, 2, 1]][:, [0, 3, 0, 1]]
    users[:, 2] = 0
    for name, wanted in (("similarity", expected), ("of_users", users)):
        assert type(found[name]) is type(kept[name])
        made = found[name].toarray() if sparse.issparse(found[name]) else np.asarray(found[name])
        np.testing.assert_array_equal(made, wanted)
    assert found["restore"] is None and found["largest"] == 3
    with pytest.raises(DataError, match="feature_embed_layer of the checkpoint cannot be matched by token"):
        matched_parameters(here, {"feature_embed_layer": {"a": 1}})
