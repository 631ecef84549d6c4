"""A wrapped bus does what it did before, and every event on it is recorded with its cause."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import logging
import pickle
import queue
import random
import sys
import threading
import weakref
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NoReturn, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace

from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.instrumentation import EventFields, TracedEvent, TracedEventBus, Tracing, identity
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.semconv import PROCESS, PUBLISH
from fillpath.instrumentation.spool import SpoolReader


class Bus:
    """The usual bus: a list of handlers per kind, called at once."""

    def __init__(self) -> None:
        self.handlers: dict[str, list[Callable[..., Any]]] = defaultdict(list)
        self.published = 0
        self.is_open = True

    def subscribe(self, kind: str, handler: Callable[..., Any]) -> None:
        self.handlers[kind].append(handler)

    def unsubscribe(self, kind: str, handler: Callable[..., Any]) -> None:
        self.handlers[kind].remove(handler)

    def publish(self, event: Any) -> int:
        self.published += 1
        handlers = list(self.handlers[kind_of(event)])
        for handler in handlers:
            handler(event)
        return len(handlers)


class QueuedBus(Bus):
    """Puts events in a queue, and delivers them when it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: deque[Any] = deque()

    def publish(self, event: Any) -> int:
        self.queue.append(event)
        return len(self.queue)

    def run(self) -> None:
        while self.queue:
            super().publish(self.queue.popleft())


def kind_of(event: Any) -> str:
    if isinstance(event, TracedEvent):
        return event.event_type
    return str(event["kind"] if isinstance(event, dict) else event.kind)


@dataclass
class Event:
    """The usual event."""

    kind: str
    price: Decimal | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    portfolio: str | None = None
    payload: dict[str, Any] = field(default_factory=dict)


class Recorded:
    """What a run left in its spool. Every parent is there, and stands before its children."""

    def __init__(self, folder: Path) -> None:
        self.events: dict[int, RecordedEvent] = {}
        spool = SpoolEvents()
        for block in SpoolReader(folder).blocks():
            for event in spool.feed(block):
                self.events[event.sequence] = event
        assert all(e.parent == 0 or e.parent in self.events for e in self.events.values())
        assert all(e.parent < e.sequence for e in self.events.values())
        assert not any(e.parent_dropped for e in self.events.values())
        published = sum(e.site.operation == PUBLISH for e in self.events.values())
        self.dropped = sum(sum(count.dropped.values()) for count in spool.counts)
        assert sum(count.published for count in spool.counts) == published + self.dropped
        self.end = spool.end or {}

    def of(self, event_type: str, operation: str = PUBLISH) -> list[RecordedEvent]:
        return [
            event
            for _, event in sorted(self.events.items())
            if (event.site.event_type, event.site.operation) == (event_type, operation)
        ]

    def one(self, event_type: str, operation: str = PUBLISH) -> RecordedEvent:
        (event,) = self.of(event_type, operation)
        return event

    def path(self, event: RecordedEvent) -> list[str]:
        """Names of the event and its ancestors: `publish ORDER`, `process BAR on_bar`."""
        names = []
        each: RecordedEvent | None = event
        while each is not None:
            handler = f" {each.site.handler}" if each.site.handler else ""
            names.append(f"{each.site.operation} {each.site.event_type}{handler}")
            each = self.events.get(each.parent)
        return names


class Session:
    """A recording session of a test."""

    def __init__(self, data: Path) -> None:
        self.tracing = Tracing("run", data=data, writer="none", portfolio="demo")
        self.folder = data / "spool" / "run"

    def end(self) -> Recorded:
        self.tracing.stop()
        return Recorded(self.folder)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session = Session(tmp_path / "data")
    with session.tracing:
        yield session


def wrapped(bus: Any, **settings: Any) -> Any:
    return TracedEventBus(bus, **settings)


CHAIN = [
    "publish FILL",
    "process ORDER on_order",
    "publish ORDER",
    "process SIGNAL on_signal",
    "publish SIGNAL",
    "process BAR on_bar",
    "publish BAR",
]


def trade(bus: Any, make: Callable[[str], Any] = Event) -> None:
    """Handlers that lead from a bar to a fill."""

    def on_bar(event: Any) -> None:
        bus.publish(make("SIGNAL"))

    def on_signal(event: Any) -> None:
        bus.publish(make("ORDER"))

    def on_order(event: Any) -> None:
        bus.publish(make("FILL"))

    def log(event: Any) -> None:
        """Cause nothing."""

    for kind, handler in (("BAR", on_bar), ("SIGNAL", on_signal), ("ORDER", on_order)):
        bus.subscribe(kind, log)
        bus.subscribe(kind, handler)
    bus.publish(make("BAR"))


# -- Causes ------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_a_chain_from_bar_to_fill(session: Session) -> None:
    trade(wrapped(Bus()))
    run = session.end()
    assert run.path(run.one("FILL")) == CHAIN
    assert {event.root for event in run.events.values()} == {1}
    assert len(run.events) == 7  # nothing of `log`
    assert run.end["engine"] == "Bus"


def as_mapping(kind: str) -> dict[str, str]:
    return {"kind": kind}


@dataclass(frozen=True, slots=True)
class Slotted:
    """An event that cannot be referenced weakly."""

    kind: str
    payload: Any = None


@pytest.mark.parametrize("make", [Event, as_mapping, Slotted], ids=lambda make: make.__name__)
def test_a_queue_keeps_causes(session: Session, make: Callable[[str], Any]) -> None:
    queued = QueuedBus()
    bus = wrapped(queued)
    trade(bus, make)
    trade(bus, make)
    queued.run()
    run = session.end()
    fills = run.of("FILL")
    assert len(fills) == 16  # two bars, and two handlers for each event that follows
    for fill in fills:
        assert run.path(fill) == CHAIN
    assert len({fill.root for fill in fills}) == 2


class PatientBus(Bus):
    """Delivers at once, but what handlers publish only when they are done."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: deque[Any] = deque()
        self.is_busy = False

    def publish(self, event: Any) -> int:
        self.queue.append(event)
        if not self.is_busy:
            self.is_busy = True
            while self.queue:
                super().publish(self.queue.popleft())
            self.is_busy = False
        return 0


@pytest.mark.parametrize("make", [Event, as_mapping, Slotted], ids=lambda make: make.__name__)
def test_a_bus_that_lets_a_handler_finish_first(
    session: Session, make: Callable[[str], Any]
) -> None:
    bus = wrapped(PatientBus())
    trade(bus, make)
    run = session.end()
    assert [run.path(fill) for fill in run.of("FILL")] == [CHAIN]


def test_a_queue_that_is_filled_before_it_is_run(session: Session) -> None:
    """As backtests do that put all their bars in first."""
    queued = QueuedBus()
    bus = wrapped(queued)
    bus.subscribe("BAR", lambda event: bus.publish({"kind": "SIGNAL", "n": event["n"]}))
    for n in range(2000):
        bus.publish({"kind": "BAR", "n": n})
    queued.run()
    run = session.end()
    for signal in run.of("SIGNAL"):
        bar = run.events[run.events[signal.parent].parent]
        assert bar.attributes["trading.bar.n"] == signal.attributes["trading.signal.n"]


class SomeLaterBus(Bus):
    """Delivers most events at once, and the others when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Any] = []

    def publish(self, event: Any) -> int:
        if event["number"] % 5 != 3:
            return super().publish(event)
        self.waiting.append(event)
        return 0

    def deliver(self) -> None:
        while self.waiting:
            super().publish(self.waiting.pop(0))


@pytest.mark.parametrize("unheard", [0, 100], ids=["soon", "when it is forgotten"])
def test_a_bus_that_delivers_some_events_later(session: Session, unheard: int) -> None:
    bus = wrapped(own := SomeLaterBus())
    bus.subscribe(
        "BAR", lambda bar: bus.publish({"kind": "SIGNAL", "number": 0, "of": bar["number"]})
    )
    for number in range(40):
        bus.publish({"kind": "BAR", "number": number})
        for _ in range(unheard if number == 3 else 0):
            bus.publish({"kind": "NEWS", "number": 0})
        if number % 10 == 9:
            own.deliver()
    run = session.end()
    causes = {e.attributes["trading.signal.of"]: run.path(e)[1:] for e in run.of("SIGNAL")}
    lost = [number for number, path in causes.items() if not path]
    assert sorted(causes) == list(range(40))
    assert lost == ([3] if unheard else [])  # of those before, nobody knew that one would come
    for signal in run.of("SIGNAL"):
        if signal.parent:
            bar = run.events[run.events[signal.parent].parent]
            assert bar.attributes["trading.bar.number"] == signal.attributes["trading.signal.of"]


def test_a_queue_that_hands_out_copies_is_told_by_ids(session: Session) -> None:
    class CopyingBus(QueuedBus):
        def run(self) -> None:
            self.queue = deque(copy.copy(event) for event in self.queue)
            super().run()

    queued = CopyingBus()
    bus = wrapped(queued)
    bus.subscribe("BAR", lambda event: bus.publish(Event("SIGNAL")))
    bus.publish(Event("BAR", event_id="bar-1"))
    queued.run()
    run = session.end()
    assert run.events[run.one("SIGNAL").parent].parent == run.one("BAR").sequence


def test_a_delivery_names_the_strategy_that_its_object_is(session: Session) -> None:
    bus = wrapped(Bus())
    strategies = [Strategy(bus) for _ in range(3)]
    strategies[0].strategy_id = "trend"  # type: ignore[attr-defined]
    strategies[1].strategy_id = object()  # type: ignore[attr-defined]
    for strategy in strategies:
        bus.subscribe("BAR", strategy.on_bar)
    bus.publish(Event("BAR"))
    run = session.end()
    assert [each.site.strategy for each in run.of("BAR", PROCESS)] == ["trend", None, None]


def test_an_envelope_is_the_event_that_is_being_published(session: Session) -> None:
    class EnvelopeBus(Bus):
        def publish(self, event: Any) -> int:
            for handler in self.handlers[event.kind]:
                handler("topic", ("envelope", event.price))
            return 0

    bus = wrapped(EnvelopeBus())

    def on_bar(topic: str, envelope: Any) -> None:
        bus.publish(Event("SIGNAL"))

    bus.subscribe("BAR", on_bar)
    bus.publish(Event("BAR"))
    run = session.end()
    assert run.path(run.one("SIGNAL")) == ["publish SIGNAL", "process BAR on_bar", "publish BAR"]


def test_handlers_without_arguments(session: Session) -> None:
    class BellBus(Bus):
        def publish(self, event: Any) -> int:
            for handler in self.handlers[event]:
                handler()
            return 0

    bus = wrapped(BellBus())
    bus.subscribe("START", lambda: bus.publish("READY"))
    bus.publish("START")
    run = session.end()
    assert run.path(run.one("READY")) == [
        "publish READY",
        "process START <lambda>",
        "publish START",
    ]


def test_an_object_that_is_published_again_on_its_way(session: Session) -> None:
    bus = wrapped(Bus())
    seen: list[Event] = []

    def forward(event: Event) -> None:
        if not seen:
            seen.append(event)
            bus.publish(event)

    def answer(event: Event) -> None:
        bus.publish(Event("ANSWER"))

    bus.subscribe("BAR", forward)
    bus.subscribe("BAR", answer)
    bus.publish(Event("BAR"))
    run = session.end()
    first, second = run.of("BAR")
    assert [run.events[answer.parent].parent for answer in run.of("ANSWER")] == [
        second.sequence,
        first.sequence,
    ]


def test_one_object_used_for_every_event(session: Session) -> None:
    bus = wrapped(Bus())
    bus.subscribe("BAR", lambda event: bus.publish(Event("SIGNAL", event.price)))
    event = Event("BAR")
    for n in range(5):
        event.price = Decimal(n)
        bus.publish(event)
    run = session.end()
    assert [bar.attributes["trading.bar.price"] for bar in run.of("BAR")] == list(range(5))
    for signal in run.of("SIGNAL"):
        bar = run.events[run.events[signal.parent].parent]
        assert bar.attributes["trading.bar.price"] == signal.attributes["trading.signal.price"]


def test_handlers_that_hand_their_events_back(session: Session) -> None:
    """The loop publishes what handlers return, when their delivery is over."""

    class LoopBus(QueuedBus):
        def publish(self, event: Any) -> list[Any]:  # type: ignore[override]
            return [handler(event) for handler in self.handlers[event.kind]]

    bus = wrapped(LoopBus())

    def on_bar(event: Event) -> list[Event]:
        return [Event("SIGNAL"), Event("SIGNAL")]

    def on_signal(event: Event) -> Event:
        return Event("ORDER")

    bus.subscribe("BAR", on_bar)
    bus.subscribe("SIGNAL", on_signal)
    for signals in bus.publish(Event("BAR")):
        for signal in signals:
            for order in bus.publish(signal):
                bus.publish(order)
    run = session.end()
    assert len(run.of("ORDER")) == 2
    for order in run.of("ORDER"):
        assert run.path(order) == [
            "publish ORDER",
            "process SIGNAL on_signal",
            "publish SIGNAL",
            "process BAR on_bar",
            "publish BAR",
        ]


def test_generator_handlers(session: Session) -> None:
    class PullingBus(Bus):
        def publish(self, event: Any) -> int:
            for handler in self.handlers[event.kind]:
                for item in handler(event) or ():
                    bus.publish(item)
            return 0

    bus = wrapped(PullingBus())

    def on_bar(event: Event) -> Generator[Event, None, str]:
        yield Event("SIGNAL")
        bus.publish(Event("NOTE"))
        yield Event("SIGNAL")
        return "done"

    bus.subscribe("BAR", on_bar)
    bus.publish(Event("BAR"))
    run = session.end()
    run_of_handler = run.one("BAR", PROCESS)
    assert {e.parent for e in [*run.of("SIGNAL"), *run.of("NOTE")]} == {run_of_handler.sequence}
    assert run_of_handler.finished


def test_a_generator_of_the_hosts_is_driven_as_ever(session: Session) -> None:
    log: list[Any] = []

    def handler(event: Event) -> Generator[int, Any, str]:
        try:
            log.append((yield 1))
            try:
                yield 2
            except ValueError as error:
                log.append(str(error))
            yield 3
        finally:
            log.append("closed")
        return "unreached"

    class Keeping(Bus):
        def publish(self, event: Any) -> Any:
            return self.handlers[event.kind][0](event)

    bus = wrapped(Keeping())
    bus.subscribe("BAR", handler)
    generator = bus.publish(Event("BAR"))
    assert bool(inspect.isgenerator(generator))
    assert next(generator) == 1
    assert generator.send("sent") == 2
    assert generator.throw(ValueError("thrown")) == 3
    generator.close()
    assert log == ["sent", "thrown", "closed"]
    session.end()


def test_threads_of_the_bus_keep_causes(session: Session) -> None:
    class PoolBus(Bus):
        pool = ThreadPoolExecutor(4)

        def publish(self, event: Any) -> int:
            futures = [self.pool.submit(h, event) for h in self.handlers[event.kind]]
            if event.kind == "BAR":
                for future in futures:
                    future.result()
            return len(futures)

    bus = wrapped(PoolBus())
    bus.subscribe("BAR", lambda event: bus.publish(Event("SIGNAL", event.price)))
    threads = [
        threading.Thread(target=lambda n=n: bus.publish(Event("BAR", Decimal(n))))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run = session.end()
    assert len(run.of("SIGNAL")) == 20
    for signal in run.of("SIGNAL"):
        bar = run.events[run.events[signal.parent].parent]
        assert bar.attributes["trading.bar.price"] == signal.attributes["trading.signal.price"]


class Word(Enum):
    """An event that is a member of an Enum."""

    START = 1


PLAIN = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.decimals(allow_nan=False), st.text()
)


@given(
    events=st.lists(
        st.fixed_dictionaries(
            {"type": st.sampled_from(["BAR", "tick", "ORDER", Word.START])},
            optional={
                "symbol": st.sampled_from(["A", " B ", "", None, 7]),
                "timestamp": st.sampled_from([None, 10**18, 1.5e9, "2024-01-02", "noon"]),
                "portfolio": st.sampled_from(["p", None]),
                **dict.fromkeys(["close", "price", "volume", "x"], PLAIN),
                "side": st.sampled_from([1, -1, "BUY"]),
            },
        ),
        max_size=5,
    ),
    as_object=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_the_quick_way_records_what_the_other_does(
    events: list[dict[str, Any]], as_object: bool
) -> None:
    def recorded(**where: Any) -> list[Any]:
        with TemporaryDirectory() as folder:
            session = Session(Path(folder))
            with session.tracing:
                bus = wrapped(deque(), fields=EventFields(**where))
                for event in events:
                    bus.append(SimpleNamespace(**event) if as_object else event)
                run = session.end()
            return [
                (
                    e.site.event_type,
                    e.site.symbol,
                    e.site.portfolio,
                    e.event_time,
                    repr(e.attributes),
                )
                for e in run.events.values()
            ]

    parts = {"event_type": "type", "causation_id": None, "headers": None}
    # A function for any part at all is more than the quick way can do.
    assert recorded(**parts) == recorded(**{**parts, "causation_id": lambda _: None})


# -- Causes and chains that the host names ------------------------------------------------------


def test_a_cause_that_the_host_names(session: Session) -> None:
    bus = wrapped(Bus())
    bus.publish(Event("ORDER", event_id="o-1"))
    bus.publish(Event("HEARTBEAT"))
    bus.publish(Event("FILL", causation_id="o-1"))
    run = session.end()
    assert run.one("FILL").parent == run.one("ORDER").sequence
    assert run.one("FILL").attributes["trading.event.causation_id"] == "o-1"


def test_a_named_cause_that_is_being_handled_means_its_handler(session: Session) -> None:
    bus = wrapped(Bus())
    bus.subscribe("ORDER", lambda event: bus.publish(Event("FILL", causation_id="o-1")))
    bus.publish(Event("ORDER", event_id="o-1"))
    run = session.end()
    assert run.one("FILL").parent == run.one("ORDER", PROCESS).sequence
    assert not run.one("FILL").links


def test_another_named_cause_wins_and_the_running_handler_is_linked(session: Session) -> None:
    bus = wrapped(Bus())
    bus.publish(Event("ORDER", event_id="o-1"))
    bus.subscribe("BAR", lambda event: bus.publish(Event("FILL", causation_id="o-1")))
    bus.publish(Event("BAR"))
    run = session.end()
    assert run.one("FILL").parent == run.one("ORDER").sequence
    key = identity.run_key("run")
    handler = run.one("BAR", PROCESS)
    (link,) = run.one("FILL").links
    assert link == (
        identity.trace_id(key, handler.root).to_bytes(16, "big"),
        identity.span_id(key, handler.sequence).to_bytes(8, "big"),
    )


def resting(bus: Any, **of_fill: Any) -> None:
    """A broker that takes an order at one bar and fills it at the next, without naming causes."""
    orders: list[dict[str, Any]] = []

    def fill(bar: dict[str, Any]) -> None:
        while orders:
            bus.publish({**orders.pop(), "kind": "FILL", "price": bar["close"], **of_fill})

    def decide(bar: dict[str, Any]) -> None:
        if bar["close"] == 1:
            for book in ("demo", "other"):
                order = {"order_id": 7, "side": 1, "qty": 5, "symbol": "X", "portfolio": book}
                bus.publish({**order, "kind": "ORDER"})
                orders.append(order)

    bus.subscribe("BAR", fill)
    bus.subscribe("BAR", decide)
    bus.publish({"kind": "BAR", "close": 1})
    bus.publish({"kind": "BAR", "close": 2})


def test_a_fill_follows_from_the_order_that_rested_and_links_the_price(session: Session) -> None:
    resting(wrapped(Bus()))
    run = session.end()
    assert len(run.of("FILL")) == 2
    for fill in run.of("FILL"):
        order = run.events[fill.parent]
        assert (order.site.event_type, order.site.portfolio) == ("ORDER", fill.site.portfolio)
        assert run.path(order)[1:] == ["process BAR decide", "publish BAR"]
        ((_, linked),) = fill.links
        (handler,) = (
            event
            for event in run.of("BAR", PROCESS)
            if identity.span_id(identity.run_key("run"), event.sequence).to_bytes(8, "big")
            == linked
        )
        assert handler.site.handler == "fill"
        assert handler.root == run.of("BAR")[1].sequence


@pytest.mark.parametrize("other", [{"symbol": "Y"}, {"side": -1}, {"order_id": 8}, {"side": None}])
def test_an_id_that_is_used_again_for_something_else_is_not_that_order(
    session: Session, other: dict[str, Any]
) -> None:
    resting(wrapped(Bus()), **other)
    run = session.end()
    is_same = other == {"side": None}  # unknown, so it may be
    for fill in run.of("FILL"):
        assert (run.events[fill.parent].site.event_type == "ORDER") is is_same


def test_a_fill_that_nothing_runs_for_follows_from_its_order(session: Session) -> None:
    events = wrapped(queue.SimpleQueue())
    events.put({"kind": "ORDER", "client_order_id": "a", "status": "NEW"})
    events.put({"kind": "ORDER", "client_order_id": "a", "status": "ACCEPTED"})
    events.put({"kind": "FILL", "client_order_id": "a", "qty": 1})
    run = session.end()
    assert run.path(run.one("FILL")) == ["publish FILL", "publish ORDER", "publish ORDER"]


def test_a_fill_in_its_orders_own_chain_keeps_its_handler(session: Session) -> None:
    bus = wrapped(Bus())
    bus.subscribe("ORDER", lambda order: bus.publish({"kind": "ROUTED"}))
    bus.subscribe("ROUTED", lambda _: bus.publish({"kind": "FILL", "order_id": 1, "qty": 5}))
    bus.publish({"kind": "ORDER", "order_id": 1, "qty": 5})
    run = session.end()
    assert run.path(run.one("FILL"))[2] == "publish ROUTED"


def test_further_named_causes_are_links(session: Session) -> None:
    bus = wrapped(Bus())
    for name in "abc":
        bus.publish(Event("LEG", event_id=name))
    bus.publish(TracedEvent("SPREAD", causation_ids=("b", "a", "unknown")))
    run = session.end()
    first, second, _ = run.of("LEG")
    assert run.one("SPREAD").parent == second.sequence
    key = identity.run_key("run")
    assert [span for _, span in run.one("SPREAD").links] == [
        identity.span_id(key, first.sequence).to_bytes(8, "big")
    ]


def test_portfolios_may_use_the_same_ids(session: Session) -> None:
    bus = wrapped(Bus())
    for portfolio in ("a", "b", None):
        bus.publish(Event("ORDER", event_id="1", portfolio=portfolio))
    for portfolio in ("a", "b", None, "c"):
        bus.publish(Event("FILL", causation_id="1", portfolio=portfolio))
    run = session.end()
    places = {fill.site.portfolio: fill for fill in run.of("FILL")}
    for portfolio in ("a", "b", "demo"):
        assert run.events[places[portfolio].parent].site.portfolio == portfolio
    assert places["c"].parent == 0  # three portfolios have it: none of them is meant for sure


def test_a_cause_in_the_only_portfolio_that_has_it(session: Session) -> None:
    bus = wrapped(Bus())
    bus.publish(Event("BAR", event_id="bar", portfolio="market"))
    bus.publish(Event("ORDER", causation_id="bar", portfolio="a"))
    run = session.end()
    assert run.one("ORDER").parent == run.one("BAR").sequence


@pytest.mark.parametrize("nothing", [None, "", float("nan")])
def test_ids_that_say_nothing_join_nothing(session: Session, nothing: Any) -> None:
    bus = wrapped(Bus())
    for kind in ("BAR", "ORDER"):
        bus.publish(Event(kind, event_id=nothing, correlation_id=nothing, causation_id=nothing))
    run = session.end()
    assert run.one("ORDER").parent == 0
    assert run.one("ORDER").root != run.one("BAR").root
    assert not run.one("ORDER").extra


def test_a_chain_that_the_host_names(session: Session) -> None:
    bus = wrapped(Bus())
    bus.subscribe("BAR", lambda event: bus.publish(Event("SIGNAL", correlation_id="trade-1")))
    bus.subscribe("SIGNAL", lambda event: bus.publish(Event("ORDER")))
    bus.publish(Event("BAR"))
    run = session.end()
    for event in (run.one("SIGNAL"), run.one("SIGNAL", PROCESS), run.one("ORDER")):
        assert event.attributes["messaging.message.conversation_id"] == "trade-1"
    assert {event.root for event in run.events.values()} == {1}
    assert run.one("SIGNAL").parent == run.one("BAR", PROCESS).sequence


# -- Asynchronous buses -----------------------------------------------------------------------


class AsyncBus(Bus):
    """Awaits the handlers that are to be awaited."""

    async def publish(self, event: Any) -> int:  # type: ignore[override]
        for handler in list(self.handlers[event.kind]):
            await asyncio.sleep(0)
            if inspect.iscoroutinefunction(handler):
                await handler(event)
            else:
                handler(event)
        return 7


def test_asynchronous_handlers(session: Session) -> None:
    bus = wrapped(AsyncBus())

    class Strategy:
        async def on_bar(self, event: Event) -> None:
            await asyncio.sleep(0.001)
            await bus.publish(Event("SIGNAL", event.price))

    async def on_signal(event: Event) -> None:
        await asyncio.sleep(0)
        assert trace.get_current_span().get_span_context().is_valid
        await bus.publish(Event("ORDER", event.price))

    bus.subscribe("BAR", Strategy().on_bar)
    bus.subscribe("SIGNAL", on_signal)

    async def main() -> list[int]:
        bars = [bus.publish(Event("BAR", Decimal(n))) for n in range(10)]
        return list(await asyncio.gather(*bars))

    assert asyncio.run(main()) == [7] * 10
    run = session.end()
    assert len(run.of("ORDER")) == 10
    for order in run.of("ORDER"):
        assert run.path(order) == [
            "publish ORDER",
            "process SIGNAL on_signal",
            "publish SIGNAL",
            "process BAR Strategy.on_bar",
            "publish BAR",
        ]
        bar = run.events[order.root]
        assert bar.attributes["trading.bar.price"] == order.attributes["trading.order.price"]
    for handler in run.of("BAR", PROCESS):
        assert handler.start is not None
        assert handler.end is not None
        assert handler.end - handler.start > 900_000  # the awaited run, not the call


def test_an_asynchronous_handler_that_fails(session: Session) -> None:
    bus = wrapped(AsyncBus())
    failure = ValueError("no quote")

    async def on_bar(event: Event) -> None:
        await asyncio.sleep(0)
        raise failure

    bus.subscribe("BAR", on_bar)
    with pytest.raises(ValueError, match="no quote") as caught:
        asyncio.run(bus.publish(Event("BAR")))
    assert caught.value is failure
    run = session.end()
    assert run.one("BAR", PROCESS).extra["error"]["message"] == "no quote"
    assert run.one("BAR").extra["error"]["message"] == "no quote"


def test_a_cancelled_handler_is_no_error(session: Session) -> None:
    bus = wrapped(AsyncBus())

    async def on_bar(event: Event) -> None:
        await bus.publish(Event("SIGNAL"))
        await asyncio.sleep(60)

    bus.subscribe("BAR", on_bar)

    async def main() -> None:
        task = asyncio.create_task(bus.publish(Event("BAR")))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    run = session.end()
    assert run.one("BAR").finished
    assert "error" not in run.one("BAR").extra
    assert run.one("BAR", PROCESS).finished


def test_a_task_that_a_handler_leaves_behind(session: Session) -> None:
    bus = wrapped(Bus())
    tasks = []

    async def later() -> None:
        await asyncio.sleep(0.001)
        bus.publish(Event("ORDER"))

    bus.subscribe("BAR", lambda event: tasks.append(asyncio.create_task(later())))

    async def main() -> None:
        bus.publish(Event("BAR"))
        await asyncio.gather(*tasks)

    asyncio.run(main())
    run = session.end()
    assert run.path(run.one("ORDER")) == ["publish ORDER", "process BAR <lambda>", "publish BAR"]


def test_asynchronous_generators(session: Session) -> None:
    class PullingBus(Bus):
        async def publish(self, event: Any) -> int:  # type: ignore[override]
            for handler in self.handlers[event.kind]:
                async for item in handler(event):
                    await bus.publish(item)
            return 0

    bus = wrapped(PullingBus())

    async def on_bar(event: Event) -> AsyncIterator[Event]:
        yield Event("SIGNAL")
        await asyncio.sleep(0)
        yield Event("SIGNAL")

    bus.subscribe("BAR", on_bar)
    assert inspect.isasyncgenfunction(bus.handlers["BAR"][0])
    asyncio.run(bus.publish(Event("BAR")))
    run = session.end()
    assert {e.parent for e in run.of("SIGNAL")} == {run.one("BAR", PROCESS).sequence}


def test_a_coroutine_function_is_still_one(session: Session) -> None:
    async def handler(event: Event) -> None:
        """Be awaited."""

    class Strategy:
        async def on_bar(self, event: Event) -> None:
            """Be awaited."""

        def on_tick(self, event: Event) -> None:
            """Be called."""

    bus = wrapped(AsyncBus())
    strategy = Strategy()
    for each in (handler, strategy.on_bar, functools.partial(handler), strategy.on_tick):
        bus.subscribe("BAR", each)
    asked = [inspect.iscoroutinefunction(each) for each in bus.handlers["BAR"]]
    assert asked == [True, True, True, False]
    assert inspect.iscoroutinefunction(bus.publish)
    assert [inspect.signature(each) for each in bus.handlers["BAR"]] == [
        inspect.signature(each)
        for each in (handler, strategy.on_bar, functools.partial(handler), strategy.on_tick)
    ]


# -- The host sees no difference ---------------------------------------------------------------


class Strategy:
    """An object with a method that handles."""

    def __init__(self, bus: Any) -> None:
        self.bus = bus
        self.seen: list[Any] = []

    def on_bar(self, event: Any) -> None:
        self.seen.append(event)
        self.bus.publish(Event("SIGNAL"))


class Calling:
    """An object that is a handler itself."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, event: Any) -> None:
        self.seen.append(event)


def test_a_handler_can_be_unsubscribed_also_while_it_is_called(session: Session) -> None:
    bus = wrapped(Bus())
    strategy, calling, seen = Strategy(bus), Calling(), []

    def once(event: Event) -> None:
        bus.unsubscribe("BAR", once)
        seen.append(event)

    partial = functools.partial(seen.append)
    for handler in (once, strategy.on_bar, calling, seen.append, partial):
        bus.subscribe("BAR", handler)
    bus.publish(Event("BAR"))
    assert len(bus.handlers["BAR"]) == 4
    for handler in (strategy.on_bar, calling, partial):
        bus.unsubscribe("BAR", handler)
    assert bus.handlers["BAR"] == [seen.append]
    bus.publish(Event("BAR"))
    assert (len(seen), len(strategy.seen), len(calling.seen)) == (4, 1, 1)
    run = session.end()
    assert run.path(run.one("SIGNAL")) == [
        "publish SIGNAL",
        "process BAR Strategy.on_bar",
        "publish BAR",
    ]


class IdentityBus(Bus):
    """Finds handlers by their identity."""

    def unsubscribe(self, kind: str, handler: Callable[..., Any]) -> None:
        kept = [each for each in self.handlers[kind] if each is not handler]
        assert len(kept) < len(self.handlers[kind])
        self.handlers[kind] = kept


def test_a_bus_that_compares_by_identity(session: Session) -> None:
    bus = wrapped(IdentityBus())
    calling = Calling()
    for handler in (print, calling, kind_of):
        bus.subscribe("BAR", handler)
        bus.unsubscribe("BAR", handler)
    session.end()


class WeakBus(Bus):
    """Forgets handlers that nobody else holds."""

    def subscribe(self, kind: str, handler: Callable[..., Any]) -> None:
        reference = weakref.WeakMethod if inspect.ismethod(handler) else weakref.ref
        self.handlers[kind].append(reference(handler))

    def publish(self, event: Any) -> int:
        alive = [handler for each in self.handlers[event.kind] if (handler := each()) is not None]
        for handler in alive:
            handler(event)
        return len(alive)


def test_a_bus_that_holds_handlers_weakly(session: Session) -> None:
    bus = wrapped(WeakBus())
    strategy, calling = Strategy(bus), Calling()
    seen: list[Any] = []

    def function(event: Event) -> None:
        seen.append(event)

    for handler in (strategy.on_bar, calling, function):
        bus.subscribe("BAR", handler)
    gc.collect()
    assert bus.publish(Event("BAR")) == 3
    assert (len(strategy.seen), len(calling.seen), len(seen)) == (1, 1, 1)
    del strategy, function, handler
    gc.collect()
    assert bus.publish(Event("BAR")) == 1
    session.end()


def test_a_bus_that_holds_handlers_lets_them_go(session: Session) -> None:
    bus = wrapped(Bus())

    def subscribe_and_leave() -> list[weakref.ref[Any]]:
        strategy, calling = Strategy(bus), Calling()

        def function(event: Event) -> None:
            """Be forgotten."""

        for handler in (strategy.on_bar, calling, function):
            bus.subscribe("BAR", handler)
            bus.unsubscribe("BAR", handler)
        return [weakref.ref(each) for each in (strategy, calling, function)]

    references = subscribe_and_leave()
    gc.collect()
    assert [reference() for reference in references] == [None] * 3
    session.end()


@pytest.mark.parametrize("make", [Event, Slotted, as_mapping], ids=lambda make: make.__name__)
@pytest.mark.parametrize("subscribed", [True, False])
def test_events_are_not_kept_alive(
    session: Session, make: Callable[..., Any], *, subscribed: bool
) -> None:
    class Big(list[int]):
        """Something whose life can be watched."""

    bus = wrapped(Bus())
    bus.subscribe("WARM_UP", lambda event: None)
    bus.publish(make("WARM_UP"))
    if subscribed:
        bus.subscribe("BAR", lambda event: None)
    references = []
    for _ in range(20):
        big = Big()
        references.append(weakref.ref(big))
        event = {"kind": "BAR", "big": big} if make is as_mapping else make("BAR", payload=big)
        bus.publish(event)
    del big, event
    if not subscribed:  # the newest that nobody was given may be yet to come
        for _ in range(64):
            bus.publish(make("BAR"))
    gc.collect()
    assert sum(reference() is not None for reference in references) == 0
    session.end()


class SlotsBus:
    """A bus without a dictionary, with a property, and with special methods."""

    __slots__ = ("_handlers", "_limit")

    def __init__(self) -> None:
        self._handlers: list[Any] = []
        self._limit = 10

    @property
    def limit(self) -> int:
        return self._limit

    @limit.setter
    def limit(self, value: int) -> None:
        self._limit = value

    def subscribe(self, handler: Any) -> None:
        self._handlers.append(handler)

    def publish(self, event: Any) -> None:
        for handler in self._handlers:
            handler(event)

    def deliver(self, event: Any) -> str:
        return f"the host's own {event}"

    def __len__(self) -> int:
        return len(self._handlers)

    def __contains__(self, handler: Any) -> bool:
        return handler in self._handlers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._handlers.clear()


def test_everything_else_is_passed_on(session: Session) -> None:
    own = SlotsBus()
    bus = wrapped(own)
    assert isinstance(bus, SlotsBus)
    assert isinstance(bus, TracedEventBus)
    bus.limit = 20
    assert own.limit == bus.limit == 20
    assert bus.deliver("x") == "the host's own x"
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = bus.no_such_thing
    with pytest.raises(AttributeError):
        bus.no_such_thing = 1
    assert bool(bus) is False
    bus.subscribe(print)
    assert (len(bus), print in bus) == (1, True)
    with bus:
        pass
    assert len(own) == 0
    assert bus == own
    assert hash(bus) == hash(own)
    assert bus.publish == own.publish
    session.end()


def test_a_bus_can_be_copied_and_pickled(session: Session) -> None:
    bus = wrapped(Bus())
    strategy = Strategy(bus)
    bus.subscribe("BAR", strategy.on_bar)
    bus.subscribe("BAR", kind_of)
    twin = copy.deepcopy(strategy)
    twin.bus.publish(Event("BAR"))
    assert (len(strategy.seen), len(twin.seen)) == (0, 1)
    assert copy.copy(bus).handlers is bus.handlers
    assert issubclass(type(copy.copy(bus)), TracedEventBus)
    run = session.end()
    assert run.path(run.one("SIGNAL"))[1] == "process BAR Strategy.on_bar"
    bus.handlers = {"BAR": [kind_of]}
    elsewhere = pickle.loads(pickle.dumps(bus))  # noqa: S301 - our own
    assert type(elsewhere) is Bus
    assert elsewhere.handlers == {"BAR": [kind_of]}
    bus.handlers = {}
    bus.subscribe = None


def test_a_bus_that_is_changed_later(session: Session) -> None:
    own = Bus()
    bus = wrapped(own)
    seen: list[Any] = []
    bus.publish = seen.append
    bus.publish(Event("BAR"))
    assert len(seen) == 1
    assert own.published == 0
    assert len(session.end().of("BAR")) == 1


def test_a_decorator_subscribes(session: Session) -> None:
    class DecoratingBus(Bus):
        def subscribe(self, kind: str) -> Any:  # type: ignore[override]
            def decorate(handler: Any) -> Any:
                self.handlers[kind].append(handler)
                return handler

            return decorate

    bus = wrapped(DecoratingBus())

    @bus.subscribe("BAR")  # type: ignore[untyped-decorator]  # as a host would write it
    def on_bar(event: Event) -> None:
        bus.publish(Event("SIGNAL"))

    assert type(on_bar).__name__ == "function"
    bus.publish(Event("BAR"))
    run = session.end()
    assert run.path(run.one("SIGNAL"))[1] == "process BAR on_bar"


def test_a_subscription_that_is_called_to_end_it(session: Session) -> None:
    class ReturningBus(Bus):
        def subscribe(self, kind: str, handler: Any) -> Any:
            super().subscribe(kind, handler)
            return lambda: self.unsubscribe(kind, handler)

    class Listener:
        """A handler that is no callable."""

    bus = wrapped(ReturningBus())
    bus.subscribe("BAR", print)()
    bus.subscribe("BAR", Listener())()
    assert bus.handlers["BAR"] == []
    session.end()


def test_other_names_and_several(session: Session) -> None:
    class OtherBus:
        def __init__(self) -> None:
            self.listeners: list[Any] = []

        def on(self, handler: Any) -> None:
            self.listeners.append(handler)

        def emit(self, topic: str, priority: int, event: Any) -> None:
            for listener in self.listeners:
                listener(event)

        def send(self, event: Any, headers: dict[str, str]) -> None:
            self.emit("", 0, event)

    bus = wrapped(OtherBus(), publish=("emit", "send"), subscribe=("on", "off"))
    bus.on(lambda event: bus.send(Event("ECHO"), {}) if event.kind != "ECHO" else None)
    bus.emit("topic", 5, Event("BAR"))
    run = session.end()
    assert run.path(run.one("ECHO")) == ["publish ECHO", "process BAR <lambda>", "publish BAR"]


@pytest.mark.parametrize(
    ("settings", "args", "kwargs", "kind"),
    [
        ({}, ("topic", {"price": 1}), {}, "TOPIC"),
        ({}, (Event("BAR"), 5), {}, "BAR"),
        ({}, (5, Event("BAR")), {}, "BAR"),
        ({}, (), {"message": Event("BAR"), "headers": {}}, "BAR"),
        ({}, (), {"whatever": Event("BAR")}, "BAR"),
        ({}, ("START",), {}, "START"),
        ({}, ("clock", 5), {}, "CLOCK"),
        ({"argument": 0}, (Event("BAR"), Event("NOT")), {}, "BAR"),
        ({"argument": "body"}, (), {"body": Event("BAR"), "event": Event("NOT")}, "BAR"),
        ({}, (), {}, "NONE_TYPE"),
    ],
)
def test_which_argument_is_the_event(
    session: Session,
    settings: dict[str, Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    kind: str,
) -> None:
    class AnyBus:
        def publish(self, *args: Any, **kwargs: Any) -> Any:
            return args, kwargs

    bus = wrapped(AnyBus(), **settings)
    given = bus.publish(*args, **kwargs)
    assert given == (args, kwargs)
    assert all(one is other for one, other in zip(given[0], args, strict=True))
    assert [event.site.event_type for event in session.end().events.values()] == [kind]


def test_a_bus_that_cannot_publish_is_refused() -> None:
    with pytest.raises(UsageError, match="no method 'publish'"):
        TracedEventBus(object())
    with pytest.raises(UsageError, match="no method 'emit'"):
        TracedEventBus(Bus(), publish=("publish", "emit"))


# -- Whatever happens ----------------------------------------------------------------------------


def test_an_exception_goes_on_unchanged_and_is_recorded(session: Session) -> None:
    bus = wrapped(Bus())
    failure = ValueError("no quote")

    def on_bar(event: Event) -> NoReturn:
        raise failure

    bus.subscribe("BAR", on_bar)
    with pytest.raises(ValueError, match="no quote") as caught:
        bus.publish(Event("BAR"))
    assert caught.value is failure
    assert failure.__context__ is None
    bus.publish(Event("SIGNAL"))
    run = session.end()
    assert run.one("BAR", PROCESS).extra["error"]["type"] == "ValueError"
    assert run.one("BAR").extra["error"]["type"] == "ValueError"
    assert run.one("SIGNAL").parent == 0


def test_an_exception_that_the_bus_catches_is_its_handlers_alone(session: Session) -> None:
    class CarefulBus(Bus):
        def publish(self, event: Any) -> int:
            for handler in self.handlers[event.kind]:
                try:
                    handler(event)
                except ValueError:
                    self.published -= 1
            return self.published

    bus = wrapped(CarefulBus())
    bus.subscribe("BAR", lambda event: float("no number"))
    assert bus.publish(Event("BAR")) == -1
    run = session.end()
    assert "error" in run.one("BAR", PROCESS).extra
    assert "error" not in run.one("BAR").extra


def test_payloads_that_change_after_they_were_published(session: Session) -> None:
    bus = wrapped(Bus())

    def on_bar(event: Event) -> None:
        event.payload["levels"].append(99)
        event.payload["late"] = True
        event.price = Decimal(2)

    bus.subscribe("BAR", on_bar)
    bus.publish(Event("BAR", Decimal(1), payload={"levels": [1]}))
    attributes = session.end().one("BAR").attributes
    assert attributes == {"trading.bar.price": Decimal(1), "trading.bar.levels": [1]}


class Hostile:
    """Raises at everything that is not a plain attribute."""

    kind = "BAR"

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> NoReturn:
        raise RuntimeError("==")

    def __hash__(self) -> NoReturn:
        raise RuntimeError("hash")

    def __str__(self) -> NoReturn:
        raise RuntimeError("str")

    def __bool__(self) -> NoReturn:
        raise RuntimeError("bool")

    def __len__(self) -> NoReturn:
        raise RuntimeError("len")

    def __iter__(self) -> NoReturn:
        raise RuntimeError("iter")

    __repr__ = __str__


class HostileClass(Hostile):
    """Does not even say what it is."""

    @property  # type: ignore[misc]
    def __class__(self) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("class")


def test_hostile_events_reach_their_handlers(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    bus = wrapped(Bus())
    seen = []
    bus.subscribe("BAR", lambda event: seen.append(1))
    with caplog.at_level(logging.CRITICAL):
        bus.publish(Hostile())
        bus.publish({"kind": "BAR", "payload": Hostile(), "symbol": Hostile(), "x": Hostile()})
        with pytest.raises(RuntimeError, match="class"):  # the bus's own isinstance
            bus.publish(HostileClass())
    assert len(seen) == 2
    run = session.end()
    assert len(run.of("BAR")) == 2
    assert run.dropped == 1


def test_a_log_that_raises_breaks_no_host(session: Session) -> None:
    class Refusing(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise RecursionError(record.name)

    log, refusing = logging.getLogger("fillpath.instrumentation.running_event"), Refusing()
    log.addFilter(refusing)
    try:
        session.tracing.tracer.complain(ValueError("no such field"))
    finally:
        log.removeFilter(refusing)


def test_a_finder_that_fails_finds_nothing(session: Session) -> None:
    fields = EventFields(
        event_type=lambda event: event["no"], symbol=lambda event: 1 / 0, event_time=lambda _: "x"
    )
    wrapped(Bus(), fields=fields).publish(Event("BAR"))
    assert len(session.end().of("EVENT")) == 1


def test_events_without_fields(session: Session) -> None:
    class PlainBus(Bus):
        def publish(self, event: Any) -> int:
            return len(repr(event))

    bus = wrapped(PlainBus())
    for event in ("start", Word.START, 5, None, (1, 2), b"x", 2.5):
        bus.publish(event)
    kinds = [event.site.event_type for event in session.end().events.values()]
    assert kinds == ["START", "START", "INT", "NONE_TYPE", "TUPLE", "BYTES", "FLOAT"]


def test_without_a_session_the_bus_works_and_nothing_is_written(tmp_path: Path) -> None:
    bus = wrapped(Bus())
    trade(bus)
    assert bus.published == 4
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("switch", [("FILLPATH_ENABLED", "false"), ("OTEL_SDK_DISABLED", "true")])
def test_switched_off_the_bus_works_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: tuple[str, str]
) -> None:
    monkeypatch.setenv(*switch)
    with Tracing(data=tmp_path / "data") as tracing:
        bus = wrapped(AsyncBus(), tracing=tracing)
        assert asyncio.run(bus.publish(Event("BAR"))) == 7
        trade(wrapped(Bus(), tracing=tracing))
    assert not (tmp_path / "data").exists()


def test_sessions_in_a_row_share_no_causes(tmp_path: Path) -> None:
    queued = QueuedBus()
    bus = wrapped(queued)
    bus.subscribe("BAR", lambda event: bus.publish(Event("SIGNAL", causation_id="bar")))
    late = Event("BAR", event_id="bar")
    runs = []
    for name in ("one", "two"):
        with Tracing(name, data=tmp_path, writer="none"):
            bus.publish(late)
            if name == "two":
                queued.queue.popleft()  # what comes now was published in the first session
            queued.run()
            bus.publish(late)
        runs.append(Recorded(tmp_path / "spool" / name))
    for run in runs:
        assert all(e.root in run.events for e in run.events.values())


def test_a_session_that_ends_and_another_that_begins_within_a_handler(tmp_path: Path) -> None:
    bus = wrapped(Bus())
    first = Tracing("one", data=tmp_path, writer="none").start()
    second = Tracing("two", data=tmp_path, writer="none")

    def on_bar(event: Event) -> None:
        bus.publish(Event("BEFORE"))
        first.stop()
        bus.publish(Event("BETWEEN"))
        second.start()
        bus.publish(Event("AFTER"))

    bus.subscribe("BAR", on_bar)
    bus.publish(Event("BAR"))
    second.stop()
    one, two = (Recorded(tmp_path / "spool" / name) for name in ("one", "two"))
    assert [e.site.event_type for e in one.events.values() if e.site.operation == PUBLISH] == [
        "BEFORE",
        "BAR",
    ]
    assert not one.one("BAR").finished
    assert [e.site.event_type for e in two.events.values()] == ["AFTER"]
    assert two.one("AFTER").parent == 0


def test_a_session_that_is_named_is_the_one_that_records(tmp_path: Path) -> None:
    mine = Tracing("mine", data=tmp_path, writer="none")
    bus = wrapped(Bus(), tracing=mine)
    bus.publish(Event("EARLY"))
    with mine:
        bus.publish(Event("BAR"))
    bus.publish(Event("LATE"))
    assert [e.site.event_type for e in Recorded(tmp_path / "spool" / "mine").events.values()] == [
        "BAR"
    ]


def test_random_numbers_come_as_without_tracing(session: Session) -> None:
    def draw(bus: Any) -> list[float]:
        random.seed(5)
        numbers: list[float] = []
        bus.subscribe("BAR", lambda event: numbers.append(random.random()))
        for _ in range(20):
            bus.publish(Event("BAR"))
        return numbers

    assert draw(wrapped(Bus())) == draw(Bus())
    session.end()


def test_the_hosts_depth_of_calls_is_hardly_touched(session: Session) -> None:
    """Publishing within publishing adds few frames of ours."""
    bus = wrapped(Bus())
    depths: list[int] = []

    def on_bar(event: Event) -> None:
        depths.append(len(inspect.stack(0)))
        if len(depths) < 3:
            bus.publish(Event("BAR"))

    bus.subscribe("BAR", on_bar)
    bus.publish(Event("BAR"))
    assert depths[2] - depths[1] <= 6  # two of them the host's
    assert sys.getrecursionlimit() == 1000
    session.end()
