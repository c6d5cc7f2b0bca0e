"""The references are teacher forcing of every title, and ``generate`` of transformers."""

from functools import lru_cache, partial

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from recbole_gr.decoding import title_search
from recbole_gr.decoding.beam_search import SearchLimits, certified_beam_search
from recbole_gr.decoding.title_search import STRETCH, title_beam_search, title_log_likelihood
from recbole_gr.decoding.title_trie import TitleTrie
from recbole_gr.language_model.prompt import TokenCounter
from recbole_gr.language_model.prompt_reader import PromptReader

END, VOCABULARY = 0, 60
USERS, POSITIONS = 12, 12


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


class Setting:
    """A language model of random weights, prompts, and a catalogue.

    Args:
        titles (list): one tuple of tokens per item, that of item 1 first.
        spread (float): standard deviation of the weights; the larger, the more certain is the model.

    Attributes:
        every_item (torch.Tensor): float32 ``[users, items + 1]``, log-probabilities by teacher forcing; -inf for item 0.
        prefixes (list): for every user the log-probability of every beginning of a title.
    """

    def __init__(self, seed, titles, spread=0.3):
        torch.manual_seed(seed)
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        ends = {"bos_token_id": 1, "eos_token_id": END, "pad_token_id": END}
        config = LlamaConfig(vocab_size=VOCABULARY, initializer_range=spread, **sizes, **heads, **ends)
        self.llm = LlamaForCausalLM(config).eval()
        self.prompts = torch.randint(1, VOCABULARY, (USERS, POSITIONS))
        self.lengths = torch.randint(1, POSITIONS + 1, (USERS,))
        self.lengths[0] = POSITIONS
        self.titles = titles
        starts = np.append(0, np.cumsum([0] + [len(title) for title in titles]))
        self.trie = TitleTrie(np.concatenate([np.array(title) for title in titles]), starts)
        self.leaf_titles = sorted(set(titles))
        self.prefixes = [self._teacher_forcing(user) for user in range(USERS)]
        scores = [[-torch.inf] + [prefixes[title] for title in titles] for prefixes in self.prefixes]
        self.every_item = torch.tensor(scores)

    def _teacher_forcing(self, user):
        """One plain pass over the prompt with each title behind it; what pads the shorter ones comes after their end."""
        prompt = self.prompts[user, : self.lengths[user]]
        padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(title) for title in self.leaf_titles], batch_first=True)
        tokens = torch.cat([prompt.expand(len(padded), -1), padded], dim=1)
        log_probs = self.llm(input_ids=tokens).logits[:, len(prompt) - 1 : -1].log_softmax(dim=-1)
        sums = log_probs.gather(2, padded.unsqueeze(-1)).squeeze(-1).cumsum(dim=1).tolist()
        every_length = range(1, padded.shape[1] + 1)
        return {
            title[:length]: sums[leaf][length - 1]
            for leaf, title in enumerate(self.leaf_titles)
            for length in every_length
            if length <= len(title)
        }

    def reader(self, **options):
        return PromptReader(self.llm, self.prompts, self.lengths, **options)

    def search(self, beam_size, k, *, excluded=None, **limits):
        limits, search = SearchLimits(beam_size, k, **limits), partial(title_beam_search, k=k)
        found = certified_beam_search(self.reader(), self.trie, limits, excluded=excluded, search=search)
        return found.lists.dense(), found.certified, found.certified_by_first_search

    def found(self, beam_size):
        """The best titles by our search, best first, and their scores, for every user."""
        beams = title_beam_search(self.reader(), self.trie, beam_size, beam_size)
        titles = [[self.leaf_titles[leaf] for leaf in leaves if leaf >= 0] for leaves in beams.leaves.tolist()]
        return titles, [scores[: len(own)] for own, scores in zip(titles, beams.scores)]


def random_titles(seed, n_items=200):
    """Titles of very different lengths: 1 to 3 words of a few, up to 12 of many; some items share a title."""
    rng = np.random.default_rng(seed)
    titles = []
    for _ in range(n_items - 10):
        few, many = rng.integers(1, 12, rng.integers(1, 4)), rng.integers(1, VOCABULARY, rng.integers(0, 13))
        titles.append((*few.tolist(), *many.tolist(), END))
    return titles + [titles[item] for item in rng.integers(0, len(titles), 10)]


@lru_cache
def setting(seed, spread=0.3):
    return Setting(seed, random_titles(seed), spread)


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def best(scores, k):
    return scores.topk(k, dim=1).values


@pytest.mark.parametrize("seed", range(3))
def test_scores_found_are_the_exact_log_probabilities(seed):
    case = setting(seed)
    scores, _, _ = case.search(10, 10)
    found = scores > -torch.inf
    assert (found.sum(1) >= 10).all()
    assert_close(scores[found], case.every_item[found])


@pytest.mark.parametrize("spread", [0.02, 0.3, 1.0])
def test_beams_as_wide_as_the_catalogue_are_the_full_ranking(spread):
    case = setting(1, spread)
    scores, sure, first = case.search(200, 200)
    assert sure.all() and first.all()
    torch.testing.assert_close(scores, case.every_item, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_certificate_never_lies(seed):
    case, k = setting(seed), 2
    certified, beam_sizes = 0, (5, 10, 20, 40, 80)
    for beam_size in beam_sizes:
        scores, sure, first = case.search(beam_size, k)
        assert torch.equal(sure, first)
        assert_close(best(scores, k)[sure], best(case.every_item, k)[sure])
        certified += int(sure.sum())
    assert 0 < certified < len(beam_sizes) * USERS


def test_a_narrow_beam_does_miss_titles_and_then_has_no_certificate():
    case = setting(0, spread=0.1)
    scores, sure, _ = case.search(10, 10)
    wrong = (best(scores, 10) - best(case.every_item, 10)).abs().amax(1) > 1e-3
    assert wrong.any()
    assert not sure[wrong].any()


@pytest.mark.parametrize("spread", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("seed", range(2))
def test_certify_makes_every_ranking_exact(seed, spread):
    case = setting(seed, spread)
    scores, sure, first = case.search(10, 10, certify=True)
    assert sure.all() and not first.all()
    assert_close(best(scores, 10), best(case.every_item, 10))
    found = scores > -torch.inf
    assert_close(scores[found], case.every_item[found])


def test_certify_in_small_portions_is_the_same():
    case = setting(2)
    scores, sure, first = case.search(10, 10, certify=True, max_beams=200)  # one user at a time
    assert sure.all() and not first.all()
    assert_close(best(scores, 10), best(case.every_item, 10))


@pytest.mark.parametrize("tokens_at_once", [1, 100])
def test_few_tokens_at_once_give_the_same(monkeypatch, tokens_at_once):
    case = setting(0)
    expected, passes = search_and_count_passes(case)
    monkeypatch.setitem(title_search.TOKENS_AT_ONCE, "cpu", tokens_at_once)
    found, more_passes = search_and_count_passes(case)
    assert more_passes > 2 * passes
    assert torch.equal(found.leaves, expected.leaves)
    assert_close(found.scores, expected.scores)
    assert_close(found.pruned, expected.pruned)


def search_and_count_passes(case):
    """What a search finds, and how often it calls the language model."""
    passes = []
    handle = case.llm.register_forward_hook(lambda *_: passes.append(1))
    beams = title_beam_search(case.reader(), case.trie, 30, 10)
    handle.remove()
    return beams, len(passes)


def seen_items(seed, per_user):
    """Items seen: as many random ones per user, some of them twice; the last user has seen all 200."""
    items = torch.as_tensor(np.random.default_rng(seed).integers(1, 201, (USERS - 1) * per_user))
    rows = torch.arange(USERS - 1).repeat_interleave(per_user)
    return torch.cat([rows, torch.full((200,), USERS - 1)]), torch.cat([items, torch.arange(1, 201)])


@pytest.mark.parametrize("per_user", [20, 700])
@pytest.mark.parametrize("certify", [False, True])
def test_seen_items_are_not_searched_for(per_user, certify):
    """Of 200 items 700 random ones leave 200 * 0.995 ** 700, about 6: fewer than k for some users, none for the last."""
    case = setting(4)
    rows, items = seen_items(0, per_user)
    left = case.every_item.clone()
    left[rows, items] = -torch.inf
    if per_user == 700:
        assert 0 < (left > -torch.inf).sum(1)[:-1].min() < 10
    excluded = case.trie.exclusion(USERS, (rows, items))
    scores, sure, _ = case.search(10 if certify else 200, 10, certify=certify, excluded=excluded)
    leaf_left = {(user, case.titles[item - 1]) for user, item in torch.nonzero(left > -torch.inf).tolist()}
    found = {(user, case.titles[item - 1]) for user, item in torch.nonzero(scores > -torch.inf).tolist()}
    assert found <= leaf_left  # an item seen comes along only where another with its title is left
    scores[rows, items] = -torch.inf
    assert sure.all()
    assert_close(best(scores, 10), best(left, 10))
    assert (scores[-1] == -torch.inf).all()


def test_items_that_share_a_title_have_one_score_and_are_that_many_candidates():
    """Four items have each title, so that three titles make up the first ten places."""
    titles = sorted(set(random_titles(5)))[::4]
    case = Setting(5, titles * 4)
    scores, sure, _ = case.search(10, 10, certify=True)
    assert sure.all()
    assert_close(best(scores, 10), best(case.every_item, 10))
    by_copy = scores[:, 1:].view(USERS, 4, len(titles))
    assert (by_copy == by_copy[:, :1]).all()
    assert_close(best(by_copy[:, 0], 3), best(case.every_item, 12)[:, ::4])


def test_a_user_with_fewer_items_than_k_has_them_all():
    titles = random_titles(6)[:7]
    case = Setting(6, titles)
    scores, sure, _ = case.search(10, 10)
    assert sure.all()
    assert_close(scores, case.every_item)


@pytest.mark.parametrize("rank", [1, 15, 60])
def test_a_floor_leaves_the_titles_above_it(rank):
    case = setting(3)
    of_titles = torch.tensor([[prefixes[title] for title in case.leaf_titles] for prefixes in case.prefixes])
    floor = best(of_titles, rank + 1)[:, -2:].mean(dim=1)  # between two neighbours of the ranking
    counter, without = TokenCounter(), TokenCounter()
    beams = title_beam_search(case.reader(counter=counter), case.trie, 200, 200, floor=floor)
    assert_close(beams.scores[:, :rank], best(of_titles, rank))
    assert torch.equal(beams.pruned, floor)
    title_beam_search(case.reader(counter=without), case.trie, 200, 200)
    assert counter.tokens < without.tokens


def test_a_floor_above_all_titles_leaves_none():
    case, counter = setting(3), TokenCounter()
    beams = title_beam_search(case.reader(counter=counter), case.trie, 20, 10, floor=torch.zeros(USERS))
    assert beams.leaves.shape == (USERS, 0) and torch.equal(beams.pruned, torch.zeros(USERS))
    assert counter.tokens == int(case.lengths.sum())


def test_what_was_pruned_is_the_best_prefix_given_up():
    """By hand: two beams go on from four words; the third best word is the best prefix given up, if it is ever missed."""
    case = Setting(7, [(word, *range(20, 30), END) for word in (3, 4, 5, 6)])
    beams = title_beam_search(case.reader(), case.trie, 2, 2)
    words = torch.tensor([[prefixes[(word,)] for word in (3, 4, 5, 6)] for prefixes in case.prefixes])
    assert_close(beams.pruned, best(words, 3)[:, 2])


def test_stretches_longer_than_one_pass_reads():
    """Titles part at the first word and after a long stretch, at the borders of passes and beside them."""
    rng = np.random.default_rng(8)
    titles = []
    for word in range(2, 22):
        before = (word, *rng.integers(1, VOCABULARY, 2 * STRETCH + word % 4 - 2).tolist())
        after = rng.integers(1, VOCABULARY, (2, 3 * STRETCH)).tolist()
        titles += [(*before, 30, *after[0][: STRETCH + word], END), (*before, 31, *after[1][: word % 3], END)]
    case = Setting(8, titles)
    scores, sure, _ = case.search(40, 40)
    assert sure.all()
    torch.testing.assert_close(scores, case.every_item, atol=2e-4, rtol=1e-6)
    narrow, sure, first = case.search(5, 5, certify=True)
    assert sure.all() and not first.all()
    assert_close(best(narrow, 5), best(case.every_item, 5))


@pytest.mark.parametrize("length", [1, 2, STRETCH, STRETCH + 1, 2 * STRETCH + 1, 3 * STRETCH])
def test_a_single_title_is_read_once_but_for_its_end(length):
    case, counter = Setting(9, [(*range(1, length), END)]), TokenCounter()
    beams = title_beam_search(case.reader(counter=counter), case.trie, 10, 1)
    assert_close(beams.scores, case.every_item[:, 1:])
    assert counter.tokens == int(case.lengths.sum()) + USERS * (length - 1)


def test_titles_of_one_token():
    case, counter = Setting(10, [(word,) for word in range(1, 30)] + [(7,)]), TokenCounter()
    scores, sure, _ = case.search(30, 30)
    assert sure.all()
    assert_close(scores, case.every_item)
    title_beam_search(case.reader(counter=counter), case.trie, 5, 5)
    assert counter.tokens == int(case.lengths.sum())  # the prompts are all that is read


def test_a_title_that_is_only_an_end_among_others():
    case = Setting(11, [(END,), (5, END), (5, 6, END), (7, 8, 9, END)])
    scores, sure, _ = case.search(4, 4)
    assert sure.all()
    assert_close(scores, case.every_item)


@pytest.mark.parametrize("tokens_at_once", [1, 2000, 1 << 20])
def test_log_likelihoods_of_given_items(monkeypatch, tokens_at_once):
    monkeypatch.setitem(title_search.TOKENS_AT_ONCE, "cpu", tokens_at_once)
    case = setting(0)
    items = torch.as_tensor(np.random.default_rng(0).integers(1, 201, (USERS, 9)))
    items[:, 1] = items[:, 0]
    assert_close(title_log_likelihood(case.reader(), case.trie, items), case.every_item.gather(1, items))


def test_log_likelihoods_of_titles_of_one_token():
    case = Setting(10, [(word,) for word in range(1, 30)])
    items = torch.arange(1, 30).expand(USERS, -1)
    assert_close(title_log_likelihood(case.reader(), case.trie, items), case.every_item[:, 1:])


def generated(case, beam_size):
    """As :meth:`Setting.found`, by ``generate`` of transformers."""
    positions = torch.arange(POSITIONS) - (POSITIONS - case.lengths.unsqueeze(1))
    left_padded = case.prompts.gather(1, positions.clamp(min=0)).masked_fill(positions < 0, END)
    follows = {}
    for title in case.titles:
        for length in range(len(title)):
            follows.setdefault(title[:length], set()).add(title[length])

    def allowed(_, tokens):
        return sorted(follows.get(tuple(tokens[POSITIONS:].tolist()), {END}))  # of a dead beam transformers asks, too

    output = case.llm.generate(
        input_ids=left_padded,
        attention_mask=(positions >= 0).long(),
        prefix_allowed_tokens_fn=allowed,
        num_beams=beam_size,
        num_return_sequences=beam_size,
        length_penalty=0.0,
        early_stopping=False,
        do_sample=False,
        max_new_tokens=max(map(len, case.titles)),
        return_dict_in_generate=True,
        output_scores=True,
    )
    sequences = [tuple(tokens[: tokens.index(END) + 1]) for tokens in output.sequences[:, POSITIONS:].tolist()]
    titles = [sequences[user * beam_size : (user + 1) * beam_size] for user in range(USERS)]
    return titles, list(output.sequences_scores.view(USERS, beam_size))


def plain_beam_search(case, user, beam_size, as_transformers):
    """Beam search over a list of titles; ``as_transformers``: a title that ends outside the best beams is lost."""
    prefixes = case.prefixes[user]
    follow = {}
    for prefix in prefixes:
        follow.setdefault(prefix[:-1], []).append(prefix)
    going_on, ended = [()], []
    while going_on:
        candidates = sorted((new for old in going_on for new in follow[old]), key=prefixes.get, reverse=True)
        if as_transformers:
            candidates = candidates[: 2 * beam_size]
        ended += [new for new in candidates[: beam_size if as_transformers else None] if new[-1] == END]
        going_on = [new for new in candidates if new[-1] != END][:beam_size]
    return sorted(ended, key=prefixes.get, reverse=True)[:beam_size]


def titles_that_part_early(seed):
    """Titles that part within three words and then go on for 0 to 8 more."""
    rng = np.random.default_rng(seed)
    titles = []
    for number in rng.permutation(8**3)[:300].tolist():
        first = (1 + number // 64, 1 + number // 8 % 8, 1 + number % 8)
        titles.append((*first, *rng.integers(1, VOCABULARY, rng.integers(0, 9)).tolist(), END))
    return titles


@pytest.mark.parametrize("beam_size", [10, 30])
@pytest.mark.parametrize("seed, spread", [(0, 0.1), (1, 0.3), (2, 0.5)])
def test_the_same_as_generate_of_transformers(seed, spread, beam_size):
    """Where titles part early, no more candidates than beams are left when the first title ends: see the next test."""
    case = Setting(seed, titles_that_part_early(seed), spread)
    theirs, their_scores = generated(case, beam_size)
    ours, our_scores = case.found(beam_size)
    assert ours == theirs
    assert_close(torch.stack(our_scores), torch.stack(their_scores))
    forced = [[case.prefixes[user][title] for title in titles] for user, titles in enumerate(theirs)]
    assert_close(torch.stack(our_scores), torch.tensor(forced))
    assert len({len(title) for title in ours[0]}) > 3
    assert (best(case.every_item, beam_size) - torch.stack(our_scores)).abs().amax() > 1e-3  # beams did miss titles


@pytest.mark.parametrize("beam_size", [10, 30])
@pytest.mark.parametrize("seed", range(2))
def test_never_worse_than_generate_of_transformers(seed, beam_size):
    """Where titles end at all lengths, transformers loses those that are not among a step's best ``num_beams`` candidates,
    the prefixes that go on counted with them. That is all the difference.
    """
    case = Setting(seed, sorted(set(random_titles(seed))))
    theirs, their_scores = generated(case, beam_size)
    ours, our_scores = case.found(beam_size)
    assert theirs == [plain_beam_search(case, user, beam_size, as_transformers=True) for user in range(USERS)]
    assert ours == [plain_beam_search(case, user, beam_size, as_transformers=False) for user in range(USERS)]
    difference = torch.stack(our_scores) - torch.stack(their_scores)
    assert (difference > -1e-4).all() and (difference > 1e-2).any()
    forced = [[case.prefixes[user][title] for title in titles] for user, titles in enumerate(theirs)]
    assert_close(torch.stack(their_scores), torch.tensor(forced))
