"""The shipped configuration of the Collector, run by the real one between fillpath and Jaeger."""

from __future__ import annotations

import io
import itertools
import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
    OTLPMetricExporter as GrpcMetricExporter,
)
from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
    OTLPMetricExporter as HttpMetricExporter,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status, TracesData
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource as SdkResource

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.otlp_encoder import OtlpEncoder
from fillpath.exporters.otlp_json import write_otlp_json
from fillpath.exporters.span_selection import SpanSelection
from fillpath.instrumentation import identity, semconv
from fillpath.instrumentation.semconv import (
    Account,
    Event,
    EventType,
    Metric,
    Order,
    Resource,
    Trading,
)
from fillpath.instrumentation.tracing import Tracing

sys.path.append(str(Path(__file__).parent))

from real_backends import Jaeger, program, wait_until
from recorded_market import Market
from shipped_collector import (
    CONFIG,
    ShippedCollector,
    attributes,
    spans_in_jaeger,
    spans_of,
    spans_of_json,
    trace_ids,
)

SOON = "--set=connectors.span_metrics.metrics_flush_interval=300ms"
MOMENT = time.time_ns()
Spans = dict[str, tuple[Any, Span]]


def record(data: Path, run_id: str, portfolio: str, trades: int) -> None:
    """Record a run of two strategies, with an order that was denied and a handler that failed."""
    with Tracing(run_id, data=data, writer="inline") as tracing:
        for strategy, symbol in (("Trend-1", "ACME"), ("Range-2", "EURUSD")):
            market = Market(tracing, portfolio, strategy, symbol)
            for _ in range(trades):
                market.trade(others=1)
            market.deny(market.bar("98"), "more than 1,000,000")
            failing = market.bar("97")
            tracing.tracer.close(failing, error=ZeroDivisionError("no volume"))
            market.seen.remove(failing)
            market.finish()


def requests_of(data: Path, run_id: str, max_spans: int = 1000) -> list[bytes]:
    """Encode a run of the lake."""
    batches = SpanSelection(EventStore(data), run_id).batches()
    return list(OtlpEncoder(max_spans=max_spans).encode(batches))


def value(thing: Any) -> AnyValue:
    if isinstance(thing, list):
        return AnyValue(array_value=ArrayValue(values=[value(one) for one in thing]))
    kinds = {str: "string_value", int: "int_value", float: "double_value"}
    return AnyValue(**{kinds[type(thing)]: thing})


def pairs(things: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(thing)) for key, thing in things.items()]


def span(run: str, sequence: int, root: int | None = None, **parts: Any) -> Span:
    """Make a span with ids such as fillpath's; it is its trace's root unless another is named."""
    key = identity.run_key(run)
    return Span(
        trace_id=identity.trace_id(key, root or sequence).to_bytes(16, "big"),
        span_id=identity.span_id(key, sequence).to_bytes(8, "big"),
        parent_span_id=identity.span_id(key, root).to_bytes(8, "big") if root else b"",
        attributes=pairs(parts.pop("attributes", {})),
        **{
            "name": "publish SIGNAL",
            "kind": Span.SpanKind.SPAN_KIND_PRODUCER,
            "start_time_unix_nano": MOMENT,
            "end_time_unix_nano": MOMENT + 20_000,
            **parts,
        },
    )


def request(service: str, *spans: Span, **resource: Any) -> bytes:
    traces = TracesData()
    group = traces.resource_spans.add()
    group.resource.attributes.extend(pairs({"service.name": service, **resource}))
    group.scope_spans.add().spans.extend(spans)
    whole = ExportTraceServiceRequest(resource_spans=traces.resource_spans)
    return bytes(whole.SerializeToString())


def arrived(jaeger: Jaeger, sent: Spans, count: int | None = None) -> Spans:
    """Wait until Jaeger has as many spans as were sent; gives what it has of their traces."""
    ids = trace_ids(sent)

    def there() -> Spans | None:
        found = spans_in_jaeger(jaeger, ids)
        return found if len(found) >= (count or len(sent)) else None

    return wait_until(there, f"Jaeger does not have {len(sent)} spans")  # type: ignore[no-any-return]


def as_jaeger_has_it(sent: Spans) -> Spans:
    """Add the one attribute that the configuration adds: what Jaeger tells machines apart by."""
    return {
        key: (
            {"ip": resource["host.name"], **resource} if "host.name" in resource else resource,
            one,
        )
        for key, (resource, one) in sent.items()
    }


def validated(config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("otelcol"), "validate", "--config", config, *options],
        capture_output=True,
        text=True,
        check=False,
    )


def switched_on(folder: Path, *examples: str, instead: str = "") -> Path:
    """Write the configuration as a user would who takes the `# ` away from some of its lines."""
    lines: list[str] = []
    wanted = set(examples)
    for line in CONFIG.read_text().splitlines():
        if line.strip() == instead:
            continue
        bare = re.sub(r"^( *)# ", r"\1", line)
        if bare != line and bare.strip() in wanted:
            wanted.remove(bare.strip())
            lines.append(bare)
        else:
            lines.append(line)
    assert not wanted, f"the configuration has no example {wanted}"
    config = folder / "changed.yaml"
    config.write_text("\n".join(lines))
    return config


@dataclass
class Running:
    """What most tests share; `raw` is what the Collector took, as OTLP JSON."""

    jaeger: Jaeger
    collector: ShippedCollector
    data: Path
    raw: Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("collector")
    # A second way out shows what the Collector took, before it did anything with it.
    raw = folder / "raw.jsonl"
    second = folder / "second.yaml"
    second.write_text(
        f"exporters: {{file: {{path: {raw}}}}}\n"
        "service: {pipelines: {traces/raw: {receivers: [otlp], exporters: [file]}}}\n"
    )
    jaeger = Jaeger(folder)
    collector = ShippedCollector(folder, jaeger, options=["--config", str(second), SOON])
    with jaeger, collector:
        yield Running(jaeger, collector, folder / "data", raw)


@pytest.fixture(scope="module")
def market(running: Running) -> Spans:
    """Two runs that were recorded and sent, by gRPC and by HTTP."""
    requests: list[bytes] = []
    for run_id, protocol, portfolio in (
        ("by-grpc", "grpc", "fund/equities"),
        ("by-http", "http/protobuf", "fund/fx"),
    ):
        record(running.data, run_id, portfolio, trades=3)
        for one in requests_of(running.data, run_id):
            running.collector.send(one, protocol)
            requests.append(one)
    return spans_of(requests)


def test_the_configuration_is_valid_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTELCOL_QUEUE_FOLDER", str(tmp_path / "queue"))
    done = validated(CONFIG)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_memory_limiter_comes_first_and_the_labels_are_our_words() -> None:
    shown = subprocess.run(
        [
            program("otelcol"),
            "print-config",
            "--format=json",
            "--config",
            CONFIG,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    config = json.loads(shown.stdout)
    pipelines = config["service"]["pipelines"]
    receiving = [one for one in pipelines.values() if one["receivers"] == ["otlp"]]
    assert len(receiving) == 3
    assert {one["processors"][0] for one in receiving} == {"memory_limiter"}
    labels = [one["name"] for one in config["connectors"]["span_metrics"]["dimensions"]]
    assert labels == [Event.TYPE, Trading.STRATEGY, Resource.PORTFOLIO]


@pytest.mark.smoke
def test_spans_reach_jaeger_by_both_protocols_as_they_are_in_the_lake(
    running: Running, market: Spans
) -> None:
    (row,) = EventStore(running.data).query("select count(*) from spans").rows
    assert row == (len(market),)
    assert arrived(running.jaeger, market) == as_jaeger_has_it(market)


def test_an_exported_document_is_taken_like_the_spans_themselves(running: Running) -> None:
    record(running.data / "exported", "exported", "exported", trades=1)
    selection = SpanSelection(EventStore(running.data / "exported"), "exported")
    document = io.StringIO()
    write_otlp_json(selection.batches(), document, {})
    post = urllib.request.Request(  # noqa: S310 - it is http
        f"{running.collector.otlp_http}/v1/traces",
        document.getvalue().encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(post, timeout=20) as answer:  # noqa: S310 - it is http
        assert json.load(answer) == {"partialSuccess": {}}
    sent = spans_of(OtlpEncoder().encode(selection.batches()))
    for _, one in sent.values():
        for part in (one, *one.links):
            part.ClearField("flags")  # a document does not say whether a parent is in this process
    assert arrived(running.jaeger, sent) == as_jaeger_has_it(sent)


def test_metrics_of_spans_equal_the_lake(running: Running, market: Spans) -> None:
    kinds = """
        select coalesce(event_type, ''), coalesce(strategy, ''), portfolio, name,
            coalesce(status_code, 'UNSET'), count(*), sum(duration),
            count(*) filter (where duration <= 100000)
        from spans group by all
    """
    lake = {
        tuple(row[:5]): (row[5], float(row[6]), row[7])
        for row in EventStore(running.data).query(kinds).rows
    }
    assert {key[4] for key in lake} == {"UNSET", "ERROR"}
    assert {key[1] for key in lake} == {"", "Trend-1", "Range-2"}
    assert {key[2] for key in lake} == {"fund/equities", "fund/fx"}

    def measured(name: str, **further: str) -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for labels, count in running.collector.metrics().get(name, []):
            if not labels.get("trading_portfolio_namespace", "").startswith("fund/"):
                continue
            if any(labels[label] != word for label, word in further.items()):
                continue
            key = (
                labels["trading_event_type"],
                labels.get("trading_strategy_id", ""),
                labels["trading_portfolio_namespace"],
                labels["span_name"],
                labels["status_code"].removeprefix("STATUS_CODE_"),
            )
            assert key not in found, "two series for one combination"
            found[key] = count
        return found

    calls = "traces_span_metrics_calls_total"
    wait_until(lambda: sum(measured(calls).values()) >= len(market), "the metrics do not come", 20)
    seconds = "traces_span_metrics_duration_seconds"
    assert measured(calls) == {key: row[0] for key, row in lake.items()}
    assert measured(f"{seconds}_count") == {key: row[0] for key, row in lake.items()}
    assert measured(f"{seconds}_bucket", le="0.0001") == {key: row[2] for key, row in lake.items()}
    assert measured(f"{seconds}_sum") == pytest.approx(
        {key: row[1] / 1e9 for key, row in lake.items()}
    )


def test_metrics_of_spans_name_no_run(running: Running, market: Spans) -> None:
    wait_until(running.collector.metrics, "no metrics", 20)
    for labels, _ in running.collector.metrics()["traces_span_metrics_calls_total"]:
        assert not {"by-grpc", "by-http"} & set(labels.values()), labels
        assert "instance" not in labels


def test_points_of_a_metric_lead_to_traces(running: Running) -> None:
    sequences = itertools.count(1)

    def is_named() -> bool:
        # A point names the traces that came since the last time it was made, so there are new ones.
        one = span("pointed", next(sequences))
        running.collector.send(request("pointed", one))
        return f"{identity.run_key('pointed'):x}" in running.collector.open_metrics()

    wait_until(is_named, "no metric names a trace that was sent")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_metrics_of_fillpath_itself_reach_prometheus(running: Running, protocol: str) -> None:
    exporter: Any = (
        GrpcMetricExporter(endpoint=running.collector.otlp_grpc, insecure=True)
        if protocol == "grpc"
        else HttpMetricExporter(endpoint=f"{running.collector.otlp_http}/v1/metrics")
    )
    provider = MeterProvider(
        [PeriodicExportingMetricReader(exporter)],
        SdkResource({"service.name": "my_backtest", "service.namespace": "fillpath"}),
    )
    counter = provider.get_meter("fillpath").create_counter(f"fillpath.{protocol}.events")
    counter.add(41, {Resource.PORTFOLIO: "fund/fx", "api_key": "abc"})
    provider.shutdown()
    name = f"fillpath_{protocol}_events_total"
    found = wait_until(lambda: running.collector.metrics().get(name), "the metric does not come")
    ((labels, count),) = found
    assert count == 41
    assert labels["trading_portfolio_namespace"] == "fund/fx"
    assert labels["api_key"] == "****"
    assert labels["job"] == "fillpath/my_backtest"


CARD = "4111111111111111"
SECRETS = {
    "password": ("hunter2", "****"),
    "db.password": ("hunter2", "****"),
    "broker.api_key": ("abc", "****"),
    "BROKER_API_KEY": ("abc", "****"),
    "aws.secret_access_key": ("abc", "****"),
    "http.request.header.authorization": (["Basic eA=="], "****"),
    "auth_token": ("abc", "****"),
    "account.number": (12345678, "****"),
    "exception.message": (
        "cannot log in at wss://joe:hunter2@broker.example/ws?token=0a1b2c3d4e5f6g7h as joe",
        "cannot log in at wss****broker.example/ws?t**** as joe",
    ),
    "url.full": (
        "https://api.example/order?symbol=BTC&signature=c0ffee&timestamp=17",
        "https://api.example/order?symbol=BTC&s****&timestamp=17",
    ),
    "db.connection": ("postgresql://u:p@db/results", "postgresql****db/results"),
    "environment": (
        "BROKER_PASSWORD=abc API_KEY=abc secret_key: abc SECRET_KEY: abc accessKey=abc",
        "BROKER_P**** A**** s**** S**** a****",
    ),
    "request": ('{"apiKey": "abc", "side": "BUY"}', '{"a****", "side": "BUY"}'),
    "header": ("Authorization: Bearer abcdefgh.ijklmnop", "Authorization: ****"),
    "basic": ("Basic dXNlcjpwYXNz", "****"),
    "jwt": ("eyJhbGciOiJI.eyJzdWIiOiIx.abc-_", "****"),
    "aws": ("key AKIAIOSFODNN7EXAMPLE!", "key ****!"),
    "github": ("ghp_0123456789abcdefghij", "****"),
    "slack": ("xoxb-0123456789-abc", "****"),
    "stripe": ("sk_live_0123456789abcdef", "****"),
    "exchange": ("k" * 64, "****"),
    "pem": ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- end", "**** end"),
    "card": (f"paid with {CARD}.", "paid with****."),
    "cards": ("4111 1111 1111 1111 or 3782-822463-10005", "**** or****"),
    "card.as.integer": (int(CARD), "****"),
    "iban": ("to GB82 WEST 1234 5698 7654 32 today", "****"),
    "note": ("to GB82 WEST 1234 5698 7654 32 today", "to **** today"),
    "note.fr": ("to FR14 2004 1010 0505 0001 3M02 606, please", "to ****, please"),
    "notes": (["fine", "to DE89370400440532013000"], '["fine","to ****"]'),
    "ib": ("order for DU1234567 refused", "order for **** refused"),
    Account.ID: ("IB-U1234567", "IB-****"),
    Order.REJECT_REASON: (f"no funds on {CARD}", "no funds on****"),
}
HARMLESS = {
    "probability": 0.4111111111111111,
    "features": "[0.4111111111111111, 0.5222222222222222]",
    "small": 4.111111111111111e-05,
    "time": 1_700_000_000_000_000_000,
    "text": "basic trend, token of trust; secret garden; bearer of news; 4111-1111",
    "token.symbol": "WETH",
    "rule": "risk-adjusted-position-sizing, task-0123456789abcdef",
    "uuid": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
    "UUID": "DE9619FF-8B86-D011-B42D-00C04FC964FF",
    "ids": ["4bf92f3577b34da6a3ce929d0e0e4736", "O-20240102-093000-001-000-1"],
    "isin": "US0378331005",
    "occ": "FB240119C00190000",
    "url.path": "/api/v3/order?symbol=BTCUSDT&side=BUY&quantity=0.41111111",
    "digest": "d41d8cd98f00b204e9800998ecf8427e",
    "metrics": "input_tokens: 100",
}


def test_secrets_are_masked_wherever_they_are(running: Running) -> None:
    text = "connect to redis://:hunter2@cache failed"
    one = span(
        "secrets",
        1,
        name=f"GET {text}",
        status=Status(code=Status.StatusCode.STATUS_CODE_ERROR, message=text),
        attributes={key: thing for key, (thing, _) in SECRETS.items()} | HARMLESS,
        events=[Span.Event(name="exception", attributes=pairs({"exception.message": text}))],
    )
    body = request("secrets", one, api_key="abc", **{"deployment.note": text})
    running.collector.send(body)
    ((resource, found),) = arrived(running.jaeger, spans_of([body])).values()
    masked = "connect to redis****cache failed"
    expected = {key: shown for key, (_, shown) in SECRETS.items()} | HARMLESS
    assert attributes(found) == expected
    assert found.name == f"GET {masked}"
    assert found.status.message == masked
    assert attributes(found.events[0]) == {"exception.message": masked}
    assert resource == {"service.name": "secrets", "api_key": "****", "deployment.note": masked}
    # Nowhere on disk either: what waits in the queue went through the same.
    assert b"hunter2" not in b"".join(
        path.read_bytes() for path in (running.collector.log.parent / "queue").iterdir()
    )
    for line in running.collector.log.read_text().splitlines():
        assert "hunter2" not in line


INSPECTED = {
    Account.ID,
    Account.TYPE,
    Account.BALANCES,
    Account.BASE_CURRENCY,
    Account.UNREALIZED_PNL,
    Order.REJECT_REASON,
    semconv.Signal.VALUE,
    semconv.Command.NAME,
    semconv.Risk.RULE,
    semconv.Risk.LIMIT,
    semconv.Risk.VALUE,
    semconv.System.COMPONENT,
    semconv.System.STATE,
    Resource.HOST_NAME,
}


def test_what_names_and_prices_events_is_never_touched(running: Running) -> None:
    keys = sorted(
        key
        for group in vars(semconv).values()
        if isinstance(group, type) and group not in {EventType, Metric}  # no keys of spans
        for name, key in vars(group).items()
        if name.isupper()
    )
    assert len(keys) > 70
    spans = [
        span("hostile", number, attributes=dict.fromkeys(keys, hostile))
        for number, hostile in enumerate((CARD, "k" * 64, "DU1234567", f"password={CARD}"), 1)
    ]
    body = request("hostile", *spans)
    running.collector.send(body)
    for _, found in arrived(running.jaeger, spans_of([body])).values():
        changed = {key for key, thing in attributes(found).items() if "****" in thing}
        assert changed == INSPECTED


def test_spans_of_others_pass_unharmed(running: Running) -> None:
    subprocess.run(
        [
            program("telemetrygen"),
            "traces",
            "--otlp-insecure",
            f"--otlp-endpoint={running.collector.otlp_grpc}",
            "--rate=0",
            "--traces=300",
            "--child-spans=3",
            "--span-links=1",
            "--status-code=Error",
            "--workers=2",
            '--telemetry-attributes=text="any"',
            "--telemetry-attributes=number=3",
        ],
        capture_output=True,
        check=True,
        timeout=60,
    )

    def taken() -> Spans | None:
        spans = spans_of_json(map(json.loads, running.raw.read_bytes().splitlines()))
        accepted = running.collector.telemetry()["otelcol_receiver_accepted_spans"]
        return spans if len(spans) == sum(count for _, count in accepted) else None

    everything = wait_until(taken, "what the Collector took is not in its file")
    # It drops spans itself when it makes them faster than it can send them.
    sent = {key: one for key, one in everything.items() if "telemetrygen" in str(one[0])}
    assert len(sent) > 500
    found = arrived(running.jaeger, sent)
    for _, one in found.values():
        # Jaeger's remark on a child that began before its parent, as some of telemetrygen's do.
        kept = [pair for pair in one.attributes if pair.key != "@jaeger@warnings"]
        del one.attributes[:]
        one.attributes.extend(kept)
    assert found == sent


def test_it_listens_where_it_was_told_and_nowhere_else(running: Running) -> None:
    pid = running.collector.process.pid
    held = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        if found := re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink())):
            held.add(found[1])
    listening = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            listens = fields[3] == "0A" or table.startswith("udp")
            if listens and fields[9] in held:
                address, port = fields[1].split(":")
                listening.add((address, int(port, 16)))
    assert listening == {("0100007F", port) for port in running.collector.ports}


def test_its_health_and_its_own_metrics_can_be_asked(running: Running, market: Spans) -> None:
    assert running.collector.health()["status"] == "Server available"
    arrived(running.jaeger, market)
    own = running.collector.telemetry()
    taken = sum(count for _, count in own["otelcol_receiver_accepted_spans"])
    assert taken >= len(market)
    ((_, capacity),) = own["otelcol_exporter_queue_capacity"]
    assert capacity == 1 << 30
    assert "otelcol_exporter_queue_size" in own
    assert "otelcol_exporter_sent_spans" in own


def test_its_log_has_no_warning(running: Running, market: Spans) -> None:
    arrived(running.jaeger, market)
    log = running.collector.log.read_text()
    assert "Everything is ready" in log
    levels = {line.split("\t")[1] for line in log.splitlines() if line[:2] == "20"}
    assert levels == {"info"}, log
    assert "deprecated" not in log


def test_what_waits_survives_kills_while_jaeger_is_away(tmp_path: Path) -> None:
    data = tmp_path / "data"
    record(data, "first", "fund/a", trades=4)
    record(data, "second", "fund/b", trades=4)
    first, second = requests_of(data, "first", 20), requests_of(data, "second", 20)
    assert len(first) > 3
    jaeger = Jaeger(tmp_path)
    with ShippedCollector(tmp_path, jaeger) as collector:
        for one in first:
            collector.send(one)
        collector.kill()
        collector.start()
        for one in second:
            collector.send(one, "grpc")
        collector.kill()
        collector.start()
        ((_, waiting),) = collector.telemetry()["otelcol_exporter_queue_size"]
        assert waiting > 0
        with jaeger:
            sent = spans_of(first + second)
            assert arrived(jaeger, sent) == as_jaeger_has_it(sent)
            assert collector.stop() == 0


def test_a_kill_while_spans_flow_loses_none(tmp_path: Path) -> None:
    data = tmp_path / "data"
    record(data, "run", "fund/a", trades=20)
    requests = requests_of(data, "run", 10)
    assert len(requests) > 50
    with Jaeger(tmp_path) as jaeger, ShippedCollector(tmp_path, jaeger) as collector:
        sending = threading.Thread(target=lambda: _until_taken(collector, *requests))
        sending.start()
        for _ in range(3):
            time.sleep(0.15)
            collector.kill()
            collector.start()
        sending.join(30)
        assert not sending.is_alive()
        sent = spans_of(requests)

        def missing() -> set[str]:
            # What was sent again after a kill may be there twice, so this counts ids.
            found = set()
            for trace_id in trace_ids(sent):
                for one in (jaeger.trace(trace_id) or {"spans": []})["spans"]:
                    found.add(one["spanID"])
            assert found <= set(sent)
            return set(sent) - found

        wait_until(lambda: not missing(), "spans are missing")


def _until_taken(collector: ShippedCollector, *requests: bytes) -> None:
    """Send requests as an exporter does: each again, until it is taken."""

    def is_taken(body: bytes) -> bool:
        try:
            collector.send(body)
        except OSError:
            return False
        return True

    for body in requests:
        wait_until(partial(is_taken, body), "the Collector does not take a request")


TAIL_SAMPLING = (
    "processors: [memory_limiter, tail_sampling, transform/before_redaction, redaction, "
    "transform/after_redaction, transform/jaeger]"
)
WITHOUT = (
    "processors: [memory_limiter, transform/before_redaction, redaction, "
    "transform/after_redaction, transform/jaeger]"
)


def test_tail_sampling_keeps_whole_traces_of_errors_and_fills_and_a_share(tmp_path: Path) -> None:
    config = switched_on(tmp_path, TAIL_SAMPLING, instead=WITHOUT)
    error = Status(code=Status.StatusCode.STATUS_CODE_ERROR)
    first, later = [], []
    for number in range(1, 641):
        first.append(span("tail", number))
        late = span("tail", number + 1000, number, attributes={Event.TYPE: "ORDER"})
        if number <= 20:
            late = span("tail", number + 1000, number, attributes={Event.TYPE: "FILL"})
        elif number <= 40:
            late = span("tail", number + 1000, number, status=error)
        later.append(late)
    requests = [request("tail", *first), request("tail", *later)]
    sent = spans_of(requests)
    options = ["--set=processors.tail_sampling.decision_wait=1s", SOON]
    with (
        Jaeger(tmp_path) as jaeger,
        ShippedCollector(tmp_path, jaeger, config, options) as collector,
    ):
        for one in requests:
            collector.send(one)
        kept = {one.trace_id.hex() for one in later[:40]}
        share = {one for one in trace_ids(sent) - kept if sha256(one.encode()).hexdigest() < "199"}
        assert len(share) == pytest.approx(60, abs=35)
        expected = {key: one for key, one in sent.items() if one[1].trace_id.hex() in kept | share}
        arrived(jaeger, expected)
        wait_until(lambda: decided(collector) == 640, "not every trace was decided")
        time.sleep(0.5)  # for what should not come
        assert spans_in_jaeger(jaeger, trace_ids(sent)) == expected
        counted = collector.metrics()["traces_span_metrics_calls_total"]
    assert sum(count for _, count in counted) == len(sent)


def decided(collector: ShippedCollector) -> float:
    """Tell how many traces tail sampling has decided."""
    name = "otelcol_processor_tail_sampling_global_count_traces_sampled"
    return sum(count for _, count in collector.telemetry().get(name, []))


def test_a_full_queue_makes_senders_wait_and_loses_nothing(tmp_path: Path) -> None:
    note = {"note": "a long story " * 1000}
    requests = [
        request("full", *(span("full", first + more, attributes=note) for more in range(20)))
        for first in range(1, 161, 20)
    ]
    jaeger = Jaeger(tmp_path)
    room = {"OTELCOL_QUEUE_BYTES": "1000000"}
    with ShippedCollector(tmp_path, jaeger, environment=room) as collector:
        answers = [answer_to(collector, body, number) for number, body in enumerate(requests)]
        # In both protocols, what tells a sender to try again later.
        assert set(answers) == {"taken", 503, grpc.StatusCode.UNAVAILABLE}
        own = collector.telemetry()
        for name in ("receiver_refused", "exporter_enqueue_failed"):
            assert sum(count for _, count in own[f"otelcol_{name}_spans"]) > 0
        refused = [
            body for body, answer in zip(requests, answers, strict=True) if answer != "taken"
        ]
        with jaeger:
            _until_taken(collector, *refused)
            sent = spans_of(requests)
            assert arrived(jaeger, sent) == as_jaeger_has_it(sent)


def test_a_machine_that_names_its_ip_keeps_it(running: Running) -> None:
    body = request("machine", span("machine", 1), ip="10.0.0.7", **{"host.name": "there"})
    running.collector.send(body)
    sent = spans_of([body])
    assert arrived(running.jaeger, sent) == sent


def test_the_largest_request_passes_and_a_larger_one_is_refused(running: Running) -> None:
    def of_size(run: str, size: int) -> bytes:
        body = request("large", span(run, 1), span(run, 2, 1, attributes={"note": "x"}))
        note = "x" * (size - len(body) - 16)
        body = request("large", span(run, 1), span(run, 2, 1, attributes={"note": note}))
        assert size - 20 < len(body) <= size
        return body

    largest = [of_size("by grpc", 4 << 20), of_size("by http", 4 << 20)]
    larger = of_size("larger", (4 << 20) + 1000)
    for number, body in ((1, largest[0]), (0, largest[1])):
        assert answer_to(running.collector, body, number) == "taken"
    assert answer_to(running.collector, larger, 1) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert answer_to(running.collector, larger, 0) == 400
    sent = spans_of(largest)
    assert arrived(running.jaeger, sent) == sent


def answer_to(collector: ShippedCollector, body: bytes, number: int) -> Any:
    """Send a request, by the one protocol or the other; tells what the answer is."""
    try:
        collector.send(body, "grpc" if number % 2 else "http/protobuf")
    except urllib.error.HTTPError as error:
        return error.code
    except grpc.RpcError as error:
        return error.code()
    return "taken"


@pytest.mark.parametrize(
    "examples",
    [
        ["- ^trading\\.account\\.id\\z"],
        ["- {name: slow, type: latency, latency: {threshold_ms: 50}}"],
        ['headers: {authorization: "${env:BACKEND_AUTHORIZATION}"}'],
        [
            "tls:",
            "cert_file: /etc/otelcol/server.crt",
            "key_file: /etc/otelcol/server.key",
            "client_ca_file: /etc/otelcol/clients.crt",
        ],
    ],
    ids=["account ids", "slow traces", "headers", "tls"],
)
def test_an_example_in_a_comment_is_valid_when_it_is_switched_on(
    examples: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKEND_AUTHORIZATION", "Bearer abc")
    done = validated(switched_on(tmp_path, *examples))
    assert (done.returncode, done.stderr) == (0, "")


def test_every_variable_of_the_configuration_is_listed_at_its_head() -> None:
    text = CONFIG.read_text()
    head, body = text.split("\nreceivers:", 1)
    used = set(re.findall(r"\$\{env:(\w+):-", body))
    listed = set(re.findall(r"^#   ((?:OTELCOL|JAEGER)_\w+)", head, re.MULTILINE))
    assert used == listed | {"OTELCOL_TELEMETRY_PORT"}
    for name, default in re.findall(r"\$\{env:(\w+):-([^}]*)\}", body):
        if name != "JAEGER_OTLP_CA_FILE":
            assert default in head
