"""What every model must do: a test inherits :class:`ModelTests`, or of these :class:`ItemModelTests` or :class:`GenerativeModelTests`."""

import json
import os

import numpy as np
import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.utils import get_model, get_trainer, init_seed

from recbole_gr.experiment import run as run_module
from recbole_gr.experiment.run import run
from recbole_gr.integration.config import make_config
from recbole_gr.models.history_recommender import HistoryRecommender
from recbole_gr.models.registry import find_spec, load, model_settings
from recbole_gr.settings.field import extra_of, field_faults
from recbole_gr.utils.errors import SettingError


class Stopped(Exception):
    """Stands for a process that is ended from outside."""


class ModelTests:
    """Conformance of a model.

    Attributes:
        model (str): its name; it must be registered.
        settings (dict): what makes it small and quick, beside those of the fixture ``tiny_settings`` that it knows.
        without (tuple): keys of ``tiny_settings`` that are not for it.
        learns (bool): whether its training loss falls within three epochs.
    """

    model = None
    settings: dict = {}
    without: tuple = ()
    learns = True

    @pytest.fixture
    def given(self, small_part, tiny_settings):
        """Settings of a run of seconds on a small part of ml-100k."""
        own = model_settings(self.model)
        known = {*own.defaults(), "data_path", "show_progress"} if own else {"data_path", "epochs", "show_progress"}
        shared = {key: value for key, value in tiny_settings.items() if key in known and key not in self.without}
        return {**shared, **self.settings}

    def prepared(self, given, **more):
        """Config, loaders and a fresh model in evaluation mode."""
        config = make_config(self.model, "small", config_dict={**given, **more})
        init_seed(config["seed"], config["reproducibility"])
        loaders = data_preparation(config, create_dataset(config))
        return config, loaders, config.model_class(config, loaders[0]._dataset).to(config["device"]).eval()

    def test_it_is_known_by_name(self):
        spec = find_spec(self.model)
        assert spec.name == self.model and get_model(self.model) is load(spec.model)
        if spec.trainer is not None:
            assert get_trainer(load(spec.model).type, self.model) is load(spec.trainer)

    def test_its_settings_have_sentences_scopes_and_defaults_that_they_allow(self):
        own = model_settings(self.model)
        assert field_faults(own, own.defaults()) == []
        for key, info in own.model_fields.items():
            assert info.description.endswith(".") and extra_of(info)["scope"], key

    def test_an_unknown_key_stops_it(self, given):
        with pytest.raises(SettingError, match="^no_such_key=1: is not a setting of any model or dataset"):
            run(self.model, "small", config_dict={**given, "no_such_key": 1})

    def test_it_trains_and_records(self, given):
        result = run(self.model, "small", config_dict={**given, "epochs": 3})
        with open(result["record"]) as file:
            record = json.load(file)
        assert record["model"] == self.model and record["test"] == {k: float(v) for k, v in result["test_result"].items()}
        assert all(0 <= value <= 1 for value in record["test"].values())
        losses = [epoch["train_loss"] for epoch in record["learning_curve"]]
        assert len(losses) == 3 and np.isfinite(losses).all() and (losses[-1] < losses[0] or not self.learns)

    def test_the_same_seed_gives_the_same_result_by_recboles_own_function_too(self, given):
        ours = run(self.model, "small", config_dict=given)
        again = run(self.model, "small", config_dict=given)
        assert again["test_result"] == ours["test_result"] and again["best_valid_result"] == ours["best_valid_result"]
        if issubclass(
            load(find_spec(self.model).model), HistoryRecommender
        ):  # for the others RecBole's own function has RecBole's own protocol
            theirs = run_recbole(self.model, "small", config_dict=given)
            assert theirs["test_result"] == ours["test_result"]

    def test_a_resumed_run_ends_like_one_that_was_never_stopped(self, given, monkeypatch):
        given = {**given, "epochs": 3}
        whole = run(self.model, "small", config_dict=given)
        before = {*os.listdir("saved")}
        save = run_module.save_training_state

        def save_and_stop(trainer, train_data, epoch):
            save(trainer, train_data, epoch)
            if epoch == 1:
                raise Stopped

        with monkeypatch.context() as patch:
            patch.setattr(run_module, "save_training_state", save_and_stop)
            with pytest.raises(Stopped):
                run(self.model, "small", config_dict={**given, "checkpoint_dir": "stopped"})
        assert before == {*os.listdir("saved")}
        (state,) = (os.path.join("stopped", name) for name in os.listdir("stopped") if name.endswith(".last.pth"))
        resumed = run(self.model, "small", config_dict={**given, "resume": state})
        assert resumed["test_result"] == whole["test_result"] and resumed["best_valid_result"] == whole["best_valid_result"]

    def test_a_checkpoint_gives_the_same_result(self, given):
        result = run(self.model, "small", config_dict=given)
        (path,) = (
            os.path.join("saved", name) for name in os.listdir("saved") if name.endswith(".pth") and "last" not in name
        )
        config, model, _, _, _, test = load_data_and_model(path)
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        assert trainer.evaluate(test, load_best_model=False) == result["test_result"]


class ItemModelTests(ModelTests):
    """Conformance of a model that scores every item from one state of a history."""

    def asked(self, given, **more):
        """Such a model with weights unlike any others, and a batch of the test's users."""
        config, (train, _, test), model = self.prepared(given, **more)
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        return model, next(iter(test))[0].to(config["device"])[:8], train

    def test_predict_is_the_full_ranking(self, given):
        model, interaction, _ = self.asked(given)
        scores = model.full_sort_predict(interaction)
        assert scores.dtype == torch.float32 and scores.shape == (len(interaction), model.n_items)
        assert (scores[:, 0] == -torch.inf).all() and torch.isfinite(scores[:, 1:]).all()
        items = torch.arange(1, model.n_items)
        every = interaction.repeat_interleave(len(items))
        every.update(type(every)({model.ITEM_ID: items.repeat(len(interaction))}))
        found = model.predict(every).view(len(interaction), -1)
        torch.testing.assert_close(found, scores[:, 1:], atol=1e-4, rtol=1e-4)
        assert scores[:, 1:].std(dim=1).min() > 0.1

    def test_a_row_has_the_same_scores_whatever_else_is_in_the_batch(self, given):
        model, interaction, _ = self.asked(given)
        together = model.full_sort_predict(interaction)
        for row in range(len(interaction)):
            torch.testing.assert_close(
                model.full_sort_predict(interaction[row : row + 1])[0], together[row], atol=1e-4, rtol=1e-4
            )

    def test_a_state_is_that_after_its_prefix(self, given):
        """So what follows an item cannot be read from its state, and one pass trains what a pass per prefix would train."""
        model, interaction, _ = self.asked(given)
        with torch.no_grad():
            states = model.states(interaction)
            for length in range(1, int(interaction[model.ITEM_SEQ_LEN].min()) + 1):
                prefix = type(interaction)(dict(interaction.interaction))
                prefix.update(type(interaction)({model.ITEM_SEQ_LEN: torch.full((len(interaction),), length)}))
                torch.testing.assert_close(model.last_states(prefix), states[:, length - 1], atol=1e-5, rtol=1e-4)

    def test_loss_by_hand(self, given):
        """Of the full softmax: the mean over all targets of minus the log-probability."""
        model, _, train = self.asked(given, softmax="full", train_precision="float32")
        batch = next(iter(train))
        with torch.no_grad():
            loss = model.calculate_loss(batch).item()
            states = model.states(batch)
        if model.at_every_item:
            rows, places = (batch[model.TARGET_LIST] > 0).nonzero(as_tuple=True)
            states, targets = states[rows, places], batch[model.TARGET_LIST][rows, places]
        else:
            states, targets = states[torch.arange(len(batch)), batch["item_length"] - 1], batch["item_id"]
        states, items = states.double().numpy(), model.item_embedding.weight.detach().double().numpy()[1:]
        if model.similarity == "cosine":
            items = items / np.linalg.norm(items, axis=1, keepdims=True)
            states = states / np.linalg.norm(states, axis=1, keepdims=True) / model.temperature
        logits = states @ items.T
        log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        assert loss == pytest.approx(-log_probs[np.arange(len(targets)), targets.numpy() - 1].mean(), rel=1e-5)


class GenerativeModelTests(ModelTests):
    """Conformance of a model that generates what it recommends; the reference is a score for every item."""

    def scored(self, given, **more):
        """A model, a batch of the test's users, and ``predict`` of every item for each: float32 ``[users, n_items - 1]``."""
        config, (_, _, test), model = self.prepared(given, **more)
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad and parameter.dim() > 1:  # as after training: no two items are alike
                    parameter.add_(torch.randn_like(parameter) * 0.2 * parameter.std().clamp(min=0.05))
        batch = next(iter(test))
        interaction = batch[0].to(config["device"])[:8]
        items = torch.arange(1, model.n_items)
        every = interaction.repeat_interleave(len(items))
        every.update(type(every)({model.ITEM_ID: items.repeat(len(interaction))}))
        return model, batch, interaction, model.predict(every).view(len(interaction), -1)

    def test_certified_beams_find_what_scoring_every_item_finds(self, given):
        model, _, interaction, scores = self.scored(given, topk=[5, 10], beam_certify=True)
        found = model.full_sort_predict(interaction)[:, 1:]
        certificates = model.certificates
        assert certificates["users"] == certificates["certified"] == len(interaction)
        best, _ = scores.topk(10)
        assert torch.allclose(found.topk(10).values, best, atol=1e-4)
        reached = found > -torch.inf
        assert reached.sum(dim=1).min() >= 10 and torch.allclose(found[reached], scores[reached], atol=1e-4)

    def test_scores_are_log_probabilities(self, given):
        *_, scores = self.scored(given)
        assert (scores < 0).all() and (scores.exp().sum(dim=1) <= 1 + 1e-4).all()

    def test_a_row_has_the_same_scores_whatever_else_is_in_the_batch(self, given):
        model, _, interaction, _ = self.scored(given)
        together = model.full_sort_predict(interaction)
        for row in range(len(interaction)):
            alone = model.full_sort_predict(interaction[row : row + 1])[0]
            reached = (alone > -torch.inf) & (together[row] > -torch.inf)
            assert reached.sum() >= 10 and torch.allclose(alone[reached], together[row][reached], atol=1e-4)

    def test_seen_items_are_not_searched_for(self, given):
        """Except where an item that was not seen shares their ID."""
        model, (_, (rows, items), *_), interaction, scores = self.scored(given, mask_seen=True)
        mine = rows < len(interaction)
        excluded = torch.zeros(len(interaction), model.n_items, dtype=torch.bool)
        excluded[rows[mine], items[mine]] = True
        assert excluded.any(dim=1).all()
        found = model.rank(interaction, (rows[mine], items[mine])).dense()
        found[excluded] = -torch.inf
        reference = scores.masked_fill(excluded[:, 1:], -torch.inf)
        assert torch.allclose(found[:, 1:].topk(10).values, reference.topk(10).values, atol=1e-4)
