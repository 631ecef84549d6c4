"""What a report must show, reckoned by plain loops over a run's events: nothing of analytics.

Trades and accounts are by average cost, as the engines of these runs have them; the attribution is
by lots, first in first out, each worth something else after every bar.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from functools import cached_property
from typing import Any

from numbers_shown import Place
from regimes_by_hand import RegimesByHand

Event = dict[str, Any]
Figures = Iterator[tuple[str, str, str, list[str]]]
ZERO = Decimal(0)
CENT = Decimal("0.01")
KIND_COLUMNS = ("Realized", "Unrealized", "Commission")


def money(amount: Decimal, *, signed: bool = False) -> str:
    sign = "\u2212" if amount < 0 else "+" if signed and amount > 0 else ""
    return sign + f"{abs(amount):,.2f}"


def plain(number: Decimal) -> str:
    return f"{number.normalize():,f}"


def percent(ratio: Decimal) -> str:
    rounded = (ratio * 100).quantize(CENT, ROUND_HALF_EVEN)
    return f"{money(rounded)}\u202f%"


def moment(nanoseconds: int) -> str:
    seconds, below = divmod(nanoseconds, 10**9)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return text + (f".{below:09d}".rstrip("0") if below else "")


def held(nanoseconds: int) -> list[str]:
    """Days, hours, minutes and seconds: the largest that is not zero, and the one below it."""
    seconds = nanoseconds // 10**9
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        parts.append((seconds // size, unit))
        seconds %= size
    first = next((n for n, (count, _) in enumerate(parts) if count), 3)
    shown = [parts[first], *[part for part in parts[first + 1 : first + 2] if part[0]]]
    return [f"{count:,}\u00a0{unit}" for count, unit in shown]


def took(nanoseconds: int) -> str:
    """Three digits in the unit that suits them; from two minutes on in whole seconds or minutes."""
    seconds = nanoseconds // 10**9
    if seconds >= 7200 // 2:
        return f"{seconds // 3600}\u00a0h {seconds % 3600 // 60:02}\u00a0min"
    if seconds >= 120:
        return f"{seconds // 60}\u00a0min {seconds % 60:02}\u00a0s"
    number, units = Decimal(nanoseconds), ["ns", "µs", "ms", "s"]
    while len(units) > 1 and number >= Decimal("999.5"):
        number, units = number / 1000, units[1:]
    if units[0] == "ns":
        return f"{number}\u202fns"
    places = 0 if number >= 100 else 1 if number >= 10 else 2
    return f"{number:.{places}f}\u202f{units[0]}"


@dataclass
class HandTrade:
    """A position from its first fill to the one that closed it."""

    fill: Event
    direction: int
    entered: Decimal = ZERO
    paid: Decimal = ZERO
    exited: Decimal = ZERO
    received: Decimal = ZERO
    realized: Decimal = ZERO
    unrealized: Decimal = ZERO
    commission: Decimal = ZERO
    last: Event | None = None
    parts: list[tuple[Event, Decimal]] = field(default_factory=list)
    """Its fills, and by what each changed it."""

    @property
    def open_quantity(self) -> Decimal:
        return self.entered - self.exited

    @property
    def average(self) -> Decimal:
        return self.paid / self.entered

    @property
    def net(self) -> Decimal:
        return self.realized + self.unrealized - self.commission

    def profit_at(self, price: Decimal) -> Decimal:
        return (price - self.average) * self.open_quantity * self.direction


@dataclass
class Reckoning:
    """One run of one currency, from its events in order of sequence."""

    events: list[Event]
    trades: list[HandTrade] = field(default_factory=list)
    equity: list[tuple[Event, Decimal]] = field(default_factory=list)
    lots: dict[Any, list[list[Any]]] = field(default_factory=lambda: defaultdict(list))
    realized: list[tuple[Event, Decimal]] = field(default_factory=list)
    marks: list[tuple[Event, Decimal]] = field(default_factory=list)
    fees: list[tuple[Event, Decimal]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.published = [one for one in self.events if one["name"].startswith("publish ")]
        self.by_span = {one["span_id"]: one for one in self.events}
        prices: dict[str, Decimal] = {}
        positions: dict[Any, HandTrade] = {}
        for event in self.published:
            attributes = json.loads(event["attributes"])
            if event["event_type"] == "BAR":
                price = prices[event["symbol"]] = Decimal(str(attributes["trading.bar.close"]))
                self._mark(event, price)
            elif event["event_type"] == "FILL":
                self._fill(event, positions)
                self._match(event)
            elif event["event_type"] == "PORTFOLIO" and "trading.account.balances" in attributes:
                (balance,) = attributes["trading.account.balances"]
                cash = attributes.get("trading.account.type") == "CASH"
                worth = ZERO
                for one in positions.values():
                    worth += one.profit_at(prices[one.fill["symbol"]])
                    if cash:  # what is held was paid for, and what is owed was received
                        worth += one.open_quantity * one.average * one.direction
                total = Decimal(balance["total"]) + worth.quantize(CENT, ROUND_HALF_UP)
                self.equity.append((event, total))
                self.balance = Decimal(balance["total"])
        self.invested = ZERO  # what the balance is lower by for what is held
        if self.equity and cash:
            for one in positions.values():
                self.invested += one.open_quantity * one.average * one.direction
        last = self.balance + self.invested
        for trade in positions.values():
            profit = trade.profit_at(prices[trade.fill["symbol"]])
            last += profit.quantize(CENT, ROUND_HALF_UP)
            trade.unrealized = profit.quantize(CENT, ROUND_HALF_UP)
        if positions:  # what is open has a price after the last statement
            bars = [one for one in self.published if one["event_type"] == "BAR"]
            self.equity.append((bars[-1], last))
        self.start = (
            self.balance
            + self.invested
            - sum((trade.realized - trade.commission for trade in self.trades), ZERO)
        )

    def _fill(self, event: Event, positions: dict[Any, HandTrade]) -> None:
        side = 1 if event["side"] == "BUY" else -1
        key = event["position_id"] or (event["portfolio"], event["strategy"], event["symbol"])
        price, quantity, commission = event["price"], event["quantity"], event["commission"] or ZERO
        trade = positions.get(key)
        if trade is not None and side != trade.direction:
            closing = min(quantity, trade.open_quantity)
            profit = (price - trade.average) * closing * trade.direction
            profit = profit.quantize(CENT, ROUND_HALF_UP)
            trade.realized += profit
            # What turns a position pays for the one it closes, by its part of the quantity.
            paid = (commission * closing / quantity).quantize(CENT, ROUND_HALF_UP)
            trade.commission += paid
            trade.exited += closing
            trade.received += price * closing
            trade.last = event
            trade.parts.append((event, side * closing))
            quantity, commission = quantity - closing, commission - paid
            if not trade.open_quantity:
                del positions[key]
            if not quantity:
                return
            trade = None
        if trade is None:
            trade = positions[key] = HandTrade(event, side)
            self.trades.append(trade)
        trade.commission += commission
        trade.parts.append((event, side * quantity))
        trade.entered += quantity
        trade.paid += price * quantity

    def _mark(self, event: Event, price: Decimal) -> None:
        """Value every lot of the symbol at a new price."""
        for lots in self.lots.values():
            for lot in lots:
                entry, quantity, direction, before = lot
                if entry["symbol"] == event["symbol"]:
                    lot[3] = (price - entry["price"]) * quantity * direction
                    at = entry | {"event_time": event["event_time"], "lot": (entry, direction)}
                    self.marks.append((at, lot[3] - before))

    def _match(self, event: Event) -> None:
        """Close lots, first in first out, and open one of what is left."""
        side, left = 1 if event["side"] == "BUY" else -1, event["quantity"]
        key = event["position_id"] or (event["portfolio"], event["strategy"], event["symbol"])
        lots = self.lots[key]
        held = sum(lot[1] for lot in lots if lot[2] != side)
        self._charge(event, min(left, held), lots, side)
        while left and lots and lots[0][2] != side:
            entry, quantity, direction, worth = lots[0]
            closing = min(left, quantity)
            at = entry | {"event_time": event["event_time"], "lot": (entry, direction)}
            profit = (event["price"] - entry["price"]) * closing * direction
            self.realized.append((at | {"closed_by": event}, profit))
            taken_back = worth * closing / quantity
            self.marks.append((at, -taken_back))
            left -= closing
            lots[0][1] -= closing
            lots[0][3] -= taken_back
            if not lots[0][1]:
                lots.pop(0)
        if left:
            lots.append([event, left, side, ZERO])

    def _charge(self, event: Event, closing: Decimal, lots: list[Any], side: int) -> None:
        """Divide a fill's commission between the lot that it closes and the one that it opens."""
        commission, quantity = event["commission"] or ZERO, event["quantity"]
        paid = (commission * closing / quantity).quantize(CENT, ROUND_HALF_UP)
        if closing:
            entry, _, direction, _ = lots[0]
            self.fees.append((event | {"lot": (entry, direction), "closed_by": event}, -paid))
        if closing < quantity:
            self.fees.append((event | {"lot": (event, side)}, paid - commission))

    # What the page shows

    def expected(self, engine: str) -> dict[Place, list[str]]:
        """Every figure that these sections must show, by its place."""
        return {
            Place(section, table, row, column): figures
            for section, found in (
                ("header", self._card()),
                ("accounts", self._accounts(engine)),
                ("completeness", self._completeness()),
                ("equity", self._equity()),
                ("attribution", self._waterfall()),
                ("attribution", self._attribution()),
                ("pnl", self._pnl()),
                ("funnel", self._funnel()),
                ("orders", self._orders()),
                ("trades", self._trades(10, "Largest trades by result after commission")),
                ("all-trades", self._trades(20, self._title_of_all())),
            )
            for table, row, column, figures in found
        }

    moment = staticmethod(moment)

    @property
    def portfolio(self) -> str:
        (name,) = {one["portfolio"] for one in self.published if one["portfolio"]}
        return str(name)

    def _card(self) -> Iterator[tuple[str, str, str, list[str]]]:
        times = [one["event_time"] for one in self.events if one["event_time"] is not None]
        orders = {one["client_order_id"] for one in self._of("ORDER")}
        yield "", "", "Events", [f"{len(self.published):,}"]
        yield "", "", "Orders", [f"{len(orders):,}"]
        yield "", "", "Fills", [f"{len(self._of('FILL')):,}"]
        yield "", "", "Trades", [f"{len(self.trades):,}"]
        yield "", "", "Simulated", [moment(min(times)), moment(max(times))]

    def _accounts(self, engine: str) -> Iterator[tuple[str, str, str, list[str]]]:
        table = f"Account of {self.portfolio} in USD, by fillpath and by the engine"
        realized = sum((trade.realized for trade in self.trades), ZERO)
        paid = sum((trade.commission for trade in self.trades), ZERO)
        account = json.loads(self.equity[0][0]["attributes"])["trading.account.id"]
        yield (
            f"{self.portfolio} USD · {account}",
            "",
            "result",
            [money(realized - paid, signed=True)],
        )
        for row, amount in (
            ("Start balance", self.start),
            ("P&L", realized),
            ("Commission", -paid),
            ("Open positions", -self.invested),
            ("End balance", self.balance),
        ):
            if row == "Open positions" and not amount:
                continue
            yield table, row, "fillpath", [money(amount)]
            # Optional: an engine need not say all of it.
            yield table, row, engine, [money(amount)]
            yield table, row, "Difference", [money(ZERO)]

    def _completeness(self) -> Iterator[tuple[str, str, str, list[str]]]:
        kinds: dict[str, int] = defaultdict(int)
        for one in self.published:
            kinds[one["event_type"]] += 1
        first = "Events by portfolio: published = kept + sampled out + dropped"
        second = f"Events of {self.portfolio} by kind: published = kept + sampled out + dropped"
        rows = [(first, self.portfolio, len(self.published))]
        rows += [(second, kind, count) for kind, count in kinds.items()]
        for table, row, count in rows:
            for column, number in (("Published", count), ("Kept", count)):
                yield table, row, column, [f"{number:,}"]
            for column in ("Sampled out", "Dropped"):
                yield table, row, column, ["0"]

    def _equity(self) -> Iterator[tuple[str, str, str, list[str]]]:
        table = f"{self.portfolio} USD"
        values = [value for _, value in self.equity]
        yield table, "", "First", [money(values[0])]
        yield table, "", "Last", [money(values[-1])]
        yield table, "", "Change", [money(values[-1] - values[0], signed=True)]
        peak, deepest, when = values[0], ZERO, 0
        for event, value in self.equity:
            peak = max(peak, value)
            if (value - peak) / peak < deepest:
                deepest, when = (value - peak) / peak, event["event_time"]
        if deepest:
            yield table, "", "Deepest drawdown", [percent(deepest), moment(when)[:10]]

    def _waterfall(self) -> Iterator[tuple[str, str, str, list[str]]]:
        table, level = "From start to end in USD", self.start
        yield table, "Start", "Level", [money(level)]
        by_strategy: dict[str, Decimal] = defaultdict(Decimal)
        for entry, profit in self.realized:
            by_strategy[entry["strategy"]] += profit
        steps = [(f"{name} realized", amount) for name, amount in by_strategy.items() if amount]
        steps.sort(key=lambda step: -step[1])
        steps.append(("Unrealized", sum((worth for _, worth in self.marks), ZERO)))
        steps.append(("Commission", -sum((trade.commission for trade in self.trades), ZERO)))
        for row, amount in steps:
            if amount:
                level += amount
                yield table, row, "Change", [money(amount, signed=True)]
                yield table, row, "Level", [money(level)]
        assert level == self.equity[-1][1], "the events themselves do not add up"
        yield table, "End", "Level", [money(level)]

    def _attribution(self) -> Iterator[tuple[str, str, str, list[str]]]:
        for title, name in (
            ("signal", self.signal_name),
            ("side", lambda event: "LONG" if event["lot"][1] > 0 else "SHORT"),
            ("regime", lambda event: self.regime_of(event["lot"][0]) or "not classified"),
            ("exit reason", self._exit_reason),
            ("holding time", self._held_class),
        ):
            yield from self._broken_down(title, name)
        yield from self._broken_down("month", lambda event: moment(event["event_time"])[:7])
        yield from self._broken_down(
            "hour of the day, UTC", lambda event: moment(event["event_time"])[11:13]
        )

    def _broken_down(self, title: str, name: Any) -> Iterator[tuple[str, str, str, list[str]]]:
        amounts: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        for event, profit in self.realized:
            amounts[name(event)]["Realized"] += profit
        for event, fee in self.fees:
            amounts[name(event)]["Commission"] += fee
        for event, worth in self.marks:
            amounts[name(event)]["Unrealized"] += worth
        for row in list(amounts.values()):
            for column in KIND_COLUMNS:
                if column in row:
                    amounts["Total"][column] += row[column]
        for label, columns in amounts.items():
            for column, amount in columns.items():
                yield f"By {title}, USD", label, column, [money(amount)]
            total = sum(columns.values(), ZERO)
            yield f"By {title}, USD", label, "Total", [money(total, signed=True)]

    def _pnl(self) -> Iterator[tuple[str, str, str, list[str]]]:
        for key in ("portfolio", "strategy", "symbol"):
            groups: dict[str, list[HandTrade]] = defaultdict(list)
            for trade in self.trades:
                groups[trade.fill[key]].append(trade)
                groups["Total"].append(trade)
            for name, trades in groups.items():
                where = "" if name == "Total" else self.portfolio
                row = name if key == "portfolio" else f"{name} · {where}".strip()
                realized, unrealized = (
                    sum((d for e, d in found if name in {"Total", e[key]}), ZERO)
                    for found in (self.realized, self.marks)
                )
                paid = sum((one.commission for one in trades), ZERO)
                for column, figure in (
                    ("Trades", f"{len(trades):,}"),
                    ("Realized", money(realized)),
                    ("Unrealized", money(unrealized)),
                    ("Commission", money(-paid)),
                    ("Rounding", money(ZERO)),
                    ("Total", money(realized + unrealized - paid, signed=True)),
                ):
                    yield f"P&L by {key}, USD", row, column, [figure]

    def _funnel(self) -> Iterator[tuple[str, str, str, list[str]]]:
        rows: dict[str, dict[str, int]] = defaultdict(
            lambda: dict.fromkeys(("Signals", "With order", "Orders", "Denied", "Filled"), 0)
        )
        for event in self._of("SIGNAL"):
            rows[event["strategy"]]["Signals"] += 1
        led: set[tuple[str, str]] = set()
        orders: dict[str, list[Event]] = defaultdict(list)
        for event in self.published:
            if event["event_type"] in {"ORDER", "FILL"}:
                orders[event["client_order_id"]].append(event)
        for states in orders.values():
            signal = next(
                (
                    one
                    for one in self.above(states[0])
                    if one["event_type"] == "SIGNAL" and one["name"].startswith("publish")
                ),
                None,
            )
            if signal is None:
                continue
            row = rows[signal["strategy"]]
            led.add((signal["strategy"], signal["span_id"]))
            row["Orders"] += 1
            row["Denied"] += any(one["status"] in {"DENIED", "REJECTED"} for one in states)
            row["Filled"] += any(one["event_type"] == "FILL" for one in states)
        for strategy, _ in led:
            rows[strategy]["With order"] += 1
        table = "Signals, orders and fills by strategy"
        for name, row in rows.items():
            for column, number in row.items():
                yield table, f"{name} · {self.portfolio}", column, [f"{number:,}"]
        for column in ("Signals", "With order", "Orders", "Denied", "Filled"):
            yield table, "Total ·", column, [f"{sum(row[column] for row in rows.values()):,}"]

    def _orders(self) -> Iterator[tuple[str, str, str, list[str]]]:
        types: dict[str, str] = {}
        last: dict[str, str] = {}
        for event in self.published:
            order = event["client_order_id"]
            if event["event_type"] in {"ORDER", "FILL"} and order:
                types[order] = types.get(order) or event["order_type"] or ""
                last[order] = event["status"] or last.get(order, "")
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for order, kind in types.items():
            for cell in ((kind, last[order]), (kind, "All"), ("All", last[order]), ("All", "All")):
                counts[cell] += 1
        for (kind, status), number in counts.items():
            yield "Orders by type and last status", kind, status, [f"{number:,}"]

    def _title_of_all(self) -> str:
        few = len(self.trades) > 20
        return "Trades" + (", without this page's script the largest 20" if few else "")

    def _trades(self, most: int, table: str) -> Iterator[tuple[str, str, str, list[str]]]:
        ranked = sorted(self.trades, key=lambda one: (-abs(one.net), one.fill["sequence"]))
        for rank, trade in enumerate(ranked[:most], 1):
            row, last = f"#{rank}", trade.last
            entry_price = trade.average
            yield table, row, "Trade", [plain(trade.entered)]
            yield table, row, "Entry", [plain(entry_price), moment(trade.fill["event_time"])]
            if not trade.open_quantity:
                assert last is not None
                leave = trade.received / trade.exited
                yield table, row, "Exit", [plain(leave), moment(last["event_time"])]
                if most > 10:
                    lasted = last["event_time"] - trade.fill["event_time"]
                    yield table, row, "Held", held(lasted)
            yield table, row, "P&L", [money(trade.realized + trade.unrealized)]
            yield table, row, "Commission", [money(-trade.commission)]
            yield table, row, "Net", [money(trade.net, signed=True)]

    # What led to what

    @cached_property
    def regimes(self) -> RegimesByHand:
        return RegimesByHand(self.published)

    def regime_of(self, fill: Event) -> str | None:
        return self.regimes.at(fill["symbol"], fill["sequence"])

    def signal_name(self, event: Event) -> str:
        signal = self.signal_of(event["lot"][0])
        if signal is None:
            return "no signal"
        told = json.loads(signal["attributes"])
        return str(told.get("trading.signal.name") or told["trading.signal.value"])

    def signal_of(self, fill: Event) -> Event | None:
        """The nearest signal above the first event of a fill's order."""
        first = self.orders[fill["client_order_id"]][0]
        return next((one for one in self.above(first) if one["name"] == "publish SIGNAL"), None)

    @cached_property
    def orders(self) -> dict[str, list[Event]]:
        """The events of each order."""
        orders: dict[str, list[Event]] = defaultdict(list)
        for event in self.published:
            if event["event_type"] in {"ORDER", "FILL"}:
                orders[event["client_order_id"]].append(event)
        return orders

    def is_leg(self, order: str) -> bool:
        """Whether an order only closes what another one has opened."""
        first = json.loads(self.orders[order][0]["attributes"])
        parents = {
            json.loads(events[0]["attributes"]).get("trading.order.parent_id")
            for events in self.orders.values()
        }
        has_links = bool(first.get("trading.order.linked_ids"))
        return "trading.order.parent_id" in first or (has_links and order not in parents)

    def _exit_reason(self, event: Event) -> str:
        if "closed_by" not in event:
            return "not closed, or not told"
        return self.reason_of(event["closed_by"]["client_order_id"])

    def reason_of(self, order: str) -> str:
        """Why an order was sent; these hosts have no words for it and no call-backs at the end."""
        first = self.orders[order][0]
        if "STOP" in first["order_type"]:
            return "stop"
        if "LIMIT" in first["order_type"] and self.is_leg(order):
            return "limit"
        causes = (one for one in self.above(first) if one["name"].startswith("publish "))
        kinds = (one["event_type"] for one in causes)
        nearest = next((kind for kind in kinds if kind in {"SIGNAL", "FILL", "BAR"}), None)
        return "signal" if nearest == "SIGNAL" else "market"

    @staticmethod
    def _held_class(event: Event) -> str:
        if "closed_by" not in event:
            return "not closed"
        hours = (event["closed_by"]["event_time"] - event["lot"][0]["event_time"]) / 3600e9
        limits = {"under 1m": 1 / 60, "1m to 1h": 1, "1h to 1d": 24, "1d to 1w": 168}
        limits["1w to 30d"] = 720
        return next((name for name, limit in limits.items() if hours < limit), "over 30d")

    def _of(self, kind: str) -> list[Event]:
        return [one for one in self.published if one["event_type"] == kind]

    def above(self, event: Event) -> Iterable[Event]:
        """The causes of an event, the nearest first."""
        while event["parent_span_id"] in self.by_span:
            event = self.by_span[event["parent_span_id"]]
            yield event
