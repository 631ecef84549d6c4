"""The figures of a run as they are read back: by portfolio and currency, with what is undefined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fillpath.analytics.daily_returns import WHOLE_RUN
from fillpath.analytics.figure_definitions import FIGURES, why_undefined


@dataclass(frozen=True, slots=True)
class FigureSeries:
    """The figures of a portfolio in a currency.

    Attributes:
        portfolio: Namespace; `WHOLE_RUN` for all.
        currency: Currency; empty if the host names none.
        figures: By name.
    """

    portfolio: str
    currency: str
    figures: Mapping[str, float | None]

    @property
    def title(self) -> str:
        """Its name for a reader."""
        return "all" if self.portfolio == WHOLE_RUN else self.portfolio

    def reasons(self) -> dict[str, str]:
        """Why figures are undefined, by their names."""
        found = {one.name: why_undefined(one.name, self.figures) for one in FIGURES}
        return {name: why for name, why in found.items() if why is not None}


def figure_series(rows: Iterable[Mapping[str, Any]]) -> list[FigureSeries]:
    """Collect rows of table ``figures``; the whole run comes first."""
    found: dict[tuple[str, str], dict[str, float | None]] = {}
    for row in rows:
        found.setdefault((row["portfolio"], row["currency"]), {})[row["name"]] = row["value"]
    return [FigureSeries(*key, figures) for key, figures in sorted(found.items())]


def without_doubles(series: Sequence[FigureSeries]) -> list[FigureSeries]:
    """Leave the whole run out where it is one portfolio."""
    parts = {one.portfolio for one in series if one.portfolio != WHOLE_RUN}
    return [one for one in series if one.portfolio != WHOLE_RUN or len(parts) != 1]


def reasons_in_words(series: Sequence[FigureSeries]) -> list[tuple[str, str]]:
    """Say why figures are undefined.

    Returns:
        Each reason with the figures it is the reason for, and of which series if not of all.
    """
    labels = {one.name: one.label for one in FIGURES}
    places: dict[tuple[str, str], list[str]] = {}
    for one in series:
        for name, why in one.reasons().items():
            places.setdefault((why, name), []).append(f"{one.title} {one.currency}".strip())
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (why, name), named in places.items():
        found.setdefault((why, tuple(named)), []).append(labels[name])
    return [
        (f"{why} ({', '.join(of)})" if len(of) < len(series) else why, ", ".join(names))
        for (why, of), names in found.items()
    ]
