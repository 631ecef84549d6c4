"""Results as CSV and JSON: what went in comes out, and no cell is a formula."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fillpath.analytics.cli import main
from fillpath.analytics.report_exports import csv_cell, csv_lines, inert_cell, restored_cell
from fillpath.analytics.shard_load import SHARD_TABLES

sys.path.append(str(Path(__file__).parent))

from recorded_market import HOSTILE, record_market

D = Decimal
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
BEGINNINGS = st.sampled_from(
    ["=", "+", "-", "@", "\t", "\r", "\n", " =", "'=", "''@", "", "\uff1d"]
)


@given(BEGINNINGS, TEXTS)
def test_no_text_begins_a_formula_and_every_text_comes_back(beginning: str, text: str) -> None:
    whole = beginning + text
    cell = inert_cell(whole)
    assert restored_cell(cell) == whole
    first = cell.lstrip()[:1]
    try:
        float(cell)
    except ValueError:
        assert first not in set("=+-@\uff1d\uff0b\uff0d\uff20")
        assert not cell.startswith(("\t", "\r", "\n"))


@pytest.mark.parametrize("number", ["-1", "+2.5", "-0.001", "1e-7", "-3E+5"])
def test_a_number_stays_a_number(number: str) -> None:
    assert inert_cell(number) == number
    assert csv_cell(D(number)) == f"{D(number):f}"


@pytest.mark.parametrize(
    "formula",
    ["=1+1", "-1+cmd|' /C calc'!A0", "+SUM(1)", "@SUM(A1)", "\t=1", "\r=1", "-1 000", "--1"],
)
def test_what_looks_like_a_number_and_is_none_is_made_inert(formula: str) -> None:
    assert inert_cell(formula) == f"'{formula}"


@given(
    st.lists(
        st.tuples(TEXTS | st.none(), st.decimals(allow_nan=False, allow_infinity=False)), max_size=6
    )
)
def test_lines_are_what_a_strict_reader_reads(rows: list[tuple[str | None, Decimal]]) -> None:
    text = "".join(csv_lines(["name", "amount"], rows))
    head, *read = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert head == ["name", "amount"]
    assert [(restored_cell(name), D(amount)) for name, amount in read] == [
        (name or "", amount) for name, amount in rows
    ]


def test_other_values_have_one_way_to_be_written() -> None:
    moment = dt.datetime(2024, 1, 2, 3, 4, 5, 6, dt.UTC)
    values: list[Any] = [None, "", True, 7, 0.1, D("1.50"), moment, {"a": [D("0.1")]}, 10**18]
    assert ",".join(map(csv_cell, values)) == (
        ',"",true,7,0.1,1.50,2024-01-02T03:04:05.000006+00:00,"{""a"": [""0.1""]}",'
        "1000000000000000000"
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports")
    record_market(folder, "run-1", trades=3, strategy="=HYPERLINK(1)", symbol=HOSTILE)
    return folder


def fillpath(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_run_goes_through_csv_and_json_unchanged(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = tmp_path / "csv", tmp_path / "run.json"
    report = ("--data", data, "report", "run-1", "--format")
    code, out, err = fillpath(capsys, *report, "csv", "-o", folder)
    assert (code, out.strip()) == (0, str(folder)), err
    assert fillpath(capsys, *report, "json", "-o", file)[0] == 0
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["format"] == 1
    assert document["run"]["run_id"] == "run-1"
    assert set(document["tables"]) == set(SHARD_TABLES)
    assert {one.stem for one in folder.iterdir()} == {"runs", *SHARD_TABLES}

    fills = document["tables"]["fills"]
    assert len(fills) == 6
    read = pd.read_csv(folder / "fills.csv", dtype=str, keep_default_na=False)
    assert [restored_cell(name) for name in read["strategy"]] == ["=HYPERLINK(1)"] * 6
    assert [restored_cell(name) for name in read["symbol"]] == [fill["symbol"] for fill in fills]
    assert list(map(D, read["price"])) == [D(fill["price"]) for fill in fills]

    path = str(folder / "pnl_slices.csv")
    query = "SELECT sum(amount::DECIMAL(38, 9)) FROM read_csv(?, all_varchar = true)"
    (total,) = duckdb.execute(query, [path]).fetchone() or (None,)
    assert total == sum(D(row["amount"]) for row in document["tables"]["pnl_slices"])
    assert document["sections"]["attribution"]["waterfalls"][0]["currency"] == "USD"

    for one in folder.iterdir():
        text = one.read_text(encoding="utf-8")
        rows = list(csv.reader(io.StringIO(one.read_bytes().decode(), newline=""), strict=True))
        assert len({len(row) for row in rows}) == 1, one
        assert text
        for row in rows[1:]:
            for cell in row:
                assert not cell.startswith(("=", "+", "@")), (one, cell)


def test_json_can_be_piped(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = fillpath(
        capsys, "--data", data, "report", "run-1", "--format", "json", "-o", "-"
    )
    assert code == 0
    assert json.loads(out)["run"]["run_id"] == "run-1"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--format", "csv", "--open"), 2),
        (("--format", "csv", "-o", "-"), 2),
        (("-o", "-"), 2),
        (("--format", "csv", "-o", __file__), 2),
        (("--format", "json", "-o", f"{__file__}/x"), 1),
        (("-o", str(Path(__file__).parent)), 1),
        (("--templates", "/nowhere/at/all"), 2),
        (("--format", "xlsx"), 2),
    ],
)
def test_what_makes_no_sense_is_said(
    data: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int
) -> None:
    done, out, err = fillpath(capsys, "--data", data, "report", "run-1", *words)
    assert done == code, err
    assert not out
    assert "Traceback" not in err
