"""docs/splits.md, followed: what each example of the page puts into which part; and the ways to bring a split along."""

import re
from pathlib import Path

import pytest
import yaml
from recbole.data import create_dataset, data_preparation
from support.cases import CASES, case_config, case_loaders, left_one_out, plain_interactions, write_case

import recbole_gr
from recbole_gr.integration.check_run import check_run
from recbole_gr.utils.errors import DataError, RecBoleGRError

PAGE = Path(recbole_gr.__file__).parents[1] / "docs" / "splits.md"
EXAMPLES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)]
MODELS = ("SASRecCausal", "SASRec", "BPR")


def pairs(loader):
    """User and item of each row of a part, by token."""
    part = loader._dataset
    columns = (part.field2id_token[field][part.inter_feat[field].numpy()] for field in (part.uid_field, part.iid_field))
    return set(zip(*columns))


def loaders(model, name, **settings):
    """The loaders of a case whose files have been written."""
    config = case_config(model, name, **settings)
    return data_preparation(config, create_dataset(config))


def by_user():
    """Pairs of each user in the order of time."""
    found = {}
    for user, item, _ in sorted(plain_interactions(), key=lambda row: row[2]):
        found.setdefault(user, []).append((user, item))
    return found


def test_the_page_has_these_examples():
    assert [next(iter(example.get("eval_args", {}).get("split", example))) for example in EXAMPLES] == [
        *("LS", "RS", "RS", "TS", "split_files", "split_column")
    ]


@pytest.mark.parametrize("model", MODELS)
def test_leave_one_out(model):
    _, valid, test = case_loaders(model, "plain", **EXAMPLES[0])
    assert pairs(test) == {had[-1] for had in by_user().values()}
    assert pairs(valid) == {had[-2] for had in by_user().values()}


@pytest.mark.parametrize("model", MODELS)
def test_by_ratio_of_each_user(model):
    train, valid, test = case_loaders(model, "plain", **EXAMPLES[1])
    # of 6 to 10 interactions RecBole gives one to each of the later parts
    assert pairs(test) == {had[-1] for had in by_user().values()}
    assert pairs(valid) == {had[-2] for had in by_user().values()}
    assert len(pairs(train)) == 476 - 120 - (0 if model == "BPR" else 60)


@pytest.mark.parametrize("model", MODELS)
def test_by_one_moment_for_all(model):
    train, valid, test = case_loaders(model, "plain", **EXAMPLES[2])
    times = {(user, item): time for user, item, time in plain_interactions()}
    of_parts = [[times[pair] for pair in pairs(part)] for part in (train, valid, test)]
    assert max(of_parts[0]) < min(of_parts[1]) and max(of_parts[1]) < min(of_parts[2])
    n = 476 if model == "BPR" else 416  # a user's first is no sample of a sequential model
    assert [len(part) for part in of_parts[1:]] == [n // 10, n // 10]


def test_by_one_moment_before_the_test():
    train, valid, test = case_loaders("BPR", "plain", **EXAMPLES[3])
    times = {(user, item): time for user, item, time in plain_interactions()}
    before = [times[pair] for part in (train, valid) for pair in pairs(part)]
    assert max(before) < min(times[pair] for pair in pairs(test))


def write_with_column(words=("train", "valid", "test"), name="named"):
    """The case ``plain`` with a column ``part``, the rows in the order of the file."""
    folder = write_case("plain", "cases").rename(f"cases/{name}")
    (folder / "plain.item").rename(folder / f"{name}.item")
    (folder / "plain.inter").unlink()
    expected = left_one_out(plain_interactions())
    lines = ["user_id:token\titem_id:token\ttimestamp:float\tpart:token"]
    for user, item, time in plain_interactions():
        before, valid, test = expected[user]
        place = 2 if item == test else 1 if item == valid else 0
        lines.append(f"{user}\t{item}\t{time}\t{words[place]}")
    (folder / f"{name}.inter").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("model", MODELS)
def test_in_a_column_and_in_files_are_the_same(model):
    write_with_column(("Train", "validation", "TEST"))
    of_column = loaders(model, "named", **EXAMPLES[5])
    of_files = case_loaders(model, "bench", **EXAMPLES[4])
    for ours, theirs in zip(of_column, of_files):
        assert pairs(ours) == pairs(theirs)
        assert "part" not in ours._dataset.field2type and "split_part" not in ours._dataset.field2type
        assert set(ours._dataset.inter_feat.columns) == set(theirs._dataset.inter_feat.columns)


HISTORY = {"t1": [], "t2": ["t1"], "v": ["t1", "t2"], "x": ["t1", "t2", "v"], "y": ["t1", "t2", "v", "x"]}


def write_against_time(times):
    """A user whose parts are not in the order of time, and others, so that there are items to draw."""
    folder = Path("cases/against")
    folder.mkdir(parents=True)
    header = "user_id:token\titem_id:token" + ("\ttimestamp:float" if times else "") + "\n"
    clock = {"t1": 50, "t2": 60, "v": 10, "x": 5, "y": 7}
    for part, items in (("train", ["t2", "t1"] if times else ["t1", "t2"]), ("valid", ["v"]), ("test", ["x", "y"])):
        rows = [("a", item, clock[item]) for item in items]
        rows += [("b", f"b{part}{n}", 100 + n) for n in range(3)]
        body = "".join("\t".join(map(str, row if times else row[:2])) + "\n" for row in rows)
        (folder / f"against.{part}.inter").write_text(header + body)


@pytest.mark.parametrize("times", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_histories_are_made_of_the_parts_before_whatever_the_times_say(model, times):
    write_against_time(times)
    parts = loaders(model, "against", **EXAMPLES[4])
    found = {}
    for loader in parts:
        part = loader._dataset
        users, items = part.field2id_token["user_id"], part.field2id_token["item_id"]
        batch = part[list(range(len(part)))]
        for n, user in enumerate(users[batch["user_id"].numpy()]):
            if user == "a":
                history = batch["item_id_list"][n].numpy() if model != "BPR" else []
                found[items[batch["item_id"][n]]] = [items[item] for item in history if item]
    expected = HISTORY if model == "BPR" else {item: before for item, before in HISTORY.items() if before}
    assert found == ({item: [] for item in HISTORY} if model == "BPR" else expected)
    seen = parts[2]._dataset.seen_items.of(parts[2]._dataset.token2id("user_id", ["a"]))[1]
    assert set(parts[2]._dataset.field2id_token["item_id"][seen.numpy()]) == {"t1", "t2", "v"}


def test_times_are_read_where_they_are_there_and_missed_where_they_are_not():
    timed = case_loaders("HSTU", "bench", **EXAMPLES[4])[2]._dataset
    plain = case_loaders("HSTU", "plain")[2]._dataset
    batches = [part[list(range(60))]["timestamp_list"] for part in (timed, plain)]
    assert (batches[0] == batches[1]).all() and batches[0].max() > 1_600_000_000
    write_against_time(times=False)
    with pytest.raises(RecBoleGRError, match="time_bias=True: must be False, the files have no column timestamp"):
        loaders("HSTU", "against", **EXAMPLES[4])
    assert len(loaders("HSTU", "against", time_bias=False, **EXAMPLES[4])[2]._dataset) == 5


def test_filters_apply_to_ready_made_splits():
    test = case_loaders("BPR", "bench", user_inter_num_interval="[9,inf)")[2]
    expected = {had[-1] for had in by_user().values() if len(had) >= 9}
    assert pairs(test) == expected and 0 < len(expected) < 60


def test_files_that_bring_histories_have_no_cf_vectors():
    write_case("benchseq", "cases")
    with pytest.raises(RecBoleGRError, match="cf_model='svd': cannot be made from files that are split already"):
        case_config("TIGER", "benchseq", sid_file=None, item_vectors="cf")


def test_cf_vectors_are_made_from_the_training_part_of_ready_made_splits():
    sets = [create(name) for name in ("bench", "plain")]
    assert (sets[0].semantic_ids.codes == sets[1].semantic_ids.codes).all()


def create(name):
    write_case(name, "cases")
    given = {"item_vectors": "cf", "cf_dimension": 4, "codebook_size": 4, "codebook_num": 2, "cache_dir": None}
    return create_dataset(case_config("TIGER", name, sid_file=None, **given))


@pytest.mark.parametrize(
    "given, words",
    [
        ({"split_files": ["train", "test"]}, "split_files=.*: must be the names of the three parts"),
        ({"split_files": ["train", "dev", "test"]}, "has no file bench.dev.inter"),
        (
            {"split_files": ["train", "valid", "test"], "split_column": "part"},
            "split_column='part': has no use beside split_files",
        ),
        (
            {"split_files": ["train", "valid", "test"], "eval_args": {"split": {"RS": [8, 1, 1]}}},
            "eval_args=.*: its split has no use beside split_files",
        ),
    ],
)
def test_what_cannot_be_meant_is_one_line(given, words):
    write_case("bench", "cases")
    with pytest.raises(RecBoleGRError, match=words):
        check_run("BPR", "bench", config_dict={"data_path": "cases", **given}, arguments=[])


def test_a_column_that_names_other_parts_is_one_line():
    write_with_column(("train", "holdout", "test"))
    with pytest.raises(
        DataError, match="names no part in 60 of 476 rows of its column part .*'holdout'; the parts are train, valid"
    ):
        loaders("BPR", "named", split_column="part")
    with pytest.raises(DataError, match=r"named.inter\] has no column 'fold' \(split_column\); it has user_id"):
        loaders("BPR", "named", split_column="fold")


def test_the_files_of_the_cases_are_those_of_the_plain_split():
    expected = left_one_out(plain_interactions())
    lines = (CASES / "bench" / "bench.test.inter").read_text().splitlines()[1:]
    assert {tuple(line.split("\t")[:2]) for line in lines} == {(user, test) for user, (_, _, test) in expected.items()}
