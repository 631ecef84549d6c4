"""`fillpath run`: a script or a module, recorded, and its results loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final

from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import lake_connection
from fillpath.analytics.output import complain, say
from fillpath.analytics.results_loading import load_results
from fillpath.analytics.run_backtests import comparable_backtests
from fillpath.analytics.runs_view import counted, published, read_runs
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation import identity
from fillpath.instrumentation.errors import FillpathError, UsageError
from fillpath.instrumentation.forwarder_files import Forwarding
from fillpath.instrumentation.settings import ENV_LAKE, ENV_RUN_ID, DataFolder, recording_enabled

_RECORDER: Final = "fillpath.instrumentation"
_SENDING_SECONDS: Final = 10.0
"""How long to wait for a run to be sent: a container may end with this process."""
_WRITER_SECONDS: Final = 5.0
"""How long to wait for the writer to see that a script was killed; it looks once a second."""
_LOOK_SECONDS: Final = 0.05
_NUMBERS_OF_A_WORKER: Final = 2
"""Behind its parent's name, a worker's run has the numbers of its process and of itself; that of a
worker's worker has two more."""


def run_and_record(
    given: Invocation,
    script: Path,
    arguments: Sequence[str],
    *,
    run_id: str | None,
    portfolio: str | None,
    mode: str | None,
    otlp: str | None = None,
    is_module: bool = False,
) -> int:
    """Run a script or a module, bring what it recorded into the lake and the results, and say so.

    Returns:
        The script's exit code; 128 plus the signal's number if a signal ended it.

    Raises:
        UsageError: There is no such script, or the run's name cannot be one.
    """
    if not is_module and not script.is_file():
        raise UsageError(f"There is no script at {script}.")
    name = run_id or os.environ.get(ENV_RUN_ID) or identity.new_run_id()
    if not identity.is_valid_run_id(name):
        raise UsageError(
            f"'{name}' cannot be a run id.",
            next_command="use 1 to 100 letters, digits, dots, dashes or underscores",
        )
    if recording_enabled() and (given.folder.lake_is_remote or given.folder.lake.is_dir()):
        EventStore(given.folder).spans.files()  # a lake that is none is told of before the script
    known_before = (given.folder.spool / name).exists()
    process = start_recording(
        given.folder,
        name,
        script,
        arguments,
        portfolio=portfolio,
        mode=mode,
        otlp=otlp,
        is_module=is_module,
    )
    code = wait_for(process)
    if not known_before and (given.folder.spool / name).exists():
        _settle(given, name, code)
    elif not recording_enabled():
        say(("Nothing was recorded: recording is switched off.", "yellow"))
    return code


def start_recording(
    folder: DataFolder,
    run_id: str,
    script: Path,
    arguments: Sequence[str] = (),
    *,
    portfolio: str | None = None,
    mode: str | None = None,
    otlp: str | None = None,
    is_module: bool = False,
    output: IO[bytes] | None = None,
    errors: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a script under the recorder, with this process's stdin, stdout and stderr.

    Args:
        folder: The data folder.
        run_id: Name of the run.
        script: The script, or the module's name.
        arguments: Its arguments.
        portfolio: Namespace of events whose engine names none.
        mode: `backtest` or `live`.
        otlp: `sampled`, `all` or `off`: what is sent by OTLP.
        is_module: Whether it is a module.
        output: Where its stdout goes instead.
        errors: Where its stderr goes instead.
    """
    # -P keeps the current folder off the path, as the recorder's own imports must be ours.
    command = [sys.executable, "-P", "-m", _RECORDER, "--data", str(folder.path)]
    command += ["--run-id", run_id]
    for option, value in (("--portfolio", portfolio), ("--mode", mode), ("--otlp", otlp)):
        if value is not None:
            command.append(f"{option}={value}")
    sys.stdout.flush()
    # argparse takes what begins with a dash for an option, unless it is a path.
    is_like_an_option = str(script).startswith("-") and not is_module
    path = f".{os.sep}{script}" if is_like_an_option else str(script)
    if is_module:
        command.append("-m")
    # An engine may go through a set of ids, whose order follows Python's hash seed: with a seed of
    # its own for every process, a run recorded twice would not be the same run.
    environment = {"PYTHONHASHSEED": "0", **os.environ}
    if folder.lake_root is not None:
        environment[ENV_LAKE] = folder.lake_root
    return subprocess.Popen(
        [*command, path, *arguments], stdout=output, stderr=errors, env=environment
    )


def wait_for(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child while signals go to it and not to this process; gives its exit code."""
    with _passing_signals_to(process):
        code = process.wait()
    return 128 - code if code < 0 else code


@contextmanager
def _passing_signals_to(process: subprocess.Popen[bytes]) -> Iterator[None]:
    def pass_on(number: int, _: FrameType | None) -> None:
        # A terminal sends Ctrl-C to the child as well; a second one would cut its ending short.
        if number != signal.SIGINT or not _in_foreground():
            process.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _settle(given: Invocation, run_id: str, code: int) -> None:
    """Bring what was recorded into the lake and the results; whatever fails is only told."""
    deadline = time.monotonic() + _WRITER_SECONDS
    try:
        while True:
            with lake_connection(given.folder) as connection:
                runs = read_runs(connection)
            run = next((one for one in runs if one["run_id"] == run_id), None)
            if run is None or run["status"] != "Running" or time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_SECONDS)
    except FillpathError as error:
        complain(error.message, given.completed(error.next_command))
        return
    workers = [one for one in runs if _is_of_worker(one, run_id)]
    if run is None or run["status"] == "Running":
        say(("fillpath: ", "bold yellow"), f"run {run_id} is still on its way to the lake.")
        return
    say(("fillpath: ", "bold green"), f"recorded run {run_id} ({', '.join(counted(run))})")
    _tell_of_sending(given, run_id)
    if run["status"] == "Crashed":
        say(("  The run counts as crashed", "yellow"), f"; the script's exit code is {code}.")
    if workers:
        say(f"  Its worker processes recorded {len(workers):,} runs of their own, {run_id}.….")
    elif not run["published"]:
        say(("  No engine that fillpath knows published anything", "yellow"), ".")
        return
    backtests = comparable_backtests(
        (run["metadata"] or {}).get("backtests") or (), run["parameters"] or {}
    )
    if backtests:
        say(f"  It holds {len(backtests):,} backtests with parameters of their own.")
    loaded = [one for one in (run, *workers) if one["published"]]
    for one in loaded:
        if not _are_results_kept(given, one["run_id"]):
            break
    for words in _hints(run, are_several=bool(workers or backtests)):
        say("  ", (given.command(*words), "bold"))


def _hints(run: Mapping[str, Any], *, are_several: bool) -> Iterator[tuple[str, ...]]:
    """Give the commands that show what was recorded."""
    if published(run, "FILL"):
        yield "trace", "show", "latest", "--run", run["run_id"]
    if run["published"]:
        yield "report", run["run_id"], "--open"
    if are_several:
        yield "runs", "top"
    yield "runs", "list"


def _is_of_worker(run: Mapping[str, Any], run_id: str) -> bool:
    """Tell whether a run is that of a worker of another one, by its name."""
    name: str = run["run_id"]
    numbers = name.removeprefix(f"{run_id}.").split(".")
    is_whole = len(numbers) % _NUMBERS_OF_A_WORKER == 0
    return name != run_id and is_whole and all(each.isdecimal() for each in numbers)


def _are_results_kept(given: Invocation, run_id: str) -> bool:
    try:
        load_results(given.folder, run_id)
    except FillpathError as error:
        complain(f"No results were kept. {error.message}", given.completed(error.next_command))
    except Exception as error:  # noqa: BLE001 - the script has ended, and its exit code is the answer
        complain(
            f"No results were kept: {type(error).__name__}: {error}",
            given.command("db", "load", run_id),
        )
    else:
        return True
    return False


def _tell_of_sending(given: Invocation, run_id: str) -> None:
    """Wait a little for a run to be sent by OTLP, if it is, and say how far that is."""
    folder = given.folder.spool / run_id
    deadline = time.monotonic() + _SENDING_SECONDS
    while (found := Forwarding.read(folder)) is not None:
        if found.state != "following" or time.monotonic() >= deadline:
            break
        time.sleep(_LOOK_SECONDS)
    if found is None:
        return
    say(f"  {found.acknowledged:,} spans were sent to {found.destination or 'no destination'}.")
    if found.error is not None:
        complain(found.error, given.completed(found.next_command))
    elif found.state != "ended":
        say("  The rest is on its way: ", (given.command("otlp", "status", run_id), "bold"))
