"""Says in a few words what a span stands for, with a style for each word.

The words come from the host as they are: whoever prints them makes them inert first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from fillpath.analytics import report_format
from fillpath.analytics.chain_span import ChainSpan
from fillpath.analytics.trace_tree import Node
from fillpath.exporters.schema import EXCEPTION_MESSAGE, EXCEPTION_TYPE, FOREIGN_EVENT_TYPE
from fillpath.instrumentation.semconv import (
    PROCESS,
    Account,
    Bar,
    Command,
    Event,
    EventType,
    Fill,
    Order,
    Position,
    Risk,
    Signal,
    Tick,
)

Word = tuple[str, str]
"""A word and rich's style for it."""

_BADGES: Final[Mapping[str, str]] = {
    EventType.BAR: "bold blue",
    EventType.TICK: "bold blue",
    EventType.BOOK: "bold blue",
    EventType.FEATURES: "bold blue",
    EventType.SIGNAL: "bold magenta",
    EventType.COMMAND: "bold cyan",
    EventType.ORDER: "bold cyan",
    EventType.FILL: "bold black on green",
    EventType.POSITION_OPEN: "bold yellow",
    EventType.POSITION_CHANGE: "bold yellow",
    EventType.POSITION_CLOSE: "bold yellow",
    EventType.PORTFOLIO: "bold",
    EventType.REGIME_CHANGE: "bold magenta",
    EventType.RISK_BREACH: "bold red",
    EventType.ERROR: "bold red",
}
_REFUSALS: Final = frozenset({"DENIED", "REJECTED", "MODIFY_REJECTED", "CANCEL_REJECTED"})
_RUN_PART: Final = 22
"""Hex digits of a trace id that all chains of a run have in common."""


def badge(span: ChainSpan) -> Iterator[Word]:
    """Name the event, or the handler that an event was delivered to."""
    style = _BADGES.get(span.event_type, "bold")
    if span.is_delivery:
        yield "→ ", "dim"
        yield _handler(span), "bold"
    elif span.event_type == EventType.FILL:
        yield " FILL ", style
    elif span.event_type == FOREIGN_EVENT_TYPE:
        yield span.name or span.event_type, style
    else:
        yield span.event_type or span.name, style


def _handler(span: ChainSpan) -> str:
    """Name a delivery after the strategy that received it and the method that ran."""
    handler = span.handler or ""
    if span.strategy and "." in handler:
        return f"{span.strategy}.{handler.rpartition('.')[2]}"
    return handler or span.strategy or span.name


def describe(node: Node) -> Iterator[Word]:
    """Say what happened; whatever the event above has said already is left out."""
    span = node.span
    tell = _TELLERS.get(span.event_type)
    if span.is_delivery:
        handled = span.name.removeprefix(f"{PROCESS} ")
        if node.parent is None or node.parent.span.event_type != handled:
            yield handled, "dim"
    elif tell is not None:
        yield from tell(node)
    else:
        yield from _anything(node)
    if error := span.attributes.get(EXCEPTION_TYPE):
        yield f"{error}: {span.attributes.get(EXCEPTION_MESSAGE, '')}", "red"
    if span.attributes.get(Event.UNFINISHED):
        yield "unfinished", "yellow"
    strategy = _strategy_above(node)
    if span.strategy and span.strategy != strategy and not span.is_delivery:
        yield span.strategy, "dim"
    above = None if node.parent is None else node.parent.span.event_time
    if span.event_time is not None and span.event_time != above:
        yield time_words(span.event_time), "dim"


def _strategy_above(node: Node) -> str | None:
    return next((above.span.strategy for above in node.ancestors() if above.span.strategy), None)


def _market(node: Node) -> Iterator[Word]:
    span = node.span
    yield span.symbol or "", "bold"
    attributes = span.attributes
    if span.event_type == EventType.BAR:
        figures = [attributes.get(key) for key in (Bar.OPEN, Bar.HIGH, Bar.LOW)]
        figures.append(attributes.get(Bar.CLOSE) or span.price)
        if all(figure is not None for figure in figures):
            yield (
                " ".join(
                    f"{letter} {_figure(figure)}"
                    for letter, figure in zip("OHLC", figures, strict=True)
                ),
                "",
            )
            return
    if Tick.BID in attributes or Tick.ASK in attributes:
        yield f"{_figure(attributes.get(Tick.BID))} / {_figure(attributes.get(Tick.ASK))}", ""
    elif span.price is not None:
        yield _figure(span.price), ""


def _signal(node: Node) -> Iterator[Word]:
    attributes = node.span.attributes
    name = attributes.get(Signal.NAME)
    value = attributes.get(Signal.VALUE, attributes.get(Signal.STRENGTH))
    if name is not None:
        yield str(name), "magenta"
    if value is not None:
        told = _figure(value) if isinstance(value, float) else str(value)
        yield ("= " if name is not None else "") + told, ""
    yield from _new_symbol(node)


def _command(node: Node) -> Iterator[Word]:
    yield str(node.span.attributes.get(Command.NAME, "")), "cyan"
    if node.parent is None or node.parent.span.client_order_id != node.span.client_order_id:
        yield order_words(node.span), ""


def _order(node: Node) -> Iterator[Word]:
    span = node.span
    yield span.status or "", "bold red" if span.status in _REFUSALS else "cyan"
    above = node.parent
    same = above is not None and above.span.client_order_id == span.client_order_id
    if not same or span.status == "UPDATED":
        yield order_words(span), ""
    attributes = span.attributes
    if reason := attributes.get(Order.REJECT_REASON):
        yield str(reason), "red"
    rule = attributes.get(Risk.RULE)
    if rule is not None and str(rule) not in str(reason):
        yield f"rule {rule}", "red"


def _fill(node: Node) -> Iterator[Word]:
    span = node.span
    yield fill_words(span), "bold"
    if span.status == "PARTIALLY_FILLED":
        whole = span.attributes.get(Order.QUANTITY)
        yield f"part of {_figure(whole)}" if whole is not None else "partial", "yellow"
    if span.commission is not None:
        currency = span.attributes.get(Fill.COMMISSION_CURRENCY) or span.currency or ""
        yield f"commission {_money(span.commission, str(currency))}", "dim"


def _position(node: Node) -> Iterator[Word]:
    span, attributes = node.span, node.span.attributes
    side, quantity = attributes.get(Position.SIDE), attributes.get(Position.QUANTITY)
    if span.event_type != EventType.POSITION_CLOSE:
        words = [str(side or ""), _figure(quantity) if quantity is not None else ""]
        yield " ".join(word for word in words if word), ""
        average = attributes.get(Position.AVERAGE_OPEN_PRICE)
        if average is not None:
            yield f"@ {_figure(average)}", ""
    if span.event_type != EventType.POSITION_OPEN:
        pnl = attributes.get(Position.REALIZED_PNL)
        if pnl is not None:
            amount = _decimal(pnl)
            style = "bold" if not amount else "bold green" if amount > 0 else "bold red"
            currency = str(attributes.get(Position.CURRENCY) or "")
            yield f"realized {_money(pnl, currency, signed=True)}", style


def _portfolio(node: Node) -> Iterator[Word]:
    balances = node.span.attributes.get(Account.BALANCES)
    account = node.span.attributes.get(Account.ID)
    if account is not None:
        yield str(account), ""
    if isinstance(balances, list):
        totals = [
            _money(balance.get("total"), str(balance.get("currency") or ""))
            for balance in balances
            if isinstance(balance, dict) and balance.get("total") is not None
        ]
        yield f"balance {', '.join(totals)}", ""


def _anything(node: Node) -> Iterator[Word]:
    """Show the first few attributes of a kind of event that we know nothing about."""
    yield from _new_symbol(node)
    span = node.span
    if span.side or span.quantity is not None or span.price is not None:
        yield order_words(span), ""
    for key, value in list(span.attributes.items())[:3]:
        if isinstance(value, str | int | float):
            told = _figure(value) if isinstance(value, float) else value
            yield f"{key.rpartition('.')[2]} {told}", ""


def _new_symbol(node: Node) -> Iterator[Word]:
    symbol = node.span.symbol
    if symbol and all(above.span.symbol != symbol for above in node.ancestors()):
        yield symbol, "bold"


_TELLERS: Final = {
    EventType.BAR: _market,
    EventType.TICK: _market,
    EventType.BOOK: _market,
    EventType.SIGNAL: _signal,
    EventType.COMMAND: _command,
    EventType.ORDER: _order,
    EventType.FILL: _fill,
    EventType.POSITION_OPEN: _position,
    EventType.POSITION_CHANGE: _position,
    EventType.POSITION_CLOSE: _position,
    EventType.PORTFOLIO: _portfolio,
}


def order_words(span: ChainSpan) -> str:
    """Say what an order is: side, quantity, symbol, type and price."""
    trigger = span.attributes.get(Order.TRIGGER_PRICE)
    words = [
        span.side,
        None if span.quantity is None else _figure(span.quantity),
        span.symbol,
        None if span.order_type is None else span.order_type.lower().replace("_", " "),
        None if span.price is None else f"@ {_figure(span.price)}",
    ]
    if trigger is not None and (span.price is None or _decimal(trigger) != span.price):
        words.append(f"trigger {_figure(trigger)}")
    return " ".join(word for word in words if word)


def fill_words(span: ChainSpan) -> str:
    """Say what a fill is: side, quantity, symbol and price."""
    words = [
        span.side,
        None if span.quantity is None else _figure(span.quantity),
        span.symbol,
        None if span.price is None else f"@ {_figure(span.price)}",
    ]
    return " ".join(word for word in words if word)


def short_trace(trace_id: str) -> str:
    """Shorten a trace id to its beginning and its end; `fillpath trace show` takes that."""
    end = trace_id[_RUN_PART:].lstrip("0").rjust(4, "0")
    return f"{trace_id[:6]}…{end}"


def time_words(nanoseconds: int) -> str:
    """Write a simulated time, UTC."""
    return report_format.timestamp(nanoseconds)


def duration_words(nanoseconds: int) -> str:
    """Write a duration with the spaces that every terminal has."""
    return report_format.duration(nanoseconds).replace("\u202f", " ").replace("\xa0", " ")


def span_of_time(nanoseconds: int) -> str:
    """Write a simulated time span in the largest two units that it has."""
    minutes = abs(nanoseconds) // 60_000_000_000
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    if not days and not hours:
        return duration_words(nanoseconds)
    words = [(days, "d"), (hours, "h"), (minutes, "min")]
    return " ".join([f"{number} {unit}" for number, unit in words if number][:2])


def _decimal(value: Any) -> Decimal:
    try:
        return Decimal(str(value))
    except ArithmeticError:
        return Decimal("NaN")


def _figure(value: Any) -> str:
    amount = _decimal(value)
    return report_format.readable_number(amount) if amount.is_finite() else str(value)


def _money(value: Any, currency: str, *, signed: bool = False) -> str:
    amount = _decimal(value)
    digits = report_format.currency_digits(currency, {})
    figure = report_format.readable_money(amount, digits, signed=signed)
    return f"{figure} {currency}".rstrip()
