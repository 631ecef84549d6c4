"""An event that is but numbers is recorded at a fraction of the cost, and says the same."""

from __future__ import annotations

import datetime as dt
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, make_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import trace

from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.instrumentation import EventFields, TracedEventBus, Tracing
from fillpath.instrumentation.event_memory import EventMemory
from fillpath.instrumentation.event_span import Publication
from fillpath.instrumentation.spool import SpoolReader

_AT = 1_704_186_000_000_000_000
_NAIVE = dt.datetime(1990, 1, 1, tzinfo=dt.UTC).replace(tzinfo=None)
_PARTS = ("symbol", "timestamp", "open", "high", "volume")


class Word(Enum):
    """A kind in an Enum."""

    BAR = "BAR"


@dataclass
class Bar:
    """A dataclass."""

    symbol: Any
    timestamp: Any
    open: Any
    high: Any
    volume: Any


class NamedBar(NamedTuple):
    """A named tuple."""

    symbol: Any
    timestamp: Any
    open: Any
    high: Any
    volume: Any


class SlotsBar:
    """A class that has no dictionary, and cannot be weakly referenced."""

    __slots__ = _PARTS

    def __init__(self, *values: Any) -> None:
        for name, value in zip(_PARTS, values, strict=True):
            setattr(self, name, value)


@attrs.define
class AttrsBar:
    """A class of attrs."""

    symbol: Any
    timestamp: Any
    open: Any
    high: Any
    volume: Any


class RaisingBar(SlotsBar):
    """A class of which a field raises."""

    __slots__ = ()

    @property
    def volume(self) -> float:
        raise OSError("no volume")

    @volume.setter
    def volume(self, value: float) -> None:
        """Forget it."""


def dict_bar(*values: Any) -> dict[str, Any]:
    return {"type": Word.BAR, **dict(zip(_PARTS, values, strict=True))}


_MAKERS: list[Callable[..., Any]] = [Bar, NamedBar, SlotsBar, AttrsBar, RaisingBar, dict_bar]


class Bus:
    """Delivers at once, to all."""

    def __init__(self) -> None:
        self.handlers: list[Callable[[Any], Any]] = []

    def subscribe(self, handler: Callable[[Any], Any]) -> None:
        self.handlers.append(handler)

    def publish(self, event: Any) -> None:
        for handler in self.handlers:
            handler(event)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Tracing]:
    with Tracing("run", data=tmp_path, writer="none") as tracing:
        yield tracing


def recorded(session: Tracing) -> list[RecordedEvent]:
    """What a run left, in order; its parents are there, and every event is counted."""
    session.stop()
    spool = SpoolEvents()
    events: dict[int, RecordedEvent] = {}
    for block in SpoolReader(session.folder.spool / session.run_id).blocks():
        events.update((event.sequence, event) for event in spool.feed(block))
    assert all(e.parent == 0 or e.parent in events for e in events.values())
    published = sum(e.site.operation == "publish" for e in events.values())
    assert sum(count.published for count in spool.counts) == published
    return [event for _, event in sorted(events.items())]


def handled_now() -> Any:
    """What the running handler was given, before anything asked for its event."""
    run: Any = trace.get_current_span()
    return run.cause


def what(event: RecordedEvent) -> Any:
    """What an event says of itself and of its cause."""
    numbers = {
        key: "NaN" if isinstance(value, float) and math.isnan(value) else (type(value), value)
        for key, value in event.attributes.items()
    }
    return event.site[1:8], event.event_time, numbers, event.sequence - event.parent


_numbers = st.one_of(
    st.floats(),
    st.integers(-(2**60), 2**60),
    st.none(),
    st.booleans(),
    st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=0, max_value=1000),
)
_times = st.one_of(
    st.integers(_AT, _AT + 10**9),
    st.integers(0, 10**12),
    st.datetimes(_NAIVE, _NAIVE.replace(year=2060)),
    st.datetimes(_NAIVE, timezones=st.sampled_from([dt.UTC, dt.timezone.min])),
    st.none(),
    st.just("2024-01-02T09:30"),
    st.just("no time"),
)
_symbols = st.sampled_from(["ACME", "EUR/USD", "", " X ", None, 7, Word.BAR])


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.sampled_from(_MAKERS), _symbols, _times, _numbers, _numbers, _numbers),
        min_size=1,
        max_size=8,
    )
)
def test_it_is_recorded_as_if_its_parts_were_looked_for(tmp_path: Path, made: list[Any]) -> None:
    """The oracle is the reader that looks for each part, which a function of the host's needs."""
    found = []
    slow = EventFields(strategy=lambda _: None)
    for name, fields in (("quick", EventFields()), ("slow", slow)):
        session = Tracing(name, data=tmp_path / str(len(list(tmp_path.iterdir()))), writer="none")
        with session:
            bus = TracedEventBus(Bus(), fields=fields)
            for maker, *parts in made * 3:
                bus.publish(maker(*parts))
        found.append([what(event) for event in recorded(session)])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "far", [2**63, _NAIVE.replace(2400), dt.datetime(2400, 1, 1, tzinfo=dt.UTC)]
)
@pytest.mark.parametrize("maker", _MAKERS)
def test_a_time_beyond_a_records_reach_is_kept_as_a_field(
    session: Tracing, maker: Callable[..., Any], far: Any
) -> None:
    bus = TracedEventBus(Bus())
    near = _AT if type(far) is int else dt.datetime(2024, 1, 2, 9, tzinfo=far.tzinfo)
    for at in (near, far, near, far):
        bus.publish(maker("ACME", at, 1.0, 2.0, 3.0))
    for event in recorded(session)[1::2]:
        assert event.event_time is None
        kept = [value for key, value in event.attributes.items() if key.endswith(".timestamp")]
        assert str(far)[:4] in str(*kept)


@pytest.mark.parametrize("maker", [*_MAKERS[:4], dict_bar])
def test_it_is_no_event_until_something_asks(session: Tracing, maker: Callable[..., Any]) -> None:
    bus = TracedEventBus(Bus())
    running: list[Any] = []
    bus.subscribe(lambda _: running.append(handled_now()))
    for number in range(3):
        bus.publish(maker("ACME", _AT + number, 1.0, 2.0, 3.0))
    assert [type(each) for each in running[1:]] == [Publication] * 2
    assert running[-1].made is None
    first, *_, last = recorded(session)
    assert what(first)[2] == what(last)[2]
    assert (last.event_time, last.site.symbol) == (_AT + 2, "ACME")


def test_what_is_changed_after_it_was_published_is_not_seen(session: Tracing) -> None:
    bus = TracedEventBus(Bus())

    def spoil(bar: Bar) -> None:
        bar.open, bar.symbol = -1.0, "OTHER"

    bus.subscribe(spoil)
    for _ in range(3):
        bus.publish(Bar("ACME", _AT, 1.0, 2.0, 3.0))
    assert {(e.site.symbol, e.attributes["trading.bar.open"]) for e in recorded(session)} == {
        ("ACME", 1.0)
    }


def test_a_field_more_on_one_event_is_not_lost(session: Tracing) -> None:
    bus = TracedEventBus(Bus())
    bars = [Bar("ACME", _AT, 1.0, 2.0, 3.0) for _ in range(4)]
    bars[2].note = "halted"  # type: ignore[attr-defined]
    for bar in bars:
        bus.publish(bar)
    assert [e.attributes.get("trading.bar.note") for e in recorded(session)] == [
        None, None, "halted", None,
    ]  # fmt: skip


@pytest.mark.parametrize("maker", [Bar, dict_bar])
def test_its_children_its_spans_and_its_failure_find_it(
    session: Tracing, maker: Callable[..., Any]
) -> None:
    bus, seen = TracedEventBus(Bus()), []

    def on_bar(event: Any) -> None:
        number = event["open"] if isinstance(event, dict) else event.open
        if number == 1.0:
            bus.publish(maker("CHILD", None, 0.0, 0.0, 0.0))
        elif number == 2.0:
            seen.append(trace.get_current_span().get_span_context().span_id)
        elif number == 3.0:
            raise LookupError("no such price")

    bus.subscribe(on_bar)
    bus.publish(maker("ACME", _AT, 5.0, 0.0, 0.0))
    bus.publish(maker("ACME", _AT + 1, 1.0, 0.0, 0.0))
    bus.publish(maker("ACME", _AT + 2, 2.0, 0.0, 0.0))
    with pytest.raises(LookupError):
        bus.publish(maker("ACME", _AT + 3, 3.0, 0.0, 0.0))
    bus.publish(maker("ACME", _AT + 4, 6.0, 0.0, 0.0))
    events = recorded(session)
    by = {event.sequence: event for event in events}
    child = next(e for e in events if e.site.symbol == "CHILD")
    run = by[child.parent]
    assert (run.site.operation, run.event_time, child.event_time) == ("process", _AT + 1, _AT + 1)
    assert by[run.parent].attributes["trading.bar.open"] == 1.0
    assert seen[0]
    assert all(event.finished for event in events)
    failed = [e for e in events if "error" in e.extra]
    assert [(e.site.operation, e.event_time) for e in failed] == [
        ("publish", _AT + 3), ("process", _AT + 3),
    ]  # fmt: skip


def test_threads_that_ask_for_it_get_the_same_event(session: Tracing) -> None:
    bus = TracedEventBus(Bus())
    bus.publish(Bar("ACME", _AT, 0.0, 0.0, 0.0))
    found: list[Any] = []

    def on_bar(_: Bar) -> None:
        publication = handled_now()
        asking = [
            threading.Thread(target=lambda: found.append(publication.event)) for _ in range(8)
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()

    bus.subscribe(on_bar)
    for number in range(50):
        bus.publish(Bar("ACME", _AT + number, 1.0, 0.0, 0.0))
    assert len(found) == 400
    assert len({id(event) for event in found}) == 50
    assert len([e for e in recorded(session) if e.site.operation == "publish"]) == 51


def test_it_is_unfinished_if_the_run_ends_meanwhile(session: Tracing) -> None:
    bus = TracedEventBus(Bus())
    bus.publish(Bar("ACME", _AT, 0.0, 0.0, 0.0))
    bus.subscribe(lambda _: session.stop())
    bus.publish(Bar("ACME", _AT, 1.0, 0.0, 0.0))
    assert [event.finished for event in recorded(session)] == [True, False]


def test_many_are_known_again_when_they_are_delivered_late(session: Tracing) -> None:
    events, number = TracedEventBus(deque()), 20_000
    bars = [Bar("ACME", _AT + each, 1.0, 2.0, 3.0) for each in range(number)]
    for bar in bars:
        events.append(bar)
    for _ in range(number):
        bar = events.popleft()
        if bar.timestamp % 5_000 == 0:
            events.append({"type": "SIGNAL", "value": bar.timestamp})
    found = recorded(session)
    by = {event.sequence: event for event in found}
    signals = [event for event in found if event.site.event_type == "SIGNAL"]
    assert len(signals) == number // 5_000
    for signal in signals:
        assert by[by[signal.parent].parent].event_time == signal.attributes["trading.signal.value"]


def test_objects_that_are_gone_are_forgotten() -> None:
    class Thing:
        pass

    memory = EventMemory()
    event: Any = object()
    kept = [Thing() for _ in range(10)]
    for thing in kept:
        memory.remember(thing, event)
    for _ in range(20_000):
        memory.remember(Thing(), event)
    assert all(memory.at(thing) is event for thing in kept)
    assert len(memory._weak) + len(memory._old) < 5_000


def test_what_is_added_with_an_operator_or_put_in_a_place_is_followed(session: Tracing) -> None:
    events = TracedEventBus([])
    bar, signal, order, late = ({"type": kind} for kind in ("BAR", "SIGNAL", "ORDER", "FILL"))
    same = events
    events += [bar]
    while events:
        event = events.pop()
        if event is bar:
            events += (signal, order)
            events[:] = [order, signal]  # these are there already
            events[0:1] = [late, order]
            events.insert(0, {"type": "RISK_BREACH"})
    assert events is same
    found = recorded(session)
    kinds = [e.site.event_type for e in found if e.site.operation == "publish"]
    assert kinds == ["BAR", "SIGNAL", "ORDER", "FILL", "RISK_BREACH"]
    assert [e.parent for e in found if e.site.operation == "publish"] == [0, 2, 2, 2, 2]


def test_a_class_of_many_sorts_is_recorded_right(session: Tracing) -> None:
    """Prices may be whole at times, names missing: each sort has a reader, up to some."""
    bus = TracedEventBus(Bus())
    made = make_dataclass("Quote", ["symbol", "timestamp", "bid", "ask"])
    given_ = [("A", _AT, 1, 2.0), ("B", _AT, 1.5, 2), (None, None, 3, 4), ("A", 1.5, 1.0, 2.0)] * 3
    for parts in given_ + [("A", _AT, True, 2.0), ("A", _AT, 1.0, None)] * 2:
        bus.publish(made(*parts))
    found = [
        (e.site.symbol, *(e.attributes.get(f"trading.quote.{word}") for word in ("bid", "ask")))
        for e in recorded(session)
    ]
    expected = [(symbol, bid, ask) for symbol, _, bid, ask in given_]
    assert found == [*expected, *[("A", True, 2.0), ("A", 1.0, None)] * 2]
