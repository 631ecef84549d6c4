"""The real `opentelemetry-instrument`: no code is touched, and the lake and the Collector agree."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.provider_spans import sdk_value
from fillpath.exporters.span_attributes import parent_of, parts_of
from fillpath.instrumentation.settings import own_environment

TESTS = Path(__file__).parent
HOST = TESTS / "hosts" / "nautilus_netting_flips.py"
INSTRUMENT = Path(sys.executable).with_name("opentelemetry-instrument")
QUIET = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "PYTHONHASHSEED": "0"}
BOTH = {"OTEL_TRACES_EXPORTER": "otlp,fillpath_parquet", "OTEL_TRACES_SAMPLER": "fillpath"}

PAGE = (TESTS.parent / "docs" / "opentelemetry.md").read_text(encoding="utf-8")

APP = """
import sys
from opentelemetry import trace

tracer = trace.get_tracer("my.app", "1.2")
for number in range(int(sys.argv[1])):
    bar = {"trading.instrument.symbol": "AAPL", "trading.bar.close": 100.5 + number}
    with tracer.start_as_current_span("publish BAR", attributes=bar):
        with tracer.start_as_current_span("process BAR"):
            if number % 20 == 10:
                with tracer.start_as_current_span(
                    "publish FILL", attributes={"trading.instrument.symbol": "AAPL"}
                ):
                    pass
"""


@pytest.fixture(scope="module", autouse=True)
def _needs_the_distro() -> None:
    pytest.importorskip("opentelemetry.distro", reason="opentelemetry-distro is not installed")


@pytest.fixture(scope="module")
def backends() -> Any:
    sys.path.insert(0, str(TESTS))
    try:
        return importlib.import_module("real_backends")
    finally:
        sys.path.remove(str(TESTS))


@pytest.fixture
def collector(backends: Any, tmp_path: Path) -> Iterator[Any]:
    with backends.Collector(tmp_path) as running:
        yield running


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(APP)
    return path


def blocks(language: str) -> list[str]:
    """Code blocks of the page about OpenTelemetry, in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def instrumented(
    data: Path, *command: str | Path, env: dict[str, str], options: Sequence[str] = ()
) -> str:
    """Run a Python script under the real command; gives what it says."""
    given = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [INSTRUMENT, *options, sys.executable, *command],
        env={**given, **QUIET, "FILLPATH_DATA": str(data), **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def to(collector: Any) -> dict[str, str]:
    """Settings of the SDK's own exporter."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.otlp_grpc}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    }


def rows_of(data: Path) -> list[dict[str, Any]]:
    """Rows of the lake as they are stored."""
    with EventStore(data).connect() as connection:
        result = connection.execute("SELECT * FROM raw_spans ORDER BY run_id, sequence")
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


Key = tuple[str, str, str | None, str]


def in_the_lake(data: Path) -> dict[Key, dict[str, Any]]:
    """Attributes of the lake's spans, by ids and name; each must be there once."""
    rows = rows_of(data)
    found: dict[Key, dict[str, Any]] = {}
    for row in rows:
        parent = parent_of(row)
        key = (
            row["trace_id"].hex(),
            row["span_id"].hex(),
            None if parent is None else parent.hex(),
            row["name"],
        )
        found[key] = {k: sdk_value(v) for k, v in parts_of(row).attributes.items()}
    assert len(found) == len(rows)
    return found


def in_the_collector(collector: Any) -> dict[Key, dict[str, Any]]:
    """The same of what the Collector has written."""
    spans = collector.spans()
    found: dict[Key, dict[str, Any]] = {}
    for span in spans:
        key = span["traceId"], span["spanId"], span.get("parentSpanId") or None, span["name"]
        found[key] = attributes_of(span)
    assert len(found) == len(spans)
    return found


def attributes_of(holder: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: plain(each["value"]) for each in holder.get("attributes", ())}


def plain(value: dict[str, Any]) -> Any:
    """A value of OTLP's JSON."""
    ((kind, given),) = value.items()
    if kind == "intValue":
        return int(given)
    if kind == "arrayValue":
        return [plain(each) for each in given.get("values", ())]
    if kind == "kvlistValue":
        return attributes_of({"attributes": given.get("values", ())})
    return given


def agreed(backends: Any, collector: Any, data: Path) -> dict[Key, dict[str, Any]]:
    """What is in the lake, when the Collector has exactly that."""
    lake = in_the_lake(data)
    backends.wait_until(lambda: len(collector.spans()) >= len(lake), "spans are missing")
    received = in_the_collector(collector)
    assert received.keys() == lake.keys()
    for key, attributes in lake.items():
        # The lake has a column for the portfolio of each span, and it is never empty.
        assert {**attributes, **received[key]} == attributes, key
        assert attributes.keys() - received[key].keys() <= {
            "trading.portfolio.namespace", "trading.event.type",
            "trading.sampling.reason", "trading.sampling.probability",
        }  # fmt: skip
    return lake


def by_reason(lake: dict[Key, dict[str, Any]]) -> dict[str, set[str]]:
    """Names of spans by why they were kept."""
    found: dict[str, set[str]] = {}
    for key, attributes in lake.items():
        found.setdefault(attributes["trading.sampling.reason"], set()).add(key[3])
    return found


# -- An application of OpenTelemetry's API --------------------------------------------------------


def test_an_application_by_environment_variables(
    backends: Any, collector: Any, app: Path, tmp_path: Path
) -> None:
    assert " ".join(f"{name}={value}" for name, value in BOTH.items()) in blocks("sh")[0]
    env = {**BOTH, **to(collector), "FILLPATH_SAMPLING_RATE": "0"}
    instrumented(tmp_path / "data", app, "100", env=env)
    lake = agreed(backends, collector, tmp_path / "data")
    assert by_reason(lake) == {
        "critical": {"publish FILL"},
        "ancestor": {"process BAR"},  # the BARs of the fills are neighbours as well
        "context": {"publish BAR"},
    }
    assert sum(key[3] == "publish FILL" for key in lake) == 5
    ids = {key[1] for key in lake}
    assert all(parent is None or parent in ids for _, _, parent, _ in lake)


def test_an_application_by_flags_of_the_command(
    backends: Any, collector: Any, app: Path, tmp_path: Path
) -> None:
    (command,) = (block for block in blocks("sh") if block.startswith("opentelemetry-instrument"))
    _, *options, python, _ = shlex.split(command.replace("\\\n", ""))
    assert python == "python"
    options += ["--traces_sampler_arg", "0.5"]
    instrumented(tmp_path / "data", app, "100", env=to(collector), options=options)
    lake = agreed(backends, collector, tmp_path / "data")
    assert set(by_reason(lake)) == {"critical", "ancestor", "context", "random"}
    assert {row["portfolio"] for row in rows_of(tmp_path / "data")} == {"fund/desk"}
    assert {row["service_name"] for row in rows_of(tmp_path / "data")} == {"my-backtest"}


@pytest.mark.parametrize("host", ["application", pytest.param("engine", marks=pytest.mark.full)])
def test_the_same_by_a_declaration(
    host: str, backends: Any, collector: Any, app: Path, tmp_path: Path
) -> None:
    pytest.importorskip(
        "opentelemetry.configuration", reason="opentelemetry-configuration is not installed"
    )
    declaration = tmp_path / "otel.yaml"
    (declared,) = blocks("yaml")
    assert "http://localhost:4317" in declared
    declaration.write_text(
        declared.replace("http://localhost:4317", f"http://{collector.otlp_grpc}")
    )
    env = {
        "OTEL_CONFIG_FILE": str(declaration),
        "FILLPATH_SAMPLING_RATE": "0",
        "FILLPATH_RUN_ID": "declared-1",
    }
    command = (app, "100") if host == "application" else (HOST, tmp_path / "report.json")
    instrumented(tmp_path / "data", *map(str, command), env=env)
    lake = agreed(backends, collector, tmp_path / "data")
    assert "publish FILL" in by_reason(lake)["critical"]
    assert "random" not in by_reason(lake)
    rows = rows_of(tmp_path / "data")
    assert {str(row["service_name"]).partition("/")[0] for row in rows} == {"my-backtest"}


@pytest.mark.parametrize("mode", ["backtest", pytest.param("live", marks=pytest.mark.full)])
def test_a_small_queue_of_the_sdk_loses_nothing_silently(
    mode: str, app: Path, tmp_path: Path
) -> None:
    env = {
        "OTEL_TRACES_EXPORTER": "fillpath_parquet",
        "OTEL_BSP_MAX_QUEUE_SIZE": "16",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16",
        "FILLPATH_MODE": mode,
    }
    told = instrumented(tmp_path / "data", app, "3000", env=env)
    rows = rows_of(tmp_path / "data")
    (run,) = EventStore(tmp_path / "data").run_records()
    assert run.published == 3000 + 150
    assert run.published == run.kept + run.dropped
    assert sum(not row["name"].startswith("process") for row in rows) == run.kept
    if mode == "backtest":
        assert len(rows) == 3000 + 3000 + 150
    elif run.dropped:
        assert run.completeness[0]["dropped"].keys() == {"queue_full"}
    assert "Queue full" not in told


# -- An engine ------------------------------------------------------------------------------------


def comparable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what differs from run to run: when it was, and who recorded it."""
    aside = {"start_time", "duration", "service_name", "resource_attributes", "host_name"}
    return [{k: v for k, v in row.items() if k not in aside} for row in rows]


def spooled(data: Path, report: Path, **env: str) -> list[dict[str, Any]]:
    """Rows of the same host by way of a spool, under the same run id."""
    command = [sys.executable, "-m", "fillpath.instrumentation", "--run-id", "zero-1"]
    given = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    subprocess.run(
        [*command, "--data", str(data), "--writer", "inline", str(HOST), str(report)],
        env={**given, **QUIET, **env},
        check=True,
        capture_output=True,
        timeout=120,
    )
    return rows_of(data)


@pytest.mark.parametrize("sampled", [False, True])
def test_an_engine_comes_out_once_in_the_lake_and_in_the_collector(
    sampled: bool, backends: Any, collector: Any, tmp_path: Path
) -> None:
    pytest.importorskip("nautilus_trader", reason="the engine is not installed (extra 'nautilus')")
    data = tmp_path / "data"
    env = {**to(collector), "FILLPATH_RUN_ID": "zero-1", "OTEL_SERVICE_NAME": "my-backtest"}
    env |= BOTH if sampled else {"OTEL_TRACES_EXPORTER": BOTH["OTEL_TRACES_EXPORTER"]}
    told = instrumented(data, str(HOST), str(tmp_path / "report.json"), env=env)
    assert "fillpath" not in told, told
    lake = agreed(backends, collector, data)
    assert not (data / "spool").exists()
    (run,) = EventStore(data).run_records()
    assert (run.run_id, run.status, run.source, run.dropped) == ("zero-1", "Ended", "otel", 0)
    assert run.engine == "NautilusTrader"
    assert run.published == run.kept + run.sampled_out
    assert bool(run.sampled_out) == sampled
    resources = [attributes_of(span["resource"]) for span in collector.spans()]
    portfolios = {row["portfolio"] for row in rows_of(data)}
    assert {each["trading.portfolio.namespace"] for each in resources} == portfolios
    services = {f"my-backtest/{portfolio}" for portfolio in portfolios}
    assert {each["service.name"] for each in resources} == services
    assert {each["trading.run.id"] for each in resources} == {"zero-1"}
    assert {each["telemetry.sdk.name"] for each in resources} == {"opentelemetry"}

    # By way of a spool, the lake has the same: events, ids, decisions and digits.
    policy = {"FILLPATH_LAKE_SAMPLING": "policy"} if sampled else {}
    other = spooled(tmp_path / "spooled", tmp_path / "report2.json", **policy)
    assert comparable(rows_of(data)) == comparable(other)
    (whole,) = EventStore(tmp_path / "spooled").run_records()
    assert run.completeness == whole.completeness
    assert len(lake) == len(other)
    first, second = (tmp_path / name for name in ("report.json", "report2.json"))
    assert json.loads(first.read_text()).keys() == json.loads(second.read_text()).keys()


@pytest.mark.full
def test_without_exporters_an_engine_is_recorded_by_a_spool(tmp_path: Path) -> None:
    pytest.importorskip("nautilus_trader", reason="the engine is not installed (extra 'nautilus')")
    env = {"OTEL_TRACES_EXPORTER": "none", "FILLPATH_WRITER": "inline"}
    instrumented(tmp_path / "data", str(HOST), str(tmp_path / "report.json"), env=env)
    (run,) = EventStore(tmp_path / "data").run_records()
    assert (run.source, run.status) == ("spool", "Ended")


@pytest.mark.parametrize("switch", [{"FILLPATH_ENABLED": "false"}, {"OTEL_SDK_DISABLED": "true"}])
def test_switched_off_nothing_is_written(switch: dict[str, str], app: Path, tmp_path: Path) -> None:
    env = {"OTEL_TRACES_EXPORTER": "fillpath_parquet", **switch}
    instrumented(tmp_path / "data", app, "30", env=env)
    assert not (tmp_path / "data").exists()


def test_a_collector_that_is_down_holds_nobody_up_and_costs_the_lake_nothing(
    backends: Any, tmp_path: Path
) -> None:
    pytest.importorskip("nautilus_trader", reason="the engine is not installed (extra 'nautilus')")
    env = {
        **BOTH,
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{backends.free_port()}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
        "OTEL_BSP_MAX_QUEUE_SIZE": "64",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "64",
    }
    begun = time.monotonic()
    told = instrumented(tmp_path / "data", str(HOST), str(tmp_path / "report.json"), env=env)
    assert time.monotonic() - begun < 40
    (run,) = EventStore(tmp_path / "data").run_records()
    assert run.published == run.kept
    assert run.dropped == 0
    assert f"fillpath otlp replay {run.run_id}" in told


def test_a_process_of_ours_is_not_instrumented_with_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = importlib.import_module("opentelemetry.instrumentation.auto_instrumentation")
    ours = str(Path(str(home.__file__)).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([ours, "/opt/host"]))
    assert own_environment()["PYTHONPATH"] == "/opt/host"
    monkeypatch.setenv("PYTHONPATH", ours)
    assert "PYTHONPATH" not in own_environment()
    monkeypatch.delenv("PYTHONPATH")
    assert own_environment() == dict(os.environ)
