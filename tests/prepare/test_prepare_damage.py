"""Damaged, wrong and missing raw files: what can be used is used and counted, the rest is one line to read."""

import gzip
import os
import zlib

import pytest
import support.raw_sources as raw
from support.raw_sources import prepare_dataset

from recbole_gr.prepare.command import report
from recbole_gr.utils.errors import DataError

HERE = {"core": 0, "download": False}


def beauty(**options):
    return prepare_dataset("amazon-2014", "Beauty", **{**HERE, **options})


def inter_rows(result):
    with open(os.path.join(result["folder"], f"{result['name']}.inter"), encoding="utf-8") as file:
        return file.read().splitlines()[1:]


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_of_a_truncated_gzip_what_came_before_is_used(caplog):
    pairs = [(f"u{n % 97}", f"i{n % 89}") for n in range(5000)]
    raw.write_amazon_2014("raw", pairs=pairs)
    path = "raw/reviews_Beauty_5.json.gz"
    raw.cut_off(path)
    with open(path, "rb") as file:
        readable = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(file.read())
    whole_lines = readable.count(b"\n")
    result = beauty()
    assert 0 < whole_lines < 5000 and result["interactions"] == whole_lines
    assert [row.split("\t")[0] for row in inter_rows(result)] == [user for user, _ in pairs[:whole_lines]]
    tally = result["tallies"][0]
    assert (tally.lines, tally.broken) == (whole_lines, 0)
    assert f"[{path}] is damaged or cut off (" in caplog.text and f"the {whole_lines:,} lines before" in caplog.text
    assert f"cut off            {path}" in report(result)


def test_a_flipped_byte_in_a_gzip_is_not_fatal(caplog):
    raw.write_amazon_2014("raw", pairs=[(f"u{n % 97}", f"i{n % 89}") for n in range(5000)])
    path = "raw/reviews_Beauty_5.json.gz"
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        file.seek(size - 6)  # inside the checksum at the end
        file.write(b"\0\0")
    assert beauty()["interactions"] == 5000
    assert "is damaged or cut off (CRC check failed" in caplog.text


def test_broken_lines_are_counted_and_the_first_is_named(caplog):
    good = raw.amazon_reviews()
    broken = [
        *('{"reviewerID": "u0", "asin": "i0", "overall"', '{"reviewerID": "u0", "overall": 5.0, "unixReviewTime": 1}'),
        *('{"reviewerID": "", "asin": "i0", "overall": 5.0, "unixReviewTime": 1}', "[]", "17", "[" * 100_000),
        *('{"reviewerID": "u0", "asin": "i0", "overall": NaN, "unixReviewTime": 1}',),
        *('{"reviewerID": "u0", "asin": "i0", "overall": 5.0, "unixReviewTime": "yesterday"}',),
    ]
    raw.write_amazon_2014("raw")
    path = "raw/reviews_Beauty_5.json.gz"
    raw.write_gzip(path, [*good[:2], "", *broken, *good[2:]])
    with gzip.open(path, "ab") as file:
        file.write(b'{"reviewerID": "\xff\xfe", "asin": "i0", "overall": 5.0, "unixReviewTime": 1}\n')
    result = beauty()
    assert result["interactions"] == len(good)
    tally = result["tallies"][0]
    assert (tally.lines, tally.broken, tally.first_broken) == (len(good) + 9, 9, 4)
    assert f"[{path}] has 9 broken lines of 27, the first is line 4; they are left out" in caplog.text
    assert "  broken             9\n" in report(result)


def test_broken_metadata_is_counted(caplog):
    """Among them an expression that eval would run."""
    evil = "__import__('os').mkdir('evil')"
    raw.write_amazon_2014("raw", metadata=[evil, *raw.AMAZON_2014_METADATA, "{'asin': 'i3', 'title': 'no end"])
    result = beauty()
    assert (result["metadata_tally"].broken, result["metadata_tally"].first_broken) == (2, 1) and result["titled"] == 2
    assert not os.path.exists("evil") and "meta_Beauty.json.gz] has 2 broken lines of 7, the first is line 1" in caplog.text


def test_metadata_in_place_of_reviews_is_an_error():
    raw.write_amazon_2014("raw")
    os.replace("raw/meta_Beauty.json.gz", "raw/reviews_Beauty_5.json.gz")
    raw.write_gzip("raw/meta_Beauty.json.gz", raw.AMAZON_2014_METADATA)
    with pytest.raises(DataError, match=r"\[raw/reviews_Beauty_5.json.gz\] is not the file .* none of its 5 lines") as error:
        beauty()
    assert one_line(error).endswith("""one begins "{'asin': 'i1', 'title': 'the second record of i1'}\"""")
    assert os.listdir("dataset/amazon-beauty-2014") == []


def test_reviews_in_place_of_metadata_are_an_error():
    raw.write_amazon_2014("raw", metadata=raw.amazon_reviews() * 100)
    with pytest.raises(DataError, match=r"meta_Beauty.json.gz\] is not the file .* none of its first 1,000 lines") as error:
        beauty()
    one_line(error)
    assert os.listdir("dataset/amazon-beauty-2014") == []  # neither file without the other


def test_metadata_of_another_release_is_an_error():
    """Both releases call their files the same."""
    raw.write_amazon_2014("raw")
    raw.write_amazon_2018("2018", "Beauty")
    os.replace("2018/meta_Beauty.json.gz", "raw/meta_Beauty.json.gz")
    with pytest.raises(DataError, match=r"meta_Beauty.json.gz\] is not the file that its name says, or of another version"):
        beauty()


def test_a_page_saved_as_the_file_is_an_error():
    raw.write_amazon_2014("raw")
    with open("raw/reviews_Beauty_5.json.gz", "w") as file:
        file.write("<!DOCTYPE html>\n<html>\n<body>404</body>\n</html>\n")
    with pytest.raises(DataError, match="none of its 4 lines can be used") as error:
        beauty()
    one_line(error)


def test_files_without_data_are_errors():
    raw.write_amazon_2014("raw")
    open("raw/reviews_Beauty_5.json.gz", "w").close()
    with pytest.raises(DataError, match=r"\[raw/reviews_Beauty_5.json.gz\] holds no data"):
        beauty()
    raw.write_amazon_2023_metadata("raw", "Games")
    raw.write_gzip("raw/Games.csv.gz", raw.amazon_2023_csv([]))
    with pytest.raises(DataError, match=r"\[raw/Games.csv.gz\] holds no data"):
        prepare_dataset("amazon-2023", "Games", **HERE)


def test_a_csv_of_another_kind_is_an_error():
    raw.write_amazon_2023_metadata("raw", "Games")
    raw.write_gzip("raw/Games.csv.gz", ["A1,p0,5.0,1400000000"])  # Amazon 2018's ratings have no header
    with pytest.raises(DataError, match="columns user_id,parent_asin,rating,timestamp .* one begins 'A1,p0") as error:
        prepare_dataset("amazon-2023", "Games", **HERE)
    one_line(error)
    raw.write_zip("raw", "ml-20m", {**raw.MOVIELENS_20M, "movies.csv": raw.MOVIELENS_20M["ratings.csv"]})
    with pytest.raises(DataError, match=r"\[raw/ml-20m.zip:ml-20m/movies.csv\] is not the file .* movieId,title,genres"):
        prepare_dataset("movielens-20m", **HERE)


@pytest.mark.parametrize("source, wrong", [("movielens-100k", "u.item"), ("movielens-1m", "movies.dat")])
def test_movies_in_place_of_ratings_are_an_error(source, wrong):
    raw.write_movielens_100k("raw")
    for name, content in raw.MOVIELENS_1M.items():
        with open(f"raw/{name}", "wb") as file:
            file.write(content)
    os.replace(f"raw/{wrong}", f"raw/{'u.data' if wrong == 'u.item' else 'ratings.dat'}")
    with pytest.raises(DataError, match="none of its [23] lines can be used"):
        prepare_dataset(source, text_columns=[], download=False)


def test_damaged_zip_files_are_errors():
    raw.write_zip("raw", "ml-1m", raw.MOVIELENS_1M)
    raw.cut_off("raw/ml-1m.zip")
    with pytest.raises(DataError, match=r"\[raw/ml-1m.zip\] is no whole zip file .* delete it and get it again") as error:
        prepare_dataset("movielens-1m", **HERE)
    one_line(error)
    raw.write_zip("raw", "ml-1m", {"ratings.dat": raw.MOVIELENS_1M["ratings.dat"]})
    with pytest.raises(DataError, match=r"\[raw/ml-1m.zip\] has no file ml-1m/movies.dat inside"):
        prepare_dataset("movielens-1m", **HERE)


def test_a_core_that_leaves_nothing_is_an_error():
    raw.write_amazon_2014("raw")
    with pytest.raises(DataError, match="no interactions are left of 18 with core=5; set a smaller core"):
        beauty(core=5)
    assert os.listdir("dataset/amazon-beauty-2014") == []


MISSING = [
    ("amazon-2014", "Beauty", "there is no file reviews_Beauty_5.json.gz in [raw] (download=False): get "),
    ("amazon-2023", "Games", "there is no file Games.jsonl.gz in [raw] (download=False): get "),
    ("movielens-32m", None, "there is no file ml-32m.zip in [raw] (download=False): get ml-32m.zip from the page MovieLens"),
    ("steam", None, "there is no file steam_reviews.json.gz in [raw] (download=False): get "),
    ("yelp", None, "there is no file yelp_academic_dataset_review.json in [raw] (it cannot be downloaded by a program): "),
]


@pytest.mark.parametrize("source, category, message", MISSING)
def test_missing_files_are_named_before_any_work(source, category, message):
    with pytest.raises(DataError) as error:
        prepare_dataset(source, category, **HERE)
    assert one_line(error).startswith(message) and str(error.value).endswith("and put it into the folder [raw]")
    assert not os.path.exists("dataset")


def test_a_missing_part_of_the_splits_is_named():
    raw.write_amazon_2023_metadata("raw", "Games")
    raw.write_gzip("raw/Games.train.csv.gz", raw.amazon_2023_csv(raw.AMAZON_2023_RATINGS))
    with pytest.raises(DataError, match="there is no file Games.valid.csv.gz"):
        prepare_dataset("amazon-2023", "Games", **HERE)
