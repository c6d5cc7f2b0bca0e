"""What is recommended is what was measured: for our models and RecBole's, from Python."""

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.utils.case_study import full_sort_scores, full_sort_topk
from support.trained_cases import CASES, run_case, settings_of

import recbole_gr
from recbole_gr.utils.errors import DataError, RecBoleGRError, SettingError

OURS = ("TIGER", "LIGER", "RPG", "HSTU", "SASRecCausal", "IDGenRec", "LLMasRS")
RECBOLES = ("SASRec", "GRU4Rec", "BERT4Rec", "FPMC", "BPR", "Pop", "LightGCN", "ItemKNN")
EXTRA = {
    "LIGER": {"item_vector_file": None, "liger_candidates": 10},
    "RPG, graph": {"ranking": "graph", "graph_neighbours": 3, "graph_starts": 6, "graph_steps": 3, "graph_expand": 2},
}


def interactions():
    """Of the case, each user's in the order of time."""
    table = pd.read_csv(CASES / "plain" / "plain.inter", sep="\t", dtype={0: str, 1: str, 2: float})
    table.columns = ["user", "item", "time"]
    return table.sort_values(["user", "time"], kind="stable").groupby("user")["item"].apply(list).to_dict()


def recall(frame, targets, k):
    """Of leave one out: the share of users whose target is among their first k."""
    top = frame[frame["rank"] <= k]
    return np.mean([target in set(top["item"][top["user"] == user]) for user, target in targets.items()])


@pytest.mark.parametrize("model", [*OURS, "RPG, graph", *RECBOLES])
def test_lists_have_exactly_the_recall_of_the_record_and_nothing_that_was_had(model, trained):
    result, recommender = trained(model.split(",")[0], **EXTRA.get(model, {}))
    histories = interactions()
    targets = {user: items[-1] for user, items in histories.items()}
    frame = recommender.recommend(k=10, history="valid")
    assert list(frame) == ["user", "rank", "item", "title", "score", "semantic_id", "certified"]
    assert (frame.groupby("user").size() == 10).all() and frame["user"].nunique() == 60
    for k in (5, 10):
        assert round(recall(frame, targets, k), 4) == result["test_result"][f"recall@{k}"]
    assert not any(item in histories[user][:-1] for user, item in zip(frame["user"], frame["item"]))

    # RecBole's own function, from the same checkpoint
    test, dataset = recommender.trained.loaders[2], recommender.dataset
    users = dataset.token2id(dataset.uid_field, np.array(sorted(histories)))
    scores, items = full_sort_topk(users, recommender.model, test, 10)
    assert items.shape == (60, 10) and (scores > -torch.inf).all()
    theirs = dataset.id2token(dataset.iid_field, items.numpy())
    assert not any(set(row) & set(histories[user][:-1]) for user, row in zip(sorted(histories), theirs))
    found = np.mean([targets[user] in row for user, row in zip(sorted(histories), theirs)])
    assert round(found, 4) == result["test_result"]["recall@10"]
    if model != "Pop":  # whose equal scores are in no order
        assert theirs.tolist() == [frame["item"][frame["user"] == user].tolist() for user in sorted(histories)]


@pytest.mark.parametrize("model", ["TIGER", "LLMasRS", "IDGenRec"])
def test_long_lists_of_a_run_with_short_ones_are_those_of_scoring_every_item(model, trained, caplog):
    _, recommender = trained(model)
    test, dataset, network = recommender.trained.loaders[2], recommender.dataset, recommender.model
    users = np.array(sorted(interactions()))
    ids = dataset.token2id(dataset.uid_field, users)
    interaction = test._dataset[torch.arange(60)]
    every = torch.arange(1, dataset.item_num).expand(60, -1)
    with torch.no_grad():
        exact = torch.cat([network.log_likelihood(interaction, row[None], every[row][None]) for row in torch.arange(60)])
    place = {int(user): row for row, user in enumerate(interaction[dataset.uid_field])}
    exact = exact[[place[user] for user in ids]]
    rows, seen = test._dataset.seen_items.of(ids)
    exact[rows, seen - 1] = -torch.inf

    scores, items = full_sort_topk(ids, network, test, 20)
    assert items.shape == (60, 20)
    torch.testing.assert_close(scores, exact.topk(20).values, atol=1e-4, rtol=0)
    torch.testing.assert_close(exact.gather(1, items - 1), scores, atol=1e-4, rtol=0)
    left = int((exact > -torch.inf).sum(dim=1).min())
    scores, items = full_sort_topk(ids, network, test, k=50)
    assert scores.shape == (60, left) and (scores > -torch.inf).all() and (items > 0).all()
    assert f"k=50, but a user can be given {left} items only" in caplog.text
    frame = recommender.recommend(k=50, history="valid")
    assert frame.groupby("user").size()[users].tolist() == (exact > -torch.inf).sum(dim=1).tolist()
    assert frame["certified"].all() and np.isfinite(frame["score"]).all()
    assert network.max_k == 10 and network.beam_size == 10 and network.searched_k == 10


def test_scores_of_recboles_function_exclude_as_configured(trained):
    for model, given in (("BPR", {}), ("SASRec", {}), ("SASRec", {"mask_seen": False}), ("BPR", {"mask_seen": "recbole"})):
        _, recommender = trained(model, **given)
        test = recommender.trained.loaders[2]
        scores = full_sort_scores([5, 3], recommender.model, test)
        assert scores.shape == (2, 41) and scores.device.type == "cpu"
        excluded = (scores == -torch.inf).sum(dim=1).tolist()
        user = [recommender.user_tokens[5], recommender.user_tokens[3]]
        had = [len(set(interactions()[one][:-1])) for one in user]
        assert excluded == ([1, 1] if given.get("mask_seen") is False else [1 + n for n in had])


def test_recboles_function_names_a_user_that_the_data_do_not_have(trained):
    _, recommender = trained("SASRec")
    with pytest.raises(DataError, match=r"^1 of 2 users have no row in the data, e.g. \[PAD\]"):
        full_sort_topk([0, 3], recommender.model, recommender.trained.loaders[2], 5)


@pytest.mark.parametrize("model", ["TIGER", "SASRec", "RPG", "LLMasRS"])
def test_a_history_of_nobody_known_gives_what_a_user_with_it_is_given(model, trained, caplog):
    _, recommender = trained(model)
    histories = interactions()
    for history, last in (("valid", -1), ("all", None)):
        known = recommender.recommend(["u7", "u2"], k=5, history=history)
        assert known["user"].tolist() == ["u7"] * 5 + ["u2"] * 5 and known["rank"].tolist() == [1, 2, 3, 4, 5] * 2
        given = [histories[user][:last] for user in ("u7", "u2")]
        new = recommender.recommend(histories=given, k=5)
        assert new["user"].tolist() == [0] * 5 + [1] * 5
        for column in ("item", "title", "semantic_id", "certified"):
            assert new[column].tolist() == known[column].tolist()
        np.testing.assert_allclose(new["score"], known["score"], atol=1e-4)
    some = recommender.recommend(histories=[["zz"], ["i3", "zz"]], k=2)
    assert some["user"].tolist() == [1, 1]
    assert "1 of 2 items of the histories are not in the dataset of the checkpoint" in caplog.text
    assert "1 of 2 histories hold no known item and are left out." in caplog.text


def test_all_that_is_known_ends_with_the_test(trained):
    """By hand: user u1 of the file, and what models read of it."""
    histories = interactions()
    for model in ("TIGER", "HSTU", "SASRec", "BPR"):
        _, recommender = trained(model)
        user = int(recommender.dataset.token2id(recommender.dataset.uid_field, "u1"))
        for history, last in (("train", -2), ("valid", -1), ("all", None)):
            asked = recommender.asked(["u1"], history=history)
            _, items = asked.histories.rows_and_items(torch.tensor([user]), recommender.item_list)
            tokens = recommender.dataset.id2token(recommender.dataset.iid_field, items.numpy())
            assert tokens.tolist() == histories["u1"][:last]
            if recommender.trained.is_sequential:
                batch = asked.histories.interaction(recommender.dataset, torch.tensor([user]))
                row = batch[recommender.item_list][0]
                assert row[: len(items)].tolist() == items.tolist() and not row[len(items) :].any()


def test_lists_that_are_not_those_of_the_test_are_said_to_be_others(trained, caplog):
    line = "but the run was measured with mask_seen="
    for model, mask_seen, excluded in (
        ("SASRec", True, True),
        ("SASRec", False, False),
        ("SASRec", "recbole", False),
        ("BPR", "recbole", True),
    ):
        _, recommender = trained(model, **({} if mask_seen is True else {"mask_seen": mask_seen}))
        for exclude_seen in (True, False):
            caplog.clear()
            recommender.asked(["u1"], history="valid", exclude_seen=exclude_seen)
            assert (f"{line}{mask_seen}" in caplog.text) == (exclude_seen != excluded)
            caplog.clear()
            recommender.asked(["u1"], history="all", exclude_seen=exclude_seen)
            assert caplog.text == ""


def test_what_is_seen_may_be_recommended(trained):
    _, recommender = trained("TIGER")
    frame = recommender.recommend(["u1"], k=40, exclude_seen=False)
    assert len(frame) == 40 and set(interactions()["u1"]) <= set(frame["item"])
    without = recommender.recommend(["u1"], k=40)
    assert without["item"].tolist() == [item for item in frame["item"] if item not in interactions()["u1"]]


@pytest.mark.parametrize("model", ["TIGER", "LIGER", "LLMasRS", "RPG", "SASRec", "BPR"])
def test_candidates_leave_the_order_of_all_items(model, trained):
    _, recommender = trained(model, **EXTRA.get(model, {}))
    some = ["i3", "i11", "i25", "i38", "i40"]
    whole = recommender.recommend(["u4", "u9"], k=40)
    few = recommender.recommend(["u4", "u9"], k=3, candidates=[*some, "i3"])
    for user in ("u4", "u9"):
        expected = [item for item in whole["item"][whole["user"] == user] if item in some][:3]
        assert few["item"][few["user"] == user].tolist() == expected
    assert few["certified"].all()
    assert recommender.recommend(["u4"], k=40)["item"].tolist() == whole["item"][whole["user"] == "u4"].tolist()


def test_titles_and_semantic_ids_are_those_of_the_file_and_the_checkpoint(trained):
    _, recommender = trained("TIGER")
    titles = pd.read_csv(CASES / "plain" / "plain.item", sep="\t", dtype=str).set_index("item_id:token")["title:token_seq"]
    frame = recommender.recommend(["u1"], k=3)
    assert frame["title"].tolist() == titles[frame["item"]].tolist()
    codes = recommender.model.item_codes[
        recommender.dataset.token2id(recommender.dataset.iid_field, frame["item"].to_numpy())
    ]
    assert frame["semantic_id"].tolist() == ["-".join(map(str, row)) for row in codes.tolist()]
    assert trained("SASRec")[1].recommend(["u1"], k=3)["semantic_id"].isna().all()


@pytest.mark.parametrize(
    "model, what, message",
    [
        ("BPR", {"histories": [["i1"]]}, "BPR reads no histories: it has learned of each user, and needs a known one"),
        ("FPMC", {"histories": [["i1"]]}, r"FPMC needs a known user \(users=...\), which a history of items alone does not"),
        ("HSTU", {"histories": [["i1"]]}, "HSTU needs the column 'timestamp_list', which a history of items alone does not"),
        ("TIGER", {"histories": [["x", "y"]]}, "none of the 2 items of the histories is in the dataset of the checkpoint"),
        ("TIGER", {"histories": ["i1", "i2"]}, "histories=.*: must be a list of lists of item tokens"),
        ("TIGER", {"histories": [["i1"]], "users": ["u1"]}, "users and histories are both given"),
        ("TIGER", {"users": ["nobody", 7]}, "none of the 2 users to recommend for is in .* e.g. nobody, 7, where .* as u"),
        ("TIGER", {"users": ["u1"], "candidates": ["x"]}, "none of the 1 items of candidates is in the dataset"),
        ("BPR", {"users": ["u1"], "k": 0}, "k=0: must be a whole number of at least 1"),
        ("BPR", {"users": ["u1"], "history": "test"}, "history='test': must be one of train, valid, all"),
    ],
)
def test_what_cannot_be_recommended_is_one_line(model, what, message, trained):
    with pytest.raises(RecBoleGRError, match=f"^{message}") as caught:
        trained(model)[1].recommend(**what)
    assert "\n" not in str(caught.value)


def test_what_is_no_checkpoint_is_one_line(tmp_path, trained):
    result, _ = trained("TIGER")
    item_file = str(CASES / "plain" / "plain.item")
    for path, line in (
        ("no.pth", "checkpoint='no.pth': no such file"),
        (result["checkpoint"].replace(".pth", ".last.pth"), "checkpoint=.*is a state of training"),
        (item_file, "checkpoint=.*: is not a checkpoint of RecBole .not a file of torch.save.$"),
        (result["record"], "checkpoint=.*: is not a checkpoint of RecBole"),
    ):
        with pytest.raises(RecBoleGRError, match=f"^{line}") as caught:
            recbole_gr.load(path)
        assert "\n" not in str(caught.value)
    torch.save({"weights": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(SettingError, match="cannot be loaded .KeyError"):
        recbole_gr.load(str(tmp_path / "other.pth"))


def test_a_new_user_needs_no_number_and_predict_does_without_it(trained):
    """RecBole's own way to ask for a history that no file has."""
    from recbole.data.interaction import Interaction

    _, recommender = trained("TIGER")
    history = torch.tensor([[3, 9, 0], [7, 0, 0]])
    batch = {"item_id_list": history, "item_length": torch.tensor([2, 1])}
    scores = recommender.model.full_sort_predict(Interaction(dict(batch)))
    assert scores.shape == (2, 41) and (scores > -torch.inf).sum() >= 20
    best = scores.argmax(dim=1)
    alone = recommender.model.predict(Interaction({**batch, "item_id": best}))
    torch.testing.assert_close(alone, scores.gather(1, best[:, None]).squeeze(1), atol=1e-4, rtol=0)


def test_a_user_token_needs_a_known_user(trained):
    _, recommender = trained("TIGER", user_buckets=8)
    assert len(recommender.recommend(["u1"], k=2)) == 2
    with pytest.raises(DataError, match="^TIGER needs a known user"):
        recommender.recommend(histories=[["i1"]])


def test_free_decoding_says_how_many_beams_were_items(trained, caplog):
    import json

    from recbole_gr.decoding.beam_search import beam_search

    caplog.set_level("INFO")
    result, recommender = trained("TIGER", decoding="free", codebook_num=3, beam_certify=False)
    with open(result["record"]) as file:
        record = json.load(file)
    model, test = recommender.model, recommender.trained.loaders[2]
    interaction = test._dataset[torch.arange(60)]
    rows, seen = test._dataset.seen_items.of(interaction["user_id"].numpy())
    with torch.no_grad():
        excluded = model.trie.exclusion(60, (rows, seen))
        decoder = model.start_decoding(interaction, torch.arange(60))
        beams = beam_search(decoder, model.trie, 10, constrained=False, excluded=excluded)
    valid, report = int((beams.leaves >= 0).sum()), record["test_rankings"]
    assert 0 < valid < 600 and (report["beams"], report["valid_beams"]) == (600, valid)
    assert report["valid_beam_share"] == round(valid / 600, 4)
    assert all(0 < epoch["valid_beam_share"] < 1 for epoch in record["learning_curve"])
    assert f"decoding=free: {valid} of 600 beams were items ({valid / 600:.2%})" in caplog.text
    constrained, _ = trained("TIGER")
    with open(constrained["record"]) as file:
        record = json.load(file)
    assert "beams" not in record["test_rankings"] and "valid_beam_share" not in record["learning_curve"][0]


@pytest.mark.parametrize(
    "case, settings",
    [
        ("plain", {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user", "order": "TO", "mode": "full"}}),
        (
            "benchseq",
            {
                "benchmark_filename": ["train", "valid", "test"],
                "alias_of_item_id": ["item_id_list"],
                "load_col": {"inter": ["user_id", "item_id", "item_id_list"]},
                "mask_seen": "recbole",
            },
        ),
    ],
)
def test_other_splits_have_the_same_histories_and_recall(case, settings, tmp_path):
    """By ratio, and split already, with the histories in the files."""
    given = settings_of("SASRec")
    result = run_case("SASRec", tmp_path, case, **{**given, **settings, "known": {*given["known"], *settings}})
    recommender, histories = recbole_gr.load(result["checkpoint"]), interactions()
    for history, last in (("train", -2), ("valid", -1), ("all", None)):
        asked = recommender.asked(["u1", "u30"], history=history)
        rows, items = asked.histories.rows_and_items(asked.users, recommender.item_list)
        for row, user in enumerate(("u1", "u30")):
            assert recommender.catalogue.tokens[items[rows == row].numpy()].tolist() == histories[user][:last]
    frame = recommender.recommend(k=10, history="valid", exclude_seen="mask_seen" not in settings)
    targets = {user: items[-1] for user, items in histories.items()}
    assert round(recall(frame, targets, 10), 4) == result["test_result"]["recall@10"]
