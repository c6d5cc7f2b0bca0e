"""The reference is a plain pass of the language model over a prompt and all that a branch has written."""

import numpy as np
import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from recbole_gr.language_model import prompt_reader
from recbole_gr.language_model.branch_attention import takes_one_row
from recbole_gr.language_model.lora import add_lora
from recbole_gr.language_model.prompt_reader import PromptReader, logits_only_at, reads_branches

VOCABULARY = 40
LENGTHS = torch.tensor([7, 1, 4, 5])
USERS, POSITIONS = len(LENGTHS), 9
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4}
SPREAD = 0.3  # standard deviation of the weights: enough for tokens far back to matter
CAP = 2.0


def new_llama(**options):
    return LlamaForCausalLM(LlamaConfig(**SIZES, **HEADS, initializer_range=SPREAD, **options))


def new_gpt2():
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, initializer_range=SPREAD, bos_token_id=0, eos_token_id=0, **sizes)
    )


def new_qwen3():
    return Qwen3ForCausalLM(Qwen3Config(**SIZES, **HEADS, initializer_range=SPREAD))


def new_gemma2():
    caps = {"attn_logit_softcapping": 1.0, "final_logit_softcapping": CAP, "query_pre_attn_scalar": 4}
    config = Gemma2Config(**SIZES, **HEADS, **caps, initializer_range=SPREAD, sliding_window=32, attn_implementation="eager")
    return Gemma2ForCausalLM(config)


def new_adapted_llama():
    """Adapter and trained rows differ from zero, as after training."""
    model = add_lora(new_llama(), 2, alpha=4, dropout=0.0, targets="all-linear", trained_tokens=[3, 5])
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=SPREAD)
    return model


#: Whose attention may be replaced, by the word of transformers and because it is plain; it has no sdpa for capped scores.
IN_ONE_ROW = {
    new_llama: True,
    new_gpt2: True,
    new_qwen3: True,
    new_adapted_llama: True,
    lambda: new_llama(attn_implementation="eager"): False,
    new_gemma2: False,
}


@pytest.mark.parametrize("make", IN_ONE_ROW)
def test_which_models_are_read_in_one_row(make):
    assert takes_one_row(make()) is IN_ONE_ROW[make]


ARCHITECTURES = {
    "llama": new_llama,
    "llama, eager": lambda: new_llama(attn_implementation="eager"),
    "gpt2": new_gpt2,
    "qwen3": new_qwen3,
    "gemma2": new_gemma2,
    "llama with an adapter": new_adapted_llama,
}


@pytest.fixture(params=ARCHITECTURES)
def llm(request):
    return seeded(ARCHITECTURES[request.param])


def seeded(new_model):
    torch.manual_seed(0)
    return new_model().eval()


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def random_tokens(seed, *shape):
    return torch.as_tensor(np.random.default_rng(seed).integers(0, VOCABULARY, shape))


def plain_log_probs(llm, tokens):
    """What follows each token, ``[len(tokens), vocabulary]``, by a pass without cache, mask or neighbours."""
    return llm(input_ids=torch.tensor([tokens])).logits[0].log_softmax(dim=-1)


def all_log_probs(following):
    """``[rows, vocabulary]``."""
    row, token = torch.meshgrid(torch.arange(following.rows), torch.arange(VOCABULARY), indexing="ij")
    return following.log_prob(row, token)


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


class Branches:
    """Reads through a reader, and beside it keeps in plain lists what every beam of every user has written."""

    def __init__(self, llm, prompts):
        self.llm, self.prompts = llm, [row[:length].tolist() for row, length in zip(prompts, LENGTHS)]
        self.reader = PromptReader(llm, prompts, LENGTHS)
        self.first = self.reader.start()
        self.written = [[[]] for _ in self.prompts]

    def follow(self, parent):
        self.reader.follow(torch.tensor(parent))
        self.written = [[list(beams[p]) for p in parents] for beams, parents in zip(self.written, parent)]

    def read(self, beam, count, seed):
        """Every beam reads some random tokens on; returns what the reader and what the reference say follows."""
        tokens = random_tokens(seed, USERS, len(beam[0]), max(map(max, count)))
        begin = [[len(self.written[user][b]) for b in beams] for user, beams in enumerate(beam)]
        found = self.reader.read(torch.tensor(beam), tokens, torch.tensor(begin), torch.tensor(count))
        expected = []
        for user, beams in enumerate(beam):
            for nth, b in enumerate(beams):
                new = tokens[user, nth, : count[user][nth]].tolist()
                self.written[user][b] += new
                behind = plain_log_probs(self.llm, self.prompts[user] + self.written[user][b])
                expected.append(behind[len(behind) - len(new) :])
        return all_log_probs(found), torch.cat(expected)


@pytest.mark.parametrize("few", [0, 4096])
def test_what_follows_prompts_and_branches_is_that_of_plain_passes(llm, few, monkeypatch):
    """With few rows kept for nothing, those of beams that were given up are dropped on the way."""
    monkeypatch.setattr(prompt_reader, "FEW_ROWS", few)
    branches = Branches(llm, random_tokens(1, USERS, POSITIONS))
    assert_close(all_log_probs(branches.first), torch.stack([plain_log_probs(llm, p)[-1] for p in branches.prompts]))
    branches.follow([[0, 0, 0]] * USERS)
    # of unequal lengths, one after the other; the second user reads nothing, the last one only with its last beam
    assert_close(*branches.read([[0, 1, 2]] * USERS, [[4, 1, 0], [0, 0, 0], [2, 3, 4], [0, 0, 1]], seed=2))
    # some beams branch, some change places, some are given up
    branches.follow([[0, 0, 1, 2], [0, 1, 1, 0], [2, 2, 2, 0], [2, 0, 1, 2]])
    assert_close(*branches.read([[3, 0], [1, 2], [0, 1], [3, 2]], [[3, 2], [1, 2], [3, 1], [0, 2]], seed=3))
    branches.follow([[0, 3], [2, 2], [1, 3], [2, 3]])
    assert_close(*branches.read([[1, 0], [0, 1], [0, 1], [1, 0]], [[1, 2], [3, 1], [1, 1], [2, 1]], seed=4))
    before = branches.reader.n_rows
    branches.follow([[0], [0], [1], [0]])
    assert (branches.reader.n_rows < before) == (few == 0)
    assert_close(*branches.read([[0]] * USERS, [[1], [2], [0], [2]], seed=5))


def test_rows_that_some_tokens_see_by_brute_force():
    rng = np.random.default_rng(0)
    for users, tokens, places in ((3, 5, 4), (2, 1, 1), (1, 3, 0), (4, 2, 6)):
        path = rng.integers(-1, 9, (users, tokens, places))
        path[-1] = -1  # a user that sees nothing
        rows, seen = prompt_reader._distinct(torch.as_tensor(path))
        for user in range(users):
            expected = sorted({*path[user].flatten().tolist()} - {-1})
            assert rows[user, : len(expected)].tolist() == expected
            for token in range(tokens):
                assert set(rows[user][seen[user, token]].tolist()) == {*path[user, token].tolist()} - {-1}
                assert int(seen[user, token].sum()) == len({*path[user, token].tolist()} - {-1})


def test_a_new_start_forgets_what_was_read(llm):
    branches = Branches(llm, random_tokens(1, USERS, POSITIONS))
    branches.read([[0]] * USERS, [[3]] * USERS, seed=2)
    again = branches.reader.start()
    assert torch.equal(again.parts[0], branches.first.parts[0])
    branches.written = [[[]] for _ in range(USERS)]
    assert_close(*branches.read([[0]] * USERS, [[2]] * USERS, seed=3))


def test_reading_on_in_two_calls_is_reading_at_once(llm):
    tokens = random_tokens(5, USERS, 1, 5)
    reader = PromptReader(llm, random_tokens(1, USERS, POSITIONS), LENGTHS)
    beam = torch.zeros(USERS, 1, dtype=torch.long)

    def read(begin, end):
        return all_log_probs(reader.read(beam, tokens[:, :, begin:end], beam + begin, beam + end - begin)).view(USERS, -1)

    reader.start()
    at_once = read(0, 5)
    reader.start()
    first = read(0, 2)
    reader.follow(beam)
    assert_close(torch.cat([first, read(2, 5)], dim=1), at_once)


def read_some(reader):
    """What follows the prompts, and what follows three tokens behind each of them."""
    users = len(reader.lengths)
    beam = torch.zeros(users, 1, dtype=torch.long)
    first = reader.start()
    tokens = random_tokens(6, 1, 1, 3).expand(users, -1, -1)
    return all_log_probs(first), all_log_probs(reader.read(beam, tokens, beam, beam + 3)).view(users, 3, VOCABULARY)


def test_selected_users_are_read_as_all_of_them(llm):
    reader = PromptReader(llm, random_tokens(1, USERS, POSITIONS), LENGTHS)
    users = torch.tensor([3, 0, 2])
    for part, whole in zip(read_some(reader.select(users)), read_some(reader)):
        assert_close(part, whole[users])


def test_what_stands_beyond_a_prompt_does_not_matter(llm):
    prompts, others = random_tokens(1, USERS, POSITIONS), random_tokens(7, USERS, POSITIONS + 4)
    inside = torch.arange(POSITIONS) < LENGTHS.unsqueeze(1)
    others[:, :POSITIONS] = torch.where(inside, prompts, others[:, :POSITIONS])
    for one, other in zip(read_some(PromptReader(llm, prompts, LENGTHS)), read_some(PromptReader(llm, others, LENGTHS))):
        assert_close(one, other)


def test_embedded_prompts_are_read_as_their_tokens(llm):
    prompts = random_tokens(1, USERS, POSITIONS)
    embedded = llm.get_input_embeddings()(prompts)
    by_tokens, by_vectors = PromptReader(llm, prompts, LENGTHS), PromptReader(llm, None, LENGTHS, embedded)
    for one, other in zip(read_some(by_tokens), read_some(by_vectors)):
        assert_close(one, other)


def test_embedded_prompts_need_not_be_embeddings_of_tokens():
    llm = seeded(new_llama)
    embedded = llm.get_input_embeddings()(random_tokens(1, USERS, POSITIONS))
    embedded[:, 0] += 1
    first, _ = read_some(PromptReader(llm, random_tokens(2, USERS, POSITIONS), LENGTHS, embedded))
    for user, length in enumerate(LENGTHS.tolist()):
        expected = llm(inputs_embeds=embedded[user : user + 1, :length]).logits[0, -1].log_softmax(dim=-1)
        assert_close(first[user], expected)


def test_log_probabilities_sum_to_one_and_keep_the_shape():
    first = PromptReader(seeded(new_llama), random_tokens(1, USERS, POSITIONS), LENGTHS).start()
    assert_close(all_log_probs(first).exp().sum(dim=1), torch.ones(USERS))
    assert first.log_prob(torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long)).shape == (2, 3)


def test_logits_of_gemma2_are_capped():
    """Else its case above would not show that what a model does behind its output layer stays."""
    llm = seeded(new_gemma2)
    tokens = random_tokens(1, USERS, POSITIONS)
    hidden = llm.model(input_ids=tokens).last_hidden_state
    assert llm.lm_head(hidden).abs().max() > 2 * CAP
    logits = PromptReader(llm, tokens, LENGTHS).logits
    assert 0.5 * CAP < logits.abs().max() <= CAP


def test_logits_only_at_some_positions():
    llm = seeded(new_llama)
    tokens = random_tokens(1, USERS, POSITIONS)
    every = llm(input_ids=tokens).logits
    row, column = torch.tensor([2, 0, 2]), torch.tensor([1, 8, 0])
    with logits_only_at(llm, row, column):
        some = llm(input_ids=tokens).logits
    assert some.shape == (3, VOCABULARY)
    assert_close(some, every[row, column])
    assert_close(llm(input_ids=tokens).logits, every)


def test_the_output_layer_is_as_before_when_the_model_fails(llm):
    tokens = random_tokens(1, USERS, POSITIONS)
    expected = llm(input_ids=tokens).logits
    unknown = torch.full_like(tokens, VOCABULARY)
    with pytest.raises(IndexError):
        PromptReader(llm, unknown, LENGTHS)
    reader = PromptReader(llm, tokens, LENGTHS)
    reader.start()
    beam = torch.zeros(USERS, 1, dtype=torch.long)
    with pytest.raises(IndexError):
        reader.read(beam, unknown[:, :1].unsqueeze(1), beam, beam + 1)
    assert_close(llm(input_ids=tokens).logits, expected)


def test_an_adapter_and_trained_rows_are_read_with():
    """Else the adapted model's case above would say no more than that of the model it adapts."""
    llm = seeded(new_adapted_llama)
    tokens = random_tokens(1, USERS, POSITIONS)
    adapted, _ = read_some(PromptReader(llm, tokens, LENGTHS))
    with llm.disable_adapter():
        plain, _ = read_some(PromptReader(llm, tokens, LENGTHS))
    assert ((adapted - plain).abs().amax(dim=1) > 0.1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_models_that_read_branches(architecture, dtype):
    torch.manual_seed(0)
    assert reads_branches(ARCHITECTURES[architecture]().eval().to(dtype))


def test_bfloat16_tells_rounding_from_a_wrong_reading(monkeypatch):
    """Many layers round by more than one in some log-probability, as SmolLM2-135M does; a mask that shows all is told."""
    torch.manual_seed(0)
    config = LlamaConfig(
        **{**SIZES, "num_hidden_layers": 24, "hidden_size": 64}, num_attention_heads=4, initializer_range=SPREAD
    )
    llm = LlamaForCausalLM(config).eval().bfloat16()
    assert reads_branches(llm)
    monkeypatch.setattr(prompt_reader, "_as_taken_by", lambda llm, mask: torch.ones_like(mask))
    assert not reads_branches(llm)


def test_models_that_cannot_read_branches():
    """ALiBi counts positions along the row, a state space has no attention: both read one branch after the other."""
    torch.manual_seed(0)
    bloom = BloomForCausalLM(
        BloomConfig(vocab_size=VOCABULARY, hidden_size=16, n_layer=1, n_head=2, initializer_range=SPREAD)
    )
    mamba = MambaForCausalLM(MambaConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, state_size=4))
    assert not reads_branches(bloom.eval())
    assert not reads_branches(mamba.eval())
