"""Files of OTLP come into the lake whatever their form, each span once, and damage is told."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf.json_format import MessageToJson
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode

from fillpath.analytics.cli import main
from fillpath.exporters import span_import
from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.otlp_file import OtlpFile, UnknownForm
from fillpath.exporters.span_import import SpanImport
from fillpath.exporters.writer import catch_up
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.errors import FillpathError, UsageError

sys.path.append(str(Path(__file__).parent))

from real_backends import Collector, program

START = 1_790_000_000_000_000_000


def document(*numbers: int, run: str | None = None, **fields: Any) -> dict[str, Any]:
    """A document with one span for each number; the first is the parent of the others."""
    resource = [{"key": "service.name", "value": {"stringValue": "shop"}}]
    if run is not None:
        resource.append({"key": "trading.run.id", "value": {"stringValue": run}})
    spans = [
        {
            "traceId": "ab" * 16,
            "spanId": f"{number:016x}",
            **({} if number == numbers[0] else {"parentSpanId": f"{numbers[0]:016x}"}),
            "name": f"work {number}",
            "kind": 3,
            "startTimeUnixNano": str(START + number),
            "endTimeUnixNano": str(START + number + 1000),
            "attributes": [{"key": "number", "value": {"intValue": str(number)}}],
            "status": {},
            **fields,
        }
        for number in numbers
    ]
    scope = {"name": "shop", "version": "1"}
    return {
        "resourceSpans": [
            {"resource": {"attributes": resource}, "scopeSpans": [{"scope": scope, "spans": spans}]}
        ]
    }


def line(*numbers: int, **fields: Any) -> bytes:
    return json.dumps(document(*numbers, **fields)).encode() + b"\n"


def take(data: Path, content: bytes, **options: Any) -> tuple[SpanImport, OtlpFile]:
    source = OtlpFile(io.BytesIO(content))
    spans = SpanImport(EventStore(data), **options)
    for resource in source:
        spans.take(resource)
    spans.finish()
    return spans, source


def counts(spans: SpanImport) -> list[tuple[int, int]]:
    return [(run.taken, run.known) for run in spans.outcomes]


def rows(data: Path) -> list[dict[str, Any]]:
    found = EventStore(data).query("SELECT * FROM spans ORDER BY sequence")
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def numbers_in(data: Path) -> list[int]:
    return [int(row["name"].split()[1]) for row in rows(data)]


# -- Forms ----------------------------------------------------------------------------------------


def sdk_request() -> ExportTraceServiceRequest:
    """Spans of an SDK with everything that a span may have."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop", "floor": 3}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("shop.cart", "1.2", attributes={"team": "a"})
    with tracer.start_as_current_span("buy", kind=SpanKind.SERVER) as span:
        span.add_event("paid", {"amount": 5, "exact": 0.1})
        with tracer.start_as_current_span(
            "call", kind=SpanKind.CLIENT, attributes={"http.method": "GET", "list": [1, 2]}
        ) as call:
            call.set_status(Status(StatusCode.ERROR, "timed out"))
    return encode_spans(memory.get_finished_spans())


def of_the_specification(request: ExportTraceServiceRequest) -> dict[str, Any]:
    """The request as JSON with ids in hex, everything else as Google's library has it."""
    given: dict[str, Any] = json.loads(MessageToJson(request))
    for resource in given["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span, message in zip(
                scope["spans"], request.resource_spans[0].scope_spans[0].spans, strict=True
            ):
                span["traceId"], span["spanId"] = message.trace_id.hex(), message.span_id.hex()
                if message.parent_span_id:
                    span["parentSpanId"] = message.parent_span_id.hex()
    return given


def framed(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def zstd(content: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(content, asbytes=True))


def forms() -> Iterator[tuple[str, Callable[[ExportTraceServiceRequest], bytes]]]:
    """Ways to write the same request, and what each is called."""

    def text(request: ExportTraceServiceRequest, **options: Any) -> bytes:
        return json.dumps(of_the_specification(request), **options).encode()

    def binary(request: ExportTraceServiceRequest) -> bytes:
        return bytes(request.SerializeToString())

    yield "JSON", text
    yield "JSON", lambda request: b"\n " + text(request, indent=2)
    yield "JSON", lambda request: b"\xef\xbb\xbf" + text(request) + b"\r\n\r\n"
    yield "JSON", lambda request: MessageToJson(request).encode()  # ids in base64
    yield "JSON", lambda request: MessageToJson(request, preserving_proto_field_name=True).encode()
    yield "JSON", lambda request: b'{"result": ' + text(request) + b"}"  # Jaeger's API
    yield (
        "JSON, gzip",
        lambda request: gzip.compress(text(request)[:50]) + gzip.compress(text(request)[50:]),
    )
    yield "JSON, zstd", lambda request: zstd(text(request)[:50]) + zstd(text(request)[50:])
    yield "binary", binary
    yield "binary, gzip", lambda request: gzip.compress(binary(request))
    yield "binary with lengths", lambda request: framed(binary(request)) + framed(b"")
    yield "binary with lengths", lambda request: framed(zstd(binary(request)))
    yield "binary with lengths", lambda request: framed(zstd(text(request)))
    yield "binary with lengths, zstd", lambda request: zstd(framed(binary(request)))


def test_every_form_gives_the_same_rows(tmp_path: Path) -> None:
    request = sdk_request()
    seen = []
    for number, (name, written) in enumerate(forms()):
        spans, source = take(tmp_path / str(number), written(request), run_id="run-1")
        assert (source.form, source.damages, spans.failures) == (name, [], [])
        seen.append(rows(tmp_path / str(number)))
        assert seen[-1] == seen[0], name
    buy, call = seen[0]
    assert (buy["name"], buy["span_kind"], buy["scope_name"]) == ("buy", "SERVER", "shop.cart")
    assert call["parent_span_id"] == buy["span_id"]
    assert (call["status_code"], call["status_message"]) == ("ERROR", "timed out")
    attributes = json.loads(buy["attributes"])
    assert attributes["otel.events"][0]["attributes"] == {"amount": 5, "exact": 0.1}
    assert attributes["otel.scope.attributes"] == {"team": "a"}
    assert json.loads(call["attributes"])["http.method"] == "GET"
    query = "SELECT DISTINCT resource_attributes FROM raw_spans"
    ((others,),) = EventStore(tmp_path / "0").query(query).rows
    assert json.loads(others)["floor"] == 3


def test_json_may_be_as_lenient_as_the_specification_lets_it(tmp_path: Path) -> None:
    given = document(
        1, 2, kind="SPAN_KIND_CLIENT", status={"code": "STATUS_CODE_OK"}, later={"x": 1}
    )
    (span, other) = given["resourceSpans"][0]["scopeSpans"][0]["spans"]
    span |= {"startTimeUnixNano": START, "events": None, "links": [], "traceState": None}
    span["attributes"] = [
        {"key": "int", "value": {"intValue": 5}},
        {"key": "nan", "value": {"doubleValue": "NaN"}},
        {"key": "down", "value": {"doubleValue": "-Infinity"}},
        {"key": "text", "value": {"doubleValue": "1.5"}},
        {"key": "bytes", "value": {"bytesValue": "q80"}},
        {"key": "list", "value": {"arrayValue": {}}},
        {"key": "map", "value": {"kvlistValue": {"values": [{"key": "a"}]}}},
        {"key": "none", "value": {}},
        {"key": "null", "value": None},
        {"key": "new", "value": {"laterValue": 5}},
        {"value": {"stringValue": "without a key"}},
    ]
    other |= {"kind": 99, "attributes": None, "status": {"code": 99}, "parentSpanId": "0" * 16}
    spans, _ = take(tmp_path, json.dumps({**given, "later": [1]}).encode())
    assert spans.failures == []
    later, first = sorted(rows(tmp_path), key=lambda row: row["name"], reverse=True)
    assert (first["span_kind"], first["start_time"]) == ("CLIENT", START)
    attributes = json.loads(first["attributes"])
    assert attributes == {
        "int": 5, "nan": "NaN", "down": "-Infinity", "text": 1.5, "bytes": "abcd", "list": [],
        "map": {"a": None}, "none": None, "null": None, "new": None, "": "without a key",
        "otel.status_code": "OK", "otel.scope.version": "1",
        "trading.event.replaced_fields": ["bytes"],
    }  # fmt: skip
    assert (later["span_kind"], later["parent_span_id"]) == ("UNSPECIFIED", None)


def test_other_signals_in_the_file_are_left_alone_and_counted(tmp_path: Path) -> None:
    others = b'{"resourceMetrics": [{"resource": {}}]}\n{"resourceLogs": []}\n{}\n'
    spans, source = take(tmp_path, others + line(1) + others)
    assert (counts(spans), source.others, source.damages) == ([(1, 0)], 2, [])


def test_what_is_no_otlp_is_refused() -> None:
    for content in (b"hello", b"PAR1\x00\x00", b"[1, 2]", gzip.compress(b"hello")):
        with pytest.raises(UnknownForm):
            OtlpFile(io.BytesIO(content))
    assert list(OtlpFile(io.BytesIO(b""))) == []


def test_a_large_document_is_read_in_bounded_memory(tmp_path: Path) -> None:
    element = json.dumps(document(*range(1, 200))["resourceSpans"][0]).encode()

    def parts() -> Iterator[bytes]:
        yield b'{"resourceSpans": ['
        for number in range(200):
            yield element + (b"," if number < 199 else b"]}")

    class Stream(io.RawIOBase):
        given = parts()
        rest = b""

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            data = self.rest or next(self.given, b"")
            size = min(len(buffer), len(data))
            buffer[:size], Stream.rest = data[:size], data[size:]
            return size

    tracemalloc.start()
    try:
        count = 0
        for resource in OtlpFile(io.BufferedReader(Stream())):
            count += len(resource.scopes[0].spans)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 199 * 200
    assert len(element) * 200 > 12_000_000
    assert peak < 4_000_000


# -- Runs -----------------------------------------------------------------------------------------


def test_spans_go_to_the_run_they_name_else_to_one_of_their_file(tmp_path: Path) -> None:
    named, own = line(1, run="run-7"), line(2, 3)
    spans, _ = take(tmp_path, named + own, source="traces.json")
    ids = [run.run_id for run in spans.outcomes]
    assert ids[0] == "run-7"
    assert ids[1].startswith("import-20260921T141320-")
    again, _ = take(tmp_path, gzip.compress(named + own))
    assert [run.run_id for run in again.outcomes] == ids
    records = {record.run_id: record for record in EventStore(tmp_path).run_records()}
    one = records[ids[1]]
    assert (one.source, one.status, one.engine) == ("import", "Ended", "opentelemetry")
    assert (one.service_name, one.kept, one.published) == ("shop", 2, 2)
    assert (one.started_at, one.ended_at) == (START + 2, START + 1003)
    assert one.metadata == {"imported_from": ["traces.json"]}
    by_name, _ = take(tmp_path, own, run_id="mine", portfolio="fund/desk")
    assert [run.run_id for run in by_name.outcomes] == ["mine"]
    assert {row["portfolio"] for row in rows(tmp_path) if row["run_id"] == "mine"} == {"fund/desk"}
    with pytest.raises(UsageError):
        take(tmp_path, own, run_id="../mine")


def test_a_span_of_another_program_joins_the_run_whose_chain_it_is_in(tmp_path: Path) -> None:
    with Tracing("run-1", data=tmp_path, writer="inline") as tracing:
        tracing.tracer.close(tracing.tracer.open("ORDER"))
    (order,) = rows(tmp_path)
    content = document(9, traceId=order["trace_id"], parentSpanId=order["span_id"])
    spans, _ = take(tmp_path, json.dumps(content).encode())
    assert [run.run_id for run in spans.outcomes] == ["run-1"]
    order, work = rows(tmp_path)
    assert work["parent_span_id"] == order["span_id"]
    (record,) = EventStore(tmp_path).run_records()
    assert record.source == "spool"  # which knows more of the run


def test_a_run_that_is_being_recorded_is_not_imported_into(tmp_path: Path) -> None:
    EventStore(tmp_path).record_run(RunRecord("run-7", "Running"))
    with pytest.raises(UsageError, match="being recorded"):
        take(tmp_path, line(1, run="run-7"))


def test_a_parent_stands_before_its_children_also_when_it_comes_last(tmp_path: Path) -> None:
    given = document(1, 2, 3, startTimeUnixNano=str(START))
    given["resourceSpans"][0]["scopeSpans"][0]["spans"].reverse()
    take(tmp_path, json.dumps(given).encode())
    assert numbers_in(tmp_path)[0] == 1
    assert len({row["sequence"] for row in rows(tmp_path)}) == 3


# -- Each span once -------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [None, "run-7"])
def test_a_file_that_is_imported_again_adds_what_is_new(
    tmp_path: Path, run: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_import, "ORDERED_SPANS", 2)
    monkeypatch.setattr(span_import, "COMMIT_ROWS", 4)
    one = line(*range(1, 8), run=run)
    assert counts(take(tmp_path, one)[0]) == [(7, 0)]
    assert counts(take(tmp_path, one)[0]) == [(0, 7)]
    grown = one + line(1, 8, 9, 9, run=run)  # a retry of the Collector brings spans twice
    assert counts(take(tmp_path, grown)[0]) == [(2, 9)]
    assert numbers_in(tmp_path) == list(range(1, 10))
    (record,) = EventStore(tmp_path).run_records()
    assert record.kept == 9


def test_an_import_that_was_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    content = line(1, 2) + line(3, 4)
    script = """
import io, os, sys
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.otlp_file import OtlpFile
from fillpath.exporters.span_import import SpanImport
spans = SpanImport(EventStore(sys.argv[1]), run_id="run-1")
for resource in OtlpFile(io.BytesIO(sys.stdin.buffer.read())):
    spans.take(resource)
    spans.commit()
    os._exit(9)
"""
    command = [sys.executable, "-P", "-c", script, str(tmp_path)]
    killed = subprocess.run(command, input=content, check=False, capture_output=True, timeout=60)
    assert killed.returncode == 9, killed.stderr
    assert numbers_in(tmp_path) == [1, 2]
    assert catch_up(EventStore(tmp_path).folder) == {"run-1": "Crashed"}
    assert counts(take(tmp_path, content, run_id="run-1")[0]) == [(2, 2)]
    (record,) = EventStore(tmp_path).run_records()
    assert (record.status, record.kept, record.error) == ("Ended", 4, None)


def test_two_imports_at_once_do_not_double_a_span(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (SpanImport(EventStore(tmp_path), run_id="run-1") for _ in range(2))
    for spans in (first, second):
        for resource in OtlpFile(io.BytesIO(line(1, 2))):
            spans.take(resource)
    # The second has read which spans the run has, and is about to commit.
    commit = second._store.append_spans

    def late(*given: Any) -> None:
        first.finish()
        commit(*given)

    monkeypatch.setattr(second._store, "append_spans", late)
    with pytest.raises(FillpathError, match="Another import"):
        second.finish()
    assert numbers_in(tmp_path) == [1, 2]


# -- Damage ---------------------------------------------------------------------------------------


def test_what_is_whole_of_a_damaged_file_is_taken(tmp_path: Path) -> None:
    torn = line(3, 4)[:-30]  # a Collector was killed as it wrote, and the next one wrote on
    content = line(1) + torn + line(5) + b"\xff\xfe rubbish\n" + line(6) + b'{"resourceSpans": 5}\n'
    content += line(7) + line(8)[:-9]
    spans, source = take(tmp_path, content)
    assert numbers_in(tmp_path) == [1, 5, 6, 7]
    places = [damage.where for damage in source.damages]
    assert places[0] == "line 2"
    assert places[-1] == "line 7"
    assert "ends in the middle" in source.damages[-1].what
    assert counts(spans) == [(4, 0)]
    whole, _ = take(tmp_path, line(1) + line(3, 4) + line(8))
    assert counts(whole) == [(3, 1)]


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ('"no"', "resourceSpans is no list"),
        ("{}", "resourceSpans is no list"),
        ("false", "resourceSpans is no list"),
        ('[{"scopeSpans": "no"}]', "scopeSpans is no list"),
        ('[{"scopeSpans": {}}]', "scopeSpans is no list"),
        ('[{"scopeSpans": [{"spans": 0}]}]', "spans is no list"),
    ],
)
def test_a_wrong_type_where_spans_belong_is_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str, what: str
) -> None:
    file = tmp_path / "traces.json"
    file.write_bytes(line(1) + f'{{"resourceSpans":\n{wrong}}}\n'.encode() + line(2))
    words = ["import", str(file), "--run", "run-1", "--data", str(tmp_path)]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "line 3: " in said
    assert what in said
    assert numbers_in(tmp_path) == [1, 2]
    file.write_text('{"resourceSpans": null}')
    assert main(words) == 0


@pytest.mark.parametrize("cut", range(1, 320, 7))
def test_a_file_may_end_anywhere(cut: int) -> None:
    content = line(1) + line(2)
    source = OtlpFile(io.BytesIO(content[:-cut]))
    assert sum(len(resource.scopes[0].spans) for resource in source) == (1 if cut > 1 else 2)
    assert len(source.damages) == (cut > 1)
    binary = sdk_request().SerializeToString()
    source = OtlpFile(io.BytesIO(framed(binary) + framed(binary)[:-cut]))
    assert len(list(source)) == 1
    assert "ends in the middle" in source.damages[0].what
    assert source.damages[0].where == f"byte {len(binary) + 8}"


def test_damage_of_compressed_and_binary_files_is_told(tmp_path: Path) -> None:
    packed = gzip.compress(line(1) * 50)
    _, source = take(tmp_path, packed[:-20])
    assert [damage.where for damage in source.damages] == ["in the compressed bytes"]
    binary = sdk_request().SerializeToString()
    spans, source = take(tmp_path, framed(binary) + framed(b"\x0a\x03abc") + framed(binary))
    assert counts(spans)[-1] == (2, 2)
    assert [damage.where for damage in source.damages] == [f"message at byte {len(binary) + 4}"]


def test_a_span_that_cannot_be_carried_does_not_take_others_with_it(tmp_path: Path) -> None:
    given = document(1, 2, 3, 4, 5)
    bad = given["resourceSpans"][0]["scopeSpans"][0]["spans"]
    bad[0]["traceId"] = "xyz"
    bad[1]["spanId"] = "0" * 16
    bad[2]["endTimeUnixNano"] = str(1 << 63)
    bad[3]["startTimeUnixNano"] = "soon"
    spans, source = take(tmp_path, json.dumps(given).encode())
    assert numbers_in(tmp_path) == [5]
    assert (spans.failed, source.damages) == (4, [])
    assert any("beyond 64 bits" in reason for reason in spans.failures)


# -- The command ----------------------------------------------------------------------------------


def command(*words: str | Path, stdin: bytes | None = None) -> tuple[int, str, str]:
    script = "import sys; from fillpath.analytics.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *map(str, words)],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_the_command_says_what_it_took(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, damaged = tmp_path / "traces.json", tmp_path / "damaged.json"
    file.write_bytes(line(1, 2))
    damaged.write_bytes(line(1, 2, 3) + line(4)[:-9])
    assert main(["import", str(file), "--run", "run-1", "--json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)["files"]
    assert said["runs"] == [{"run_id": "run-1", "taken": 2, "known": 0}]
    assert main(["import", str(file), str(damaged), "--run", "run-1"]) == 1
    out, err = capsys.readouterr()
    assert [row.split()[-3:] for row in out.splitlines()[2:]] == [
        ["run-1", "0", "2"],
        ["run-1", "1", "2"],
    ]
    assert "damaged.json is damaged" in err
    assert "line 2: the file ends in the middle of a document" in err
    assert f"fillpath import {damaged}" in err
    assert main(["trace", "show", "ab" * 16]) == 0
    assert "work 3" in capsys.readouterr().out


def test_the_command_refuses_what_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("hello")
    assert main(["import", str(tmp_path / "none.json")]) == 5
    assert main(["import", str(tmp_path)]) == 2
    assert main(["import", str(other)]) == 2
    assert main(["import", "-", "-"]) == 2
    said = capsys.readouterr().err
    assert said.count("fillpath: ") == 4
    assert "is not OTLP: it begins with b'hello'" in said
    other.write_bytes(b"")
    assert main(["import", str(other)]) == 0
    assert "There are no spans" in capsys.readouterr().err


def test_spans_come_through_a_pipe(tmp_path: Path) -> None:
    code, out, err = command("--data", tmp_path, "import", "-", stdin=gzip.compress(line(1, 2)))
    assert (code, err) == (0, "")
    assert out.split()[-2:] == ["2", "0"]


# -- The Collector --------------------------------------------------------------------------------

CONFIG = """
receivers:
  otlp: {protocols: {http: {endpoint: "127.0.0.1:${env:OTLP_HTTP}"}}}
exporters:
  file/json: {path: "${env:FOLDER}/plain.jsonl"}
  file/proto: {path: "${env:FOLDER}/proto.bin", format: proto}
  file/zstd: {path: "${env:FOLDER}/packed.zst", compression: zstd}
  file/both: {path: "${env:FOLDER}/both.zst", compression: zstd, format: proto}
extensions:
  health_check: {endpoint: "127.0.0.1:${env:HEALTH}"}
service:
  extensions: [health_check]
  pipelines:
    traces: {receivers: [otlp], exporters: [file/json, file/proto, file/zstd, file/both]}
  telemetry: {metrics: {level: none}}
"""


def test_what_the_collector_writes_can_be_traced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "collector.yaml"
    config.write_text(CONFIG)
    with Collector(tmp_path, config, {"FOLDER": str(tmp_path)}) as collector:
        provider = TracerProvider(resource=Resource({"service.name": "signal-service"}))
        exporter = OTLPSpanExporter(endpoint=f"{collector.otlp_http}/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(exporter))
        tracer = provider.get_tracer("signals", "2.0")
        signal = {"trading.signal.name": "trend", "own": "kept"}
        with (
            tracer.start_as_current_span("GET /prices", kind=SpanKind.SERVER),
            tracer.start_as_current_span("publish SIGNAL", attributes=signal) as span,
        ):
            trace_id = f"{span.get_span_context().trace_id:032x}"
        provider.shutdown()
        assert collector.stop() == 0
    files = ["plain.jsonl", "proto.bin", "packed.zst", "both.zst"]
    seen = []
    for name in files:
        data = tmp_path / name.replace(".", "-")
        assert main(["--data", str(data), "import", str(tmp_path / name)]) == 0
        seen.append(rows(data))
    assert seen[0] == seen[1] == seen[2] == seen[3]
    capsys.readouterr()
    assert main(["--data", str(tmp_path / "plain-jsonl"), "trace", "show", trace_id]) == 0
    shown = capsys.readouterr().out
    assert shown.index("GET /prices") < shown.index("SIGNAL")
    assert json.loads(seen[0][1]["attributes"])["own"] == "kept"


def test_a_generators_load_goes_in_once(tmp_path: Path) -> None:
    """Many spans that are not ours, made by the Collector's own generator."""
    with Collector(tmp_path) as collector:
        address = collector.otlp_http.removeprefix("http://")
        subprocess.run(
            [
                program("telemetrygen"), "traces", "--otlp-insecure", "--otlp-http",
                "--otlp-endpoint", address, "--traces", "500", "--child-spans", "3", "--rate", "0",
                "--workers", "2",
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )  # fmt: skip
        assert collector.stop() == 0
    wanted = {(span["traceId"], span["spanId"]): span for span in collector.spans()}
    assert len(wanted) > 1000  # the generator drops what its queue has no place for
    content = collector.received.read_bytes()
    assert counts(take(tmp_path / "data", content)[0]) == [(len(wanted), 0)]
    assert counts(take(tmp_path / "data", content)[0]) == [(0, len(wanted))]
    found = rows(tmp_path / "data")
    assert {(row["trace_id"], row["span_id"]) for row in found} == wanted.keys()
    of_span = {row["span_id"]: row for row in found}
    children = [row for row in found if row["parent_span_id"] in of_span]
    assert len(children) > 500
    assert all(of_span[row["parent_span_id"]]["sequence"] < row["sequence"] for row in children)
