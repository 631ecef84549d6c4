"""What a tearsheet must show, from the days, trades and prices of a run, in plain arithmetic."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import accumulate, groupby, pairwise
from statistics import mean, median
from typing import Any

from figures_by_hand import by_hand
from numbers_shown import figures_of, first_words
from reckoned_by_hand import ZERO, Event, Figures, HandTrade, Reckoning, money, percent, took
from reckoned_orders import wilson

DAY = 86_400 * 10**9
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
RATIOS = {"total_return", "cagr", "annual_volatility", "probabilistic_sharpe", "max_drawdown"}
RATIOS |= {"var_95", "var_99", "expected_shortfall_95"}
GROUPS = {
    "Profit": {
        "start": "Start equity", "end": "End equity", "transfers": "Transfers", "net": "Net P&L",
        "gross": "Gross P&L", "commission": "Commission", "on_start": "Net P&L on start equity",
    },
    "Return": {
        "total_return": "Total return", "cagr": "CAGR", "annual_volatility": "Volatility",
        "sharpe": "Sharpe ratio", "sharpe_error": "Sharpe ratio: standard error",
        "sharpe_low": "Sharpe ratio: 95 % from", "sharpe_high": "Sharpe ratio: 95 % to",
        "probabilistic_sharpe": "Sharpe ratio: probability above 0", "sortino": "Sortino ratio",
        "calmar": "Calmar ratio", "omega": "Omega ratio", "stability": "Stability",
    },
    "Risk": {
        "max_drawdown": "Deepest drawdown", "length": "Deepest drawdown: length",
        "recovery": "Deepest drawdown: recovery", "in_money": "Deepest drawdown in money",
        "var_95": "Value at risk, 95 %", "var_99": "Value at risk, 99 %",
        "expected_shortfall_95": "Expected shortfall, 95 %", "tail_ratio": "Tail ratio",
        "skew": "Skewness", "kurtosis": "Excess kurtosis",
        "autocorrelation": "Autocorrelation of the returns",
    },
    "Days and months": {
        "days": "Days with a return", "periods": "Periods per year", "best_day": "Best day",
        "worst_day": "Worst day", "positive": "Days with a gain", "best_month": "Best month",
        "worst_month": "Worst month",
    },
    "Trades": {
        "trades": "Closed trades", "win_rate": "Win rate", "win_low": "Win rate: 95 % from",
        "win_high": "Win rate: 95 % to", "profit_factor": "Profit factor",
        "expectancy": "Expectancy", "average_win": "Average gain", "average_loss": "Average loss",
        "payoff": "Payoff ratio", "largest_win": "Largest gain", "largest_loss": "Largest loss",
        "wins_in_a_row": "Most gains in a row", "losses_in_a_row": "Most losses in a row",
        "mean_held": "Mean holding time", "median_held": "Median holding time",
        "exposure": "Exposure", "turnover": "Turnover", "turnover_of_a_year": "Turnover of a year",
        "best_open": "Mean highest open profit", "worst_open": "Mean lowest open profit",
    },
}  # fmt: skip


def as_ratio(value: float) -> str:
    return percent(Decimal(repr(float(value))))


def as_number(value: float) -> str:
    places = 2 if abs(value) >= 1 else 3
    exact = Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)
    return f"{exact + 0:,f}".replace("-", "\u2212")


def as_money(value: float | Decimal) -> str:
    return money(Decimal(repr(float(value))).quantize(Decimal("0.01"), ROUND_HALF_EVEN))


def as_time(nanoseconds: float) -> str:
    hours = nanoseconds / 3600e9
    return f"{hours / 24:,.1f}\u00a0days" if hours >= 48 else took(round(nanoseconds))


class Sheet:
    """The tearsheet of a run of one portfolio and one currency, with daily bars."""

    def __init__(self, run: Reckoning) -> None:
        self.run = run
        bars = [one for one in run.published if one["event_type"] == "BAR"]
        self.dates = sorted({one["event_time"] // DAY for one in bars})
        self.span = (min(one["event_time"] for one in bars), max(b["event_time"] for b in bars))
        earned: dict[int, Decimal] = defaultdict(Decimal)
        for amounts in (run.realized, run.marks, run.fees):
            for event, amount in amounts:
                earned[event["event_time"] // DAY] += amount
        assert set(earned) <= set(self.dates)
        self.pnl = [earned[day] for day in self.dates]
        self.equity = [run.start + gone for gone in accumulate(self.pnl)]
        before = [run.start, *self.equity[:-1]]
        self.returns = [float(p / e) for p, e in zip(self.pnl, before, strict=True)]
        self.days = [dt.date(1970, 1, 1) + dt.timedelta(day) for day in self.dates]
        self.closed = [trade for trade in run.trades if not trade.open_quantity]
        self.closed.sort(key=lambda one: one.last["sequence"] if one.last else 0)

    @property
    def periods(self) -> int:
        """A week of five days or of seven."""
        assert median((b - a).days for a, b in pairwise(self.days)) == 1
        at_weekends = sum(day.weekday() > 4 for day in self.days) / len(self.days)
        return 365 if at_weekends > 0.25 else 252

    # -- Figures

    def figures(self) -> Figures:
        shown = {**self._of_money(), **self._of_returns(), **self._of_days(), **self._of_trades()}
        column = f"{self.run.portfolio} USD"
        for table, labels in GROUPS.items():
            for name, label in labels.items():
                if name in shown:
                    yield table, label, column, figures_of(shown[name])
        for label, names in (
            ("Total return", ("total_return",)),
            ("CAGR", ("cagr",)),
            ("Sharpe ratio", ("sharpe", "sharpe_low", "sharpe_high")),
            ("Deepest drawdown", ("max_drawdown",)),
            ("Win rate", ("win_rate", "win_low", "win_high")),
        ):
            texts = [shown[name] for name in names]
            if len(texts) > 1:
                texts.insert(1, "95")
            yield column, "", label, [one for text in texts for one in figures_of(text)]
        yield from self._months()
        yield from self._drawdowns()
        yield from self._caption(column)

    def _caption(self, heading: str) -> Figures:
        words = "Drawdown at the ends of days. Below it, Sharpe ratio and volatility of the last"
        window = min(63, len(self.days) // 3)
        drawn = [str(window)]
        if len(self.days) > 500:
            drawn += [f"{len(self.drawn()):,}", f"{len(self.days):,}"]
        yield heading, first_words(words), "figcaption", drawn

    def drawn(self) -> list[int]:
        """Days that a chart has: all, or the ends and the deepest of stretches of equal length."""
        below = self.below()
        count = len(below)
        if count <= 500:
            return list(range(count))
        chosen = {0, count - 1}
        edges = [count * n // 249 for n in range(250)]
        for begin, end in pairwise(edges):
            chosen |= {min(range(begin, end), key=below.__getitem__), end - 1}
        return sorted(chosen)

    def _of_money(self) -> dict[str, str]:
        net, fees = sum(self.pnl, ZERO), sum((fee for _, fee in self.run.fees), ZERO)
        lowest = ZERO
        for end in range(len(self.pnl) + 1):
            high = max(accumulate(self.pnl[:end], initial=ZERO))
            lowest = min(lowest, sum(self.pnl[:end], ZERO) - high)
        return {
            "start": as_money(self.run.start), "end": as_money(self.run.start + net),
            "transfers": as_money(0), "net": as_money(net), "gross": as_money(net - fees),
            "commission": as_money(fees), "on_start": as_ratio(float(net / self.run.start)),
            "in_money": as_money(lowest),
        }  # fmt: skip

    def _of_returns(self) -> dict[str, str]:
        figures = by_hand(self.returns, self.periods)
        return {
            name: as_ratio(value) if name in RATIOS else as_number(value)
            for name, value in figures.items()
            if value is not None
        }

    def _of_days(self) -> dict[str, str]:
        months = self.by_month()
        falls = self.falls()
        shown = {
            "days": f"{len(self.days):,}",
            "periods": str(self.periods),
            "best_day": as_ratio(max(self.returns)),
            "worst_day": as_ratio(min(self.returns)),
            "positive": as_ratio(sum(one > 0 for one in self.returns) / len(self.returns)),
            "best_month": as_ratio(max(months.values())),
            "worst_month": as_ratio(min(months.values())),
        }
        if falls:
            _, peak, trough, end, recovered = falls[0]
            shown["length"] = f"{(self.days[end] - self.days[peak]).days:,}"
            if recovered:
                shown["recovery"] = f"{(self.days[end] - self.days[trough]).days:,}"
        return shown

    def by_month(self) -> dict[tuple[int, int], float]:
        pairs = zip(self.days, self.returns, strict=True)
        groups = groupby(pairs, key=lambda pair: (pair[0].year, pair[0].month))
        return {month: math.prod(1 + r for _, r in own) - 1 for month, own in groups}

    def _months(self) -> Figures:
        table = "Returns by month, percent"
        for (year, month), value in self.by_month().items():
            yield table, str(year), MONTHS[month - 1], [as_ratio(value)[:-2]]
        for year in {day.year for day in self.days}:
            pairs = zip(self.days, self.returns, strict=True)
            whole = math.prod(1 + one for day, one in pairs if day.year == year) - 1
            yield table, str(year), "Year", [as_ratio(whole)[:-2]]

    # -- Drawdowns

    def below(self) -> list[float]:
        """How far each day is below the highest wealth so far."""
        wealth = list(accumulate((1 + one for one in self.returns), lambda a, b: a * b))
        highest = accumulate([1.0, *wealth], max)
        depths = [w / h - 1 for w, h in zip(wealth, list(highest)[1:], strict=True)]
        return [depth if depth < -1e-12 else 0.0 for depth in depths]

    def falls(self) -> list[tuple[float, int, int, int, bool]]:
        """Depth, and the places of peak, bottom and end; and whether it has recovered."""
        below, found, place = self.below(), [], 0
        while place < len(below):
            if not below[place]:
                place += 1
                continue
            begin = place
            while place < len(below) and below[place]:
                place += 1
            trough = min(range(begin, place), key=below.__getitem__)
            recovered = place < len(below)
            end = place if recovered else place - 1
            found.append((below[trough], max(begin - 1, 0), trough, end, recovered))
        return sorted(found)

    def _drawdowns(self) -> Figures:
        table = "Deepest drawdowns, with the trade in each that lost most"
        for rank, (depth, peak, trough, end, recovered) in enumerate(self.falls()[:5], 1):
            if depth > -0.00005:
                continue
            row = f"#{rank}"
            yield table, row, "Depth", figures_of(as_ratio(depth).replace("\u202f", " "))
            yield table, row, "Peak", [str(self.days[peak])]
            yield table, row, "Bottom", [str(self.days[trough])]
            yield table, row, "Days", [f"{(self.days[end] - self.days[peak]).days:,}"]
            if recovered:
                yield table, row, "Recovered", [str(self.days[end])]
                back = (self.days[end] - self.days[trough]).days
                yield table, row, "Days to recover", [f"{back:,}"]

    # -- Trades

    def _of_trades(self) -> dict[str, str]:
        nets = [float(trade.net) for trade in self.closed]
        wins, losses = [n for n in nets if n > 0], [n for n in nets if n < 0]
        low, high = wilson(len(wins), len(nets))
        times = [self._times(one)[1] - self._times(one)[0] for one in self.closed]
        fills = [one for one in self.run.published if one["event_type"] == "FILL"]
        traded = sum(float(one["price"] * one["quantity"]) for one in fills)
        turnover = traded / mean(map(float, self.equity))
        extremes = [self.extremes(one) for one in self.run.trades if not one.open_quantity]
        return {
            "trades": f"{len(nets):,}",
            "win_rate": as_ratio(len(wins) / len(nets)),
            "win_low": as_ratio(low),
            "win_high": as_ratio(high),
            "profit_factor": as_number(sum(wins) / -sum(losses)),
            "expectancy": as_money(mean(nets)),
            "average_win": as_money(mean(wins)),
            "average_loss": as_money(mean(losses)),
            "payoff": as_number(mean(wins) / -mean(losses)),
            "largest_win": as_money(max(wins)),
            "largest_loss": as_money(min(losses)),
            "wins_in_a_row": str(self._row([net > 0 for net in nets])),
            "losses_in_a_row": str(self._row([net < 0 for net in nets])),
            "mean_held": as_time(mean(times)),
            "median_held": as_time(median(times)),
            "exposure": as_ratio(self._exposure()),
            "turnover": as_number(turnover),
            "turnover_of_a_year": as_number(turnover * self.periods / len(self.days)),
            "best_open": as_money(mean(float(high) for high, _ in extremes)),
            "worst_open": as_money(mean(float(low) for _, low in extremes)),
        }

    @staticmethod
    def _row(hits: Sequence[bool]) -> int:
        return max((len(list(own)) for hit, own in groupby(hits) if hit), default=0)

    def _times(self, trade: HandTrade) -> tuple[int, int]:
        last = trade.last["event_time"] if trade.last and not trade.open_quantity else self.span[1]
        return int(trade.fill["event_time"]), int(last)

    def _exposure(self) -> float:
        """Hour by hour: these markets move by days."""
        hour = 3600 * 10**9
        held: set[int] = set()
        for trade in self.run.trades:
            begin, end = self._times(trade)
            held.update(range(begin // hour, end // hour))
        return len(held) / float((self.span[1] - self.span[0]) // hour)

    def extremes(self, trade: HandTrade) -> tuple[Decimal, Decimal]:
        """The highest and the lowest profit while a trade was open."""
        profits, cash, held = [ZERO], ZERO, ZERO
        followers = [*(fill for fill, _ in trade.parts[1:]), None]
        for (fill, change), following in zip(trade.parts, followers, strict=True):
            cash -= change * fill["price"]
            held += change
            seen = [fill["price"], *(self._seen(fill, following) if held else ())]
            profits += [cash + held * price for price in seen]
        return max(profits), min(profits)

    def _seen(self, begin: Event, end: Event | None) -> list[Decimal]:
        """The market's prices between two fills: of a bar that one lies in, the close or none."""
        bars = self.run.regimes.bars[begin["symbol"]]
        prices: list[Decimal] = []
        for place, bar in enumerate(bars):
            if end is not None and (
                bar["sequence"] > end["sequence"] or self._in(end, place, bars)
            ):
                break
            before = bars[place - 1] if place else None
            if bar["sequence"] < begin["sequence"]:
                if self._in(begin, place, bars):
                    prices.append(bar["price"])
                continue
            is_first = before is None or before["sequence"] < begin["sequence"]
            if is_first and (before is None or begin["event_time"] > before["event_time"]):
                prices.append(bar["price"])
            else:
                told = json.loads(bar["attributes"])
                prices += [Decimal(told[f"trading.bar.{name}"]) for name in ("high", "low")]
        return prices

    def _in(self, fill: Event, place: int, bars: list[Any]) -> bool:
        """Whether a fill that came after a bar, and before the next one, was made within it."""
        after = bars[place + 1]["sequence"] if place + 1 < len(bars) else math.inf
        began = self.run.orders[fill["client_order_id"]][0]["sequence"]
        waited = began < bars[place]["sequence"] < fill["sequence"] < after
        return bool(waited and fill["event_time"] <= bars[place]["event_time"])
