"""`fillpath otlp` sends a run again, and says what is where."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from fillpath.analytics.cli import main
from fillpath.analytics.otlp_checks import check_otlp
from fillpath.analytics.otlp_command import parse_since
from fillpath.exporters.otlp_replay import Since
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.errors import (
    EXIT_CHECK_FAILED,
    EXIT_NOT_FOUND,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    FillpathError,
    UsageError,
)
from fillpath.instrumentation.forwarder_files import Forwarding
from fillpath.instrumentation.semconv import EventType
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from real_backends import free_port


class Service(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans by gRPC; rejects as many of each request as it is told to."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.rejects = 0

    def Export(  # noqa: N802 - the service's definition names it so
        self, request: ExportTraceServiceRequest, _: Any
    ) -> ExportTraceServiceResponse:
        self.ids += [
            span.span_id.hex()
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        response = ExportTraceServiceResponse()
        if self.rejects:
            response.partial_success.rejected_spans = self.rejects
            response.partial_success.error_message = "not these"
        return response


@pytest.fixture
def service() -> Iterator[tuple[Service, str]]:
    """Give a receiver and its endpoint."""
    made = Service()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    register: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    register(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield made, f"http://127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture
def run(tmp_path: Path) -> str:
    """Record a run of one order and many ticks; gives the data folder."""
    with Tracing("run-7", data=tmp_path / "data", writer="inline") as tracing:
        tracer = tracing.tracer
        for number in range(200):
            tracer.close(tracer.open(EventType.TICK, symbol="A", event_time=number))
        tracer.close(tracer.open(EventType.ORDER, symbol="A"))
    return str(tmp_path / "data")


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    code = main(words)
    written = capsys.readouterr()
    return code, json.loads(written.out) if written.out else None, written.err


def test_a_replay_sends_the_same_ids_every_time(
    capsys: pytest.CaptureFixture[str], service: tuple[Service, str], run: str
) -> None:
    receiver, endpoint = service
    words = ["otlp", "replay", "run", "--data", run, "--endpoint", endpoint, "--json"]
    sent = []
    for _ in range(2):
        receiver.ids = []
        code, told, _ = call(capsys, *words)
        assert code == 0
        assert told["sent"] == told["ids"] == told["selected"] == len(receiver.ids)
        assert told["destination"].startswith(endpoint)
        assert (told["rejected"], told["refused"], told["skipped"]) == (0, 0, 0)
        sent.append(receiver.ids)
    assert sent[0] == sent[1]
    assert 0 < len(sent[0]) < 50
    code, told, said = call(capsys, *words, "--missing")
    assert (code, told["sent"], told["skipped"]) == (0, 0, len(sent[0]))
    assert f"{len(sent[0])} spans of the sampled set were there already" in said
    code, told, said = call(capsys, *words, "--missing", "--all")
    assert (code, told["sent"], told["skipped"]) == (0, 201 - len(sent[0]), len(sent[0]))
    assert f" traces were sent, {len(sent[0])} were there" in said
    code, told, _ = call(capsys, *words, "--all")
    assert (code, told["sent"]) == (0, 201)


def test_status_says_what_every_endpoint_has(
    capsys: pytest.CaptureFixture[str], service: tuple[Service, str], run: str
) -> None:
    assert call(capsys, "otlp", "status", "--data", run, "--json") == (0, [], "")
    _, endpoint = service
    sending = ["otlp", "replay", "latest", "--data", run, "--endpoint", endpoint]
    assert main([*sending, "--since", "195"]) == 0
    capsys.readouterr()
    _, (one,), _ = call(capsys, "otlp", "status", "latest", "--data", run, "--json")
    assert one["selected"] == one["acknowledged"] + one["waiting"]
    assert one["waiting"] > 0
    assert main(sending) == 0
    capsys.readouterr()
    for words in (["latest"], []):
        _, (one,), _ = call(capsys, "otlp", "status", *words, "--data", run, "--json")
        assert (one["state"], one["waiting"], one["rejected"]) == ("ended", 0, 0)
        assert one["acknowledged"] == one["selected"]
    assert main(["otlp", "status", "--data", run]) == 0
    assert re.search(r"run-7 .*sampled.* ended", capsys.readouterr().out)


def test_spans_that_are_rejected_are_a_failed_check(
    capsys: pytest.CaptureFixture[str], service: tuple[Service, str], run: str
) -> None:
    receiver, endpoint = service
    receiver.rejects = 2
    code, told, said = call(
        capsys, "otlp", "replay", "run-7", "--data", run, "--endpoint", endpoint, "--json"
    )
    assert code == EXIT_CHECK_FAILED
    assert (told["rejected"], told["ids"]) == (2, told["sent"] - 2)
    assert "not these" in said


def test_an_endpoint_that_is_not_there_is_told_of_with_what_to_do(
    capsys: pytest.CaptureFixture[str], run: str
) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    words = ["otlp", "replay", "run-7", "--data", run, "--endpoint", endpoint, "--patience", "0"]
    code, _, said = call(capsys, *words)
    assert code == EXIT_UNREACHABLE
    assert endpoint in said
    _, (one,), _ = call(capsys, "otlp", "status", "run-7", "--data", run, "--json")
    assert (one["state"], one["acknowledged"]) == ("gave_up", 0)
    assert endpoint in one["error"]


@pytest.mark.parametrize("own", ["command", "forwarder"])
def test_grpc_says_nothing_besides_unless_the_user_wants_it(
    service: tuple[Service, str], run: str, own: str
) -> None:
    words = {
        "command": ["analytics.cli", "otlp", "replay", "run-7", "--patience", "0"],
        "forwarder": ["exporters", "--forward", "run-7"],
    }[own]
    environment = {
        **os.environ,
        # It does not speak TLS.
        "OTEL_EXPORTER_OTLP_ENDPOINT": service[1].replace("http:", "https:"),
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "FILLPATH_OTLP_PATIENCE": "0",
    }
    environment.pop("GRPC_VERBOSITY", None)
    said = [
        subprocess.run(
            [sys.executable, "-P", "-m", f"fillpath.{words[0]}", *words[1:], "--data", run],
            env={**environment, **asked},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        ).stderr
        for asked in ({}, {"GRPC_VERBOSITY": "INFO"})
    ]
    assert ["ssl_transport_security" in text for text in said] == [False, True], said


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["nothing", "--endpoint", "http://127.0.0.1:1"], EXIT_NOT_FOUND),
        (["latest", "--endpoint", "nonsense://x"], EXIT_USAGE),
        (["latest", "--endpoint", "http://127.0.0.1:1", "--since", "soon"], EXIT_USAGE),
        (["latest", "--protocol", "smoke"], EXIT_USAGE),
    ],
)
def test_what_makes_no_sense_is_refused(
    capsys: pytest.CaptureFixture[str], run: str, words: list[str], code: int
) -> None:
    assert main(["otlp", "replay", "--data", run, *words]) == code
    assert capsys.readouterr().err


def test_status_can_wait_until_a_run_is_sent(capsys: pytest.CaptureFixture[str], run: str) -> None:
    spool = DataFolder(Path(run)).spool / "run-7"
    going = Forwarding(os.getpid(), destination="http://there:4317", acknowledged=3)
    going.write(spool)
    timer = threading.Timer(0.5, lambda: going.become("ended").write(spool))
    timer.start()
    began = time.monotonic()
    words = ["otlp", "status", "latest", "--wait", "20", "--data", run, "--json"]
    _, (one,), _ = call(capsys, *words)
    assert 0.4 < time.monotonic() - began < 10
    assert (one["run_id"], one["destination"], one["state"]) == (
        "run-7", "http://there:4317", "ended"
    )  # fmt: skip


def test_doctor_tells_where_spans_go_and_which_have_not_arrived(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataFolder(Path(run))
    (nothing,) = check_otlp(data)
    assert nothing.outcome == "skipped"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://there:4317")
    spool = data.spool / "run-7"
    dead = Forwarding(1 << 22, 5, "http://there:4317/", selected=9, acknowledged=4)
    why = FillpathError("It does not answer.", next_command="fillpath otlp replay run-7 --missing")
    for found, outcome, words in (
        (dead, "warning", "is gone; 4 of 9 spans are at http://there:4317/"),
        (dead.become("gave_up", why), "warning", "It does not answer"),
        (replace(dead, selected=0, destination=""), "warning", "is gone; no span of it was sent"),
        (dead.become("ended"), "passed", "1 run was sent as a whole"),
    ):
        found.write(spool)
        endpoint, one = check_otlp(data)
        assert (endpoint.outcome, one.outcome) == ("passed", outcome)
        assert "http://there:4317" in endpoint.finding
        assert words in one.finding
        if outcome == "warning":
            assert one.advice == "fillpath otlp replay run-7 --missing"
    for state in ("following", "left"):
        everything = dataclasses.replace(dead, selection="all").become(state)
        everything.write(spool)
        _, one = check_otlp(data)
        assert one.advice == "fillpath otlp replay run-7 --missing --all"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke")
    assert next(iter(check_otlp(data))).outcome == "failed"


def test_since_takes_times_ages_and_sequences() -> None:
    at = 1_772_357_400_000_000_000
    assert parse_since("5000") == Since(sequence=5000)
    assert parse_since(str(at)) == Since(time=at)
    assert parse_since("2026-03-01T09:30") == Since(time=at)
    assert parse_since("2026-03-01T10:30:00.000001+01:00") == Since(time=at + 1000)
    age = parse_since("10m")
    assert age.time is not None
    for wrong in ("", "soon", "-5", "10q"):
        with pytest.raises(UsageError, match="--since"):
            parse_since(wrong)
