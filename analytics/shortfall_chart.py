"""The chart of a shortfall: the way from the price of the decision to what was paid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import altair as alt

from fillpath.analytics.charts import (
    HAS_TOOLTIP,
    ROWS,
    ChartFigure,
    Row,
    Spec,
    link_to_trace,
    page_spec,
    waterfall_bars,
)
from fillpath.analytics.report_format import money

if TYPE_CHECKING:
    from fillpath.analytics.report_executions import ShortfallRow

_MOST_STRATEGIES: Final = 4
_ROOM: Final = 0.3
"""Room for the labels beyond the longest bar, as a part of what is shown."""


def shortfall_figure(
    total: ShortfallRow, strategies: Sequence[ShortfallRow], currency: str, digits: int
) -> ChartFigure:
    """Return waterfalls: of all orders, and of each strategy where there are several.

    Args:
        total: All orders.
        strategies: Of each strategy; those that cost most are drawn.
        currency: Of the amounts.
        digits: Its decimal places.
    """
    shown = [("All orders", total)]
    if len(strategies) > 1:
        named = ((" · ".join(row.names) or "no strategy", row) for row in strategies)
        shown += list(named)[:_MOST_STRATEGIES]
    rows: list[Row] = []
    specs: list[Spec] = []
    for panel, (name, one) in enumerate(shown):
        drawn = list(_steps(panel, name, one, currency, digits))
        rows += drawn
        specs.append(_waterfall(panel, name, drawn))
    return ChartFigure(rows, specs, {"of": "Orders of", "name": "Part", "cost": "Cost"})


def _steps(panel: int, name: str, one: ShortfallRow, currency: str, digits: int) -> list[Row]:
    rows: list[Row] = []
    level = 0.0
    for step, amount in one.steps:
        is_total = step == "shortfall"
        start = 0.0 if is_total else level
        level = float(amount) if is_total else level + float(amount)
        row: Row = {
            "panel": panel,
            "of": name,
            "name": step,
            "a": start,
            "z": level,
            "l": max(start, level),
            "tone": "total" if is_total else money(amount, digits).tone,
            "label": str(money(amount, digits, signed=not is_total)),
            "cost": f"{money(amount, digits)} {currency}".strip(),
        }
        link_to_trace(row, one.trace_id)
        rows.append(row)
    return rows


def _waterfall(panel: int, name: str, rows: Sequence[Row]) -> Spec:
    levels = [0.0, *(row["z"] for row in rows)]
    low, high = min(levels), max(levels)
    room = (high - low) * _ROOM or 1.0
    scale = alt.Scale(domain=[low, high + room], nice=False, zero=False)
    axis = alt.Axis(title=None, format=",.6~f", tickCount=4, domain=False, ticks=False)
    base = (
        alt.Chart(alt.NamedData(name=ROWS))
        .transform_filter(f"datum.panel === {panel}")
        .encode(
            y=alt.Y(
                "name",
                type="nominal",
                sort=None,
                scale=alt.Scale(paddingInner=0.3),
                axis=alt.Axis(title=None, ticks=False, domain=False, labelPadding=10),
            ),
            tooltip=HAS_TOOLTIP,
        )
    )
    # A cost is a loss.
    bars = waterfall_bars(base, scale, axis, ("negative", "positive", "zero", "total"))
    title = alt.TitleParams(
        text=name, anchor="start", fontSize=11, fontWeight="normal", color="var(--muted)"
    )
    chart = bars.properties(width="container", height=112, title=title)
    return page_spec(chart, f"What orders cost, from the decision to the shortfall: {name}")
