"""Runs a script or a module under a recording session, with every known engine instrumented."""

from __future__ import annotations

import argparse
import builtins
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from types import CodeType, FrameType, ModuleType, TracebackType
from typing import Any

from fillpath.instrumentation.code_version import find_code_version
from fillpath.instrumentation.errors import EXIT_FAILURE, EXIT_OK, FillpathError, UsageError
from fillpath.instrumentation.tracing import Tracing

_GROUP = "opentelemetry_instrumentor"
_DISTRIBUTION = "fillpath"
_ECHO_SECONDS = 1.0
_OURS = f"{Path(__file__).parent}{os.sep}"
"""Start of the files whose frames are ours."""


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

    def load(module: ModuleType) -> CodeType:
        vars(module).update(__file__=str(path))
        return compile(path.read_bytes(), str(path), "exec", dont_inherit=True)

    _run(load, [script, *arguments], path.resolve().parent, tracing)


def run_module(name: str, arguments: Sequence[str], tracing: Tracing) -> None:
    """Run a module, or a package's ``__main__``, as ``python -m NAME ARGS`` would, and record it.

    All that `run_script` says holds.

    Raises:
        UsageError: When there is no such module, or it is none that can be run.
    """

    def load(module: ModuleType) -> CodeType:
        spec = _spec_to_run(name)
        get_code = getattr(spec.loader, "get_code", None)
        code: CodeType | None = get_code(spec.name) if get_code is not None else None
        if code is None:
            raise UsageError(f"The module {name} has no Python code to run.")
        vars(module).update(
            __file__=spec.origin,
            __spec__=spec,
            __loader__=spec.loader,
            __package__=spec.parent,
            __cached__=spec.cached,
        )
        sys.argv[0] = spec.origin or name
        return code

    _run(load, [name, *arguments], Path.cwd(), tracing)


def _spec_to_run(name: str) -> ModuleSpec:
    """Find a module, or the ``__main__`` of a package. Parent packages are imported for that."""
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            name = f"{name}.__main__"
            spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # a package of the host's lacks something
        spec = None
    if spec is None:
        raise _no_module(name)
    return spec


def _is_there(name: str) -> bool:
    """Tell whether the package that a module is in can be found; imports nothing."""
    top = name.partition(".")[0]
    return PathFinder.find_spec(top, [str(Path.cwd()), *sys.path]) is not None


def _no_module(name: str) -> UsageError:
    return UsageError(
        f"There is no module {name} to run.",
        next_command="fillpath run -m MODULE, from the folder that it is imported from",
    )


def _run(
    load: Callable[[ModuleType], CodeType], argv: list[str], folder: Path, tracing: Tracing
) -> None:
    """Run code as the main module of a process that looks for modules in a folder first."""
    with ExitStack() as stack:
        stack.callback(_restore, sys.argv, list(sys.path), sys.modules["__main__"])
        sys.argv = argv
        sys.path.insert(0, str(folder))
        sys.modules["__main__"] = module = ModuleType("__main__")
        vars(module).update(__builtins__=builtins)
        stack.enter_context(tracing)
        tracing.takes_in_others = True  # the script may record itself when it is run without us
        stack.enter_context(known_engines_instrumented())
        stack.push(_ignore_echo_of_interrupt)
        try:
            exec(load(module), vars(module))  # noqa: S102 - running it is what we are here for
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
        description="Run a script or a module and record every event of the engines it uses.",
    )
    parser.add_argument("--data", help="data folder")
    parser.add_argument("--run-id", help="name of the run")
    parser.add_argument("--portfolio", help="namespace of events whose engine names none")
    parser.add_argument("--mode", choices=("backtest", "live"))
    parser.add_argument("--writer", choices=("process", "inline", "none"))
    parser.add_argument("--otlp", choices=("sampled", "all", "off"))
    parser.add_argument(
        "-m", dest="is_module", action="store_true", help="the script is a module's name"
    )
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(given)
    script: str = options.script
    arguments: list[str] = list(options.arguments)
    if given[: len(given) - len(arguments)][-2:] == [script, "--"]:
        arguments.insert(0, "--")  # the parser took it for one of its own
    path = Path(script).absolute()
    try:
        if not options.is_module and not path.is_file():
            raise UsageError(f"There is no script at {script}.")
        if options.is_module and not _is_there(script):
            raise _no_module(script)  # before there is a run
        tracing = Tracing(
            options.run_id,
            data=options.data,
            portfolio=options.portfolio,
            mode=options.mode,
            service_name=script if options.is_module else path.stem,
            parameters={
                **({"module": script} if options.is_module else {"script": path.name}),
                "arguments": arguments,
            },
            writer=options.writer,
            otlp=options.otlp,
            code_version=find_code_version(Path.cwd() if options.is_module else path.parent),
        )
        run = run_module if options.is_module else run_script
        run(script, arguments, tracing)
    except FillpathError as error:
        sys.stderr.write(f"fillpath: {error}\n")
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - shown as Python shows it, without our own frames
        error.__traceback__ = _from_script(error)
        sys.excepthook(type(error), error, error.__traceback__)
        return EXIT_FAILURE
    return EXIT_OK


def _from_script(error: BaseException) -> TracebackType | None:
    """The traceback without our own frames, and from the script's first one on."""
    frames: list[TracebackType] = []
    step = error.__traceback__
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        if not (file.startswith(_OURS) or (not frames and _looks_for_module(file))):
            frames.append(step)
        step = step.tb_next
    if not frames and not isinstance(error, SyntaxError):
        return error.__traceback__
    below: TracebackType | None = None
    for each in reversed(frames):
        below = TracebackType(below, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return below


def _looks_for_module(file: str) -> bool:
    return file.startswith("<frozen ") or file == importlib.util.__file__
