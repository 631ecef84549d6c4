"""Latency by a slow walk up every chain, one event at a time."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

MARKET = ("BAR", "TICK", "BOOK")
ORDERED = ["ORDER", "SUBMITTED", "ACCEPTED", "FILL"]
Row = dict[str, Any]


class Walk:
    """Walks up from every event, one step at a time; finds sequence and duration by hop."""

    def __init__(self, rows: Iterable[Row]) -> None:
        rows = list(rows)
        self.by_id = {row["span_id"]: row for row in rows}
        self.found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        orders: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in rows:
            if not is_event(row):
                self.handled(row)
            elif kind_of(row) in {"FEATURES", "SIGNAL"}:
                for kind in [*MARKET, "FEATURES"] if kind_of(row) == "SIGNAL" else MARKET:
                    self.took(f"{kind} → {kind_of(row)}", self.nearest(row, kind), row)
            elif kind_of(row) in {"ORDER", "FILL"}:
                orders[row["portfolio"], row["client_order_id"]].append(row)
        for events in orders.values():
            self.first_event(events[0])
            self.states(events)
            self.fills(events)

    def above(self, row: Row) -> Iterator[Row]:
        while (parent := self.by_id.get(row.get("parent_span_id") or "")) is not None:
            yield parent
            row = parent

    def nearest(self, row: Row, kind: str) -> Row | None:
        events = (one for one in self.above(row) if is_event(one) and kind_of(one) == kind)
        return next(events, None)

    def took(self, hop: str, before: Row | None, after: Row) -> None:
        if before is None or None in {before["start_time"], after["start_time"]}:
            return
        self.found[hop].append((after["sequence"], after["start_time"] - before["start_time"]))

    def handled(self, row: Row) -> None:
        if row["start_time"] is not None:
            duration = row["end_time"] - row["start_time"]
            self.found[f"{kind_of(row)} → handled"].append((row["sequence"], duration))

    def first_event(self, first: Row) -> None:
        if kind_of(first) == "ORDER":
            signal = self.nearest(first, "SIGNAL")
            self.took("SIGNAL → ORDER", signal, first)
            for kind in MARKET if signal is None else ():
                self.took(f"{kind} → ORDER", self.nearest(first, kind), first)

    def states(self, events: list[Row]) -> None:
        states = [(state_of(row, row is events[0]), row) for row in events]
        way = [(state, row) for state, row in states if state is not None]
        for (state, before), (next_state, after) in itertools.pairwise(way):
            if ORDERED.index(state) < ORDERED.index(next_state):
                self.took(f"{state} → {next_state}", before, after)

    def fills(self, events: list[Row]) -> None:
        for row in events:
            if kind_of(row) == "FILL":
                alone = all(self.nearest(row, kind) is None for kind in MARKET)
                for kind in MARKET:
                    way = self.nearest(events[0] if alone else row, kind)
                    self.took(f"{kind} → FILL", way, row)


def walked(rows: Iterable[Row]) -> dict[str, list[tuple[int, int]]]:
    return {hop: sorted(times) for hop, times in Walk(rows).found.items()}


def is_event(row: Row) -> bool:
    return bool(row["span_kind"] != "CONSUMER")


def kind_of(row: Row) -> str:
    return str(row["name"]).rpartition(" ")[2]


def state_of(row: Row, is_first: bool) -> str | None:
    if kind_of(row) == "FILL":
        return "FILL"
    status = (row.get("status") or "").upper()
    if status in {"SUBMITTED", "ACCEPTED"}:
        return status
    if status == "NEW" and not is_first:
        return "ACCEPTED"
    return "ORDER" if is_first else None
