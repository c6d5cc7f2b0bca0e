"""Atomic files from each raw format: cells and counts worked out by hand."""

import os

import numpy as np
import pytest
import support.raw_sources as raw
from recbole.data import create_dataset
from support.raw_sources import prepare_dataset

from recbole_gr import cli
from recbole_gr.data.item_text import read_item_text
from recbole_gr.integration.config import make_config
from recbole_gr.prepare.command import prepare
from recbole_gr.utils.errors import SettingError, SettingErrors


def lines_of(result, kind):
    with open(os.path.join(result["folder"], f"{result['name']}.{kind}"), encoding="utf-8", newline="") as file:
        return file.read().split("\n")


def rows_of(result, kind):
    """Header and rows as tuples of cells; the file ends with a line break."""
    header, *rows, end = lines_of(result, kind)
    assert end == ""
    return tuple(header.split("\t")), [tuple(row.split("\t")) for row in rows]


def sizes(result):
    return result["users"], result["items"], result["interactions"]


def test_amazon_2014_by_hand():
    raw.write_amazon_2014("raw")
    result = prepare_dataset("amazon-2014", "Beauty", core=4)
    assert sizes(result) == (4, 4, 16) and result["name"] == "amazon-beauty-2014"
    header, rows = rows_of(result, "inter")
    assert header == ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    times = [str(1_390_694_400 + 86_400 * row) for row in range(16)]
    assert rows == [(*pair, "5.0", time) for pair, time in zip(raw.CORE_PAIRS, times)]
    header, rows = rows_of(result, "item")
    assert header == (
        *("item_id:token", "title:token_seq", "brand:token_seq", "categories:token_seq", "description:token_seq"),
        "price:float",
    )
    assert rows == [
        ("i1", 'Nail Polish & Remover, 3" bottle', "Prada", "Beauty, Nails, Gifts", "Line one. Line two.", "12.5"),
        ("i0", "'Best' Soap", "", "Beauty", "", ""),
        ("i2", "", "Ghost", "Beauty, L'Or\u00e9al", "", "3"),
        ("i3", "", "", "", "", ""),
    ]
    assert result["titled"] == 2


def test_no_core_keeps_all_and_text_columns_are_chosen():
    raw.write_amazon_2014("raw")
    result = prepare_dataset("amazon-2014", "Beauty", core=0, text_columns=["brand", "title"], name="mine")
    assert sizes(result) == (5, 5, 18) and result["folder"] == os.path.join("dataset", "mine")
    header, rows = rows_of(result, "item")
    assert header == ("item_id:token", "brand:token_seq", "title:token_seq")
    assert sorted(row[0] for row in rows) == ["i0", "i1", "i2", "i3", "i4"]


def test_without_text_columns_no_metadata_is_needed():
    raw.write_amazon_2014("raw")
    os.remove("raw/meta_Beauty.json.gz")
    result = prepare_dataset("amazon-2014", "Beauty", core=4, text_columns=[], download=False)
    assert os.listdir(result["folder"]).count("amazon-beauty-2014.item") == 0 and sizes(result) == (4, 4, 16)


def test_amazon_2018_by_hand():
    raw.write_amazon_2018("raw", "Toys_and_Games")
    result = prepare_dataset("amazon-2018", "Toys_and_Games", core=4)
    assert result["name"] == "amazon-toys-2018" and sizes(result) == (4, 4, 16)
    assert rows_of(result, "item")[1] == [
        ("i0", "", "", "Toys & Games, Games", "One. Two.", ""),
        ("i1", "Puzzle", "Ravensburger", "", "", "1012.99"),
        ("i2", "Ball", "", "Toys", "", ""),
        ("i3", "", "", "", "", ""),
    ]


AMAZON_2023_ROWS = [
    ("AE_1", "p0", "5.0", "1588687728.923"),
    ("AE_1", "p1", "4.0", "1588687729"),
    ("AE_2", "p0", "1.0", "1600000000.01"),
    ("AE_2", "p2", "3.0", "1600000000.5"),
]


@pytest.mark.parametrize("variant", ["reviews", "ratings", "splits"])
def test_amazon_2023_by_hand(variant):
    raw.write_amazon_2023_metadata("raw", "Video_Games")
    ratings = raw.AMAZON_2023_RATINGS
    if variant == "reviews":
        raw.write_gzip("raw/Video_Games.jsonl.gz", raw.amazon_2023_reviews())
    elif variant == "ratings":
        raw.write_gzip("raw/Video_Games.csv.gz", raw.amazon_2023_csv(ratings))
    else:
        raw.write_gzip("raw/Video_Games.train.csv.gz", raw.amazon_2023_csv(ratings[:2], history=True))
        raw.write_gzip("raw/Video_Games.valid.csv.gz", raw.amazon_2023_csv(ratings[2:3], history=True))
        raw.write_gzip("raw/Video_Games.test.csv.gz", raw.amazon_2023_csv(ratings[3:], history=True))
    result = prepare_dataset("amazon-2023", "Video_Games", core=0)
    assert result["name"] == "amazon-video-games-2023" and rows_of(result, "inter")[1] == AMAZON_2023_ROWS
    assert rows_of(result, "item")[1] == [
        ("p0", "Zelda", "Nintendo", "Video Games, Switch", "A B", "59.99"),
        ("p1", "Cable", "", "", "", ""),
        ("p2", "", "S", "", "", ""),
    ]


def test_sources_whose_files_have_the_same_names_lie_apart(capsys):
    raw.write_amazon_2014("raw/amazon-2014", "Toys_and_Games")
    raw.write_amazon_2018("raw/amazon-2018", "Toys_and_Games")
    for source in ("amazon-2014", "amazon-2018"):
        prepare({"source": source, "category": "Toys_and_Games", "core": "4"})
        assert f"raw/{source}/meta_Toys_and_Games.json.gz" in capsys.readouterr().out


def test_the_variant_decides_where_several_are_there():
    raw.write_amazon_2023_metadata("raw", "Video_Games")
    raw.write_gzip("raw/Video_Games.jsonl.gz", raw.amazon_2023_reviews())
    raw.write_gzip("raw/Video_Games.csv.gz", raw.amazon_2023_csv(raw.AMAZON_2023_RATINGS[:1]))
    assert sizes(prepare_dataset("amazon-2023", "Video_Games", core=0)) == (2, 3, 4)
    assert sizes(prepare_dataset("amazon-2023", "Video_Games", core=0, variant="ratings")) == (1, 1, 1)


def test_movielens_100k_by_hand():
    raw.write_movielens_100k("raw/ml-100k")
    result = prepare_dataset("movielens-100k")
    assert rows_of(result, "inter")[1] == [
        ("196", "242", "3.0", "881250949"),
        ("186", "302", "3.0", "891717742"),
        ("196", "302", "1.0", "881250949"),
    ]
    header, rows = rows_of(result, "item")
    assert header == ("item_id:token", "title:token_seq", "release_year:token", "genres:token_seq")
    assert rows == [
        ("242", "Kolya", "1996", "Comedy"),
        ("302", "Mis\u00e9rables, Les", "1995", "Drama, Musical"),
    ]


def test_movielens_1m_by_hand_packed_and_unpacked():
    raw.write_zip("raw", "ml-1m", raw.MOVIELENS_1M)
    packed = prepare_dataset("movielens-1m")
    expected = [("73", "Mis\u00e9rables, Les", "1995", "Drama, Musical")]
    expected.append(("1193", "One Flew Over the Cuckoo's Nest", "1975", "Drama"))
    assert rows_of(packed, "item")[1] == expected and sizes(packed) == (2, 2, 3)
    os.makedirs("other")
    for name, content in raw.MOVIELENS_1M.items():
        with open(f"other/{name}", "wb") as file:
            file.write(content)
    unpacked = prepare_dataset("movielens-1m", raw_dir="other", name="unpacked")
    assert rows_of(unpacked, "item")[1] == expected and lines_of(unpacked, "inter") == lines_of(packed, "inter")


@pytest.mark.parametrize("size", ["20m", "32m"])
def test_movielens_csv_by_hand(size):
    raw.write_zip("raw", f"ml-{size}", raw.MOVIELENS_20M)
    result = prepare_dataset(f"movielens-{size}")
    assert rows_of(result, "inter")[1] == [
        ("1", "2", "3.5", "1112486027"),
        ("1", "29", "4.0", "1112484676"),
        ("7", "29", "0.5", "1112484676"),
    ]
    assert rows_of(result, "item")[1] == [
        ("2", "City of Lost Children, The (Cit\u00e9 des enfants perdus, La)", "1995", "Adventure, Drama"),
        ("29", "'Great Performances' Cats", "1998", ""),
    ]


def test_yelp_by_hand():
    raw.write_yelp("raw")
    result = prepare_dataset("yelp", core=0)
    # 17,719 days and 79,751 seconds from 1970; 15,342 and 55,698
    times = [str(17_719 * raw.DAY + 79_751), str(15_342 * raw.DAY + 55_698)]
    assert rows_of(result, "inter")[1] == [("mh_-eM", "XQfw", "3.0", times[0]), ("OyoGAe", "7ATY", "5.0", times[1])]
    assert rows_of(result, "item")[1] == [
        ("XQfw", "Turning Point", "Restaurants, Food", "North Wales", "PA"),
        ("7ATY", "Body Cycle", "", "Philadelphia", "PA"),
    ]


def test_steam_by_hand():
    raw.write_steam("raw")
    result = prepare_dataset("steam", core=0)
    header, rows = rows_of(result, "inter")
    assert header == ("user_id:token", "item_id:token", "hours:float", "timestamp:float")
    assert rows == [
        ("Chaos Syren", "725280", "0.1", str(17_517 * raw.DAY)),
        ("null_", "328100", "", str(16_860 * raw.DAY)),
        ("'quoted' Tab here", "328100", "51.1", str(raw.DAY)),
    ]
    assert rows_of(result, "item")[1] == [
        ("725280", "Lost Summoner Kitty", "Kotoshiro", "Action, Indie", "Strategy, Action", "4.99"),
        ("328100", "Ironbound\u2122", "", "RPG", "", ""),
    ]
    assert result["metadata_tally"].broken == 1  # the game without a number


def test_recbole_loads_what_was_prepared():
    """With every column, those of text too; names that pandas would take for missing or quoted stay users."""
    raw.write_steam("raw")
    raw.write_amazon_2014("raw")
    steam = prepare_dataset("steam", core=0)
    settings = {"data_path": "dataset", "load_col": None, "train_neg_sample_args": None, "record_dir": None}
    dataset = create_dataset(make_config("SASRec", "steam", config_dict=settings))
    assert dataset.user_num - 1 == 3 and dataset.item_num - 1 == 2 and dataset.inter_num == 3
    assert set(dataset.field2id_token["user_id"][1:]) == {row[0] for row in rows_of(steam, "inter")[1]}

    beauty = prepare_dataset("amazon-2014", "Beauty", core=4)
    config = make_config("SASRec", beauty["name"], config_dict=settings)
    assert config["text_template"] == "{title}, {brand}, {categories}"  # of properties/dataset
    dataset = create_dataset(config)
    assert (dataset.user_num - 1, dataset.item_num - 1, dataset.inter_num) == sizes(beauty)
    loaded = dataset.item_feat.set_index("item_id")
    first = dataset.token2id("item_id", "i1")
    assert loaded.loc[first, "price"] == 12.5
    tokens = dataset.field2id_token["item_id"]
    texts = read_item_text("dataset/amazon-beauty-2014/amazon-beauty-2014.item", tokens, config["text_template"])
    assert texts[first] == 'Nail Polish & Remover, 3" bottle, Prada, Beauty, Nails, Gifts'
    train, valid, test = dataset.build()
    last = dict(zip(test.inter_feat["user_id"].tolist(), test.inter_feat["item_id"].tolist()))
    assert set(dataset.id2token("item_id", np.array(list(last.values())))) == {"i3"}


def test_settings_are_written_where_no_property_file_fits():
    raw.write_amazon_2014("raw", "Sports_and_Outdoors")  # the property file of that name reads another item text
    result = prepare_dataset("amazon-2014", "Sports_and_Outdoors", core=4)
    assert result["name"] == "amazon-sports-2014"
    config = make_config("TIGER", result["name"], [result["settings"]], {"data_path": "dataset", "record_dir": None})
    assert config["text_template"] == "{title}, {brand}, {categories}" and config["title_template"] == "{title}"
    assert config["load_col"] == {"inter": ["user_id", "item_id", "timestamp"]}
    raw.write_yelp("raw")
    assert prepare_dataset("yelp", core=0)["settings"] is None
    assert prepare_dataset("yelp", core=0, text_columns=["city"])["settings"] is not None


def test_the_report_says_what_came_out(capsys, caplog):
    raw.write_amazon_2014("raw")
    prepare(
        {
            "source": "amazon-2014",
            "category": "Beauty",
            "core": "4",
            "raw_dir": "raw",
            "output_dir": "out",
            "text_columns": "title",
        }
    )
    printed = capsys.readouterr().out
    for words in ("18 from raw/reviews_Beauty_5.json.gz", "kept               16 (88.9%)", "users              4\n"):
        assert words in printed
    for words in ("items              4\n", "items with title   2 (50.0%)", "5 rows from raw/meta_Beauty.json.gz, 0 broken"):
        assert words in printed
    command = "recbole-gr run --dataset=amazon-beauty-2014 --data_path=out"
    assert f"{command} --config_files=out/amazon-beauty-2014/amazon-beauty-2014.yaml\n" in printed
    assert not caplog.records


def test_differences_from_the_published_size_are_named(caplog):
    raw.write_movielens_100k("raw")
    result = prepare_dataset("movielens-100k")
    expected = "2 users instead of 943, 2 items instead of 1,682, 3 interactions instead of 100,000"
    assert f"movielens-100k has not the size that was published: {expected}" in caplog.text
    assert result["published"] == f"differs: {expected}"
    caplog.clear()
    assert "not known" in prepare_dataset("movielens-100k", core=1)["published"] and not caplog.records


def test_the_published_size_of_ml_100k_is_met(ml100k_folder, caplog):
    """RecBole's copy of ml-100k, written back in GroupLens's format, has the size that GroupLens tells."""
    os.makedirs("raw")
    with open(os.path.join(ml100k_folder, "ml-100k.inter")) as file, open("raw/u.data", "w") as data:
        data.writelines(file.readlines()[1:])
    result = prepare_dataset("movielens-100k", text_columns=[])
    assert result["published"] == "the same" and not caplog.records
    assert sizes(result) == (943, 1_682, 100_000)


WRONG_OPTIONS = [
    ({"source": "amazon-2015"}, "source='amazon-2015': must be one of amazon-2014"),
    ({}, "source=None: must be one of"),
    ({"source": "amazon-2014"}, "category=None: must be as in the names of the files"),
    ({"source": "amazon-2014", "category": "../x"}, "category='../x': must be"),
    ({"source": "yelp", "category": "Beauty"}, "category='Beauty': yelp has no categories"),
    ({"source": "yelp", "core": "few"}, "core='few': must be a whole number of at least 0"),
    ({"source": "yelp", "core": "-1"}, "core='-1': must be a whole number of at least 0"),
    ({"source": "yelp", "text_columns": "title,brand"}, "text_columns='brand': must be one of title, categories, city"),
    ({"source": "yelp", "download": "yes"}, "download='yes': must be True or False"),
    ({"source": "yelp", "variant": "5core"}, "variant='5core': must be one of reviews"),
    ({"source": "yelp", "name": "a/b"}, "name='a/b': must be"),
    ({"source": "yelp", "kcore": "5"}, "kcore='5': recbole-gr prepare has no such option; did you mean core?"),
    ({"source": "yelp", "xyz": "5"}, "xyz='5': recbole-gr prepare has no such option; it has category, raw_dir"),
]


@pytest.mark.parametrize("given, message", WRONG_OPTIONS)
def test_wrong_options_are_named(given, message):
    with pytest.raises(SettingError) as error:
        prepare(given)
    assert str(error.value).startswith(message) and not os.path.exists("dataset")


def test_all_wrong_options_are_named_together():
    with pytest.raises(SettingErrors) as error:
        prepare(
            {"source": "yelp", "core": "few", "download": "yes", "variant": "all", "text_columns": "brand", "colour": "red"}
        )
    assert [fault.key for fault in error.value.errors] == ["colour", "core", "download", "text_columns", "variant"]


def test_the_published_split_of_amazon_2023_comes_back():
    """From one file, although a user's last three interactions share a time and the first user's files come first."""
    raw.write_amazon_2023_metadata("raw", "Video_Games")
    time = 1_600_000_000_000
    parts = {
        "train": [("a", "p1", 5.0, time), ("b", "p2", 5.0, time), ("a", "p0", 5.0, time + 5), ("b", "p0", 5.0, time + 1)],
        "valid": [("a", "p2", 5.0, time + 5), ("b", "p3", 5.0, time + 1)],
        "test": [("a", "p3", 5.0, time + 5), ("b", "p1", 5.0, time + 2)],
    }
    for part, rows in parts.items():
        raw.write_gzip(f"raw/Video_Games.{part}.csv.gz", raw.amazon_2023_csv(rows))
    result = prepare_dataset("amazon-2023", "Video_Games", core=0)
    settings = {"data_path": "dataset", "record_dir": None, "train_neg_sample_args": None}
    dataset = create_dataset(make_config("BPR", result["name"], [result["settings"]], settings))
    for built, rows in zip(dataset.build(), parts.values()):
        users, items = (dataset.id2token(field, built.inter_feat[field].numpy()) for field in ("user_id", "item_id"))
        assert sorted(zip(users, items)) == sorted((user, item) for user, item, *_ in rows)


def test_the_command(capsys):
    raw.write_yelp("raw")
    assert cli.main(["prepare", "yelp", "--core", "0", "--raw-dir=raw", "--output-dir", "out"]) == 0
    assert "next: recbole-gr run --dataset=yelp --data_path=out\n" in capsys.readouterr().out
    assert sorted(os.listdir("out/yelp")) == ["yelp.inter", "yelp.item"]
    assert cli.main(["prepare", "yelp", "--raw_dir=nowhere"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: there is no file yelp_academic_dataset_review.json in [nowhere]")
    assert printed.err.count("\n") == 1 and printed.out == ""
