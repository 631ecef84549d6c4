"""A run whose lake is sampled: the books are those of the whole run, and no cause is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics import cli, demo
from fillpath.analytics.ledger import compute_ledger
from fillpath.analytics.reconciliation import ReconciliationStatus
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.span_selection import SpanSelection
from fillpath.instrumentation.event_sampler import EventSampler

TRACED = Path(__file__).parents[1] / "examples" / "trace_home_made_bus.py"
START = "import sys; from fillpath.analytics.cli import main; sys.exit(main())"
ORPHANS = """
SELECT count(*) FROM spans AS child
WHERE child.parent_span_id IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM spans AS parent WHERE parent.span_id = child.parent_span_id)
"""


def environment(data: Path, lake_sampling: str) -> dict[str, str]:
    return {
        **os.environ,
        "FILLPATH_DATA": str(data),
        "FILLPATH_RUN_ID": "run",
        "FILLPATH_WRITER": "inline",
        "FILLPATH_LAKE_SAMPLING": lake_sampling,
    }


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EventStore]:
    """The home-made engine's run, kept as a whole and sampled."""
    made = {}
    for sampling in ("all", "policy"):
        data = tmp_path_factory.mktemp(sampling)
        done = subprocess.run(
            [sys.executable, str(TRACED)],
            env=environment(data, sampling),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        made[sampling] = EventStore(data)
    return made


def scalars(store: EventStore, query: str) -> tuple[Any, ...]:
    (row,) = list(store.query(query).rows)
    return row


def test_the_books_of_a_sampled_run_are_those_of_the_whole_run(
    stores: dict[str, EventStore],
) -> None:
    books = {}
    for sampling, store in stores.items():
        with store.connect() as connection:
            ledger = compute_ledger(connection, "run")
        # A lot is marked at the prices that were kept: in sum the same, on fewer days.
        books[sampling] = (
            [one for one in ledger.slices if one.kind != "unrealized"],
            ledger.total("unrealized"),
            ledger.trips,
            [(one.status, one.start, one.end, one.difference) for one in ledger.accounts],
        )
    assert len(books["all"][0]) > 10
    assert books["policy"] == books["all"]


def test_no_kept_event_lacks_an_ancestor(stores: dict[str, EventStore]) -> None:
    assert scalars(stores["policy"], ORPHANS) == (0,)


def test_less_is_kept_and_every_fill_is(stores: dict[str, EventStore]) -> None:
    query = "SELECT count(*), count(*) FILTER (WHERE name = 'publish FILL') FROM spans"
    rows = {name: scalars(store, query) for name, store in stores.items()}
    assert rows["policy"][0] < rows["all"][0]
    assert rows["policy"][1] == rows["all"][1] > 0
    (run,) = stores["policy"].run_records()
    assert run.published == run.kept + run.sampled_out
    assert run.sampled_out > 0
    assert cli.main(["completeness", "run", "--data", str(stores["policy"].folder.path)]) == 0


@pytest.mark.full
def test_the_demos_books_are_exact_when_its_lake_is_sampled(tmp_path: Path) -> None:
    for module in demo._NEEDED:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    documents = {}
    for sampling in ("all", "policy"):
        given = environment(tmp_path / sampling, sampling)
        del given["FILLPATH_RUN_ID"], given["FILLPATH_WRITER"]
        done = subprocess.run(
            [sys.executable, "-P", "-c", START, "demo", "--json"],
            env=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        documents[sampling] = json.loads(done.stdout)
    whole, sampled = documents["all"], documents["policy"]
    reconciled = {str(ReconciliationStatus.RECONCILED.value)}
    assert {account["status"] for account in sampled["accounts"]} == reconciled
    assert sampled["profit_and_loss"] == whole["profit_and_loss"]
    store = EventStore(tmp_path / "policy")
    assert scalars(store, ORPHANS) == (0,)
    (run,) = store.run_records()
    assert run.published == run.kept + run.sampled_out
    assert run.sampled_out > 1_000


def test_a_sampled_export_of_the_whole_lake_holds_what_the_sampled_lake_holds(
    stores: dict[str, EventStore],
) -> None:
    rows = stores["policy"].query("SELECT span_id FROM spans").rows
    selection = SpanSelection(stores["all"], "run", policy=EventSampler())
    assert selection.span_ids() == {span_id for (span_id,) in rows}
