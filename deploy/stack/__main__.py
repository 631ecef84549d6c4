"""`make stack`: Collector, Jaeger, Prometheus, Postgres and reports on loopback, until Ctrl-C.

`python deploy/stack demo` is `make demo OTLP=1`: the demo, sent to the stack; `send` sends the
newest run of the data folder instead.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from parts import DASHBOARDS_ROLE, make_servers
from places import STATE_FOLDER, USUAL_PORTS, Stack, StackError, choose_ports, forget_stack, shown
from servers import Interrupted, Server

_WATCH_SECONDS = 0.5


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; gives the exit code."""
    parser = argparse.ArgumentParser(prog="deploy/stack", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["run", "demo", "send"], default="run")
    parser.add_argument("--data", default=".fillpath", help="data folder (default: %(default)s)")
    parser.add_argument("--state", default=STATE_FOLDER, help="what it keeps (%(default)s)")
    parser.add_argument("--free-ports", action="store_true", help="take none of the usual ports")
    given = parser.parse_args(arguments)
    data, state = Path(given.data).absolute(), Path(given.state).absolute()
    try:
        if given.what != "run":
            from demo import run_demo, running_stack, show_largest

            stack = running_stack(state)
            if given.what == "demo" and (code := run_demo(data, stack)) != 0:
                return code
            show_largest(data, stack, missing=given.what == "demo")
            return 0
        return run_stack(data, state, free_ports=given.free_ports)
    except StackError as error:
        sys.stderr.write(f"fillpath: {error}\n")
        return 1
    except KeyboardInterrupt:  # of the demo, which has said so itself
        return 130


def run_stack(data: Path, state: Path, *, free_ports: bool) -> int:
    """Run the stack until a signal ends it, or a server ends by itself.

    Raises:
        StackError: A part cannot be started, or ended without being asked.
    """
    from fillpath.instrumentation.settings import DataFolder

    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(f"There is no place for what the stack keeps: {error}.") from error
    with ExitStack() as held:
        held.enter_context(_alone(state))
        ports, taken = choose_ports(free=free_ports)
        servers = make_servers(state, DataFolder(data).reports, ports)
        held.callback(forget_stack, state)
        held.enter_context(_results(data))
        try:
            for server in servers:
                held.callback(server.stop)
                server.start(stopping.is_set)
        except Interrupted:
            return _ended()
        stack = Stack(os.getpid(), str(data), ports)
        stack.write(state)
        _print(stack, state, servers, taken)
        while not stopping.wait(_WATCH_SECONDS):
            for server in servers:
                if server.has_ended():
                    raise StackError(f"{server.name} has ended; see {server.log}")
        sys.stdout.write("\nStopping …\n")
    return _ended()


def _ended() -> int:
    sys.stdout.write("The stack has ended.\n")
    return 0


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    with (state / "lock").open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"The stack of {state} runs already.") from None
        yield


@contextmanager
def _results(data: Path) -> Iterator[None]:
    """Keep the results database of the data folder running, open to dashboards."""
    from fillpath.analytics.embedded_postgres import server_status
    from fillpath.analytics.postgres import (
        external_dsn,
        open_results_database,
        stop_results_database,
    )
    from fillpath.instrumentation.errors import FillpathError
    from fillpath.instrumentation.settings import data_folder

    if external_dsn() is not None:  # a server of the user's, who gives roles there
        yield
        return
    folder = data_folder(data)
    was_kept = server_status(folder.postgres).state == "kept"
    try:
        with open_results_database(folder) as database:
            with database.connect() as connection:
                connection.execute(DASHBOARDS_ROLE.read_bytes())
            yield
    except FillpathError as error:
        raise StackError(str(error)) from error
    finally:
        # `fillpath db url`, which somebody may have called meanwhile, is no reason to go on.
        if not was_kept:
            with suppress(FillpathError):  # others use it
                stop_results_database(folder)


def _print(
    stack: Stack,
    state: Path,
    servers: Sequence[Server],
    taken: Sequence[int],
) -> None:
    program = shown(Path(sys.executable).with_name("fillpath"))
    rows = [
        ("Engines send to", stack.url("otlp_grpc"), "OTLP by gRPC, as OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("", stack.url("otlp_http"), "by HTTP, with OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
        ("Jaeger", stack.url("jaeger"), "traces"),
        ("Prometheus", stack.url("prometheus"), "metrics"),
        ("Postgres", f"{program} --data {shown(Path(stack.data))} db url", "results"),
        ("Reports", stack.url("reports"), "which Jaeger's links lead to"),
        ("The Collector", stack.url("collector_health"), "is well when this answers"),
        ("", f"{stack.url('collector_metrics')}/metrics", "metrics of the spans"),
    ]
    if not any(server.name == "Prometheus" for server in servers):
        rows[3] = ("Prometheus", "not installed", "Debian: apt-get install prometheus")
    left, middle = (max(len(row[i]) for row in rows) for i in (0, 1))
    lines = ["The stack is up; Ctrl-C ends it.", ""]
    lines += [f"  {what:{left}}  {where:{middle}}  {why}".rstrip() for what, where, why in rows]
    if taken:
        lines += ["", f"Others have {_listed(taken)}, so these are other ports than usual."]
    if stack.ports["jaeger"] != USUAL_PORTS["jaeger"]:
        lines += [
            "So that links and fillpath trace open lead to this Jaeger:",
            f"  export FILLPATH_TRACE_URL={stack.url('jaeger')}",
        ]
    if not os.environ.get("JAEGER_UI_ASSETS"):
        lines += [
            "",
            "This Jaeger answers by its API; its pages are a placeholder, since its Go module has",
            "none. JAEGER_UI_ASSETS=FOLDER names theirs, and docker compose has them.",
        ]
    lines += [
        "",
        f"Logs and data: {shown(state)}",
        "Send it a run:  make demo OTLP=1  in another terminal",
        "",
    ]
    sys.stdout.write("\n".join(lines))
    sys.stdout.flush()


def _listed(ports: Sequence[int]) -> str:
    *most, last = map(str, ports)
    return f"{', '.join(most)} and {last}" if most else last


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
