"""The charts of a tearsheet: drawdown and rolling figures by day, and results of trades."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal

import altair as alt

from fillpath.analytics.charts import (
    HAS_TOOLTIP,
    ROWS,
    ChartFigure,
    Row,
    Spec,
    chart_spec,
    layered,
    link_to_trace,
    time_axis,
    value_axis,
)
from fillpath.analytics.figure_definitions import BY_NAME
from fillpath.analytics.figure_text import figure_text
from fillpath.analytics.report_format import count, money, percent
from fillpath.analytics.rolling_figures import RollingPoint
from fillpath.analytics.trade_distribution import Bin

_DAY_IN_MS = 86_400_000
_FIRST = dt.date(1970, 1, 1)


def days_figure(points: Sequence[RollingPoint], window: int | None) -> ChartFigure:
    """Return the drawdown of days, and below it the rolling Sharpe ratio and volatility.

    Args:
        points: The days to draw; at least one.
        window: Days that a rolling figure spans; ``None`` leaves those charts out.
    """
    rows: list[Row] = []
    for point in points:
        row: Row = {
            "t": (point.day - _FIRST).days * _DAY_IN_MS,
            "d": round(point.below, 6),
            "when": point.day.isoformat(),
            "drawdown": percent(Decimal(repr(point.below))),
        }
        if point.sharpe is not None:
            row["s"] = round(point.sharpe, 4)
            row["sharpe"] = figure_text(BY_NAME["sharpe"], point.sharpe, 0).text
        if point.volatility is not None:
            row["v"] = round(point.volatility, 6)
            row["volatility"] = percent(Decimal(repr(point.volatility)))
        rows.append(row)
    span = (points[-1].day - points[0].day).days
    plain, labelled = time_axis(span, labels=False), time_axis(span, labels=True)
    specs = [_under_water(labelled if window is None else plain)]
    if window is not None:
        specs += [_rolling("s", "~f", plain), _rolling("v", "~%", labelled)]
    names = ("Drawdown", "Rolling Sharpe ratio", "Rolling volatility of a year")
    described = [
        {**spec, "description": f"{name} by day"} for spec, name in zip(specs, names, strict=False)
    ]
    titles = {
        "when": "Day",
        "drawdown": "Drawdown",
        "sharpe": "Sharpe ratio",
        "volatility": "Volatility",
    }
    return ChartFigure(rows, described, titles)


def _under_water(time: alt.X) -> Spec:
    base = alt.Chart(alt.NamedData(name=ROWS))
    down = alt.Y("d", type="quantitative", stack=None, axis=_named_axis("Drawdown", "~%", 3))
    area = base.mark_area(
        interpolate="step-after",
        line={"color": "var(--negative)", "strokeWidth": 1},
        color="var(--negative-fill)",
    ).encode(x=time, y=down)
    layers = layered(area, down, time, "var(--negative)")
    return chart_spec(layers.properties(width="container", height=110))


def _rolling(field: str, number_format: str, time: alt.X) -> Spec:
    base = alt.Chart(alt.NamedData(name=ROWS))
    name = "Sharpe ratio" if field == "s" else "Volatility"
    value = alt.Y(field, type="quantitative", axis=_named_axis(name, number_format, 4))
    line = base.mark_line(strokeWidth=1.5, color="var(--series-1)").encode(x=time, y=value)
    zero = base.mark_rule(color="var(--line-strong)", aria=False).encode(
        y=alt.datum(0, type="quantitative")
    )
    layers = layered(alt.layer(zero, line), value, time, "var(--series-1)")
    return chart_spec(layers.properties(width="container", height=90))


def _named_axis(name: str, number_format: str, ticks: int) -> alt.Axis:
    axis = value_axis(number_format, ticks)
    axis["title"] = name
    axis["titleAnchor"] = "start"
    axis["titleAngle"] = 0
    axis["titleAlign"] = "left"
    axis["titleX"], axis["titleY"] = 4, -8
    return axis


def trades_figure(bins: Sequence[Bin], currency: str, digits: int) -> ChartFigure:
    """Return how many trades came to how much.

    Args:
        bins: In order; at least one.
        currency: Currency of their edges.
        digits: Its decimal places.
    """
    rows: list[Row] = []
    for one in bins:
        row: Row = {
            "a": float(one.low),
            "z": float(one.high),
            "n": one.count,
            "tone": "negative" if one.high <= 0 else "positive",
            "name": f"{_edges(one, digits)} {currency}".strip(),
            "count": count(one.count),
        }
        link_to_trace(row, one.trace_id)
        rows.append(row)
    base = alt.Chart(alt.NamedData(name=ROWS))
    bars = base.mark_bar(cursor="pointer", binSpacing=1).encode(
        x=alt.X(
            "a",
            type="quantitative",
            bin="binned",
            scale=alt.Scale(nice=False, zero=False),
            axis=alt.Axis(title=None, format=",.6~f", grid=False, tickCount=9, labelOverlap=True),
        ),
        x2="z",
        y=alt.Y("n", type="quantitative", axis=_named_axis("Trades", ",d", 4)),
        color=alt.Color(
            "tone",
            type="nominal",
            legend=None,
            scale=alt.Scale(
                domain=["positive", "negative"],
                range=["var(--positive-bar)", "var(--negative-bar)"],
            ),
        ),
        tooltip=HAS_TOOLTIP,
    )
    zero = base.mark_rule(color="var(--line-strong)", aria=False).encode(
        x=alt.datum(0, type="quantitative")
    )
    chart = alt.layer(bars, zero).properties(width="container", height=130)
    description = f"Number of trades by net P&L in {currency}"
    spec = {**chart_spec(chart), "description": description}
    return ChartFigure(rows, [spec], {"name": "Net P&L", "count": "Trades"})


def _edges(one: Bin, digits: int) -> str:
    low, high = money(one.low, digits), money(one.high, digits)
    if one.is_open:
        return f"{high} and less" if one.high <= 0 else f"{low} and more"
    return f"{low} to {high}"
