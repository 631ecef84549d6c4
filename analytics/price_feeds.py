"""Prices as a run saw them: every feed of every instrument, in the order of events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt

from fillpath.analytics.sql_files import json_path, read_sql
from fillpath.instrumentation.semconv import DEFAULT_PORTFOLIO, Bar, Summary

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_NO_TIME: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class PriceFeed:
    """The prices of one feed.

    Attributes:
        portfolio: Namespace that it was published in.
        symbol: The instrument.
        venue: Its venue; ``None`` if unknown.
        event_type: `BAR` or `TICK`.
        name: Type of the bars, ``trades`` or ``quotes``; ``None`` if bars name no type.
        is_thinned: Whether prices were left out of the lake on purpose: sampled, or summarised.
        sequences: Where in the run each price is, ascending.
        times: Simulated time of each, nanoseconds; ``None`` if some have none.
        prices: Close of a bar, price of a trade, or the middle of a quote.
    """

    portfolio: str
    symbol: str
    venue: str | None
    event_type: str
    name: str | None
    is_thinned: bool
    sequences: Integers
    times: Integers | None
    prices: Floats

    def before(self, sequence: int) -> int:
        """Give how many of its prices came at or before a place in the run."""
        return int(np.searchsorted(self.sequences, sequence, side="right"))


@dataclass(frozen=True, slots=True)
class PriceFeeds:
    """All feeds of a run, the one that began first at the front."""

    feeds: Sequence[PriceFeed]
    _chosen: dict[tuple[str, str, str | None], PriceFeed | None] = field(default_factory=dict)

    def of(self, portfolio: str, symbol: str) -> Iterator[PriceFeed]:
        """Give the feeds of an instrument that a portfolio's own namespace has."""
        return (one for one in self.feeds if (one.portfolio, one.symbol) == (portfolio, symbol))

    def main(self, portfolio: str, symbol: str, venue: str | None = None) -> PriceFeed | None:
        """Choose the feed by which an instrument is valued: the one with most prices.

        Feeds of the venue come before others, then those of the nearest namespace: the
        portfolio's own, its parents', the default one, any other. Prices are everybody's.
        """
        key = (portfolio, symbol, venue)
        if key not in self._chosen:
            places = list(namespaces(portfolio))
            candidates = [one for one in self.feeds if one.symbol == symbol]
            self._chosen[key] = min(
                candidates,
                key=lambda one: (
                    venue is not None and one.venue != venue,
                    places.index(one.portfolio) if one.portfolio in places else len(places),
                    -len(one.sequences),
                    one.sequences[0],
                ),
                default=None,
            )
        return self._chosen[key]


def namespaces(portfolio: str) -> Iterator[str]:
    """Give the namespaces that speak for a portfolio: its own, its parents', the default one."""
    parts = portfolio.split("/")
    for length in range(len(parts), 0, -1):
        yield "/".join(parts[:length])
    if parts != [DEFAULT_PORTFOLIO]:
        yield DEFAULT_PORTFOLIO


def read_price_feeds(connection: duckdb.DuckDBPyConnection, run_id: str) -> PriceFeeds:
    """Read every price of a run.

    Args:
        connection: Has the view ``raw_spans``.
        run_id: The run.
    """
    parameters = {
        "run_id": run_id,
        "default_portfolio": DEFAULT_PORTFOLIO,
        "bar_type": json_path(Bar.TYPE),
        "summary_count": json_path(Summary.COUNT),
    }
    # A result of which the caller has not fetched the last row would be in the way of a relation.
    connection.execute("SELECT 1").fetchall()
    table = connection.sql(read_sql("price_events"), params=parameters).to_arrow_table()
    events = table.column("events").combine_chunks()
    ends = events.offsets.to_numpy()
    columns = {name: events.values.field(name).to_numpy() for name in ("sequence", "price")}
    columns["event_time"] = events.values.field("event_time").to_numpy()
    named: list[Mapping[str, Any]] = table.drop(["events"]).to_pylist()
    return PriceFeeds(
        [
            _feed(row, {name: values[start:end] for name, values in columns.items()})
            for row, start, end in zip(named, ends[:-1], ends[1:], strict=True)
        ]
    )


def _feed(row: Mapping[str, Any], events: Mapping[str, Any]) -> PriceFeed:
    times = events["event_time"]
    return PriceFeed(
        portfolio=row["portfolio"],
        symbol=row["symbol"],
        venue=row["venue"],
        event_type=row["event_type"],
        name=row["feed"],
        is_thinned=row["is_thinned"],
        sequences=events["sequence"],
        times=None if (times == _NO_TIME).any() else times,
        prices=events["price"],
    )
