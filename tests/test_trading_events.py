"""Trading events in memory: the view of the lake stays what it is."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from pathlib import Path

import pytest

from fillpath.analytics.garbage_collection import without_cycle_search
from fillpath.analytics.trading_events import keep_trading_events
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from random_trading import record_random_trading


def test_the_view_shows_the_same_spans_as_before(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for run_id in ("one", "two"):
        record_random_trading(data, run_id, 3, steps=40)
    with EventStore(DataFolder(data)).connect(further_views=()) as connection:
        everything = "SELECT * FROM spans"
        before = connection.execute(everything).fetchall()
        names = [column[0] for column in connection.description or ()]
        for _ in range(2):
            keep_trading_events(connection, "one")
            after = connection.execute(everything)
            assert [column[0] for column in after.description or ()] == names
            assert Counter(map(str, after.fetchall())) == Counter(map(str, before))
        kept = connection.execute("SELECT DISTINCT run_id FROM trading_events").fetchall()
        assert kept == [("one",)]
        wanted = connection.execute(
            "SELECT count(*) FROM spans WHERE run_id = 'one' AND event_type = 'FILL'"
        ).fetchone()
        assert wanted is not None
        assert wanted[0] > 0


def test_the_search_for_cycles_goes_on_afterwards() -> None:
    def fail() -> None:
        with without_cycle_search():
            assert not gc.isenabled()
            raise ValueError

    assert gc.isenabled()
    with pytest.raises(ValueError):  # noqa: PT011 - it has no message
        fail()
    assert gc.isenabled()
