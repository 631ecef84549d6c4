"""A bracket trade in the real Jaeger: its tree, times, links, services, and how it is found."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics.cli import main
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.otlp_encoder import OtlpEncoder
from fillpath.exporters.span_selection import SpanSelection
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from real_backends import ROOT, Jaeger, get_json, program, wait_until
from recorded_market import Market
from shipped_collector import ShippedCollector

BRACKETS = "nautilus_brackets/brackets/007"
UI = ROOT / "deploy" / "jaeger" / "ui.json"


@dataclass
class Shown:
    """What Jaeger shows, and the lake that it was sent from."""

    jaeger: Jaeger
    data: Path
    spans: dict[str, dict[str, Any]]
    """Of the lake, by span id."""
    entry: str
    """Trace id of the chain in which a bracket's entry was filled."""

    def trace(self, trace_id: str) -> dict[str, dict[str, Any]]:
        trace = self.jaeger.trace(trace_id)
        assert trace is not None
        return {span["spanID"]: span for span in trace["spans"]}

    def found(self, service: str, **tags: str) -> set[str]:
        """Trace ids that Jaeger's search gives."""
        named = {key.replace("__", "."): value for key, value in tags.items()}
        named["trading.run.id"] = "brackets"
        asked = {"service": service, "tags": json.dumps(named), "limit": "5000", "lookback": "2d"}
        answer = get_json(f"{self.jaeger.url}/api/traces?{urllib.parse.urlencode(asked)}")
        return {trace["traceID"] for trace in answer["data"]}

    def chains(self, condition: str) -> set[str]:
        """Trace ids that the lake has of it."""
        sql = f"SELECT DISTINCT trace_id FROM spans WHERE {condition}"
        return {row[0] for row in EventStore(DataFolder(self.data)).query(sql).rows}


def send(jaeger: Jaeger, data: Path, run_id: str, **resource: str) -> None:
    batches = SpanSelection(EventStore(DataFolder(data)), run_id).batches()
    encoder = OtlpEncoder({run_id: {"trading.run.mode": "backtest", **resource}})
    for request in encoder.encode(batches):
        client = http.client.HTTPConnection(jaeger.otlp_http.removeprefix("http://"), timeout=30)
        headers = {"Content-Type": "application/x-protobuf"}
        client.request("POST", "/v1/traces", request, headers)
        assert client.getresponse().status == 200
        client.close()


def record_brackets(data: Path, run_id: str, report: Path) -> None:
    """Backtest bracket orders in four stocks, by NautilusTrader."""
    script = Path(__file__).parent / "hosts" / "nautilus_brackets.py"
    recorder = ["-m", "fillpath.instrumentation", "--data", str(data), "--run-id", run_id]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "FILLPATH_WRITER": "inline"}
    subprocess.run(
        [sys.executable, *recorder, str(script), str(report)], check=True, env=environment
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    pytest.importorskip("nautilus_trader")
    program("jaeger")
    folder = tmp_path_factory.mktemp("jaeger")
    data = folder / "data"
    record_brackets(data, "brackets", folder / "report.json")
    for run_id in ("market", "one-machine"):
        with Tracing(run_id, data=data, service_name="desk", writer="inline") as tracing:
            for portfolio in ("fund/one", "fund/two", None):
                market = Market(tracing, portfolio=portfolio or tracing.portfolio)
                market.trade()
                market.finish()
    config = folder / "jaeger.yaml"
    with Jaeger(folder) as usual:
        text = config.read_text().replace(
            "enable_tracing: false", f"enable_tracing: false\n    ui: {{config_file: {UI}}}"
        )
        usual.stop()
    config = folder / "with_ui.yaml"
    config.write_text(text)
    with Jaeger(folder, config) as jaeger:
        send(jaeger, data, "brackets")
        send(jaeger, data, "market")
        wait_until(lambda: len(jaeger.services()) == 4, "Jaeger has not got the spans")
        rows = EventStore(DataFolder(data)).query("SELECT * FROM spans WHERE run_id = 'brackets'")
        spans = {
            row["span_id"]: row
            for row in (dict(zip(rows.columns, values, strict=True)) for values in rows.rows)
        }
        children = {span["parent_span_id"] for span in spans.values()}
        entries = [
            span
            for span in spans.values()
            if span["name"] == "publish FILL" and span["span_id"] in children
        ]
        yield Shown(jaeger, data, spans, entries[0]["trace_id"])


def test_a_bracket_trade_has_the_tree_of_the_lake(shown: Shown) -> None:
    in_jaeger = shown.trace(shown.entry)
    in_lake = {
        span_id: span for span_id, span in shown.spans.items() if span["trace_id"] == shown.entry
    }
    assert in_jaeger.keys() == in_lake.keys()
    for span_id, span in in_lake.items():
        parents = [
            one["spanID"]
            for one in in_jaeger[span_id]["references"]
            if one["refType"] == "CHILD_OF"
        ]
        assert parents == ([] if span["parent_span_id"] is None else [span["parent_span_id"]])
        assert in_jaeger[span_id]["operationName"] == span["name"]
    names = [span["name"] for span in way_to_the_fill(shown)]
    assert names[:2] == ["publish BAR", "process BAR"]
    assert names[-1] == "publish FILL"
    assert {"publish SIGNAL", "publish ORDER"} < set(names)


def way_to_the_fill(shown: Shown) -> list[dict[str, Any]]:
    chain = [span for span in shown.spans.values() if span["trace_id"] == shown.entry]
    at = min(
        (span for span in chain if span["name"] == "publish FILL"), key=lambda s: s["sequence"]
    )
    way = [at]
    while at["parent_span_id"] is not None:
        at = shown.spans[at["parent_span_id"]]
        way.append(at)
    return way[::-1]


def test_spans_stand_in_the_order_of_their_events(shown: Shown) -> None:
    answer = shown.jaeger.otlp_trace(shown.entry)
    assert answer is not None
    spans = [
        span
        for resource in answer["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    spans.sort(key=lambda span: int(span["startTimeUnixNano"]))
    ids = [span["spanId"] for span in spans]
    assert ids == sorted(ids, key=lambda one: shown.spans[one]["sequence"])
    for span in spans:
        row = shown.spans[span["spanId"]]
        assert int(span["startTimeUnixNano"]) == row["start_time"]
        assert int(span["endTimeUnixNano"]) == row["end_time"] > row["start_time"]


def test_a_span_lies_inside_its_parent_or_behind_it(shown: Shown) -> None:
    """Handlers and what they publish lie inside; what comes later, as a waiting order's fill, not.

    Jaeger counts in microseconds, each cut.
    """
    traces = {row["trace_id"] for row in shown.spans.values() if row["name"] == "publish FILL"}
    inside = behind = 0
    for trace_id in sorted(traces)[:60]:
        spans = shown.trace(trace_id)
        for span in spans.values():
            for reference in span["references"]:
                if reference["refType"] != "CHILD_OF":
                    continue
                parent = spans[reference["spanID"]]
                end = span["startTime"] + span["duration"]
                parent_end = parent["startTime"] + parent["duration"]
                assert span["startTime"] >= parent["startTime"]
                if end <= parent_end + 1:
                    inside += 1
                else:
                    assert span["startTime"] >= parent_end
                    assert parent["operationName"].startswith("publish")
                    behind += 1
    assert inside > 2 * behind > 0


def test_jaeger_finds_nothing_to_correct_in_the_times(shown: Shown) -> None:
    """Its API warns of clocks that differ where it does not know that the machine is the same."""
    answer = get_json(
        f"{shown.jaeger.url}/api/traces?service={urllib.parse.quote(BRACKETS, safe='')}&limit=5000"
    )
    warnings = [
        warning
        for trace in answer["data"]
        for span in trace["spans"]
        for warning in span["warnings"] or ()
    ]
    assert [text for text in warnings if "clock skew adjustment disabled" not in text] == []
    assert warnings
    send(shown.jaeger, shown.data, "one-machine", ip="127.0.0.1")
    (trace_id, *_) = shown.chains("run_id = 'one-machine' AND name = 'publish FILL'")
    spans = shown.trace(trace_id).values()
    assert len(spans) > 5
    assert [span["warnings"] for span in spans if span["warnings"]] == []


def test_through_the_collector_jaeger_finds_no_clocks_that_differ(
    shown: Shown, tmp_path: Path
) -> None:
    """The shipped configuration tells it that the machine is the same."""
    selection = SpanSelection(EventStore(DataFolder(shown.data)), "brackets")
    with Jaeger(tmp_path) as jaeger, ShippedCollector(tmp_path, jaeger) as collector:
        for request in OtlpEncoder().encode(selection.batches()):
            collector.send(request)
        chains = shown.chains("run_id = 'brackets'")
        address = (
            f"{jaeger.url}/api/traces?service={urllib.parse.quote(BRACKETS, safe='')}&limit=5000"
        )
        wait_until(lambda: len(get_json(address)["data"]) == len(chains), "spans are missing")
        spans = [span for trace in get_json(address)["data"] for span in trace["spans"]]
    assert len(spans) == len(shown.spans)
    assert [span["warnings"] for span in spans if span["warnings"]] == []


def test_an_exit_is_linked_to_its_entry(shown: Shown) -> None:
    (exit_trace, exit_span, links) = next(
        EventStore(DataFolder(shown.data))
        .query(
            "SELECT trace_id, span_id, links FROM spans WHERE run_id = 'brackets' "
            "AND name = 'publish FILL' AND links <> '[]' ORDER BY sequence LIMIT 1"
        )
        .rows
    )
    references = shown.trace(exit_trace)[exit_span]["references"]
    linked = [
        (one["traceID"], one["spanID"]) for one in references if one["refType"] == "FOLLOWS_FROM"
    ]
    assert linked == [(link["trace_id"], link["span_id"]) for link in json.loads(links)]
    entry = shown.trace(linked[0][0])[linked[0][1]]
    assert entry["operationName"] == "publish FILL"


def test_each_portfolio_is_a_service(shown: Shown) -> None:
    assert shown.jaeger.services() == {BRACKETS, "desk/fund/one", "desk/fund/two", "desk"}
    sql = "SELECT DISTINCT service_name FROM spans"
    rows = EventStore(DataFolder(shown.data)).query(sql).rows
    assert {row[0] for row in rows} == shown.jaeger.services()


@pytest.mark.parametrize(
    ("tag", "column"),
    [
        ("trading__order__client_id", "client_order_id"),
        ("trading__order__id", "order_id"),
        ("trading__fill__id", "fill_id"),
        ("trading__strategy__id", "strategy"),
        ("trading__instrument__symbol", "symbol"),
        ("trading__portfolio__namespace", "portfolio"),
    ],
)
def test_a_trade_is_found_by(shown: Shown, tag: str, column: str) -> None:
    fill = way_to_the_fill(shown)[-1]
    value = fill[column]
    wanted = shown.chains(f"run_id = 'brackets' AND {column} = '{value}'")
    assert shown.entry in wanted
    assert shown.found(BRACKETS, **{tag: value}) == wanted
    assert shown.found(BRACKETS, **{tag: "elsewhere"}) == set()


def test_the_printed_link_leads_to_the_trace(
    shown: Shown, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FILLPATH_TRACE_URL", shown.jaeger.url)
    fill = way_to_the_fill(shown)[-1]
    words = ["trace", "open", fill["fill_id"], "--print", "--data", str(shown.data)]
    assert main(words) == 0
    url = urllib.parse.urlsplit(capsys.readouterr().out.strip())
    assert f"{url.scheme}://{url.netloc}" == shown.jaeger.url
    spans = shown.trace(url.path.removeprefix("/trace/"))
    (span_id,) = urllib.parse.parse_qs(url.query)["uiFind"]
    assert spans[span_id]["operationName"] == "publish FILL"


def test_jaegers_pages_link_back_to_the_report(shown: Shown) -> None:
    """Jaeger writes the configuration of its pages into them as it read it."""
    with urllib.request.urlopen(f"{shown.jaeger.url}/search", timeout=10) as answer:  # noqa: S310
        page = answer.read().decode()
    (line,) = [line for line in page.splitlines() if "linkPatterns" in line]
    patterns = json.loads(line[line.index("{") : line.rindex("}") + 1])["linkPatterns"]
    assert patterns == json.loads(UI.read_text())["linkPatterns"]
    known = {"trading.run.id", "trading.portfolio.namespace"}
    assert {pattern["key"] for pattern in patterns} == known
    for pattern in patterns:
        assert "/#{trading.run.id}.html#" in pattern["url"]


def test_a_run_of_one_cause_becomes_traces_that_jaeger_shows(
    shown: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Tracing("one-cause", data=tmp_path, writer="inline", portfolio="fund") as tracing:
        emit = tracing.tracer.emitter("BAR", symbol="A")
        start = tracing.tracer.emitter("SYSTEM")(1)
        for _ in range(12_000):
            emit(1, emit(1, start))
    assert main(["trace", "largest", "--json", "-n", "1", "--data", str(tmp_path)]) == 0
    document = json.loads(capsys.readouterr().out)
    (largest,) = document["largest"]
    assert (document["events"], largest["events"]) == (24_001, 10_000)
    send(shown.jaeger, tmp_path, "one-cause")
    whole = wait_until(
        lambda: (trace := shown.jaeger.trace(largest["trace_id"])) and trace["spans"],
        "Jaeger does not show the largest trace",
    )
    assert len(whole) == 10_000
    again = Shown(shown.jaeger, tmp_path, {}, "")
    (other, *_) = sorted(again.chains("sequence = 24000"))
    bar, caused = sorted(again.trace(other).values(), key=lambda span: span["startTime"])
    assert [(one["refType"], one["traceID"]) for one in bar["references"]] == [
        ("FOLLOWS_FROM", largest["trace_id"])
    ]
    assert [one["refType"] for one in caused["references"]] == ["CHILD_OF"]
