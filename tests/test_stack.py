"""`make stack` without docker: the real servers with the configurations that compose mounts."""

from __future__ import annotations

import json
import math
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

sys.path.append(str(Path(__file__).parent))

from real_backends import ROOT, free_port, get_json, missing, program, wait_until
from recorded_market import Market

from fillpath.analytics.postgres import open_results_database, results_database_url
from fillpath.analytics.results_loading import load_results, results_of
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.span_selection import SpanSelection
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.event_sampler import EventSampler
from fillpath.instrumentation.settings import DataFolder

BOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
# Nothing is wrong with what is recorded here, and alerts are shown by promtool.
MAY_BE_EMPTY = {"Alerts"}


class Stack:
    """A stack on free ports, as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.state = folder / "state"
        self.output = folder / "output"
        self._options = ["--data", str(self.data), "--state", str(self.state)]

    def start(self) -> subprocess.Popen[bytes]:
        for name in ("otelcol", "jaeger"):
            program(name)
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", ROOT / "deploy/stack", *self._options, "--free-ports"],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )
        wait_until(self._is_up, "the stack does not start", 60)
        self.ports = dict(json.loads((self.state / "stack.json").read_text())["ports"])
        return self.process

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.output.read_text()
        return "The stack is up" in self.output.read_text()

    def do(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", ROOT / "deploy/stack", *words, *self._options],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )

    def get(self, part: str, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        return get_json(f"http://127.0.0.1:{self.ports[part]}{path}?{query}")

    def prometheus(self, query: str) -> list[dict[str, Any]]:
        answer = self.get("prometheus", "/api/v1/query", query=query)
        assert answer is not None, query
        return list(answer["data"]["result"])

    def counts_at_least(self, query: str, total: int) -> bool:
        return float(self.prometheus(query)[0]["value"][1]) >= total

    def stop(self, number: int) -> str:
        self.process.send_signal(number)
        self.process.wait(30)
        return self.output.read_text()


def children(pid: int) -> set[int]:
    """Give the processes that descend from one."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def has_ended(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True


def listeners(pids: set[int]) -> set[str]:
    """Give the addresses on which processes listen."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                found = re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))
            except OSError:
                continue
            if found:
                inodes.add(found[1])
    addresses = set()
    for table, width in (("tcp", 8), ("tcp6", 32)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address = fields[1].partition(":")[0]
                assert len(address) == width
                addresses.add(address)
    return addresses


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def fetched(url: str, method: str = "GET", host: str | None = None) -> tuple[int, bytes]:
    """Ask a server on this machine: the status and the page."""
    headers = {} if host is None else {"Host": host}
    asked = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - it is http
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 - it is http
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


def record_with_error(data: Path, run: str) -> None:
    """Record a trade, and a handler that raises after its order was filled."""
    with Tracing(run, data=data, writer="inline") as tracing:
        market = Market(tracing)
        market.trade(others=2)
        handler = market.bar("101")
        submitted, named = market.order(handler, "BUY", "3")
        market.fill(submitted, named, "101")
        market.seen.remove(handler)
        market.finish()
        tracing.tracer.close(handler, error=ValueError("no price"))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"))
    process = stack.start()
    yield stack
    if process.poll() is None:
        stack.stop(signal.SIGTERM)


class OwnMetrics:
    """Sends what fillpath tells of itself, by the names and attributes of its own metrics."""

    _WHERE: Final = {"trading.portfolio.namespace": "fund/desk", "trading.event.type": "BAR"}
    _THERE: Final = {"fillpath.otlp.destination": "http://collector:4318/v1/traces"}
    _COUNTERS: Final = (
        ("fillpath.recorder.events", "{event}", _WHERE),
        ("fillpath.writer.kept", "{event}", _WHERE),
        ("fillpath.writer.sampled_out", "{event}", _WHERE),
        ("fillpath.writer.dropped", "{event}", {**_WHERE, "fillpath.drop.reason": "late"}),
        ("fillpath.writer.errors", "{error}", {"error.type": "OSError"}),
        ("fillpath.otlp.sent", "{span}", _THERE),
        ("fillpath.otlp.rejected", "{span}", _THERE),
        ("fillpath.otlp.retries", "{request}", {**_THERE, "error.type": "timeout"}),
    )
    _GAUGES: Final[Sequence[tuple[str, dict[str, str]]]] = (
        ("fillpath.spool.lag", {}),
        ("fillpath.otlp.waiting", _THERE),
    )

    def __init__(self, url: str) -> None:
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(f"{url}/v1/metrics"), export_interval_millis=math.inf
        )
        self._provider = MeterProvider([reader], Resource({"service.name": "fillpath-writer"}))
        meter = self._provider.get_meter("fillpath")
        self._counters = [
            (meter.create_counter(name, unit), attributes)
            for name, unit, attributes in self._COUNTERS
        ]
        self._gauges = [
            (meter.create_gauge(name, "By"), attributes) for name, attributes in self._GAUGES
        ]
        self._commits = meter.create_histogram("fillpath.writer.commit.duration", "s")

    def send(self) -> None:
        for counter, attributes in self._counters:
            counter.add(5, attributes)
        for gauge, attributes in self._gauges:
            gauge.set(4096, attributes)
        self._commits.record(0.02)
        self._provider.force_flush()

    def close(self) -> None:
        self._provider.shutdown()


@pytest.fixture(scope="module")
def sent(stack: Stack) -> list[str]:
    """Send two runs, some seconds apart, so that Prometheus sees counters rise."""
    said = []
    own = OwnMetrics(f"http://127.0.0.1:{stack.ports['otlp_http']}")
    for number in range(2):
        own.send()
        run = f"market-{number}"
        record_with_error(stack.data, run)
        load_results(DataFolder(stack.data), run)
        done = stack.do("send")
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
        if number == 0:
            time.sleep(6)
    own.close()
    return said


def test_it_says_where_everything_is(stack: Stack) -> None:
    said = stack.output.read_text()
    for part in ("jaeger", "reports", "otlp_http", "otlp_grpc", "collector_health"):
        assert f"http://127.0.0.1:{stack.ports[part]}" in said
    assert f"export FILLPATH_TRACE_URL=http://127.0.0.1:{stack.ports['jaeger']}\n" in said
    assert "db url" in said
    assert "make demo OTLP=1" in said


def test_it_listens_on_loopback_only(stack: Stack) -> None:
    processes = children(stack.process.pid)
    assert len(processes) >= 2
    assert listeners(processes) == {"0100007F"}


def test_a_run_that_is_sent_is_in_jaeger_span_for_span(stack: Stack, sent: list[str]) -> None:
    [link] = re.findall(r"(http://\S+)/trace/([0-9a-f]{32})", sent[-1])
    assert link[0] == f"http://127.0.0.1:{stack.ports['jaeger']}"
    assert "The largest trade: LONG 10 ACME by Trend-1 of fund/desk, -15.00 USD" in sent[-1]
    store = EventStore(DataFolder(stack.data))
    policy = EventSampler.from_environment()
    expected = {
        (row["trace_id"].hex(), row["span_id"].hex())
        for batch in SpanSelection(store, "market-1", policy=policy).batches()
        for row in batch.to_pylist()
    }
    traces = {trace_id for trace_id, _ in expected}
    assert link[1] in traces

    def shown() -> set[tuple[str, str]]:
        answers = [stack.get("jaeger", f"/api/traces/{trace_id}") for trace_id in traces]
        return {
            (span["traceID"].zfill(32), span["spanID"].zfill(16))
            for answer in answers
            for trace in (answer or {}).get("data") or ()
            for span in trace["spans"]
        }

    wait_until(lambda: shown() == expected, "Jaeger does not have all spans, or others")


@pytest.mark.full
def test_sending_a_run_again_makes_no_span_twice(stack: Stack, sent: list[str]) -> None:
    [trace_id] = re.findall(r"/trace/([0-9a-f]{32})", sent[-1])
    [before] = stack.get("jaeger", f"/api/traces/{trace_id}")["data"]
    assert stack.do("send").returncode == 0
    time.sleep(1)
    [after] = stack.get("jaeger", f"/api/traces/{trace_id}")["data"]
    assert len(after["spans"]) == len(before["spans"])


def test_jaeger_finds_a_trade_by_its_order(stack: Stack, sent: list[str]) -> None:
    assert sent
    [service] = stack.get("jaeger", "/api/services")["data"]
    found = stack.get(
        "jaeger",
        "/api/traces",
        service=service,
        tags=json.dumps({"trading.order.client_id": "O-1"}),
        lookback="1h",
        limit="20",
    )
    assert len(found["data"]) == 2, "one of each run"


def test_links_of_jaeger_lead_to_the_report_of_the_run(stack: Stack, sent: list[str]) -> None:
    assert sent
    page = fetched(f"http://127.0.0.1:{stack.ports['jaeger']}/")[1].decode()
    links = re.findall(r'"url":\s*"(http://127\.0\.0\.1:\d+/[^"]*)"', page)
    assert len(links) == 2, "that of the run, and that of the portfolio"
    assert {urllib.parse.urlsplit(link).port for link in links} == {stack.ports["reports"]}
    link = links[0].replace("#{trading.run.id}", "market-1")
    assert fetched(link)[0] == 404
    command = [sys.executable, "-P", "-m", "fillpath.analytics.cli", "--data", str(stack.data)]
    subprocess.run([*command, "report", "market-1"], check=True, capture_output=True)
    [report] = (stack.data / "reports").glob("*.html")
    assert fetched(link) == (200, report.read_bytes())
    assert b'<a href="/market-1.html">market-1</a>' in fetched(urllib.parse.urljoin(link, "/"))[1]


def test_every_trade_of_the_results_is_a_trace_in_jaeger(stack: Stack, sent: list[str]) -> None:
    assert sent
    with results_of(DataFolder(stack.data)) as results:
        trades = results.rows("trades", "market-1")
    ids = {trade[f"{end}_trace_id"] for trade in trades for end in ("entry", "exit")} - {None}
    assert len(ids) == 3
    for trace_id in ids:
        [trace] = stack.get("jaeger", f"/api/traces/{trace_id}")["data"]
        assert "publish FILL" in {span["operationName"] for span in trace["spans"]}


@pytest.fixture(scope="module")
def metrics(stack: Stack, sent: list[str]) -> Stack:
    if shutil.which("prometheus") is None:
        missing("Prometheus is not installed (Debian: apt-get install prometheus)")
    assert sent
    errors = 'traces_span_metrics_calls_total{status_code="STATUS_CODE_ERROR"}'
    wait_until(
        lambda: any(float(one["value"][1]) >= 2 for one in stack.prometheus(errors)),
        "Prometheus has not seen the last run",
        20,
    )
    return stack


@pytest.mark.parametrize(
    ("title", "query"),
    [
        (panel["title"], target["expr"])
        for path in BOARDS
        for panel in json.loads(path.read_text())["panels"]
        for target in panel.get("targets", ())
        if target["datasource"]["type"] == "prometheus"
    ],
)
def test_every_query_of_metrics_gives_numbers(title: str, query: str, metrics: Stack) -> None:
    found = metrics.prometheus(query.replace("$__rate_interval", "1m").replace("$__range", "1h"))
    if title in MAY_BE_EMPTY:
        return
    numbers = [float(one["value"][1]) for one in found]
    assert any(number >= 0 for number in numbers), found


def test_metrics_count_what_was_sent(metrics: Stack, sent: list[str]) -> None:
    total = sum(int(re.findall(r"Sent ([\d,]+) spans", said)[0]) for said in sent)
    accepted = 'sum(otelcol_receiver_accepted_spans{job="collector"})'
    calls = 'sum(traces_span_metrics_calls_total{service_name!=""})'
    for query in (accepted, calls):
        wait_until(partial(metrics.counts_at_least, query, total), query, 20)
    up = {one["metric"]["job"]: one["value"][1] for one in metrics.prometheus("up")}
    assert up == dict.fromkeys(("spans", "collector", "jaeger", "prometheus"), "1")


def test_metrics_of_fillpath_that_are_asked_for_are_among_those_it_sends() -> None:
    # As the Collector writes them for Prometheus.
    suffixes = {"fillpath.spool.lag": "_bytes", "fillpath.otlp.waiting": "_bytes"}
    known = {f"{name.replace('.', '_')}_total" for name, _, _ in OwnMetrics._COUNTERS}
    known |= {name.replace(".", "_") + suffix for name, suffix in suffixes.items()}
    known.add("fillpath_writer_commit_duration_seconds_bucket")
    asked = "".join(path.read_text() for path in BOARDS)
    asked += (ROOT / "deploy/prometheus/rules.yml").read_text()
    named = set(re.findall(r"fillpath_(?:recorder|writer|spool|otlp|lake)_\w+", asked))
    assert named - {"fillpath_otlp_destination"} == known


def test_alerts_are_loaded_and_none_of_them_tells_of_a_loss(metrics: Stack) -> None:
    groups = metrics.get("prometheus", "/api/v1/rules")["data"]["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert len(rules) == 10
    assert all(rule["health"] in {"ok", "unknown"} for rule in rules.values())
    assert rules["SpansLost"]["state"] == "inactive"
    assert rules["PartDown"]["state"] == "inactive"


def test_dashboards_may_read_the_results(stack: Stack, sent: list[str]) -> None:
    assert sent
    with (
        open_results_database(DataFolder(stack.data)) as database,
        database.connect() as connection,
    ):
        connection.execute("SET ROLE fillpath_dashboards")
        found = connection.execute("SELECT count(*) FROM runs").fetchone()
        assert found == (2,)


def test_a_second_stack_of_the_same_folder_is_refused(stack: Stack) -> None:
    done = stack.do("run", "--free-ports")
    assert done.returncode == 1
    assert "runs already" in done.stderr


def assert_nothing_is_left(stack: Stack, processes: set[int]) -> None:
    assert len(processes) >= 2
    wait_until(lambda: all(map(has_ended, processes)), "a server is left", 20)
    assert not any(map(is_listening, stack.ports.values()))


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_all_that_it_started(number: int, tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    process = stack.start()
    processes = children(process.pid)
    said = stack.stop(number)
    if number == signal.SIGTERM:
        assert process.returncode == 0, said
        assert not (stack.state / "stack.json").exists()
    assert_nothing_is_left(stack, processes)


@pytest.mark.full
def test_postgres_ends_with_it_also_when_its_address_was_asked_for(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    processes = children(stack.start().pid)
    results_database_url(DataFolder(stack.data))
    stack.stop(signal.SIGINT)
    assert_nothing_is_left(stack, processes)


@pytest.mark.full
def test_it_ends_when_a_server_does(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    process = stack.start()
    [jaeger] = [
        pid
        for pid in children(process.pid)
        if "jaeger" in Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]
    ]
    os.kill(jaeger, signal.SIGKILL)
    assert process.wait(30) == 1
    assert "Jaeger has ended; see" in stack.output.read_text()


def test_reports_are_served_and_nothing_else(tmp_path: Path) -> None:
    folder, port = tmp_path / "reports", free_port()
    where = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-P", ROOT / "deploy/stack/reports.py", str(port), folder],
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: is_listening(port), "no server")
        assert b"None yet" in fetched(where)[1]
        folder.mkdir()
        for name in ("run 1.html", ".hidden.html", "notes.txt", "<b>.html"):
            (folder / name).write_text(f"this is {name}")
        (tmp_path / "outside.html").write_text("no report")
        (folder / "folder.html").mkdir()
        assert fetched(f"{where}/run%201.html?a=b") == (200, b"this is run 1.html")
        assert fetched(f"{where}/run%201.html", "HEAD") == (200, b"")
        listing = fetched(where)[1].decode()
        assert re.findall('href="/(.*?)">(.*?)<', listing) == [
            ("%3Cb%3E.html", "&lt;b&gt;"),
            ("run%201.html", "run 1"),
        ]
        for path in (
            "../outside.html",
            "%2e%2e%2foutside.html",
            "x/../run%201.html",
            ".hidden.html",
            "notes.txt",
            "folder.html",
            "%00.html",
            "none.html",
        ):
            assert fetched(f"{where}/{path}")[0] == 404, path
        assert fetched(where, host=f"localhost:{port}")[0] == 200
        assert fetched(where, host="elsewhere.example")[0] == 403
        for method in ("POST", "PUT", "DELETE"):
            assert fetched(f"{where}/run%201.html", method)[0] == 501
    finally:
        server.terminate()
        server.wait(10)


def test_without_a_stack_the_demo_says_how_to_start_one(tmp_path: Path) -> None:
    environment = {"FILLPATH_COLLECTOR_HEALTH_PORT": "1"}
    done = subprocess.run(
        [sys.executable, "-P", ROOT / "deploy/stack", "demo", "--state", tmp_path],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "make stack" in done.stderr
    assert "docker compose up" in done.stderr


@pytest.mark.parametrize("port", ["abc", "0", "70000"])
def test_a_port_that_is_none_is_named(port: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", ROOT / "deploy/stack", "demo", "--state", tmp_path],
        env={**os.environ, "FILLPATH_JAEGER_PORT": port},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"fillpath: FILLPATH_JAEGER_PORT is '{port}', which is no port.\n"


def test_the_demo_goes_to_ports_that_docker_has_from_its_env_file(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "deploy/stack", checkout / "deploy/stack")
    (checkout / ".env").write_text(
        "# FILLPATH_JAEGER_PORT=1\nFILLPATH_JAEGER_PORT=26686 # taken\n"
        "FILLPATH_OTLP_HTTP_PORT='24318'\nFILLPATH_SECRETS=./.fillpath-secrets\n"
    )
    code = "import demo; print(demo._moved_ports())"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FILLPATH_")}
    for given, jaeger in (({}, 26686), ({"FILLPATH_JAEGER_PORT": "36686"}, 36686)):
        said = subprocess.check_output(
            [sys.executable, "-c", code],
            env={**clean, **given, "PYTHONPATH": str(checkout / "deploy/stack")},
            text=True,
        )
        assert said == f"{{'otlp_http': 24318, 'jaeger': {jaeger}}}\n"


def test_without_the_servers_it_says_how_to_build_them(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", ROOT / "deploy/stack", "--state", tmp_path / "state"],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "make backends" in done.stderr


def test_it_says_when_there_are_no_pages_of_jaeger_in_the_folder(tmp_path: Path) -> None:
    program("jaeger")
    done = subprocess.run(
        [sys.executable, "-P", ROOT / "deploy/stack", "--state", tmp_path, "--free-ports"],
        env={**os.environ, "JAEGER_UI_ASSETS": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"fillpath: JAEGER_UI_ASSETS is {tmp_path}, which has no index.html.\n"


def test_usual_ports_are_those_of_compose_and_the_configurations() -> None:
    usual_ports = runpy.run_path(str(ROOT / "deploy/stack/places.py"))["USUAL_PORTS"]
    defaults = "".join(
        (ROOT / name).read_text()
        for name in ("otel-collector-config.yaml", "deploy/jaeger/config.yaml")
    )
    compose = (ROOT / "docker-compose.yml").read_text()
    for name, port in usual_ports.items():
        if name == "reports":
            assert f"//127.0.0.1:{port}/" in (ROOT / "deploy/jaeger/ui.json").read_text()
        elif name != "prometheus":
            assert re.search(rf":-(127\.0\.0\.1:)?{port}\}}", defaults), name
        if name in {"otlp_grpc", "otlp_http", "jaeger", "prometheus", "collector_health"}:
            assert re.search(rf"127\.0\.0\.1:\$\{{FILLPATH_\w+:-{port}\}}", compose), name


@pytest.mark.full
def test_the_demo_is_sent_and_its_largest_trade_shown(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.start()
    try:
        done = stack.do("demo")
        assert done.returncode == 0, done.stderr
        [trace_id] = re.findall(r"/trace/([0-9a-f]{32})\n$", done.stdout)
        proposed = re.findall(r"(?m)^  (\S*fillpath) --data", done.stdout)
        assert len(proposed) == 4
        assert all(shutil.which(word) or (ROOT / word).is_file() for word in proposed)
        assert "The largest trade: LONG 376 AAPL by TrendFollower-000" in done.stdout
        [trace] = stack.get("jaeger", f"/api/traces/{trace_id}")["data"]
        assert {"publish BAR", "publish FILL"} <= {span["operationName"] for span in trace["spans"]}
        wait_until(
            lambda: stack.prometheus("fillpath_writer_kept_total") != [],
            "no metrics of fillpath",
            30,
        )
        [report] = (stack.data / "reports").glob("*.html")
        assert f"http://127.0.0.1:{stack.ports['jaeger']}/trace/{trace_id}" in report.read_text()
    finally:
        stack.stop(signal.SIGINT)


@pytest.mark.full
def test_what_it_took_is_there_when_it_is_started_again(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.start()
    record_with_error(stack.data, "market")
    load_results(DataFolder(stack.data), "market")
    [trace_id] = re.findall(r"/trace/([0-9a-f]{32})", stack.do("send").stdout)
    [before] = stack.get("jaeger", f"/api/traces/{trace_id}")["data"]
    stack.stop(signal.SIGINT)
    stack.start()
    try:
        [after] = stack.get("jaeger", f"/api/traces/{trace_id}")["data"]
        assert len(after["spans"]) == len(before["spans"])
    finally:
        stack.stop(signal.SIGINT)


def test_make_has_targets_for_it() -> None:
    def commands(*words: str) -> str:
        return subprocess.run(
            ["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout

    assert "deploy/stack" in commands("stack")
    assert "deploy/stack demo" in commands("demo", "OTLP=1")
    assert "deploy/stack" not in commands("demo")
    assert "deploy/make_secrets.py" in commands("secrets")


# The last of the tests that use the stack of this file, which it ends.
def test_ctrl_c_ends_it_and_all_that_it_started(stack: Stack) -> None:
    processes = children(stack.process.pid)
    said = stack.stop(signal.SIGINT)
    assert stack.process.returncode == 0
    assert said.endswith("The stack has ended.\n")
    assert not (stack.state / "stack.json").exists()
    assert all(map(has_ended, processes)), "it did not wait for them"
    assert_nothing_is_left(stack, processes)
