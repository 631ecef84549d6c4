"""Draws trades on a terminal: all of a run as a table, and one with everything about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fillpath.analytics import report_format
from fillpath.analytics.exact import ZERO, exact_arithmetic, rounded
from fillpath.analytics.output import HEADING, LONGEST_NAME, inert, styled, table
from fillpath.analytics.span_words import duration_words, short_trace, span_of_time

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]
Cell = tuple[object, str]
_NOTHING: Final[Cell] = ("\N{EN DASH}", "dim")
_BAR_WIDTH: Final = 24
_TONES: Final = {"negative": "red", "positive": "green", "zero": "dim"}
_COST_TONES: Final = {"negative": "green", "positive": "red", "zero": "dim"}


class _Column(NamedTuple):
    name: str
    from_width: int
    is_number: bool
    tell: Callable[[Row], Cell]


def _price(value: Decimal | None) -> Cell:
    return _NOTHING if value is None else (report_format.readable_number(value), "")


def _amount(value: Decimal | None, currency: str | None, tones: Mapping[str, str] = _TONES) -> Cell:
    """Write an amount as fine as its currency; the tables and --json have all digits."""
    if value is None:
        return _NOTHING
    digits = report_format.currency_digits(currency or "", {})
    figure = report_format.money(rounded(value, digits), digits)
    return figure.text, tones[figure.tone]


def _time(value: int | None) -> Cell:
    return _NOTHING if value is None else (report_format.timestamp(value), "")


def _held(trade: Row) -> Cell:
    if trade["exit_time"] is None:
        return ("open", "yellow") if trade["open_quantity"] else _NOTHING
    if trade["holding_time"] is None:
        return _NOTHING
    return span_of_time(trade["holding_time"]), ""


def _what(trade: Row) -> str:
    quantity = report_format.readable_number(trade["quantity"])
    return f"{trade['direction']} {quantity} {inert(trade['symbol'] or '', 24)}"


_COLUMNS: Final = (
    _Column("trade", 0, False, lambda one: (one["trade_id"], "bold")),
    _Column("entry (UTC)", 0, False, lambda one: _time(one["entry_time"])),
    _Column("held", 90, True, _held),
    _Column("strategy", 110, False, lambda one: (inert(one["strategy"] or "\N{EN DASH}", 28), "")),
    _Column("what", 0, False, lambda one: (_what(one), "")),
    _Column("in", 130, True, lambda one: _price(one["entry_price"])),
    _Column("out", 130, True, lambda one: _price(one["exit_price"])),
    _Column("net", 0, True, lambda one: _amount(one["net"], one["currency"])),
    _Column(
        "shortfall",
        100,
        True,
        lambda one: _amount(one["shortfall"], one["cost_currency"], _COST_TONES),
    ),
    _Column(
        "best", 150, True, lambda one: _amount(one["favourable_excursion"], one["cost_currency"])
    ),
    _Column(
        "worst", 150, True, lambda one: _amount(one["adverse_excursion"], one["cost_currency"])
    ),
    _Column("exit by", 80, False, lambda one: (inert(one["exit_reason"] or "\N{EN DASH}", 24), "")),
)


def print_trades(console: Console, trades: Sequence[Row]) -> None:
    """Draw a table of trades, with as many columns as there is room for."""
    columns = [column for column in _COLUMNS if console.width >= column.from_width]
    right = [column.name for column in columns if column.is_number]
    drawn = table([column.name for column in columns], right=right)
    drawn.columns[0].no_wrap = True  # ids are copied
    for trade in trades:
        drawn.add_row(*(styled(column.tell(trade)) for column in columns))
    console.print(drawn)


def print_trade(console: Console, run_id: str, trade: Row, orders: Sequence[Row]) -> None:
    """Draw one trade: entry beside exit, costs, excursions, and each of its fills."""
    by_id = {order["client_order_id"]: order for order in orders}
    console.print(styled((f"Trade {trade['trade_id']}  ", "bold"), (_what(trade), "bold")))
    facts = [trade["strategy"], trade["portfolio"], f"run {run_id}"]
    if trade["position_id"]:
        facts.append(f"position {trade['position_id']}")
    names = " · ".join(inert(fact, LONGEST_NAME) for fact in facts if fact)
    console.print(styled((names, "dim")), soft_wrap=True)
    console.print()
    net = _amount(trade["net"], trade["currency"])
    held, _ = _held(trade)
    console.print(
        styled(
            "Net ",
            (f"{net[0]} {trade['currency'] or ''}", f"bold {net[1]}"),
            (f"   held {held}" if held != "open" else "   still open", "dim"),
        )
    )
    console.print()
    console.print(_both_legs(trade, by_id))
    console.print()
    _print_costs(console, trade)
    console.print()
    _print_excursion(console, trade)
    console.print()
    console.print(_fills(trade, by_id))


def _both_legs(trade: Row, orders: Mapping[str, Row]) -> Any:
    entry, leave = orders.get(trade["entry_order_id"]), orders.get(trade["exit_order_id"])
    drawn = table(("", "entry", "exit"))
    rows: Iterator[tuple[str, Cell, Cell]] = _leg_rows(trade, entry, leave)
    for name, first, second in rows:
        if (first, second) != (_NOTHING, _NOTHING):
            drawn.add_row(styled((name, "dim")), styled(first), styled(second))
    return drawn


def _leg_rows(trade: Row, entry: Row | None, leave: Row | None) -> Iterator[tuple[str, Cell, Cell]]:
    def of_orders(tell: Callable[[Row], Cell]) -> tuple[Cell, Cell]:
        return (tell(entry) if entry else _NOTHING, tell(leave) if leave else _NOTHING)

    yield "time", _time(trade["entry_time"]), _time(trade["exit_time"])
    yield "reason", *of_orders(lambda one: _words(one["reason"]))
    yield "signal", *of_orders(_signal)
    yield "regime", _words(trade["entry_regime"]), _words(trade["exit_regime"])
    yield "order", *of_orders(lambda one: _words(one["client_order_id"]))
    yield "type", *of_orders(lambda one: _words(one["order_type"]))
    for name in ("decision", "arrival"):
        prices = (trade[f"entry_{name}_price"], trade[f"exit_{name}_price"])
        yield f"{name} price", _price(prices[0]), _price(prices[1])
    yield "fill price", _price(trade["entry_price"]), _price(trade["exit_price"])
    hops = {
        "market_to_signal": "market → signal",
        "signal_to_order": "→ order",
        "order_to_ack": "→ accepted",
        "ack_to_fill": "→ first fill",
    }
    for column, name in hops.items():
        yield name, *of_orders(lambda one, hop=column: _took(one[hop]))  # type: ignore[misc]  # bound now
    yield "market → fill", _took(trade["entry_latency"]), _took(trade["exit_latency"])
    yield "chain", _chain(trade["entry_trace_id"]), _chain(trade["exit_trace_id"])


def _words(text: str | None) -> Cell:
    return _NOTHING if not text else (inert(text, LONGEST_NAME), "")


def _signal(order: Row) -> Cell:
    if order["signal_span_id"] is None:
        return _NOTHING
    strength = order["signal_strength"]
    name = inert(order["signal"] or "unnamed", 32)
    return (name if strength is None else f"{name} {strength:+.4g}"), "magenta"


def _took(nanoseconds: int | None) -> Cell:
    return _NOTHING if nanoseconds is None else (duration_words(nanoseconds), "cyan")


def _chain(trace_id: str | None) -> Cell:
    return _NOTHING if trace_id is None else (short_trace(trace_id), "")


def _print_costs(console: Console, trade: Row) -> None:
    """Draw the waterfall from the price of the decision to what was paid."""
    currency = trade["cost_currency"]
    console.print(styled((f"Cost against the decision in {currency or 'its currency'}", HEADING)))
    delay, impact, shortfall = (trade[name] for name in ("delay_cost", "impact_cost", "shortfall"))
    if shortfall is None:
        console.print(styled(("No price of the market at the decision is known.", "dim")))
        return
    with exact_arithmetic():
        commission = None
        if delay is not None and impact is not None:
            commission = shortfall - delay - impact
    parts = (("delay", delay), ("impact", impact), ("commission", commission))
    total = (("shortfall", shortfall),)
    largest = max(abs(amount) for _, amount in (*parts, *total) if amount is not None)
    for name, amount in (*parts, *total):
        text, tone = _amount(amount, currency, _COST_TONES)
        style = "bold" if name == "shortfall" else ""
        length = int(abs(amount) / largest * _BAR_WIDTH) if amount and largest else 0
        console.print(
            styled((f"{name:<12}", style or "dim"), (f"{text:>16} ", f"{style} {tone}".strip())),
            styled(("━" * length, tone)),
        )


def _print_excursion(console: Console, trade: Row) -> None:
    console.print(styled(("While it was held", HEADING)))
    if trade["best_price"] is None:
        console.print(styled(("The market told no price of it.", "dim")))
        return
    currency = trade["cost_currency"]
    for name, price, amount in (
        ("best", trade["best_price"], trade["favourable_excursion"]),
        ("worst", trade["worst_price"], trade["adverse_excursion"]),
    ):
        text, tone = _amount(amount, currency)
        console.print(
            styled(
                (f"{name:<12}", "dim"),
                (f"{text:>16} ", tone),
                (
                    f"{currency or ''} of profit, market at {report_format.readable_number(price)}",
                    "",
                ),
            )
        )


def _fills(trade: Row, orders: Mapping[str, Row]) -> Any:
    names = ("fill of", "time", "quantity", "price", "against arrival", "order", "span")
    drawn = table(names, title="Fills", right=("quantity", "price", "against arrival"))
    long = trade["direction"] == "LONG"
    for fill in trade["fills"]:
        order = orders.get(fill["client_order_id"])
        price = Decimal(fill["price"])
        against = _NOTHING
        if order and order["arrival_price"] is not None:
            with exact_arithmetic():
                difference = (price - order["arrival_price"]) or ZERO
            buys = long is (fill["leg"] == "entry")
            cost = difference if buys else difference.copy_negate()
            against = _amount_of_points(cost)
        drawn.add_row(
            styled((fill["leg"], "dim")),
            styled(_time(fill["event_time"])),
            styled(report_format.readable_number(Decimal(fill["quantity"]))),
            styled(_price(price)),
            styled(against),
            styled(_words(fill["client_order_id"])),
            styled((fill["span_id"], "")),
        )
    return drawn


def _amount_of_points(cost: Decimal) -> Cell:
    figure = report_format.readable_money(cost, 0, signed=True)
    return figure.text, _COST_TONES[figure.tone]
