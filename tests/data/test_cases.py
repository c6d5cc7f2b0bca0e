"""Files as people have them (tests/cases/): what is odd is read as it is meant, counted, or refused in one line."""

import logging

import numpy as np
import pytest
from recbole.data import create_dataset
from support.cases import CASES, case_config, case_loaders, left_one_out, plain_interactions, write_case

from recbole_gr.data.item_text import read_item_text
from recbole_gr.experiment.run import run
from recbole_gr.utils.errors import DataError, RecBoleGRError, SettingError

MODELS = ("TIGER", "SASRec", "BPR")


def plain_items():
    return [line.split("\t") for line in (CASES / "plain" / "plain.item").read_text().splitlines()[1:]]


def item_tokens():
    return np.array(["[PAD]", *(item for item, _, _ in plain_items())])


def rows_of(loader):
    """User, item and history of each row of a part, by token, in their order; None for the history of a general model."""
    part = loader._dataset
    users, items = part.field2id_token[part.uid_field], part.field2id_token[part.iid_field]
    batch = part[list(range(len(part)))]
    histories = [None] * len(part)
    if f"{part.iid_field}_list" in batch:
        histories = [tuple(items[row[row > 0]]) for row in batch[f"{part.iid_field}_list"].numpy()]
    return list(zip(users[batch[part.uid_field].numpy()], items[batch[part.iid_field].numpy()], histories))


def excluded(loader):
    """By user, the items that may not be recommended, by token."""
    part, found = loader._dataset, {}
    items = part.field2id_token[part.iid_field]
    for interaction, history, _, _ in loader:
        users = part.field2id_token[part.uid_field][interaction[part.uid_field].numpy()]
        for user in users:
            found.setdefault(user, set())
        if history is not None:
            for row, item in zip(*(values.tolist() for values in history)):
                found[users[row]].add(items[item])
    return found


def warnings_in(caplog):
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case", ["shuffled", "csvquoted", "custom", "bom", "bench"])
def test_the_same_data_written_otherwise_is_the_same_split_with_the_same_numbers(case, model):
    plain, other = case_loaders(model, "plain"), case_loaders(model, case)
    for ours, theirs in zip(plain, other):
        assert rows_of(ours) == rows_of(theirs)
    for field, other_field in ((name, getattr(other[0]._dataset, name)) for name in ("uid_field", "iid_field")):
        mine = plain[0]._dataset
        assert (mine.field2id_token[getattr(mine, field)] == other[0]._dataset.field2id_token[other_field]).all()


def test_the_plain_split_is_leave_one_out_in_the_order_of_time():
    expected = left_one_out(plain_interactions())
    train, valid, test = map(rows_of, case_loaders("SASRec", "plain"))
    assert {user: (item, history) for user, item, history in test} == {
        user: (last, (*before, valid_item)) for user, (before, valid_item, last) in expected.items()
    }
    assert {user: (item, history) for user, item, history in valid} == {
        user: (valid_item, tuple(before)) for user, (before, valid_item, _) in expected.items()
    }
    assert len(train) == sum(len(before) - 1 for before, _, _ in expected.values())


@pytest.mark.parametrize("model, epochs", [("TIGER", 1), ("SASRec", 1), ("BPR", 1)])
def test_metrics_are_equal_to_the_digit_whatever_the_order_of_the_rows_and_the_form_of_the_split(model, epochs):
    results = []
    for case in ("plain", "shuffled", "bench"):
        write_case(case, "cases")
        given = {"epochs": epochs, "show_progress": False, "record_dir": None, "data_path": "cases"}
        given |= {"split_files": ["train", "valid", "test"]} if case == "bench" else {}
        given |= {"sid_file": str(CASES / "sids" / "good.json"), "warmup_steps": 1} if model == "TIGER" else {}
        results.append(run(model, case, config_dict=given, saved=False)["test_result"])
    assert results[0] == results[1] == results[2] and results[0]["recall@10"] > 0


def test_numbers_as_they_come_in_the_file_are_recboles():
    test = case_loaders("BPR", "shuffled", numbering="file")[2]._dataset
    lines = (CASES / "shuffled" / "shuffled.inter").read_text().splitlines()[1:]
    users, items, _ = zip(*(line.split("\t") for line in lines))
    assert test.field2id_token["user_id"].tolist() == ["[PAD]", *dict.fromkeys(users)]
    assert test.field2id_token["item_id"].tolist() == ["[PAD]", *dict.fromkeys(items)]


REFUSED = [
    (
        "isots",
        "476 cells in the column timestamp:float that are no numbers, the first in line 2: '2020-01-01 10:00:00'; a time",
    ),
    ("tokentime", "tokentime.inter has timestamp:token, but the order of time needs numbers: write timestamp:float"),
    ("missingts", "28 of 476 interactions of missingts have no timestamp, .*val_interval=.* leaves them out"),
    ("header_only", r"header_only.inter\] has a header and no rows"),
    ("notype", r"notype.inter\] has a column 'user_id' without a type in its first line \(name:type\)"),
]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case, words", REFUSED)
def test_what_cannot_be_meant_is_one_line_for_every_model(case, words, model):
    with pytest.raises(RecBoleGRError, match=words) as error:
        case_loaders(model, case)
    assert "\n" not in str(error.value)


def test_interactions_without_a_time_can_be_left_out_as_the_error_says():
    train, valid, test = case_loaders("BPR", "missingts", val_interval={"timestamp": "(-inf,inf)"})
    rows = [line.split("\t") for line in (CASES / "missingts" / "missingts.inter").read_text().splitlines()[1:]]
    expected = left_one_out([(user, item, float(time)) for user, item, time in rows if time])
    assert {user: item for user, item, _ in rows_of(test)} == {user: last for user, (_, _, last) in expected.items()}


def test_text_in_quotes_is_read_as_csv_where_the_separator_is_a_comma():
    path = write_case("csvquoted", "cases") / "csvquoted.item"
    texts = read_item_text(str(path), item_tokens(), "{title} / {brand}", separator=",")
    assert texts[1] == "table, lamp, shoe, soft, 1 / Brio"
    assert texts[1:] == [f"{title.replace(' ', ', ')} / {brand}" for _, title, brand in plain_items()]


def test_every_cell_in_quotes_is_read_where_the_separator_is_a_comma_and_named_elsewhere(tmp_path):
    header = "item_id:token,title:token_seq"
    for separator in (",", "\t"):
        lines = [header.replace(",", separator), f'"i1"{separator}"A, ""B"""', f'"i2"{separator}"C"']
        path = tmp_path / "quoted.item"
        path.write_text("\n".join(lines) + "\n")
        tokens = np.array(["[PAD]", "i1", "i2"])
        if separator == ",":
            assert read_item_text(str(path), tokens, separator=separator) == ["", 'A, "B"', "C"]
        else:
            with pytest.raises(
                DataError, match='none of the 2 items .* e.g. "i1", "i2" against i1, i2: its cells are in quot'
            ):
                read_item_text(str(path), tokens, separator=separator)


def test_a_comma_in_a_cell_without_quotes_is_one_line(tmp_path):
    path = tmp_path / "bare.item"
    path.write_text("item_id:token,title:token_seq,brand:token\ni1,a,b\ni2,table, lamp,Brio\n")
    with pytest.raises(DataError, match="1 rows with more cells than the 3 of its header, the first in line 3.*quotation"):
        read_item_text(str(path), np.array(["[PAD]", "i1"]), separator=",")


def test_a_carriage_return_in_a_title_is_a_blank():
    path = write_case("crtitle", "cases") / "crtitle.item"
    texts = read_item_text(str(path), item_tokens(), "{title}, {brand}")
    assert texts[1] == "a b table lamp shoe soft 1, Brio"
    assert texts[2:] == [f"{title}, {brand}" for _, title, brand in plain_items()[1:]]


def test_recboles_reader_keeps_a_title_with_a_carriage_return_too():
    dataset = create_dataset_of("BPR", "crtitle", load_col={"inter": "*", "item": ["item_id", "title"]})
    words = dataset.field2id_token["title"][dataset.item_feat["title"].tolist()[dataset.token2id("item_id", "i1")]]
    assert " ".join(words) == "a b table lamp shoe soft 1"
    assert dataset.item_num == 41


def create_dataset_of(model, case, **settings):
    write_case(case, "cases")
    return create_dataset(case_config(model, case, **settings))


def test_a_byte_order_mark_is_no_text():
    path = write_case("bom", "cases") / "bom.item"
    assert read_item_text(str(path), item_tokens(), "{title}")[1:] == [title for _, title, _ in plain_items()]


def test_another_encoding_is_one_line_that_names_the_setting():
    path = write_case("latin1", "cases") / "latin1.item"
    with pytest.raises(DataError, match=r"latin1.item\] is not UTF-8 text .*; the setting is encoding"):
        read_item_text(str(path), item_tokens())
    assert read_item_text(str(path), item_tokens(), "{title}", encoding="latin-1")[1] == "Café crème"
    with pytest.raises(DataError, match=r"latin1.item\] is not UTF-8 text .*; the setting is encoding"):
        create_dataset_of("BPR", "latin1", load_col={"inter": "*", "item": ["item_id", "title"]})
    with pytest.raises(SettingError, match="encoding='latin-one': no such encoding"):
        create_dataset_of("BPR", "latin1", encoding="latin-one")


def test_items_that_are_written_otherwise_are_named(tmp_path):
    tokens = create_dataset_of("BPR", "floatids").field2id_token["item_id"]
    path = write_case("floatids", "cases") / "floatids.item"
    words = "has none of the 40 items of the interactions, e.g. 1.0, 2.0, 3.0 against 1, 10, 11: items must be written alike"
    with pytest.raises(DataError, match=words):
        read_item_text(str(path), tokens)
    words = "476 of 476 interactions are of an item that floatids.item does not have, e.g. 27, 3, 17; it has 1.0, 2.0, 3.0"
    with pytest.raises(DataError, match=words):
        create_dataset_of("BPR", "floatids", load_col={"inter": "*", "item": ["item_id"]})


@pytest.mark.parametrize(
    "case, rows, words",
    [
        ("missinguser", 10, "10 of 476 rows of missinguser.inter have no user_id"),
        ("naids", 49, "49 of 476 rows of naids.inter"),
    ],
)
def test_rows_without_a_user_or_item_are_counted(case, rows, words, caplog):
    dataset = create_dataset_of("BPR", case)
    assert words in caplog.text and len(warnings_in(caplog)) == 1
    assert len(dataset.inter_feat) == 476 - rows


def test_the_rows_that_are_left_are_the_right_ones_where_users_and_items_are_missing():
    folder = write_case("plain", "cases")
    path = folder / "plain.inter"
    lines = path.read_text().splitlines()
    for number, column in ((1, 0), (5, 1), (300, 0), (400, 1)):
        cells = lines[number].split("\t")
        lines[number] = "\t".join(["" if place == column else cell for place, cell in enumerate(cells)])
    path.write_text("\n".join(lines) + "\n")
    dataset = create_dataset(case_config("BPR", "plain"))
    users, items = (dataset.field2id_token[field][dataset.inter_feat[field]] for field in ("user_id", "item_id"))
    expected = [line.split("\t")[:2] for n, line in enumerate(lines) if n and n not in (1, 5, 300, 400)]
    assert [list(pair) for pair in zip(users, items)] == expected


def test_items_that_the_item_file_lacks_are_counted(caplog):
    path = write_case("itemless", "cases") / "itemless.item"
    texts = read_item_text(str(path), item_tokens())
    assert texts[1:31] == [f"{title}, {brand}" for _, title, brand in plain_items()[:30]] and not any(texts[31:])
    assert "10 of 40 items have no text, e.g. i31, i32, i33: 10 are missing from" in caplog.text
    caplog.clear()
    create_dataset_of("BPR", "itemless", load_col={"inter": "*", "item": ["item_id"]})
    assert "interactions are of an item that itemless.item does not have, e.g. " in caplog.text


def test_more_items_in_the_item_file_are_counted_and_change_nothing(caplog):
    caplog.set_level(logging.INFO)
    path = write_case("itemmore", "cases") / "itemmore.item"
    assert read_item_text(str(path), item_tokens())[1:] == [f"{title}, {brand}" for _, title, brand in plain_items()]
    assert create_dataset_of("TIGER", "itemmore").item_num == 41
    assert f"20 items of [{path}] have no interactions here and are left out" in caplog.text


def test_odd_titles_are_text_as_they_stand(caplog):
    path = write_case("oddtitles", "cases") / "oddtitles.item"
    texts = read_item_text(str(path), item_tokens(), "{title}")
    assert texts[1:4] == ['"Quoted" title', 'He said "hi', "👩‍🚀🚀 émoji 漢字 title"]
    assert texts[4] == ("long " * 20_000).strip() and texts[5:7] == ["", ""]
    assert texts[7:9] == ["nan", "a, b; c | d, \\ {braces} %s"]
    assert "2 of 40 items have no text, e.g. i5, i6" in caplog.text


def test_a_price_that_is_none_is_text_to_us_and_one_line_to_recbole():
    path = write_case("price_bad", "cases") / "price_bad.item"
    assert read_item_text(str(path), item_tokens(), "{title} {price}")[4].endswith(" -")
    with pytest.raises(
        DataError, match=r"in the column price:float that are no numbers, the first in line 5: '-'; empty it"
    ):
        create_dataset_of("BPR", "price_bad", load_col={"inter": "*", "item": ["item_id", "price"]})


@pytest.mark.parametrize("model", MODELS)
def test_a_column_that_a_filter_is_about_is_loaded(model):
    dataset = create_dataset_of(model, "rating")
    rows = [line.split("\t") for line in (CASES / "rating" / "rating.inter").read_text().splitlines()[1:]]
    assert len(dataset.inter_feat) == sum(float(row[2]) >= 4 for row in rows) < 476


def test_a_filter_on_a_column_of_the_items_loads_it_and_one_on_no_column_names_the_files():
    dataset = create_dataset_of("BPR", "plain", val_interval={"brand": ["Acme"]})
    acme = {item for item, _, brand in plain_items() if brand == "Acme"}
    assert set(dataset.field2id_token["item_id"][1:]) == acme
    with pytest.raises(SettingError, match="no column 'stars' in plain.inter, plain.user, plain.item"):
        create_dataset_of("BPR", "plain", val_interval={"stars": "[4,inf)"})
    with pytest.raises(SettingError, match="rating: must be intervals of numbers, for example"):
        create_dataset_of("BPR", "rating", val_interval={"rating": "4"})
    with pytest.raises(DataError, match="nothing is left of rating.inter after the filters: val_interval="):
        create_dataset_of("BPR", "rating", val_interval={"rating": "[40,inf)"})


def test_short_histories_run_and_are_counted(caplog):
    caplog.set_level(logging.INFO)
    _, valid, test = case_loaders("SASRec", "few")
    users = {}
    for line in (CASES / "few" / "few.inter").read_text().splitlines()[1:]:
        users.setdefault(line.split("\t")[0], []).append(line)
    lengths = np.array([len(rows) for rows in users.values()])
    assert len(rows_of(test)) == (lengths >= 3).sum() and len(rows_of(valid)) == (lengths >= 4).sum()
    line = f"{(lengths < 4).sum()} users have none for validation. {(lengths < 3).sum()} users have none for test."
    assert f"Targets of {len(users)} users: " in caplog.text and line in caplog.text


def test_few_items_are_one_line_or_codebooks_that_fit():
    write_case("fewitems", "cases")
    with pytest.raises(RecBoleGRError, match="codebook_size=8: must be at most the number of items, 4"):
        create_dataset(case_config("TIGER", "fewitems", sid_file=None, codebook_size=8))
    with pytest.raises(
        DataError, match="RecBole cannot sample negative items of fewitems: Some users have interacted with all items"
    ):
        case_loaders("BPR", "fewitems", topk=[2], valid_metric="Recall@2")
    dataset = create_dataset(case_config("TIGER", "fewitems", sid_file=None, topk=[2], valid_metric="Recall@2"))
    assert dataset.semantic_ids.codebook_sizes[0] == 4


@pytest.mark.parametrize("model", MODELS)
def test_repeats_are_counted_and_repeatable_is_honoured(model, caplog):
    _, valid, test = case_loaders(model, "repeats")
    assert "59 of 60 targets are items that the user had before; excluded, they can never be hit" in caplog.text
    assert all(excluded(test).values())
    caplog.clear()
    _, valid, test = case_loaders(model, "repeats", repeatable=True)
    assert "never be hit" not in caplog.text and test.config["mask_seen"] is False
    assert not any(excluded(test).values())


def test_settings_without_effect_on_a_ranking_are_said():
    from recbole_gr.integration.check_run import check_run

    folder = write_case("rating", "cases").parent
    given = {"data_path": str(folder), "threshold": {"rating": 4}, "repeatable": True, "mask_seen": True}
    notices = check_run("BPR", "rating", config_dict=given, arguments=[]).notices
    assert [notice.partition(" is not used: ")[0] for notice in notices] == ["repeatable=True", "threshold={'rating': 4}"]
    assert "mask_seen=True" in notices[0] and "val_interval" in notices[1]
    del given["mask_seen"]
    assert "mask_seen=False follows repeatable=True" in check_run("BPR", "rating", config_dict=given, arguments=[]).notices


@pytest.mark.parametrize("model", MODELS)
def test_sampled_ranking_keeps_leave_one_out_in_the_order_of_time(model):
    _, _, test = case_loaders(model, "plain", eval_args={"mode": "uni20"})
    expected = {user: last for user, (_, _, last) in left_one_out(plain_interactions()).items()}
    assert {user: item for user, item, _ in rows_of(test)} == expected
    part, candidates = test._dataset, {}
    for interaction, row, _, positive_item in test:
        assert len(interaction) == 21 * len(positive_item) == len(row)
        for user in interaction["user_id"].tolist():
            candidates[user] = candidates.get(user, 0) + 1
    assert candidates == dict.fromkeys(range(1, part.user_num), 21)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case", ["bench", "benchseq"])
def test_ready_splits_keep_their_parts_and_exclude_all_that_a_user_had(case, model, caplog):
    _, valid, test = case_loaders(model, case)
    expected = left_one_out(plain_interactions())
    assert {user: item for user, item, _ in rows_of(test)} == {user: last for user, (_, _, last) in expected.items()}
    if model != "BPR":
        assert {user: history for user, _, history in rows_of(test)} == {
            user: (*before, valid_item) for user, (before, valid_item, _) in expected.items()
        }
    assert excluded(valid) == {user: set(before) for user, (before, _, _) in expected.items()}
    assert excluded(test) == {user: {*before, valid_item} for user, (before, valid_item, _) in expected.items()}
    assert not warnings_in(caplog)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case", ["bench", "benchseq"])
def test_ready_splits_run(case, model):
    folder = write_case(case, "cases").parent
    given = {"data_path": str(folder), "epochs": 1, "show_progress": False, "record_dir": None}
    given |= {"benchmark_filename": ["train", "valid", "test"]}
    given |= {"sid_file": str(CASES / "sids" / "good.json"), "warmup_steps": 1} if model == "TIGER" else {}
    assert run(model, case, config_dict=given, saved=False)["test_result"]["recall@10"] > 0


SIDS = [
    ("broken.json", "not valid json"),
    ("by_index.json", r"looks like a file of another dataset: none of its 40 items \(0, 1, 2, ...\) is among"),
    ("collapsed.json", r"all 40 items have the same codes, \[0, 0, 0\]"),
    ("floats.json", "item i1 has code 0.0 at level 0, but the codes must be whole numbers"),
    ("gridfloat.pt", "must hold a tensor of whole numbers"),
    ("negative.json", "has code -1 at level 0, but codes start at 0"),
    ("offset.json", r"begin behind those of the level before \(level 1 at 256, level 2 at 512\): .*take the offsets off"),
    ("partial.json", "has no codes for 10 of 40 items of the catalogue"),
    ("ragged.json", r"all of one length, but i1 has \[0, 0, 0, 1\] and i2 has \[1, 0, 1\]"),
    ("string.json", "item i1 has '<a_0> <b_0> <c_0>', but must have a list of codes"),
    ("transposed.pt", "has 3 columns, but the .item file has 40 items: .* must be transposed"),
]


@pytest.mark.parametrize("name, words", SIDS)
def test_semantic_ids_with_a_fault_are_one_line_that_names_it(name, words):
    with pytest.raises(RecBoleGRError, match=words) as error:
        create_dataset_of("TIGER", "plain", sid_file=str(CASES / "sids" / name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["extra.json", "grid.pt", "tokens.json"])
def test_semantic_ids_in_other_forms_are_those_of_the_good_file(name, caplog):
    good = create_dataset_of("TIGER", "plain").semantic_ids.codes
    assert (create_dataset_of("TIGER", "plain", sid_file=str(CASES / "sids" / name)).semantic_ids.codes == good).all()
    assert ("1 of 41 items" in caplog.text) == (name == "extra.json")
