"""A loop that gets its events from a queue: what it puts there was caused by what it got."""

from __future__ import annotations

import asyncio
import gc
import queue
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context, trace

from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.instrumentation import TracedEventBus, Tracing
from fillpath.instrumentation.semconv import PROCESS
from fillpath.instrumentation.spool import SpoolReader


@dataclass
class Event:
    """What a queue carries."""

    type: str
    number: int = 0


@pytest.fixture(autouse=True)
def the_context_of_before() -> Iterator[None]:
    """A loop that just stops leaves its last event current, which other tests must not see."""
    token = context.attach(context.get_current())
    yield
    context.detach(token)


class Run:
    """A session of a test, and the paths of what it recorded."""

    def __init__(self, data: Path) -> None:
        self.tracing = Tracing("run", data=data, writer="none")
        self._folder = data / "spool" / "run"

    def paths(self) -> list[list[str]]:
        """The events in order, each followed by its ancestors; handlers are named in brackets."""
        self.tracing.stop()
        events: dict[int, RecordedEvent] = {}
        spool = SpoolEvents()
        for block in SpoolReader(self._folder).blocks():
            events.update((event.sequence, event) for event in spool.feed(block))
        found = []
        for _, event in sorted(events.items()):
            each: RecordedEvent | None = event
            path = []
            while each is not None:
                is_run = each.site.operation == PROCESS
                path.append(f"({each.site.handler})" if is_run else each.site.event_type)
                each = events.get(each.parent)
            if not path[0].startswith("("):
                found.append(path)
        return found


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path / "data")
    with run.tracing:
        yield run


class Strategy:
    """Answers a bar with a signal."""

    def __init__(self, events: Any) -> None:
        self.events = events

    def on_bar(self, event: Any) -> None:
        self.events.put(Event("SIGNAL", event.number))


EXPECTED = [["BAR"], ["SIGNAL", "(Strategy.on_bar)", "BAR"]] * 2


def till_empty_raises(events: Any, strategy: Strategy) -> None:
    for number in range(2):
        events.put(Event("BAR", number))
        while True:
            try:
                event = events.get(False)
            except queue.Empty:
                break
            if event.type == "BAR":
                strategy.on_bar(event)


def till_it_says_empty(events: Any, strategy: Strategy) -> None:
    for number in range(2):
        events.put(Event("BAR", number))
        while not events.empty():
            event = events.get()
            if event.type == "BAR":
                strategy.on_bar(event)


def till_its_size_is_none(events: Any, strategy: Strategy) -> None:
    for number in range(2):
        events.put_nowait(Event("BAR", number))
        while events.qsize():
            event = events.get_nowait()
            if event.type == "BAR":
                strategy.on_bar(event)


def with_a_price_for_each_round(events: Any, strategy: Strategy) -> None:
    for number in range(2):
        events.put(Event("BAR", number))
        strategy.on_bar(events.get())
        events.get()


def reading_ahead(events: Any, strategy: Strategy) -> None:
    for number in range(2):
        events.put(Event("BAR", number))
        event = events.get()
        while event is not None:
            if event.type == "BAR":
                strategy.on_bar(event)
                events.put(None)
            event = events.get()


def in_a_function_of_its_own(events: Any, strategy: Strategy) -> None:
    def once() -> None:
        events.put(Event("BAR", 1))
        strategy.on_bar(events.get())
        events.get()

    once()
    once()


def until_a_sentinel(events: Any, strategy: Strategy) -> None:
    for _ in range(2):
        events.put(Event("BAR", 1))
        events.put(None)
        for event in iter(events.get, None):
            if event.type == "BAR":
                strategy.on_bar(event)


def with_task_done(events: Any, strategy: Strategy) -> None:
    def take() -> None:
        event = events.get()
        if event.type == "BAR":
            strategy.on_bar(event)
        events.task_done()
        events.put(Event("BAR")) if event.type == "SIGNAL" and not done else None
        done.append(event)

    done: list[Any] = [1][1:]
    events.put(Event("BAR"))
    take()
    done.clear()
    take()
    take()


@pytest.mark.parametrize(
    "loop",
    [
        till_empty_raises,
        till_it_says_empty,
        till_its_size_is_none,
        with_a_price_for_each_round,
        reading_ahead,
        in_a_function_of_its_own,
        until_a_sentinel,
        with_task_done,
    ],
    ids=lambda each: each.__name__,
)
def test_a_loop_of_any_usual_form(run: Run, loop: Callable[[Any, Strategy], None]) -> None:
    events = TracedEventBus(queue.Queue())
    loop(events, Strategy(events))
    assert run.paths() == EXPECTED


def test_a_deque_is_a_queue(run: Run) -> None:
    events = TracedEventBus(deque())
    for number in range(2):
        events.append({"type": "BAR", "number": number})
        while events:
            event = events.popleft()
            if event["type"] == "BAR":
                events.append({"type": "SIGNAL"})
    name = "(test_a_deque_is_a_queue)"
    assert run.paths() == [["BAR"], ["SIGNAL", name, "BAR"]] * 2


def test_a_deque_takes_events_at_either_end_and_several_at_once(run: Run) -> None:
    events = TracedEventBus(deque())
    events.extend(Event("BAR", number) for number in range(2))
    while events:
        event = events.popleft()
        if event.type == "BAR":
            events.extendleft([Event("SIGNAL"), Event("SIGNAL")])
        if event.type == "SIGNAL":
            events.appendleft(Event("ORDER"))
    assert isinstance(events.__wrapped__, deque)
    paths = [[name for name in path if not name.startswith("(")] for path in run.paths()]
    assert paths.count(["BAR"]) == 2
    assert paths.count(["SIGNAL", "BAR"]) == 4
    assert paths.count(["ORDER", "SIGNAL", "BAR"]) == 4


def test_a_queue_with_priorities_holds_the_event_in_a_tuple(run: Run) -> None:
    events = TracedEventBus(queue.PriorityQueue())
    events.put((1, 1, {"type": "BAR"}))
    events.put((5, 2, {"type": "BAR"}))
    strategy = Strategy(events)
    while events.qsize() > 1:
        when, number, event = events.get()
        strategy.events.put((when + 1, number + 5, {"type": "SIGNAL"}))
        if number > 2:
            break
        assert event == {"type": "BAR"}
    paths = run.paths()
    assert paths[2][-1] == "BAR"
    assert [path[0] for path in paths] == ["BAR", "BAR", "SIGNAL", "SIGNAL"]


def test_the_end_of_a_queue_with_priorities_is_no_event(run: Run) -> None:
    events = TracedEventBus(queue.PriorityQueue())
    strategy = Strategy(events)
    events.put((1, 1, {"type": "BAR"}))
    events.put((9, 9, None))
    while (got := events.get())[2] is not None:
        if got[2]["type"] == "BAR":
            strategy.events.put((2, 2, {"type": "SIGNAL"}))
    events.put((1, 1, {"type": "BAR"}))
    assert [path[0] for path in run.paths()] == ["BAR", "SIGNAL", "BAR"]
    assert run.paths()[2] == ["BAR"]


def test_each_strategy_of_a_loop_has_its_own_run(run: Run) -> None:
    events = TracedEventBus(queue.Queue())

    class Other(Strategy):
        strategy_id = "other"

    strategies = [Strategy(events), Other(events)]
    events.put(Event("BAR"))
    event = events.get()
    for strategy in strategies:
        strategy.on_bar(event)
    assert run.paths() == [
        ["BAR"],
        ["SIGNAL", "(Strategy.on_bar)", "BAR"],
        ["SIGNAL", "(Other.on_bar)", "BAR"],
    ]


def test_a_loop_within_a_handler_of_another(run: Run) -> None:
    outer, inner = TracedEventBus(queue.Queue()), TracedEventBus(queue.Queue())

    def settle() -> None:
        inner.put(Event("FEE"))
        inner.put(Event("TAX"))
        inner.put(Event("NOTE")) if inner.get().type == "FEE" else None

    outer.put(Event("FILL"))
    outer.get()
    settle()
    outer.put(Event("PORTFOLIO"))
    here = f"({sys._getframe().f_code.co_name})"
    assert run.paths() == [
        ["FILL"],
        [
            "FEE",
            "(test_a_loop_within_a_handler_of_another.<locals>.settle)".replace(
                "test_a_loop_within_a_handler_of_another.<locals>.", ""
            ),
            "FILL",
        ],
        ["TAX", "(settle)", "FILL"],
        ["NOTE", "(settle)", "FEE", "(settle)", "FILL"],
        ["PORTFOLIO", here, "FILL"],
    ]


def test_loops_of_several_threads_keep_apart(run: Run) -> None:
    events = TracedEventBus(queue.Queue())
    together = threading.Barrier(2)

    def work() -> None:
        event = events.get()
        together.wait(5)
        events.put(Event(f"AFTER_{event.type}"))

    events.put(Event("A"))
    events.put(Event("B"))
    threads = [threading.Thread(target=work) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(run.paths()) == [
        ["A"], ["AFTER_A", "(work)", "A"], ["AFTER_B", "(work)", "B"], ["B"],
    ]  # fmt: skip


@pytest.mark.parametrize("waits", ["get", "wait_for"])
def test_an_asynchronous_queue(run: Run, waits: str) -> None:
    async def main() -> None:
        events = TracedEventBus(asyncio.Queue())

        async def handle(event: Event) -> None:
            await asyncio.sleep(0)
            if event.type == "BAR":
                await events.put(Event("SIGNAL"))
            elif event.type == "SIGNAL":
                await asyncio.create_task(later())

        async def later() -> None:
            events.put_nowait(Event("ORDER"))

        async def consume() -> None:
            while True:
                waiting = events.get()
                event = await (waiting if waits == "get" else asyncio.wait_for(waiting, 5))
                if event is None:
                    break
                await handle(event)

        task = asyncio.create_task(consume())
        for _ in range(2):
            await events.put(Event("BAR"))
            await asyncio.sleep(0.02)
        await events.put(None)
        await task

    asyncio.run(main())
    order = ["ORDER", "SIGNAL", "(handle)", "BAR"]
    assert run.paths() == [["BAR"], order[1:], order] * 2


def test_the_users_own_spans_nest_under_the_event_that_the_loop_got(run: Run) -> None:
    events = TracedEventBus(queue.Queue())
    events.put(Event("BAR"))
    assert not trace.get_current_span().get_span_context().is_valid
    events.get()
    assert trace.get_current_span().get_span_context().is_valid
    assert events.empty()
    assert not trace.get_current_span().get_span_context().is_valid
    with pytest.raises(queue.Empty):
        events.get(False)
    run.tracing.stop()


def test_what_was_put_before_the_queue_was_wrapped_causes_nothing(run: Run) -> None:
    own: queue.Queue[Any] = queue.Queue()
    own.put(Event("BAR"))
    events = TracedEventBus(own)
    Strategy(events).on_bar(events.get())
    assert run.paths() == [["SIGNAL"]]


def test_a_loop_that_just_stops_causes_nothing_in_the_next_session(tmp_path: Path) -> None:
    events = TracedEventBus(queue.Queue())
    for name in ("first", "second"):
        run = Run(tmp_path / name)
        with run.tracing:
            events.put(Event("BAR"))
            events.get()  # and nothing ever says that this is over
            events.put(Event("SIGNAL"))
            events.get()
        paths = run.paths()
        assert [path[0] for path in paths] == ["BAR", "SIGNAL"]
        assert len(paths[0]) == 1
    other = Run(tmp_path / "other")
    with other.tracing:
        TracedEventBus(deque()).append(Event("BAR"))
        assert not trace.get_current_span().get_span_context().is_valid
    assert other.paths() == [["BAR"]]


def test_a_loop_keeps_nothing_of_the_hosts_alive(run: Run) -> None:
    class Big(Event):
        """Can be referenced weakly."""

    references: list[weakref.ref[Any]] = []

    def loop(events: Any) -> None:
        for _ in range(5):
            event = Big("BAR")
            references.append(weakref.ref(event))
            events.put(event)
            event = events.get()
            events.put(Event("SIGNAL"))
            events.get()

    events = TracedEventBus(queue.Queue())
    loop(events)
    gc.collect()
    assert [reference() for reference in references] == [None] * 5
    bus = weakref.ref(events.__wrapped__)
    del events
    gc.collect()
    assert bus() is None
    assert len(run.paths()) == 10
