"""Runs a script under a recording session, with every known engine instrumented."""

from __future__ import annotations

import argparse
import builtins
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType, ModuleType, TracebackType
from typing import Any

from fillpath.instrumentation.code_version import find_code_version
from fillpath.instrumentation.errors import EXIT_FAILURE, EXIT_OK, FillpathError, UsageError
from fillpath.instrumentation.tracing import Tracing

_GROUP = "opentelemetry_instrumentor"
_DISTRIBUTION = "fillpath"
_ECHO_SECONDS = 1.0


@contextmanager
def known_engines_instrumented() -> Iterator[None]:
    """Attach to every engine fillpath knows for the body, and let go of them afterwards.

    One that is not installed, or that somebody has instrumented already, is left alone.
    """
    attached: list[Any] = []
    try:
        for entry in entry_points(group=_GROUP):
            if entry.dist is not None and entry.dist.name == _DISTRIBUTION:
                instrumentor = entry.load()()
                if instrumentor.is_instrumented_by_opentelemetry:
                    continue
                if instrumentor._check_dependency_conflicts() is None:
                    instrumentor.instrument()
                    attached.append(instrumentor)
        yield
    finally:
        for instrumentor in reversed(attached):
            instrumentor.uninstrument()


def run_script(script: str, arguments: Sequence[str], tracing: Tracing) -> None:
    """Run a script as ``python SCRIPT ARGS`` would, and record it.

    A session that the script starts itself becomes part of this one.
    Whatever the script raises, also SystemExit, ends the run and goes on to the caller. If the
    script leaves threads behind that Python will wait for, the run goes on until the process ends.
    """
    path = Path(script).absolute()
    with ExitStack() as stack:
        stack.callback(_restore, sys.argv, list(sys.path), sys.modules["__main__"])
        sys.argv = [script, *arguments]
        sys.path.insert(0, str(path.resolve().parent))
        sys.modules["__main__"] = module = ModuleType("__main__")
        vars(module).update(__file__=str(path), __builtins__=builtins)
        stack.enter_context(tracing)
        tracing.takes_in_others = True  # the script may record itself when it is run without us
        stack.enter_context(known_engines_instrumented())
        stack.push(_ignore_echo_of_interrupt)
        try:
            code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
            exec(code, vars(module))  # noqa: S102 - running it is what we are here for
        except SystemExit:
            if _threads_are_left():
                _going_on.append(stack.pop_all())
            raise
        if _threads_are_left():
            _going_on.append(stack.pop_all())


_going_on: list[ExitStack] = []
"""What is left to the end of the process, kept from being closed before."""


def _ignore_echo_of_interrupt(kind: type[BaseException] | None, *_: object) -> None:
    """Let one Control-C that arrives twice, by the group and passed on, end the run in order."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if kind is not KeyboardInterrupt or not in_main_thread:
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        ended_at = time.monotonic()

        def answer(number: int, frame: FrameType | None) -> None:
            if time.monotonic() - ended_at > _ECHO_SECONDS:
                signal.default_int_handler(number, frame)

        signal.signal(signal.SIGINT, answer)


def _restore(argv: list[str], path: list[str], main_module: ModuleType) -> None:
    sys.argv, sys.path[:], sys.modules["__main__"] = argv, path, main_module


def _threads_are_left() -> bool:
    own = threading.current_thread()
    return any(thread is not own and not thread.daemon for thread in threading.enumerate())


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``python -m fillpath.instrumentation``.

    Returns:
        The exit code, unless the script ends with SystemExit or by Control-C, which goes on.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m fillpath.instrumentation",
        description="Run a script and record every event of the engines it uses.",
    )
    parser.add_argument("--data", help="data folder")
    parser.add_argument("--run-id", help="name of the run")
    parser.add_argument("--portfolio", help="namespace of events whose engine names none")
    parser.add_argument("--mode", choices=("backtest", "live"))
    parser.add_argument("--writer", choices=("process", "inline", "none"))
    parser.add_argument("--otlp", choices=("sampled", "all", "off"))
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(given)
    script: str = options.script
    arguments: list[str] = list(options.arguments)
    if given[: len(given) - len(arguments)][-2:] == [script, "--"]:
        arguments.insert(0, "--")  # the parser took it for one of its own
    try:
        if not Path(script).is_file():
            raise UsageError(f"There is no script at {script}.")
        tracing = Tracing(
            options.run_id,
            data=options.data,
            portfolio=options.portfolio,
            mode=options.mode,
            service_name=Path(script).stem,
            parameters={"script": Path(script).name, "arguments": arguments},
            writer=options.writer,
            otlp=options.otlp,
            code_version=find_code_version(Path(script).absolute().parent),
        )
        run_script(script, arguments, tracing)
    except FillpathError as error:
        sys.stderr.write(f"fillpath: {error}\n")
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - shown as Python shows it, without our own frames
        error.__traceback__ = _from_script(error, Path(script).absolute())
        sys.excepthook(type(error), error, error.__traceback__)
        return EXIT_FAILURE
    return EXIT_OK


def _from_script(error: BaseException, script: Path) -> TracebackType | None:
    """The traceback from the script's own first frame on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != str(script):
        frames = frames.tb_next
    return frames if frames is not None or isinstance(error, SyntaxError) else error.__traceback__
