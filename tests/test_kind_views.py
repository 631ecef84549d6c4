"""Views of single kinds of events: exact, typed, and behind the same guard as everything else."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from duckdb import DuckDBPyConnection

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.further_views import FURTHER_VIEWS, further_views_in
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.errors import FillpathError, UsageError
from fillpath.instrumentation.semconv import (
    Account,
    Bar,
    Event,
    EventType,
    Order,
    Position,
    Signal,
    Tick,
)

sys.path.append(str(Path(__file__).parent))

from recorded_market import Market

CHECKOUT = Path(__file__).parent.parent
LONG = Decimal("1234567.123456789012345678")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EventStore:
    data = tmp_path_factory.mktemp("kinds")
    with Tracing("kinds", data=data, portfolio="fund", writer="inline") as tracing:
        market = Market(tracing)
        market.trade()
        market.deny(market.bar("98"), "too much")
        tracer = tracing.tracer
        for kind, attributes in (
            (EventType.BAR, {Bar.OPEN: "1.10", Bar.HIGH: LONG, Bar.LOW: 0.1, Bar.CLOSE: 7}),
            (EventType.BAR, {Bar.OPEN: math.nan, Bar.CLOSE: "n/a", Bar.TYPE: "1-DAY"}),
            (EventType.TICK, {Tick.BID: Decimal("1.0851"), Tick.ASK: 1.0852, Tick.BID_SIZE: 3}),
            (EventType.TICK, {Tick.PRICE: "9.5", Tick.SIZE: Decimal("0.001")}),
            (EventType.SIGNAL, {Signal.NAME: "a", Signal.VALUE: -2.5, Signal.STRENGTH: 0.25}),
            (EventType.SIGNAL, {Signal.VALUE: "flat"}),
            (EventType.PORTFOLIO, {Account.ID: "A", Account.BALANCES: [
                {"currency": "USD", "total": "12.34", "free": "2", "locked": "10.34"},
                {"currency": "JPY", "total": "1000000", "free": "1000000", "locked": "0"},
            ]}),
            (EventType.PORTFOLIO, {Account.ID: "B", Account.BALANCES: "none"}),
        ):  # fmt: skip
            tracer.close(tracer.open(kind, attributes=attributes, event_time=5))
        market.finish()
    return EventStore(data)


@pytest.fixture(scope="module")
def lake(store: EventStore) -> Iterator[DuckDBPyConnection]:
    with store.connect() as connection:
        yield connection


def rows(lake: DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return lake.execute(sql).fetchall()


def test_bars_and_ticks_have_exact_prices(lake: DuckDBPyConnection) -> None:
    assert rows(lake, "SELECT open, high, low, close, volume, bar_type FROM bars "
                      "WHERE portfolio = 'fund' ORDER BY sequence") == [
        (Decimal("1.10"), LONG, Decimal("0.1"), Decimal(7), None, None),
        (None, None, None, None, None, "1-DAY"),
    ]  # fmt: skip
    assert rows(lake, "SELECT bid, ask, bid_size, price, size FROM ticks ORDER BY sequence") == [
        (Decimal("1.0851"), Decimal("1.0852"), Decimal(3), None, None),
        (None, None, None, Decimal("9.5"), Decimal("0.001")),
    ]


def test_signals_show_what_was_said_and_the_number_if_it_is_one(lake: DuckDBPyConnection) -> None:
    assert rows(lake, "SELECT signal, value, number, strength FROM signals "
                      "WHERE portfolio = 'fund' ORDER BY sequence") == [
        ("a", "-2.5", Decimal("-2.5"), 0.25),
        (None, "flat", None, None),
    ]  # fmt: skip


def test_orders_fills_and_positions_tell_a_trade(lake: DuckDBPyConnection) -> None:
    assert rows(
        lake, "SELECT status FROM orders WHERE client_order_id = 'O-1' ORDER BY sequence"
    ) == [("INITIALIZED",), ("SUBMITTED",)]
    assert rows(lake, "SELECT reject_reason, price FROM orders WHERE status = 'DENIED'") == [
        ("too much", Decimal("99.5"))
    ]
    assert rows(lake, "SELECT command FROM commands ORDER BY sequence LIMIT 1") == [
        ("SubmitOrder",)
    ]
    assert rows(lake, "SELECT fill_id, side, quantity, price, commission, commission_currency, "
                      "multiplier FROM fills ORDER BY sequence") == [
        ("F-1", "BUY", 10, Decimal("100.5"), Decimal("1.25"), "USD", 1),
        ("F-2", "SELL", 10, Decimal("99.25"), Decimal("1.25"), "USD", 1),
    ]  # fmt: skip
    assert rows(lake, "SELECT change, side, quantity, realized_pnl, currency FROM positions "
                      "ORDER BY sequence") == [
        ("POSITION_OPEN", "LONG", 10, None, "USD"),
        ("POSITION_CLOSE", "FLAT", 0, Decimal("-12.5"), "USD"),
    ]  # fmt: skip


def test_an_account_has_a_row_for_each_currency(lake: DuckDBPyConnection) -> None:
    assert rows(lake, "SELECT account_id, currency, total, free, locked FROM accounts "
                      "WHERE account_id < 'C' ORDER BY ALL") == [
        ("A", "JPY", 1_000_000, 1_000_000, 0),
        ("A", "USD", Decimal("12.34"), 2, Decimal("10.34")),
        ("B", None, None, None, None),
    ]  # fmt: skip


def test_views_hold_every_event_of_their_kind_once(lake: DuckDBPyConnection) -> None:
    for view, kinds in (
        ("bars", ["BAR"]),
        ("ticks", ["TICK"]),
        ("signals", ["SIGNAL"]),
        ("commands", ["COMMAND"]),
        ("orders", ["ORDER"]),
        ("fills", ["FILL"]),
        ("positions", ["POSITION_OPEN", "POSITION_CHANGE", "POSITION_CLOSE"]),
        ("accounts", ["PORTFOLIO"]),
    ):
        expected = lake.execute(
            "SELECT run_id, trace_id, span_id, parent_span_id, event_time FROM spans "
            "WHERE event_type IN (SELECT unnest(?)) ORDER BY span_id",
            [kinds],
        ).fetchall()
        found = rows(
            lake,
            "SELECT DISTINCT run_id, trace_id, span_id, parent_span_id, event_time "
            f"FROM {view} ORDER BY span_id",
        )
        assert found == expected
        assert expected
    count = rows(lake, 'SELECT count(*), count(DISTINCT "SpanId") FROM otel_traces')
    assert count == [(rows(lake, "SELECT count(*) FROM spans")[0][0],) * 2]


def test_a_query_gets_the_views_that_it_names(store: EventStore) -> None:
    for name in FURTHER_VIEWS:
        source = f"{name}('x')" if name == "chain" else name.upper()
        assert list(store.query(f"SELECT count(*) FROM {source}").rows)
        assert further_views_in(f'SELECT * FROM "{name}"') == [name]
    assert further_views_in("SELECT * FROM spans") == []


@pytest.mark.parametrize(
    "sql",
    [
        "DROP VIEW bars",
        "CREATE VIEW mine AS FROM bars",
        "INSERT INTO fills SELECT * FROM fills",
        "COPY (FROM bars) TO '/tmp/never.csv'",
        "SET VARIABLE chain_files = NULL",
        "CREATE OR REPLACE MACRO chain(id) AS TABLE SELECT 1",
        "WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x",
    ],
)
def test_the_views_can_only_be_read(store: EventStore, sql: str) -> None:
    with pytest.raises(FillpathError):
        store.query(sql)


def test_no_view_opens_another_file(store: EventStore) -> None:
    for sql in ("SELECT * FROM chain('x'), read_csv('/etc/passwd')", "FROM '/etc/passwd', bars"):
        with pytest.raises((FillpathError, UsageError)):
            list(store.query(sql).rows)


def test_the_views_exist_over_an_empty_lake(tmp_path: Path) -> None:
    with EventStore(tmp_path).connect() as connection:
        for name in FURTHER_VIEWS:
            source = f"{name}('{'f' * 32}')" if name == "chain" else name
            assert connection.execute(f"SELECT * FROM {source}").fetchall() == []


def test_the_queries_of_the_page_run(store: EventStore) -> None:
    page = (CHECKOUT / "docs" / "finding.md").read_text("utf-8")
    blocks = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    queries = [query for block in blocks for query in block.split(";") if query.strip()]
    assert len(queries) >= 3
    for query in queries:
        list(store.query(query).rows)
    for name in FURTHER_VIEWS:
        assert f"`{name}" in page


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (bytearray(b"ab"), None),
        (b"12", None),
        (True, None),
        (False, None),
        (Decimal("1E+400"), None),
        (math.inf, None),
        (Decimal("1.50"), Decimal("1.5")),
        ("190.50", Decimal("190.5")),
        (7, Decimal(7)),
        (0.1, Decimal("0.1")),
        (LONG, LONG),
    ],
    ids=str,
)
def test_only_numbers_and_numerals_are_shown_as_numbers(
    tmp_path: Path, value: Any, number: Decimal | None
) -> None:
    keys = {
        "bars": (EventType.BAR, {"open": Bar.OPEN, "close": Bar.CLOSE, "volume": Bar.VOLUME}),
        "ticks": (EventType.TICK, {"bid": Tick.BID, "ask_size": Tick.ASK_SIZE, "size": Tick.SIZE}),
        "signals": (EventType.SIGNAL, {"number": Signal.VALUE, "strength": Signal.STRENGTH}),
        "positions": (EventType.POSITION_OPEN, {"quantity": Position.QUANTITY}),
        "commands": (EventType.COMMAND, {"trigger_price": Order.TRIGGER_PRICE}),
    }
    with Tracing("odd", data=tmp_path, writer="inline") as tracing:
        for kind, columns in keys.values():
            given = dict.fromkeys(columns.values(), value)
            tracing.tracer.close(tracing.tracer.open(kind, attributes=given))
            tracing.tracer.emitter(kind, fields=list(given))(5, None, *given.values())
            tracing.tracer.emitter(kind, names=list(given))(5, None, *given.values())
            tracing.tracer.emitter(kind, texts=given)(5)
    with EventStore(tmp_path).connect() as lake:
        for view, (_, columns) in keys.items():
            found = rows(lake, f"SELECT {', '.join(columns)} FROM {view} ORDER BY sequence")
            assert found == [(number,) * len(columns)] * 4, view
        (shown,) = rows(lake, "SELECT DISTINCT typeof(strength) FROM signals")
        assert shown == ("DECIMAL(38,18)",)


def test_bytes_of_a_place_and_of_its_event_are_named_together(tmp_path: Path) -> None:
    with Tracing("odd", data=tmp_path, writer="inline") as tracing:
        emitter = tracing.tracer.emitter(
            EventType.BAR, texts={Bar.OPEN: b"1"}, names=["other", Bar.LOW]
        )
        emitter(5, None, object(), b"2")
    with EventStore(tmp_path).connect() as lake:
        assert rows(lake, "SELECT open, low FROM bars") == [(None, None)]
        ((text,),) = rows(lake, "SELECT attributes FROM spans")
    assert text.count(Event.REPLACED) == 1
    assert set(json.loads(text)[Event.REPLACED]) == {"other", Bar.OPEN, Bar.LOW}
