"""A cause crosses the border of a process in a message's headers, whatever these are made of."""

from __future__ import annotations

import http.client
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, context, trace
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation import (
    EventFields,
    EventTracer,
    TracedEventBus,
    Tracing,
    extract,
    extract_context,
    inject,
)
from fillpath.instrumentation.settings import DataFolder

TRACE = 0x4BF92F3577B34DA6A3CE929D0E0E4736
SPAN = 0x00F067AA0BA902B7
PARENT = f"00-{TRACE:032x}-{SPAN:016x}-01"
HEADERS = {"traceparent": PARENT, "tracestate": "vendor=x"}
REMOTE = SpanContext(
    TRACE, SPAN, True, TraceFlags(TraceFlags.SAMPLED), TraceState([("vendor", "x")])
)


def session(data: Path, run_id: str = "run") -> Tracing:
    return Tracing(run_id, data=data, writer="inline", service_name=run_id)


@pytest.fixture
def tracing(tmp_path: Path) -> Iterator[Tracing]:
    with session(tmp_path / "data") as running:
        yield running


def rows_of(data: Path) -> list[dict[str, Any]]:
    table = EventStore(DataFolder(data)).query(
        "SELECT spans.*, raw_spans.trace_state FROM spans JOIN raw_spans USING (run_id, sequence) "
        "ORDER BY run_id, sequence"
    )
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def as_dict(headers: dict[str, str]) -> Any:
    return dict(headers)


def as_kafka(headers: dict[str, str]) -> Any:
    return [(name, text.encode()) for name, text in headers.items()]


def as_redis(headers: dict[str, str]) -> Any:
    return {b"symbol": b"AAPL", **{name.encode(): text.encode() for name, text in headers.items()}}


def as_http(headers: dict[str, str]) -> Any:
    lines = "".join(f"{name.title()}: {text}\r\n" for name, text in headers.items())
    return http.client.parse_headers(io.BytesIO(f"{lines}\r\n".encode()))


Carrier = Callable[[dict[str, str]], Any]
CARRIERS = pytest.mark.parametrize("carrier", [as_dict, as_kafka, as_redis, as_http])


@pytest.mark.smoke
@CARRIERS
def test_an_address_is_found_in_the_headers_of_any_transport(carrier: Carrier) -> None:
    assert extract(carrier(HEADERS)) == REMOTE


@CARRIERS
def test_what_is_injected_is_extracted_again(tracing: Tracing, carrier: Carrier) -> None:
    headers = carrier({"traceparent": "stale", "content-type": "json"})
    with tracing.tracer.event("SIGNAL") as event:
        assert inject(headers)
        expected = tracing.tracer.span_context(event)
    found = extract(headers)
    assert found is not None
    assert (found.trace_id, found.span_id) == (expected.trace_id, expected.span_id)
    assert found.trace_flags.sampled
    assert found.is_remote


def test_any_event_can_be_injected(tracing: Tracing) -> None:
    tracer = tracing.tracer
    handle = tracer.emitter("BAR")(1)
    opened = tracer.open("SIGNAL", parent=handle)
    tracer.close(opened)
    sent: list[SpanContext | None] = []
    for cause in (handle, opened):
        headers: dict[str, str] = {}
        assert inject(headers, cause)
        sent.append(extract(headers))
    of_bar, of_signal = sent
    assert of_bar is not None
    assert of_signal is not None
    assert of_bar.trace_id == of_signal.trace_id
    assert of_bar.span_id != of_signal.span_id


def test_there_is_nothing_to_inject_outside_of_any_event(tracing: Tracing) -> None:
    headers: dict[str, str] = {}
    assert not inject(headers)
    assert not inject(headers, (5, 9))
    assert not inject(headers, "no cause")  # type: ignore[arg-type]
    assert headers == {}


def test_nothing_is_injected_while_recording_is_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILLPATH_ENABLED", "false")
    headers: dict[str, str] = {}
    with session(tmp_path) as tracing, tracing.tracer.event("SIGNAL"):
        assert not inject(headers)
    assert headers == {}


def test_a_spans_own_call_is_nearer_than_the_event_it_is_made_in(tracing: Tracing) -> None:
    tracer = tracing.tracer
    calls = tracing.tracer_provider.get_tracer("http")
    headers: dict[str, str] = {}
    with tracer.event("ORDER") as order, calls.start_as_current_span("POST") as call:
        inject(headers)
    found = extract(headers)
    assert found is not None
    assert found.span_id == call.get_span_context().span_id
    assert found.trace_id == tracer.span_context(order).trace_id


def test_portfolio_and_run_go_along_as_baggage_only_when_asked(tracing: Tracing) -> None:
    plain: dict[str, str] = {}
    telling: dict[str, str] = {}
    with tracing.tracer.event("ORDER", portfolio="fund/desk"):
        inject(plain)
        inject(telling, with_baggage=True)
    assert "baggage" not in plain
    found = baggage.get_all(extract_context(telling))
    assert found == {"trading.portfolio.namespace": "fund/desk", "trading.run.id": "run"}


# -- The other side -------------------------------------------------------------------------------


def by_emitter(tracer: EventTracer, cause: Any) -> None:
    order = tracer.emitter("ORDER", fields=["trading.order.quantity"])(1, cause, 5.0)
    tracer.emitter("FILL")(2, order)


def by_emitter_with_names(tracer: EventTracer, cause: Any) -> None:
    order = tracer.emitter(
        "ORDER",
        fields=["trading.order.quantity"],
        names=["trading.order.client_id", "trading.order.id"],
    )
    tracer.emitter("FILL")(2, order(1, cause, 5.0, "O-1"))


def by_emitter_with_numbers_that_are_none(tracer: EventTracer, cause: Any) -> None:
    order = tracer.emitter("ORDER", fields=["trading.order.quantity"])(1, cause, object())
    tracer.emitter("FILL")(2, order)


def by_open(tracer: EventTracer, cause: Any) -> None:
    order = tracer.open("ORDER", parent=cause, attributes={"trading.order.quantity": 5})
    fill = tracer.open("FILL", parent=order)
    tracer.close(fill)
    tracer.close(order)


def by_a_delivery(tracer: EventTracer, cause: Any) -> None:
    run = tracer.open("ORDER", operation="process", handler="Execution.on_order", parent=cause)
    with tracer.entered(run):
        tracer.close(tracer.open("FILL"))
    tracer.close(run)


def by_the_api(tracer: EventTracer, cause: Any) -> None:
    tracing = Tracing.active()
    assert tracing is not None
    order = tracer.open("ORDER", parent=cause)
    with tracer.handling(order), tracing.tracer_provider.get_tracer("x").start_as_current_span("y"):
        pass
    tracer.close(order)


WAYS = pytest.mark.parametrize(
    "record",
    [
        by_emitter,
        by_emitter_with_names,
        by_emitter_with_numbers_that_are_none,
        by_open,
        by_a_delivery,
        by_the_api,
    ],
)


@pytest.mark.smoke
@WAYS
def test_events_go_on_in_the_trace_of_another_process(
    record: Callable[[EventTracer, Any], None], tmp_path: Path
) -> None:
    with session(tmp_path) as tracing:
        record(tracing.tracer, extract(HEADERS))
    first, second = rows_of(tmp_path)
    assert first["trace_id"] == second["trace_id"] == f"{TRACE:032x}"
    assert first["parent_span_id"] == f"{SPAN:016x}"
    assert second["parent_span_id"] == first["span_id"]
    assert first["trace_state"] == "vendor=x"
    if record is by_emitter_with_names:
        assert first["client_order_id"] == "O-1"


def test_tracestate_goes_on_to_the_next_process(tmp_path: Path) -> None:
    headers: dict[str, str] = {}
    with session(tmp_path) as tracing:
        handle = tracing.tracer.emitter("ORDER")(1, extract(HEADERS))
        inject(headers, tracing.tracer.emitter("FILL")(1, handle))
    assert headers["tracestate"] == "vendor=x"
    assert headers["traceparent"].startswith(f"00-{TRACE:032x}-")


def test_an_event_of_another_process_can_be_a_link(tmp_path: Path) -> None:
    with session(tmp_path) as tracing:
        tracer = tracing.tracer
        tracer.close(tracer.open("ORDER", links=[REMOTE]))
    (row,) = rows_of(tmp_path)
    assert json.loads(row["links"]) == [{"trace_id": f"{TRACE:032x}", "span_id": f"{SPAN:016x}"}]
    assert row["parent_span_id"] is None


def test_the_hosts_own_name_of_a_chain_is_an_attribute_unless_it_means_the_same_trace(
    tmp_path: Path,
) -> None:
    with session(tmp_path) as tracing:
        for name in ("basket 7", f"{TRACE:032X}"):
            event = tracing.tracer.open("ORDER", parent=REMOTE, correlation_id=name)
            tracing.tracer.close(event)
    other, same = rows_of(tmp_path)
    assert other["trace_id"] == same["trace_id"] == f"{TRACE:032x}"
    assert other["correlation_id"] == "basket 7"
    assert same["correlation_id"] == f"{TRACE:032X}"  # its name, as the host spells it


def test_an_answer_that_comes_back_belongs_to_the_chain_that_asked(tmp_path: Path) -> None:
    request: dict[str, str] = {}
    answer: dict[str, str] = {}
    data = tmp_path / "data"
    with session(data, "asking") as asking:
        ask = asking.tracer.emitter("ORDER")(1)
        inject(request, ask)
        # What the other process would send: a span of its own in our trace.
        trace_id = request["traceparent"].split("-")[1]
        answer["traceparent"] = f"00-{trace_id}-{SPAN:016x}-01"
        asking.tracer.close(asking.tracer.open("FILL", parent=extract(answer)))
        asking.tracer.emitter("POSITION_OPEN")(2, extract(answer))
        asking.tracer.emitter("PORTFOLIO")(2, extract(request))
    order, fill, position, portfolio = rows_of(data)
    assert {row["trace_id"] for row in (order, fill, position, portfolio)} == {trace_id}
    assert {row["root_sequence"] for row in (order, fill, position, portfolio)} == {1}
    assert fill["parent_span_id"] == position["parent_span_id"] == f"{SPAN:016x}"
    assert portfolio["parent_span_id"] == order["span_id"]
    store = EventStore(DataFolder(data))
    assert store.find_chain(trace_id).num_rows == 4


# -- What must not harm ---------------------------------------------------------------------------

HOSTILE: list[Any] = [
    {"traceparent": ""},
    {"traceparent": "00-" + "0" * 32 + f"-{SPAN:016x}-01"},
    {"traceparent": f"00-{TRACE:032x}-" + "0" * 16 + "-01"},
    {"traceparent": PARENT.replace("00-", "ff-", 1)},
    {"traceparent": PARENT + "-" + "x" * 10_000},
    {"traceparent": "'; DROP TABLE spans; --"},
    {"traceparent": 5},
    {"traceparent": ["a", "b"]},
    {5: 6},
    [("traceparent",), 7, None],
    "traceparent",
    b"traceparent",
    object(),
    7,
    None,
]


@pytest.mark.parametrize("headers", HOSTILE)
def test_hostile_headers_begin_a_chain(headers: Any, tmp_path: Path) -> None:
    assert extract(headers) is None
    with session(tmp_path) as tracing:
        tracing.tracer.emitter("ORDER")(1, extract(headers))
    (row,) = rows_of(tmp_path)
    assert row["parent_span_id"] is None


def test_ids_of_this_run_that_are_still_to_come_begin_a_chain(tmp_path: Path) -> None:
    with session(tmp_path) as tracing:
        tracer = tracing.tracer
        headers: dict[str, str] = {}
        inject(headers, tracer.emitter("BAR")(1))
        mine = extract(headers)
        assert mine is not None
        later = SpanContext(mine.trace_id + 1000, mine.span_id + 1000, True, mine.trace_flags)
        half = SpanContext(mine.trace_id + 1000, SPAN, True, mine.trace_flags)
        for made_up in (later, half):
            tracer.emitter("ORDER")(1, made_up)
            tracer.close(tracer.open("ORDER", parent=made_up))
    bar, *orders = rows_of(tmp_path)
    assert len(orders) == 4
    assert not [row for row in orders if row["parent_span_id"] is not None]
    assert len({row["trace_id"] for row in (bar, *orders)}) == 5


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["traceparent", "TraceParent", "tracestate", "baggage", "x"])
        | st.binary(max_size=12),
        st.text(max_size=80) | st.binary(max_size=80) | st.none() | st.integers(),
    )
    | st.lists(st.tuples(st.text(max_size=12), st.binary(max_size=60)))
)
def test_no_headers_make_extracting_raise(headers: Any) -> None:
    found = extract(headers)
    assert found is None or found.is_valid


@pytest.mark.parametrize("carrier", [None, (), "text", 5, frozenset(), [("a", b"b"), 7]])
def test_a_carrier_that_takes_nothing_is_complained_of_and_does_not_raise(
    carrier: Any, tracing: Tracing, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with tracing.tracer.event("ORDER"):
        assert not inject(carrier)


# -- Buses ----------------------------------------------------------------------------------------


class Bus:
    """Calls its handlers one after the other."""

    def __init__(self) -> None:
        self.handlers: list[Callable[[Any], None]] = []

    def subscribe(self, handler: Callable[[Any], None]) -> None:
        self.handlers.append(handler)

    def publish(self, event: Any) -> None:
        for handler in self.handlers:
            handler(event)


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ({"type": "ORDER", "headers": HEADERS, "qty": 5}, None),
        ({"type": "ORDER", "headers": as_kafka(HEADERS), "qty": 5}, None),
        ({"type": "ORDER", "payload": {"headers": HEADERS, "qty": 5}}, None),
        ({"type": "ORDER", "qty": 5, **HEADERS}, EventFields(headers=lambda event: event)),
        ({"type": "ORDER", "qty": 5, "meta": HEADERS}, EventFields(headers=("head", "meta"))),
    ],
)
def test_events_on_a_bus_are_linked_by_the_headers_they_carry(
    event: Any, fields: EventFields | None, tmp_path: Path
) -> None:
    with session(tmp_path):
        bus = TracedEventBus(Bus(), fields=fields)
        bus.subscribe(lambda order: None if order["type"] == "FILL" else bus.publish(FILL))
        bus.publish(event)
    order, delivery, fill = rows_of(tmp_path)
    assert order["parent_span_id"] == f"{SPAN:016x}"
    assert {row["trace_id"] for row in (order, delivery, fill)} == {f"{TRACE:032x}"}
    assert "traceparent" not in order["attributes"]
    assert order["quantity"] == 5


FILL = {"type": "FILL", "price": 1}


def test_other_headers_stay_attributes(tmp_path: Path) -> None:
    with session(tmp_path):
        TracedEventBus(Bus()).publish({"type": "ORDER", "headers": {**HEADERS, "client": "c-1"}})
        TracedEventBus(Bus()).publish({"type": "ORDER", "headers": {"client": "c-2"}})
    linked, plain = rows_of(tmp_path)
    assert linked["parent_span_id"] == f"{SPAN:016x}"
    assert "c-1" in linked["attributes"]
    assert plain["parent_span_id"] is None
    assert "c-2" in plain["attributes"]


def test_headers_that_an_event_took_over_from_the_one_it_answers_do_not_hide_the_handler(
    tmp_path: Path,
) -> None:
    with session(tmp_path):
        bus = TracedEventBus(Bus())

        def on_event(event: Any) -> None:
            if event["type"] == "ORDER":
                bus.publish({"type": "FILL", "headers": event["headers"]})

        bus.subscribe(on_event)
        bus.publish({"type": "ORDER", "headers": HEADERS})
    order, delivery, fill = rows_of(tmp_path)
    assert order["parent_span_id"] == f"{SPAN:016x}"
    assert fill["parent_span_id"] == delivery["span_id"]


def test_a_message_that_a_handler_fetches_has_its_sender_as_its_cause_and_the_handler_as_a_link(
    tmp_path: Path,
) -> None:
    with session(tmp_path):
        bus = TracedEventBus(Bus())

        def on_event(event: Any) -> None:
            if event["type"] == "TIMER":
                bus.publish({"type": "ORDER", "headers": HEADERS})

        bus.subscribe(on_event)
        bus.publish({"type": "TIMER"})
    _, delivery, order = rows_of(tmp_path)
    assert order["parent_span_id"] == f"{SPAN:016x}"
    (link,) = json.loads(order["links"])
    assert link["span_id"] == delivery["span_id"]


def test_a_span_of_the_api_below_an_attached_context_nests_under_the_sender(tmp_path: Path) -> None:
    with session(tmp_path) as tracing:
        token = context.attach(extract_context(HEADERS))
        try:
            tracer = tracing.tracer_provider.get_tracer("server")
            with tracer.start_as_current_span("POST", kind=trace.SpanKind.SERVER):
                tracing.tracer.close(tracing.tracer.open("ORDER"))
        finally:
            context.detach(token)
    server, order = rows_of(tmp_path)
    assert server["parent_span_id"] == f"{SPAN:016x}"
    assert order["parent_span_id"] == server["span_id"]
    assert order["trace_id"] == f"{TRACE:032x}"


@pytest.mark.parametrize(
    ("propagators", "names"),
    [("tracecontext", ["traceparent"]), ("none", []), ("baggage,tracecontext", ["traceparent"])],
)
def test_which_headers_are_written_is_set_as_for_all_of_opentelemetry(
    propagators: str, names: list[str], tmp_path: Path
) -> None:
    script = """
from fillpath.instrumentation import Tracing, inject
headers = {}
with Tracing("run", writer="none") as tracing, tracing.tracer.event("ORDER"):
    print(inject(headers), sorted(headers))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**os.environ, "OTEL_PROPAGATORS": propagators, "FILLPATH_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{bool(names)} {names}\n", done.stderr
