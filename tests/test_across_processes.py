"""A signal service and an execution service, two processes, make one trace of each trade."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from fillpath.analytics import cli
from fillpath.analytics.lake_checks import check_lake
from fillpath.analytics.trace_loading import load_trace, trace_document
from fillpath.analytics.trace_lookup import find_target
from fillpath.exporters.compaction import compact, plan_compaction
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.lineage import Lineage
from fillpath.exporters.otlp_encoder import OtlpEncoder
from fillpath.exporters.parquet_span_exporter import ParquetSpanExporter
from fillpath.instrumentation import Tracing, extract, extract_context, inject
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from real_backends import Jaeger, wait_until

EXAMPLES = Path(__file__).parents[1] / "examples"
CHAIN = ["BAR", "SIGNAL", "ORDER", "FILL", "POSITION_OPEN"]
RUNS = ["signals", "signals", "execution", "execution", "signals"]


def started(name: str, data: Path, run_id: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "FILLPATH_DATA": str(data), "FILLPATH_RUN_ID": run_id},
    )


def trade(signals_data: Path, execution_data: Path) -> list[str]:
    """Let the two services trade, and give the ids of the fills."""
    with started("execution_service.py", execution_data, "execution", "--orders", "2") as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        with started("signal_service.py", signals_data, "signals", address) as client:
            printed, _ = client.communicate(timeout=120)
        assert client.returncode == 0
        server.communicate(timeout=120)
    assert server.returncode == 0
    return printed.split()


class Traded(NamedTuple):
    """What the two services left.

    Attributes:
        data: The data folder of both.
        fills: The fills' ids.
    """

    data: DataFolder
    fills: list[str]


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Traded:
    data = tmp_path_factory.mktemp("data")
    return Traded(DataFolder(data), trade(data, data))


def document_of(data: DataFolder, wanted: str, **options: Any) -> dict[str, Any]:
    with EventStore(data).connect() as connection:
        target = find_target(connection, wanted, **options)
        return trace_document(load_trace(connection, target, everything=True))


def path_of(chain: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the spans of a chain that does not branch, from the root."""
    (span,) = chain["roots"]
    found = [span]
    while span["children"]:
        (span,) = span["children"]
        found.append(span)
    return found


@pytest.mark.smoke
def test_a_trade_of_two_processes_is_one_trace(traded: Traded) -> None:
    assert traded.fills == ["F-1", "F-2"]
    for fill in traded.fills:
        document = document_of(traded.data, fill)
        (chain,) = document["chains"]
        path = path_of(chain)
        assert [span["event_type"] for span in path] == CHAIN
        assert [span["run_id"] for span in path] == RUNS
        assert {span["trace_id"] for span in path} == {chain["trace_id"]}
        assert document["notes"] == []


@pytest.mark.parametrize("run", ["signals", "execution", None])
def test_the_trace_is_whole_from_either_side(traded: Traded, run: str | None) -> None:
    (chain,) = document_of(traded.data, "F-1", run="execution")["chains"]
    (again,) = document_of(traded.data, chain["trace_id"], run=run)["chains"]
    assert [span["event_type"] for span in path_of(again)] == CHAIN


def test_look_ups_find_both_sides_also_after_compaction(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data")
    trade(data.path, data.path)
    # Runs of no other process, whose files need not be looked at.
    for number in range(16):
        with Tracing(f"run-{number}", data=data.path, writer="inline") as tracing:
            tracing.tracer.emitter("BAR")(number)
    store = EventStore(data)
    trace_id = document_of(data, "F-1")["chains"][0]["trace_id"]
    assert [file.run_id for file in store.spans.files() if file.joins] == ["execution"]
    assert [*kinds(store.find_chain(trace_id))] == sorted(CHAIN)
    for one in plan_compaction(store):
        compact(one)
    shared = [file for file in store.spans.files() if file.is_shared]
    assert shared
    assert [file.joins for file in shared] == [True]
    store.close()
    assert [*kinds(EventStore(data).find_chain(trace_id))] == sorted(CHAIN)
    assert EventStore(data).find_chain(trace_id, run_id="execution").num_rows == 2
    rows = EventStore(data).query(f"SELECT event_type FROM chain('{trace_id}') ORDER BY 1").rows
    assert [kind for (kind,) in rows] == sorted(CHAIN)


def kinds(table: pa.Table) -> Iterator[str]:
    yield from sorted(table["event_type"].to_pylist())


def test_the_command_line_shows_both_sides_and_finds_nothing_wrong(
    traded: Traded, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(traded.data.path)
    assert cli.main(["trace", "show", traded.fills[-1], "--data", data]) == 0
    shown = capsys.readouterr().out
    assert "in run execution" in shown
    assert shown.index("SIGNAL") < shown.index("ORDER") < shown.index("POSITION_OPEN")
    told = [result.finding for result in check_lake(traded.data)]
    assert "every parent that a span names is there" in told


def test_an_event_of_another_run_than_the_heading_names_it(
    traded: Traded, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in ("execution", "signals"):
        words = ["trace", "show", trace_of(traded), "--run", run, "--data", str(traded.data.path)]
        assert cli.main(words) == 0
        shown = capsys.readouterr().out
        assert f"run {run} ·" in shown.partition("Chain")[0]
        lines = shown.partition("Chain")[2].splitlines()[1:]
        places = [
            next(number for number, line in enumerate(lines) if f" {kind} " in f" {line} ")
            for kind in CHAIN
        ]
        for place, kind, other in zip(places, CHAIN, RUNS, strict=True):
            line = lines[place]
            came_back = (kind, other) in {("ORDER", "execution"), ("POSITION_OPEN", "signals")}
            assert (f"in run {other}" in line) is (other != run or came_back), shown


def test_the_way_to_an_event_leads_through_both_processes(
    traded: Traded, capsys: pytest.CaptureFixture[str]
) -> None:
    lineage = Lineage(EventStore(traded.data))
    (fill,) = [event for event in lineage.events_of(trace_of(traded)) if event.is_fill]
    path = lineage.path(fill)
    assert [event.event_type for event in path.events] == CHAIN[:4]
    assert [event.run_id for event in path.events] == RUNS[:4]
    assert [stage.name for stage in path.stages()] == ["market", "signal", "order", "fill"]
    (position,) = lineage.descendants(fill)
    assert (position.event_type, position.run_id) == ("POSITION_OPEN", "signals")
    assert len(lineage.ancestors(position)) == 4
    words = ["trace", "path", fill.span_id, "--data", str(traded.data.path)]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert shown.index("BAR") < shown.index("SIGNAL") < shown.index("in run execution")


def trace_of(traded: Traded) -> str:
    return str(document_of(traded.data, traded.fills[0])["chains"][0]["trace_id"])


def test_of_two_data_folders_each_has_its_own_side(tmp_path: Path) -> None:
    signals, execution = DataFolder(tmp_path / "signals"), DataFolder(tmp_path / "execution")
    trade(signals.path, execution.path)
    (chain,) = document_of(execution, "F-1")["chains"]
    assert [span["event_type"] for span in path_of(chain)] == ["ORDER", "FILL"]
    found = EventStore(signals).find_chain(chain["trace_id"])
    assert sorted(found["event_type"].to_pylist()) == ["BAR", "POSITION_OPEN", "SIGNAL"]


def test_runs_that_use_the_ids_of_others_again_are_kept_apart(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data")
    name = "4bf92f3577b34da6a3ce929d0e0e4736"
    for run_id in ("first", "second"):
        with Tracing(run_id, data=data.path, writer="inline") as tracing:
            tracer = tracing.tracer
            with tracer.event("BAR", correlation_id=name):
                tracer.close(tracer.open("SIGNAL"))
    document = document_of(data, name)
    (chain,) = document["chains"]
    assert len(path_of(chain)) == chain["spans"] == 2
    assert "2 runs" in document["notes"][0]


# -- What others see of it ------------------------------------------------------------------------


def test_jaeger_has_one_trace_of_two_services_in_the_right_nesting(
    traded: Traded, tmp_path: Path
) -> None:
    with Jaeger(tmp_path) as jaeger:
        store = EventStore(traded.data)
        document = document_of(traded.data, "F-2")
        trace_id = document["chains"][0]["trace_id"]
        encoder = OtlpEncoder({run: {"trading.run.mode": "live"} for run in set(RUNS)})
        for body in encoder.encode(store.find_chain(trace_id).to_batches()):
            send(f"{jaeger.otlp_http}/v1/traces", body)
        found = wait_until(lambda: jaeger.trace(trace_id), "Jaeger has the trace")
        services = jaeger.services()
    spans = {span["spanID"]: span for span in found["spans"]}
    assert len(spans) == len(CHAIN)
    parents = {
        span_id: next((reference["spanID"] for reference in span["references"]), None)
        for span_id, span in spans.items()
    }
    expected = path_of(document["chains"][0])
    assert parents == {span["span_id"]: span["parent_span_id"] for span in expected}
    assert [spans[span["span_id"]]["operationName"] for span in expected] == [
        f"publish {kind}" for kind in CHAIN
    ]
    names = {key: process["serviceName"] for key, process in found["processes"].items()}
    assert [names[spans[span["span_id"]]["processID"]] for span in expected] == [
        f"{run}/fund/{run}" for run in RUNS
    ]
    assert services >= {"signals/fund/signals", "execution/fund/execution"}


def send(url: str, body: bytes) -> None:
    request = urllib.request.Request(  # noqa: S310 - on loopback
        url, body, {"Content-Type": "application/x-protobuf"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        assert answer.status == 200


# -- A host's own spans ---------------------------------------------------------------------------


def instrumented_call(provider: trace.TracerProvider, url: str) -> trace.SpanContext:
    """Call as OpenTelemetry's instrumentations of HTTP clients do: a span, and its address sent."""
    tracer = provider.get_tracer("http.client")
    with tracer.start_as_current_span("POST", kind=trace.SpanKind.CLIENT) as span:
        headers: dict[str, str] = {}
        propagate.inject(headers)
        request = urllib.request.Request(url, b"{}", headers)  # noqa: S310 - on loopback
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            span.set_attribute("http.response.status_code", answer.status)
        return span.get_span_context()


def test_an_instrumented_call_in_a_handler_lies_between_the_event_and_what_the_receiver_records(
    tmp_path: Path,
) -> None:
    received: list[trace.SpanContext | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        """Notes who called."""

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            received.append(extract(self.headers))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with Tracing("client", data=tmp_path, writer="inline") as tracing:
            tracer = tracing.tracer
            with tracer.event("ORDER") as order:
                url = f"http://127.0.0.1:{server.server_port}"
                call = instrumented_call(tracing.tracer_provider, url)
            address = tracer.span_context(order)
        thread.join()
    with Tracing("server", data=tmp_path, writer="inline") as tracing:
        fill = tracing.tracer.open("FILL", parent=received[0])
        tracing.tracer.close(fill)
    store = EventStore(DataFolder(tmp_path))
    found = store.find_chain(f"{address.trace_id:032x}").to_pylist()
    by_name = {row["name"]: row for row in found}
    assert set(by_name) == {"publish ORDER", "POST", "publish FILL"}
    assert by_name["POST"]["parent_span_id"] == by_name["publish ORDER"]["span_id"]
    assert by_name["publish FILL"]["parent_span_id"] == by_name["POST"]["span_id"]
    assert by_name["POST"]["span_id"] == call.span_id.to_bytes(8, "big")


def test_a_service_with_an_sdk_of_its_own_goes_on_with_the_trace(tmp_path: Path) -> None:
    data = DataFolder(tmp_path)
    headers: dict[str, str] = {}
    with Tracing("orders", data=tmp_path, writer="inline") as tracing:
        with tracing.tracer.event("ORDER") as order:
            inject(headers)
        trace_id = f"{tracing.tracer.span_context(order).trace_id:032x}"
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ParquetSpanExporter(data, run_id="broker")))
    broker = provider.get_tracer("broker")
    with broker.start_as_current_span("POST", extract_context(headers)), broker.start_span("match"):
        pass
    provider.shutdown()
    names = {"publish ORDER", "POST", "match"}
    assert {row["name"] for row in EventStore(data).find_chain(trace_id).to_pylist()} == names
    assert set(EventStore(data).query(f"SELECT name FROM chain('{trace_id}')").rows) == {
        (name,) for name in names
    }
    (chain,) = document_of(data, trace_id)["chains"]
    assert [span["name"] for span in path_of(chain)] == ["publish ORDER", "POST", "match"]
