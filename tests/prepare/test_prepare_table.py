"""``recbole-gr prepare csv``: tables in files, and what is wrong with them."""

from pathlib import Path

import pandas as pd
import pytest

from recbole_gr import cli

SALES = 'customer,sku,day,stars\nc1,A-1,2020-01-01,4\nc1,"B, 2",2020-01-02T12:00:00,5\nNA,A-1,2020-01-03,\nc2,1.0,,1\n'
PRODUCTS = 'sku,title\nA-1,"table, ""big"""\n"B, 2",lamp\n'
EXPECTED = "user_id:token\titem_id:token\ttimestamp:float\tstars:float\n" + (
    "c1\tA-1\t1577836800\t4\nc1\tB, 2\t1577966400\t5\nNA_\tA-1\t1578009600\t\n"
)
NAMES = ["--user=customer", "--item=sku", "--time=day", "--columns=stars", "--output_dir=made"]


def prepared(file, *options):
    return cli.main(["prepare", "csv", file, *NAMES, *options])


@pytest.mark.parametrize("form", ["csv", "tsv", "csv.gz", "parquet", "latin-1", "bom"])
def test_a_table_in_a_file(form, capsys):
    table = {"csv": "sales.csv", "latin-1": "sales.csv", "bom": "sales.csv"}.get(form, f"sales.{form}")
    Path("sales.csv").write_text(SALES, encoding={"bom": "utf-8-sig"}.get(form, "utf-8"))
    if form in ("tsv", "csv.gz", "parquet"):
        frame = pd.read_csv("sales.csv", dtype=str, keep_default_na=False, na_values=[""])
        frame.to_parquet(table) if form == "parquet" else frame.to_csv(
            table, index=False, sep="\t" if form == "tsv" else ","
        )
    Path("products.csv").write_text(PRODUCTS)
    options = ["--items=products.csv", *(["--encoding=latin-1"] if form == "latin-1" else [])]
    assert prepared(table, *options) == 0
    assert Path("made/sales/sales.inter").read_text() == EXPECTED
    assert Path("made/sales/sales.item").read_text() == 'item_id:token\ttitle:token_seq\nA-1\ttable, "big"\nB, 2\tlamp\n'
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["left", "out", "1", "without", "timestamp"] in lines and ["interactions", "3"] in lines
    assert ["times", "2020-01-01", "to", "2020-01-03"] in lines
    assert lines[-1][1:] == ["recbole-gr", "run", "--dataset=sales", "--data_path=made"]


def test_a_split_is_in_the_command_to_run():
    Path("s.csv").write_text("customer,sku,day,stars,fold\nc1,a,5,1,train\nc1,b,6,1,valid\nc1,c,7,1,test\n")
    assert prepared("s.csv", "--split=fold", "--name=folds") == 0
    assert Path("made/folds/folds.inter").read_text().splitlines()[0].endswith("timestamp:float\tsplit:token\tstars:float")


@pytest.mark.parametrize(
    "content, options, words",
    [
        (SALES, ["--items=none.csv"], "error: items='none.csv': no such file"),
        (SALES, ["--time_unit=min"], "error: time_unit='min': must be one of auto, s, ms, us, ns"),
        (SALES, ["--core=5"], "error: core='5': recbole-gr prepare csv has no such option"),
        (SALES, ["--split=fold"], "error: split='fold': the table has no such column; it has customer, sku, day, stars"),
        ("customer,sku,day,stars\n", [], "error: [t.csv] has a header and no rows"),
        ("", [], "error: [t.csv] cannot be read: No columns to parse from file"),
        ("customer,sku,day,stars\ncaf\xe9,1,2,3\n", [], "error: [t.csv] is not UTF-8 text"),
        ("customer,sku,day,stars\na,b,tomorrow,1\n", [], "error: 1 of 1 cells of the column day are no times"),
    ],
)
def test_what_cannot_work_is_one_line(content, options, words, capsys):
    Path("t.csv").write_text(content, encoding="latin-1")
    assert prepared("t.csv", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith(words) and error.count("\n") == 1


def test_csv_needs_a_file(capsys):
    assert cli.main(["prepare", "csv"]) == 2
    assert capsys.readouterr().err == "error: file=None: the table of interactions is missing: recbole-gr prepare csv FILE\n"
