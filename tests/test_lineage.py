"""What led to an event and what came of it, read back from a lake."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.analytics.cli import main
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.lineage import Lineage
from fillpath.exporters.lineage_path import LineageEvent
from fillpath.exporters.span_rows import Span, SpanRows
from fillpath.instrumentation import Tracing, identity
from fillpath.instrumentation.errors import NotFound
from fillpath.instrumentation.semconv import PROCESS, EventType, Order

sys.path.append(str(Path(__file__).parent))

import itertools

from recorded_market import Market, record_market

KINDS = [
    EventType.BAR,
    EventType.SIGNAL,
    EventType.ORDER,
    EventType.COMMAND,
    EventType.DELIVERY,
    EventType.FILL,
]


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lineage]:
    data = tmp_path_factory.mktemp("lineage")
    record_market(data, "first", trades=2)
    record_market(data, "second")
    found = Lineage.of_lake(data, "first")
    yield found
    found.store.close()


def kinds(events: tuple[LineageEvent, ...]) -> list[str]:
    return [event.event_type for event in events]


def test_the_path_of_a_fill_leads_from_the_bar_over_the_signal(lineage: Lineage) -> None:
    path = lineage.path("F-1")
    assert kinds(path.events) == [
        "BAR", "DELIVERY", "SIGNAL", "ORDER", "COMMAND", "ORDER", "FILL"
    ]  # fmt: skip
    assert path.events[-1].fill_id == "F-1"
    starts = [event.start_time or 0 for event in path.events]
    assert [hop.latency for hop in path.hops] == [
        None,
        *(later - earlier for earlier, later in itertools.pairwise(starts)),
    ]
    assert path.total == starts[-1] - starts[0]
    assert [hop.simulated for hop in path.hops] == [None, 0, 0, 0, 0, 0, 0]


def test_the_stages_of_a_fill_add_up_to_its_path(lineage: Lineage) -> None:
    path = lineage.path("F-1")
    stages = path.stages()
    assert [stage.name for stage in stages] == ["market", "signal", "order", "ack", "fill"]
    assert [stage.event.status for stage in stages] == [
        None, None, "INITIALIZED", "SUBMITTED", "FILLED"
    ]  # fmt: skip
    assert sum(stage.latency or 0 for stage in stages) == path.total
    # An exit without a signal has no such stage.
    assert [stage.name for stage in lineage.path("F-2").stages()] == [
        "market",
        "order",
        "ack",
        "fill",
    ]


def test_ancestors_and_descendants_stay_in_the_chain_unless_links_are_followed(
    lineage: Lineage,
) -> None:
    entry, exit_ = lineage.event("F-1"), lineage.event("F-2")
    assert kinds(lineage.descendants(entry)) == ["POSITION_OPEN", "PORTFOLIO"]
    ancestors = lineage.ancestors(exit_)
    assert {event.trace_id for event in ancestors} == {exit_.trace_id}
    across = lineage.ancestors(exit_, across_links=True)
    assert set(ancestors) < set(across)
    assert entry in across
    assert set(lineage.path(entry).events) <= set(across)
    below = lineage.descendants(entry, across_links=True)
    assert exit_ in below
    assert kinds(lineage.descendants(exit_)) == ["POSITION_CLOSE", "PORTFOLIO"]
    assert set(lineage.descendants(exit_)) <= set(below)
    assert entry not in below
    assert exit_ not in across


def test_an_event_is_found_by_each_of_its_ids(lineage: Lineage) -> None:
    fill = lineage.event("F-1")
    for wanted in (fill.span_id, "V-1", "O-1"):
        assert lineage.event(wanted) == fill
    assert lineage.event(fill.trace_id) == fill
    assert lineage.event("ACME-Trend-1").fill_id == "F-4"
    with pytest.raises(NotFound, match="run 'first'"):
        lineage.event("F-99")


def test_the_correlation_map_gives_every_event_once(lineage: Lineage) -> None:
    chains = lineage.correlation_map()
    assert len(chains) == 5
    events = [event for chain in chains.values() for event in chain]
    with lineage.store.connect(["first"], further_views=()) as connection:
        row = connection.execute("SELECT count(*) FROM spans").fetchone()
    assert row == (len(events),)
    assert len({event.span_id for event in events}) == len(events)
    assert "trade-7" not in chains
    with pytest.raises(KeyError):
        chains["trade-7"]


def test_the_latencies_of_all_fills_are_those_of_their_paths(lineage: Lineage) -> None:
    rows = lineage.fill_latencies().to_pylist()
    assert [row["fill_id"] for row in rows] == ["F-1", "F-2", "F-3", "F-4"]
    for row in rows:
        compare_with_path(lineage, row)


def compare_with_path(lineage: Lineage, row: dict[str, object]) -> None:
    path = lineage.path(str(row["span_id"]))
    stages = {stage.name: stage.event.start_time for stage in path.stages()}
    for name in ("market", "signal", "order", "ack", "fill"):
        assert row[name] == stages.get(name), name
    assert row["hops"] == len(path.hops) - 1


def test_the_tracer_is_a_door_to_the_lineage(tmp_path: Path) -> None:
    with Tracing("here", data=tmp_path, writer="inline") as tracing:
        tracer = tracing.tracer
        market = Market(tracing)
        market.trade()
        market.finish()
    lineage = tracer.lineage(tmp_path)
    assert isinstance(lineage, Lineage)
    assert lineage.run_id == "here"
    assert lineage.path("F-1").events[0].event_type == "BAR"
    assert len(tracer.lineage(tmp_path, "elsewhere").correlation_map()) == 0


def made_run(
    store: EventStore, run_id: str, spans: Sequence[tuple[int, int, str, str | None]]
) -> None:
    """Commit spans: sequence, parent's sequence or 0, kind, status; a link here and there."""
    key = identity.run_key(run_id)
    root_of = {0: 0}
    rows = SpanRows()
    for sequence, parent, kind, status in spans:
        root_of[sequence] = root_of[parent] or sequence
        links = []
        if sequence % 7 == 0 and sequence > 3:
            links.append(address(key, root_of[sequence - 3], sequence - 3))
        rows.add(
            Span(
                run_id,
                *address(key, root_of[sequence], sequence),
                identity.span_id(key, parent).to_bytes(8, "big") if parent else None,
                sequence,
                root_of[sequence],
                f"publish {kind}",
                "CONSUMER" if kind == EventType.DELIVERY else "PRODUCER",
                kind,
                "fund",
                start_time=sequence * sequence,
                end_time=sequence * sequence + 1,
                attributes={} if status is None else {Order.STATUS: status},
                links=links,
            )
        )
    store.append_spans(rows.take(), run_id, "made", 1)


def address(key: int, root: int, sequence: int) -> tuple[bytes, bytes]:
    return (
        identity.trace_id(key, root).to_bytes(16, "big"),
        identity.span_id(key, sequence).to_bytes(8, "big"),
    )


@st.composite
def runs(draw: st.DrawFn) -> list[tuple[int, int, str, str | None]]:
    spans = []
    for sequence in range(1, draw(st.integers(2, 40)) + 1):
        parent = draw(st.integers(max(0, sequence - 4), sequence - 1))
        kind = draw(st.sampled_from(KINDS))
        status = None
        if kind == EventType.ORDER:
            status = draw(st.sampled_from([None, "INITIALIZED", "SUBMITTED", "ACCEPTED"]))
        spans.append((sequence, parent, kind, status))
    return spans


@settings(max_examples=25, deadline=None)
@given(runs())
def test_lineage_agrees_with_a_plain_walk_over_all_events(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, int, str, str | None]]
) -> None:
    data = tmp_path_factory.mktemp("made")
    store = EventStore(data)
    made_run(store, "made", spans)
    lineage = Lineage(store, "made")
    key = identity.run_key("made")
    parent_of = {sequence: parent for sequence, parent, _, _ in spans}
    link_of = {
        sequence: sequence - 3 for sequence in parent_of if sequence % 7 == 0 and sequence > 3
    }

    def sources(sequence: int, *, links: bool) -> set[int]:
        found: set[int] = set()
        waiting = [sequence]
        while waiting:
            here = waiting.pop()
            above = {parent_of[here]} | ({link_of.get(here, 0)} if links else set())
            for one in above - found - {0}:
                found.add(one)
                waiting.append(one)
        return found - {sequence}

    for sequence, _, kind, _ in spans:
        span_id = f"{identity.span_id(key, sequence):016x}"
        for links in (False, True):
            up = {event.sequence for event in lineage.ancestors(span_id, across_links=links)}
            assert up == sources(sequence, links=links)
            down = {event.sequence for event in lineage.descendants(span_id, across_links=links)}
            assert down == {other for other in parent_of if sequence in sources(other, links=links)}
        if kind == EventType.FILL:
            assert lineage.path(span_id).events[-1].sequence == sequence
    for row in lineage.fill_latencies().to_pylist():
        compare_with_path(lineage, row)
    store.close()


@pytest.mark.full
def test_a_chain_of_a_hundred_thousand_events_is_followed_exactly(tmp_path: Path) -> None:
    size, chance = 100_000, random.Random(5)
    spans = [
        (
            n,
            0 if n == 1 else n - 1 if n < size // 2 else chance.randint(1, n - 1),
            EventType.ORDER,
            None,
        )
        for n in range(1, size + 1)
    ]
    store = EventStore(tmp_path)
    made_run(store, "long", spans)
    lineage = Lineage(store, "long")
    key = identity.run_key("long")
    deepest = f"{identity.span_id(key, size // 2 - 1):016x}"
    path = lineage.path(deepest)
    assert [event.sequence for event in path.events] == list(range(1, size // 2))
    assert path.total == (size // 2 - 1) ** 2 - 1
    root = f"{identity.span_id(key, 1):016x}"
    assert len(lineage.descendants(root)) == size - 1
    assert len(lineage.ancestors(deepest)) == size // 2 - 2


def test_a_delivery_is_a_step_of_its_own(lineage: Lineage) -> None:
    deliveries = [event for event in lineage.path("F-1").events if event.span_kind == "CONSUMER"]
    assert [event.name for event in deliveries] == [f"{PROCESS} BAR"]


def ask(lineage: Lineage, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words, "--run", "first", "--data", str(lineage.store.folder.path)]) == 0
    return capsys.readouterr().out


def test_the_command_line_draws_the_way_to_a_fill(
    lineage: Lineage, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = ask(lineage, capsys, "trace", "path", "F-1")
    lines = drawn.splitlines()
    assert lines[0] == "Fill F-1"
    assert [word for word in ("BAR", "SIGNAL", "COMMAND", "FILL") if word in drawn] == [
        "BAR", "SIGNAL", "COMMAND", "FILL"
    ]  # fmt: skip
    assert "POSITION" not in drawn.replace("position ", "")
    for stage in ("bar → signal", "signal → order", "order → ack", "ack → fill", "in all"):
        assert stage in lines[-1]


def test_the_command_line_gives_lineage_as_one_document(
    lineage: Lineage, capsys: pytest.CaptureFixture[str]
) -> None:
    path = json.loads(ask(lineage, capsys, "trace", "path", "F-1", "--json"))
    assert [event["event_type"] for event in path["events"]][-1] == "FILL"
    assert path["latency"] == sum(event["latency"] or 0 for event in path["events"])
    assert path["latency"] == sum(stage["latency"] or 0 for stage in path["stages"])
    above = json.loads(ask(lineage, capsys, "trace", "ancestors", "F-2", "--json"))
    across = json.loads(ask(lineage, capsys, "trace", "ancestors", "F-2", "--links", "--json"))
    assert len(above["events"]) < len(across["events"])
    assert path["of"] in [event["span_id"] for event in across["events"]]
    below = json.loads(ask(lineage, capsys, "trace", "descendants", "F-1", "--json"))
    assert [event["event_type"] for event in below["events"]] == ["POSITION_OPEN", "PORTFOLIO"]
    whole = json.loads(
        ask(lineage, capsys, "trace", "descendants", path["events"][0]["span_id"], "--json")
    )
    assert {event["trace_id"] for event in whole["events"]} == {path["events"][0]["trace_id"]}


def test_the_command_line_says_when_there_is_nothing(
    lineage: Lineage, capsys: pytest.CaptureFixture[str]
) -> None:
    root = lineage.path("F-1").events[0].span_id
    assert "Nothing led to it" in ask(lineage, capsys, "trace", "ancestors", root)
    last = lineage.descendants("F-1")[-1].span_id
    drawn = ask(lineage, capsys, "trace", "descendants", last)
    assert "Nothing came of it" in drawn
    assert "PORTFOLIO" in drawn
    assert main(["trace", "path", "F-77", "--data", str(lineage.store.folder.path)]) == 5
    assert "nearest" in capsys.readouterr().err
