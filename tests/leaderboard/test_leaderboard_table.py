"""What the tables print, read back and compared with the summary."""

import copy
import io
import json
import re

import pandas as pd
import pytest
from support.board_files import json_summary, make_board, make_hit_ranks, make_row, write_cell

from recbole_gr.leaderboard.columns import metric_title
from recbole_gr.leaderboard.render import csv, latex, markdown
from recbole_gr.leaderboard.render.words import NOTHING
from recbole_gr.leaderboard.summary import Summary


def as_markdown(summary):
    return markdown.as_markdown(Summary.from_json(summary))


def as_csv(summary):
    return csv.as_csv(Summary.from_json(summary))


def as_latex(summary):
    return latex.as_latex(Summary.from_json(summary))


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """Two baselines, a clearly better row whose name has marks of markdown and LaTeX, and one that failed."""
    folder = tmp_path_factory.mktemp("cells")
    rows = [make_row("Pop", "Pop"), make_row("SASRec (CE)"), make_row("TIGER|A_&", "TIGER"), make_row("Broken")]
    board = make_board(rows, published=("tiger", "cornac"), dataset="amazon-sports-2014", topk=(5, 10))
    for cell in board.cells():
        place = {"Pop": 80, "SASRec": 60, "TIGER": 12}[cell.row.model]
        if cell.row.name == "Broken":
            (folder / f"{cell.key}.failed.json").write_text(json.dumps({"error": f"no `memory` | {cell.seed}"}))
        elif (cell.row.name, cell.seed) != ("SASRec (CE)", 2):
            hit_ranks = make_hit_ranks(cell.seed + place, users=120, places=place, semantic_ids=cell.row.model == "TIGER")
            write_cell(folder, cell, hit_ranks)
    return json_summary(board, folder)


def section(page, title):
    """What stands under a heading of the second level."""
    return page.split(f"\n## {title}\n")[1].split("\n## ")[0]


def tables(text):
    """The tables in a text, each a list of lists of cells, the head first."""
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE):
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.strip().splitlines()]
        assert len({len(line) for line in lines}) == 1
        found.append([[cell.strip() for cell in line] for number, line in enumerate(lines) if number != 1])
    return found


def plain_number(cell):
    """The mean of a cell, without its marks."""
    return re.sub(r"\*\*|</?u>| †| ±.*", "", cell)


def test_accuracy_is_that_of_the_summary(summary):
    [table] = tables(section(as_markdown(summary), "Accuracy"))
    assert table[0] == ["", *map(metric_title, summary["metrics"])]
    names = [r"Pop", r"SASRec (CE) (1 of 2 seeds)", r"TIGER\|A\_&", r"Broken (failed)"]
    assert [line[0] for line in table[1:]] == names
    for line, row in zip(table[1:], summary["rows"], strict=True):
        for cell, metric in zip(line[1:], summary["metrics"], strict=True):
            if metric not in row["measures"]:
                assert cell == "-"
                continue
            measure = row["measures"][metric]
            assert plain_number(cell) == f"{measure['mean']:.4f}"
            assert ("**" in cell) == (metric in row["best"]) and ("<u>" in cell) == (metric in row["second"])
            assert ("†" in cell) == (metric in row["significance"] and row["significance"][metric]["p_holm"] < 0.05)
            assert cell.partition(" ± ")[2] == ("" if measure["std"] is None else f"{measure['std']:.4f}")
    tiger = table[3]
    assert all("†" in cell and cell.startswith("**") for cell in tiger[1:9])
    assert "†" not in tiger[9] and "**" not in tiger[9]  # by the ID


def test_a_whole_cell():
    row = {
        **{"name": "A", "variant": {"tie_order": "shuffled"}, "state": "complete", "seeds": [1, 2], "seeds_done": [1, 2]},
        **{"measures": {"recall@5": {"mean": 0.12344, "std": 0.00126}}, "best": ["recall@5"], "second": []},
        "significance": {
            "recall@5": {
                **{"against": "B_1", "difference": -0.01, "low": -0.02, "high": 0.00004},
                **{"p": 0.02, "p_holm": 0.0499, "users": 22363},
            }
        },
        "cost": {"parameters": 1234567, "users_per_second": None},
    }
    summary = {"name": "b", "command": "c", "metrics": ["recall@5"], "list_metrics": [], "rows": [row]}
    summary.update(main_metric="recall@5", significance_note="At 95%.")
    line = r"A (tie order: shuffled) & \textbf{0.1234}$^\dagger$ $\pm$ 0.0013 \\"
    assert line in as_latex(summary).splitlines()
    line = r"A (tie order: shuffled) & B\_1 & $-0.0100$ & $-0.0200$ to $+0.0000$ & 0.0200 & 0.0499 & 22,363 \\"
    assert line in as_latex(summary).splitlines()
    assert r"A (tie order: shuffled) & 1,234,567 & -- \\" in as_latex(summary).splitlines()
    row["significance"]["recall@5"]["p_holm"] = 0.05
    row["best"], row["second"] = [], ["recall@5"]
    assert r"A (tie order: shuffled) & \underline{0.1234} $\pm$ 0.0013 \\" in as_latex(summary).splitlines()


def test_metrics_are_called_as_in_recbole():
    names = ["recall@10 (ID-level)", "ndcg@5", "giniindex@20", "mrr@5"]
    assert [metric_title(name) for name in names] == ["Recall@10 (ID-level)", "NDCG@5", "GiniIndex@20", "MRR@5"]


def test_the_page_says_what_id_level_counts(summary):
    page = as_markdown(summary)
    assert "Recall@10 (ID-level)" in page and "counts codes" in section(page, "Accuracy")
    without = copy.deepcopy(summary)
    without["metrics"] = [name for name in without["metrics"] if "ID-level" not in name]
    assert "ID-level" not in as_markdown(without)


def test_tests_are_those_of_the_summary(summary):
    text = section(as_markdown(summary), "Significance")
    first, others = tables(text)
    assert {line[0] for line in first[1:]} == {"NDCG@10"}
    printed = first[1:] + others[1:]
    expected = []
    tested = [name for name in summary["metrics"] if "ID-level" not in name]
    for metric in sorted(tested, key=lambda name: name != "ndcg@10"):
        for row in summary["rows"]:
            if metric in row["significance"]:
                test = row["significance"][metric]
                interval = f"{test['low']:+.4f} to {test['high']:+.4f}"
                numbers = [f"{test['difference']:+.4f}", interval, f"{test['p']:.4f}", f"{test['p_holm']:.4f}", "120"]
                expected.append([metric_title(metric), test["against"], *numbers])
    assert [[line[0], *line[2:]] for line in printed] == expected and len(expected) == 16
    assert summary["significance_note"] in text and "Baselines: Pop, SASRec (CE), Broken." in text


def test_lists_slices_and_cost_are_those_of_the_summary(summary):
    page, measured = as_markdown(summary), summary["rows"][:3]
    [lists] = tables(section(page, "Beyond accuracy"))
    for line, row in zip(lists[1:], measured, strict=True):
        assert list(map(plain_number, line[1:])) == [
            f"{row['measures'][name]['mean']:.4f}" for name in summary["list_metrics"]
        ]
    assert "Smaller is better for GiniIndex@5, GiniIndex@10." in page
    for slicing, table in zip(("item popularity", "history length"), tables(section(page, "Slices")), strict=True):
        groups = measured[0]["slices"][slicing]
        assert table[0][2:] == [f"{group['label']} ({group['users']})" for group in groups]
        values = [
            [f"{g[name]:.4f}" for g in row["slices"][slicing]] for name in ("recall@10", "ndcg@10") for row in measured
        ]
        assert [line[2:] for line in table[1:]] == values
    [cost] = tables(section(page, "Cost"))
    assert cost[1] == ["Pop", "1,000", "15.0", "60.0", "502"]


def test_groups_of_other_protocols_have_tables_of_their_own(summary):
    other = copy.deepcopy(summary)
    other["rows"][1]["slices"]["history length"][0]["label"] = "0 to 2"
    popularity, first, second = tables(section(as_markdown(other), "Slices"))
    assert [len(popularity), len(first), len(second)] == [7, 5, 3]
    assert second[0][2].startswith("0 to 2 (") and {line[0] for line in second[1:]} == {"SASRec (CE) (1 of 2 seeds)"}


def test_settings_failures_and_environment(summary):
    page = as_markdown(summary)
    settings = section(page, "Settings")
    for row in summary["rows"]:
        assert f"`{row['reproduce']}`" in settings
    assert settings.count("`learning_rate: 0.001`") == 4
    assert section(page, "Errors").strip().splitlines() == [
        r"- Broken, seed 1: no \`memory\` \| 1",
        r"- Broken, seed 2: no \`memory\` \| 2",
    ]
    assert "- versions: recbole\\_gr 0.4.0, recbole 1.2.1, torch 2.13.0" in section(page, "Environment")
    assert "recbole-gr leaderboard small.yaml" in page and "- seen items: masked for all models" in page
    assert "- interactions: 1,200" in page


def test_what_a_search_chose(summary):
    searched = copy.deepcopy(summary)
    searched["rows"][0].update(search={"trials": 10, "space": {"choice": {"k": [1, 2]}}}, chosen={"k": 2})
    searched["rows"][1].update(search={"trials": 10}, chosen={})
    settings = section(as_markdown(searched), "Settings")
    assert '  - searched: `trials: 10`, `space: {"choice": {"k": [1, 2]}}`\n  - chosen: `k: 2`\n' in settings
    assert "  - searched: `trials: 10`\n  - chosen: nothing yet\n" in settings


def test_published_numbers_stand_by_themselves(summary):
    page = as_markdown(summary)
    published = section(page, "Published numbers")
    assert published.count("Protocol: ") == 2 and "2305.05065" in published
    tiger, cornac = tables(published)
    assert tiger[-1] == ["TIGER", "0.0264", "0.0181", "0.0400", "0.0225"]
    assert cornac[2] == ["TIGER, GRID's recipe", "0.0188", "-", "-", "-"]
    assert "0.0264" not in page.replace(published, "")


def test_csv_read_back_is_the_summary(summary):
    table = pd.read_csv(io.StringIO(as_csv(summary)), float_precision="round_trip")
    assert table["row"].tolist() == [row["name"] for row in summary["rows"]]
    assert table["state"].tolist() == ["complete", "incomplete", "complete", "failed"]
    for line, row in zip(table.to_dict("records"), summary["rows"], strict=True):
        for name in summary["metrics"] + summary["list_metrics"]:
            for column in ("mean", "std"):
                value = row["measures"].get(name, {}).get(column)
                assert line[f"{name} {column}"] == value or (value is None and pd.isna(line[f"{name} {column}"]))
    assert table["parameters"].tolist()[:3] == [1000, 1000, 1000]


def csv_lines(summary):
    """The lines of the csv file, each a dict of texts by column; an empty cell is an empty text."""
    return pd.read_csv(io.StringIO(as_csv(summary)), dtype=str, keep_default_na=False).to_dict("records")


def is_written(cell, value):
    """Whether the cell is the value to its last digit, or empty for a missing one."""
    return cell == ("" if value is None else str(value))


def test_csv_has_the_tests_of_the_summary(summary):
    columns = {
        **{"compared with": "against", "difference": "difference", "difference lower bound": "low"},
        **{"difference upper bound": "high", "p": "p", "p_holm": "p_holm", "compared users": "users"},
    }
    tested = [name for name in summary["metrics"] if "ID-level" not in name]
    lines = csv_lines(summary)
    for line, row in zip(lines, summary["rows"], strict=True):
        for name in tested:
            for column, key in columns.items():
                assert is_written(line[f"{name} {column}"], row["significance"].get(name, {}).get(key))
    # the best baseline is compared with nothing, nor is a row without a record
    best = lines[2]["ndcg@10 compared with"]
    assert {line["row"] for line in lines if not line["ndcg@10 p"]} == {best, "Broken"}
    assert float(lines[2]["ndcg@10 difference"]) > 0 and lines[2]["ndcg@10 compared users"] == "120"
    assert not [column for column in lines[0] if "ID-level" in column and not column.endswith((" mean", " std"))]


def test_csv_has_the_slices_of_the_summary(summary):
    other = copy.deepcopy(summary)
    other["rows"][1]["slices"]["history length"][0]["label"] = "0 to 2"  # as under another protocol
    lines = csv_lines(other)
    there = [
        {
            f"{measure} {slicing}: {group['label']}": group[measure]
            for slicing in row["slices"]
            for group in row["slices"][slicing]
            for measure in ("users", "recall@10", "ndcg@10")
        }
        for row in other["rows"]
    ]
    columns = dict.fromkeys(column for row in there for column in row)
    assert list(lines[0])[-len(columns) :] == list(columns)
    for line, row in zip(lines, there, strict=True):
        assert all(is_written(line[column], row.get(column)) for column in columns)
    assert int(lines[0]["users item popularity: never seen in training"]) > 0
    assert [bool(line["recall@10 history length: 0 to 2"]) for line in lines] == [False, True, False, False]


def latex_tables(text):
    """The tables in a text, by caption, each a list of lists of cells, the head first; what is no LaTeX fails."""
    opened = []
    for kind, environment in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            opened.append(environment)
        else:
            assert opened.pop() == environment
    assert not opened
    found = {}
    for block in re.findall(r"\\begin\{table\}\n(.*?)\n\\end\{table\}", text, flags=re.DOTALL):
        caption, tabular, *lines, end = block.splitlines()
        alignment = re.fullmatch(r"\\begin\{tabular\}\{(l+r*)\}", tabular).group(1)
        assert [lines[0], lines[2], lines[-1], end] == [r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"]
        cells = [re.split(r" (?<!\\)& ", line.removesuffix(r" \\")) for line in [lines[1], *lines[3:-1]]]
        assert {len(line) for line in cells} == {len(alignment)}
        for part in (caption, *(cell for line in cells for cell in line)):
            plain = re.sub(r"\$[-+.\d]+\$|\$\\(dagger|pm|downarrow)\$|\$\^\\dagger\$|\\[&%$#_{}]", "", part)
            assert plain.isascii() and not set(plain) & set("&%$#_~^<>|") and plain.count("{") == plain.count("}")
        found[caption.removeprefix(r"\caption{").removesuffix("}")] = cells
    return found


def test_latex_is_escaped_and_whole(summary):
    tables = latex_tables(as_latex(summary))
    assert [caption.partition(". ")[0] for caption in tables] == [
        "small",
        "small: beyond accuracy",
        "small: significance in NDCG@10",
        "small: cost, means over seeds.",
    ]
    accuracy = next(iter(tables.values()))
    names = ["Pop", "SASRec (CE) (1 of 2 seeds)", r"TIGER\textbar{}A\_\&", "Broken (failed)"]
    assert accuracy[0] == ["", *map(metric_title, summary["metrics"])]
    assert [line[0] for line in accuracy[1:]] == names
    for line, row in zip(accuracy[1:], summary["rows"], strict=True):
        printed = [re.search(r"\d\.\d{4}|--", cell).group() for cell in line[1:]]
        measures = row["measures"]
        assert printed == [f"{measures[name]['mean']:.4f}" if name in measures else "--" for name in summary["metrics"]]


def test_latex_tables_behind_the_first_are_those_of_the_summary(summary):
    _, lists, significance, cost = latex_tables(as_latex(summary)).values()
    measured = summary["rows"][:3]
    head = ["", "ItemCoverage@5", r"GiniIndex@5 $\downarrow$", "ItemCoverage@10", r"GiniIndex@10 $\downarrow$"]
    assert lists[0] == head and len(lists) == 4
    for line, row in zip(lists[1:], measured, strict=True):
        printed = [re.search(r"\d\.\d{4}", cell).group() for cell in line[1:]]
        assert printed == [f"{row['measures'][name]['mean']:.4f}" for name in summary["list_metrics"]]
    assert significance[0] == ["", "against", "difference", r"95\% interval", "p", "p (Holm)", "users"]
    tests = [row["significance"]["ndcg@10"] for row in measured if row["significance"]]
    assert len(tests) == 2
    assert [line[1:] for line in significance[1:]] == [
        [
            *(test["against"], f"${test['difference']:+.4f}$", f"${test['low']:+.4f}$ to ${test['high']:+.4f}$"),
            *(f"{test['p']:.4f}", f"{test['p_holm']:.4f}", "120"),
        ]
        for test in tests
    ]
    assert cost[0] == ["", "parameters", "training (s)", "users per second", "peak memory (MB)"]
    assert cost[1] == ["Pop", "1,000", "15.0", "60.0", "502"] and len(cost) == 4


def test_latex_without_lists_and_tests(summary):
    without = copy.deepcopy(summary)
    without.update(list_metrics=[], significance_note="Nothing is tested: why.")
    for row in without["rows"]:
        row["significance"] = {}
    text = as_latex(without)
    assert [caption.partition(". ")[0] for caption in latex_tables(text)] == ["small", "small: cost, means over seeds."]
    assert "% Nothing is tested: why." in text.splitlines()


def test_latex_takes_names_of_any_letters(summary):
    named = copy.deepcopy(summary)
    named["rows"][0]["name"] = "[a]*\n\n50% ~x^2 {\\$#"
    named["rows"][1]["name"] = "* b"
    accuracy = next(iter(latex_tables(as_latex(named)).values()))
    # a bracket or star at the beginning of a line would belong to the end of the line before
    assert accuracy[1][0] == r"{[}a]{*} 50\% \textasciitilde{}x\textasciicircum{}2 \{\textbackslash{}\$\#"
    assert accuracy[2][0] == "{*} b (1 of 2 seeds)"


def test_nothing_measured_is_said(tmp_path):
    summary = json_summary(make_board([make_row("A")], id_level=False), tmp_path)
    page = as_markdown(summary)
    assert section(page, "Accuracy").strip() == NOTHING and not tables(page) and "## Slices" not in page
    assert "A (not run yet)" in section(page, "Settings")
    assert len(latex_tables(as_latex(summary))) == 1 and NOTHING in as_latex(summary)
    assert "A (not run yet) & -- & --" in as_latex(summary)
    assert as_csv(summary).splitlines()[1].startswith("A,SASRec,True,missing,0,")
