"""Measures of the codes, and the page. References: plain loops, pandas, scipy, scikit-learn, hand-worked examples."""

import html.parser
import itertools
import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.neighbors import NearestNeighbors

from recbole_gr.tokenizers import SemanticIDs, tokenize
from recbole_gr.tokenizers.families.rkmeans import rkmeans
from recbole_gr.tokenizers.measures import (
    agreement_with_categories,
    compare_with_vectors,
    describe,
    diagnose,
    quantised_levels,
    reconstruct,
)
from recbole_gr.tokenizers.report import write_report


def normal(n=300, d=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def random_codes(n=300, levels=3, size=6, seed=1):
    return np.random.default_rng(seed).integers(0, size, size=(n, levels))


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def with_padding(rows, value=0):
    return np.concatenate([np.full((1, rows.shape[1]), value, dtype=rows.dtype), rows])


def ids_of(codes, collision="none", sizes=None, source=None):
    codes = np.asarray(codes)
    return SemanticIDs(with_padding(codes, -1), sizes or tuple(codes.max(axis=0) + 1), collision, source or {})


# --- reconstruction


def test_reconstruction_equals_means_by_pandas():
    rows, codes = normal() + 2, random_codes()
    errors, cosines = reconstruct(codes, rows)
    found, variance = np.zeros(rows.shape), ((rows - rows.mean(axis=0)) ** 2).sum()
    for level in range(3):
        found += pd.DataFrame(rows - found).groupby(codes[:, level]).transform("mean").to_numpy()
        assert errors[level] == pytest.approx(((rows - found) ** 2).sum() / variance, abs=6e-5)
        assert cosines[level] == pytest.approx((unit(rows) * unit(found)).sum(axis=1).mean(), abs=6e-5)


def test_reconstruction_by_hand():
    """Level 0 stands for 1 and 5; level 1 for what is left, -1 and +1."""
    points = np.array([[0.0], [2.0], [4.0], [6.0]], dtype=np.float32)
    errors, _ = reconstruct(np.array([[0, 0], [0, 1], [7, 0], [7, 1]]), points)
    assert errors == [0.2, 0.0]  # 4 of a variance of 20


def test_a_code_of_its_own_for_every_point_leaves_nothing_and_one_for_all_leaves_the_variance():
    rows = normal()
    assert reconstruct(np.arange(300)[:, None], rows) == ([0.0], [1.0])
    assert reconstruct(np.zeros((300, 1), dtype=int), rows)[0] == [1.0]


def test_what_is_reconstructed_is_what_the_codebooks_of_a_residual_quantiser_add_up_to():
    rows = unit(normal(2000))
    ids = tokenize(
        with_padding(rows), codebook_size=16, collision="none", seed=0, normalise_residual=False, kmeans_iterations=300
    )
    made = rkmeans(rows, 3, 16, seed=0, normalise_residual=False, kmeans_iterations=300)
    left, errors = rows, []
    for codebook, codes in zip(made.codebooks, made.codes.T):
        left = left - codebook[codes]
        errors.append((left**2).sum() / ((rows - rows.mean(axis=0)) ** 2).sum())
    assert reconstruct(ids.codes[1:], rows)[0] == pytest.approx(errors, abs=1e-3)


# --- neighbours


def test_neighbours_are_those_of_scikit_learn():
    rows, codes = normal(), random_codes(size=3)
    measured = compare_with_vectors(codes, rows)["neighbours_sharing_prefix"]
    _, neighbours = NearestNeighbors(n_neighbors=11, metric="cosine").fit(rows).kneighbors(rows)
    for depth in (1, 2, 3):
        shared = [
            (codes[item, :depth] == codes[other, :depth]).all()
            for item in range(300)
            for other in neighbours[item]
            if other != item
        ]
        assert len(shared) == 3000
        assert measured[depth - 1] == pytest.approx(np.mean(shared), abs=6e-5)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_fewer_items_than_neighbours(n):
    """All the others are neighbours."""
    codes = random_codes(n, size=2)
    shared = [(codes[a, :1] == codes[b, :1]).all() for a, b in itertools.permutations(range(n), 2)]
    assert compare_with_vectors(codes, normal(n))["neighbours_sharing_prefix"][0] == pytest.approx(np.mean(shared), abs=6e-5)


def test_an_item_is_no_neighbour_of_its_own_though_others_are_just_like_it():
    """Of 40 equal rows an item's own need not be among the 11 nearest; no two items have the same codes."""
    rows = np.repeat(normal(3), 40, axis=0)
    assert compare_with_vectors(np.arange(120)[:, None], rows)["neighbours_sharing_prefix"] == [0.0]
    assert compare_with_vectors(np.arange(120)[:, None] // 40, rows)["neighbours_sharing_prefix"] == [1.0]


# --- distances


@pytest.mark.parametrize("levels", [1, 3])
def test_the_correlation_of_distances_is_about_that_over_all_pairs(levels):
    """All pairs by scipy; the measure draws 50000 of them."""
    rows = normal()
    codes = tokenize(with_padding(rows), codebook_num=levels, codebook_size=8, collision="none", seed=0).codes[1:]
    first, second = np.array(list(itertools.combinations(range(300), 2))).T
    apart = np.linalg.norm(unit(rows)[first] - unit(rows)[second], axis=1)
    prefix, hamming = [], []
    for a, b in zip(codes[first].tolist(), codes[second].tolist()):
        common = next((level for level in range(levels) if a[level] != b[level]), levels)
        prefix.append(levels - common)
        hamming.append(sum(x != y for x, y in zip(a, b)))
    measured = compare_with_vectors(codes, rows)["distance_correlation"]
    assert measured["prefix"] == pytest.approx(spearmanr(apart, prefix).statistic, abs=0.01)
    assert measured["hamming"] == pytest.approx(spearmanr(apart, hamming).statistic, abs=0.01)
    assert measured["prefix"] > 0.1


def test_codes_that_order_pairs_as_their_vectors_do():
    """Two far groups, whose codes are of one level: both distances take two values, in step."""
    rows = np.repeat([[1.0, 0.0], [0.0, 1.0]], 10, axis=0).astype(np.float32)
    same, opposite = np.repeat([[0, 0], [1, 1]], 10, axis=0), np.arange(20)[:, None] % 10
    assert compare_with_vectors(same, rows)["distance_correlation"] == {"prefix": 1.0, "hamming": 1.0}
    assert compare_with_vectors(opposite, rows)["distance_correlation"]["prefix"] < 0
    # the second level alone tells; by prefix all pairs of the two groups differ at the first
    later = np.column_stack([np.arange(20), np.repeat([0, 1], 10)])
    assert compare_with_vectors(later, rows)["distance_correlation"] == {"prefix": None, "hamming": 1.0}


@pytest.mark.filterwarnings("error")
def test_where_all_distances_are_equal_there_is_no_correlation():
    alike, codes = np.ones((50, 4), dtype=np.float32), random_codes(50)
    measured = compare_with_vectors(codes, alike)
    assert measured["distance_correlation"] == {"prefix": None, "hamming": None}
    assert measured["reconstruction_error"] == [0.0] * 3 and measured["reconstruction_cosine"] == [1.0] * 3
    equal_codes = compare_with_vectors(np.zeros((50, 3), dtype=int), normal(50))
    assert equal_codes["distance_correlation"] == {"prefix": None, "hamming": None}
    json.loads(json.dumps([measured, equal_codes], allow_nan=False))


def test_only_the_direction_counts_and_zeros_are_left_out():
    rows, codes = normal(), random_codes()
    lengths = np.random.default_rng(2).uniform(0.1, 9, size=(300, 1)).astype(np.float32)
    expected = compare_with_vectors(codes, rows)
    stretched = compare_with_vectors(codes, rows * lengths)
    for name, values in expected.items():
        if name != "distance_correlation":
            assert stretched[name] == pytest.approx(values, abs=2e-4)
    spread = np.insert(rows, [0, 100, 300], 0, axis=0)
    assert compare_with_vectors(np.insert(codes, [0, 100, 300], 99, axis=0), spread) == expected


def test_fewer_than_two_vectors():
    assert compare_with_vectors(random_codes(1), normal(1)) == {}
    rows = normal(5)
    rows[1:] = 0
    assert compare_with_vectors(random_codes(5), rows) == {}
    pair = compare_with_vectors(np.array([[0], [1]]), normal(2))
    assert pair["items_compared"] == 2 and pair["distance_correlation"] == {"prefix": None, "hamming": None}


# --- categories


@pytest.mark.parametrize("size", [2, 40])
def test_agreement_by_a_double_loop(size):
    codes = random_codes(80, size=size)
    categories = np.random.default_rng(0).choice(["a", "b", "", "c c"], size=80).astype(object)
    measured = agreement_with_categories(codes, categories)
    pairs = [(a, b) for a, b in itertools.combinations(range(80), 2) if categories[a] and categories[b]]
    by_chance = np.mean([categories[a] == categories[b] for a, b in pairs])
    assert measured["category_agreement_by_chance"] == pytest.approx(by_chance, abs=6e-5)
    for depth in (1, 2, 3):
        here = [categories[a] == categories[b] for a, b in pairs if (codes[a, :depth] == codes[b, :depth]).all()]
        expected = pytest.approx(np.mean(here), abs=6e-5) if here else None
        assert measured["category_agreement"][depth - 1] == expected
    assert (None in measured["category_agreement"]) == (size == 40)


def test_agreement_with_hardly_any_categories():
    codes = random_codes(4)
    assert agreement_with_categories(codes, np.array(["", "", "", "a"], dtype=object)) == {}
    assert agreement_with_categories(codes, np.array([""] * 4, dtype=object)) == {}
    two = agreement_with_categories(np.array([[0, 1], [0, 2], [5, 5]]), np.array(["a", "b", ""], dtype=object))
    assert two == {"category_agreement": [0.0, None], "category_agreement_by_chance": 0.0}


# --- all together


def test_a_digit_is_left_out_of_what_is_compared():
    rows, codes = normal(), random_codes(size=3)
    digit = np.column_stack([codes, random_codes(levels=1, size=300, seed=5)])
    categories = ["", *np.random.default_rng(0).choice(["a", "b"], size=300)]
    plain = diagnose(ids_of(codes), with_padding(rows), categories)
    with_digit = diagnose(ids_of(digit, "digit"), with_padding(rows), categories)
    assert quantised_levels(ids_of(digit, "digit")) == 3 == quantised_levels(ids_of(codes))
    assert with_digit["levels"] == 4 and len(with_digit["codes_used"]) == 4
    statistics = ids_of(codes).statistics()
    compared = plain.keys() - statistics.keys()
    assert len(compared) == 7 and {name: plain[name] for name in compared} == {name: with_digit[name] for name in compared}
    agreement = agreement_with_categories(codes, np.array(categories[1:], dtype=object))
    assert plain == {**statistics, **compare_with_vectors(codes, rows), **agreement}


def test_without_vectors_and_categories_there_are_the_statistics():
    ids = ids_of(random_codes())
    assert diagnose(ids) == ids.statistics()
    told = {"unique_share_quantised": 0.5, "largest_collision_quantised": 7, "tokenizer": "rkmeans"}
    measured = diagnose(ids_of(random_codes(), source=told))
    assert measured == {**ids.statistics(), "unique_share_quantised": 0.5, "largest_collision_quantised": 7}


def test_one_item():
    ids = ids_of([[2, 0]])
    measured = diagnose(ids, with_padding(normal(1)), ["", "a"])
    assert measured == ids.statistics() and measured["unique_share"] == 1.0
    assert "1 items, 100.00% distinct" in describe(measured)


def measures_by_hand(**changes):
    measures = {
        "items": 1682,
        "levels": 3,
        "codebook_sizes": [4, 4, 2],
        "unique_share": 1.0,
        "largest_collision": 1,
        "codes_used": [4, 3, 2],
        "perplexity": [3.5, 2.25, 1.5],
        "first_level_entropy": 1.8074,
        "collision": "digit",
        "unique_share_quantised": 0.75,
        "largest_collision_quantised": 2,
        "reconstruction_error": [0.5, 0.25],
        "reconstruction_cosine": [0.7, 0.9],
        "neighbours_sharing_prefix": [0.6, 0.2],
        "distance_correlation": {"prefix": 0.4, "hamming": None},
        "category_agreement": [0.35, None],
        "category_agreement_by_chance": 0.11,
    }
    return {**measures, **changes}


def test_the_description_of_measures_made_by_hand():
    expected = """\
Semantic IDs: 1,682 items, 100.00% distinct, at most 1 with one ID (quantised: 75.00%, 2); collision rule: digit
level | codes | used | perplexity | reconstruction | | 10 neighbours | same category
 | | | | error | cosine | with its prefix | given the prefix
0 | 4 | 4 | 3.5 | 0.5 | 0.7 | 0.6 | 0.35
1 | 4 | 3 | 2.25 | 0.25 | 0.9 | 0.2 | -
2 | 2 | 2 | 1.5 | - | - | - | -
entropy of the first level: 1.8074 bits; same category by chance: 0.11; correlation of code and vector distance: \
0.4 (prefix), None (hamming)"""
    lines = [line for line in describe(measures_by_hand()).splitlines() if not line.startswith("--")]
    assert lines[0] == expected.splitlines()[0] and lines[-1] == expected.splitlines()[-1]
    for line, wanted in zip(lines[3:-1], expected.splitlines()[3:-1]):
        assert line.split() == wanted.replace("|", " ").split()
    assert "".join(lines[1:3]).split() == "".join(expected.splitlines()[1:3]).replace("|", " ").split()


def test_the_description_of_statistics_alone():
    statistics = ids_of([[0, 1], [0, 1], [1, 1], [2, 0]], sizes=(4, 2)).statistics()
    lines = describe(statistics).splitlines()
    assert lines[0] == "Semantic IDs: 4 items, 75.00% distinct, at most 2 with one ID; collision rule: none"
    assert lines[1].split() == ["level", "codes", "used", "perplexity"]
    assert lines[3].split() == ["0", "4", "3", "2.83"] and lines[4].split() == ["1", "2", "2", "1.75"]
    assert lines[5:] == ["entropy of the first level: 1.5 bits"]


# --- the page


class Page(html.parser.HTMLParser):
    """The page as a browser takes it apart: tags that are open, texts, what it would fetch."""

    EMPTY = ("meta", "link", "img", "br", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.fetched, self.headings, self.rows, self.scripts = [], [], [], [], 0
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.fetched += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in self.EMPTY:
            self.open.append(tag)
        self.scripts += tag == "script"
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th", "li"):
            self.rows[-1].append("")
        if tag in ("h1", "h2"):
            self.headings.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th", "li"):
            self.rows[-1][-1] += data
        elif self.open and self.open[-1] in ("h1", "h2"):
            self.headings[-1] += data


def page_of(ids, measures, names, name="books"):
    write_report("report.html", name, ids, measures, item_names=names)
    with open("report.html", encoding="utf-8") as file:
        text = file.read()
    return text, Page(text)


def names_of(n):
    return ["[PAD]", *(f"title {item}" for item in range(1, n + 1))]


def without_scripts(text):
    parts = text.split("<script")
    return parts[0] + "".join(part.split("</script>", 1)[1] for part in parts[1:])


def test_the_page_is_whole_and_needs_no_network(tmp_path):
    codes = random_codes(size=3)
    ids = ids_of(codes, source={"tokenizer": "rkmeans", "training": {"loss": [3.0, 2.0, 1.5]}})
    measures = diagnose(ids, with_padding(normal()), ["", *["a", "b", "c"] * 100])
    text, page = page_of(ids, measures, names_of(300))
    assert text.startswith("<!doctype html>") and text.rstrip().endswith("</html>")
    assert page.fetched == [] and "@import" not in without_scripts(text) and "url(" not in without_scripts(text)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]  # no temporary file is left
    assert page.headings == [
        "Semantic IDs of books: rkmeans",
        "Level by level",
        "Items per code, the most common first",
        "What a prefix has in common",
        "How many items have the same codes, an appended digit left out",
        "Loss of the tokenizer's training",
        "Items that share a prefix of 2 codes",
        "Items with equal codes",
        "Where the codes come from",
    ]
    assert page.scripts >= 5  # the library and four plots
    for level in range(3):
        row = next(row for row in page.rows if row[0] == str(level))
        assert row[1:] == [
            str(measures[name][level])
            for name in (
                "codebook_sizes",
                "codes_used",
                "perplexity",
                "reconstruction_error",
                "reconstruction_cosine",
                "neighbours_sharing_prefix",
                "category_agreement",
            )
        ]
    assert f"<b>{measures['unique_share']:.2%}</b>distinct IDs" in text
    assert f"<b>{measures['distance_correlation']['prefix']}</b>rank correlation" in text


def test_example_groups_are_true():
    codes = random_codes(size=4)
    _, page = page_of(ids_of(codes), ids_of(codes).statistics(), names_of(300))
    groups = [row for row in page.rows if row[0].startswith("(")]
    assert len({row[0] for row in groups if row[0].count(",") == 1}) == 12
    for prefix, number, _, *texts in groups:
        prefix = np.array([int(code) for code in prefix.strip("()").split(",")])
        members = np.flatnonzero((codes[:, : len(prefix)] == prefix).all(axis=1))
        assert int(number) == len(members) >= (3 if len(prefix) == 2 else 2)
        expected = [f"title {item + 1}" for item in members[:6]]
        expected += [f"and {len(members) - 6} more"] if len(members) > 6 else []
        assert texts == expected
    largest = [int(row[1]) for row in groups if row[0].count(",") == 2]
    assert largest == np.sort(np.unique(codes, axis=0, return_counts=True)[1])[::-1][:12].tolist()


def test_what_items_datasets_and_sources_are_called_is_no_markup():
    evil = "<script>alert('1')</script> & \"more\""
    ids = ids_of([[0, 1], [0, 1], [0, 1], [1, 0]], source={"tokenizer": evil, "sid_file": evil})
    _, harmless = page_of(ids_of(ids.codes[1:]), ids.statistics(), names_of(4))
    text, page = page_of(ids, ids.statistics(), ["[PAD]", evil, evil, "c", "d"], name=evil)
    assert evil not in text and "<script>alert" not in text
    assert page.scripts == harmless.scripts
    group = next(row for row in page.rows if row[0] == "(0, 1)")
    assert group[3:] == [evil, evil, "c"]
    assert page.headings[0] == f"Semantic IDs of {evil}: {evil}"


def test_one_level_from_a_file():
    ids = ids_of([[0], [0], [0], [2]])
    text, page = page_of(ids, diagnose(ids), names_of(4), name="dänisch")
    assert page.headings[0] == "Semantic IDs of dänisch: from a file"
    assert "Items that share a prefix of 1 codes" in page.headings and "What a prefix has in common" not in page.headings
    assert "Loss of the tokenizer's training" not in page.headings
    assert page.rows[0] == ["level", "codes", "used", "perplexity"] and page.rows[1][:3] == ["0", "3", "2"]
    assert [row for row in page.rows if row[0].startswith("(")] == 2 * [["(0)", "3", "", "title 1", "title 2", "title 3"]]


def test_codes_that_tell_all_items_apart():
    """With a digit, which is no code of the quantiser, and without any collision."""
    codes = np.array([[item, item % 2, 0] for item in range(6)])
    text, page = page_of(ids_of(codes, "digit"), ids_of(codes, "digit").statistics(), names_of(6))
    assert text.count("There are none.") == 2 and not [row for row in page.rows if row[0].startswith("(")]


def test_a_missing_correlation_and_a_missing_agreement_are_dashes():
    ids = ids_of([[0, 0, 0], [1, 1, 1], [2, 2, 1]])
    text, page = page_of(ids, measures_by_hand(distance_correlation={"prefix": None, "hamming": None}), names_of(3))
    assert "<b>-</b>rank correlation" in text and "<b>75.00%</b>distinct before the collision rule" in text
    assert page.rows[2][1:] == ["4", "3", "2.25", "0.25", "0.9", "0.2", "-"]
    assert page.rows[3][1:] == ["2", "2", "1.5", "-", "-", "-", "-"]
