"""Item embeddings among the tokens of a prompt, against sums and places worked out one by one."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from recbole_gr.language_model.cf_injection import CFInjection

N_ITEMS, DIMENSION, WIDTH = 6, 5, 16
#: Items 2 and 3, then a token of none; items 5 and 1 with a vector place behind each.
ITEMS = torch.tensor([[0, 2, 2, 3, 0, 0], [5, 5, 1, 1, 0, 0]])
PLACES = torch.tensor([[False, False, True, False, False, False], [False, True, False, True, False, False]])


def new(kind):
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    llm = LlamaForCausalLM(LlamaConfig(vocab_size=20, initializer_range=0.3, **sizes)).eval()
    vectors = torch.randn(N_ITEMS, DIMENSION)
    vectors[0] = 0
    return llm, CFInjection(vectors, llm.get_input_embeddings(), kind)


def adapted_by_hand(injection, item):
    """Two linear layers with a GELU between, by their weights."""
    first, last = injection.adapter[0], injection.adapter[2]
    hidden = first.weight @ injection.vectors[item] + first.bias
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
    return last.weight @ hidden + last.bias


def filled(injection):
    """As after training."""
    torch.manual_seed(1)
    for parameter in injection.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return injection


def test_add_begins_as_the_plain_model():
    llm, injection = new("add")
    embedded = llm.get_input_embeddings()(ITEMS + 3)
    assert torch.equal(injection(embedded, ITEMS, PLACES), embedded)


def test_add_by_hand():
    llm, injection = new("add")
    embedded = llm.get_input_embeddings()(ITEMS + 3)
    added = filled(injection)(embedded, ITEMS, torch.zeros_like(PLACES))
    for row in range(2):
        for column in range(6):
            item = int(ITEMS[row, column])
            expected = embedded[row, column] + (adapted_by_hand(injection, item) if item else 0)
            torch.testing.assert_close(added[row, column], expected)


def test_concat_by_hand():
    llm, injection = new("concat")
    embedded = llm.get_input_embeddings()(ITEMS + 3)
    laid = filled(injection)(embedded, ITEMS, PLACES)
    for row in range(2):
        for column in range(6):
            alone = bool(PLACES[row, column])
            expected = adapted_by_hand(injection, int(ITEMS[row, column])) if alone else embedded[row, column]
            torch.testing.assert_close(laid[row, column], expected)


def test_concat_begins_as_large_as_a_token():
    """The root mean square of the adapted embeddings of all items is that of the token embeddings."""
    llm, injection = new("concat")
    adapted = torch.stack([adapted_by_hand(injection, item) for item in range(1, N_ITEMS)])
    token_embeddings = llm.get_input_embeddings().weight
    torch.testing.assert_close(adapted.pow(2).mean(), token_embeddings.pow(2).mean())


@pytest.mark.parametrize("kind", ["add", "concat"])
def test_gradients_reach_the_adapter_and_not_the_vectors(kind):
    llm, injection = new(kind)
    llm.requires_grad_(False)
    filled(injection)
    embedded = llm.get_input_embeddings()(ITEMS + 3)
    logits = llm(inputs_embeds=injection(embedded, ITEMS, PLACES)).logits
    logits[:, -1].logsumexp(-1).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in injection.parameters())
    assert "vectors" not in dict(injection.named_parameters()) and injection.vectors.grad is None
    assert all(parameter.grad is None for parameter in llm.parameters())


def test_add_learns_although_it_begins_at_zero():
    """The last layer alone has a gradient at first; after a step of it the first one has, too."""
    llm, injection = new("add")
    embedded = llm.get_input_embeddings()(ITEMS + 3).detach()

    def gradients():
        injection.zero_grad()
        llm(inputs_embeds=injection(embedded, ITEMS, PLACES)).logits[:, -1, 0].sum().backward()
        return [float(parameter.grad.abs().sum()) for parameter in injection.parameters()]

    first = gradients()
    assert first[:2] == [0, 0] and min(first[2:]) > 0
    with torch.no_grad():
        for parameter in injection.parameters():
            parameter -= 0.1 * parameter.grad
    assert min(gradients()) > 0


def test_a_batch_without_items_is_left_alone():
    llm, injection = new("concat")
    embedded = llm.get_input_embeddings()(ITEMS + 3)
    nothing = torch.zeros_like(ITEMS)
    assert torch.equal(injection(embedded, nothing, nothing.bool()), embedded)
