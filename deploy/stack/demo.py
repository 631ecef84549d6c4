"""`make demo OTLP=1`: the demo, its spans sent to the stack, and its largest trade shown there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from places import ROOT, USUAL_PORTS, Stack, StackError, read_stack, shown
from servers import answers

_PATIENCE_SECONDS: Final = 30.0
_OTLP: Final = "OTEL_EXPORTER_OTLP_"
_VIEWERS: Final = ("FILLPATH_TRACE_URL", "FILLPATH_TRACE_LINKS")
# Ports that the environment or .env may have moved for docker compose.
_MOVED: Final = {
    "otlp_http": "FILLPATH_OTLP_HTTP_PORT",
    "collector_health": "FILLPATH_COLLECTOR_HEALTH_PORT",
    "jaeger": "FILLPATH_JAEGER_PORT",
}


def run_demo(data: Path, stack: Stack) -> int:
    """Run the demo as `make demo` does, sent to the stack as it goes on; gives its exit code."""
    return _fillpath(data, "demo", stack=stack).returncode


def show_largest(data: Path, stack: Stack, *, missing: bool) -> None:
    """Send the newest run of a data folder to the stack, and print where its largest trade is.

    Args:
        data: The data folder.
        stack: The stack.
        missing: Send only what it does not have.

    Raises:
        StackError: The stack did not take the spans, or does not show the trade.
    """
    from fillpath.analytics.results_loading import results_of
    from fillpath.exporters.event_store import EventStore
    from fillpath.instrumentation.errors import FillpathError
    from fillpath.instrumentation.settings import data_folder

    folder = data_folder(data)
    try:
        with results_of(folder) as results:
            run_id = results.run("latest").run_id
            results.load(EventStore(folder), run_id)
            largest = results.read("largest_trades", run_id=run_id, most=1)
    except FillpathError as error:
        raise StackError(str(error)) from error
    _replay(data, run_id, stack, missing=missing)
    for trade in largest:
        _await_trace(stack, trade["entry_trace_id"])
        sys.stdout.write(f"\n{_words(trade)}\n  {trace_url(stack, trade['entry_trace_id'])}\n")


def _replay(data: Path, run_id: str, stack: Stack, *, missing: bool) -> None:
    words = ["otlp", "replay", run_id, "--json", *(["--missing"] if missing else [])]
    done = _fillpath(data, *words, stack=stack, stdout=subprocess.PIPE)
    if done.returncode != 0:
        raise StackError("The stack did not take all spans of the run.")
    selected = json.loads(done.stdout)["selected"]
    where = stack.url("otlp_http")
    sys.stdout.write(f"\nSent {selected:,} spans of {run_id} to {where}\n")


def _fillpath(
    data: Path, *words: str, stack: Stack, stdout: int | None = None
) -> subprocess.CompletedProcess[bytes]:
    # What the user has set for another backend, its keys above all, is not for this one.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OTLP)}
    if not any(map(kept.get, _VIEWERS)):
        kept[_VIEWERS[0]] = stack.url("jaeger")  # where the report's links lead
    sys.stdout.flush()
    # As `make demo` calls it: the commands it proposes can be pasted also when it is not on PATH.
    program = Path(sys.executable).with_name("fillpath")
    return subprocess.run(
        [program, "--data", shown(data), *words],
        env={
            "OTEL_METRICS_EXPORTER": "otlp",  # fillpath's own, for the dashboards
            **kept,
            "PYTHONSAFEPATH": "1",
            f"{_OTLP}ENDPOINT": stack.url("otlp_http"),
            f"{_OTLP}PROTOCOL": "http/protobuf",
        },
        stdout=stdout,
        check=False,
    )


def trace_url(stack: Stack, trace_id: str) -> str:
    """Give the page of a trace in the stack's Jaeger."""
    return f"{stack.url('jaeger')}/trace/{trace_id}"


def _words(trade: dict[str, Any]) -> str:
    return (
        f"The largest trade: {trade['direction']} {trade['quantity']:f} {trade['symbol']} by "
        f"{trade['strategy']} of {trade['portfolio']}, {trade['net']:+,.2f} {trade['currency']}"
    )


def _await_trace(stack: Stack, trace_id: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not answers(f"{stack.url('jaeger')}/api/traces/{trace_id}"):
        if time.monotonic() > deadline:
            raise StackError(f"Jaeger at {stack.url('jaeger')} does not show trace {trace_id}.")
        time.sleep(0.2)


def running_stack(state: Path) -> Stack:
    """Find the stack that `make stack` runs, or that of docker compose on the usual ports.

    Raises:
        StackError: There is none.
    """
    usual = Stack(0, "", {**USUAL_PORTS, **_moved_ports()})
    for stack in (read_stack(state), usual):
        if stack is not None and answers(stack.url("collector_health")):
            return stack
    raise StackError(
        "No stack runs here that could take the demo. Start one first, and leave it running:\n"
        "  make stack                            in another terminal, without docker\n"
        "  make secrets; docker compose up -d    with docker"
    )


def _moved_ports() -> dict[str, int]:
    given = {**_env_file(), **os.environ}
    moved = {}
    for name, variable in _MOVED.items():
        if text := given.get(variable):
            if not text.isdecimal() or not 0 < int(text) < 1 << 16:
                raise StackError(f"{variable} is '{text}', which is no port.")
            moved[name] = int(text)
    return moved


def _env_file() -> dict[str, str]:
    """Read the file that docker compose reads by itself, as far as its lines are plain."""
    try:
        lines = (ROOT / ".env").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    pairs = (line.partition("=") for line in lines if not line.lstrip().startswith("#"))
    return {
        name.strip().removeprefix("export "): value.partition(" #")[0].strip().strip("'\"")
        for name, sign, value in pairs
        if sign
    }
