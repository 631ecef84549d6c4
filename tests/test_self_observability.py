"""fillpath tells of itself in OpenTelemetry metrics, and what it tells is what is in the lake."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from fillpath.exporters import otlp_metrics, process_metrics, writer_metrics
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.otlp_metrics import OtlpMetrics, Sent
from fillpath.exporters.writer import drain
from fillpath.exporters.writer_metrics import WriterMetrics
from fillpath.instrumentation import semconv
from fillpath.instrumentation.semconv import Event, Metric, Resource
from fillpath.instrumentation.settings import DataFolder, metrics_exporters
from fillpath.instrumentation.writer_files import HEARTBEAT_NAME, LOG_NAME

sys.path.append(str(Path(__file__).parent))

from real_backends import Collector, free_port, wait_until

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "self-observability.md"

Points = dict[tuple[str, ...], Any]
"""Numbers by metric's name and the values of its attributes."""

# A process has one MeterProvider for its life, so each host below is a process of its own.
HOST = """
import json, os, sys
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from fillpath.instrumentation import TracedEventBus, Tracing

reader = InMemoryMetricReader()
def listen():
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))

class Bus:
    def publish(self, event): pass

def trade(tracing, events):
    bar = tracing.tracer.emitter("BAR", symbol="AAPL", fields=["trading.bar.close"])
    order = tracing.tracer.emitter("ORDER", portfolio="fund/b", names=["trading.order.client_id"])
    bus = TracedEventBus(Bus(), tracing)
    for number in range(events):
        cause = bar(number, None, 1.5)
        if number % 10 == 0:
            order(number, cause, f"O-{number}")
            bus.publish({"type": "FILL", "portfolio": "fund/b"})
        if number % 25 == 0:
            with tracing.tracer.event("SIGNAL"):
                tracing.tracer.close(tracing.tracer.open("COMMAND"))

def settle(tracing):
    while tracing._recorder.waiting:  # a live host does not wait for the thread that writes
        tracing._recorder.flush()

def told():
    data = reader.get_metrics_data()
    found = []
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    value = getattr(point, "value", None)
                    value = point.count if value is None else value
                    found.append([metric.name, metric.unit, type(metric.data).__name__,
                                  sorted(point.attributes.items()), value])
    return found
"""


def host(script: str, data: Path, environment: Mapping[str, str] | None = None) -> Any:
    """Run a host in a process of its own; gives what it printed."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", HOST + script],
        env={**os.environ, "FILLPATH_DATA": str(data), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "null")


def points(told: list[Any]) -> Points:
    return {(name, *(value for _, value in given)): n for name, _, _, given, n in told}


def completeness(data: Path) -> list[dict[str, Any]]:
    return [row for run in EventStore(DataFolder(data)).run_records() for row in run.completeness]


def expected(rows: list[dict[str, Any]], name: str, what: str) -> Points:
    """Give what the lake says, in the form of `points`; attributes stand in order of their keys."""
    found: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        place = row["portfolio"], row["event_type"]
        if what == "dropped":
            for reason, number in row["dropped"].items():
                found[name, reason, *place] += number
        elif row[what]:
            found[name, *place] += row[what]
    return dict(found)


def of(name: str, found: Points) -> Points:
    return {key: value for key, value in found.items() if key[0] == name}


def test_attributes_stand_in_the_order_that_the_tests_here_rely_on() -> None:
    assert Metric.DROP_REASON < Event.TYPE < Resource.PORTFOLIO


@pytest.mark.smoke
def test_a_hosts_reader_sees_what_is_complete_in_the_lake(tmp_path: Path) -> None:
    script = """
listen()
with Tracing("run", writer="inline") as tracing:
    trade(tracing, 3000)
    tracing.tracer.lost("TICK")
print(json.dumps(told()))
"""
    found = points(host(script, tmp_path))
    rows = completeness(tmp_path)
    by = by_place(found)
    assert of(Metric.RECORDER_EVENTS, by) == expected(rows, Metric.RECORDER_EVENTS, "published")
    assert of(Metric.WRITER_KEPT, by) == expected(rows, Metric.WRITER_KEPT, "kept")
    dropped = {(Metric.RECORDER_DROPPED, "adapter_error", "TICK", "default"): 1}
    assert of(Metric.RECORDER_DROPPED, found) == dropped
    store = EventStore(DataFolder(tmp_path))
    ((spans,),) = store.query("SELECT count(*) FROM spans").rows
    assert found[Metric.WRITER_SPANS,] == found[Metric.LAKE_SPANS,] == spans
    assert found[Metric.WRITER_WRITTEN,] == store.facts()["spans"].bytes
    spool = sum(path.stat().st_size for path in (tmp_path / "spool" / "run").glob("*.spool"))
    assert found.get((Metric.RECORDER_WRITTEN,), 0) > 0
    assert spool in {0, found[Metric.RECORDER_WRITTEN,]}
    assert found[Metric.WRITER_COMMIT_DURATION,] == 1  # how often there was one


def by_place(found: Points) -> Points:
    """Give the numbers that have a type and a portfolio alone, in the order of `expected`."""
    return {
        (key[0], key[2], key[1]): number
        for key, number in found.items()
        if len(key) == 3 and number
    }


def test_events_that_a_live_host_drops_are_counted_by_reason(tmp_path: Path) -> None:
    script = """
listen()
with Tracing("run", mode="live", writer="none") as tracing:
    trade(tracing, 20_000)
    settle(tracing)
    while_it_runs = told()
print(json.dumps([while_it_runs, told()]))
"""
    during, after = (
        points(told) for told in host(script, tmp_path, {"FILLPATH_SPOOL_LIMIT": "200000"})
    )
    drain(DataFolder(tmp_path), "run")
    rows = completeness(tmp_path)
    lost = {
        (name, reason, portfolio, kind): number
        for (name, reason, kind, portfolio), number in of(Metric.RECORDER_DROPPED, after).items()
    }
    assert {reason for _, reason, *_ in lost} == {"spool_full"}
    assert lost == expected(rows, Metric.RECORDER_DROPPED, "dropped")
    by = by_place(after)
    assert of(Metric.RECORDER_EVENTS, by) == expected(rows, Metric.RECORDER_EVENTS, "published")
    assert during[Metric.SPOOL_LAG,] == during[Metric.RECORDER_WRITTEN,] > 200_000 * 0.9
    assert during[Metric.RECORDER_WAITING,] == 0
    assert (Metric.SPOOL_LAG,) not in after


def test_runs_of_one_process_add_up_and_a_forked_child_tells_nothing(tmp_path: Path) -> None:
    script = """
listen()
import warnings
warnings.simplefilter("ignore")
for number in range(2):
    with Tracing(f"run-{number}", writer="inline") as tracing:
        trade(tracing, 100)
        if number:
            pid = os.fork()
            if not pid:
                ours = [one for one in told() if one[0].startswith("fillpath.recorder")]
                os._exit(1 if any(value for *_, value in ours) else 0)
            status = os.waitpid(pid, 0)[1]
print(json.dumps([status, told()]))
"""
    status, told = host(script, tmp_path)
    assert status == 0
    by = by_place(points(told))
    rows = completeness(tmp_path)
    assert of(Metric.RECORDER_EVENTS, by) == expected(rows, Metric.RECORDER_EVENTS, "published")


def test_a_provider_that_comes_later_sees_all_but_earlier_events_of_emitters(
    tmp_path: Path,
) -> None:
    script = """
with Tracing("run", writer="none") as tracing:
    trade(tracing, 100)
    settle(tracing)
    listen()
    told()
    trade(tracing, 100)
    settle(tracing)
    print(json.dumps(told()))
"""
    found = of(Metric.RECORDER_EVENTS, points(host(script, tmp_path)))
    assert found[Metric.RECORDER_EVENTS, "SIGNAL", "default"] == 8
    assert found[Metric.RECORDER_EVENTS, "BAR", "default"] == 100


def test_without_a_provider_the_recorder_counts_no_sites(tmp_path: Path) -> None:
    script = """
with Tracing("run", writer="none") as tracing:
    trade(tracing, 100)
    print(json.dumps(tracing._recorder._places is None))
"""
    assert host(script, tmp_path) is True


# -- The writer process ---------------------------------------------------------------------------

METRICS_TO_A_FILE = """
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:${env:OTLP_GRPC}"}
      http: {endpoint: "127.0.0.1:${env:OTLP_HTTP}"}
exporters:
  file: {path: "${env:RECEIVED}", append: true, flush_interval: 100ms}
extensions:
  health_check: {endpoint: "127.0.0.1:${env:HEALTH}"}
service:
  extensions: [health_check]
  pipelines:
    metrics: {receivers: [otlp], exporters: [file]}
  telemetry: {metrics: {level: none}}
"""
LIVE = """
with Tracing("run", mode="live", lake_sampling="policy") as tracing:
    trade(tracing, 5000)
"""


def received(collector: Collector) -> tuple[Points, dict[str, str]]:
    """Give the newest numbers that a Collector has taken, and the resource they came from."""
    found: Points = {}
    resource: dict[str, str] = {}
    if not collector.received.is_file():
        return found, resource
    for line in collector.received.read_text().splitlines():
        try:
            request = json.loads(line)
        except ValueError:  # it is being written
            continue
        for group in request["resourceMetrics"]:
            resource = {
                one["key"]: one["value"].get("stringValue", "")
                for one in group["resource"]["attributes"]
            }
            for scope in group["scopeMetrics"]:
                for metric in scope["metrics"]:
                    kind = next(metric[k] for k in ("sum", "gauge", "histogram") if k in metric)
                    for point in kind["dataPoints"]:
                        given = {
                            one["key"]: one["value"]["stringValue"]
                            for one in point.get("attributes", ())
                        }
                        values = (given[key] for key in sorted(given))
                        number = point.get("asInt", point.get("count"))
                        found[metric["name"], *values] = int(number)
    return found, resource


def test_the_writers_numbers_arrive_in_the_collector_and_are_the_lakes(tmp_path: Path) -> None:
    config = tmp_path / "metrics.yaml"
    config.write_text(METRICS_TO_A_FILE)
    data = tmp_path / "data"
    with Collector(tmp_path, config) as collector:
        environment = {
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{collector.otlp_http}/v1/metrics",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
            "OTEL_METRIC_EXPORT_INTERVAL": "300",
            "OTEL_SERVICE_NAME": "my-backtest",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        }
        host(LIVE, data, environment)
        rows = completeness(data)
        ((spans,),) = EventStore(DataFolder(data)).query("SELECT count(*) FROM spans").rows
        wait_until(
            lambda: received(collector)[0].get((Metric.LAKE_SPANS,)) == spans,
            "the writer's numbers are in the Collector",
        )
        found, resource = received(collector)
    by = by_place(found)
    assert of(Metric.WRITER_KEPT, by) == expected(rows, Metric.WRITER_KEPT, "kept")
    sampled_out = expected(rows, Metric.WRITER_SAMPLED_OUT, "sampled_out")
    assert of(Metric.WRITER_SAMPLED_OUT, by) == sampled_out != {}
    assert found[Metric.WRITER_SPANS,] == spans
    assert found[Metric.WRITER_WRITTEN,] == EventStore(DataFolder(data)).facts()["spans"].bytes
    assert found[Metric.WRITER_COMMIT_DURATION,] >= 1
    assert found[Metric.SPOOL_LAG,] == 0
    assert resource[Resource.SERVICE_NAME] == "fillpath-writer"
    assert resource["deployment.environment.name"] == "test"


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "DEAD"},
        {"OTEL_METRICS_EXPORTER": "nobody_has_this,console"},
    ],
    ids=["dead endpoint", "unknown exporter"],
)
def test_the_writer_does_its_work_when_its_numbers_cannot_go_anywhere(
    environment: dict[str, str], tmp_path: Path
) -> None:
    dead = f"http://127.0.0.1:{free_port()}/v1/metrics"
    given = {name: dead if value == "DEAD" else value for name, value in environment.items()}
    given["OTEL_EXPORTER_OTLP_METRICS_HEADERS"] = "api-key=canary-4711"
    host(LIVE, tmp_path, given)
    assert sum(row["published"] for row in completeness(tmp_path)) > 5000
    began = time.monotonic()
    heartbeat = tmp_path / "spool" / HEARTBEAT_NAME
    wait_until(lambda: not heartbeat.exists(), "the writer leaves")
    assert time.monotonic() - began < 10
    log = (tmp_path / "spool" / LOG_NAME).read_text()
    assert "canary-4711" not in log
    if "nobody_has_this" in given["OTEL_METRICS_EXPORTER"]:
        assert "nobody_has_this" in log
        wait_until(
            lambda: Metric.WRITER_KEPT in (tmp_path / "spool" / LOG_NAME).read_text(),
            "the console has the numbers",
        )


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, []),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, []),
        ({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, ["otlp"]),
        ({"OTEL_METRICS_EXPORTER": " Console, prometheus ,"}, ["console", "prometheus"]),
        ({"OTEL_METRICS_EXPORTER": "none"}, []),
        ({"OTEL_METRICS_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}, []),
    ],
)
def test_nothing_is_published_unless_the_environment_says_where(
    environment: dict[str, str], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert metrics_exporters() == names
    if not names:
        monkeypatch.setattr(process_metrics, "_provider", pytest.fail)
        with process_metrics.process_metrics("fillpath-writer"):
            pass


# -- The numbers themselves -----------------------------------------------------------------------


def read(reader: InMemoryMetricReader) -> list[Any]:
    data = reader.get_metrics_data()
    return [
        [
            metric.name,
            metric.unit,
            type(metric.data).__name__,
            sorted((point.attributes or {}).items()),
            getattr(point, "value", getattr(point, "count", None)),
        ]
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]


def test_a_sender_of_otlp_has_a_place_for_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(otlp_metrics, "meter_if_wanted", lambda: provider.get_meter("fillpath"))
    sender = OtlpMetrics()
    sender.register()
    sender.register()
    there, elsewhere = "https://collector:4318/v1/traces", "https://other:4318/v1/traces"
    sender.reached("one", there, Sent(10, 0, 500))
    sender.reached("one", there, Sent(30, 2, 100))
    sender.reached("two", there, Sent(5, 0, 0))
    sender.reached("two", elsewhere, Sent(7, 0, 9))
    sender.retries(there, TimeoutError())
    sender.answered(there, 0.25)
    found = points(read(reader))
    assert found == {
        (Metric.OTLP_SENT, there): 35,
        (Metric.OTLP_SENT, elsewhere): 7,
        (Metric.OTLP_REJECTED, there): 2,
        (Metric.OTLP_REJECTED, elsewhere): 0,
        (Metric.OTLP_WAITING, there): 100,
        (Metric.OTLP_WAITING, elsewhere): 9,
        (Metric.OTLP_RETRIES, "TimeoutError", there): 1,
        (Metric.OTLP_REQUEST_DURATION, there): 1,
    }
    provider.shutdown()


def test_durations_are_told_apart_from_a_millisecond_to_a_minute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    for module in (otlp_metrics, writer_metrics):
        monkeypatch.setattr(module, "meter_if_wanted", lambda: provider.get_meter("fillpath"))
    sender, writer = OtlpMetrics(), WriterMetrics()
    sender.register()
    writer.register()
    sender.answered("https://collector:4318/v1/traces", 0.25)
    writer.committed(DataFolder(tmp_path), 1, 1, 0.25)
    data = reader.get_metrics_data()
    assert data is not None
    points = {
        metric.name: metric.data.data_points[0]
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }
    for name in (Metric.OTLP_REQUEST_DURATION, Metric.WRITER_COMMIT_DURATION):
        point = points[name]
        assert isinstance(point, HistogramDataPoint)
        bounds = point.explicit_bounds
        assert (bounds[0], bounds[-1], len(bounds)) == (0.001, 60, 15)
    provider.shutdown()


def test_errors_of_the_writer_are_counted_by_their_type() -> None:
    numbers = WriterMetrics()
    for error in (OSError(), OSError(), ValueError()):
        numbers.failed(error)
    assert list(numbers._all_errors()) == [
        (2, {"error.type": "OSError"}),
        (1, {"error.type": "ValueError"}),
    ]


def test_the_page_names_every_metric_with_its_instrument_and_unit(tmp_path: Path) -> None:
    script = """
from fillpath.exporters.otlp_metrics import OTLP_METRICS, Sent
from fillpath.exporters.writer_metrics import WRITER_METRICS
listen()
with Tracing("run", writer="inline") as tracing:
    OTLP_METRICS.register()
    trade(tracing, 30)
    tracing.tracer.lost("TICK")
    before = told()
WRITER_METRICS.failed(OSError())
WRITER_METRICS.counted("x", [{"portfolio": "a", "event_type": "BAR", "kept": 1, "sampled_out": 1,
                              "dropped": {"crash": 1}}], over=True)
OTLP_METRICS.reached("run", "d", Sent(1, 1, 1))
OTLP_METRICS.retries("d", OSError())
OTLP_METRICS.answered("d", 1.0)
print(json.dumps(before + told()))
"""
    kinds = {"Sum": "counter", "Gauge": "gauge", "Histogram": "histogram"}
    made = {
        (name, kinds[kind], unit, tuple(key for key, _ in given))
        for name, unit, kind, given, _ in host(script, tmp_path)
    }
    rows = re.findall(
        r"(?m)^\| `(fillpath[\w.]+)` \| (\w+) \| `(\S+)` \| (.*?) \|", PAGE.read_text()
    )
    told = {
        (name, kind, unit, tuple(sorted(re.findall(r"`(\S+?)`", keys))))
        for name, kind, unit, keys in rows
    }
    assert told == made
    attributes = {Metric.DROP_REASON, Metric.DESTINATION}
    names = {value for key, value in vars(semconv.Metric).items() if key.isupper()}
    assert {name for name, *_ in told} == names - attributes
