"""What a report says of signals, regimes and the costs of orders, reckoned from the events."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np
from numbers_shown import figures_of, first_words, without_figures
from random_trading import Logged
from reckoned_by_hand import ZERO, Event, Figures, HandTrade, Reckoning, money, percent, plain, took
from scipy.stats import rankdata, spearmanr
from shortfall_by_hand import costs_by_hand

from fillpath.instrumentation.semconv import Bar, Fill, Order

Row = dict[str, Any]
HORIZONS = (1, 2, 5, 10, 20, 50)
NORMAL = 1.959963984540054
ENDED = {"REJECTED": "rejected by venue", "CANCELED": "cancelled", "DENIED": "rejected by risk"}
USED = {"filled", "working", "partly filled"}


def three(number: float) -> str:
    return f"{number:.3g}".replace("-", "\u2212")


def ratio(share: float) -> str:
    return percent(Decimal(repr(share)))


# -- Signals ---------------------------------------------------------------------------------------


class Signals:
    """The signals of a run: what came of each, and what their strengths foretold."""

    def __init__(self, run: Reckoning) -> None:
        self.run = run
        self.groups: dict[tuple[str, str | None], list[Event]] = defaultdict(list)
        for event in run.published:
            if event["event_type"] == "SIGNAL":
                told = json.loads(event["attributes"])
                self.groups[event["strategy"], told.get("trading.signal.name")].append(event)
        self.entered: dict[str, list[HandTrade]] = defaultdict(list)
        for trade in run.trades:
            signal = run.signal_of(trade.fill)
            if signal is not None:
                self.entered[signal["span_id"]].append(trade)
        self.below: dict[str, list[list[Event]]] = defaultdict(list)
        for events in run.orders.values():
            for cause in run.above(events[0]):
                self.below[cause["span_id"]].append(events)
        self.breached = {
            cause["span_id"]
            for event in run.published
            if event["event_type"] == "RISK_BREACH"
            for cause in run.above(event)
        }

    def figures(self) -> Figures:
        unused = 0
        for (strategy, name), signals in self.groups.items():
            words = f"{name or 'unnamed'} {strategy} · {self.run.portfolio}"
            heading = f"{words} · {len(signals)} signals"
            yield "", without_figures(heading), "heading", [str(len(signals))]
            closed = 0
            for row, column, text in self._buckets(signals):
                closed += int(text) if column == "Closed" else 0
                yield f"{heading}: Signals by strength", row, column, figures_of(text)
            if closed < 30:
                remark = "Only # of these signals entered something that is closed by now"
                yield heading, first_words(remark), "p", [str(closed)]
            for horizon in HORIZONS:
                for column, text in self._decay(signals, horizon):
                    table = f"{heading}: What the strength foretold, by horizon"
                    yield table, str(horizon), column, figures_of(text)
            reasons = [self._reason(one) for one in signals]
            unused += sum(reason not in USED for reason in reasons)
            for reason in set(reasons):
                table = f"{heading}: What came of the signals"
                yield table, reason, "Signals", [str(reasons.count(reason))]
        heading = "Signals that led to nothing"
        yield heading, "# signals led to nothing; the first of each kind:", "p", [str(unused)]
        yield from self._unused(f"{heading}: {heading}")

    def _unused(self, table: str) -> Figures:
        for (strategy, _), signals in self.groups.items():
            seen: dict[str, int] = defaultdict(int)
            for one in signals:
                reason = self._reason(one)
                if reason in USED or seen[reason] == 3:
                    continue
                seen[reason] += 1
                time = self.run.moment(one["event_time"])
                row = f"{time} · {strategy} · {self.run.portfolio} · {one['symbol']}"
                yield table, row, "Simulated time", [time]

    @staticmethod
    def strength(signal: Event) -> float:
        told = json.loads(signal["attributes"])
        value = told["trading.signal.value"]
        if "trading.signal.strength" in told:
            return float(told["trading.signal.strength"])
        return {"up": 1.0, "down": -1.0}[value] if isinstance(value, str) else float(value)

    def _buckets(self, signals: list[Event]) -> Iterator[tuple[str, str, str]]:
        sizes = [abs(self.strength(one)) for one in signals]
        different = sorted(set(sizes))
        for_size = dict.fromkeys(different, 0)
        for size in different:
            smaller = sum(one < size for one in sizes)
            for_size[size] = (
                different.index(size) if len(different) <= 5 else 5 * smaller // len(sizes)
            )
        for bucket in sorted(set(for_size.values())):
            inside = [s for s, size in zip(signals, sizes, strict=True) if for_size[size] == bucket]
            own = [size for size in different if for_size[size] == bucket]
            row = three(own[0]) + (f" to {three(own[-1])}" if len(own) > 1 else "")
            entered = [self.entered[one["span_id"]] for one in inside]
            profits = [trade.net for trades in entered for trade in trades]
            done = [[one.net for one in its if not one.open_quantity] for its in entered]
            closed = [sum(nets, ZERO) for nets in done if nets]
            hits = sum(profit > 0 for profit in closed)
            yield row, "Signals", str(len(inside))
            yield row, "Closed", str(len(closed))
            yield row, "Hits", str(hits)
            if closed:
                yield row, "Hit rate", ratio(hits / len(closed))
                low, high = wilson(hits, len(closed))
                yield row, "95 % interval", f"{ratio(low)} to {ratio(high)}"
            if profits:
                yield row, "P&L", money(sum(profits, ZERO), signed=True)

    def _decay(self, signals: list[Event], horizon: int) -> Iterator[tuple[str, str]]:
        strengths, returns, places = [], [], []
        for one in signals:
            bars = self.run.regimes.bars[one["symbol"]]
            place = sum(bar["sequence"] < one["sequence"] for bar in bars) - 1
            if 0 <= place < len(bars) - horizon:
                strengths.append(self.strength(one))
                after, before = (float(bars[at]["price"]) for at in (place + horizon, place))
                returns.append(after / before - 1)
                places.append((one["symbol"], place))
        yield "Signals", str(len(strengths))
        aimed = [(s, r) for s, r in zip(strengths, returns, strict=True) if s]
        yield "Right direction", ratio(sum(s * r > 0 for s, r in aimed) / len(aimed))
        mean = sum(math.copysign(1, s) * r for s, r in aimed) / len(aimed)
        yield "Mean return, bp", three(mean * 10_000)
        if len(set(strengths)) < 2 or len(strengths) < 10:
            return
        coefficient = float(spearmanr(strengths, returns).statistic)
        yield "IC", three(coefficient)
        independent = like_independent(strengths, places, horizon)
        windows = sum(
            (max(own) - min(own)) // horizon + 1
            for own in ([p for s, p in places if s == symbol] for symbol in dict(places))
        )
        if windows < 5 or independent < 4:
            return
        z, spread = math.atanh(coefficient), 1 / math.sqrt(independent - 3)
        reach = NORMAL * spread * math.sqrt(1 + coefficient**2 / 2)
        yield "95 % interval", f"{three(math.tanh(z - reach))} to {three(math.tanh(z + reach))}"
        chance = math.erfc(abs(z) / spread / math.sqrt(2))
        yield "p", three(chance) if chance >= 0.0001 else "< 0.0001"

    def _reason(self, signal: Event) -> str:
        ends = [self._end(events) for events in self.below[signal["span_id"]]]
        for reason in ("filled", "partly filled", "working"):
            if reason in ends:
                return reason
        if signal["span_id"] in self.breached:
            return "rejected by risk"
        for reason in ("rejected by risk", "rejected by venue", "cancelled"):
            if reason in ends:
                return reason
        held = sum(
            (1 if fill["side"] == "BUY" else -1) * fill["quantity"]
            for fill in self.run.published
            if fill["event_type"] == "FILL"
            and (fill["strategy"], fill["symbol"]) == (signal["strategy"], signal["symbol"])
            and fill["sequence"] < signal["sequence"]
        )
        strength = self.strength(signal)
        if strength * float(held) > 0:
            return "already positioned"
        return "no order" if strength or held else "flat"

    @staticmethod
    def _end(events: list[Event]) -> str:
        ordered = next(one["quantity"] for one in events if one["quantity"] is not None)
        filled = sum(one["quantity"] for one in events if one["event_type"] == "FILL")
        if filled:
            return "filled" if filled == ordered else "partly filled"
        return ENDED.get(events[-1]["status"], "working")


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Wilson's interval of a share, 95 %."""
    share, grown = hits / of, 1 + NORMAL**2 / of
    middle = (share + NORMAL**2 / (2 * of)) / grown
    reach = NORMAL / grown * math.sqrt(share * (1 - share) / of + (NORMAL / (2 * of)) ** 2)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def like_independent(strengths: list[float], places: list[tuple[str, int]], horizon: int) -> float:
    """How many independent signals say as much as these: by the sum over all their pairs."""
    ranks = rankdata(strengths)
    u = (ranks - ranks.mean()) / ranks.std()
    symbols = np.array([symbol for symbol, _ in places])
    at = np.array([place for _, place in places])
    shared = np.maximum(0, 1 - np.abs(at[:, None] - at[None, :]) / horizon)
    shared = shared * (symbols[:, None] == symbols[None, :])
    return float(len(u) / max(1.0, float(u @ shared @ u) / len(u)))


# -- Regimes ---------------------------------------------------------------------------------------


def regimes(run: Reckoning) -> Figures:
    """The time in each regime, and what was earned by the regime at entry."""
    stays = run.regimes.stays()
    groups: dict[tuple[str, str], list[Any]] = defaultdict(list)
    whole: dict[str, int] = defaultdict(int)
    for stay in stays:
        groups[stay.name, stay.symbol].append(stay)
        whole[stay.symbol] += stay.events
    for (name, symbol), own in groups.items():
        events = sum(stay.events for stay in own)
        row = f"{name} · {symbol} · {run.portfolio}"
        known = [stay.end - stay.begin for stay in own if stay.end is not None]
        days = Decimal(sum(known)) / 86_400 / 10**9
        text = f"{plain(round(days, 1))}\u00a0d" if days >= 2 else took(sum(known))
        for column, figure in (
            ("Stays", str(len(own))),
            ("Price events", str(events)),
            ("Share", percent(Decimal(events) / whole[symbol])),
            ("Simulated time", text if known else ""),
        ):
            if figure:
                yield "Time in each regime", row, column, figures_of(figure)
    earned: dict[str, Decimal] = defaultdict(Decimal)
    for amounts in (run.realized, run.marks, run.fees):
        for event, amount in amounts:
            earned[run.regime_of(event["lot"][0]) or "unknown"] += amount
    for name, amount in earned.items():
        yield "P&L by the regime at entry", name, "P&L", [money(amount, signed=True)]


# -- Costs of orders -------------------------------------------------------------------------------


class Orders:
    """What the orders of a run cost."""

    def __init__(self, run: Reckoning) -> None:
        self.run = run
        self.rows = [self._row(order) for order in run.orders]

    @cached_property
    def log(self) -> list[Logged]:
        """The events as their engine would have logged them."""
        return [self._logged(event) for event in self.run.events]

    def _logged(self, event: Event) -> Logged:
        told = json.loads(event["attributes"])
        if event["event_type"] == "BAR":
            told[Bar.CLOSE] = event["price"]
        names = {Order.CLIENT_ID: "client_order_id", Order.SIDE: "side", Order.TYPE: "order_type"}
        names |= {Order.STATUS: "status", Fill.COMMISSION: "commission"}
        is_fill = event["event_type"] == "FILL"
        names |= {(Fill if is_fill else Order).QUANTITY: "quantity"}
        names |= {(Fill if is_fill else Order).PRICE: "price"}
        told |= {key: event[name] for key, name in names.items() if event[name] is not None}
        kind = event["event_type"] if event["name"].startswith("publish ") else "DELIVERY"
        if kind not in {"ORDER", "FILL"}:
            told.pop(Order.CLIENT_ID, None)
        causes = (one for one in self.run.above(event) if one["name"].startswith("publish "))
        cause = next((one["sequence"] for one in causes), None)
        strategy, symbol = event["strategy"] or "", event["symbol"] or ""
        return Logged(kind, event["event_time"] or 0, symbol, strategy, told, cause)

    def _row(self, order: str) -> Row:
        first = self.run.orders[order][0]
        row = costs_by_hand(self.log, order, is_leg=self.run.is_leg(order))
        fills = [one for one in self.run.orders[order] if one["event_type"] == "FILL"]
        row["slippage"] = None
        if fills:
            paid = sum(one["price"] * one["quantity"] for one in fills)
            row["average_price"] = paid / row["filled_quantity"]
            change = (row["average_price"] - row["arrival_price"]) / row["arrival_price"]
            row["slippage"] = float(change * 10_000 * (1 if first["side"] == "BUY" else -1))
        return row | {name: first[name] for name in ("strategy", "order_type", "symbol", "venue")}

    def figures(self) -> Figures:
        count = len(self.rows)
        yield "", "# orders USD", "heading", [f"{count:,}"]
        portfolio = self.run.portfolio
        yield from self._sums("By strategy", {"All": self.rows})
        for table, name in (
            ("By strategy", lambda row: f"{portfolio} · {row['strategy']}"),
            ("By order type", lambda row: row["order_type"]),
            ("By symbol", lambda row: " · ".join(filter(None, (row["symbol"], row["venue"])))),
        ):
            groups: dict[str, list[Row]] = defaultdict(list)
            for row in self.rows:
                groups[name(row)].append(row)
            yield from self._sums(table, groups)
        yield from self._costliest()

    @staticmethod
    def _sums(table: str, groups: dict[str, list[Row]]) -> Figures:
        for name, rows in groups.items():
            yield table, name, "Orders", [f"{len(rows):,}"]
            yield table, name, "Filled", [str(sum(bool(row["filled_quantity"]) for row in rows))]
            slippages = [row["slippage"] for row in rows if row["slippage"] is not None]
            if slippages:
                yield table, name, "Slippage, bp", [tenth(median(slippages))]
            for column, part in (
                ("Delay", "delay_cost"),
                ("Impact", "impact_cost"),
                ("Commission", "commission"),
                ("Opportunity", "opportunity_cost"),
                ("Shortfall", "shortfall"),
            ):
                known = [row[part] for row in rows if "shortfall" in row]
                yield table, name, column, [cents(sum(known, ZERO))]

    def _costliest(self) -> Figures:
        costly = [row for row in self.rows if row.get("shortfall", ZERO) > 0]
        costly.sort(key=lambda row: (-row["shortfall"], row["sequence"]))
        for rank, row in enumerate(costly[:10], 1):
            place = ("Costliest orders", f"#{rank}")
            yield (*place, "Order", [plain(row["quantity"]), plain(row["filled_quantity"])])
            yield (*place, "Decision", [plain(row["decision_price"])])
            yield (*place, "Arrival", [plain(row["arrival_price"])])
            if row["filled_quantity"]:
                yield (*place, "Average fill", [plain(row["average_price"])])
                yield (*place, "Slippage, bp", [tenth(row["slippage"])])
            yield (*place, "Shortfall", [cents(row["shortfall"])])


def cents(amount: Decimal) -> str:
    return money(round(amount, 2))


def tenth(number: float) -> str:
    return f"{round(number, 1) + 0.0:.1f}".replace("-", "\u2212")
