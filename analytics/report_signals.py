"""The report's section on signals: what came of them, and whether their strength said anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.report_format import MINUS, currency_digits
from fillpath.analytics.signal_decay import FEWEST_SIGNALS, HORIZONS
from fillpath.analytics.signal_summary import ReasonCount, Row, reason_counts, unused_signals

if TYPE_CHECKING:
    from fillpath.analytics.charts import ChartFigure
    from fillpath.analytics.report_sections import ReportSource

FEW_TRADES: Final = 30
"""Below so many closed lots, a hit rate is said to mean little."""
EXAMPLES: Final = 3
"""Signals that are listed for each name and reason."""
MOST_LISTED: Final = 60
"""Signals that are listed in all."""
MOST_DRAWN: Final = 12
"""Signals of different names that have charts; the others have tables."""

_PLACES: Final = Decimal("1e-9")


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % interval, from 0 to 1."""

    value: Decimal
    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class StrengthRow:
    """A bucket of strength in one currency; table ``signal_strength`` has the definitions."""

    strength: str
    signals: int
    traded: int
    hits: int
    rate: Rate | None
    pnl: Decimal | None
    currency: str | None
    trace_id: str | None


@dataclass(frozen=True, slots=True)
class DecayRow:
    """A horizon; table ``signal_decay`` has the definitions."""

    horizon: int
    signals: int
    coefficient: float | None
    low: float | None
    high: float | None
    p_value: float | None
    hit_rate: Decimal | None
    mean_return: Decimal | None

    @property
    def coefficient_text(self) -> str:
        """The coefficient as it is shown."""
        return _figure(self.coefficient)

    @property
    def interval_text(self) -> str:
        """Its interval as it is shown; empty if there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"{_figure(self.low)} to {_figure(self.high)}"

    @property
    def p_text(self) -> str:
        """Its p-value as it is shown."""
        if self.p_value is not None and self.p_value < 0.0001:
            return "< 0.0001"
        return _figure(self.p_value)

    @property
    def mean_text(self) -> str:
        """The mean return as it is shown, in basis points."""
        return "" if self.mean_return is None else _figure(float(self.mean_return) * 10_000)


@dataclass(frozen=True, slots=True)
class SignalGroup:
    """All signals of one name.

    Attributes:
        portfolio: Namespace.
        strategy: The engine's id of the strategy; ``None`` if none.
        name: What the strategy calls the signal.
        signals: How many.
        reasons: What came of them.
        buckets: By strength; none without a strength.
        decay: By horizon; none without a strength.
        remarks: What the reader should not read into it.
        strength_figure: Charts of `buckets`, one a currency.
        decay_figure: Chart of `decay`, if there is a coefficient.
    """

    portfolio: str
    strategy: str | None
    name: str | None
    signals: int
    reasons: tuple[ReasonCount, ...]
    buckets: tuple[StrengthRow, ...]
    decay: tuple[DecayRow, ...]
    remarks: tuple[str, ...]
    strength_figures: tuple[ChartFigure, ...] = ()
    decay_figure: ChartFigure | None = None


@dataclass(frozen=True, slots=True)
class UnusedSignal:
    """A signal that led to nothing."""

    event_time: int | None
    portfolio: str
    strategy: str | None
    name: str | None
    symbol: str | None
    value: str | None
    reason: str
    trace_id: str | None


@dataclass(frozen=True, slots=True)
class SignalSection:
    """What the section shows.

    Attributes:
        groups: By name.
        unused: Examples of signals that led to nothing.
        unused_count: How many led to nothing.
    """

    groups: tuple[SignalGroup, ...]
    unused: tuple[UnusedSignal, ...]
    unused_count: int


def read_signals(source: ReportSource) -> SignalSection:
    """Read the section's model; without signals it is empty."""
    results, run_id = source.results, source.run.run_id
    counts = reason_counts(results, run_id)
    strength = _grouped(results.rows("signal_strength", run_id))
    decay = _grouped(results.rows("signal_decay", run_id))
    groups: dict[tuple[Any, ...], list[ReasonCount]] = {}
    for one in counts:
        groups.setdefault((one.portfolio, one.strategy, one.name), []).append(one)
    drawn = sorted(groups, key=lambda key: -sum(one.count for one in groups[key]))[:MOST_DRAWN]
    made = [
        _group(
            reasons,
            tuple(map(_bucket, strength.get(key, ()))),
            tuple(map(_decay, decay.get(key, ()))),
            source.currency_digits if key in drawn else None,
        )
        for key, reasons in groups.items()
    ]
    unused = unused_signals(results, run_id, EXAMPLES)[:MOST_LISTED]
    return SignalSection(
        tuple(made),
        tuple(map(_unused, unused)),
        sum(one.count for one in counts if not one.is_used),
    )


def _grouped(rows: Iterable[Row]) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["portfolio"], row["strategy"], row["name"]), []).append(row)
    return groups


def _group(
    reasons: Sequence[ReasonCount],
    buckets: tuple[StrengthRow, ...],
    decay: tuple[DecayRow, ...],
    digits: Mapping[str, int] | None,
) -> SignalGroup:
    """Put a group together, with charts if `digits` are given."""
    first = reasons[0]
    strength_figures: list[ChartFigure] = []
    decay_figure = None
    if digits is not None:
        from fillpath.analytics import signal_charts

        for currency in sorted({one.currency for one in buckets if one.currency is not None}):
            those = [one for one in buckets if one.currency in (currency, None)]
            if len(those) > 1:
                places = currency_digits(currency, digits)
                strength_figures.append(signal_charts.strength_figure(those, places))
        if any(row.coefficient is not None for row in decay):
            decay_figure = signal_charts.decay_figure(decay)
    return SignalGroup(
        first.portfolio,
        first.strategy,
        first.name,
        sum(one.count for one in reasons),
        tuple(reasons),
        buckets,
        decay,
        tuple(_remarks(buckets, decay)),
        tuple(strength_figures),
        decay_figure,
    )


def _remarks(buckets: Sequence[StrengthRow], decay: Sequence[DecayRow]) -> Iterator[str]:
    """Say in words what the figures cannot carry."""
    if not buckets:
        yield "These signals tell no strength, so nothing can be ranked by it."
        return
    closed = sum(one.traded for one in buckets)
    if closed < FEW_TRADES:
        yield (
            f"Only {closed} of these signals entered something that is closed by now: the hit "
            "rates say little, as their intervals show."
        )
    if len({one.strength for one in buckets}) == 1:
        yield "They all have the same strength, apart from the direction."
    known = [row for row in decay if row.coefficient is not None]
    if not known:
        most = max((row.signals for row in decay), default=0)
        yield (
            f"{most} of them have a strength and a return, and a coefficient takes "
            f"{FEWEST_SIGNALS} that differ: this sample is too small to mean anything."
        )
        return
    told = [row for row in known if row.p_value is not None and row.low is not None]
    if not told:
        yield "The signals span too few prices for an interval: the coefficients may be chance."
        return
    clear = [row for row in told if row.p_value is not None and row.p_value < 0.05 / len(HORIZONS)]
    if clear:
        places = ", ".join(str(row.horizon) for row in clear)
        yield (
            f"The coefficient at {places} prices differs from 0 by more than chance explains, even "
            f"though {len(HORIZONS)} horizons were looked at."
        )
    else:
        yield (
            f"No coefficient differs from 0 by more than chance explains when {len(HORIZONS)} "
            "horizons are looked at: this run does not show that the strength foretells returns."
        )


def _bucket(row: Row) -> StrengthRow:
    low, high = row["low"], row["high"]
    rate = None
    if row["hit_rate"] is not None:
        parts = (row[name] for name in ("hit_rate", "hit_rate_low", "hit_rate_high"))
        rate = Rate(*(_ratio(part) for part in parts))
    return StrengthRow(
        strength=_figure(low) if low == high else f"{_figure(low)} to {_figure(high)}",
        signals=row["signals"],
        traded=row["traded"],
        hits=row["hits"],
        rate=rate,
        pnl=row["pnl"],
        currency=row["currency"],
        trace_id=row["trace_id"],
    )


def _decay(row: Row) -> DecayRow:
    return DecayRow(
        horizon=row["horizon"],
        signals=row["signals"],
        coefficient=row["information_coefficient"],
        low=row["low"],
        high=row["high"],
        p_value=row["p_value"],
        hit_rate=None if row["hit_rate"] is None else _ratio(row["hit_rate"]),
        mean_return=None if row["mean_return"] is None else _ratio(row["mean_return"]),
    )


def _unused(row: Row) -> UnusedSignal:
    names = ("event_time", "portfolio", "strategy", "name", "symbol", "value", "reason", "trace_id")
    return UnusedSignal(*(row[name] for name in names))


def _ratio(value: float) -> Decimal:
    return Decimal(repr(value)).quantize(_PLACES)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}".replace("-", MINUS)
