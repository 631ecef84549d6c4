"""A run is sent by OTLP without slowing its host, loses nothing, and goes on where it stopped."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from fillpath.analytics.cli import main
from fillpath.exporters import host_process, otlp_delivery
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.otlp_forwarder import OtlpForwarder
from fillpath.exporters.otlp_positions import Delivered
from fillpath.exporters.otlp_replay import Replay, Since, replay
from fillpath.exporters.otlp_sender import OtlpRefused, OtlpUnavailable, open_sender
from fillpath.exporters.otlp_settings import OtlpSettings
from fillpath.exporters.parquet_span_exporter import ParquetSpanExporter
from fillpath.exporters.reclaiming import plan_vacuum, vacuum
from fillpath.exporters.writer import drain
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.forwarder_files import LOG_NAME, Forwarding
from fillpath.instrumentation.open_event import OpenEvent
from fillpath.instrumentation.semconv import PROCESS, Bar, EventType, Signal, Tick
from fillpath.instrumentation.settings import DataFolder, otlp_choice
from fillpath.instrumentation.writer_files import Progress

sys.path.append(str(Path(__file__).parent))

from real_backends import Collector, wait_until

SECOND = 1_000_000_000
LONG = 60.0

Ids = tuple[str, str]


class Receiver:
    """An OTLP receiver that misbehaves as it is told to, one word a request, and then no more.

    Attributes:
        spans: What it took: by ids, the span with its resource and scope, as bytes.
        requests: The ids of each request that it took, in order.
        plan: Words for the requests to come; the last stays when it ends with `…`.
        poison: Requests with a span of this name are refused.
    """

    def __init__(self) -> None:
        self.spans: dict[Ids, bytes] = {}
        self.requests: list[list[Ids]] = []
        self.plan: list[str] = []
        self.poison: str | None = None
        self.asked = 0
        self.last_headers: dict[str, str] = {}
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_POST(self) -> None:
                receiver._answer(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _next(self) -> str:
        with self._lock:
            self.asked += 1
            if not self.plan:
                return "take"
            if self.plan[0].endswith("…"):
                return self.plan[0][:-1]
            return self.plan.pop(0)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.last_headers = {key.lower(): value for key, value in handler.headers.items()}
        if handler.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        word = self._next()
        if word == "hole":
            time.sleep(1.5)
            return
        if word == "reset":
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.connection.close()
            return
        if word == "slow":
            time.sleep(0.2)
        if word.isdecimal():
            handler.send_response(int(word))
            if word == "429":
                handler.send_header("Retry-After", "1")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        request = ExportTraceServiceRequest.FromString(body)
        if self.poison is not None and self.poison in _names(request):
            handler.send_response(400)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        response = ExportTraceServiceResponse()
        taken = _spans(request)
        if word == "partial":
            response.partial_success.CopyFrom(
                ExportTracePartialSuccess(rejected_spans=3, error_message="three are too old")
            )
            taken = dict(list(taken.items())[3:])
        with self._lock:
            self.spans |= taken
            self.requests.append(list(taken))
        answer = response.SerializeToString()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/x-protobuf")
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)


def _names(request: ExportTraceServiceRequest) -> set[str]:
    return {
        span.name
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }


def _spans(request: ExportTraceServiceRequest) -> dict[Ids, bytes]:
    return {
        (span.trace_id.hex(), span.span_id.hex()): b"|".join(
            (
                resource.resource.SerializeToString(deterministic=True),
                scope.scope.SerializeToString(deterministic=True),
                span.SerializeToString(deterministic=True),
            )
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Give a receiver that the environment names as the OTLP endpoint."""
    made = Receiver()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    yield made
    made.close()


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataFolder]:
    """Give a data folder, and see its forwarders gone when the test is over."""
    folder = DataFolder(tmp_path / "data")
    yield folder
    for path in folder.spool.glob("*"):
        kill_forwarder(path)


def kill_forwarder(spool: Path) -> None:
    found = Forwarding.read(spool)
    if found is None or found.pid == os.getpid():
        return
    if host_process.start_mark(found.pid) == found.mark:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGKILL)


def record_some(tracing: Tracing, seed: int = 1, number: int = 400) -> None:
    """Record signals that mostly repeat, wild prices, handlers that fail, and unfinished events."""
    chance = random.Random(seed)
    tracer = tracing.tracer
    price, value, now = 100.0, 0, 1_700_000_000 * SECOND
    waiting: list[OpenEvent] = []
    tracer.open(EventType.FEATURES, symbol="A", event_time=now, attributes={"never": "ends"})
    for count in range(number):
        now += chance.choice([1, 60]) * SECOND
        price += chance.gauss(0, 1) * (30 if chance.random() < 0.02 else 1)
        symbol = chance.choice(["A", "B", None])
        bar = tracer.open(
            EventType.BAR,
            symbol=symbol,
            venue="V",
            event_time=now,
            attributes={Bar.CLOSE: f"{price:.2f}"},
        )
        run = tracer.open(
            EventType.BAR, operation=PROCESS, symbol=symbol, handler="On.bar", parent=bar
        )
        if chance.random() < 0.05:
            value = chance.choice([-1, 0, 1])
        signal_event = tracer.open(
            EventType.SIGNAL,
            symbol=symbol,
            strategy="S",
            event_time=now,
            attributes={Signal.NAME: "trend", Signal.VALUE: value},
            parent=run,
        )
        tracer.close(signal_event)
        if chance.random() < 0.01:
            cause = chance.choice(waiting) if waiting else signal_event
            order = tracer.open(
                EventType.ORDER,
                symbol=symbol,
                parent=cause,
                attributes={"trading.order.client_id": f"O-{count}", "note": "x" * count},
            )
            tracer.close(order)
        waiting.append(signal_event)
        error = ValueError("no") if chance.random() < 0.01 else None
        tracer.close(run, error=error)
        tracer.close(bar, error=error if count % 2 else None)
        tick = tracer.open(
            EventType.TICK, symbol=symbol, event_time=now, attributes={Tick.BID: price}
        )
        tracer.close(tick)


def recorded(data: DataFolder, run_id: str = "run", **options: Any) -> None:
    """Record a run that nobody takes into the lake or sends."""
    with Tracing(run_id, data=data.path, portfolio="fund", writer="none", **options) as tracing:
        record_some(tracing)


def forward(
    data: DataFolder, run_id: str = "run", selection: Any = "sampled", patience: float = 20.0
) -> Forwarding:
    """Send a run that has ended, in this process."""
    with open_sender(OtlpSettings.from_environment()) as sender:
        OtlpForwarder(data, run_id, selection, sender, patience=patience).forward()
    found = Forwarding.read(data.spool / run_id)
    assert found is not None
    return found


def replayed(data: DataFolder, run_id: str = "run", **options: Any) -> Replay:
    """Send a run from the lake, in this process."""
    store = EventStore(data)
    (record,) = [one for one in store.run_records() if one.run_id == run_id]
    with open_sender(OtlpSettings.from_environment()) as sender:
        return replay(store, record, sender, **options)


def in_the_lake(data: DataFolder, run_id: str = "run") -> set[Ids]:
    rows = EventStore(data).query("SELECT trace_id, span_id FROM spans WHERE run_id = ?", [run_id])
    return set(rows.rows)


def delivered(data: DataFolder, run_id: str = "run") -> Delivered:
    (found,) = Delivered.all_of(data, run_id)
    return found


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let attempts follow each other quickly."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
    monkeypatch.setattr(otlp_delivery, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(otlp_delivery, "REFUSED_SECONDS", 0.1)


# -- What is sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("selection", ["sampled", "all"])
@pytest.mark.parametrize("lake_sampling", ["all", "policy"])
def test_what_is_sent_live_is_what_a_replay_sends_from_the_lake(
    data: DataFolder, receiver: Receiver, selection: Any, lake_sampling: Any
) -> None:
    recorded(data, lake_sampling=lake_sampling, mode="live")
    assert forward(data, selection=selection).state == "ended"
    live, receiver.spans = receiver.spans, {}
    drain(data, "run")
    done = replayed(data, selection=selection)
    assert receiver.spans == live
    assert done.sent == len(live) == delivered(data).acknowledged
    in_lake = in_the_lake(data)
    if selection == "all" or lake_sampling == "policy":
        assert set(live) == in_lake
    else:
        assert 50 < len(live) < len(in_lake) / 2
        assert set(live) < in_lake


def test_each_portfolio_is_a_resource_of_its_own(data: DataFolder, receiver: Receiver) -> None:
    with Tracing("run", data=data.path, portfolio="fund/a", writer="none", mode="live") as tracing:
        for portfolio in ("fund/a", "fund/b", "fund/a"):
            tracing.tracer.close(tracing.tracer.open(EventType.ORDER, portfolio=portfolio))
    forward(data)
    assert len(receiver.spans) == 3
    resources = [Resource.FromString(whole.partition(b"|")[0]) for whole in receiver.spans.values()]
    facts = [{one.key: one.value.string_value for one in each.attributes} for each in resources]
    assert {each["trading.portfolio.namespace"] for each in facts} == {"fund/a", "fund/b"}
    assert {each["trading.run.mode"] for each in facts} == {"live"}


def test_a_second_replay_sends_the_same_again_and_a_third_only_what_is_missing(
    data: DataFolder, receiver: Receiver
) -> None:
    recorded(data)
    drain(data, "run")
    first = replayed(data)
    spans, receiver.spans = receiver.spans, {}
    requests, receiver.requests = receiver.requests, []
    assert replayed(data) == first
    assert (receiver.spans, receiver.requests) == (spans, requests)
    assert replayed(data, only_missing=True).sent == 0
    everything = replayed(data, only_missing=True, selection="all")
    assert everything.sent == len(in_the_lake(data)) - first.sent
    assert set(receiver.spans) == in_the_lake(data)


def test_a_replay_can_begin_at_a_sequence_or_a_time(data: DataFolder, receiver: Receiver) -> None:
    recorded(data)
    drain(data, "run")
    query = "SELECT sequence, span_id, start_time FROM spans ORDER BY sequence"
    rows = list(EventStore(data).query(query).rows)
    middle = rows[len(rows) // 2]
    replayed(data, selection="all", since=Since(sequence=middle[0]))
    later = {row[1] for row in rows if row[0] >= middle[0]}
    assert {ids[1] for ids in receiver.spans} == later
    receiver.spans = {}
    replayed(data, selection="all", since=Since(time=middle[2]))
    sent = {ids[1] for ids in receiver.spans}
    assert sent == {row[1] for row in rows if row[2] >= middle[2]}


def test_the_lake_is_the_queue_when_the_spool_is_gone(data: DataFolder, receiver: Receiver) -> None:
    recorded(data)
    receiver.plan = ["503…"]
    assert forward(data, patience=0.0).state == "gave_up"
    assert delivered(data).next_command == "fillpath otlp replay run --missing"
    drain(data, "run")
    vacuum(plan_vacuum(EventStore(data), spools=True))
    assert not list((data.spool / "run").glob("*.spool"))
    receiver.plan = []
    assert replayed(data, only_missing=True).sent == len(receiver.spans) > 50
    assert delivered(data).state == "ended"


# -- Destinations that misbehave -------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "faults",
    [["503"], ["502", "504"], ["reset", "reset"], ["hole"], ["slow"] * 3],
    ids="-".join,
)
def test_nothing_is_missing_and_nothing_extra_after_faults(
    data: DataFolder, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, faults: list[str]
) -> None:
    monkeypatch.setattr(otlp_delivery, "REQUEST_SPANS", 256)
    recorded(data)
    receiver.plan = [word for fault in faults for word in ("take", fault)]
    told = forward(data, selection="all")
    assert (told.state, told.error, told.rejected, told.refused) == ("ended", None, 0, 0)
    drain(data, "run")
    assert set(receiver.spans) == in_the_lake(data)
    assert told.acknowledged == told.selected == len(receiver.spans)


def test_a_throttling_destination_is_not_asked_before_it_wants_to_be(
    data: DataFolder, receiver: Receiver
) -> None:
    recorded(data)
    receiver.plan = ["429"]
    began = time.monotonic()
    assert forward(data, selection="all").state == "ended"
    assert time.monotonic() - began >= 1.0
    drain(data, "run")
    assert set(receiver.spans) == in_the_lake(data)


def test_spans_that_the_destination_rejects_are_counted_and_told(
    data: DataFolder, receiver: Receiver
) -> None:
    recorded(data)
    receiver.plan = ["partial"]
    told = forward(data)
    assert told.state == "ended"
    assert (told.rejected, told.acknowledged) == (3, len(receiver.spans))
    assert told.error is not None
    assert "three are too old" in told.error
    assert delivered(data).rejected == 3


@pytest.mark.usefixtures("impatient")
def test_a_span_that_is_refused_takes_no_other_with_it(
    data: DataFolder, receiver: Receiver
) -> None:
    with Tracing("run", data=data.path, writer="none") as tracing:
        for number in range(3000):
            kind = "POISON" if number == 2500 else EventType.ORDER
            tracing.tracer.close(tracing.tracer.open(kind))
    receiver.poison = "publish POISON"
    told = forward(data, selection="all")
    assert len(receiver.spans) == 2999
    assert (told.refused, told.state, told.is_whole) == (1, "ended", False)
    assert told.next_command == "fillpath otlp replay run --missing --all"
    receiver.poison = None
    drain(data, "run")
    assert replayed(data, selection="all", only_missing=True).sent == 1


@pytest.mark.usefixtures("impatient")
def test_what_was_refused_by_chance_is_there_in_the_end(
    data: DataFolder, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp_delivery, "REQUEST_SPANS", 256)
    recorded(data)
    receiver.plan = ["take", *["500"] * 5]
    told = forward(data, selection="all")
    assert (told.state, told.error, told.refused) == ("ended", None, 0)
    drain(data, "run")
    assert set(receiver.spans) == in_the_lake(data)
    assert sum(map(len, receiver.requests)) == len(receiver.spans)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("seed", range(3))
def test_whoever_goes_on_sends_each_span_once(
    data: DataFolder, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    recorded(data)
    drain(data, "run")
    state, rounds = "gave_up", 0
    while state != "ended":
        rounds += 1
        monkeypatch.setattr(otlp_delivery, "REQUEST_SPANS", chance.choice([7, 64, 200]))
        receiver.plan = ["take"] * chance.randrange(6) + ["503…"] * (rounds < 8)
        if chance.random() < 0.7:
            state = forward(data, selection="all", patience=0.0).state
        else:
            with contextlib.suppress(OtlpUnavailable):
                replayed(data, selection="all", only_missing=True, patience=0.0)
                state = delivered(data).state
    assert set(receiver.spans) == in_the_lake(data)
    assert sum(map(len, receiver.requests)) == len(receiver.spans)
    assert delivered(data).acknowledged == len(receiver.spans)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("words", [["401…"], ["take", "503…"], []], ids=["none", "some", "all"])
def test_what_waits_of_a_whole_run_is_told_after_its_sample_was_sent_again(
    data: DataFolder,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    monkeypatch.setattr(otlp_delivery, "REQUEST_SPANS", 100)
    recorded(data)
    receiver.plan = words
    forward(data, selection="all", patience=0.0)
    drain(data, "run")
    receiver.plan = []
    sent = replayed(data).sent
    whole = len(in_the_lake(data))
    for run in (["run"], []):
        assert main(["otlp", "status", *run, "--data", str(data.path), "--json"]) == 0
        (one,) = json.loads(capsys.readouterr().out)
        assert (one["selection"], one["selected"]) == ("all", whole)
        assert (one["acknowledged"], one["waiting"]) == (sent, whole - sent)
    assert replayed(data, selection="all", only_missing=True).sent == whole - sent


@pytest.mark.usefixtures("impatient")
def test_a_destination_that_accepts_nothing_loses_nothing(
    data: DataFolder, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20canary")
    recorded(data)
    receiver.plan = ["401…"]
    began = time.monotonic()
    told = forward(data)
    assert time.monotonic() - began < 5
    assert told.state == "gave_up"
    assert told.error is not None
    assert "401" in told.error
    assert told.acknowledged == told.refused == 0
    mend = "export OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20TOKEN"
    assert told.next_command == f"{mend} && fillpath otlp replay run --missing"
    assert delivered(data).next_command == told.next_command
    drain(data, "run")
    with pytest.raises(OtlpRefused, match="401") as refused:
        replayed(data)
    assert refused.value.next_command == mend
    assert delivered(data).next_command == told.next_command
    receiver.plan = []
    assert replayed(data, only_missing=True).sent == len(receiver.spans) > 50
    assert receiver.last_headers["authorization"] == "Bearer canary"
    files = [path for path in data.path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"canary" in path.read_bytes()]


def test_spans_of_an_opentelemetry_sdk_are_replayed_too(
    data: DataFolder, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILLPATH_DATA", str(data.path))
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ParquetSpanExporter()))
    tracer = provider.get_tracer("x")
    for number in range(50):
        with tracer.start_as_current_span(f"publish {('TICK', 'ORDER')[number % 2]}"):
            pass
    provider.shutdown()
    (record,) = EventStore(data).run_records()
    run_id = record.run_id
    assert replayed(data, run_id, selection="all").sent == 50
    assert set(receiver.spans) == in_the_lake(data, run_id)
    assert replayed(data, run_id, selection="all", only_missing=True).sent == 0
    assert 25 <= replayed(data, run_id).sent < 50


@pytest.mark.usefixtures("impatient")
def test_a_replay_that_cannot_reach_its_destination_says_so_and_keeps_what_was_known(
    data: DataFolder, receiver: Receiver
) -> None:
    recorded(data)
    told = forward(data)
    drain(data, "run")
    receiver.plan = ["503…"]
    with pytest.raises(OtlpUnavailable, match="503"):
        replayed(data, patience=0.2)
    assert delivered(data).acknowledged == told.acknowledged
    receiver.plan = []
    assert replayed(data, only_missing=True).sent == 0


# -- Live: processes, and what may happen to them --------------------------------------------------


def program(tmp_path: Path, body: str) -> Path:
    """Write a host program that records a run named `run`."""
    path = tmp_path / "host.py"
    text = textwrap.dedent(
        """
        import os, sys, time
        from fillpath.instrumentation import Tracing
        tracing = Tracing("run", data=sys.argv[1], portfolio="fund").start()
        bar = tracing.tracer.emitter("BAR", symbol="A", fields=["trading.bar.close"])
        order = tracing.tracer.emitter("ORDER", symbol="A")
        sent = 0
        def go(number):
            global sent
            for sent in range(sent + 1, sent + number + 1):
                cause = bar(sent * 10**9, None, 100.0)
                if sent % 10 == 0:
                    order(sent * 10**9, cause)
        """
    )
    path.write_text(text + textwrap.dedent(body))
    return path


def start(path: Path, data: DataFolder, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(path), str(data.path)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )


def ask(host: subprocess.Popen[str], what: str = "") -> str:
    assert host.stdin is not None
    assert host.stdout is not None
    host.stdin.write(what + "\n")
    host.stdin.flush()
    return host.stdout.readline().strip()


def until_sent(data: DataFolder, run_id: str = "run") -> Forwarding:
    def over() -> Forwarding | None:
        found = Forwarding.read(data.spool / run_id)
        return found if found is not None and found.state in {"ended", "gave_up"} else None

    found: Forwarding = wait_until(over, "the run is not sent", LONG)
    return found


@pytest.mark.parametrize(
    "protocol", ["http/protobuf", pytest.param("grpc", marks=pytest.mark.full)]
)
def test_a_collector_that_is_killed_and_started_again_changes_nothing(
    tmp_path: Path, data: DataFolder, protocol: str
) -> None:
    host_program = program(
        tmp_path,
        """
        for line in sys.stdin:
            go(3000)
            print(tracing.flush(float(line)), flush=True)
        tracing.stop()
        """,
    )
    with Collector(tmp_path) as collector:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.otlp_grpc}"
            if protocol == "grpc"
            else collector.otlp_http,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
            "FILLPATH_OTLP": "all",
        }
        host = start(host_program, data, **variables)
        assert ask(host, "30") == "True"
        assert len(collector.spans()) == 3300
        collector.kill()
        assert ask(host, "0.5") == "False"
        assert ask(host, "0.5") == "False"
        collector.start()
        assert ask(host, "30") == "True"
        host.communicate(timeout=LONG)
        assert until_sent(data).is_whole
        assert {(s["traceId"], s["spanId"]) for s in collector.spans()} == in_the_lake(data)
        assert delivered(data).acknowledged == 4 * 3300


def test_flush_tells_the_truth_in_time(
    data: DataFolder, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with Tracing("run", data=data.path, portfolio="fund") as tracing:
        provider: Any = tracing.tracer_provider
        record_some(tracing, number=50)
        assert tracing.flush(30)
        assert len(receiver.spans) > 10
        assert in_the_lake(data) >= set(receiver.spans)
        for word in ("503…", "hole…"):
            receiver.plan = [word]
            tracing.tracer.close(tracing.tracer.open(EventType.ORDER))
            for flush in (tracing.flush, lambda seconds: provider.force_flush(seconds * 1000)):
                began = time.monotonic()
                assert not flush(0.4)
                assert time.monotonic() - began < 0.9
        receiver.plan = []
        before = len(receiver.spans)
        assert provider.force_flush(30_000)
        assert len(receiver.spans) == before + 2
    assert tracing.flush(30)


def test_flush_is_false_when_the_lake_takes_nothing(data: DataFolder) -> None:
    data.path.mkdir()
    data.lake.write_text("a file where the lake should be")
    tracing = Tracing("run", data=data.path).start()
    tracing.tracer.close(tracing.tracer.open(EventType.ORDER))
    wait_until(lambda: Progress.read(data.spool / "run"), "there is no writer")
    began = time.monotonic()
    assert not tracing.flush(1.5)
    assert time.monotonic() - began < 2.0
    with pytest.raises(FillpathError):
        tracing.stop()


@pytest.mark.parametrize("writer", ["inline", "none"])
def test_flush_is_false_while_nothing_reaches_the_lake(data: DataFolder, writer: Any) -> None:
    with Tracing("run", data=data.path, writer=writer) as tracing:
        tracing.tracer.close(tracing.tracer.open(EventType.ORDER))
        assert not tracing.flush(0.1)
    assert tracing.flush(0.1) is (writer == "inline")


def test_flush_does_not_wait_longer_than_it_may_for_a_spool_that_is_being_written(
    data: DataFolder,
) -> None:
    with Tracing("run", data=data.path, writer="none") as tracing:
        recorder = tracing._recorder
        assert recorder is not None
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            with recorder._lock:
                held.set()
                release.wait(10)

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        began = time.monotonic()
        assert recorder.written(time.monotonic() + 0.2) is None
        assert time.monotonic() - began < 0.7
        release.set()
        holder.join()
        assert recorder.written(time.monotonic() + 5) is not None


def test_a_run_is_sent_to_its_end_after_its_host_was_killed(
    tmp_path: Path, data: DataFolder, receiver: Receiver
) -> None:
    host = start(
        program(
            tmp_path,
            "go(2000); print(tracing.flush(30), flush=True); go(2000); "
            "time.sleep(0.3); print(flush=True); time.sleep(60)",
        ),
        data,
    )
    assert host.stdout is not None
    assert host.stdout.readline().strip() == "True"
    receiver.plan = ["503"]
    host.stdout.readline()
    host.kill()
    host.communicate()
    assert until_sent(data).is_whole
    drain(data, "run")
    live, receiver.spans = receiver.spans, {}
    replayed(data)
    assert receiver.spans == live


def test_a_forwarder_that_is_killed_is_followed_by_another(
    tmp_path: Path, data: DataFolder, receiver: Receiver
) -> None:
    host = start(
        program(
            tmp_path,
            """
            for _ in sys.stdin:
                go(1000)
                print(tracing.flush(30), flush=True)
            tracing.stop()
            """,
        ),
        data,
        FILLPATH_OTLP="all",
    )
    assert ask(host) == "True"
    wait_until(lambda: delivered(data).acknowledged == 1100, "positions are not written down")
    kill_forwarder(data.spool / "run")
    assert ask(host) == "True"
    host.communicate(timeout=LONG)
    assert until_sent(data).is_whole
    assert set(receiver.spans) == in_the_lake(data)
    assert sum(map(len, receiver.requests)) == 2200, "some were sent again"


def test_a_replay_sends_what_a_killed_forwarder_has_not(
    data: DataFolder, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp_delivery, "REQUEST_SPANS", 100)
    recorded(data)
    drain(data, "run")
    # It dies after three requests, and has written down what they held.
    receiver.plan = ["take"] * 3 + ["503…"]
    forward(data, selection="all", patience=0.0)
    first = {ids for request in receiver.requests for ids in request}
    assert len(first) == 300
    receiver.plan, receiver.requests = [], []
    done = replayed(data, selection="all", only_missing=True)
    again = {ids for request in receiver.requests for ids in request}
    assert done.skipped == 300
    assert not first & again
    assert first | again == in_the_lake(data)


def test_an_inline_run_is_sent_once_it_has_ended_and_counted_in_metrics(
    data: DataFolder, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "console")
    with Tracing("run", data=data.path, writer="inline") as tracing:
        record_some(tracing, number=100)
    assert tracing.flush(LONG)
    assert delivered(data).acknowledged == len(receiver.spans) > 10
    log = data.spool / LOG_NAME
    wait_until(lambda: "fillpath.otlp.sent" in log.read_text(), "no metrics are published")


def test_wrong_settings_do_not_break_the_host(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x=canary")
    with caplog.at_level(logging.WARNING), Tracing("run", data=data.path) as tracing:
        tracing.tracer.close(tracing.tracer.open(EventType.ORDER))
        told = until_sent(data)
        assert told.state == "gave_up"
        assert "CERTIFICATE" in (told.error or "")
        assert (told.next_command or "").endswith(" && fillpath otlp replay run --missing")
        wait_until(lambda: "CERTIFICATE" in caplog.text, "the host does not say so")
        assert not tracing.flush(1)
    assert len([one for one in caplog.records if "CERTIFICATE" in one.message]) == 1
    assert "canary" not in caplog.text + json.dumps(told.error)
    assert len(in_the_lake(data)) == 1


def test_the_hosts_own_work_costs_the_same_while_the_destination_is_a_black_hole(
    tmp_path: Path, data: DataFolder, receiver: Receiver
) -> None:
    timed = program(
        tmp_path,
        """
        began = time.process_time()
        go(50_000)
        print(time.process_time() - began, flush=True)
        tracing.stop()
        """,
    )
    receiver.plan = ["hole…"]
    seconds = {}
    for otlp in ("off", "all"):
        folder = DataFolder(data.path / otlp)
        host = start(timed, folder, FILLPATH_OTLP=otlp, FILLPATH_OTLP_PATIENCE="0")
        began = time.monotonic()
        seconds[otlp] = float(host.communicate(timeout=LONG)[0])
        assert time.monotonic() - began < LONG / 2
    kill_forwarder(data.path / "all" / "spool" / "run")
    assert seconds["all"] < 2 * seconds["off"] + 0.2


@pytest.mark.full  # it also starts a Postgres for the results
def test_fillpath_run_says_what_was_sent(
    tmp_path: Path, data: DataFolder, receiver: Receiver
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from fillpath.instrumentation import Tracing
            with Tracing() as tracing:
                for _ in range(20):
                    tracing.tracer.close(tracing.tracer.open("ORDER"))
            """
        )
    )
    command = [sys.executable, "-P", "-m", "fillpath.analytics.cli"]
    words = ["--data", str(data.path), "run", "--otlp", "all", str(script)]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=True)
    assert f"20 spans were sent to {receiver.url}/v1/traces" in done.stderr
    assert len(receiver.spans) == 20


# -- When it is on ---------------------------------------------------------------------------------

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


@pytest.mark.parametrize(
    ("variables", "choice"),
    [
        ({}, "off"),
        ({ENDPOINT: "http://x"}, "sampled"),
        ({TRACES_ENDPOINT: "http://x"}, "sampled"),
        ({ENDPOINT: ""}, "off"),
        ({ENDPOINT: "http://x", "OTEL_TRACES_EXPORTER": "none"}, "off"),
        ({ENDPOINT: "http://x", "OTEL_TRACES_EXPORTER": "console, otlp"}, "sampled"),
        ({ENDPOINT: "http://x", "OTEL_TRACES_EXPORTER": "otlp_proto_http"}, "sampled"),
        ({ENDPOINT: "http://x", "FILLPATH_OTLP": "off"}, "off"),
        ({"FILLPATH_OTLP": "all"}, "all"),
    ],
)
def test_it_is_on_where_an_endpoint_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], choice: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert otlp_choice() == choice
    assert Tracing("x").otlp == choice
