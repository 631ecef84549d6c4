"""Traces stay small enough to be drawn, whatever an event is the cause of; and nothing is lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from fillpath.analytics.chain_span import select_spans
from fillpath.analytics.cli import main
from fillpath.analytics.latency_measuring import measure
from fillpath.analytics.order_causes import make_order_causes
from fillpath.analytics.signal_outcomes import read_signal_orders, read_signals
from fillpath.analytics.sql_files import read_sql
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.lineage import Lineage
from fillpath.exporters.otlp_encoder import OtlpEncoder
from fillpath.exporters.otlp_json import otlp_span
from fillpath.exporters.span_selection import SpanSelection
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.event_sampler import EventSampler
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.trace_limit import TraceLimit

LIMIT = 100


@pytest.fixture(autouse=True)
def _limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILLPATH_TRACE_LIMIT", str(LIMIT))


@pytest.fixture
def tracing(tmp_path: Path) -> Iterator[Tracing]:
    session = Tracing("run", data=tmp_path, writer="inline", portfolio="fund")
    session.start()
    yield session
    session.stop()


def rows_of(data: Path, columns: str = "*") -> list[dict[str, Any]]:
    table = EventStore(DataFolder(data)).query(f"SELECT {columns} FROM spans ORDER BY sequence")
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def checked(data: Path) -> list[dict[str, Any]]:
    """Rows whose traces are not too large, and that lead to their causes."""
    rows = rows_of(data)
    sizes = Counter(row["trace_id"] for row in rows)
    assert max(sizes.values()) <= LIMIT
    by_id = {row["span_id"]: row for row in rows}
    for row in rows:
        if row["parent_span_id"] is None:
            continue
        cause = by_id[row["parent_span_id"]]
        address = {"trace_id": cause["trace_id"], "span_id": cause["span_id"]}
        linked = address in json.loads(row["links"])
        assert linked == (cause["trace_id"] != row["trace_id"])
        assert "otel.cause_trace_id" not in row["attributes"]
    return rows


def test_a_run_whose_events_all_descend_from_the_first(tracing: Tracing, tmp_path: Path) -> None:
    emit = tracing.tracer.emitter("BAR", fields=["trading.bar.close"], names=["note"])
    start = tracing.tracer.emitter("SYSTEM")(1)
    for number in range(1000):
        bar = emit(1, start, 1.5, f"bar {number}")
        emit(1, bar, 2.5)
    tracing.stop()
    rows = checked(tmp_path)
    assert len(rows) == 2001
    bars = [row for row in rows if row["parent_span_id"] == rows[0]["span_id"]]
    assert len(bars) == 1000
    # What comes after the limit are chains of their own, of a bar and what it caused.
    last = bars[-1]
    assert [row["sequence"] for row in rows if row["trace_id"] == last["trace_id"]] == [2000, 2001]
    assert json.loads(last["attributes"])["note"] == "bar 999"
    assert rows[0]["trace_id"] == rows[60]["trace_id"]


def test_a_chain_in_which_each_event_causes_the_next(tracing: Tracing, tmp_path: Path) -> None:
    tracer = tracing.tracer
    event = None
    for _ in range(500):
        event = tracer.open("ORDER", parent=event, event_time=1, attributes={"note": "x"})
        tracer.close(event)
    tracing.stop()
    rows = checked(tmp_path)
    assert len({row["trace_id"] for row in rows}) == 5
    assert {row["attributes"] for row in rows} == {'{"note":"x"}'}


def test_spans_of_the_opentelemetry_door_are_divided_too(tracing: Tracing, tmp_path: Path) -> None:
    tracer = tracing.tracer_provider.get_tracer("t")
    with tracer.start_as_current_span("root"):
        for _ in range(300):
            with tracer.start_as_current_span("child"), tracer.start_as_current_span("grandchild"):
                pass
    tracing.stop()
    rows = checked(tmp_path)
    assert len(rows) == 601
    roots = [row for row in rows if row["parent_span_id"] == rows[0]["span_id"]]
    assert len(roots) == 300


def test_the_doors_share_one_limit(tracing: Tracing, tmp_path: Path) -> None:
    tracer = tracing.tracer
    emit = tracer.emitter("TICK")
    spans = tracing.tracer_provider.get_tracer("t")
    root = tracer.open("SYSTEM")
    with tracer.handling(root):
        for _ in range(200):
            emit(1, root)
            tracer.close(tracer.open("BAR", parent=root))
            with spans.start_as_current_span("span"):
                tracer.close(tracer.open("SIGNAL"))
    tracer.close(root)
    tracing.stop()
    rows = checked(tmp_path)
    assert len(rows) == 801


def test_an_event_that_comes_late_stays_in_its_trace(tracing: Tracing, tmp_path: Path) -> None:
    tracer = tracing.tracer
    emit = tracer.emitter("BAR")
    order = emit(1)
    for _ in range(5 * LIMIT):
        emit(1)
    fill = tracer.emitter("FILL")(1, order)
    tracing.stop()
    assert fill == (5 * LIMIT + 2, 1)
    checked(tmp_path)


def test_a_name_that_all_events_share_stays_with_them(tracing: Tracing, tmp_path: Path) -> None:
    """The first ones share a trace; the others have the name as well, and traces of their own."""
    tracer = tracing.tracer
    for _ in range(150):
        with tracer.event("BAR", correlation_id="session-1", event_time=1):
            tracer.close(tracer.open("SIGNAL"))
    tracing.stop()
    rows = checked(tmp_path)
    assert len(rows) == 300
    assert {row["correlation_id"] for row in rows} == {"session-1"}
    sizes = Counter(row["trace_id"] for row in rows)
    assert sizes.pop(rows[0]["trace_id"]) == LIMIT
    assert set(sizes.values()) == {2}
    assert len(Lineage.of_lake(tmp_path, "run").events_of("session-1")) == 300


def test_a_rerun_divides_at_the_same_places(tmp_path: Path) -> None:
    found = []
    for folder in ("a", "b"):
        with Tracing("run", data=tmp_path / folder, writer="inline", portfolio="f") as tracing:
            emit = tracing.tracer.emitter("BAR")
            start = emit(1)
            for _ in range(300):
                emit(1, emit(1, start))
        found.append(rows_of(tmp_path / folder, "trace_id, span_id, parent_span_id, links"))
    assert found[0] == found[1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=50, max_size=400), st.randoms(use_true_random=False))
def test_whatever_causes_what_no_trace_is_too_large(shape: list[int], random: Any) -> None:
    """Counted as the doors count: by the root that a cause hands on."""
    limit = TraceLimit(40)
    handles: list[tuple[int, int]] = []
    sizes: Counter[int] = Counter()
    for sequence, kind in enumerate(shape, start=1):
        root = sequence
        if handles and kind:
            _, above = handles[0 if kind == 1 else random.randrange(len(handles))]
            divided = sequence - above >= limit.far and limit.is_full(above)
            root = sequence if divided else above
        sizes[root] += 1
        handles.append((sequence, root))
    assert max(sizes.values()) <= 40


def test_what_is_remembered_of_traces_is_bounded() -> None:
    limit = TraceLimit(100)
    for root in range(1, 200_000):
        assert not limit.is_full(root)
    assert len(limit._counts) + len(limit._older) <= 2 * (1 << 15) + 1
    assert limit.is_full(1)  # forgotten: it might be full


@pytest.mark.parametrize("given_limit", ["99", "-1", "many", "1e4", "0"])
def test_a_limit_is_a_number_of_events(
    given_limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILLPATH_TRACE_LIMIT", given_limit)
    with pytest.raises(UsageError, match="FILLPATH_TRACE_LIMIT"):
        Tracing("run", data=tmp_path)


def test_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILLPATH_TRACE_LIMIT", "none")
    with Tracing("run", data=tmp_path, writer="inline") as tracing:
        emit = tracing.tracer.emitter("BAR")
        start = emit(1)
        for _ in range(15_000):
            emit(1, start)
    assert len({row["trace_id"] for row in rows_of(tmp_path, "trace_id, sequence")}) == 1


# Over the division


def record_trades(data: Path) -> None:
    """Record ticks that each cause the next, and trades at some of them."""
    with Tracing("run", data=data, writer="inline", portfolio="fund") as tracing:
        tracer = tracing.tracer
        tick = None
        for number in range(400):
            tick = tracer.open("TICK", parent=tick, symbol="A", event_time=number)
            tracer.close(tick)
            if number % 40 == 39:
                signal = tracer.open("SIGNAL", parent=tick, strategy="s", event_time=number)
                tracer.close(signal)
                at = signal
                for _ in range(120):  # a long way from the signal to its order
                    at = tracer.open("SYSTEM", parent=at, event_time=number)
                    tracer.close(at)
                name = {"trading.order.client_id": f"O-{number}"}
                order = tracer.open(
                    "ORDER",
                    parent=at,
                    strategy="s",
                    event_time=number,
                    attributes={**name, "trading.order.status": "INITIALIZED"},
                )
                tracer.close(order)
                fill = tracer.open(
                    "FILL",
                    parent=order,
                    strategy="s",
                    event_time=number,
                    attributes={**name, "trading.fill.id": f"F-{number}"},
                )
                tracer.close(fill)


@pytest.fixture(scope="module")
def trades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trades")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILLPATH_TRACE_LIMIT", str(LIMIT))
        record_trades(folder)
    checked(folder)
    return folder


def test_lineage_goes_over_the_division(trades: Path) -> None:
    lineage = Lineage.of_lake(trades, "run")
    path = lineage.path("F-399")
    assert len(path.hops) == 400 + 1 + 120 + 2
    assert len({event.trace_id for event in path.events}) > 4
    assert [stage.name for stage in path.stages()] == ["market", "signal", "order", "fill"]
    assert len(lineage.ancestors("F-399")) == len(path.hops) - 1
    first = path.events[0]
    assert len(lineage.descendants(first)) == len(rows_of(trades, "span_id, sequence")) - 1
    latencies = lineage.fill_latencies().to_pylist()
    assert len(latencies) == 10
    (last,) = [row for row in latencies if row["fill_id"] == "F-399"]
    assert last["hops"] == len(path.hops) - 1
    assert last["market"] is not None
    assert last["signal"] is not None


def test_analytics_find_the_signal_beyond_the_division(trades: Path) -> None:
    store = EventStore(DataFolder(trades))
    with store.connect(["run"], further_views=()) as connection:
        make_order_causes(connection, "run")
        (row,) = connection.execute(read_sql("funnel"), {"run_id": "run"}).fetchall()
        assert row[1:7] == ("s", 10, 10, 10, 0, 10)
        orders = read_signal_orders(connection, "run").by_signal
        assert set(orders) == {signal.span_id for signal in read_signals(connection, "run")}
        durations = measure(connection, "run", live=False)
        hops = durations.summaries(lambda group: group.hop)
        counts = {hop: one.histogram.count for (hop, _), one in hops.items()}
        assert counts["SIGNAL → ORDER"] == 10
        assert counts["TICK → FILL"] == counts["TICK → SIGNAL"] == 10


def test_a_sampled_export_has_every_ancestor_beyond_the_division(trades: Path) -> None:
    selection = SpanSelection(
        EventStore(DataFolder(trades)), "run", policy=EventSampler(rate=0.0, context=0)
    )
    kept = selection.span_ids()
    path = Lineage.of_lake(trades, "run").path("F-399")
    assert kept is not None
    assert {event.span_id for event in path.events} <= kept


def test_otlp_has_a_link_where_the_cause_is_in_another_trace(trades: Path) -> None:
    store = EventStore(DataFolder(trades))
    batches = list(SpanSelection(store, "run").batches())
    spans = [
        span
        for request in OtlpEncoder().encode(batches)
        for resource in ExportTraceServiceRequest.FromString(request).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    divided = 0
    for span in spans:
        if span.parent_span_id:
            assert (span.trace_id, span.parent_span_id) in by_id
        for link in span.links:
            assert (link.trace_id, link.span_id) in by_id
            divided += not span.parent_span_id
    assert divided > 10
    for batch in batches:
        for row in batch.to_pylist():
            in_json = otlp_span(row)
            span = by_id[row["trace_id"], row["span_id"]]
            assert in_json.get("parentSpanId", "") == span.parent_span_id.hex()
            assert len(in_json.get("links", ())) == len(span.links)
    with store.connect(["run"]) as connection:
        shown = connection.sql(
            'SELECT "SpanId", "ParentSpanId", "TraceId" FROM otel_traces'
        ).fetchall()
    for span_id, parent, trace_id in shown:
        span = by_id[bytes.fromhex(trace_id), bytes.fromhex(span_id)]
        assert span.parent_span_id.hex() == parent


def test_no_divided_trace_counts_as_one_that_lacks_a_parent(
    trades: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", "show", "F-399", "--json", "--data", str(trades)]) == 0
    (chain,) = json.loads(capsys.readouterr().out)["chains"]
    assert chain["spans"] <= LIMIT
    assert main(["trace", "show", "F-399", "--data", str(trades)]) == 0
    assert "missing" not in capsys.readouterr().out
    assert main(["trace", "path", "F-399", "--data", str(trades)]) == 0
    assert "in all" in capsys.readouterr().out
    assert main(["completeness", "run", "--data", str(trades)]) == 0
    store = EventStore(DataFolder(trades))
    with store.connect(["run"], further_views=()) as connection:
        spans = select_spans(connection, "parent_span_id IS NOT NULL", [])
    assert sum(span.is_divided for span in spans) > 10


def test_the_context_inside_a_divided_event_is_its_new_trace(
    tracing: Tracing, tmp_path: Path
) -> None:
    tracer = tracing.tracer
    start = tracer.open("SYSTEM")
    for _ in range(2 * LIMIT):
        event = tracer.open("BAR", parent=start)
        tracer.close(event)
    event = tracer.open("BAR", parent=start)
    tokens = tracer.enter_user_code(event)
    inside = trace.get_current_span().get_span_context()
    tracer.leave_user_code(tokens)
    tracer.close(event)
    tracer.close(start)
    tracing.stop()
    last = checked(tmp_path)[-1]
    assert f"{inside.trace_id:032x}" == last["trace_id"]
    assert f"{inside.span_id:016x}" == last["span_id"]
