"""The columns of the lake: what each means, and which attribute it comes from.

`SPAN_SCHEMA` and `RUN_SCHEMA` are the Arrow schemas of the tables `lake` and `runs`; every field
carries its meaning as metadata. `docs/lake-format.md` is written after this module.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from fillpath.instrumentation import span_parts
from fillpath.instrumentation.semconv import (
    Bar,
    Event,
    EventType,
    Fill,
    Order,
    Position,
    Resource,
    Signal,
    Tick,
    Trading,
)

SCHEMA_VERSION: Final = 2
"""Version of both schemas; a lake of another one is neither read nor written."""
SCHEMA_VERSION_KEY: Final = "fillpath.schemaVersion"
"""Key of the version in the tables' properties and in the files' metadata."""

DECIMAL_SCALE: Final = 18
"""Digits after the point that quantity, price and commission may have."""
DECIMAL_DIGITS: Final = 38
"""Digits that they may have in all; the view shows them as decimals of this many."""

FOREIGN_EVENT_TYPE: Final = span_parts.FOREIGN_EVENT_TYPE
"""Event type of an OpenTelemetry span that says of no event that it stands for it."""
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
PARENT_DROPPED: Final = "trading.event.parent_dropped"
"""Span id of a parent that was dropped while it was recorded; the span counts as a root then."""
SPAN_EVENTS: Final = span_parts.SPAN_EVENTS
"""Events that an OpenTelemetry span carried: a list of name, time and attributes."""
STATUS_CODE: Final = span_parts.STATUS_CODE
"""`OK` or `ERROR` on an OpenTelemetry span whose host set that."""
STATUS_DESCRIPTION: Final = span_parts.STATUS_DESCRIPTION
"""What the host said about it."""
SCOPE_VERSION: Final = span_parts.SCOPE_VERSION
"""Version of an OpenTelemetry span's instrumentation scope."""
DROPPED_BY_SDK: Final = "otel.dropped_counts"
"""What the OpenTelemetry SDK cut off by its limits: counts of attributes, events and links."""
LINK_ATTRIBUTES: Final = span_parts.LINK_ATTRIBUTES
"""Attributes of an OpenTelemetry span's links, in the order of the links."""
LINK_TRACE_STATES: Final = span_parts.LINK_TRACE_STATES
"""Their tracestates, in the same order."""
SCOPE_ATTRIBUTES: Final = span_parts.SCOPE_ATTRIBUTES
"""Attributes of an OpenTelemetry span's instrumentation scope."""
SCOPE_SCHEMA_URL: Final = span_parts.SCOPE_SCHEMA_URL
"""Schema that the spans of the scope follow, where it is not fillpath's own."""
RESOURCE_SCHEMA_URL: Final = span_parts.RESOURCE_SCHEMA_URL
"""Schema that the resource follows."""


def _field(name: str, kind: pa.DataType, meaning: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"comment": meaning})


VALUE_COLUMNS: Final = ("value_1", "value_2", "value_3", "value_4", "value_5")
"""Columns of numbers that have no column of their own."""
_ORDINALS: Final = ("First", "Second", "Third", "Fourth", "Fifth")
_LINK: Final = pa.struct([pa.field("trace_id", pa.binary()), pa.field("span_id", pa.binary())])
_METADATA: Final = {SCHEMA_VERSION_KEY: str(SCHEMA_VERSION)}

SPAN_SCHEMA: Final = pa.schema(
    [
        _field("run_id", pa.string(), "The run: one backtest or one live session.", nullable=False),
        _field("portfolio", pa.string(), "Portfolio namespace such as fund/desk/book."),
        _field("trace_id", pa.binary(), "Chain of events, 16 bytes.", nullable=False),
        _field("span_id", pa.binary(), "The event or handler run, 8 bytes.", nullable=False),
        _field(
            "parent_span_id",
            pa.binary(),
            "Its cause, 8 bytes; NULL at a root. At the root of a divided trace, in the trace that "
            "a link to it names.",
        ),
        _field(
            "sequence",
            pa.int64(),
            "Position in the run; orders events where times cannot. Larger than its parent's.",
            nullable=False,
        ),
        _field(
            "root_sequence",
            pa.int64(),
            "Position of its chain's first event; NULL for a span of an OpenTelemetry SDK.",
        ),
        _field("name", pa.string(), "Operation and event type: `publish ORDER`, `process BAR`."),
        _field("span_kind", pa.string(), "OpenTelemetry's kind: PRODUCER, CONSUMER, INTERNAL, …"),
        _field("event_type", pa.string(), "Kind of event; DELIVERY for a handler's run."),
        _field(
            "correlation_id",
            pa.string(),
            "The host's name of the chain; NULL: its trace id in hex.",
        ),
        _field("event_time", pa.int64(), "Simulated or exchange time, ns since the epoch."),
        _field(
            "event_timestamp", pa.timestamp("us", tz="UTC"), "event_time as a timestamp in µs, cut."
        ),
        _field("start_time", pa.int64(), "Wall clock at the beginning, ns since the epoch."),
        _field(
            "duration",
            pa.int64(),
            "From there to its end, ns, at least 1 for an event of ours; NULL if it did not end. "
            "Without a start, from the epoch.",
        ),
        _field("strategy", pa.string(), "The engine's id of the strategy."),
        _field("symbol", pa.string(), "Ticker or pair, without the venue."),
        _field("venue", pa.string(), "Venue, ISO 10383 or the engine's word."),
        _field("order_id", pa.string(), "The venue's id of the order."),
        _field("client_order_id", pa.string(), "The engine's id of the order."),
        _field("fill_id", pa.string(), "The venue's id of the execution."),
        _field("position_id", pa.string(), "The engine's id of the position."),
        _field("side", pa.string(), "BUY or SELL."),
        _field("order_type", pa.string(), "MARKET, LIMIT, STOP_MARKET, …"),
        _field("status", pa.string(), "State that the event brings the order to."),
        _field(
            "quantity",
            pa.float64(),
            "FILL: of this fill; ORDER, COMMAND: of the order; BAR: volume; TICK: of the trade.",
        ),
        _field(
            "price",
            pa.float64(),
            "FILL: of this fill; ORDER, COMMAND: limit, else trigger; BAR: close; TICK: trade.",
        ),
        _field("commission", pa.float64(), "FILL: of this fill; positive is a cost."),
        _field("currency", pa.string(), "FILL: currency of the price, ISO 4217."),
        _field("open", pa.float64(), "`trading.bar.open`: first price."),
        _field("high", pa.float64(), "`trading.bar.high`: highest price."),
        _field("low", pa.float64(), "`trading.bar.low`: lowest price."),
        _field("bid", pa.float64(), "`trading.tick.bid`: best bid price."),
        _field("ask", pa.float64(), "`trading.tick.ask`: best ask price."),
        _field("bid_size", pa.float64(), "`trading.tick.bid_size`: quantity at the best bid."),
        _field("ask_size", pa.float64(), "`trading.tick.ask_size`: quantity at the best ask."),
        _field("strength", pa.float64(), "`trading.signal.strength`: a signal's strength."),
        *(
            _field(name, pa.float64(), f"{which} other number of the span; `layout` says what.")
            for name, which in zip(VALUE_COLUMNS, _ORDINALS, strict=True)
        ),
        _field(
            "layout",
            pa.string(),
            "What each number column holds: a JSON array of [attribute, column, kind, scale].",
        ),
        _field(
            "exact_numbers",
            pa.string(),
            "Digits of numbers that a double does not carry: a JSON object by column.",
        ),
        _field(
            "decimal_scale",
            pa.int8(),
            "Digits after the point that quantity, price, commission need; NULL if all are NULL.",
        ),
        _field("handler", pa.string(), "Handler that ran, as Class.method."),
        _field("status_code", pa.string(), "ERROR if a handler raised, else NULL."),
        _field("status_message", pa.string(), "What it raised."),
        _field("links", pa.list_(_LINK), "Further causes, and the entry that an exit closes."),
        _field("attributes", pa.string(), "Every other attribute: a JSON object; or NULL."),
        _field("sampling_reason", pa.string(), "Why the span was kept: all, critical, ancestor, …"),
        _field("sampling_probability", pa.float64(), "Probability of that, in (0, 1]."),
        _field("service_name", pa.string(), "Recorded program and, behind a /, the portfolio."),
        _field("host_name", pa.string(), "Machine that recorded it."),
        _field("scope_name", pa.string(), "Instrumentation scope."),
        _field("trace_state", pa.string(), "W3C tracestate of a span from an OpenTelemetry SDK."),
        _field(
            "resource_attributes",
            pa.string(),
            "Other resource attributes of a span from an OpenTelemetry SDK: a JSON object.",
        ),
    ],
    metadata=_METADATA,
)
"""One row a span."""

RUN_SCHEMA: Final = pa.schema(
    [
        _field("run_id", pa.string(), "The run.", nullable=False),
        _field(
            "updated_at",
            pa.int64(),
            "When this row was written, ns; a run's newest row holds.",
            nullable=False,
        ),
        _field("status", pa.string(), "Running, Ended or Crashed.", nullable=False),
        _field("mode", pa.string(), "backtest or live."),
        _field("source", pa.string(), "spool, otel (an OpenTelemetry SDK) or import (files)."),
        _field("service_name", pa.string(), "Recorded program."),
        _field("engine", pa.string(), "Engine that was traced."),
        _field("engine_version", pa.string(), "Its version."),
        _field("started_at", pa.int64(), "Wall clock at the start, ns since the epoch."),
        _field("ended_at", pa.int64(), "Wall clock at the end, ns; NULL while running."),
        _field("error", pa.string(), "Why the run crashed, or what is wrong with its spool."),
        _field("parameters", pa.string(), "What the run was started with: a JSON object."),
        _field("metadata", pa.string(), "Further facts of the recording: a JSON object."),
        _field("published", pa.int64(), "Events that the host published."),
        _field("kept", pa.int64(), "Of these, in the lake."),
        _field("sampled_out", pa.int64(), "Of these, left out by the sampling policy."),
        _field("dropped", pa.int64(), "Of these, lost, for a reason that is counted."),
        _field(
            "completeness",
            pa.string(),
            "The four counts per portfolio and event type, drops by reason: a JSON array.",
        ),
        _field("spool_block", pa.int64(), "Last block of the spool that is in the lake."),
        _field("host_name", pa.string(), "Machine that recorded the run."),
        _field("pid", pa.int64(), "Process that recorded the run."),
    ],
    metadata=_METADATA,
)
"""One row each time something about a run becomes known; the newest of a run holds."""

TEXT_COLUMNS: Final[dict[str, str]] = {
    Event.TYPE: "event_type",
    Event.CORRELATION_ID: "correlation_id",
    Event.HANDLER: "handler",
    Resource.PORTFOLIO: "portfolio",
    Trading.STRATEGY: "strategy",
    Trading.SYMBOL: "symbol",
    Trading.VENUE: "venue",
    Order.ID: "order_id",
    Order.CLIENT_ID: "client_order_id",
    Order.SIDE: "side",
    Order.TYPE: "order_type",
    Order.STATUS: "status",
    Fill.ID: "fill_id",
    Position.ID: "position_id",
}
"""Attributes that are a text column, on any event."""

TEXT_ATTRIBUTES: Final = (
    *((column, key) for key, column in TEXT_COLUMNS.items()),
    ("currency", Fill.CURRENCY),
)
"""Text columns and the attribute that each is on a span for OpenTelemetry."""

ORIGIN_PARTS: Final = frozenset(
    {SCOPE_VERSION, SCOPE_ATTRIBUTES, SCOPE_SCHEMA_URL, RESOURCE_SCHEMA_URL}
)
"""Attributes of the lake that for OpenTelemetry are parts of a span's scope or resource."""

SPAN_PARTS: Final = ORIGIN_PARTS | {
    SPAN_EVENTS,
    LINK_ATTRIBUTES,
    LINK_TRACE_STATES,
    STATUS_CODE,
    STATUS_DESCRIPTION,
    DROPPED_BY_SDK,
}
"""Attributes of the lake that are other parts of a span for OpenTelemetry."""

_ORDER_NUMBERS: Final = {"quantity": (Order.QUANTITY,), "price": (Order.PRICE, Order.TRIGGER_PRICE)}
NUMBER_COLUMNS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    EventType.FILL: {
        "quantity": (Fill.QUANTITY,),
        "price": (Fill.PRICE,),
        "commission": (Fill.COMMISSION,),
    },
    EventType.ORDER: _ORDER_NUMBERS,
    EventType.COMMAND: _ORDER_NUMBERS,
    EventType.BAR: {"quantity": (Bar.VOLUME,), "price": (Bar.CLOSE,)},
    EventType.TICK: {"quantity": (Tick.SIZE,), "price": (Tick.PRICE,)},
}
"""Attributes that are a number column, by event type; of several the first that is there."""

OWN_NUMBER_COLUMNS: Final[dict[str, str]] = {
    Bar.OPEN: "open",
    Bar.HIGH: "high",
    Bar.LOW: "low",
    Tick.BID: "bid",
    Tick.ASK: "ask",
    Tick.BID_SIZE: "bid_size",
    Tick.ASK_SIZE: "ask_size",
    Signal.STRENGTH: "strength",
}
"""Attributes that are a number column, on any event."""

NUMBER_NAMES: Final = (
    "quantity",
    "price",
    "commission",
    *OWN_NUMBER_COLUMNS.values(),
    *VALUE_COLUMNS,
)
"""All number columns, in the order of the schema."""

REPEATED_ATTRIBUTES: Final = frozenset(
    {Bar.CLOSE, Bar.VOLUME, Tick.PRICE, Tick.SIZE, Order.TRIGGER_PRICE}
)
"""Attributes that the view shows among the attributes although a column of its own shows them.

A bar's and a tick's prices are wanted together, and a trigger price in the price column could be
taken for a limit price.
"""
