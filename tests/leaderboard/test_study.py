"""The scaling law on a study: curves, resamples, sizes, gains, and its pages, from cells whose truth is known."""

import base64
import re
import zlib
from html import unescape

import numpy as np
import pandas as pd
import pytest
from support.board_files import make_board, make_hit_ranks, make_row, write_cell

from recbole_gr.leaderboard.command import write_results
from recbole_gr.leaderboard.quantities import n_llm, n_lora, n_qt, n_rs, n_trained
from recbole_gr.leaderboard.render.pdf import as_pdf
from recbole_gr.leaderboard.render.plot_frame import linear_ticks, log_ticks
from recbole_gr.leaderboard.render.scaling_plots import scaling_plots
from recbole_gr.leaderboard.render.svg import as_svg
from recbole_gr.leaderboard.study import effective_sizes, resample
from recbole_gr.leaderboard.summarise import summarise
from recbole_gr.leaderboard.summary import RowSummary, Summary

SIZES = {16: 20_000, 32: 50_000, 64: 150_000, 128: 500_000, 256: 2_000_000}
USERS = 4000


def recall(size, injected):
    return 0.3 - 0.1 * (size / 1e5) ** -0.6 + 0.05 * injected


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def board(folder):
    """Five sizes of TIGER, two of them with vectors injected, and a row that is no point; two seeds each."""
    rows = [make_row("Pop", "Pop")]
    for width in SIZES:
        rows.append(
            make_row(f"TIGER, d_model {width}", "TIGER", settings={"d_model": width}, sweep="TIGER", axes={"d_model": width})
        )
    for width in (32, 128):
        own = {"d_model": width, "inject": "text"}
        rows.append(make_row(f"TIGER, d_model {width}, inject text", "TIGER", settings=own, sweep="TIGER", axes=own))
    board = make_board(rows, name="sizes", metrics=("Recall", "NDCG"), main_metric="recall@10", id_level=False)
    cells = folder / "sizes" / "cells"
    cells.mkdir(parents=True)
    luck = np.random.default_rng(0).uniform(size=USERS)
    hit_ranks = make_hit_ranks(0, users=USERS)
    for number, cell in enumerate(board.cells()):
        rng = np.random.default_rng(number)
        width = cell.row.axes.get("d_model")
        share = recall(SIZES[width], "inject" in cell.row.axes) if width else 0.1
        hit = 0.7 * luck + 0.3 * rng.uniform(size=USERS)
        ranks = pd.array(np.where(hit <= np.quantile(hit, share), rng.integers(1, 11, USERS), 15), dtype="Int32")
        parameters = SIZES.get(width, 0) + 1000 * ("inject" in cell.row.axes)
        sizes = {"parameters": parameters, "training_flops": 6.0 * parameters * 1e6} if width else {}
        write_cell(cells, cell, hit_ranks.assign(rank=ranks), **sizes)
    return board


@pytest.fixture(scope="module")
def summary(board, folder):
    return summarise(board, str(folder / "sizes" / "cells"))


def test_rows_of_one_curve_differ_in_size_alone(summary):
    assert [curve["name"] for curve in summary.scaling] == ["TIGER", "TIGER, inject text"]
    plain, injected = summary.scaling
    assert [point["N_RS"] for point in plain["points"]] == list(SIZES.values())
    for point in plain["points"]:
        assert point["value"] == pytest.approx(recall(point["N_RS"], False), abs=2e-3)
        assert point["low"] < point["value"] < point["high"]
    assert injected["verdict"] == "too few points" and len(injected["points"]) == 2


def test_the_law_of_the_truth_is_found(summary):
    law = summary.scaling[0]["laws"][1]
    found = {parameter["name"]: parameter for parameter in law["parameters"]}
    reference = float(np.exp(np.log(list(SIZES.values())).mean()))
    truth = {"R0": 0.3, "a": 0.6, f"A / N^a at N = {reference:,.0f}": 0.1 * (reference / 1e5) ** -0.6}
    for name, value in truth.items():
        assert found[name]["low"] < value < found[name]["high"]
    assert summary.scaling[0]["chosen"] == "R0 - A / N_RS^a"
    words = " ".join(summary.scaling[0]["words"])
    assert "ten times the largest N_RS of 2M would add" in words


def test_what_injection_adds(summary):
    for gain, size in zip(summary.injections, (50_000, 500_000), strict=True):
        assert (gain["axis"], gain["value"], gain["size"]) == ("inject", "text", size)
        assert gain["gain"] == pytest.approx(0.05, abs=3e-3) and gain["low"] < 0.05 < gain["high"]


def test_resamples_are_of_users_for_all_rows_and_of_seeds():
    """Against the variances that theory gives: of users, which rows share, and of seeds, by (1 / k) of their variance."""
    rng = np.random.default_rng(5)
    users = pd.Index([f"u{number}" for number in range(500)])
    shared = rng.normal(size=500)
    seeds = [pd.Series(shared + level, users) for level in (0.0, 0.3, 0.6)]
    alone = [pd.Series(shared + 1.0, users)]
    values, drawn, count = resample([seeds, [table + 1.0 for table in seeds], alone], 4000, 1)
    np.testing.assert_allclose(values, [shared.mean() + level for level in (0.3, 1.3, 1.0)])
    assert count == 500
    of_users, of_seeds = shared.var() / 500, np.var([0.0, 0.3, 0.6], ddof=1)
    assert drawn[:, 0].var() == pytest.approx(of_users + of_seeds / 3, rel=0.1)
    assert drawn[:, 2].var() == pytest.approx(of_users + of_seeds, rel=0.1)  # one seed: as the others spread
    assert (drawn[:, 0] - drawn[:, 1]).var() == pytest.approx(2 * of_seeds / 3, rel=0.1)  # users are the same


def test_sizes_of_records():
    source = {"tokenizer": "rqvae", "dimension": 384, "pca_dimension": None, "codebook_num": 3, "codebook_size": 256}
    ids = {"source": {**source, "rqvae_hidden": [128], "rqvae_latent": 32}, "text_encoder_parameters": 22_713_216}
    record = {"parameters": 300, "semantic_ids": ids}
    autoencoder = 384 * 128 + 128 + 128 * 32 + 32 + 32 * 128 + 128 + 128 * 384 + 384
    assert (n_rs(record), n_llm(record), n_qt(record)) == (300, 22_713_216, 3 * 256 * 32 + autoencoder)
    ids["source"] |= {"tokenizer": "rkmeans", "pca_dimension": 64}
    assert n_qt(record) == 3 * 256 * 64
    for drawn in ("lsh", "random"):
        ids["source"]["tokenizer"] = drawn
        assert n_qt(record) == 0
    ids["source"]["tokenizer"] = "of another package"
    assert n_qt(record) is None and n_qt({}) is None
    llm = {"language_model": {"N_LLM": 900, "N_LoRA": 30, "N_trained": 35, "N_adapter": 5}, "parameters": 35}
    assert (n_rs(llm), n_llm(llm), n_lora(llm), n_trained(llm)) == (None, 900, 30, 30)


def test_effective_sizes():
    row = RowSummary("a", cost={"N_trained": 100, "N_LLM": 10_000})
    others = [("N_LLM", "gamma", "beta")]
    assert effective_sizes(row, "N_trained", others, {"gamma": 0.01, "beta": 0.002}) == {"N_SI": 200, "N_CF": 120}
    assert effective_sizes(row, "N_trained", [], {}) == {"N_SI": 100, "N_CF": 100}


def test_pages(board, folder, summary):
    """Columns of axes and sizes in csv, the law in markdown and html, plots as svg."""
    paths = write_results(board, str(folder / "sizes" / "cells"), str(folder), "csv")
    figures = [path for path in paths if path.endswith(".svg")]
    assert [path.rpartition("/")[2] for path in figures] == [
        *("size.svg", "training-seconds.svg", "training-flops.svg", "inference.svg", "injection.svg")
    ]
    table = pd.read_csv(folder / "sizes.csv")
    assert table["d_model"].tolist()[1:] == [16, 32, 64, 128, 256, 32, 128]
    assert table["N_RS"].tolist()[1:6] == table["N_SI"].tolist()[1:6] == list(SIZES.values())
    assert table["inject"].tolist()[6:] == ["text", "text"] and table["sweep"].isna().tolist() == [True] + [False] * 7
    assert table["training_flops"][1] == 6e6 * 20_000 and table["inference_ms"][1] == pytest.approx(1000 / 60)
    markdown = (folder / "sizes.md").read_text()
    for text in ("## Sizes", "## Scaling", "](sizes/figures/size.svg)", "### TIGER, inject text: too few points", "| R0 "):
        assert text in markdown
    page = (folder / "sizes.html").read_text()
    for text in ("<h2>Scaling</h2>", 'id="scaling-size"', "Accuracy against inference time", "Study: sizes"):
        assert text in page
    svg = (folder / "sizes" / "figures" / "size.svg").read_text()
    assert svg.count("<circle") == 7 + 2 and svg.count("<polyline") == svg.count("<polygon") == 1
    assert Summary.from_json(summary.as_json()) == summary
    [size, *_] = scaling_plots(summary)
    assert size.series[0].x == list(SIZES.values()) and len(size.series[0].bands[0].x) == 60


def test_figures_for_latex(board, folder, summary):
    """As pdf with the points and words of the svg; equal plots are equal files."""
    paths = write_results(board, str(folder / "sizes" / "cells"), str(folder), "latex")
    figures = [path for path in paths if path.endswith(".pdf")]
    assert [path.removesuffix(".pdf") for path in figures] == [path[:-4] for path in paths if path.endswith(".svg")]
    [plot, *_] = scaling_plots(summary)
    plot.series[0].name = "TIGER – 模"
    svg, pdf = as_svg(plot), as_pdf(plot)
    assert pdf == as_pdf(plot) and open(figures[0], "rb").read(5) == b"%PDF-"
    content = page_content(pdf)
    written = {
        part.decode("cp1252") for part in re.findall(rb"\((.*?)\) Tj", content.replace(rb"\(", b"[").replace(rb"\)", b"]"))
    }
    assert "TIGER \\226 ?" in written
    expected = {unescape(text) for text in re.findall(r"<text [^>]*>(.*?)</text>", svg)} - {"TIGER – 模"}
    assert {text.replace("(", "[").replace(")", "]") for text in expected} <= written
    height = int(re.search(r'viewBox="0 0 640 (\d+)"', svg)[1])
    lines = re.findall(r'<line x1="([\d.]+)" x2="([\d.]+)" y1="([\d.]+)" y2="([\d.]+)"', svg)
    drawn = re.findall(rb"n ([-\d.]+) ([-\d.]+) m ([-\d.]+) ([-\d.]+) l S", content)
    assert {(float(x1), -float(y1), float(x2), -float(y2)) for x1, x2, y1, y2 in lines} == {
        tuple(map(float, line)) for line in drawn
    }
    assert len(lines) > 10 and f"1 0 0 1 0 {height} cm".encode() in content


def page_content(pdf: bytes) -> bytes:
    """What the one page of a pdf draws: ASCII85 over deflate, as reportlab writes it."""
    [stream] = re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL)
    return zlib.decompress(base64.a85decode(stream.strip().removesuffix(b"~>")))


def test_boards_without_axes_have_none_of_it(folder):
    board = make_board([make_row("TIGER", "TIGER", seeds=(1,))], name="plain", id_level=False)
    write_cell(folder, board.cells()[0], make_hit_ranks(1))
    summary = summarise(board, str(folder)).as_json()
    assert not {"scaling", "injections"} & summary.keys() and not {"sweep", "axes"} & summary["rows"][0].keys()
    assert "N_RS" not in summary["rows"][0]["cost"]


def test_ticks():
    assert log_ticks(4.1, 6.0) == [2e4, 5e4, 1e5, 2e5, 5e5, 1e6]
    assert log_ticks(4.1, 7.2) == [1e5, 1e6, 1e7]
    assert linear_ticks(0.031, 0.118) == [0.04, 0.06, 0.08, 0.1]
