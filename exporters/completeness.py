"""Counts what became of every event: published = kept + sampled out + dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from fillpath.instrumentation.spool import Count

DROPPED_AT_CRASH: Final = "crash"
"""Reason: published, but not yet in the spool when the process died."""
UNACCOUNTED: Final = "unaccounted"
"""Reason: published by an orderly run, but neither in its spool nor counted as dropped."""


@dataclass(slots=True)
class _Tally:
    published: int = 0
    uncounted: int = 0
    kept: int = 0
    sampled_out: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


class Completeness:
    """Counts the events of one run, per portfolio and event type. Handler runs do not count.

    Attributes:
        lost_by: Reason why events of a crashed run are lost that were published.
    """

    def __init__(self) -> None:
        self.lost_by = DROPPED_AT_CRASH
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def _tally(self, portfolio: str, event_type: str) -> _Tally:
        return self._tallies.setdefault((portfolio, event_type), _Tally())

    def kept(self, portfolio: str, event_type: str, number: int = 1) -> None:
        """Count events that go to the lake."""
        self._tally(portfolio, event_type).kept += number

    def sampled_out(self, portfolio: str, event_type: str, number: int = 1) -> None:
        """Count events that the policy leaves out."""
        self._tally(portfolio, event_type).sampled_out += number

    def brought_back(self, portfolio: str, event_type: str, number: int = 1) -> None:
        """Count events as kept that were counted as sampled out."""
        tally = self._tally(portfolio, event_type)
        tally.sampled_out -= number
        tally.kept += number

    def left_out(self, portfolio: str, event_type: str) -> None:
        """Count an event as sampled out that was counted as kept."""
        self.brought_back(portfolio, event_type, -1)

    def dropped(self, portfolio: str, event_type: str, reason: str, number: int = 1) -> None:
        """Count events that are lost."""
        dropped = self._tally(portfolio, event_type).dropped
        dropped[reason] = dropped.get(reason, 0) + number

    def seen_uncounted(self, portfolio: str, event_type: str, number: int = 1) -> None:
        """Count events of sites that the host's totals leave out: they are published, too."""
        self._tally(portfolio, event_type).uncounted += number

    def host_counted(self, counts: Iterable[Count]) -> None:
        """Take the host's totals so far, in place of the ones before."""
        for count in counts:
            tally = self._tally(count.portfolio, count.event_type)
            tally.published = count.published
            tally.dropped = dict(count.dropped)

    def rows(self, status: str) -> list[dict[str, Any]]:
        """Give one row per portfolio and event type, in the form of the column `completeness`.

        While a run is going on, what is on its way does not count as published yet. After a crash,
        what was published and did not reach the spool is dropped by the reason `lost_by`.
        """
        return [
            self._row(portfolio, event_type, tally, status)
            for (portfolio, event_type), tally in sorted(self._tallies.items())
        ]

    def _row(self, portfolio: str, event_type: str, tally: _Tally, status: str) -> dict[str, Any]:
        dropped = dict(sorted(tally.dropped.items()))
        known = tally.kept + tally.sampled_out + sum(dropped.values())
        published = tally.published + tally.uncounted
        if status == "Running":
            published = known
        elif status == "Crashed":  # the last totals may have been torn off behind the events
            published = max(published, known)
        if published > known:
            reason = self.lost_by if status == "Crashed" else UNACCOUNTED
            dropped[reason] = dropped.get(reason, 0) + published - known
        return {
            "portfolio": portfolio,
            "event_type": event_type,
            "published": published,
            "kept": tally.kept,
            "sampled_out": tally.sampled_out,
            "dropped": dropped,
        }


def added(rows: Iterable[dict[str, Any]], others: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add rows of the same run that were counted elsewhere."""
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    for row in (*rows, *others):
        known = sums.setdefault((row["portfolio"], row["event_type"]), {})
        for name, value in row.items():
            if name == "dropped":
                dropped = Counter(known.get(name, {}))
                dropped.update(value)
                known[name] = dict(sorted(dropped.items()))
            else:
                known[name] = value + known.get(name, 0) if isinstance(value, int) else value
    return [sums[key] for key in sorted(sums)]


def totals(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Sum the rows: published, kept, sampled_out, dropped."""
    sums = dict.fromkeys(("published", "kept", "sampled_out", "dropped"), 0)
    for row in rows:
        for name in ("published", "kept", "sampled_out"):
            sums[name] += row[name]
        sums["dropped"] += sum(row["dropped"].values())
    return sums
