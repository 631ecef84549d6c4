"""The report's charts of signals and regimes; see `charts` for how they are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import altair as alt

from fillpath.analytics.charts import (
    HAS_TOOLTIP,
    ROWS,
    ChartFigure,
    Row,
    chart_spec,
    link_to_trace,
    time_axis,
)
from fillpath.analytics.market_time import DAY
from fillpath.analytics.report_format import MINUS, count, date, money, percent, timestamp

if TYPE_CHECKING:
    from fillpath.analytics.report_regimes import Ribbon
    from fillpath.analytics.report_signals import DecayRow, StrengthRow

_LEFT = 76


def strength_figure(buckets: Sequence[StrengthRow], digits: int) -> ChartFigure:
    """Return hit rates by bucket of strength with their intervals, and P&L below.

    Args:
        buckets: The buckets of one signal, all of one currency.
        digits: The currency's decimal places.
    """
    rows: list[Row] = []
    for bucket in buckets:
        row: Row = {
            "name": bucket.strength,
            "signals": count(bucket.signals),
            "traded": count(bucket.traded),
        }
        if bucket.rate is not None:
            row |= {"r": float(bucket.rate.value), "a": float(bucket.rate.low)}
            row |= {"z": float(bucket.rate.high), "rate": percent(bucket.rate.value)}
            row["interval"] = f"{percent(bucket.rate.low)} to {percent(bucket.rate.high)}"
        if bucket.pnl is not None:
            figure = money(bucket.pnl, digits, signed=True)
            row |= {"v": float(bucket.pnl), "tone": figure.tone}
            row["pnl"] = f"{figure} {bucket.currency}"
        link_to_trace(row, bucket.trace_id)
        rows.append(row)
    base = alt.Chart(alt.NamedData(name=ROWS))
    upper = base.encode(x=_steps(labels=False), tooltip=HAS_TOOLTIP)
    scale = alt.Scale(domain=[0, 1])
    rates = alt.Y("r", type="quantitative", scale=scale, axis=_axis("~%"))
    reach = upper.mark_rule(strokeWidth=1.5, color="var(--line-strong)").encode(
        y=alt.Y("a", type="quantitative", scale=scale, axis=_axis("~%")), y2="z"
    )
    dots = upper.mark_point(filled=True, size=60, color="var(--series-1)", opacity=1).encode(
        y=rates
    )
    half = base.mark_rule(color="var(--line-strong)", strokeDash=[3, 3], aria=False).encode(
        y=alt.datum(0.5, type="quantitative")
    )
    bars = base.mark_bar(cursor="pointer").encode(
        x=_steps(labels=True),
        y=alt.Y("v", type="quantitative", axis=_axis(",.6~f")),
        tooltip=HAS_TOOLTIP,
        color=alt.Color(
            "tone",
            type="nominal",
            legend=None,
            scale=alt.Scale(
                domain=["positive", "negative", "zero"],
                range=["var(--positive-bar)", "var(--negative-bar)", "var(--muted)"],
            ),
        ),
    )
    titles = {"name": "Strength", "signals": "Signals", "traded": "Closed", "rate": "Hit rate"}
    titles |= {"interval": "95 % interval", "pnl": "P&L"}
    return ChartFigure(
        rows,
        [
            {
                **chart_spec(
                    alt.layer(half, reach, dots).properties(width="container", height=130)
                ),
                "description": "Hit rate with 95 % interval, by strength of the signal",
            },
            {
                **chart_spec(alt.layer(bars).properties(width="container", height=110)),
                "description": "P&L of what was entered, by strength of the signal",
            },
        ],
        titles,
    )


def decay_figure(rows: Sequence[DecayRow]) -> ChartFigure:
    """Return the information coefficient with its interval, horizon by horizon."""
    drawn: list[Row] = []
    for row in rows:
        if row.coefficient is None:
            continue
        point: Row = {
            "name": count(row.horizon),
            "v": row.coefficient,
            "coefficient": short(row.coefficient),
            "signals": count(row.signals),
        }
        if row.low is not None and row.high is not None:
            point |= {"a": row.low, "z": row.high}
            point["interval"] = f"{short(row.low)} to {short(row.high)}"
        drawn.append(point)
    base = alt.Chart(alt.NamedData(name=ROWS)).encode(x=_steps(labels=True), tooltip=HAS_TOOLTIP)
    reach = base.mark_rule(strokeWidth=1.5, color="var(--line-strong)").encode(
        y=alt.Y("a", type="quantitative", axis=_axis(".2~f")), y2="z"
    )
    dots = base.mark_point(filled=True, size=60, color="var(--series-1)", opacity=1).encode(
        y=alt.Y("v", type="quantitative", axis=_axis(".2~f"))
    )
    zero = (
        alt.Chart(alt.NamedData(name=ROWS))
        .mark_rule(color="var(--line-strong)", aria=False)
        .encode(y=alt.datum(0, type="quantitative"))
    )
    chart = alt.layer(zero, reach, dots).properties(width="container", height=150)
    titles = {"name": "Prices on", "coefficient": "IC", "interval": "95 % interval"}
    titles |= {"signals": "Signals"}
    description = "Information coefficient with 95 % interval, by price events after the signal"
    return ChartFigure(drawn, [{**chart_spec(chart), "description": description}], titles)


def regime_figure(ribbons: Sequence[Ribbon]) -> ChartFigure:
    """Return the regimes of instruments over simulated time, a ribbon each."""
    rows: list[Row] = []
    for ribbon in ribbons:
        for stretch in ribbon.stretches:
            row: Row = {
                "name": ribbon.name,
                "t": stretch.begin // 1_000_000,
                "u": stretch.end // 1_000_000,
                "tone": stretch.tone,
                "o": 0.95 if stretch.is_strong else 0.4,
                "regime": stretch.regime,
                "from": timestamp(stretch.begin),
                "to": date(stretch.end),
            }
            link_to_trace(row, stretch.trace_id)
            rows.append(row)
    stretches = [stretch for ribbon in ribbons for stretch in ribbon.stretches]
    begins, ends = sorted(one.begin for one in stretches), sorted(one.end for one in stretches)
    base = alt.Chart(alt.NamedData(name=ROWS))
    tones = ["up", "down", "sideways", "other"]
    colours = ["var(--positive-bar)", "var(--negative-bar)", "var(--muted)", "var(--series-1)"]
    bars = base.mark_bar(cursor="pointer", stroke=None).encode(
        x=time_axis((ends[-1] - begins[0]) // DAY, labels=True),
        x2="u",
        y=alt.Y(
            "name",
            type="nominal",
            sort=None,
            scale=alt.Scale(paddingInner=0.35),
            axis=alt.Axis(title=None, ticks=False, domain=False, labelPadding=10),
        ),
        opacity=alt.Opacity("o", type="quantitative", scale=None, legend=None),
        color=alt.Color(
            "tone", type="nominal", legend=None, scale=alt.Scale(domain=tones, range=colours)
        ),
        tooltip=HAS_TOOLTIP,
    )
    chart = alt.layer(bars).properties(width="container", height=30 * len(ribbons))
    titles = {"name": "Market", "regime": "Regime", "from": "From", "to": "Until"}
    description = "Regimes over simulated time, a ribbon for each instrument"
    return ChartFigure(rows, [{**chart_spec(chart), "description": description}], titles)


def short(value: float) -> str:
    """Write a coefficient with three significant digits."""
    return f"{value:.3g}".replace("-", MINUS)


def _steps(*, labels: bool) -> alt.X:
    axis = alt.Axis(
        title=None, labels=labels, ticks=False, grid=False, labelAngle=0, labelOverlap=True
    )
    return alt.X("name", type="ordinal", sort=None, axis=axis)


def _axis(number_format: str) -> alt.Axis:
    return alt.Axis(
        title=None,
        format=number_format,
        tickCount=5,
        minExtent=_LEFT,
        maxExtent=_LEFT,
        domain=False,
        ticks=False,
        labelPadding=8,
    )
