"""An application written against OpenTelemetry's API is recorded as it would be by its SDK."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from opentelemetry import context, propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.parquet_span_exporter import ParquetSpanExporter
from fillpath.instrumentation import light_tracer, span_places
from fillpath.instrumentation.critical_event_sampler import CriticalEventSampler
from fillpath.instrumentation.light_span import LightSpan
from fillpath.instrumentation.light_tracer import LightTracerProvider
from fillpath.instrumentation.semconv import Bar, Event, Fill, Order, Trading
from fillpath.instrumentation.semconv import Resource as ResourceKeys
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.tracing import Tracing

Application = Callable[[trace.TracerProvider], None]
REMOTE = SpanContext(
    (7 << 64) + 9,
    11,
    is_remote=True,
    trace_flags=TraceFlags(TraceFlags.SAMPLED),
    trace_state=TraceState([("vendor", "x")]),
)


@pytest.fixture
def tracing(tmp_path: Path) -> Iterator[Tracing]:
    with session(tmp_path / "data") as running:
        yield running


def session(data: Path, run_id: str = "run") -> Tracing:
    return Tracing(run_id, data=data, writer="inline", service_name="shop")


def rows_of(data: Path, view: str = "spans") -> list[dict[str, Any]]:
    table = EventStore(DataFolder(data)).query(f"SELECT * FROM {view} ORDER BY sequence")
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def by_the_sdk(data: Path, application: Application) -> None:
    exporter = ParquetSpanExporter(DataFolder(data), run_id="run")
    provider = TracerProvider(resource=Resource({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    application(provider)
    provider.shutdown()


def by_the_door(data: Path, application: Application) -> None:
    with session(data) as tracing:
        application(tracing.tracer_provider)


def comparable(data: Path) -> list[dict[str, Any]]:
    """The spans without what must differ: ids, clocks, and the frames of who caught an error."""
    raw, shown = rows_of(data, "raw_spans"), rows_of(data)
    ids = {row["span_id"]: place for place, row in enumerate(shown)}
    traces: dict[str, int] = {}
    for row in shown:
        own: dict[str, Any] = {"root_sequence": None, "sequence": ids[row["span_id"]]}
        traces.setdefault(row["trace_id"], len(traces))
        for key in ("trace_id", "correlation_id"):
            own[key] = traces.get(row[key], row[key])
        own["parent_span_id"] = ids.get(row["parent_span_id"], row["parent_span_id"])
        own["span_id"] = ids[row["span_id"]]
        assert 0 < row["start_time"] <= row["end_time"]
        own["links"] = [
            [traces.get(link["trace_id"], link["trace_id"]), ids.get(link["span_id"], "elsewhere")]
            for link in json.loads(row["links"])
        ]
        attributes = json.loads(row["attributes"])
        attributes.pop(Event.REPLACED, None)  # a recording also says what it had to replace
        for event in attributes.get("otel.events", []):
            if event["name"] == "exception":
                stack = event["attributes"].pop("exception.stacktrace")
                assert event["attributes"]["exception.type"] in stack
                assert event.pop("time_unix_nano") > 1_700_000_000_000_000_000
        own["attributes"] = attributes
        row.update(own)
        for clock in ("start_time", "end_time", "duration"):
            row.pop(clock, None)
    beside = ("scope_name", "trace_state", "service_name", "host_name", "status_message")
    for row, inside in zip(shown, raw, strict=True):
        row.update({key: inside[key] for key in (*beside, "sampling_reason")})
        # The service of an application has no portfolio in its name.
        row["service_name"] = row["service_name"].removesuffix(f"/{row['portfolio']}")
    return shown


def both(tmp_path: Path, application: Application) -> list[dict[str, Any]]:
    """Run an application under both; gives the rows, which are the same."""
    by_the_sdk(tmp_path / "sdk", application)
    by_the_door(tmp_path / "door", application)
    wanted, got = comparable(tmp_path / "sdk"), comparable(tmp_path / "door")
    for one, other in zip(got, wanted, strict=True):
        assert one == other
    return got


def shop(provider: trace.TracerProvider) -> None:
    """Use every part of the API."""
    tracer = provider.get_tracer("shop.checkout", "1.2")
    other = provider.get_tracer("shop.stock")
    remote = trace.set_span_in_context(NonRecordingSpan(REMOTE))
    link = Link(SpanContext(3, 4, is_remote=True), {"why": "retry"})
    with tracer.start_as_current_span(
        "checkout", remote, SpanKind.SERVER, {"n": 1, "f": 0.5, "list": ["a", "b"]}, [link]
    ) as outer:
        outer.add_event("paid", {"amount": 5, "in": ("EUR",)}, timestamp=123)
        with other.start_as_current_span("GET", kind=SpanKind.CLIENT) as inner:
            inner.set_status(Status(StatusCode.ERROR, "timed out"))
            inner.set_status(StatusCode.OK)
            inner.set_status(StatusCode.ERROR, "too late")
        outer.add_link(inner.get_span_context(), {"which": "inner"})
        outer.set_attribute("late", True)
        outer.set_attributes({"n": 2, "deep": {"a": [1, {"b": b"\1\2"}]}, "big": 1 << 60})
        outer.update_name("checkout and pay")
    failing = tracer.start_span("fails")
    with pytest.raises(ValueError, match="no stock"), trace.use_span(failing, end_on_exit=True):
        raise ValueError("no stock")
    with pytest.raises(KeyError), tracer.start_as_current_span("fails inside"):
        {"some": "thing"}["nothing"]
    with pytest.raises(ValueError, match="x"), tracer.start_span("as a context manager"):
        raise ValueError("x")
    with (
        pytest.raises(ValueError, match="x"),
        tracer.start_as_current_span("quiet", record_exception=False),
    ):
        raise ValueError("x")
    told = tracer.start_span("told", kind=SpanKind.CONSUMER)
    told.record_exception(RuntimeError("told"), {"where": "here"}, timestamp=1_800_000_000 * 10**9)
    told.set_status(StatusCode.ERROR, "told")
    told.end()
    told.set_attribute("after", "the end")
    told.end()
    assert not told.is_recording()


@pytest.mark.smoke
def test_every_part_of_a_span_reaches_the_lake_as_through_the_sdk(tmp_path: Path) -> None:
    rows = both(tmp_path, shop)
    assert [row["name"] for row in rows][:2] == ["checkout and pay", "GET"]
    assert rows[0]["parent_span_id"] == f"{11:016x}"
    assert rows[0]["trace_state"] == "vendor=x" == rows[1]["trace_state"]
    assert rows[1]["attributes"]["otel.status_code"] == "OK"
    assert rows[2]["status_message"] == "ValueError: no stock"


def desk(provider: trace.TracerProvider) -> None:
    """Publish trading events by attributes and names, as the semantic conventions have them."""
    tracer = provider.get_tracer("desk")
    for number in range(3):  # the first of a kind is placed slowly, the others fast
        bar = tracer.start_span(
            "publish BAR",
            kind=SpanKind.PRODUCER,
            attributes={
                Trading.SYMBOL: "ACME",
                Event.TIME: 1_500_000_000_000_000_000 + number,
                Bar.OPEN: 1.25 + number,
                Bar.CLOSE: 2.5,
                Bar.VOLUME: 100 + number,
            },
        )
        with trace.use_span(bar), tracer.start_as_current_span("process BAR") as handler:
            handler.set_attribute(Event.HANDLER, "Strategy.on_bar")
            signal = tracer.start_span("decide", attributes={Event.TYPE: "SIGNAL", "value": number})
            signal.set_attribute(Trading.STRATEGY, "S-1")
            signal.set_attribute(ResourceKeys.PORTFOLIO, "fund/desk")
            signal.end()
            tracer.start_span(
                "publish FILL",
                trace.set_span_in_context(signal),
                attributes={
                    Event.TYPE: "FILL",
                    Order.SIDE: "BUY",
                    Order.CLIENT_ID: f"O-{number}",
                    Fill.ID: f"F-{number}",
                    Fill.PRICE: "101.250",
                    Fill.QUANTITY: 3,
                    Fill.CURRENCY: "USD",
                    Event.CORRELATION_ID: "chain 7",
                },
            ).end()
        bar.end()
    tracer.start_span("process ORDER", attributes={Event.TYPE: "ORDER", "x": ""}).end()
    tracer.start_span("publish", attributes={Trading.SYMBOL: "", Event.TIME: 1 << 70}).end()
    tracer.start_span("x", attributes={Event.TYPE: 7, Event.TIME: True, Trading.VENUE: 5}).end()


def test_trading_attributes_become_columns_as_through_the_sdk(tmp_path: Path) -> None:
    rows = both(tmp_path, desk)
    bar, run, signal, fill = rows[:4]
    assert (bar["event_type"], bar["price"], bar["quantity"]) == ("BAR", Decimal("2.5"), 100)
    assert (run["event_type"], run["handler"]) == ("DELIVERY", "Strategy.on_bar")
    assert (signal["event_type"], signal["strategy"]) == ("SIGNAL", "S-1")
    assert signal["portfolio"] == "fund/desk"
    assert (fill["price"], fill["correlation_id"]) == (Decimal("101.25"), "chain 7")
    assert [row["event_time"] for row in (bar, rows[4])] == [15 * 10**17, 15 * 10**17 + 1]
    found = EventStore(DataFolder(tmp_path / "door")).run_records()[0]
    assert (found.published, found.kept) == (len(rows) - 4, len(rows) - 4)


VALUES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["", "é", "x" * 100, "half \ud800"]),
    st.integers(-(1 << 70), 1 << 70),
    st.booleans(),
    st.floats(),
    st.binary(max_size=4),
    st.lists(st.integers(0, 9) | st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 9), max_size=2),
)
NAMES = (Event.TYPE, Trading.SYMBOL)
KEYS = st.sampled_from(
    ["a", "b", "c", "d", "e", "f", "g", "é", Event.TYPE, Event.TIME, Trading.SYMBOL, Fill.PRICE]
)


def attributes(most: int, *without: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(KEYS, VALUES, max_size=most).map(
        lambda drawn: {
            key: "half" if key in NAMES and value == "half \ud800" else value
            for key, value in drawn.items()
            if key not in without
        }
    )


@pytest.mark.full
# Without shrinking: an example takes two lakes, and what differs says itself where.
@settings(deadline=None, max_examples=10, phases=[Phase.explicit, Phase.generate])
@given(draw=st.data())
def test_any_spans_are_recorded_as_through_the_sdk(
    draw: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A tree of spans: each has a parent, attributes at its start, and others set later."""
    count = draw.draw(st.integers(1, 30))
    names = st.sampled_from(["GET", "publish BAR", "process BAR", "publish", "ü"])
    kinds = st.sampled_from(list(SpanKind))
    shapes = [
        (
            draw.draw(names),
            draw.draw(kinds),
            draw.draw(st.integers(-1, place - 1)),
            draw.draw(attributes(8)),
            draw.draw(attributes(2, *NAMES, Event.TIME)),  # these are fixed once a child has ended
        )
        for place in range(count)
    ]
    shapes += shapes[: draw.draw(st.integers(0, count))]  # again, by plans that were made before
    ending = draw.draw(st.permutations(range(len(shapes))))

    def application(provider: trace.TracerProvider) -> None:
        tracer = provider.get_tracer("any", "1")
        spans: list[trace.Span] = []
        for name, kind, parent, first, _ in shapes:
            outer = trace.set_span_in_context(spans[parent]) if parent >= 0 else context.Context()
            spans.append(tracer.start_span(name, outer, kind, first))
        for place in ending:
            spans[place].set_attributes(shapes[place][4])
            spans[place].end()

    both(tmp_path_factory.mktemp("any"), application)


def test_a_current_span_of_the_api_nests_under_an_event_and_its_ids_are_the_runs(
    tracing: Tracing,
) -> None:
    tracer = tracing.tracer_provider.get_tracer("broker")
    with (
        tracing.tracer.event("BAR", correlation_id="trade-7") as bar,
        tracer.start_as_current_span("POST") as post,
    ):
        with tracer.start_as_current_span("connect") as connect:
            pass
        assert trace.get_current_span() is post
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        far = propagate.extract(carrier)
        tracer.start_span("far child", far).end()
    with tracer.start_as_current_span("root") as root:
        pass
    trace_id = bar.chain.trace_id
    assert post.get_span_context().trace_id == connect.get_span_context().trace_id == trace_id
    again = propagate.extract({"traceparent": _header(root)})
    tracer.start_span("of the same run", again).end()
    tracing.stop()
    rows = {row["name"]: row for row in rows_of(tracing.folder.path)}
    assert rows["POST"]["parent_span_id"] == rows["publish BAR"]["span_id"]
    assert rows["connect"]["parent_span_id"] == rows["POST"]["span_id"]
    assert rows["far child"]["parent_span_id"] == rows["POST"]["span_id"]
    assert rows["connect"]["span_id"] == f"{connect.get_span_context().span_id:016x}"
    assert rows["of the same run"]["parent_span_id"] == rows["root"]["span_id"]
    assert rows["of the same run"]["trace_id"] == rows["root"]["trace_id"]
    assert rows["root"]["trace_id"] == f"{root.get_span_context().trace_id:032x}"
    assert {rows[name]["trace_id"] for name in ("POST", "connect", "far child")} == {
        f"{trace_id:032x}"
    }
    assert all(row["sequence"] for row in rows.values())


def test_an_event_nests_under_the_span_that_is_current_and_not_under_one_further_out(
    tracing: Tracing,
) -> None:
    tracer, events = tracing.tracer_provider.get_tracer("app"), tracing.tracer
    remote = trace.set_span_in_context(NonRecordingSpan(REMOTE))
    with tracer.start_as_current_span("request", remote) as request:
        bar = events.open("BAR")
        run = events.open("BAR", operation="process", parent=bar)
        with events.handling(run):
            signal = events.open("SIGNAL")
            with tracer.start_as_current_span("decide"):
                order = events.open("ORDER")
                with events.handling(order):
                    events.close(events.open("FILL"))
                events.close(order)
            events.close(signal)
        events.close(run)
        events.close(bar)
    request.end()
    events.close(events.open("TICK"))
    tracing.stop()
    rows = {row["name"]: row for row in rows_of(tracing.folder.path)}
    names = {row["span_id"]: name for name, row in rows.items()}
    assert {name: names.get(row["parent_span_id"]) for name, row in rows.items()} == {
        "request": None,  # its parent is in another system
        "publish BAR": "request",
        "process BAR": "publish BAR",
        "publish SIGNAL": "process BAR",
        "decide": "process BAR",
        "publish ORDER": "decide",
        "publish FILL": "publish ORDER",
        "publish TICK": None,
    }
    traces = {row["trace_id"] for name, row in rows.items() if name != "publish TICK"}
    assert traces == {f"{REMOTE.trace_id:032x}"} == {f"{bar.chain.trace_id:032x}"}


def _header(span: trace.Span) -> str:
    ids = span.get_span_context()
    return f"00-{ids.trace_id:032x}-{ids.span_id:016x}-01"


def test_threads_and_tasks_keep_their_own_parents(tracing: Tracing) -> None:
    tracer = tracing.tracer_provider.get_tracer("x")

    async def child(number: int) -> None:
        with tracer.start_as_current_span(f"task {number}"):
            await asyncio.sleep(0)
            tracer.start_span(f"leaf {number}").end()

    @tracer.start_as_current_span("all")
    async def everything() -> None:
        await asyncio.gather(*(child(number) for number in range(20)))

    @tracer.start_as_current_span("call")
    def call(number: int) -> int:
        tracer.start_span("inside").end()
        return number

    asyncio.run(everything())
    assert [call(1), call(2)] == [1, 2]
    shared = tracer.start_span("shared")
    outer = trace.set_span_in_context(shared)
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait()
        for _ in range(300):
            tracer.start_span(f"thread {number}", outer, attributes={"n": number}).end()

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, number) for number in range(8)]:
            done.result()
    shared.end()
    tracing.stop()
    rows = rows_of(tracing.folder.path)
    by_id = {row["span_id"]: row for row in rows}
    parent_of = {
        row["name"]: by_id[row["parent_span_id"]]["name"] for row in rows if row["parent_span_id"]
    }
    assert {parent_of[f"task {n}"] for n in range(20)} == {"all"}
    assert all(parent_of[f"leaf {n}"] == f"task {n}" for n in range(20))
    assert {parent_of[f"thread {n}"] for n in range(8)} == {"shared"}
    assert (
        [row["name"] for row in rows].count("call")
        == 2
        == len({row["parent_span_id"] for row in rows if row["name"] == "inside"})
    )
    assert sum(row["name"].startswith("thread ") for row in rows) == 8 * 300
    assert all(
        by_id[row["parent_span_id"]]["sequence"] < row["sequence"]
        for row in rows
        if row["parent_span_id"]
    )


def test_a_span_that_does_not_end_is_recorded_as_unfinished(
    tracing: Tracing, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracer = tracing.tracer_provider.get_tracer("x")
    open_one = tracer.start_span("goes on", attributes={"n": 1})
    tracer.start_span("child", trace.set_span_in_context(open_one)).end()
    alone = tracer.start_span("alone")
    tracing.stop()
    open_one.end()
    alone.end()
    assert not tracer.start_span("after the run").is_recording()
    rows = {row["name"]: row for row in rows_of(tracing.folder.path)}
    assert sorted(rows) == ["alone", "child", "goes on"]
    assert [row["end_time"] is None for row in rows.values()].count(True) == 2
    assert json.loads(rows["goes on"]["attributes"])[Event.UNFINISHED] is True
    (run,) = EventStore(tracing.folder).run_records()
    assert (run.published, run.kept, run.dropped) == (3, 3, 0)


def test_spans_that_never_end_do_not_pile_up(
    tracing: Tracing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(light_tracer, "MAX_OPEN", 1000)
    provider = tracing.tracer_provider
    assert isinstance(provider, LightTracerProvider)
    tracer = provider.get_tracer("x")
    spans = [tracer.start_span("lost") for _ in range(3000)]
    assert len(provider._door.open) < 3000
    for span in spans[:10]:
        span.end()
    tracing.stop()
    rows = rows_of(tracing.folder.path)
    assert len(rows) == 3000
    assert sum(row["end_time"] is not None for row in rows) == 10


def test_what_hardly_recurs_makes_no_sites(
    tracing: Tracing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_places, "MAX_VALUES", 5)
    monkeypatch.setattr(span_places, "MAX_NAMES", 8)
    tracer = tracing.tracer_provider.get_tracer("x")
    for number in range(50):
        tracer.start_span(f"GET /{number}", attributes={"url": f"/{number}", "verb": "GET"}).end()
    tracing.stop()
    rows = rows_of(tracing.folder.path)
    assert [row["name"] for row in rows] == [f"GET /{number}" for number in range(50)]
    assert [json.loads(row["attributes"]) for row in rows] == [
        {"url": f"/{number}", "verb": "GET"} for number in range(50)
    ]


def test_a_host_that_misuses_the_api_is_not_failed(
    tracing: Tracing, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no")

    tracer: Any = tracing.tracer_provider.get_tracer("x")
    value = ["mutable"]
    span = tracer.start_span("odd", attributes={"list": value, 5: "no key", "": 1, "o": Odd()})
    value.append("later")
    span.set_attribute(None, 1)
    span.set_attribute("o2", Odd())
    span.record_exception(ValueError(Odd()))
    span.add_event("e", {"x": Odd()})
    span.end()
    assert not tracer.start_span("none", attributes=17).is_recording()
    assert isinstance(tracer.start_span(None), LightSpan)
    tracing.stop()
    row = next(row for row in rows_of(tracing.folder.path) if row["name"] == "odd")
    attributes = json.loads(row["attributes"])
    assert attributes["list"] == ["mutable"]
    assert attributes["o"] == "<test_a_host_that_misuses_the_api_is_not_failed.<locals>.Odd>"
    assert sorted(attributes[Event.REPLACED]) == ["o", "o2"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_sampler_decides_what_is_recorded(tracing: Tracing) -> None:
    provider = LightTracerProvider(
        tracing.tracer, tracing._clock_offset, sampler=CriticalEventSampler(0)
    )
    tracer = provider.get_tracer("x")
    with tracer.start_as_current_span("publish BAR") as bar:
        tracer.start_span("publish FEATURES").end()
        tracer.start_span("publish FILL").end()
    assert not bar.is_recording()
    assert not bar.get_span_context().trace_flags.sampled
    provider.shutdown()
    tracing.stop()
    (row,) = rows_of(tracing.folder.path)
    assert (row["name"], row["parent_span_id"]) == ("publish FILL", None)
    (raw,) = rows_of(tracing.folder.path, "raw_spans")
    assert (raw["sampling_reason"], raw["sampling_probability"]) == ("critical", 1.0)


def test_nothing_is_recorded_while_recording_is_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILLPATH_ENABLED", "false")
    with session(tmp_path / "data") as tracing:
        tracer = tracing.tracer_provider.get_tracer("x")
        with tracer.start_as_current_span("x") as span:
            assert not span.is_recording()
    assert not (tmp_path / "data").exists()


def test_given_times_are_kept_to_the_nanosecond(tracing: Tracing) -> None:
    tracer = tracing.tracer_provider.get_tracer("x")
    start = 1_600_000_000_123_456_789
    tracer.start_span("x", start_time=start).end(start + 1)
    assert tracing.tracer_provider.get_tracer("x") is tracer
    provider: Any = tracing.tracer_provider
    assert not provider.force_flush()  # its writer is `inline`: nothing is in the lake yet
    tracing.stop()
    (row,) = rows_of(tracing.folder.path)
    assert (row["start_time"], row["end_time"]) == (start, start + 1)


def test_a_forked_child_records_nothing(tracing: Tracing) -> None:
    tracer = tracing.tracer_provider.get_tracer("x")
    with tracer.start_as_current_span("parent"):
        child = os.fork()
        if child == 0:
            with tracer.start_as_current_span("child") as span:
                os._exit(span.is_recording())
        assert os.waitpid(child, 0)[1] == 0
    tracing.stop()
    assert [row["name"] for row in rows_of(tracing.folder.path)] == ["parent"]
