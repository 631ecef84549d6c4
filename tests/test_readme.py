"""What the front page says is true: its example runs, its commands and pages exist."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Code blocks of the front page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def rows_of_example(number: int, folder: Path) -> list[dict[str, Any]]:
    """Run one of the Python examples, and give the spans that it leaves."""
    script = folder / "example.py"
    script.write_text(blocks("python")[number], encoding="utf-8")
    subprocess.run([sys.executable, str(script)], check=True)
    query = "select name, portfolio, symbol, parent_span_id, price from spans order by sequence"
    shown = subprocess.run(
        [sys.executable, "-m", "fillpath.analytics.cli", "sql", "--json", query],
        check=True,
        capture_output=True,
        text=True,
    )
    rows: list[dict[str, Any]] = json.loads(shown.stdout)
    return rows


@pytest.mark.smoke
def test_the_ten_lines_trace_a_bus(tmp_path: Path) -> None:
    rows = rows_of_example(0, tmp_path)
    assert [row["name"] for row in rows] == ["publish BAR", "process BAR", "publish SIGNAL"]
    assert {row["portfolio"] for row in rows} == {"fund/desk/book"}
    assert {row["symbol"] for row in rows if row["name"] != "process BAR"} == {"AAPL"}
    assert [row["parent_span_id"] is None for row in rows] == [True, False, False]


def test_the_fast_door_records_cause_and_numbers(tmp_path: Path) -> None:
    rows = rows_of_example(1, tmp_path)
    assert [row["name"] for row in rows] == ["publish BAR", "publish SIGNAL"]
    assert [row["parent_span_id"] is None for row in rows] == [True, False]
    assert float(rows[0]["price"]) == 190.5


def test_every_command_of_the_front_page_exists() -> None:
    targets = re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets == ["demo", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    for command in re.findall(r"^fillpath (\w+)", "\n".join(blocks("sh")), re.MULTILINE):
        done = subprocess.run(
            [sys.executable, "-m", "fillpath.analytics.cli", command, "--help"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, command


def test_every_page_the_front_page_names_exists() -> None:
    named = set(re.findall(r"\]\(([^)#:]+)\)", README)) | set(
        re.findall(r"`((?:docs|examples)/[\w./-]+)`", README)
    )
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", ["finding", "latency", "opentelemetry", "sampling"])
def test_the_python_of_a_page_compiles_and_imports_what_is_there(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    for example in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        tree = ast.parse(example)
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert imports, example
        exec(compile(ast.Module([*imports], []), page, "exec"), {})  # noqa: S102 - our own page
