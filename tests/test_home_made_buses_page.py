"""What the page about home-made buses says is true: its examples run and leave what it shows."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from fillpath.analytics.cli import app
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.bus_shapes import USUAL
from fillpath.instrumentation.host_fields import PARTS, EventFields
from fillpath.instrumentation.settings import DataFolder

PAGE = (Path(__file__).parents[1] / "docs" / "home-made-buses.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ONE_LINE, LOOP, BUS, FIELDS, OBSERVER, HEAP = range(6)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A lake with a run of each example, of the name `example-0` and so on."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILLPATH_DATA", str(folder))
        patch.setenv("FILLPATH_WRITER", "inline")
        for number, example in enumerate(EXAMPLES):
            patch.setenv("FILLPATH_RUN_ID", f"example-{number}")
            module = ModuleType(f"example_{number}")  # dataclasses look their module up
            patch.setitem(sys.modules, module.__name__, module)
            exec(compile(example, "home-made-buses.md", "exec"), vars(module))  # noqa: S102 - our own page
        yield folder


def spans(data: Path, number: int) -> list[dict[str, Any]]:
    with EventStore(DataFolder(data)).connect([f"example-{number}"]) as connection:
        found = connection.sql("select * from spans order by sequence")
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def test_the_tree_of_the_loop_is_the_one_that_the_page_shows(data: Path) -> None:
    (tree,) = re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    command = ["trace", "show", "latest", "--run", f"example-{LOOP}", "--data", str(data)]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output

    def told(text: str) -> list[str]:
        return [re.sub(r"\+[\d.]+ \S+", "", line).strip(" │└─├") for line in text.splitlines()]

    chain = told(shown.stdout)
    assert chain[chain.index(told(tree)[0]) :][: len(told(tree))] == told(tree)


def test_the_bus_has_a_signal_below_its_bar(data: Path) -> None:
    assert [row["name"] for row in spans(data, BUS)] == [
        "publish BAR",
        "process BAR",
        "publish SIGNAL",
    ]


def test_the_fields_of_a_strange_event_are_understood(data: Path) -> None:
    (row,) = spans(data, FIELDS)
    assert (row["event_type"], row["strategy"], row["symbol"]) == ("FILL", "trend", "AAPL")
    assert (row["side"], row["price"], row["quantity"]) == ("BUY", Decimal("190.50"), 100)
    assert row["event_time"] == 1_704_186_000 * 10**9


def test_the_observer_adds_the_failure(data: Path) -> None:
    rows = spans(data, OBSERVER)
    names = [(row["name"], row["status_code"]) for row in rows]
    assert [name for name, _ in names] == [
        "publish BAR", "process BAR", "publish FILL", "process FILL",
    ]  # fmt: skip
    assert [row["handler"] for row in rows if row["status_code"] == "ERROR"] == ["fails"]


def test_the_heap_has_a_signal_below_its_bar(data: Path) -> None:
    rows = spans(data, HEAP)
    assert [row["name"] for row in rows] == ["publish BAR", "process BAR", "publish SIGNAL"]
    assert rows[2]["parent_span_id"] == rows[1]["span_id"]


def test_the_tables_name_what_there_is() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE, re.MULTILINE)
    told = {part: re.findall(r"`(\w+)`", names.partition(";")[0]) for part, names in rows}
    fields = EventFields()
    for part in PARTS:
        names = getattr(fields, part)
        assert told[part] == list((names,) if isinstance(names, str) else names), part
    known = set(re.findall(r"`(\w+)`", PAGE[PAGE.index("the bus publishes with") :]))
    assert {name for shape in USUAL for name in (*shape.publish, *shape.receive)} <= known
