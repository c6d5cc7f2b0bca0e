"""IDGenRec against plain loops, and its T5 against that of transformers."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model
from recbole.utils import get_trainer, init_seed
from support.atomic import read_atomic
from support.encoders import save_small_t5
from support.llm_reference import outcome
from support.model_tests import GenerativeModelTests
from torch.nn import functional as F
from transformers import AutoTokenizer, T5ForConditionalGeneration

from recbole_gr.experiment.run import run
from recbole_gr.integration.config import make_config
from recbole_gr.language_model.t5 import load_t5
from recbole_gr.models.idgenrec.id_generator import IDGenerator, soft_words
from recbole_gr.models.idgenrec.keyphrases import keyphrase_ids
from recbole_gr.models.idgenrec.network import network_of_t5
from recbole_gr.models.idgenrec.trainer import Turns
from recbole_gr.utils.errors import DataError, SettingError

SIZES = {"n_layers": 1, "d_model": 16, "n_heads": 2, "d_kv": 8, "d_ff": 32, "dropout": 0.0}
PER_WORD = {"loss_positions": "last", "history_position": "word"}


@pytest.fixture(scope="module")
def texts(smaller_part):
    items = read_atomic(os.path.join(smaller_part[1], "small", "small.item"))
    return [f"{title}, {genres}" for title, genres in zip(items["movie_title:token_seq"], items["class:token_seq"])]


@pytest.fixture(scope="module")
def t5_folder(texts, tmp_path_factory):
    return save_small_t5(tmp_path_factory.mktemp("t5") / "small", texts)


@pytest.fixture(scope="module")
def base(smaller_part, tmp_path_factory):
    """Settings of a run of seconds on the smaller part."""
    common = {"data_path": smaller_part[1], "cache_dir": str(tmp_path_factory.mktemp("cache")), "show_progress": False}
    training = {"epochs": 2, "train_batch_size": 64, "warmup_steps": 2, "train_precision": "float32"}
    return {**common, **training, **SIZES, "MAX_ITEM_LIST_LENGTH": 5, "beam_size": 20}


def prepared(settings, **more):
    config = make_config("IDGenRec", "small", config_dict={**settings, **more})
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    model = config.model_class(config, train._dataset).eval()
    trainer = get_trainer(config["MODEL_TYPE"], "IDGenRec")(config, model)
    return SimpleNamespace(config=config, dataset=dataset, train=train, valid=valid, test=test, model=model, trainer=trainer)


def trained(settings, **more):
    """The model of a run, from its checkpoint, with its data."""
    done = outcome(run("IDGenRec", "small", config_dict={**settings, **more}))
    config, model, dataset, train, valid, test = load_data_and_model(done.checkpoint)
    return SimpleNamespace(config=config, dataset=dataset, train=train, test=test, model=model.eval(), done=done)


def id_of(model, item):
    return model.id_tokens[item, : model.id_lengths[item]].tolist()


# Textual IDs


def test_keyphrases_by_hand():
    """ "hair" is in three texts, "gel" and "styling gel" in two, the rest in one; what is shared comes first, the general first."""
    texts = ["", "Styling Gel, Hair", "styling gel; hair", "Hair of the dog", "the dog", "", ""]
    ids = keyphrase_ids(texts, n_words=2, phrase_words=2, min_items=2)
    assert ids[0] == () and len(set(ids[1:])) == 6
    assert ids[1] == ("styling", "gel", "hair")[: len(ids[1])] or set(ids[1]) == {"styling", "gel", "hair"}
    assert ids[2] == (*ids[1], "2")  # the texts are the same
    assert ids[3] == ("hair", "dog")
    assert ids[4] == ("dog",)
    assert ids[5:] == [("item",), ("item", "2")]


def test_a_number_does_not_take_the_id_of_another_item():
    """The second "heat" would be "heat 2", which is a film of its own."""
    texts = ["", "heat", "heat", "heat 2"]
    ids = keyphrase_ids(texts, n_words=1, phrase_words=1, min_items=1)
    assert len(set(ids[1:])) == 3 and ids[1] == ("heat",)


def test_no_text_has_a_word():
    assert keyphrase_ids(["", "...", ""], 3, 2, 2) == [(), ("item",), ("item", "2")]


def test_ids_are_distinct_and_of_words_of_the_texts(base):
    here = prepared(base)
    ids, texts = here.model.texts_of_ids()[1:], here.dataset.item_texts[1:]
    assert len(set(ids)) == len(ids) == 172
    for words, text in zip(ids, texts):
        assert all(word in text.lower() or word.isdigit() for word in words.split())


# The network


@pytest.mark.parametrize("feed_forward", ["relu", "gated-gelu"])
def test_a_t5_in_our_layers_has_its_logits(texts, tmp_path, feed_forward):
    folder = save_small_t5(tmp_path / "t5", texts, feed_forward)
    theirs = T5ForConditionalGeneration.from_pretrained(folder).eval()
    ours = network_of_t5(load_t5("recommender", folder, "scratch"), dropout=0.0).eval()
    read, written = torch.randint(3, 300, (3, 11)), torch.randint(3, 300, (3, 6))
    present = torch.arange(11) < torch.tensor([11, 7, 2]).unsqueeze(1)
    with torch.no_grad():
        expected = theirs(input_ids=read, attention_mask=present.long(), labels=written).logits
        found = ours.logits(ours.states(ours.encode(ours.embedding(read), present), written.unsqueeze(1)))[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def plain_scores(model, history):
    """Log-probabilities of all items: one pass for each token of each ID, on a history without padding."""
    network = model.network
    with torch.no_grad():
        words = [network.embedding(torch.tensor(id_of(model, item)[:-1])) for item in history]
        if model.per_item:
            positions = torch.stack([of_item.sum(dim=0) for of_item in words])
        else:
            end = network.embedding(torch.tensor([model.vocabulary.end]))
            positions = torch.cat([part for of_item in words for part in (of_item, end)])
        encoded = network.encode(positions[None], torch.ones(1, len(positions), dtype=torch.bool))
        scores = []
        for item in range(1, model.n_items):
            tokens, total = id_of(model, item), 0.0
            for n in range(1, len(tokens) + 1):
                states = network.states(encoded, torch.tensor(tokens[:n])[None, None])
                total += float(network.logits(states[0, 0, -1]).log_softmax(-1)[tokens[n - 1]])
            scores.append(total)
    return torch.tensor(scores)


@pytest.mark.parametrize("options", [{}, PER_WORD], ids=["item", "word"])
@pytest.mark.parametrize("weights", ["random", "trained"])
def test_scores_are_those_of_a_plain_loop(base, options, weights):
    here = (prepared if weights == "random" else trained)({**base, **options}, topk=[5, 172], beam_size=172)
    interaction = next(iter(here.test))[0][:3]
    found = here.model.full_sort_predict(interaction)
    for row in range(3):
        history = interaction["item_id_list"][row, : interaction["item_length"][row]].tolist()
        torch.testing.assert_close(found[row, 1:], plain_scores(here.model, history), atol=1e-3, rtol=1e-4)


def test_a_t5_recommender_scores_as_transformers_does(base, t5_folder):
    """The prompt as text, tokenised by hand."""
    here = prepared({**base, **PER_WORD}, recommender=t5_folder, topk=[5, 172], beam_size=172)
    theirs, tokenizer = (
        T5ForConditionalGeneration.from_pretrained(t5_folder).eval(),
        AutoTokenizer.from_pretrained(t5_folder),
    )
    interaction = next(iter(here.test))[0][:2]
    found = here.model.full_sort_predict(interaction)
    separator = tokenizer(", ", add_special_tokens=False)["input_ids"]
    for row in range(2):
        history = interaction["item_id_list"][row, : interaction["item_length"][row]].tolist()
        prompt = tokenizer("What would the user purchase after ", add_special_tokens=False)["input_ids"]
        for nth, item in enumerate(history):
            prompt = prompt + (separator if nth else []) + id_of(here.model, item)[:-1]
        prompt = torch.tensor([prompt + tokenizer("?", add_special_tokens=False)["input_ids"] + [2]])
        for item in (1, 7, 100):
            labels = torch.tensor([id_of(here.model, item)])
            with torch.no_grad():
                of_next = theirs(input_ids=prompt, labels=labels).logits.log_softmax(-1)
            expected = of_next.gather(2, labels.unsqueeze(-1)).sum()
            torch.testing.assert_close(found[row, item], expected, atol=1e-3, rtol=1e-4)


def test_the_loss_at_every_position_is_that_of_its_prefixes(base):
    here = prepared(base)
    batch = next(iter(here.train))
    items, lengths, targets = batch["item_id_list"], batch["item_length"], batch["item_id_target_list"]
    total, count = 0.0, 0
    for row in range(len(items)):
        for position in range(int(lengths[row])):
            target = int(targets[row, position])
            if target:
                total -= float(plain_scores_of(here.model, items[row, : position + 1].tolist(), target))
                count += int(here.model.id_lengths[target])
        if count > 200:
            break
    rows = slice(0, row + 1)
    loss = here.model.calculate_loss(type(batch)({name: column[rows] for name, column in batch.interaction.items()}))
    assert float(loss) == pytest.approx(total / count, abs=1e-4)


def plain_scores_of(model, history, item):
    tokens = torch.tensor(id_of(model, item))[None, None]
    with torch.no_grad():
        words = torch.stack([model.network.embedding(torch.tensor(id_of(model, one)[:-1])).sum(dim=0) for one in history])
        encoded = model.network.encode(words[None], torch.ones(1, len(history), dtype=torch.bool))
        log_probs = model.network.logits(model.network.states(encoded, tokens)).log_softmax(-1)
    return log_probs.gather(-1, tokens.unsqueeze(-1)).sum()


# The ID generator


def generator_of(folder, texts, **options):
    options = {"text_max_tokens": 32, "id_max_tokens": 4, "groups": 3, "diversity": 1.0, "attempts": 2, **options}
    return IDGenerator(load_t5("id_generator", folder, "keyphrases"), ["", *texts], **options)


def test_diverse_beams_by_a_plain_loop(texts, t5_folder):
    generator = generator_of(t5_folder, texts).eval()
    theirs, tokenizer = (
        T5ForConditionalGeneration.from_pretrained(t5_folder).eval(),
        AutoTokenizer.from_pretrained(t5_folder),
    )
    never = [0, 1, *range(len(tokenizer), len(tokenizer) + 8)]
    with torch.no_grad():
        found = generator.candidates(torch.arange(1, 9), groups=3, diversity=1.5)
        for item in range(1, 9):
            read = torch.tensor([tokenizer(texts[item - 1])["input_ids"][:32]])
            groups = [[], [], []]
            for step in range(4):
                taken = {}
                for group in groups:
                    if 2 in group:
                        continue
                    written = torch.tensor([[0, *group]])
                    scores = theirs(input_ids=read, decoder_input_ids=written).logits[0, -1].log_softmax(-1)
                    scores[never + [2] * (step == 0)] = -torch.inf
                    for token, times in taken.items():
                        scores[token] -= 1.5 * times
                    group.append(int(scores.argmax()))
                    taken[group[-1]] = taken.get(group[-1], 0) + 1
            assert [list(one) for one in found[item - 1]] == [[t for t in group if t != 2] for group in groups]


def test_ids_of_the_generator_are_unique_even_for_one_text(texts, t5_folder):
    generator = generator_of(t5_folder, [texts[0]] * 40)
    made = generator.make()
    assert made[0] == () and len(set(made[1:])) == 40 and all(2 not in one for one in made)
    greedy = generator.candidates(torch.tensor([1]), 1, 0.0)[0][0]
    assert made[1] == greedy
    numbered = generator_of(t5_folder, [texts[0]] * 3, groups=1, attempts=1).make()
    two = tuple(generator.tokenizer(" (2)", add_special_tokens=False)["input_ids"])
    assert numbered[1:3] == [greedy, greedy + two]


def test_words_that_are_certain_are_read_as_they_are():
    embedding, tokens = torch.randn(9, 4), torch.tensor([[3, 8], [0, 1]])
    torch.testing.assert_close(soft_words(F.one_hot(tokens, 9).float(), embedding), embedding[tokens])


def test_soft_words_of_a_history_by_a_plain_loop(base, t5_folder):
    here = prepared({**base, **PER_WORD}, id_generator=t5_folder, recommender=t5_folder, rounds=2, epochs=3)
    model = here.model
    theirs, tokenizer = (
        T5ForConditionalGeneration.from_pretrained(t5_folder).eval(),
        AutoTokenizer.from_pretrained(t5_folder),
    )
    history = torch.tensor([[5, 9, 5]])
    with torch.no_grad():
        found = model._soft_words(history)[0]
        for nth, item in enumerate(history[0].tolist()):
            read = torch.tensor([tokenizer(here.dataset.item_texts[item])["input_ids"][:128]])
            labels = torch.tensor([id_of(model, item)])
            probabilities = theirs(input_ids=read, labels=labels).logits[0].softmax(-1)
            expected = probabilities @ theirs.get_input_embeddings().weight
            torch.testing.assert_close(found[nth, : labels.shape[1]], expected, atol=1e-4, rtol=1e-4)


# Turns


def test_turns():
    """7 epochs in 3 rounds: 5 of the recommender, 2 + 2 + 1, and one of the generator behind each of the first two."""
    turns = Turns(epochs=7, rounds=3, generator_epochs=1)
    found = [turns.of(epoch) for epoch in range(7)]
    assert [number for number, *_ in found] == [0, 0, 0, 1, 1, 1, 2]
    assert [of_generator for _, of_generator, _ in found] == [False, False, True, False, False, True, False]
    assert [is_last for *_, is_last in found] == [False, False, True, False, False, True, True]
    assert all(not Turns(5, 1, 1).of(epoch)[1] for epoch in range(5))


@pytest.mark.parametrize("options", [{}, PER_WORD], ids=["scratch", "T5"])
def test_each_turn_changes_one_part(base, t5_folder, options):
    recommender = t5_folder if options else "scratch"
    rounds = {"rounds": 2, "epochs": 3, "generator_learning_rate": 0.05}
    here = prepared({**base, **options}, id_generator=t5_folder, recommender=recommender, **rounds)
    here.trainer.start_schedule(here.train)

    def weights():
        return {name: weight.detach().clone() for name, weight in here.model.named_parameters()}

    def changed(before):
        now = weights()
        return {name.split(".")[0] for name in now if not torch.equal(now[name], before[name])}

    before, ids = weights(), here.model.id_tokens.tolist()
    for epoch, part in enumerate(["network", "generator", "network"]):
        here.model.train()
        here.trainer._train_epoch(here.train, epoch)
        assert changed(before) == {part}
        before = weights()
        assert (here.model.id_tokens.tolist() != ids) == (epoch >= 1)
    assert len({tuple(id_of(here.model, item)) for item in range(1, 173)}) == 172
    leaves = here.model.trie.leaf_of_item[1:]
    assert leaves.unique().tolist() == list(range(172))


class TestInTurns(GenerativeModelTests):
    """The whole conformance suite with two T5s that are trained in turns; a resumed run has the IDs of where it stopped."""

    model = "IDGenRec"
    learns = False

    @pytest.fixture
    def given(self, base, t5_folder):
        more = {"id_generator": t5_folder, "recommender": t5_folder, "rounds": 2, "generator_learning_rate": 0.05}
        return {**base, **PER_WORD, **more, "epochs": 3, "id_max_tokens": 5}


# What a checkpoint belongs to, and what cannot work


def test_a_checkpoint_of_other_words_is_refused(base):
    here, other = prepared(base), prepared(base, text_template="{movie_title}")
    with pytest.raises(DataError, match="^the checkpoint was trained on textual IDs of other words"):
        other.model.load_state_dict(here.model.state_dict())
    state = here.model.state_dict()
    state["id_lengths"] = state["id_lengths"][:-1]
    with pytest.raises(DataError, match="a catalogue of 171 items, this one has 172"):
        here.model.load_state_dict(state)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"rounds": 2}, "rounds=2: must be 1 with id_generator=keyphrases, which has nothing to train"),
        ({"rounds": 3, "id_generator": "T5", "epochs": 4}, "epochs=4: must be at least 5 for rounds=3"),
        (
            {"id_generator": "no-such/t5"},
            "id_generator='no-such/t5': not on disk, .*a local folder or keyphrases work offline",
        ),
        ({"id_generator": "a b"}, "id_generator='a b': neither keyphrases, a folder nor a name"),
        ({"recommender": "T5", "history_position": "word"}, "loss_positions='all': must be last with recommender="),
        ({"recommender": "data", **PER_WORD}, "recommender='data': the folder holds no T5"),
        ({"history_position": "word"}, "history_position='word': needs loss_positions=last"),
        ({"id_words": 0}, "id_words=0: must be a whole number of at least 1"),
        ({"prompt_template": "next?"}, r"prompt_template='next\?': must have \{history\} in it once"),
        ({"text_template": "{plot}"}, "no column 'plot' of text_template"),
        (
            {"epochs": 2, "id_generator": "llama"},
            "id_generator=.*: a llama; must be keyphrases, or a folder or hub name of a T5",
        ),
    ],
)
def test_values_that_cannot_work(base, t5_folder, llama_folder, settings, words, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    os.makedirs("data")
    settings = {key: {"T5": t5_folder, "llama": llama_folder}.get(value, value) for key, value in settings.items()}
    with pytest.raises((SettingError, DataError), match=words) as raised:
        prepared(base, **settings)
    assert "\n" not in str(raised.value)


def test_a_recommender_that_does_not_know_the_generators_words(base, t5_folder, tmp_path):
    other = save_small_t5(tmp_path / "other", ["quite another text"] * 3)
    with pytest.raises(SettingError, match="^recommender='.*other': must have the vocabulary of id_generator="):
        prepared({**base, **PER_WORD}, id_generator=t5_folder, recommender=other)


def test_the_record_tells_of_the_ids(base):
    done = trained(base).done
    facts = done.facts
    assert facts["distinct_ids"] == 172 and facts["rounds"] == 1 and facts["N_generator"] == 0
    assert facts["N_recommender"] == done.record["parameters"]
    assert len(facts["examples"]) == 3 and all(facts["examples"].values())
    assert np.isfinite(list(done.losses.values())).all()
