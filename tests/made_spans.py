"""Spans made by hand, in an in-memory DuckDB with the view that the lake has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa

from fillpath.analytics.ledger import Ledger, compute_ledger
from fillpath.instrumentation.semconv import Account, Bar, EventType, Fill, Position, Tick

RUN = "made"
SECOND = 1_000_000_000
_TEXT = [
    "run_id",
    "portfolio",
    "trace_id",
    "span_id",
    "parent_span_id",
    "name",
    "span_kind",
    "event_type",
    "correlation_id",
    "strategy",
    "symbol",
    "venue",
    "order_id",
    "client_order_id",
    "fill_id",
    "position_id",
    "side",
    "order_type",
    "status",
    "currency",
    "handler",
]
_INTEGERS = ["sequence", "event_time", "start_time", "end_time"]
_OF_A_BAR = {"high": Bar.HIGH, "low": Bar.LOW}
_OF_A_TICK = {"bid": Tick.BID, "ask": Tick.ASK}
_NUMBERS = ["quantity", "price", "commission"]
_RUN_TEXT = ("service_name", "engine", "engine_version", "parameters", "completeness")
_RUN_NUMBERS = ("started_at", "ended_at", "published", "kept", "sampled_out", "dropped")
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in (*_TEXT, *_NUMBERS, "links", "attributes")),
        *((name, pa.int64()) for name in _INTEGERS),
    ]
)


@dataclass
class MadeSpans:
    """Publishes events into a list, as an engine would into a lake.

    Args:
        portfolio: Namespace of everything.
        account_id: The account that fills name.
    """

    portfolio: str = "fund/book"
    account_id: str | None = "SIM-001"
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self, event_type: str, attributes: Mapping[str, Any] | None = None, **columns: Any
    ) -> dict[str, Any]:
        """Publish any event."""
        sequence = len(self.rows) + 1
        row = {
            "run_id": RUN,
            "portfolio": self.portfolio,
            "trace_id": f"{sequence:032x}",
            "span_id": f"{sequence:016x}",
            "name": f"publish {event_type}",
            "span_kind": "PRODUCER",
            "event_type": event_type,
            "sequence": sequence,
            "event_time": sequence * SECOND,
            "attributes": {k: v for k, v in (attributes or {}).items() if v is not None},
            **columns,
        }
        self.rows.append(row)
        return row

    def fill(
        self,
        side: str,
        quantity: object,
        price: object,
        *,
        commission: object = "0",
        commission_currency: str = "USD",
        currency: str = "USD",
        attributes: Mapping[str, Any] | None = None,
        **columns: Any,
    ) -> dict[str, Any]:
        """Publish a fill."""
        given = {
            "strategy": "Trend-1",
            "symbol": "ACME",
            "venue": "SIM",
            "position_id": "ACME-1",
            "fill_id": f"F-{len(self.rows) + 1}",
            **columns,
        }
        keys = {
            Fill.COMMISSION_CURRENCY: commission_currency,
            Account.ID: self.account_id,
            **(attributes or {}),
        }
        return self.add(
            EventType.FILL,
            keys,
            side=side,
            quantity=str(quantity),
            price=str(price),
            commission=str(commission),
            currency=currency,
            **given,
        )

    def account(
        self,
        kind: str | None = "MARGIN",
        base: str | None = None,
        *,
        account_id: str = "SIM-001",
        **totals: object,
    ) -> dict[str, Any]:
        """Publish an account's state: its totals by currency."""
        balances = [{"currency": c, "total": str(total)} for c, total in totals.items()]
        keys = {
            Account.ID: account_id,
            Account.TYPE: kind,
            Account.BASE_CURRENCY: base,
            Account.BALANCES: balances,
        }
        return self.add(EventType.PORTFOLIO, keys)

    def position(
        self,
        event_type: str,
        quantity: object,
        realized: object,
        *,
        position_id: str = "ACME-1",
        symbol: str = "ACME",
        currency: str = "USD",
    ) -> dict[str, Any]:
        """Publish a position's state: its signed quantity, and its profit so far."""
        size = Decimal(str(quantity))
        keys = {
            Position.SIDE: "LONG" if size > 0 else "SHORT" if size < 0 else "FLAT",
            Position.QUANTITY: str(abs(size)),
            Position.REALIZED_PNL: str(realized),
            Position.CURRENCY: currency,
        }
        return self.add(event_type, keys, position_id=position_id, symbol=symbol)

    def bar(self, close: object, symbol: str = "ACME", venue: str | None = "SIM") -> None:
        """Publish a bar."""
        self.add(EventType.BAR, price=str(close), symbol=symbol, venue=venue)

    def quote(self, bid: object, ask: object, symbol: str = "ACME", venue: str = "SIM") -> None:
        """Publish a quote."""
        keys = {Tick.BID: str(bid), Tick.ASK: str(ask)}
        self.add(EventType.TICK, keys, symbol=symbol, venue=venue)

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Open a connection with the view `spans` over what was published."""
        rows = [
            {**row, "links": "[]", "attributes": json.dumps(row["attributes"])} for row in self.rows
        ]
        connection = duckdb.connect()
        connection.register("raw", pa.Table.from_pylist(rows, _SCHEMA))
        numbers = ", ".join(f"CAST({name} AS DECIMAL(38, 18)) AS {name}" for name in _NUMBERS)
        json_ = ", ".join(f"CAST({name} AS JSON) AS {name}" for name in ("links", "attributes"))
        connection.execute(f"CREATE VIEW spans AS SELECT * REPLACE ({numbers}, {json_}) FROM raw")
        prices = ", ".join(
            f"CAST(attributes ->> '$.\"{key}\"' AS DOUBLE) AS {name}"
            for name, key in (("bid", Tick.BID), ("ask", Tick.ASK))
        )
        connection.execute(
            "CREATE VIEW raw_spans AS "
            f"SELECT *, {prices}, CAST(NULL AS VARCHAR) AS sampling_reason FROM spans"
        )
        connection.execute(
            f"CREATE VIEW runs AS SELECT '{RUN}' AS run_id, 'backtest' AS mode, 'Ended' AS status, "
            + "".join(f"CAST(NULL AS VARCHAR) AS {name}, " for name in _RUN_TEXT)
            + ", ".join(f"CAST(NULL AS BIGINT) AS {name}" for name in _RUN_NUMBERS)
        )
        connection.execute(
            "CREATE VIEW trace_divisions AS "
            "SELECT run_id, trace_id, trace_id AS cause_trace_id FROM spans WHERE false"
        )
        for name, kind, keys in (("bars", "BAR", _OF_A_BAR), ("ticks", "TICK", _OF_A_TICK)):
            told = ", ".join(
                f"CAST(attributes ->> '$.\"{key}\"' AS DECIMAL(38, 18)) AS {column}"
                for column, key in keys.items()
            )
            connection.execute(
                f"CREATE VIEW {name} AS SELECT run_id, portfolio, symbol, venue, sequence, "
                f"event_time, price, price AS close, NULL AS bar_type, {told} FROM spans "
                f"WHERE event_type = '{kind}'"
            )
        return connection

    def ledger(self) -> Ledger:
        """Reckon what was published."""
        with self.connect() as connection:
            return compute_ledger(connection, RUN)
