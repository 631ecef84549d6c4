"""The report's charts: Altair specifications and the rows they draw, as plain JSON values.

Only positions on the screen are floats; every number that is read as a number is text made from the
exact value. Colours are CSS variables of the page, so that light, dark and print need no redrawing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import altair as alt

from fillpath.analytics.latency import DAY
from fillpath.analytics.report_attribution import Step, Waterfall
from fillpath.analytics.report_equity import Curve
from fillpath.analytics.report_format import (
    count,
    duration,
    is_trace_id,
    money,
    percent,
    timestamp,
)
from fillpath.analytics.report_latency import HopLatency, LatencyOverTime
from fillpath.analytics.report_model import PnlRow

Spec = dict[str, Any]
Row = dict[str, Any]
# What altair.layer() may return.
_Layers = alt.LayerChart | alt.FacetChart

# The name under which the page hands the rows to every specification of a figure.
ROWS = "rows"
# The page writes the tooltip from the row under the pointer; this only says that there is one.
HAS_TOOLTIP = alt.value("row")
# A row with this key can be followed to its trace by a click.
TRACE = "trace"

_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif'
_CONFIG: Mapping[str, Any] = {
    "background": "transparent",
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "domainColor": "var(--line-strong)",
        "gridColor": "var(--line)",
        "labelColor": "var(--muted)",
        "labelFontSize": 11,
        "tickColor": "var(--line-strong)",
        "titleColor": "var(--muted)",
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    },
}
# Thousands separators, and as many decimal places as the ticks need.
_AMOUNTS = ",.6~f"
# Nanoseconds in the unit that suits them.
_DURATION = (
    "datum.value >= 1e9 ? datum.value / 1e9 + ' s' : datum.value >= 1e6 ? datum.value / 1e6"
    " + ' ms' : datum.value >= 1e3 ? datum.value / 1e3 + ' µs' : datum.value + ' ns'"
)
# Wide enough for a balance in the millions, so that charts one above the other line up.
_LEFT = 76
_DAY_IN_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class ChartFigure:
    """Charts that are drawn from the same rows, one above the other.

    Attributes:
        rows: The rows.
        specs: Vega-Lite specifications; their data is the data set `ROWS`.
        titles: What a tooltip shows of a row: fields with their titles.
    """

    rows: Sequence[Row]
    specs: Sequence[Spec]
    titles: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return what the page's script reads."""
        return {
            "rows": list(self.rows),
            "specs": list(self.specs),
            "titles": dict(self.titles),
        }


def chart_spec(chart: _Layers) -> Spec:
    """Write a chart's specification in the style of the page."""
    # What it says is checked by drawing it; the schema would take longer than all the rest.
    spec: Spec = chart.to_dict(validate=False)
    # Whatever theme the process has enabled, a report looks the same.
    spec["config"] = dict(_CONFIG)
    # The page has one runtime; a schema's address would only look like a request.
    del spec["$schema"]
    return spec


def page_spec(chart: _Layers, description: str) -> Spec:
    """Write a chart's specification in the style of the page.

    Args:
        chart: A chart of the data set `ROWS`.
        description: What it shows, for who cannot see it.
    """
    return {**chart_spec(chart), "description": description}


def link_to_trace(row: Row, trace_id: str | None) -> None:
    """Let a click on the row's mark lead to the trace: the page makes a command of the id."""
    if is_trace_id(trace_id):
        row[TRACE] = trace_id


def waterfall_bars(
    base: alt.Chart, scale: alt.Scale, axis: alt.Axis, tones: Sequence[str]
) -> _Layers:
    """Return bars from `a` to `z`, coloured by `tone`, with `label` at `l`.

    Args:
        base: A chart of the data set `ROWS` with a place on the y axis for each row.
        scale: The x axis's.
        axis: The x axis.
        tones: What a gain, a loss, no change and a level are called, in this order.
    """
    bars = base.mark_bar(cursor="pointer").encode(
        x=alt.X("a", type="quantitative", scale=scale, axis=axis),
        x2="z",
        color=alt.Color(
            "tone",
            type="nominal",
            legend=None,
            scale=alt.Scale(
                domain=list(tones),
                range=[
                    "var(--positive-bar)",
                    "var(--negative-bar)",
                    "var(--muted)",
                    "var(--series-1)",
                ],
            ),
        ),
    )
    labels = base.mark_text(
        align="left", dx=6, fontSize=11, baseline="middle", color="var(--ink)"
    ).encode(
        x=alt.X("l", type="quantitative", scale=scale, axis=axis),
        text=alt.Text("label", type="nominal"),
    )
    return alt.layer(bars, labels)


def time_axis(days: int, *, labels: bool) -> alt.X:
    """Return the axis of so many days: a long one names years, so that each label says enough."""
    interval, label = ("year", "%Y") if days > 1100 else ("month", "%b %Y")
    axis = alt.Axis(
        title=None,
        labels=labels,
        ticks=labels,
        grid=False,
        labelOverlap="greedy",
        labelSeparation=8,
        labelFlush=False,
    )
    if days > 62:
        axis["format"], axis["tickCount"] = label, {"interval": interval, "step": 1}
    return alt.X("t", type="temporal", scale=alt.Scale(type="utc"), axis=axis)


def value_axis(number_format: str, ticks: int) -> alt.Axis:
    """Return the axis of numbers; charts above one another have it equally wide."""
    return alt.Axis(
        title=None,
        format=number_format,
        tickCount=ticks,
        minExtent=_LEFT,
        maxExtent=_LEFT,
        domain=False,
        ticks=False,
        labelPadding=8,
    )


def layered(mark: alt.Chart | _Layers, value: alt.Y, time: alt.X, colour: str) -> _Layers:
    """Put a marker on the curve that follows the pointer and carries the tooltip."""
    nearest = alt.selection_point(
        name="nearest",
        nearest=True,
        on="pointermove",
        clear="pointerout",
        encodings=["x"],
        empty=False,
    )
    base = alt.Chart(alt.NamedData(name=ROWS)).encode(x=time)
    line = base.mark_rule(color="var(--line-strong)").encode(
        opacity=alt.condition(nearest, alt.value(1), alt.value(0))
    )
    marker = (
        base.mark_point(filled=True, size=50, color=colour, cursor="pointer")
        .encode(
            y=value,
            opacity=alt.condition(nearest, alt.value(1), alt.value(0)),
            tooltip=HAS_TOOLTIP,
        )
        .add_params(nearest)
        .properties(name="marker")
    )
    return alt.layer(mark, line, marker)


def equity_figure(curve: Curve, digits: int) -> ChartFigure:
    """Return an account's curve with its drawdown below it.

    Args:
        curve: The curve.
        digits: The currency's decimal places.
    """
    series = curve.series
    rows: list[Row] = []
    for point in curve.drawn:
        row: Row = {
            "t": point.at.time // 1_000_000,
            "v": float(point.value),
            "d": float(point.drawdown),
            "when": timestamp(point.at.time),
            "balance": f"{money(point.at.balance, digits)} {series.currency}",
            "drawdown": percent(point.drawdown),
        }
        if point.at.equity is not None:
            row["equity"] = f"{money(point.at.equity, digits)} {series.currency}"
        link_to_trace(row, point.at.trace_id)
        rows.append(row)
    titles = {"when": "Simulated time", "balance": "Balance"}
    if curve.of_equity:
        titles["equity"] = "Equity"
    titles["drawdown"] = "Drawdown"

    what = "Equity" if curve.of_equity else "Balance"
    whose = f"of {series.portfolio} in {series.currency} over simulated time"
    days = (rows[-1]["t"] - rows[0]["t"]) // _DAY_IN_MS
    # Only which of three axes it is matters; a fund may have many accounts.
    length = next((one for one in (62, 1100) if days <= one), 1101)
    upper, lower = _equity_specs(length, of_equity=curve.of_equity)
    return ChartFigure(
        rows,
        [
            {**upper, "description": f"{what} {whose}"},
            {**lower, "description": f"Drawdown {whose}"},
        ],
        titles,
    )


@cache
def _equity_specs(days: int, *, of_equity: bool) -> tuple[Spec, Spec]:
    """Return the curve's and the drawdown's charts."""
    # A balance stays until the next change; an equity moves between two marks.
    interpolate: Literal["linear", "step-after"] = "linear" if of_equity else "step-after"
    base = alt.Chart(alt.NamedData(name=ROWS))
    above, below = time_axis(days, labels=False), time_axis(days, labels=True)
    value = alt.Y(
        "v", type="quantitative", scale=alt.Scale(zero=False), axis=value_axis(_AMOUNTS, 5)
    )
    line = base.mark_line(interpolate=interpolate, strokeWidth=1.6, color="var(--series-1)").encode(
        x=above, y=value
    )
    # Several statements of one moment stand beside each other: stacked, they would add up.
    down = alt.Y("d", type="quantitative", stack=None, axis=value_axis("~%", 3))
    area = base.mark_area(
        interpolate=interpolate,
        line={"color": "var(--negative)", "strokeWidth": 1},
        color="var(--negative-fill)",
    ).encode(x=below, y=down)
    upper = layered(line, value, above, "var(--series-1)")
    lower = layered(area, down, below, "var(--negative)")
    return (
        chart_spec(upper.properties(width="container", height=190)),
        chart_spec(lower.properties(width="container", height=72)),
    )


def _with_room(values: Sequence[float]) -> list[float]:
    """Return a domain with room for a label beyond the longest bar on each side that has bars."""
    lowest, highest = min(0.0, *values), max(0.0, *values)
    room = 0.5 * (highest - lowest) or 1.0
    return [lowest - room if lowest < 0 else 0.0, highest + room if lowest == 0 or highest else 0.0]


def pnl_figure(rows: Sequence[PnlRow], names: Sequence[str], digits: int) -> ChartFigure:
    """Return bars of the total P&L, one a row, all of one currency.

    Args:
        rows: Rows of one breakdown.
        names: What each bar is called, unique.
        digits: The currency's decimal places.
    """
    currency = rows[0].currency
    values: list[Row] = []
    for row, name in zip(rows, names, strict=True):
        amounts = row.amounts
        value: Row = {
            "name": name,
            "v": float(amounts.total),
            "tone": money(amounts.total, digits).tone,
            "label": str(money(amounts.total, digits, signed=True)),
            "realized": f"{money(amounts.realized, digits)} {currency}",
            "unrealized": f"{money(amounts.unrealized, digits)} {currency}",
            "commission": f"{money(amounts.commission.copy_negate(), digits)} {currency}",
            "total": f"{money(amounts.total, digits)} {currency}",
        }
        link_to_trace(value, row.evidence.trace_id)
        values.append(value)

    base = alt.Chart(alt.NamedData(name=ROWS)).encode(
        y=alt.Y(
            "name",
            type="nominal",
            sort=None,
            scale=alt.Scale(paddingInner=0.35),
            axis=alt.Axis(title=None, ticks=False, domain=False, labelPadding=10),
        ),
        x=alt.X(
            "v",
            type="quantitative",
            scale=alt.Scale(domain=_with_room([value["v"] for value in values]), nice=False),
            axis=alt.Axis(title=None, format=_AMOUNTS, tickCount=5, domain=False, ticks=False),
        ),
        tooltip=HAS_TOOLTIP,
    )
    bars = base.mark_bar(cursor="pointer").encode(
        color=alt.Color(
            "tone",
            type="nominal",
            legend=None,
            scale=alt.Scale(
                domain=["positive", "negative", "zero"],
                range=["var(--positive-bar)", "var(--negative-bar)", "var(--muted)"],
            ),
        )
    )
    labels = base.mark_text(fontSize=11, baseline="middle", color="var(--ink)").encode(
        text=alt.Text("label", type="nominal")
    )
    gains = labels.transform_filter("datum.v >= 0").mark_text(
        align="left", dx=6, fontSize=11, color="var(--ink)"
    )
    losses = labels.transform_filter("datum.v < 0").mark_text(
        align="right", dx=-6, fontSize=11, color="var(--ink)"
    )
    zero = (
        alt.Chart(alt.NamedData(name=ROWS))
        .mark_rule(color="var(--line-strong)", aria=False)
        .encode(x=alt.datum(0, type="quantitative"))
    )
    chart = alt.layer(bars, zero, gains, losses).properties(
        width="container", height=30 * len(rows)
    )
    titles = {
        "name": "P&L of",
        "realized": "Realized",
        "unrealized": "Unrealized",
        "commission": "Commission",
        "total": "Total",
    }
    description = f"Total P&L in {currency}, one bar for each row"
    return ChartFigure(values, [{**chart_spec(chart), "description": description}], titles)


def latency_figure(hops: Sequence[HopLatency]) -> ChartFigure:
    """Return the range of each hop's latency on a logarithmic scale."""
    several = len({hop.portfolio for hop in hops}) > 1
    rows: list[Row] = []
    for hop in hops:
        row: Row = {
            "name": hop.hop + (f" · {hop.portfolio}" if several else ""),
            # A logarithmic scale has no zero.
            **{
                key: max(value, 1)
                for key, value in (
                    ("a", hop.p50),
                    ("b", hop.p90),
                    ("c", hop.p99),
                    ("z", hop.max),
                )
            },
            "count": count(hop.count),
            "p50": duration(hop.p50),
            "p90": duration(hop.p90),
            "p99": duration(hop.p99),
            "max": duration(hop.max),
        }
        link_to_trace(row, hop.trace_id)
        rows.append(row)
    # Whole decades: a number of n digits lies between 10**(n-1) and 10**n.
    decades = [len(str(row[key])) for row in rows for key in ("a", "z")]
    powers = [10**power for power in range(min(decades) - 1, max(decades) + 1)]
    base = alt.Chart(alt.NamedData(name=ROWS)).encode(
        y=alt.Y(
            "name",
            type="nominal",
            sort=None,
            axis=alt.Axis(title=None, ticks=False, domain=False, labelPadding=10),
        ),
        tooltip=HAS_TOOLTIP,
    )
    scale = alt.Scale(type="log", domain=[powers[0], powers[-1]], nice=False, clamp=True)
    axis = alt.Axis(
        title=None, values=powers, labelExpr=_DURATION, domain=False, ticks=False, labelOverlap=True
    )
    x = alt.X("a", type="quantitative", scale=scale, axis=axis)
    ranges = base.mark_rule(strokeWidth=1.5, color="var(--line-strong)").encode(x=x, x2="z")
    usual = base.mark_bar(size=7, color="var(--series-1)", opacity=0.35).encode(x=x, x2="c")
    ninety = base.mark_bar(size=7, color="var(--series-1)", opacity=0.55).encode(x=x, x2="b")
    median = base.mark_tick(thickness=2.5, size=13, color="var(--series-1)").encode(x=x)
    slowest = base.mark_point(
        filled=True, size=34, color="var(--muted)", opacity=1, cursor="pointer"
    ).encode(x=alt.X("z", type="quantitative", scale=scale, axis=axis))
    chart = alt.layer(ranges, usual, ninety, median, slowest).properties(
        width="container", height=26 * len(rows)
    )
    titles = {"name": "Hop", "count": "Count"}
    titles |= {"p50": "p50", "p90": "p90", "p99": "p99", "max": "Slowest"}
    description = "Wall-clock latency of each hop, logarithmic scale"
    return ChartFigure(rows, [{**chart_spec(chart), "description": description}], titles)


def latency_over_time_figure(over_time: LatencyOverTime) -> ChartFigure:
    """Return a hop's median over time, in a band up to its 99th percentile."""
    rows: list[Row] = []
    for point in over_time.points:
        row: Row = {
            "t": point.start // 1_000_000,
            # A logarithmic scale has no zero.
            **{
                key: max(value, 1)
                for key, value in (("a", point.p50), ("b", point.p90), ("c", point.p99))
            },
            "when": timestamp(point.start),
            "count": count(point.count),
            "p50": duration(point.p50),
            "p90": duration(point.p90),
            "p99": duration(point.p99),
            "max": duration(point.max),
        }
        link_to_trace(row, point.trace_id)
        rows.append(row)
    low = min(len(str(row["a"])) for row in rows)
    high = max(len(str(row["c"])) for row in rows)
    powers = [10**power for power in range(low - 1, high + 1)]
    scale = alt.Scale(type="log", domain=[powers[0], powers[-1]], nice=False, clamp=True)
    axis = alt.Axis(
        title=None,
        values=powers,
        labelExpr=_DURATION,
        minExtent=_LEFT,
        maxExtent=_LEFT,
        domain=False,
        ticks=False,
        labelPadding=8,
    )
    days = over_time.points[-1].start - over_time.points[0].start >= 2 * DAY
    at_starts = alt.Axis(
        title=None,
        tickCount=min(len(rows), 8),
        format="%d %b %H:%M" if days else "%H:%M:%S",
        grid=False,
        labelOverlap=True,
        labelFlush=True,
    )
    time = alt.X("t", type="temporal", scale=alt.Scale(type="utc"), axis=at_starts)
    median = alt.Y("a", type="quantitative", scale=scale, axis=axis)
    base = alt.Chart(alt.NamedData(name=ROWS)).encode(x=time, y=median)
    band = base.mark_area(color="var(--series-1)", opacity=0.22, line=False).encode(y2="c")
    inner = base.mark_area(color="var(--series-1)", opacity=0.3, line=False).encode(y2="b")
    line = base.mark_line(color="var(--series-1)", strokeWidth=1.6, point=False)
    chart = layered(alt.layer(band, inner, line), median, time, "var(--series-1)")
    titles = {"when": "From", "count": "Count"}
    titles |= {"p50": "p50", "p90": "p90", "p99": "p99", "max": "Slowest"}
    description = f"Wall-clock latency of {over_time.hop} over time, logarithmic scale"
    spec = chart_spec(chart.properties(width="container", height=170))
    return ChartFigure(rows, [{**spec, "description": description}], titles)


def waterfall_figure(waterfall: Waterfall, digits: int) -> ChartFigure:
    """Return the steps of a waterfall as bars from one level to the next, from the top down.

    Args:
        waterfall: The steps.
        digits: The currency's decimal places.
    """
    currency = waterfall.currency
    rows: list[Row] = []
    for place, step in enumerate(waterfall.steps):
        row: Row = {
            # A strategy may be called like a step.
            "i": place,
            "name": step.name,
            "a": float(step.before),
            "z": float(step.after),
            "tone": "level" if step.is_level else money(step.amount, digits).tone,
            "label": str(money(step.amount, digits, signed=not step.is_level)),
            "change": f"{money(step.amount, digits, signed=True)} {currency}",
            "level": f"{money(step.after, digits)} {currency}",
        }
        if step.is_level:
            del row["change"]
        link_to_trace(row, step.evidence.trace_id)
        rows.append(row)
    low, high = _levels_shown([step for step in waterfall.steps if not step.is_level])
    for row in rows:
        row["l"] = max(row["a"], row["z"])
        if row["tone"] == "level":  # far from zero, a level would dwarf every change
            row["a"] = min(max(0.0, low), row["z"])
    names = [row["name"] for row in rows]
    base = alt.Chart(alt.NamedData(name=ROWS)).encode(
        y=alt.Y(
            "i",
            type="ordinal",
            sort=None,
            scale=alt.Scale(paddingInner=0.3),
            axis=alt.Axis(
                title=None,
                ticks=False,
                domain=False,
                labelPadding=10,
                labelExpr=f"{json.dumps(names)}[datum.value]",
            ),
        ),
        tooltip=HAS_TOOLTIP,
    )
    scale = alt.Scale(domain=[low, high], nice=False, zero=False, clamp=True)
    axis = alt.Axis(title=None, format=_AMOUNTS, tickCount=5, domain=False, ticks=False)
    bars = waterfall_bars(base, scale, axis, ("positive", "negative", "zero", "level"))
    chart = bars.properties(width="container", height=26 * len(rows))
    titles = {"name": "Step", "change": "Change", "level": "Level"}
    description = f"From start to end in {currency}"
    return ChartFigure(rows, [{**chart_spec(chart), "description": description}], titles)


def _levels_shown(steps: Sequence[Step]) -> tuple[float, float]:
    """Return the part of the scale that all changes need, with room for labels on a phone."""
    levels = [float(level) for step in steps for level in (step.before, step.after)] or [0.0]
    low, high = min(levels), max(levels)
    spread = high - low or abs(high) or 1.0
    low = 0.0 if 0 <= low < 2 * spread else low - 0.15 * spread
    return low, high + 0.45 * spread
