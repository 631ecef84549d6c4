"""An account's curve: which amounts to draw, its drawdown, and how a long one is thinned out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from fillpath.analytics.report_format import EXACT
from fillpath.analytics.report_model import EquityPoint, EquitySeries

# A chart is about a thousand pixels wide, and a report with many accounts is still to be small.
MOST_POINTS = 1200
MOST_POINTS_IN_ALL = 4000
FEWEST_POINTS = 60


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A point of the curve.

    Attributes:
        at: The account at that moment.
        value: What is drawn: equity or balance.
        drawdown: Distance below the highest value so far as a ratio of it, zero or negative; zero
            while no value was above zero.
    """

    at: EquityPoint
    value: Decimal
    drawdown: Decimal


@dataclass(frozen=True, slots=True)
class Curve:
    """An account's curve, ready to be drawn.

    Attributes:
        series: What it was made from.
        of_equity: True if it is drawn from the equity, False if from the balance.
        points: Every point.
        drawn: The points to draw: all, or if there are too many the first, the last, and the lowest
            and highest of each stretch between.
        deepest: The point with the deepest drawdown; ``None`` if there is none below zero.
    """

    series: EquitySeries
    of_equity: bool
    points: tuple[CurvePoint, ...]
    drawn: tuple[CurvePoint, ...]
    deepest: CurvePoint | None

    @property
    def change(self) -> Decimal:
        """Last value less the first."""
        return EXACT.subtract(self.points[-1].value, self.points[0].value)


def curve(series: EquitySeries, most_points: int = MOST_POINTS) -> Curve:
    """Return the curve of a series that has at least one point."""
    of_equity = all(point.equity is not None for point in series.points)
    points: list[CurvePoint] = []
    peak: Decimal | None = None
    for point in series.points:
        value = point.equity if of_equity and point.equity is not None else point.balance
        peak = value if peak is None else max(peak, value)
        below = EXACT.subtract(value, peak)
        points.append(CurvePoint(point, value, below / peak if peak > 0 else Decimal(0)))
    deepest = min(points, key=lambda point: point.drawdown)
    return Curve(
        series,
        of_equity,
        tuple(points),
        tuple(_thin(points, most_points)),
        deepest if deepest.drawdown < 0 else None,
    )


def points_for_each(series: int) -> int:
    """Return how many points each of so many series may be drawn with."""
    return max(FEWEST_POINTS, min(MOST_POINTS, MOST_POINTS_IN_ALL // max(1, series)))


def _thin(points: Sequence[CurvePoint], most_points: int) -> list[CurvePoint]:
    if len(points) <= most_points:
        return list(points)
    stretches = max(1, (most_points - 2) // 2)
    chosen = {0, len(points) - 1}
    for stretch in range(stretches):
        start = stretch * len(points) // stretches
        stop = (stretch + 1) * len(points) // stretches
        inside = range(start, stop)
        chosen.add(min(inside, key=lambda place: points[place].value))
        chosen.add(max(inside, key=lambda place: points[place].value))
    return [points[place] for place in sorted(chosen)]
