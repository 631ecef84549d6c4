"""The figures of a tearsheet, each defined once: for the database, the report and the docs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fillpath.analytics.figure_meaning import MINIMUM_DAYS, FigureDefinition
from fillpath.analytics.return_figures import FIGURES_OF_RETURNS
from fillpath.analytics.trade_figures import FIGURES_OF_TRADES

FIGURES: Final = (*FIGURES_OF_RETURNS, *FIGURES_OF_TRADES)
"""Every figure, in the order in which a tearsheet shows them."""

BY_NAME: Final[Mapping[str, FigureDefinition]] = {one.name: one for one in FIGURES}
"""The same by name."""


def why_undefined(name: str, figures: Mapping[str, float | None]) -> str | None:
    """Say in words why a figure has no value.

    Args:
        name: The figure.
        figures: All figures of its portfolio and currency.

    Returns:
        None if it has a value.
    """
    if figures.get(name) is not None:
        return None
    definition = BY_NAME[name]
    if name not in figures:
        return "the extra statistics was not installed when the run was loaded"
    days, trades = figures.get("days") or 0, figures.get("trades") or 0
    if definition.needs in {"equity", "days"} and not days:
        return "no start equity is known, so there are no returns"
    if definition.needs == "days" and days < MINIMUM_DAYS:
        return f"{days:.0f} days with a return are too few, it takes {MINIMUM_DAYS}"
    if definition.needs == "trades" and not trades:
        return "no trade was closed"
    return definition.undefined or "it is not defined for these returns"
