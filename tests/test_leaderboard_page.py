"""The page of a board: what stands in it without a script, and what the script does, seen in headless Chromium."""

import copy
import json
import os
import re
import shutil
import time
from html.parser import HTMLParser

import numpy as np
import pytest

from recbole_gr.leaderboard.page import write_page
from recbole_gr.leaderboard.table import metric_title

ACCURACY = [f"{kind}@{k}" for kind in ("recall", "ndcg", "mrr", "hit") for k in (5, 10)]
LISTS = ["itemcoverage@10", "giniindex@10", "averagepopularity@10", "tailpercentage@10"]
ID_LEVEL = "recall@10 (ID-level)"
HOSTILE = '<img src=x onerror="window.broken=1">'


def example_summary():
    """Six rows: two protocols side by side, one row failed, one with a seed missing, one with ID-level hits and a search."""
    random = np.random.default_rng(2020)
    file, shuffled = {"tie_order": "file"}, {"tie_order": "shuffled"}
    pop = example_row(random, "Pop", "Pop", file, 0.035, [2020, 2021, 2022], (1, 0.4, 9120.5, 310.0))
    sasrec = example_row(random, "SASRec (CE)", "SASRec", file, 0.062, [2020, 2021, 2022], (177344, 96.25, 5230.4, 402.6))
    gru = example_row(random, "GRU4Rec", "GRU4Rec", file, 0, [], (0, 0, 0, 0))
    gru.update(state="failed", measures={}, cost={}, learning_curves=[], slices={}, records=[])
    gru["errors"] = [f"seed {seed}: RuntimeError: CUDA out of memory <tried 2.0 GiB>" for seed in (2020, 2021, 2022)]
    tiger = example_row(
        random, "TIGER (RK-Means)", "TIGER", file, 0.066, [2020, 2021, 2022], (304256, 329.9, 1082.7, 1180.2)
    )
    tiger["settings"] = {"tokenizer": "rkmeans", "codebook_num": 3, "codebook_size": 64, "learning_rate": 0.003}
    tiger["search"] = {"learning_rate": [0.001, 0.003, 0.01], "dropout": [0.1, 0.2]}
    tiger["chosen"] = {"learning_rate": 0.003, "dropout": 0.2}
    tiger["measures"][ID_LEVEL] = measured(random, 0.131, 3)
    shuffled_sasrec = example_row(
        random, "SASRec (CE)", "SASRec", shuffled, 0.055, [2020, 2021, 2022], (177344, 95.5, 5190.0, 402.6)
    )
    shuffled_tiger = example_row(
        random, "TIGER (RK-Means)", "TIGER", shuffled, 0.054, [2020], (304256, 331.0, 1079.9, 1180.2)
    )
    shuffled_tiger.update(state="incomplete", errors=["seed 2021: killed by signal 9"], seeds_done=[2020])
    shuffled_tiger["measures"][ID_LEVEL] = measured(random, 0.118, 1)
    rows = [pop, sasrec, gru, tiger, shuffled_sasrec, shuffled_tiger]
    for row in rows:
        row["baseline"] = row["model"] != "TIGER"
    for row, baseline in ((pop, sasrec), (tiger, sasrec), (shuffled_tiger, shuffled_sasrec)):
        row["significance"] = {metric: example_test(row, baseline, metric) for metric in ACCURACY}
    for best, second in ((tiger, sasrec), (shuffled_sasrec, shuffled_tiger)):
        best["best"], second["second"] = list(ACCURACY), list(ACCURACY)
    return {
        "name": "ml-100k",
        "dataset": "ml-100k",
        "description": "Generative recommenders and RecBole's baselines on MovieLens 100K, one protocol for all.",
        "command": "recbole-gr leaderboard properties/leaderboard/ml-100k.yaml",
        "protocol": {
            "split": "leave one out: the last item of each user for the test, the one before for validation",
            "history length": 20,
            "seen items": "masked",
            "tie order": "file and shuffled, side by side",
        },
        "statistics": {"users": 943, "items": 1682, "interactions": 100000, "mean_length": 106.04, "sparsity": 0.936953},
        "environment": {
            "recbole_gr": "0.4.0",
            "recbole": "1.2.1",
            "torch": "2.7.1",
            "device": ["NVIDIA H100 80GB HBM3"],
            "git_revision": ["ae4ffdd"],
            "created": ["2026-11-24T20:11:05", "2026-11-25T02:40:59"],
        },
        "metrics": [*ACCURACY, *LISTS],
        "main_metric": "ndcg@10",
        "smaller_is_better": ["giniindex@10", "averagepopularity@10"],
        "list_metrics": list(LISTS),
        "significance_note": "Paired by user: bootstrap, Wilcoxon's signed-rank test, Holm's correction over rows.",
        "rows": rows,
        "published": [
            {
                "source": "Rajput et al. 2023 (TIGER), Table 1",
                "differences": "seen items not masked; all of the history up to 20; seeds not given",
                "rows": [
                    {"name": "TIGER", "recall@5": 0.0454, "ndcg@5": 0.0321, "recall@10": 0.0648, "ndcg@10": 0.0384},
                    {"name": "SASRec", "recall@5": 0.0387, "ndcg@5": 0.0249, "recall@10": 0.0605, "ndcg@10": None},
                ],
            }
        ],
    }


def example_row(random, name, model, variant, level, seeds, cost):
    scale = {
        "recall@5": 0.9,
        "ndcg@5": 0.6,
        "mrr@5": 0.5,
        "hit@5": 0.9,
        "recall@10": 1.6,
        "ndcg@10": 1,
        "mrr@10": 0.7,
        "hit@10": 1.6,
    }
    measures = {metric: measured(random, level * scale[metric], len(seeds)) for metric in ACCURACY}
    measures |= {metric: measured(random, value, len(seeds)) for metric, value in zip(LISTS, (0.4, 0.8, 168.5, 0.02))}
    groups = {
        "item popularity": ["never seen in training", "1 to 9", "10 to 49", "50 or more"],
        "history length": ["up to 20", "21 to 100", "more than 100"],
    }
    return {
        **{"name": name, "model": model, "variant": variant, "baseline": True, "state": "complete", "errors": []},
        **{"seeds": [2020, 2021, 2022], "seeds_done": list(seeds), "measures": measures, "best": [], "second": []},
        "significance": {},
        "slices": {kind: [example_slice(random, label, level) for label in labels] for kind, labels in groups.items()},
        "cost": dict(zip(("parameters", "training_seconds", "users_per_second", "peak_memory_mb"), cost)),
        "learning_curves": [example_curve(random, seed, level) for seed in seeds],
        **{"settings": {"train_batch_size": 2048}, "chosen": {}, "search": None},
        "reproduce": f"recbole-gr run --model={model} --dataset=ml-100k --seed=2020 --tie_order={variant['tie_order']}",
        "records": [f"cells/{model}-{variant['tie_order']}-seed{seed}.json" for seed in seeds],
    }


def measured(random, level, n_seeds):
    values = np.round(level * random.normal(1, 0.03, n_seeds), 4)
    if n_seeds == 0:
        return {"mean": None, "std": None, "values": []}
    return {
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)) if n_seeds > 1 else None,
        "values": values.tolist(),
    }


def example_slice(random, label, level):
    recall, ndcg = np.round(level * random.uniform(0.2, 2, 2), 4).tolist()
    return {"label": label, "users": 40 + 13 * len(label), "recall@10": recall, "ndcg@10": ndcg}


def example_curve(random, seed, level):
    epochs = list(range(1 if level < 0.04 else int(random.integers(12, 20))))
    scores = np.round(level * 1.2 * (1 - np.exp(-np.asarray(epochs) / 4)) + random.normal(0, 0.001, len(epochs)) + 0.01, 4)
    return {"seed": seed, "epochs": epochs, "valid_score": scores.tolist(), "train_loss": (100 - scores).tolist()}


def example_test(row, baseline, metric):
    difference = row["measures"][metric]["mean"] - baseline["measures"][metric]["mean"]
    p = 0.003 if abs(difference) > 0.004 else 0.2
    interval = {"low": difference - 0.004, "high": difference + 0.005}
    return {"against": baseline["name"], "difference": difference, **interval, "p": p, "p_holm": 2 * p}


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
def summary():
    return example_summary()


@pytest.fixture(scope="module")
def page_file(summary, tmp_path_factory):
    return written(summary, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def html(page_file):
    return page_file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def hostile():
    """Names and settings that a careless page would run or swallow."""
    summary = example_summary()
    summary["name"] = HOSTILE
    summary["description"] = f"</script><script>window.broken=1</script> & {HOSTILE}"
    summary["command"] = HOSTILE
    summary["protocol"][HOSTILE] = HOSTILE
    summary["significance_note"] = HOSTILE
    tiger = summary["rows"][3]
    tiger["name"] = f"</script><b>A</b> &amp; {HOSTILE}"  # plotly knows <b> and &amp;
    tiger["variant"] = {"tie_order": HOSTILE}
    tiger["settings"] = {"note": "</script><script>window.broken=1</script>"}
    tiger["reproduce"] = f"recbole-gr run --note='{HOSTILE}'"
    tiger["significance"]["ndcg@10"]["against"] = HOSTILE
    tiger["slices"]["history length"][0]["label"] = HOSTILE
    summary["rows"][2]["errors"] = [HOSTILE]
    summary["published"][0].update(source=HOSTILE, differences=HOSTILE)
    summary["published"][0]["rows"][0]["name"] = HOSTILE
    return summary


def written(summary, folder):
    write_page(str(folder / "board.html"), summary)
    return folder / "board.html"


def data_of(html):
    return json.loads(re.search(r'<script type="application/json" id="board">(.*?)</script>', html, re.DOTALL).group(1))


def test_all_of_the_summary_is_in_the_page(html, summary):
    data = data_of(html)
    assert {key: data[key] for key in summary} == summary
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
    assert "the search" not in settings[0][0]
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
        row.update(cost={}, learning_curves=[], chosen={}, records=[])
    summary.update(published=[], environment={"created": []})
    html = written(summary, tmp_path).read_text(encoding="utf-8")
    assert [line[1] for line in Tables(html).tables["measured"][1::2]] == ["missing: no record yet"] * 6
    assert "No row was compared with a baseline." in html and "Published numbers" not in html
    assert ("-", "date of the last run") in re.findall(r"<div><b>([^<]*)</b>([^<]*)</div>", html)


def test_text_stays_text_without_a_script(hostile, tmp_path):
    html = written(hostile, tmp_path).read_text(encoding="utf-8")
    assert Tables(html).loads == []
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
    colours = re.findall(r'"(#\w{6})"', re.search(r"const COLOURS = \[(.*?)\]", html).group(1))
    assert len(set(colours)) == 10
    assert min(contrast(colour, paper) for colour in colours for paper in ("#ffffff", "#14181d")) >= 3
    for name, papers in ((0, ("#ffffff", "#f4f6f8")), (1, ("#14181d", "#1d232a"))):
        texts = [re.findall(rf"--{variable}: (#\w{{6}});", html)[name] for variable in ("ink", "muted", "bad", "accent")]
        assert min(contrast(text, paper) for text in texts for paper in papers) >= 4.5


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One headless Chromium for the module, which tells what it logs and what it asks of a network."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        lacking = f"no {' and no '.join(missing)}: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(lacking)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    switches = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    for switch in [*switches.split(), "disable-component-update", "disable-sync", "window-size=1200,900"]:
        options.add_argument(f"--{switch}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs["chromedriver"]))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def opened(browser, page_file):
    """The page in the browser, and what was logged until it had loaded."""
    browser.get_log("performance")
    browser.get(page_file.as_uri())
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    asked = [request["request"]["url"] for request in requests if request["documentURL"] == page_file.as_uri()]
    return browser, browser.get_log("browser"), asked


@pytest.fixture
def page(opened, page_file):
    """The page as it first stands: light, wide, unsorted, unfiltered, with all settings closed."""
    browser = opened[0]
    if browser.current_url != page_file.as_uri():
        browser.get(page_file.as_uri())
    show(browser, 1200, "light")
    browser.execute_script("""
        document.querySelector("input[value=accuracy]").click();
        const filter = document.getElementById("filter");
        filter.value = ""; filter.dispatchEvent(new Event("input"));
        document.querySelectorAll(".line [aria-expanded=true]").forEach((button) => button.click());
        while (document.querySelector("#measured thead th:not([aria-sort=none]) button"))
          document.querySelector("#measured thead th:not([aria-sort=none]) button").click();
        const metric = document.getElementById("metric");
        metric.value = board.main_metric; metric.dispatchEvent(new Event("change"));
        document.querySelectorAll("#legend [aria-pressed=false]").forEach((button) => button.click());
    """)
    yield browser
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def show(browser, width, colours):
    media = {"features": [{"name": "prefers-color-scheme", "value": colours}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def find(browser, selector):
    return browser.find_element("css selector", selector)


def shown_rows(browser):
    """Numbers in the summary of the rows that can be seen, from the top."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#measured tbody')].filter((b) => b.offsetHeight).map((b) => +b.dataset.row)"
    )


def sorted_rows(summary, value):
    """Numbers of the rows by falling value, those without one last."""
    values = [value(row) for row in summary["rows"]]
    present = sorted((index for index, value in enumerate(values) if value is not None), key=lambda index: -values[index])
    return present, [index for index in (0, 1, 3, 4, 5, 2) if values[index] is None]


def test_opens_in_silence_and_without_a_network(opened, page_file):
    browser, logged, asked = opened
    assert logged == []
    assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
    entries = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [entry for entry in entries if entry.startswith("http")] == []


@pytest.mark.parametrize("metric", ["ndcg@10", "recall@5", ID_LEVEL])
def test_a_click_sorts_and_a_second_one_reverses(page, summary, metric):
    present, absent = sorted_rows(summary, lambda row: row["measures"].get(metric, {}).get("mean"))
    header = find(page, f'#measured button[data-key="{metric}"]')
    orders = [present + absent, present[::-1] + absent, [0, 1, 3, 4, 5, 2]]
    for state, order in zip(("descending", "ascending", "none"), orders):
        page.execute_script("arguments[0].click()", header)
        assert shown_rows(page) == order
        states = page.execute_script(
            "return [...document.querySelectorAll('#measured th[aria-sort]')].map((h) => h.ariaSort)"
        )
        assert states.count("none") == len(states) - (state != "none")
        assert header.find_element("xpath", "..").get_attribute("aria-sort") == state


def test_groups_of_columns_and_sorting_by_cost(page, summary):
    heads = (
        "return [...document.querySelectorAll('#measured thead th')].filter((h) => h.offsetWidth).map((h) => h.innerText)"
    )
    assert page.execute_script(heads)[1:] == [*(metric_title(metric) for metric in ACCURACY), metric_title(ID_LEVEL)]
    find(page, "input[value=lists]").click()
    assert [text.split("\n")[0] for text in page.execute_script(heads)[1:]] == [metric_title(metric) for metric in LISTS]
    find(page, "input[value=cost]").click()
    assert page.execute_script(heads) == ["row", "parameters", "training (s)", "users per second", "peak memory (MB)"]
    right = "return document.querySelector(arguments[0]).getBoundingClientRect().right"
    table, last_column = (
        page.execute_script(right, part) for part in ("#measured", "#measured thead th:last-child")
    )  # what spans all columns makes no room for hidden ones
    assert last_column == pytest.approx(table, abs=1)
    find(page, '#measured button[data-key="users_per_second"]').click()
    present, absent = sorted_rows(summary, lambda row: row["cost"].get("users_per_second"))
    assert shown_rows(page) == present + absent


def test_names_sort_from_a_by_the_keyboard(page):
    find(page, '#measured button[data-key="name"]').send_keys("\ue007")  # Enter
    assert shown_rows(page) == [0, 1, 4, 3, 5, 2]  # Pop, SASRec, SASRec, TIGER, TIGER; the failed GRU4Rec stays last


def test_the_filter_filters(page):
    field = find(page, "#filter")
    for text, rows in (
        ("tiger", [3, 5]),
        ("shuffled sasrec", [4]),
        ("failed", [2]),
        ("codebook_size=64", [3]),
        ("nothing", []),
    ):
        field.clear()
        field.send_keys(text)
        assert shown_rows(page) == rows
        assert find(page, "#count").text == f"{len(rows)} of 6 rows"


def test_a_click_on_a_row_opens_its_setting(page, summary):
    setting, line = find(page, "#setting-3"), find(page, 'tbody[data-row="3"] .line')
    assert not setting.is_displayed()
    line.find_element("css selector", "td").click()
    assert setting.is_displayed() and line.find_element("css selector", "button").get_attribute("aria-expanded") == "true"
    texts = [part.text for part in setting.find_elements("css selector", "pre")]
    assert texts[0] == "tokenizer: rkmeans\ncodebook_num: 3\ncodebook_size: 64\nlearning_rate: 0.003"
    assert texts[1] == "learning_rate: 0.003\ndropout: 0.2"
    assert texts[3] == summary["rows"][3]["reproduce"]
    assert texts[4] == "\n".join(summary["rows"][3]["records"])
    line.find_element("css selector", "button").send_keys("\ue007")  # Enter
    assert not setting.is_displayed()


def test_the_command_is_copied(page, summary):
    page.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
    find(page, 'tbody[data-row="1"] button').click()
    button = find(page, "#setting-1 .copy")
    button.click()
    read = "const done = arguments[0]; setTimeout(() => navigator.clipboard.readText().then(done), 100)"
    assert page.execute_async_script(read) == summary["rows"][1]["reproduce"]
    assert button.text == "copied"


def test_a_command_that_cannot_be_copied_is_selected(page, summary):
    page.execute_script("Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})")
    find(page, 'tbody[data-row="0"] button').click()
    button = find(page, "#setting-0 .copy")
    button.click()
    assert page.execute_script("return getSelection().toString()") == summary["rows"][0]["reproduce"]
    assert button.text == "selected: copy it with the keyboard"
    page.execute_script("delete navigator.clipboard; getSelection().removeAllRanges()")


def traces(browser, place, *keys):
    script = "return document.getElementById(arguments[0]).data.map((t) => arguments[1].map((k) => t[k]))"
    return browser.execute_script(script, place, list(keys))


def test_plots_show_the_summary(page, summary):
    rows = [summary["rows"][index] for index in (0, 1, 3, 4, 5)]
    for place, cost in (("against-parameters", "parameters"), ("against-speed", "users_per_second")):
        points = [[[row["cost"][cost]], [row["measures"]["ndcg@10"]["mean"]]] for row in rows]
        assert traces(page, place, "x", "y") == points
        assert page.execute_script(f"return document.getElementById('{place}').layout.xaxis.type") == "log"
    for place, kind in (("slice-0", "item popularity"), ("slice-1", "history length")):
        assert traces(page, place, "y") == [[[entry["ndcg@10"] for entry in row["slices"][kind]]] for row in rows]
    tests = [row["significance"]["ndcg@10"] for row in rows if row["significance"]]
    drawn = traces(page, "differences", "x", "error_x")
    for (x, error), test in zip(drawn, tests, strict=True):
        assert x == [test["difference"]]
        assert [x[0] - error["arrayminus"][0], x[0] + error["array"][0]] == pytest.approx([test["low"], test["high"]])
    assert len(page.find_elements("css selector", ".plot .main-svg .xtick text")) > 0


def test_learning_curves_by_row_and_by_seed(page, summary):
    rows = [summary["rows"][index] for index in (0, 1, 3, 4, 5)]
    means = traces(page, "learning-curves", "x", "y")
    for (epochs, scores), row in zip(means, rows, strict=True):
        shortest = min(len(curve["epochs"]) for curve in row["learning_curves"])
        expected = np.mean([curve["valid_score"][:shortest] for curve in row["learning_curves"]], axis=0)
        assert epochs == list(range(shortest)) and scores == pytest.approx(expected)
    find(page, "#each-seed").click()
    curves = [[curve["epochs"], curve["valid_score"]] for row in rows for curve in row["learning_curves"]]
    assert traces(page, "learning-curves", "x", "y") == curves
    find(page, "#each-seed").click()


def test_another_metric_and_fewer_rows(page, summary):
    page.execute_script(
        "const m = document.getElementById('metric'); m.value = 'mrr@5'; m.dispatchEvent(new Event('change'))"
    )
    find(page, "#legend button:nth-child(2)").click()
    rows = [summary["rows"][index] for index in (0, 3, 4, 5)]
    assert traces(page, "against-parameters", "y") == [[[row["measures"]["mrr@5"]["mean"]]] for row in rows]
    assert find(page, "#slice-0-note").text == "Slices have no MRR@5; shown is NDCG@10."
    lines = [line for line in page.find_elements("css selector", "#significance tbody tr") if line.is_displayed()]
    assert [line.find_elements("css selector", "td")[0].text for line in lines] == ["MRR@5"] * 3
    page.execute_script(
        "const m = document.getElementById('metric'); m.value = arguments[0]; m.dispatchEvent(new Event('change'))", ID_LEVEL
    )
    left = "Pop, tie order: file; SASRec (CE), tie order: shuffled"
    assert find(page, "#against-parameters-note").text == f"Not shown, for want of a value: {left}."
    assert find(page, "#differences-note").text == "No row shown above was compared in Recall@10 (ID-level)."


def test_the_page_follows_the_mode(page):
    seen = {}
    for mode in ("light", "dark"):
        show(page, 1200, mode)
        body, text = (find(page, "body").value_of_css_property(name) for name in ("background-color", "color"))
        seen[mode] = body, text, page.execute_script("return document.getElementById('slice-0').layout.font.color")
    assert seen["light"] == ("rgba(255, 255, 255, 1)", "rgba(28, 36, 48, 1)", "#1c2430")
    assert seen["dark"] == ("rgba(20, 24, 29, 1)", "rgba(228, 232, 238, 1)", "#e4e8ee")


def test_a_phone_scrolls_tables_and_not_the_page(page):
    show(page, 390, "dark")
    widest = (
        "return Math.max(...[...document.querySelectorAll('.main-svg')].map((plot) => plot.getBoundingClientRect().right))"
    )
    for _ in range(100):  # plotly draws anew a moment after the window changes
        if page.execute_script(widest) <= 390:
            break
        time.sleep(0.05)
    assert page.execute_script(widest) <= 390
    find(page, 'tbody[data-row="3"] button').click()
    for group in ("accuracy", "lists", "cost"):
        page.execute_script(f"document.querySelector('input[value={group}]').click()")
        assert page.execute_script("return document.documentElement.scrollWidth") == 390
    page.execute_script("document.querySelector('input[value=accuracy]').click()")
    place = "return document.querySelector(arguments[0]).getBoundingClientRect().x"
    before = [page.execute_script(place, selector) for selector in (".line th", ".line td", "#setting-3 details")]
    page.execute_script("document.querySelector('.wide').scrollLeft = 200")
    after = [page.execute_script(place, selector) for selector in (".line th", ".line td", "#setting-3 details")]
    assert after == [before[0], before[1] - 200, before[2]]
    box = page.execute_script("return document.querySelector('#setting-3 details').getBoundingClientRect().toJSON()")
    assert 0 <= box["left"] and box["right"] <= 390
    page.execute_script("document.querySelector('.wide').scrollLeft = 0")


def test_names_stay_text_in_the_browser(browser, hostile, tmp_path):
    browser.get(written(hostile, tmp_path).as_uri())
    assert browser.execute_script("return window.broken") is None
    assert browser.execute_script("return document.images.length") == 0
    assert browser.get_log("browser") == []
    name = hostile["rows"][3]["name"]
    assert find(browser, 'tbody[data-row="3"] .line button').text == name
    assert find(browser, "#legend button:nth-child(3)").text == f"3\n{name}, tie order: {HOSTILE}"
    ticks = "return [...document.querySelectorAll('#differences .ytick text')].map((text) => text.textContent)"
    assert browser.execute_script(ticks)[1].replace(" ", "") == f"{name}, tie order: {HOSTILE}".replace(" ", "")


def test_a_page_without_a_result_opens_in_silence(browser, tmp_path):
    summary = copy.deepcopy(example_summary())
    summary["rows"] = [summary["rows"][2]]
    browser.get(written(summary, tmp_path).as_uri())
    assert browser.get_log("browser") == []
    assert find(browser, "#learning-curves-note").text == "No learning curves were kept."
    assert shown_rows(browser) == [0]
