"""LLMasRS: its loss and its rankings, against the reference's plain passes of the language model."""

import os

import numpy as np
import pytest
import torch
from support.atomic import read_atomic
from support.llm_reference import ALL_ITEMS, Reference, filled, first_batch, histories, prepared
from support.whole_rows import whole_rows

from recbole_gr.models.llmasrs import model as llmasrs

# Training


def test_loss_is_the_mean_over_target_tokens(llm_settings):
    here = prepared(llm_settings, epoch_samples=13)
    reference, llm = Reference(llm_settings, here.dataset), filled(here.model).llm
    interaction = first_batch(here.train)
    total, tokens = 0, 0
    for history, target in zip(histories(interaction), interaction["item_id"].tolist()):
        total -= reference.log_probs(llm, history, [target])[0]
        tokens += len(reference.titles[target])
    assert len(interaction) == 13
    torch.testing.assert_close(here.model.calculate_loss(interaction).detach(), total / tokens)


@pytest.mark.parametrize("parts", [3, 20])
def test_parts_of_a_batch_give_its_loss_and_gradients(llm_settings, parts):
    here = prepared(llm_settings, epoch_samples=13)
    interaction = first_batch(here.train)
    model = filled(here.model).train()

    def loss_and_gradients():
        model.zero_grad()
        loss = model.calculate_loss(interaction)
        loss.backward()
        return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    loss, gradients = loss_and_gradients()
    model.gradient_accumulation = parts
    loss_of_parts, gradients_of_parts = loss_and_gradients()
    torch.testing.assert_close(loss_of_parts, loss)
    assert gradients.keys() == gradients_of_parts.keys() and max(g.abs().max() for g in gradients.values()) > 0.01
    torch.testing.assert_close(gradients_of_parts, gradients, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_gradient_checkpointing_changes_no_gradient(llm_settings, tuning):
    found = []
    for switch in (False, True):
        here = prepared(llm_settings, epoch_samples=13, tuning=tuning, gradient_checkpointing=switch)
        model, recomputed = filled(here.model).train(), []
        layer = next(module for name, module in model.named_modules() if name.endswith("layers.0"))
        layer.self_attn.register_forward_hook(lambda *_, calls=recomputed: calls.append(1))
        loss = model.calculate_loss(first_batch(here.train))
        loss.backward()
        assert len(recomputed) == 1 + switch
        found.append((loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.requires_grad}))
    torch.testing.assert_close(found[1], found[0])


def test_processes_average_the_gradients_of_a_batch(llm_settings, tmp_path):
    """A group of one process, whose parts of a batch must have been added up when it hands its gradients round."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        here = prepared(llm_settings, epoch_samples=13, gradient_accumulation=3)
        here.trainer.distributed_model = torch.nn.parallel.DistributedDataParallel(filled(here.model).train())
        handed_round = []

        def keep(_, bucket):
            handed_round.append(bucket.buffer().clone())
            kept = torch.futures.Future()
            kept.set_result(bucket.buffer())
            return kept

        here.trainer.distributed_model.register_comm_hook(None, keep)
        here.trainer.set_reduce_hook()  # in the order of RecBole's Trainer
        loss = here.trainer.sync_grad_loss() + here.model.calculate_loss(first_batch(here.train))
        loss.backward()
    finally:
        torch.distributed.destroy_process_group()
    gradients = [parameter.grad for parameter in here.model.parameters() if parameter.requires_grad]
    expected = torch.cat([gradient.flatten() for gradient in gradients]).sort().values
    torch.testing.assert_close(torch.cat(handed_round).sort().values, expected)


def test_length_grouping_counts_the_tokens_of_the_items(llm_settings):
    here = prepared(llm_settings, MAX_ITEM_LIST_LENGTH=3)
    reference = Reference(llm_settings, here.dataset)
    for loader in (here.train, here.test):
        every_sample = loader._dataset[torch.arange(len(loader._dataset))]
        expected = [sum(len(reference.titles[item]) for item in history) for history in histories(every_sample)]
        assert loader._dataset.sample_lengths.tolist() == expected and max(map(len, histories(every_sample))) == 3


# Ranking


def test_full_ranking_equals_teacher_forcing_of_every_title(llm_settings):
    here = prepared(llm_settings, **ALL_ITEMS)
    reference = Reference(llm_settings, here.dataset)
    interaction = first_batch(here.test)[0][:4]
    scores = filled(here.model).full_sort_predict(interaction)
    assert (scores[:, 0] == -torch.inf).all()
    for row, history in enumerate(histories(interaction)):
        expected = reference.log_probs(here.model.llm, history, range(1, here.dataset.item_num))
        torch.testing.assert_close(scores[row, 1:], expected, atol=1e-4, rtol=1e-5)


def test_metrics_are_those_of_teacher_forcing(llm_settings, lora_run):
    """What a run reports of its test, from the checkpoint, the files and plain passes alone."""
    here = prepared(llm_settings)
    here.model.load_state_dict(torch.load(lora_run.checkpoint, weights_only=False)["state_dict"])
    reference = Reference(llm_settings, here.dataset)
    rows = read_atomic(os.path.join(llm_settings["data_path"], "small", "small.inter"))
    rows = rows.iloc[rows["timestamp:float"].astype(float).argsort(kind="stable")]
    ranks = []
    for _, of_user in rows.groupby("user_id:token"):
        items = [here.dataset.token2id("item_id", token) for token in of_user["item_id:token"]]
        scores = torch.full((here.dataset.item_num,), -torch.inf)
        scores[1:] = reference.log_probs(here.model.llm, items[-6:-1], range(1, here.dataset.item_num))
        scores[items[:-1]] = -torch.inf
        ranks.append(int((scores > scores[items[-1]]).sum()) + 1)
    ranks = np.array(ranks)
    expected = {f"recall@{k}": np.mean(ranks <= k) for k in (5, 10)}
    expected |= {f"ndcg@{k}": np.mean(np.where(ranks <= k, 1 / np.log2(ranks + 1), 0)) for k in (5, 10)}
    assert len(ranks) == 16 and expected["recall@10"] > 0
    assert lora_run.record["test"] == pytest.approx(expected, abs=5e-5)
    assert lora_run.record["test_rankings"]["users"] == lora_run.record["test_rankings"]["certified"] == 16


def test_narrow_certified_beams_rank_like_wide_ones(llm_settings):
    here = prepared(llm_settings)
    filled(here.model)
    narrow = here.trainer.evaluate(here.test, load_best_model=False)
    assert here.model.certificates["certified_by_first_search"] < here.model.certificates["certified"] == 16
    here.model.beam_size, here.model.beam_certify = here.model.n_items, False
    wide = here.trainer.evaluate(here.test, load_best_model=False)
    assert here.model.certificates["certified_by_first_search"] == 16
    assert narrow == wide


def test_validation_in_training_needs_no_certificate(llm_settings):
    here = prepared(llm_settings)
    filled(here.model)
    here.trainer._valid_epoch(here.valid)
    assert here.model.certificates["certified"] == here.model.certificates["certified_by_first_search"] < 16
    assert here.model.beam_certify


def test_sampled_ranking_equals_teacher_forcing(llm_settings):
    sampled = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni100"}}
    here = prepared(llm_settings, **sampled, eval_batch_size=16 * 101)  # one batch
    reference, llm = Reference(llm_settings, here.dataset), filled(here.model).llm
    interaction, row_of, *_ = first_batch(here.test)
    scores = here.model.predict(interaction)
    shuffled = torch.randperm(len(interaction), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(here.model.predict(interaction[shuffled]), scores[shuffled])
    lists = histories(interaction)
    for user in range(4):
        rows = torch.nonzero(row_of == user).flatten()
        assert len(rows) == 101
        expected = reference.log_probs(llm, lists[rows[0]], interaction["item_id"][rows].tolist())
        torch.testing.assert_close(scores[rows], expected, atol=1e-4, rtol=1e-5)
    result = here.trainer.evaluate(here.test, load_best_model=False)
    by_user = [scores[row_of == user] for user in range(16)]  # the target is the first of each
    ranks = np.array([int((one > one[0]).sum()) + 1 for one in by_user])
    assert result["recall@10"] == pytest.approx(np.mean(ranks <= 10), abs=5e-5)


@pytest.mark.parametrize("mask_seen", [True, False])
def test_seen_items_are_excluded(llm_settings, mask_seen):
    here = prepared(llm_settings, mask_seen=mask_seen, beam_certify=False)
    here.trainer.tot_item_num = here.dataset.item_num
    rows = read_atomic(os.path.join(llm_settings["data_path"], "small", "small.inter"))
    seen_again = 0
    for batch in here.test:
        targets = {int(u): int(i) for u, i in zip(batch[0]["user_id"], batch[3])}
        interaction, scores, *_ = whole_rows(here.trainer, batch)
        assert ((scores > torch.finfo(torch.float32).min).sum(dim=1) >= 10).all()  # they take no beam, either
        for row, user in enumerate(interaction["user_id"].tolist()):
            mine = rows["user_id:token"] == here.dataset.id2token("user_id", user)
            had = {int(here.dataset.token2id("item_id", token)) for token in rows[mine]["item_id:token"]} - {targets[user]}
            assert len(had) == 11
            seen_again += len(had & set(scores[row].topk(10).indices.tolist()))
    assert (seen_again == 0) == mask_seen


def test_few_prompts_at_once(llm_settings, monkeypatch):
    """Groups of rows that hold no more prompt tokens than allowed find what one group finds."""
    made = prepared(llm_settings)
    filled(made.model)
    interaction = next(iter(made.test))[0]
    together = made.model.full_sort_predict(interaction)
    monkeypatch.setattr(llmasrs, "PROMPT_TOKENS", 200)
    groups = made.model.rows_at_once(interaction)
    sizes = made.model._prompt_sizes(interaction)
    assert len(groups) > 3 and all(len(rows) == 1 or len(rows) * sizes[rows].max() <= 200 for rows in groups)
    assert torch.cat(groups).sort().values.tolist() == list(range(len(sizes)))
    torch.testing.assert_close(made.model.full_sort_predict(interaction), together, atol=1e-4, rtol=1e-4)
