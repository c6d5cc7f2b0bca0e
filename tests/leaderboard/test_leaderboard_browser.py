"""The page of a board in headless Chromium: what its script does."""

import copy
import functools
import http.server
import json
import threading
import time

import numpy as np
import pytest
from plotly.offline import get_plotlyjs_version
from support.example_board import ACCURACY, HOSTILE, ID_LEVEL, LISTS, example_summary, written

from recbole_gr.leaderboard.columns import metric_title
from recbole_gr.leaderboard.render.html import PLOTLY_FILE


@pytest.fixture(scope="module")
def opened(browser, board_page):
    """The page in the browser, and what was logged until it had loaded."""
    browser.get_log("performance")
    browser.get(board_page.as_uri())
    messages = []
    deadline = time.monotonic() + 30  # the log comes from another process, on a busy machine after the page has loaded
    while not any(message["method"] == "Page.loadEventFired" for message in messages):
        assert time.monotonic() < deadline, "the log does not say that the page has loaded"
        messages += [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    asked = [request["request"]["url"] for request in requests if request["documentURL"] == board_page.as_uri()]
    return browser, browser.get_log("browser"), asked


@pytest.fixture
def page(opened, board_page):
    """The page as it first stands: light, wide, unsorted, unfiltered, with all settings closed."""
    browser = opened[0]
    if browser.current_url != board_page.as_uri():
        browser.get(board_page.as_uri())
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


def test_opens_in_silence_and_without_a_network(opened, board_page):
    browser, logged, asked = opened
    assert logged == []
    plotly = board_page.with_name(PLOTLY_FILE).as_uri()
    # the log may leave out a request that the browser made ahead of its script; none may be there that is not known
    assert {url for url in asked if not url.startswith("data:")} <= {board_page.as_uri(), plotly}
    assert browser.execute_script("return [...document.querySelectorAll('script[src]')].map((s) => s.src)") == [plotly]
    assert browser.execute_script("return Plotly.version") == get_plotlyjs_version()
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
    texts = texts_of(setting)
    assert texts[0] == "tokenizer: rkmeans\ncodebook_num: 3\ncodebook_size: 64\nlearning_rate: 0.003"
    assert texts[1] == "learning_rate: 0.003\ndropout: 0.2"
    assert texts[3] == summary["rows"][3]["reproduce"]
    assert texts[4] == "\n".join(summary["rows"][3]["records"])
    whole = setting.find_element("css selector", "details details")
    assert not whole.find_element("css selector", "pre").is_displayed()
    whole.find_element("css selector", "summary").click()
    assert texts_of(whole) == ["epochs: 8\neval_args:\n  order: TO\nnproc: null\ntrain_batch_size: 2048"]
    assert whole.text.startswith("all 4 settings of the run with seed 2020, defaults included")
    line.find_element("css selector", "button").send_keys("\ue007")  # Enter
    assert not setting.is_displayed()


def texts_of(part):
    return [text.text for text in part.find_elements("css selector", "pre")]


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


def test_a_page_without_plotly_beside_it_says_so(browser, summary, tmp_path):
    page = written(summary, tmp_path)
    page.with_name(PLOTLY_FILE).unlink()
    browser.get(page.as_uri())
    assert find(browser, "#no-plotly").text == "The plots need the file plotly.min.js beside this page."
    assert not find(browser, ".plot-controls").is_displayed()
    find(browser, "#measured button[data-key='name']").click()  # the table works
    assert shown_rows(browser) == [0, 1, 4, 3, 5, 2]
    assert ["plotly.min.js" in entry["message"] for entry in browser.get_log("browser")] == [True]


def test_a_page_from_a_server_loads_nothing_from_elsewhere(browser, board_page):
    handler = functools.partial(SilentHandler, directory=board_page.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.get(f"http://127.0.0.1:{server.server_port}/{board_page.name}")
        assert find(browser, "#learning-curves .main-svg") and not find(browser, "#no-plotly").is_displayed()
        assert [entry for entry in browser.get_log("browser") if "favicon" not in entry["message"]] == []
        server.shutdown()


class SilentHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass
