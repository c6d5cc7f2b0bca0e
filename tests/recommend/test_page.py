"""The page of recommendations in headless Chromium: what it shows, finds and draws, and that no text of the data is run."""

import json
from pathlib import Path

import pytest
from selenium.webdriver.support.ui import WebDriverWait
from support.trained_cases import CASES, run_case, settings_of

from recbole_gr import cli

HOSTILE = "<img src=x onerror=document.title='run'></script><script>document.title='run'</script>"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """The page of a TIGER whose titles are hostile, and where it lies."""
    import shutil

    import recbole_gr

    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(CASES / "plain", folder / "hostile")
    for kind in ("inter", "item"):
        text = (folder / "hostile" / f"plain.{kind}").read_text()
        (folder / "hostile" / f"hostile.{kind}").write_text(
            text.replace("table lamp", f"{HOSTILE} lamp").replace("u9\t", "u<9>\t")
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("support.trained_cases.CASES", folder)
        patch.setattr("sys.argv", ["pytest"])
        settings = settings_of("TIGER")
        result = run_case("TIGER", folder, "hostile", **settings)
        arguments = ["--k=10", "--history=valid", "--format=html", "--output=page.html", "--tree_user=u<9>"]
        assert cli.main(["recommend", result["checkpoint"], *arguments]) == 0
    return folder / "page.html", result, recbole_gr.load(result["checkpoint"])


@pytest.fixture
def page(browser, page_file):
    browser.get_log("browser")
    browser.get(page_file[0].as_uri())
    WebDriverWait(browser, 20).until(lambda shown: shown.execute_script("return document.readyState") == "complete")
    yield browser
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def evaluate(page, script):
    return page.execute_script(f"return {script}")


def test_hostile_text_is_shown_and_not_run(page):
    assert evaluate(page, "document.title") == "Recommendations: TIGER on hostile"
    assert evaluate(page, "document.querySelectorAll('img').length") == 0
    assert evaluate(page, "document.querySelectorAll('script').length") == 1
    assert HOSTILE in evaluate(page, "document.getElementById('users').textContent")
    assert evaluate(page, "performance.getEntriesByType('resource').length") == 0


def test_lists_hits_and_histories_are_those_of_the_recommender(page, page_file):
    _, result, recommender = page_file
    frame = recommender.recommend(k=10, history="valid")
    shown = evaluate(
        page,
        """[...document.querySelectorAll('#users details')].map((user) => ({
          name: user.querySelector('summary').firstChild.textContent.trim(),
          items: [...user.querySelectorAll('.items tbody tr')].map((row) => row.cells[2].textContent),
          codes: [...user.querySelectorAll('.items tbody tr')].map((row) => row.cells[3].textContent),
          scores: [...user.querySelectorAll('.items tbody tr')].map((row) => +row.cells[4].textContent),
          hits: [...user.querySelectorAll('.items tr.hit')].map((row) => row.cells[2].textContent),
          later: [...user.querySelectorAll('.later tr')].map((row) => row.cells[1].textContent),
          history: [...user.querySelectorAll('.history tr')].map((row) => row.cells[1].textContent)}))""",
    )
    assert len(shown) == 60
    from test_recommender import interactions

    histories = {"u<9>" if user == "u9" else user: items for user, items in interactions().items()}
    for user in shown:
        rows = frame[frame["user"] == user["name"]]
        assert user["items"] == rows["item"].tolist() and user["codes"] == rows["semantic_id"].tolist()
        assert user["scores"] == pytest.approx(rows["score"].tolist(), abs=1e-4)
        assert user["later"] == histories[user["name"]][-1:]
        assert user["history"] == histories[user["name"]][:-1][::-1]
        assert user["hits"] == [item for item in user["items"] if item in user["later"]]
    with open(result["record"]) as file:
        recall = json.load(file)["test"]["recall@10"]
    assert round(sum(len(user["hits"]) for user in shown) / 60, 4) == recall


def test_the_search_finds_users_titles_and_codes(page, page_file):
    frame = page_file[2].recommend(k=10, history="valid")
    visible = "[...document.querySelectorAll('#users details')].filter((user) => user.offsetHeight).length"
    assert evaluate(page, visible) == 60
    for words, expected in (("u<9>", 1), ("no such words", 0), ("", 60)):
        page.execute_script(
            "const s = document.getElementById('search'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))", words
        )
        assert evaluate(page, visible) == expected
        assert evaluate(page, "document.getElementById('count').textContent") == f"{expected} of 60 users"
    assert frame["user"].nunique() == 60


def test_the_beams_are_a_picture(page):
    assert evaluate(page, "document.querySelector('h2').textContent") == "The beams of u<9>"
    circles = evaluate(page, "document.querySelectorAll('#tree circle').length")
    assert circles == evaluate(page, "document.querySelectorAll('#tree line').length") + 1 > 10
    assert evaluate(page, "document.querySelectorAll('#tree circle.pruned').length") > 0
    box = evaluate(page, "(({width, height}) => [width, height])(document.getElementById('tree').getBoundingClientRect())")
    assert box[0] > 300 and box[1] > 100
    texts = evaluate(page, "[...document.querySelectorAll('#tree text')].map((text) => text.textContent)")
    assert any(text.split()[0].isdigit() and float(text.split()[1]) < 0 for text in texts)


def test_a_page_is_bounded_and_says_so(page_file, monkeypatch, capsys, caplog):
    monkeypatch.setattr("recbole_gr.recommend.export.USERS_OF_A_PAGE", 5)
    assert cli.main(["recommend", page_file[1]["checkpoint"], "--format=html", "--output=few.html"]) == 0
    printed = capsys.readouterr()
    assert "format=html shows the first 5 of 60 users; --users=FILE chooses others, another format has all." in caplog.text
    assert printed.out.startswith("users       5, 100 items")
    text = Path("few.html").read_text()
    assert text.count("<details") == 5 and "5 of 60 users, the first ones" in text and "hit</span>" not in text
