"""What a definition of a figure says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

MINIMUM_DAYS: Final = 20
"""A figure of a year takes so many days with a return; fewer tell nothing about a year."""

Unit = Literal["money", "ratio", "number", "count", "days", "duration"]
"""`money` is in the currency of the figure, `ratio` is shown in percent, `duration` is in seconds
of simulated time, `days` are days of the calendar."""
Group = Literal["Profit", "Return", "Risk", "Days and months", "Trades"]
Needs = Literal["nothing", "equity", "days", "trades"]
"""What a figure cannot do without: `equity` a start balance that returns can be of, `days`
`MINIMUM_DAYS` of such returns, `trades` closed trades."""


@dataclass(frozen=True, slots=True)
class FigureDefinition:
    """What one figure means.

    Attributes:
        name: Its name in table ``figures``.
        label: Its name for a reader.
        group: The part of the tearsheet it stands in.
        unit: What its value is in.
        definition: How it is reckoned.
        source: Where the definition comes from; empty for plain arithmetic.
        needs: What it cannot do without.
        undefined: When it has no value besides that; empty if always.
        statistical: Whether it comes from the libraries of the extra ``statistics``.
    """

    name: str
    label: str
    group: Group
    unit: Unit
    definition: str
    source: str = ""
    needs: Needs = "nothing"
    undefined: str = ""
    statistical: bool = False
