"""An observer alone tells causes by the stack; with a wrapped bus, each thing is recorded once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.instrumentation import BusObserver, TracedEventBus, Tracing, untraced
from fillpath.instrumentation.semconv import PROCESS
from fillpath.instrumentation.spool import SpoolReader


@dataclass
class Event:
    """What a bus carries."""

    kind: str
    causation_id: str | None = None
    event_id: str | None = None


class Bus:
    """Tells its observers what it does, while it holds a lock that can be taken once."""

    def __init__(self, *observers: Any) -> None:
        self.observers = observers
        self.handlers: dict[str, list[Callable[[Any], Any]]] = defaultdict(list)
        self.lock = threading.Lock()

    def subscribe(self, kind: str, handler: Callable[[Any], Any]) -> None:
        self.handlers[kind].append(handler)

    def _tell(self, what: str, *said: Any) -> None:
        with self.lock:
            for observer in self.observers:
                getattr(observer, what)(*said)

    def publish(self, event: Any) -> None:
        self._tell("on_publish", event)
        for handler in self.handlers[event if isinstance(event, str) else event.kind]:
            try:
                handler(event)
            except ValueError as error:
                self._tell("on_error", event, handler, error)
            else:
                self._tell("on_delivered", event, handler)


class Run:
    """A session of a test, and what it recorded."""

    def __init__(self, data: Path) -> None:
        self.tracing = Tracing("run", data=data, writer="none")
        self._folder = data / "spool" / "run"

    def events(self) -> dict[int, RecordedEvent]:
        self.tracing.stop()
        events: dict[int, RecordedEvent] = {}
        spool = SpoolEvents()
        for block in SpoolReader(self._folder).blocks():
            events.update((event.sequence, event) for event in spool.feed(block))
        assert all(event.end is not None for event in events.values())
        return dict(sorted(events.items()))

    def paths(self, events: dict[int, RecordedEvent] | None = None) -> list[list[str]]:
        """All records in order, each followed by its ancestors; handlers are named in brackets."""
        events = self.events() if events is None else events
        found = []
        for event in events.values():
            each: RecordedEvent | None = event
            path = []
            while each is not None:
                is_run = each.site.operation == PROCESS
                path.append(f"({each.site.handler})" if is_run else each.site.event_type)
                each = events.get(each.parent)
            found.append(path)
        return found


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path / "data")
    with run.tracing:
        yield run


def trade(bus: Any, make: Callable[[str], Any] = Event) -> None:
    bus.subscribe("BAR", lambda _: bus.publish(make("SIGNAL")))
    bus.subscribe("SIGNAL", lambda _: bus.publish(make("ORDER")))
    for _ in range(2):
        bus.publish(make("QUOTE"))  # nobody wants those
        bus.publish(make("BAR"))


CHAIN = [["QUOTE"], ["BAR"], ["SIGNAL", "BAR"], ["ORDER", "SIGNAL", "BAR"]]


@pytest.mark.smoke
def test_the_stack_tells_causes_and_what_nobody_took_is_nobodys_cause(run: Run) -> None:
    trade(Bus(BusObserver()))
    assert run.paths() == CHAIN * 2


def test_events_that_are_plain_words(run: Run) -> None:
    trade(Bus(BusObserver()), str)
    assert run.paths() == CHAIN * 2


def test_with_a_wrapped_bus_each_event_is_recorded_once(run: Run) -> None:
    bus = TracedEventBus(Bus(BusObserver()))
    trade(bus)
    signal = ["SIGNAL", "(<lambda>)", "BAR"]
    publications = [path for path in run.paths() if not path[0].startswith("(")]
    assert publications == [["QUOTE"], ["BAR"], signal, ["ORDER", "(<lambda>)", *signal]] * 2


def test_an_event_ends_when_its_first_delivery_does(run: Run) -> None:
    bus = Bus(BusObserver())
    bus.subscribe("BAR", lambda _: threading.Event().wait(0.002))
    bus.publish(Event("BAR"))
    bus.publish(Event("QUOTE"))
    bar, quote = run.events().values()
    assert bar.start is not None
    assert bar.end is not None
    assert bar.end - bar.start >= 2_000_000
    assert quote.end == quote.start


def fails(_: Any) -> None:
    raise ValueError("no")


@pytest.mark.parametrize("wrap", [False, True], ids=["alone", "wrapped"])
@pytest.mark.parametrize("early", [False, True], ids=["followed", "subscribed elsewhere"])
def test_a_failure_is_recorded_once(run: Run, wrap: bool, early: bool) -> None:
    own = Bus(BusObserver())
    bus: Any = TracedEventBus(own) if wrap else own
    (own if early else bus).subscribe("ORDER", fails)
    bus.publish(Event("ORDER"))
    events = run.events()
    failed = [event.extra["error"]["type"] for event in events.values() if event.extra]
    assert run.paths(events) == [["ORDER"], ["(fails)", "ORDER"]]
    assert failed == ["ValueError"]


def test_what_a_bus_calls_on_itself_is_heard(run: Run) -> None:
    class Echoing(Bus):
        def publish(self, event: Any) -> None:
            super().publish(event)
            if event.kind == "BAR":
                self.publish(Event("HEARTBEAT"))

    bus = TracedEventBus(Echoing(BusObserver()))
    bus.subscribe("HEARTBEAT", lambda _: bus.publish(Event("LOG")))
    bus.publish(Event("BAR"))
    paths = [path for path in run.paths() if not path[0].startswith("(")]
    assert paths == [
        ["BAR"],
        ["HEARTBEAT", "BAR"],
        ["LOG", "(<lambda>)", "HEARTBEAT", "BAR"],
    ]


def test_a_cause_that_the_event_names(run: Run) -> None:
    bus = Bus(BusObserver())
    bus.publish(Event("ORDER", event_id="o-1"))
    bus.publish(Event("FILL", causation_id="o-1"))
    assert run.paths() == [["ORDER"], ["FILL", "ORDER"]]


def test_a_bus_that_tells_of_an_event_after_its_delivery_names_no_wrong_cause(run: Run) -> None:
    class Late(Bus):
        def publish(self, event: Any) -> None:
            for handler in self.handlers[event.kind]:
                handler(event)
            self._tell("on_publish", event)

    trade(Late(BusObserver()))
    assert run.paths() == [["QUOTE"], ["ORDER"], ["SIGNAL"], ["BAR"]] * 2


def test_threads_that_publish_at_once_neither_wait_for_each_other_nor_mix(run: Run) -> None:
    bus = Bus(BusObserver())
    bus.subscribe("BAR", lambda _: bus.publish(Event("SIGNAL")))

    def work() -> None:
        for _ in range(200):
            bus.publish(Event("BAR"))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert not any(each.is_alive() for each in threads)
    paths = run.paths()
    assert paths.count(["BAR"]) == paths.count(["SIGNAL", "BAR"]) == 800
    assert len(paths) == 1600


def test_an_asynchronous_bus_may_await_its_observers(run: Run) -> None:
    class Awaiting(Bus):
        async def publish(self, event: Any) -> None:  # type: ignore[override]
            for observer in self.observers:
                await observer.on_publish(event)
            for handler in self.handlers[event.kind]:
                await handler(event)
                for observer in self.observers:
                    await observer.on_delivered(event, handler)

    bus = Awaiting(BusObserver())

    async def on_bar(_: Any) -> None:
        await asyncio.sleep(0)
        await bus.publish(Event("SIGNAL"))

    async def main() -> None:
        bus.subscribe("BAR", on_bar)
        await asyncio.gather(bus.publish(Event("BAR")), bus.publish(Event("BAR")))

    asyncio.run(main())
    assert run.paths() == [["BAR"], ["BAR"], ["SIGNAL", "BAR"], ["SIGNAL", "BAR"]]


def test_a_single_hook(run: Run) -> None:
    observer = BusObserver()

    class Hooked:
        def __init__(self) -> None:
            self.handlers: dict[str, Callable[[Any], None]] = {}

        def publish(self, event: Any) -> None:
            assert observer(event) is None
            with contextlib.suppress(KeyError):
                self.handlers[event.kind](event)

    bus = Hooked()
    bus.handlers = {"BAR": lambda _: bus.publish(Event("SIGNAL"))}
    for _ in range(2):
        bus.publish(Event("QUOTE"))
        bus.publish(Event("BAR"))
    assert run.paths() == CHAIN[:3] * 2


@pytest.mark.parametrize("wrap", [False, True], ids=["alone", "wrapped"])
def test_middleware(run: Run, wrap: bool) -> None:
    observer = BusObserver()

    class Layered:
        def publish(self, event: Any) -> str:
            answer: str = observer(event, self._deliver)
            return answer

        def _deliver(self, event: Any) -> str:
            if event.kind == "BAR":
                bus.publish(Event("SIGNAL"))
            return f"{event.kind} is done"

    bus: Any = TracedEventBus(Layered()) if wrap else Layered()
    assert bus.publish(Event("BAR")) == "BAR is done"
    assert bus.publish(Event("BAR")) == "BAR is done"
    assert run.paths() == [["BAR"], ["SIGNAL", "BAR"]] * 2


def test_asynchronous_middleware_that_gives_nothing_to_the_next(run: Run) -> None:
    observer = BusObserver()

    async def publish(event: Event) -> Any:
        async def carry_on() -> str:
            await asyncio.sleep(0)
            if event.kind == "BAR":
                await publish(Event("SIGNAL"))
            return "done"

        return await observer(event, carry_on)

    assert asyncio.run(publish(Event("BAR"))) == "done"
    assert run.paths() == [["BAR"], ["SIGNAL", "BAR"]]


def test_a_loop_that_says_what_it_handles(run: Run) -> None:
    observer = BusObserver()
    heap = [Event("BAR")]
    observer.on_publish(heap[0])
    order = Event("ORDER")
    with observer.handling(heap.pop()):
        observer.on_publish(order)
    with pytest.raises(ValueError, match="no"), observer.handling(order, "broker"):
        raise ValueError("no")
    here = "(test_a_loop_that_says_what_it_handles)"
    made = ["ORDER", here, "BAR"]
    assert run.paths() == [["BAR"], [here, "BAR"], made, ["(broker)", *made]]


def test_a_handler_that_is_followed_without_a_wrapped_bus(run: Run) -> None:
    observer = BusObserver()
    bus = Bus(observer)
    bus.subscribe("BAR", observer.follow(lambda _: bus.publish(Event("SIGNAL"))))
    bus.publish(Event("BAR"))
    assert run.paths() == [["BAR"], ["(<lambda>)", "BAR"], ["SIGNAL", "(<lambda>)", "BAR"]]


@pytest.mark.parametrize("said", [(), (None,), (object(),), (5, "x", {}), (fails,)])
def test_whatever_a_bus_says_nothing_is_raised(run: Run, said: tuple[Any, ...]) -> None:
    observer = BusObserver()
    for say in (observer.on_publish, observer.on_delivered, observer.on_error):
        say(*said)
        say(event=said)
    observer.on_error(Event("BAR"), "the handler", "what happened")
    run.tracing.stop()


def test_without_a_session_an_observer_does_nothing() -> None:
    trade(Bus(BusObserver()))


# -- Taking tracing off again -------------------------------------------------------------------


def test_tracing_is_taken_off_a_bus_in_the_middle(run: Run) -> None:
    own = Bus()
    bus = TracedEventBus(own)
    seen: list[str] = []

    def on_bar(event: Any) -> None:
        seen.append(event.kind)
        bus.publish(Event("SIGNAL"))

    bus.subscribe("BAR", on_bar)
    bus.publish(Event("BAR"))
    assert untraced(bus) is own
    bus.publish(Event("BAR"))  # by a part of the host that has it still
    own.publish(Event("BAR"))
    assert own.handlers["BAR"] == [on_bar]
    assert seen == ["BAR"] * 3
    assert untraced(own) is own
    again = TracedEventBus(own)
    again.publish(Event("FILL"))
    assert [path[0] for path in run.paths()] == ["BAR", "(on_bar)", "SIGNAL", "FILL"]


def test_a_bus_that_is_wrapped_twice_is_wrapped_once(run: Run) -> None:
    own = Bus()
    bus = TracedEventBus(own)
    assert TracedEventBus(bus) is bus
    assert untraced(TracedEventBus(bus)) is own
    again = TracedEventBus(TracedEventBus(own))
    again.subscribe("BAR", partial(print, end=""))
    again.publish(Event("BAR"))
    assert run.paths() == [["BAR"]]
