"""Regimes: what character the market had at each event, as the host said or prices showed by then.

A regime is looked up as of a sequence: what was said or seen at that event or before it. What comes
later cannot change the answer. `docs/regimes.md` has the rules.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Final

import duckdb
import numpy as np

from fillpath.analytics.price_feeds import PriceFeed, PriceFeeds, namespaces, read_price_feeds
from fillpath.analytics.regime_classifier import classify
from fillpath.analytics.shard_load import TableRows
from fillpath.analytics.sql_files import json_path, read_sql
from fillpath.instrumentation.semconv import DEFAULT_PORTFOLIO, EventType, Regime

HOST: Final = "host"
CLASSIFIER: Final = "classifier"

_WORDS: Final = [
    *("name", "regime", "label", "new_regime", "to_regime", "state", "new_state", "to_state", "to"),
    *("new", "current", "classification", "class", "cluster", "market_regime", "value", "status"),
]
"""What hosts call the name of a regime, the likeliest first."""
_COMPLETENESS: Final = "SELECT completeness FROM runs WHERE run_id = $run_id"


@dataclass(frozen=True, slots=True)
class Spell:
    """One stay in a regime; a row of table ``regimes``, whose columns have the definitions."""

    portfolio: str
    symbol: str | None
    sequence: int
    event_time: int | None
    end_time: int | None
    name: str
    source: str
    volatility: float | None = None
    trend: float | None = None
    events: int = 0
    trace_id: str | None = None
    span_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Timeline:
    """The regimes of one instrument, or of a whole portfolio, by one source.

    Attributes:
        portfolio: Namespace that said it, or that the prices were published in.
        symbol: The instrument; ``None`` for the whole portfolio.
        source: `HOST` or `CLASSIFIER`.
        starts: Sequence from which each is in force, ascending.
        names: What each is called; ``None`` where nothing is in force.
        spells: Those with a name.
    """

    portfolio: str
    symbol: str | None
    source: str
    starts: Sequence[int]
    names: Sequence[str | None]
    spells: Sequence[Spell]

    def at(self, sequence: int) -> str | None:
        place = bisect_right(self.starts, sequence)
        return self.names[place - 1] if place else None


@dataclass(frozen=True, slots=True)
class Regimes:
    """The regimes of a run.

    Attributes:
        timelines: The host's first, then the classifier's, each in the order of its first word.
        left_out: Feeds that were not classified, because prices are missing.
    """

    timelines: Sequence[_Timeline] = ()
    left_out: Sequence[PriceFeed] = ()
    _visible: dict[tuple[str, str], list[_Timeline]] = field(default_factory=dict)

    @property
    def spells(self) -> list[Spell]:
        """Every stay in a regime, by sequence: the rows of table ``regimes``."""
        every = [spell for timeline in self.timelines for spell in timeline.spells]
        return sorted(every, key=lambda one: (one.sequence, one.portfolio, one.symbol or ""))

    def table(self) -> TableRows:
        """Give the rows of table ``regimes``."""
        names = [one.name for one in fields(Spell)]
        return TableRows(names, [tuple(getattr(one, n) for n in names) for one in self.spells])

    def at(self, portfolio: str, symbol: str, sequence: int) -> str | None:
        """Give the regime in force at an event.

        Args:
            portfolio: Namespace of the event.
            symbol: Its instrument.
            sequence: Its place in the run; what happened at this very event counts.

        Returns:
            The regime's name, or None while nobody has said it and prices have no past enough.
        """
        key = (portfolio, symbol)
        if key not in self._visible:
            self._visible[key] = list(_visible(self.timelines, portfolio, symbol))
        for timeline in self._visible[key]:
            name = timeline.at(sequence)
            if name is not None:
                return name
        return None


def read_regimes(connection: duckdb.DuckDBPyConnection, run_id: str) -> Regimes:
    """Find the regimes of a run: the host's own, and until it speaks those of the classifier.

    Args:
        connection: Has the views ``spans``, ``raw_spans`` and ``runs``.
        run_id: The run.
    """
    feeds = read_price_feeds(connection, run_id)
    return find_regimes(connection, run_id, feeds)


def find_regimes(connection: duckdb.DuckDBPyConnection, run_id: str, feeds: PriceFeeds) -> Regimes:
    """Find the regimes of a run whose prices are read already; else as `read_regimes`."""
    said = list(_said_by_host(connection, run_id, feeds))
    missing = _incomplete(connection, run_id)
    seen: list[_Timeline] = []
    left_out = []
    for instrument, of_instrument in _by_instrument(feeds.feeds).items():
        whole = []
        for feed in of_instrument:
            if feed.is_thinned or (feed.portfolio, feed.event_type) in missing:
                left_out.append(feed)
            else:
                whole.append(feed)
        speaking = _visible(said, *instrument)
        silent_from = min((one.starts[0] for one in speaking), default=None)
        timeline = _classified(whole, silent_from, said)
        if timeline is not None:
            seen.append(timeline)
    seen.sort(key=lambda one: one.starts[0])
    _add_refs(connection, run_id, seen)
    return Regimes([*said, *seen], left_out)


def _visible(timelines: Iterable[_Timeline], portfolio: str, symbol: str) -> Iterator[_Timeline]:
    """Give the timelines that may tell of an instrument, the one to be asked first at the front.

    The host comes before the classifier, what is said of the instrument before what is said of all,
    and a nearer namespace before a farther one. A namespace that is neither the portfolio's own nor
    above it is not heard, except for its prices, which are everybody's.
    """
    places = {place: distance for distance, place in enumerate(namespaces(portfolio))}
    ranked = [
        (
            timeline.source == CLASSIFIER,
            timeline.symbol is None,
            places.get(timeline.portfolio, len(places)),
            timeline.starts[0],
            timeline,
        )
        for timeline in timelines
        if timeline.symbol in (symbol, None)
        and (timeline.portfolio in places or timeline.source == CLASSIFIER)
    ]
    return (one[-1] for one in sorted(ranked, key=lambda one: one[:-1]))


def _by_instrument(feeds: Iterable[PriceFeed]) -> dict[tuple[str, str], list[PriceFeed]]:
    instruments: dict[tuple[str, str], list[PriceFeed]] = {}
    for feed in feeds:
        instruments.setdefault((feed.portfolio, feed.symbol), []).append(feed)
    return instruments


def _said_by_host(
    connection: duckdb.DuckDBPyConnection, run_id: str, feeds: PriceFeeds
) -> Iterator[_Timeline]:
    parameters = {
        "run_id": run_id,
        "default_portfolio": DEFAULT_PORTFOLIO,
        "regime_name": json_path(Regime.NAME),
        "words": _WORDS,
    }
    spoken: dict[tuple[str, str | None], list[Spell]] = {}
    rows = connection.execute(read_sql("regime_events"), parameters).fetchall()
    for portfolio, symbol, sequence, event_time, name, trace_id, span_id in rows:
        spells = spoken.setdefault((portfolio, symbol), [])
        if not name or (spells and spells[-1].name == name):
            continue
        refs = {"trace_id": trace_id, "span_id": span_id}
        spells.append(Spell(portfolio, symbol, sequence, event_time, None, name, HOST, **refs))
    for (portfolio, symbol), spells in spoken.items():
        if not spells:
            continue
        starts = [spell.sequence for spell in spells]
        counts = _counts(starts, feeds, portfolio, symbol)
        ends = [*(spell.event_time for spell in spells[1:]), None]
        whole = [
            replace(spell, end_time=end, events=count)
            for spell, end, count in zip(spells, ends, counts, strict=True)
        ]
        yield _Timeline(portfolio, symbol, HOST, starts, [s.name for s in whole], whole)


def _counts(
    starts: Sequence[int], feeds: PriceFeeds, portfolio: str, symbol: str | None
) -> list[int]:
    """Count the prices from each start to the next: of the instrument, or of the portfolio's."""
    if symbol is None:
        own = {feed.symbol for feed in feeds.feeds if feed.portfolio == portfolio}
        chosen = [feeds.main(portfolio, one) for one in sorted(own)]
    else:
        chosen = [feeds.main(portfolio, symbol)]
    counts = np.zeros(len(starts), dtype=np.int64)
    for feed in chosen:
        if feed is not None:
            places = np.searchsorted(feed.sequences, starts, side="left")
            counts += np.diff(places, append=len(feed.sequences))
    return [int(count) for count in counts]


def _incomplete(connection: duckdb.DuckDBPyConnection, run_id: str) -> set[tuple[str, str]]:
    """Give portfolios and kinds of price of which the lake has not everything."""
    found = connection.execute(_COMPLETENESS, {"run_id": run_id}).fetchall()
    rows = [row for (completeness,) in found for row in json.loads(completeness or "[]")]
    return {
        (row["portfolio"] or DEFAULT_PORTFOLIO, row["event_type"])
        for row in rows
        if row["event_type"] in (EventType.BAR, EventType.TICK) and row["kept"] < row["published"]
    }


def _classified(
    feeds: Iterable[PriceFeed], silent_from: int | None, said: Sequence[_Timeline]
) -> _Timeline | None:
    """Classify an instrument by the feed that first comes to a regime, until the host speaks."""
    timelines = (_of_feed(feed, silent_from, said) for feed in feeds)
    return min(
        (one for one in timelines if one is not None), key=lambda one: one.starts[0], default=None
    )


def _of_feed(
    feed: PriceFeed, silent_from: int | None, said: Sequence[_Timeline]
) -> _Timeline | None:
    found = classify(feed.prices, feed.times, is_tick=feed.event_type == EventType.TICK)
    is_change = found.names[1:] != found.names[:-1]
    changes = np.flatnonzero(is_change) + 1
    until = len(feed.sequences)
    if silent_from is not None:
        until = int(np.searchsorted(feed.sequences, silent_from, side="left"))
        changes = changes[changes < until]
    if not len(changes):
        return None
    starts: list[int] = feed.sequences[changes].tolist()
    names: list[str | None] = found.names[changes].tolist()
    times: list[int | None] = (
        [None] * len(starts) if feed.times is None else list(feed.times[changes].tolist())
    )
    ends = [*times[1:], None]
    if silent_from is not None:
        starts.append(silent_from)
        names.append(None)
        ends[-1] = next(
            (one.spells[0].event_time for one in said if one.starts[0] == silent_from), None
        )
    counts = np.diff(changes, append=until).tolist()
    spells = [
        Spell(
            feed.portfolio,
            feed.symbol,
            starts[place],
            times[place],
            ends[place],
            name,
            CLASSIFIER,
            float(found.volatilities[index]),
            float(found.trends[index]),
            counts[place],
        )
        for place, (index, name) in enumerate(zip(changes, names, strict=False))
        if name is not None
    ]
    return _Timeline(feed.portfolio, feed.symbol, CLASSIFIER, starts, names, spells)


def _add_refs(
    connection: duckdb.DuckDBPyConnection, run_id: str, timelines: list[_Timeline]
) -> None:
    """Name the span of the price that began each spell."""
    sequences = [spell.sequence for one in timelines for spell in one.spells]
    rows = connection.execute(
        read_sql("price_spans"), {"run_id": run_id, "sequences": sequences}
    ).fetchall()
    refs: Mapping[int, tuple[str, str]] = {row[0]: (row[1], row[2]) for row in rows}
    for place, timeline in enumerate(timelines):
        spells = []
        for spell in timeline.spells:
            trace_id, span_id = refs.get(spell.sequence, (None, None))
            spells.append(replace(spell, trace_id=trace_id, span_id=span_id))
        timelines[place] = replace(timeline, spells=spells)
