"""Semantic conventions: every attribute key, event type and span name, spelt once.

Keys follow OpenTelemetry's naming; values follow FIX and ISO terms (`BUY`/`SELL`, ISO 4217
currencies, ISO 10383 venue codes). `docs/semantic-conventions.md` is generated from this module.
"""

from __future__ import annotations

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.37.0"
"""Schema URL of OpenTelemetry's conventions that the `service.*` and `messaging.*` keys follow."""
SCOPE_NAME: Final = "fillpath"
"""Name of the instrumentation scope of every span."""
DEFAULT_PORTFOLIO: Final = "default"
"""Portfolio namespace of events for which nobody names one."""


class Resource:
    """Attributes of the process and of the portfolio an event belongs to."""

    SERVICE_NAME: Final = "service.name"
    """Program and portfolio, `PROGRAM/fund/desk/book`; for `default`, the program alone."""
    SERVICE_NAMESPACE: Final = "service.namespace"
    """Always `fillpath`, so that a backend can group the services of one desk."""
    SERVICE_INSTANCE_ID: Final = "service.instance.id"
    """The run's id."""
    HOST_NAME: Final = "host.name"
    """Machine that recorded the run."""
    RUN_ID: Final = "trading.run.id"
    """One backtest or one live session."""
    RUN_MODE: Final = "trading.run.mode"
    """`backtest` or `live`."""
    PORTFOLIO: Final = "trading.portfolio.namespace"
    """Hierarchical name such as `fund/desk/book`; repeated on every span."""


class Event:
    """Attributes that any event has."""

    TYPE: Final = "trading.event.type"
    """Kind of event, one of `EventType` or a host's own word."""
    ID: Final = "trading.event.id"
    """The host's own name of the event, when it has a lasting one; else the span id."""
    SEQUENCE: Final = "trading.event.sequence"
    """Position in the run, from 1; the only order that is always right."""
    TIME: Final = "trading.event.time_unix_nano"
    """Simulated (or exchange) time, nanoseconds since the epoch."""
    CAUSATION_ID: Final = "trading.event.causation_id"
    """The host's own id of the causing event, when it gave one."""
    CORRELATION_ID: Final = "messaging.message.conversation_id"
    """Name of the chain: all events with one root cause."""
    HANDLER: Final = "trading.handler.name"
    """Handler that ran, as `Class.method`."""
    REPLACED: Final = "trading.event.replaced_fields"
    """Keys whose value could not be carried and was replaced by its printed form."""
    UNFINISHED: Final = "trading.event.unfinished"
    """True when the recording ended before the event did."""


class Trading:
    """Who traded, what, and where."""

    STRATEGY: Final = "trading.strategy.id"
    """The engine's id of the strategy."""
    SYMBOL: Final = "trading.instrument.symbol"
    """Ticker or pair, without the venue."""
    VENUE: Final = "trading.venue.mic"
    """Venue: its ISO 10383 code, or the engine's own word where there is none."""


class Bar:
    """Prices of one interval; exact digits."""

    TYPE: Final = "trading.bar.type"
    """The engine's description of the interval."""
    OPEN: Final = "trading.bar.open"
    """First price."""
    HIGH: Final = "trading.bar.high"
    """Highest price."""
    LOW: Final = "trading.bar.low"
    """Lowest price."""
    CLOSE: Final = "trading.bar.close"
    """Last price; also the span's price column."""
    VOLUME: Final = "trading.bar.volume"
    """Traded quantity."""


class Tick:
    """One quote or one trade; exact digits."""

    BID: Final = "trading.tick.bid"
    """Best bid price."""
    ASK: Final = "trading.tick.ask"
    """Best ask price."""
    BID_SIZE: Final = "trading.tick.bid_size"
    """Quantity at the best bid."""
    ASK_SIZE: Final = "trading.tick.ask_size"
    """Quantity at the best ask."""
    PRICE: Final = "trading.tick.price"
    """Price of a trade; also the span's price column."""
    SIZE: Final = "trading.tick.size"
    """Quantity of a trade; also the span's quantity column."""


class Signal:
    """A strategy's opinion."""

    NAME: Final = "trading.signal.name"
    """What the strategy calls it."""
    VALUE: Final = "trading.signal.value"
    """Its value as published."""
    STRENGTH: Final = "trading.signal.strength"
    """Its strength as a number, when the host gives one."""


class Command:
    """An instruction from a strategy to the engine."""

    NAME: Final = "trading.command.name"
    """`SubmitOrder`, `ModifyOrder`, `CancelOrder` and so on."""


class Order:
    """An order and the change of state an event reports."""

    ID: Final = "trading.order.id"
    """The venue's id (FIX 37 OrderID)."""
    CLIENT_ID: Final = "trading.order.client_id"
    """The engine's id (FIX 11 ClOrdID)."""
    SIDE: Final = "trading.order.side"
    """`BUY` or `SELL` (FIX 54 Side)."""
    TYPE: Final = "trading.order.type"
    """`MARKET`, `LIMIT`, `STOP_MARKET` and so on (FIX 40 OrdType)."""
    STATUS: Final = "trading.order.status"
    """State the event brings the order to, in the engine's word (FIX 39 OrdStatus)."""
    QUANTITY: Final = "trading.order.quantity"
    """Quantity of the whole order (FIX 38 OrderQty)."""
    EQUITY_FRACTION: Final = "trading.order.equity_fraction"
    """Part of what the account can buy that was ordered, where the host named no quantity."""
    PRICE: Final = "trading.order.price"
    """Limit price (FIX 44 Price)."""
    TRIGGER_PRICE: Final = "trading.order.trigger_price"
    """Stop price (FIX 99 StopPx)."""
    TIME_IN_FORCE: Final = "trading.order.time_in_force"
    """`DAY`, `GTC`, `IOC`, `FOK`, `GTD` (FIX 59 TimeInForce)."""
    REDUCE_ONLY: Final = "trading.order.reduce_only"
    """Whether the order may only reduce a position."""
    LINKED_IDS: Final = "trading.order.linked_ids"
    """Engine ids of the other legs of a bracket or an OCO pair."""
    PARENT_ID: Final = "trading.order.parent_id"
    """Engine id of the order that must fill first."""
    REASON: Final = "trading.order.reason"
    """Why it was sent, in the host's words: `stop_loss`, `take_profit`, `signal`, `time`…"""
    TAG: Final = "trading.order.tag"
    """The strategy's own label of the order."""
    DECISION_PRICE: Final = "trading.order.decision_price"
    """The market's price when it was decided on; absent means the last one before the decision."""
    CONTRIBUTIONS: Final = "trading.order.contributions"
    """What a netted order is made of: list of `{strategy, quantity}`, signed, a sale negative."""
    REJECT_REASON: Final = "trading.order.reject.reason"
    """Why a venue or a risk rule said no; the span's status stays Unset."""


class Fill:
    """One execution."""

    ID: Final = "trading.fill.id"
    """The venue's id of the execution (FIX 17 ExecID)."""
    PRICE: Final = "trading.fill.price"
    """Price of this fill alone (FIX 31 LastPx)."""
    QUANTITY: Final = "trading.fill.quantity"
    """Quantity of this fill alone (FIX 32 LastQty)."""
    COMMISSION: Final = "trading.fill.commission"
    """Commission of this fill; positive is a cost."""
    CURRENCY: Final = "trading.fill.currency"
    """Currency of the price (ISO 4217)."""
    COMMISSION_CURRENCY: Final = "trading.fill.commission_currency"
    """Currency of the commission (ISO 4217)."""
    LIQUIDITY: Final = "trading.fill.liquidity_side"
    """`MAKER` or `TAKER`."""
    MULTIPLIER: Final = "trading.instrument.multiplier"
    """Contract multiplier; absent means 1."""
    SETTLEMENT_CURRENCY: Final = "trading.instrument.settlement_currency"
    """Currency in which profit and loss settles, when it is not the price's."""
    VALUATION_METHOD: Final = "trading.instrument.valuation_method"
    """`FUT` where a position is paid what it gains as it gains it (`VARIATION_MARGIN`), so that a
    fill pays no price; absent where the price is paid (FIX 1197 ValuationMethod)."""
    IS_INVERSE: Final = "trading.instrument.is_inverse"
    """True for contracts quoted in the base currency and settled in the other."""
    BASE_CURRENCY: Final = "trading.instrument.base_currency"
    """First currency of a pair (EUR of EUR/USD)."""


class Position:
    """A position as the engine keeps it."""

    ID: Final = "trading.position.id"
    """The engine's id; netting engines use one id again for each new cycle."""
    SIDE: Final = "trading.position.side"
    """`LONG`, `SHORT` or `FLAT`."""
    QUANTITY: Final = "trading.position.quantity"
    """Size after the event, never negative."""
    AVERAGE_OPEN_PRICE: Final = "trading.position.average_open_price"
    """The engine's average entry price, in its own digits."""
    AVERAGE_CLOSE_PRICE: Final = "trading.position.average_close_price"
    """The engine's average exit price, in its own digits."""
    REALIZED_PNL: Final = "trading.position.realized_pnl"
    """The engine's realised profit and loss of this cycle, commissions included."""
    CURRENCY: Final = "trading.position.currency"
    """Currency of the realised profit and loss."""
    OPENING_ORDER_ID: Final = "trading.position.opening_order_id"
    """Engine id of the order that opened it."""
    CLOSING_ORDER_ID: Final = "trading.position.closing_order_id"
    """Engine id of the order that closed it."""


class Account:
    """An account's state as the engine reports it."""

    ID: Final = "trading.account.id"
    """The engine's id of the account."""
    TYPE: Final = "trading.account.type"
    """`CASH`, `MARGIN` or `BETTING`."""
    BASE_CURRENCY: Final = "trading.account.base_currency"
    """Currency the account is kept in; absent when it holds several."""
    BALANCES: Final = "trading.account.balances"
    """List of `{currency, total, free, locked}`, exact digits."""
    UNREALIZED_PNL: Final = "trading.account.unrealized_pnl"
    """Profit of what is open, in the account's currency, or by currency; the engine's own."""


class CashFlow:
    """Money that an account gets or pays without a fill."""

    TYPE: Final = "trading.cash_flow.type"
    """`DIVIDEND`, `INTEREST`, `FUNDING`, `FEE`, `DEPOSIT`, `WITHDRAWAL`, `VARIATION_MARGIN` (what a
    position gains, paid before it is closed; no profit of its own) or the host's own word."""
    AMOUNT: Final = "trading.cash_flow.amount"
    """Positive when the account gets it."""
    CURRENCY: Final = "trading.cash_flow.currency"
    """Currency of the amount (ISO 4217)."""


class CorporateAction:
    """What an issuer does to all that is held of an instrument, without a fill."""

    TYPE: Final = "trading.corporate_action.type"
    """`SPLIT`, `STOCK_DIVIDEND` or the host's own word."""
    RATIO: Final = "trading.corporate_action.ratio"
    """What prices are multiplied by and quantities divided: 0.5 where one share becomes two."""


class Regime:
    """The character of the market."""

    NAME: Final = "trading.regime.name"
    """What it is called from now on, such as `high volatility, up`."""
    PREVIOUS: Final = "trading.regime.previous"
    """What it was called before."""


class Risk:
    """A limit that was reached."""

    RULE: Final = "trading.risk.rule"
    """Name of the rule."""
    LIMIT: Final = "trading.risk.limit"
    """The limit."""
    VALUE: Final = "trading.risk.value"
    """What was asked for."""


class System:
    """A component of the engine."""

    COMPONENT: Final = "trading.system.component"
    """The engine's name of the component."""
    STATE: Final = "trading.system.state"
    """State the component is in now."""


class Sampling:
    """Why a span was kept."""

    REASON: Final = "trading.sampling.reason"
    """`all`, `critical`, `ancestor`, `context` or `random`."""
    PROBABILITY: Final = "trading.sampling.probability"
    """Probability with which an event like this one is kept, in (0, 1]."""


class Summary:
    """What an event stands for besides itself, when a cold lake keeps one of many."""

    COUNT: Final = "trading.summary.count"
    """Events of its kind in the interval, itself among them."""
    INTERVAL: Final = "trading.summary.interval"
    """Length of the interval, ns of event time."""
    FIRST_TIME: Final = "trading.summary.first_time"
    """Event time of the first of them, ns since the epoch."""
    OPEN: Final = "trading.summary.open"
    """Ticks: price of the first, a quote's being its middle."""
    HIGH: Final = "trading.summary.high"
    """Ticks: highest price."""
    LOW: Final = "trading.summary.low"
    """Ticks: lowest price."""
    CLOSE: Final = "trading.summary.close"
    """Ticks: price of the last."""
    VOLUME: Final = "trading.summary.volume"
    """Ticks: quantity that was traded."""


class Metric:
    """Names of the metrics of fillpath itself, and the attribute that only these have."""

    RECORDER_EVENTS: Final = "fillpath.recorder.events"
    """Events that the host has published."""
    RECORDER_DROPPED: Final = "fillpath.recorder.dropped"
    """Of these, events that are not in the spool, by reason."""
    RECORDER_WRITTEN: Final = "fillpath.recorder.written"
    """Bytes that were appended to spools."""
    RECORDER_WAITING: Final = "fillpath.recorder.waiting"
    """Records that are still in the host's memory."""
    SPOOL_LAG: Final = "fillpath.spool.lag"
    """Bytes of spools that the writer has not taken; the host and the writer both tell."""
    WRITER_KEPT: Final = "fillpath.writer.kept"
    """Events that are in the lake or on their way into it."""
    WRITER_SAMPLED_OUT: Final = "fillpath.writer.sampled_out"
    """Events that the sampling policy has left out."""
    WRITER_DROPPED: Final = "fillpath.writer.dropped"
    """Events that were published and are not in the lake, by reason; those of the recorder too."""
    WRITER_SPANS: Final = "fillpath.writer.spans"
    """Spans that were committed to the lake: events and handlers' runs."""
    WRITER_WRITTEN: Final = "fillpath.writer.written"
    """Bytes of the files that were committed to the lake."""
    WRITER_COMMIT_DURATION: Final = "fillpath.writer.commit.duration"
    """How long commits of spans took."""
    WRITER_ERRORS: Final = "fillpath.writer.errors"
    """Attempts at bringing a run into the lake that failed, by `error.type`."""
    WRITER_RUNS: Final = "fillpath.writer.runs"
    """Runs that are followed."""
    LAKE_SPANS: Final = "fillpath.lake.spans"
    """Spans in the lakes that the writer has written to."""
    OTLP_SENT: Final = "fillpath.otlp.sent"
    """Spans that a receiver has taken."""
    OTLP_REJECTED: Final = "fillpath.otlp.rejected"
    """Spans that a receiver has refused, as part of a request or with all of it."""
    OTLP_WAITING: Final = "fillpath.otlp.waiting"
    """Bytes of spools that are still to be sent."""
    OTLP_RETRIES: Final = "fillpath.otlp.retries"
    """Requests that failed and are tried again, by `error.type`."""
    OTLP_REQUEST_DURATION: Final = "fillpath.otlp.request.duration"
    """How long requests took that were answered."""
    DROP_REASON: Final = "fillpath.drop.reason"
    """Attribute: why events were dropped, such as `spool_full` or `crash`."""
    DESTINATION: Final = "fillpath.otlp.destination"
    """Attribute: where spans are sent, without anything secret."""


class EventType:
    """The kinds of event fillpath knows; others that a host publishes are carried as they are."""

    BAR: Final = "BAR"
    """Prices of an interval."""
    TICK: Final = "TICK"
    """A quote or a trade."""
    BOOK: Final = "BOOK"
    """A change or picture of an order book."""
    FEATURES: Final = "FEATURES"
    """Values computed from market data."""
    SIGNAL: Final = "SIGNAL"
    """A strategy's opinion."""
    COMMAND: Final = "COMMAND"
    """An instruction to submit, change or cancel."""
    ORDER: Final = "ORDER"
    """An order reaching a state."""
    FILL: Final = "FILL"
    """An execution."""
    POSITION_OPEN: Final = "POSITION_OPEN"
    """A position opened."""
    POSITION_CHANGE: Final = "POSITION_CHANGE"
    """A position grew or shrank."""
    POSITION_CLOSE: Final = "POSITION_CLOSE"
    """A position closed."""
    PORTFOLIO: Final = "PORTFOLIO"
    """An account or portfolio changed."""
    CASH_FLOW: Final = "CASH_FLOW"
    """Money that an account got or paid without a fill: a dividend, interest, a deposit."""
    CORPORATE_ACTION: Final = "CORPORATE_ACTION"
    """What is held became more or less without a fill: a split, a dividend in shares."""
    CLASSIFICATION: Final = "CLASSIFICATION"
    """The market's character, stated whether or not it changed."""
    REGIME_CHANGE: Final = "REGIME_CHANGE"
    """The market changed its character."""
    RISK_BREACH: Final = "RISK_BREACH"
    """A limit was reached."""
    ERROR: Final = "ERROR"
    """Something failed."""
    SYSTEM: Final = "SYSTEM"
    """A call-back or a change of the system's own state."""
    DELIVERY: Final = "DELIVERY"
    """A handler's run. Its span is named after what it handled (`process FILL`), so that a span of
    type FILL is one fill."""


CRITICAL_EVENT_TYPES: Final = frozenset(
    {
        EventType.SIGNAL,
        EventType.COMMAND,
        EventType.ORDER,
        EventType.FILL,
        EventType.POSITION_OPEN,
        EventType.POSITION_CHANGE,
        EventType.POSITION_CLOSE,
        EventType.PORTFOLIO,
        EventType.CASH_FLOW,
        EventType.CORPORATE_ACTION,
        EventType.REGIME_CHANGE,
        EventType.RISK_BREACH,
        EventType.ERROR,
    }
)
"""Kinds that the sampling policy never drops unless it is told otherwise."""

PUBLISH: Final = "publish"
"""Operation of a span that stands for an event; OpenTelemetry kind PRODUCER."""
PROCESS: Final = "process"
"""Operation of a span that stands for a handler's run; OpenTelemetry kind CONSUMER."""


def span_name(operation: str, event_type: str) -> str:
    """Name a span, with few distinct values: `publish ORDER`, `process BAR`."""
    return f"{operation} {event_type}"
