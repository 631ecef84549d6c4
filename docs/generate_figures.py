#!/usr/bin/env python3
"""Writes figures.md from `fillpath.analytics.figure_definitions`; run it after a change."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Final

from fillpath.analytics.daily_returns import CAPITAL_PARAMETERS
from fillpath.analytics.figure_definitions import FIGURES
from fillpath.analytics.figure_meaning import MINIMUM_DAYS, FigureDefinition

PAGE: Final = Path(__file__).with_name("figures.md")
_UNITS: Final = {
    "money": "currency",
    "ratio": "ratio",
    "number": "",
    "count": "",
    "days": "days",
    "duration": "seconds",
}
_INTRODUCTION: Final = """\
# Figures

<!-- Written by docs/generate_figures.py from analytics/figure_definitions.py. -->

`fillpath figures RUN` shows them, `fillpath report RUN` draws them, and tables `daily_returns` and
`figures` of the results database hold them: a row for each portfolio, currency and name. Portfolio
`''` is all of the run; it has figures in each currency that every portfolio has.

```sh
fillpath figures latest
fillpath figures latest --portfolio fund/desk/book
fillpath figures latest --json | jq '.series[0].figures.sharpe'
```

The JSON document is `{{"run_id": …, "series": [{{"portfolio": …, "currency": …, "figures": \
{{NAME: NUMBER}}, "undefined": {{NAME: WHY}}}}]}}`; what is undefined is `null`.

## Days

- A day is a day of the simulated time, UTC. A portfolio has the days on which its own market had
  events (bars, ticks, books; without any, the days of every market of the run), and those on which
  it had P&L or transfers. A weekend without data is no day.
- A day's P&L is the sum of its P&L slices, so the days add up to the total exactly, and open
  positions are marked at each day's last price. An amount without a simulated time belongs to the
  day of the one before it.
- Equity is the balance at the start, by the engine's statements, and everything since. A currency
  that was bought counts in the currency it was paid with, until it is sold.
- Deposits and withdrawals (events `CASH_FLOW` of these types, or events `DEPOSIT` and `WITHDRAWAL`)
  count as made before the day's P&L. They are no return.
- A day's return is its P&L / (equity at the end of the day before + its transfers). It is undefined
  while that is zero or less. Once equity has come down to zero or below, there are no more returns:
  the day itself has one, of minus 100 % or less.
- An engine that never states its account has P&L and trades, but no returns, unless a parameter of
  the run names its capital: {parameters} (the first that is a positive number; for a run in one
  currency), or it publishes deposits: then it begins with nothing.
- A sampled lake may lack whole days of market data; `fillpath completeness` tells.

## Honesty

- A figure of a year takes {minimum} days with a return. An interval of 95 % stands beside the
  Sharpe ratio and the win rate; both take days and trades as independent of each other.
- What is undefined has no value: no zero, no infinity. It is shown as a dash, with the reason.
- The risk-free rate is 0.
- Figures are doubles; the amounts they come from are exact.
- empyrical and scipy come with the extra `statistics`. Without it, the figures marked ◆ are left
  out of the database.
"""


def page() -> str:
    """The whole page."""
    parameters = ", ".join(f"`{name}`" for name in CAPITAL_PARAMETERS)
    parts = [_INTRODUCTION.format(parameters=parameters, minimum=MINIMUM_DAYS)]
    for group, members in groupby(FIGURES, key=lambda one: one.group):
        parts += [f"## {group}\n", _table(list(members))]
    return "\n".join(parts)


def _table(figures: list[FigureDefinition]) -> str:
    lines = ["| name | figure | unit | definition | source |", "|---|---|---|---|---|"]
    for one in figures:
        mark = " ◆" if one.statistical else ""
        undefined = f" Undefined if {one.undefined}." if one.undefined else ""
        cells = (
            f"`{one.name}`{mark}",
            one.label,
            _UNITS[one.unit],
            f"{one.definition}{undefined}",
            one.source,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
