"""The page of a board: what stands in it without a script."""

import json
import re
from html.parser import HTMLParser

import pytest
from support.example_board import ACCURACY, HOSTILE, ID_LEVEL, data_of, example_summary, written

from recbole_gr.leaderboard.columns import metric_title
from recbole_gr.leaderboard.render.figures import COLOURS
from recbole_gr.leaderboard.render.html import PLOTLY_FILE
from recbole_gr.leaderboard.summary import Summary


class Tables(HTMLParser):
    """The texts of all tables by their id or their number, row by row, and all attributes that could load something."""

    def __init__(self, html):
        super().__init__()
        self.tables, self.loads, self.cell = {}, [], None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.loads += [
            (tag, name, value) for name, value in attributes if name in ("src", "href", "srcset", "data", "action")
        ]
        self.loads += [(tag, name, value) for name, value in attributes if name.startswith("on")]
        if tag == "table":
            self.rows = self.tables.setdefault(dict(attributes).get("id", len(self.tables)), [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.cell = []
        elif tag in ("b", "u") and self.cell is not None:
            self.cell.append(f"<{tag}>")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append("".join(self.cell).strip())
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell.append(data)


@pytest.fixture(scope="module")
def html(board_page):
    return board_page.read_text(encoding="utf-8")


def test_all_of_the_summary_is_in_the_page(html, summary):
    data = data_of(html)
    assert {key: data[key] for key in summary} == summary
    assert json.dumps({key: data[key] for key in summary}) == json.dumps(Summary.from_json(summary).as_json())  # in order
    assert data["metric_names"] == {
        **{"recall@5": "Recall@5", "recall@10": "Recall@10", "ndcg@5": "NDCG@5", "ndcg@10": "NDCG@10", "mrr@5": "MRR@5"},
        **{"mrr@10": "MRR@10", "hit@5": "Hit@5", "hit@10": "Hit@10", ID_LEVEL: "Recall@10 (ID-level)"},
        **{"itemcoverage@10": "ItemCoverage@10", "giniindex@10": "GiniIndex@10"},
        **{"averagepopularity@10": "AveragePopularity@10", "tailpercentage@10": "TailPercentage@10"},
    }


def test_the_table_stands_without_a_script(html, summary):
    head, *lines = Tables(html).tables["measured"]
    rows, settings = lines[::2], lines[1::2]
    costs = ["parameters", "training (s)", "users per second", "peak memory (MB)"]
    names = ["Recall@5", "Recall@10", "NDCG@5", "NDCG@10", "MRR@5", "MRR@10", "Hit@5", "Hit@10", "Recall@10 (ID-level)"]
    lists = ["ItemCoverage@10", "GiniIndex@10 lower is better", "AveragePopularity@10 lower is better", "TailPercentage@10"]
    assert head == ["row", *names, *lists, *costs]
    expected = ["Pop", "SASRec (CE)", "TIGER (RK-Means)", "SASRec (CE)", "TIGER (RK-Means)", "GRU4Rec"]
    assert [row[0].split("tie order")[0] for row in rows] == expected
    assert rows[0][0] == "Poptie order: filebaseline3 seeds"
    assert rows[4][0] == "TIGER (RK-Means)tie order: shuffled1 of 3 seeds1 error"

    for row, line in zip((0, 1, 3), rows):
        for metric, text in zip(ACCURACY, (line[head.index(metric_title(metric))] for metric in ACCURACY)):
            measure = summary["rows"][row]["measures"][metric]
            marks = {0: "", 1: "<u>", 3: "<b>"}[row]
            test = summary["rows"][row]["significance"].get(metric)
            dagger = "†" if test and test["p_holm"] < 0.05 else ""
            assert text == f"{marks}{measure['mean']:.4f}{dagger} ± {measure['std']:.4f}"
    assert "†" in rows[0][1] and "†" not in rows[1][1]
    assert rows[4][4] == f"<u>{summary['rows'][5]['measures']['ndcg@10']['values'][0]:.4f}"  # one seed has no deviation
    assert rows[0][9] == "-"  # no semantic IDs
    assert rows[2][-4:] == ["304,256", "329.9", "1,082.7", "1,180"]
    errors = "; ".join(f"seed {seed}: RuntimeError: CUDA out of memory <tried 2.0 GiB>" for seed in (2020, 2021, 2022))
    assert rows[5][1:] == [f"failed: {errors}"]

    [tiger] = settings[2]
    assert "codebook_num: 3" in tiger and summary["rows"][3]["reproduce"] in tiger
    assert "cells/TIGER-file-seed2021.json" in tiger and "Chosen by the searchlearning_rate: 0.003\ndropout: 0.2" in tiger
    assert "the search" not in settings[0][0] and "eval_args:\n  order: TO\nnproc: null" in settings[0][0]
    assert "defaults included" not in settings[5][0]  # nothing has run
    assert "Errorsseed 2021: killed by signal 9" in settings[4][0]


def test_tiles_protocol_and_environment(html):
    tiles = re.findall(r"<div><b>([^<]*)</b>([^<]*)</div>", html)
    assert tiles == [
        *[("943", "users"), ("1,682", "items"), ("100,000", "interactions"), ("6", "rows, 1 of them without a result")],
        *[("3", "seeds a row"), ("2026-11-25", "date of the last run")],
    ]
    terms = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", html))
    assert terms["history length"] == "20" and terms["seen items"] == "masked"
    assert terms["recbole_gr"] == "0.4.0" and terms["git revision"] == "ae4ffdd"
    assert terms["first and last run"] == "2026-11-24T20:11:05, 2026-11-25T02:40:59"
    assert '<pre class="command">recbole-gr leaderboard properties/leaderboard/ml-100k.yaml</pre>' in html


def test_significance_and_published_numbers_in_tables_of_their_own(html, summary):
    tables = Tables(html).tables
    assert list(tables)[:2] == ["measured", "significance"]
    test = summary["rows"][3]["significance"]["ndcg@10"]
    low, high, difference = (f"{test[key]:+.4f}".replace("-", "−") for key in ("low", "high", "difference"))
    line = ["TIGER (RK-Means) tie order: file", "NDCG@10", "SASRec (CE)", difference, f"{low} to {high}", "0.2000", "0.4000"]
    assert line in tables["significance"] and len(tables["significance"]) == 1 + 3 * len(ACCURACY)
    assert tables[2] == [
        ["row", "Recall@5", "Recall@10", "NDCG@5", "NDCG@10"],
        ["TIGER", "0.0454", "0.0648", "0.0321", "0.0384"],
        ["SASRec", "0.0387", "0.0605", "0.0249", "-"],
    ]
    source = html.index("Rajput et al. 2023 (TIGER), Table 1</h3>")
    assert html.index('id="significance"') < source < html.index("<h2>Environment</h2>")
    assert "Differences from the protocol above: seen items not masked; all of the history" in html


def test_numbers_that_are_not_finite_count_as_missing(tmp_path):
    summary = example_summary()
    summary["rows"][0]["learning_curves"][0]["valid_score"] = [float("nan")]
    summary["rows"][0]["measures"]["mrr@5"]["mean"] = float("inf")
    html = written(summary, tmp_path).read_text(encoding="utf-8")
    assert data_of(html)["rows"][0]["learning_curves"][0]["valid_score"] == [None]
    assert Tables(html).tables["measured"][1][5] == "-"


def test_a_board_with_no_record_yet(tmp_path):
    summary = example_summary()
    for row in summary["rows"]:
        row.update(state="missing", errors=[], seeds_done=[], measures={}, best=[], second=[], significance={}, slices={})
        row.update(cost={}, learning_curves=[], chosen={}, records=[], configuration={})
    summary.update(published=[], environment={"created": []})
    html = written(summary, tmp_path).read_text(encoding="utf-8")
    assert [line[1] for line in Tables(html).tables["measured"][1::2]] == ["missing: no record yet"] * 6
    assert "No row was compared with a baseline." in html and "Published numbers" not in html
    assert ("-", "date of the last run") in re.findall(r"<div><b>([^<]*)</b>([^<]*)</div>", html)


def test_text_stays_text_without_a_script(hostile, tmp_path):
    html = written(hostile, tmp_path).read_text(encoding="utf-8")
    assert Tables(html).loads == [("script", "src", PLOTLY_FILE)]
    assert HOSTILE not in html and "<script>window" not in html
    assert html.lower().count("</script") == 3  # data, plotly, ours
    assert data_of(html)["rows"][3]["name"] == hostile["rows"][3]["name"]
    assert Tables(html).tables["measured"][5][0].startswith(hostile["rows"][3]["name"])


def luminance(colour):
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def test_colours_are_readable_in_both_modes(html):
    """WCAG 2.1: 3 : 1 for what is drawn, 4.5 : 1 for text."""
    assert len(set(COLOURS)) == 10
    assert min(contrast(colour, paper) for colour in COLOURS for paper in ("#ffffff", "#14181d")) >= 3
    for name, papers in ((0, ("#ffffff", "#f4f6f8")), (1, ("#14181d", "#1d232a"))):
        texts = [re.findall(rf"--{variable}: (#\w{{6}});", html)[name] for variable in ("ink", "muted", "bad", "accent")]
        assert min(contrast(text, paper) for text in texts for paper in papers) >= 4.5
