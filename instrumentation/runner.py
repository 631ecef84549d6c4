"""Runs a script under a recording session, with every known engine instrumented."""

from __future__ import annotations

import argparse
import logging
import runpy
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from fillpath.instrumentation.errors import EXIT_USAGE, FillpathError
from fillpath.instrumentation.tracing import Tracing

_log = logging.getLogger(__name__)
_GROUP = "opentelemetry_instrumentor"
_DISTRIBUTION = "fillpath"


def instrument_known_engines() -> None:
    """Attach to every engine fillpath knows; one that is not installed is left alone."""
    for entry in entry_points(group=_GROUP):
        if entry.dist is not None and entry.dist.name == _DISTRIBUTION:
            instrumentor = entry.load()()
            if instrumentor._check_dependency_conflicts() is None:
                instrumentor.instrument()


def run_script(script: Path, arguments: Sequence[str], tracing: Tracing) -> None:
    """Run a script as ``python SCRIPT ARGS`` would, and record it.

    Whatever the script raises, also SystemExit, ends the run and goes on to the caller.
    """
    old_argv, old_path = sys.argv, list(sys.path)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        with tracing:
            instrument_known_engines()
            runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.argv, sys.path[:] = old_argv, old_path


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``python -m fillpath.instrumentation``."""
    parser = argparse.ArgumentParser(
        prog="python -m fillpath.instrumentation",
        description="Run a script and record every event of the engines it uses.",
    )
    parser.add_argument("--data", help="data folder")
    parser.add_argument("--run-id", help="name of the run")
    parser.add_argument("--portfolio", help="namespace of events whose engine names none")
    parser.add_argument("--mode", choices=("backtest", "live"))
    parser.add_argument("--writer", choices=("process", "inline", "none"))
    parser.add_argument("script", type=Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)
    script: Path = options.script
    try:
        if not script.is_file():
            raise FillpathError(f"There is no script at {script}.")
        tracing = Tracing(
            options.run_id,
            data=options.data,
            portfolio=options.portfolio,
            mode=options.mode,
            service_name=script.stem,
            parameters={"script": script.name, "arguments": list(options.arguments)},
            writer=options.writer,
        )
        run_script(script, options.arguments, tracing)
    except FillpathError as error:
        sys.stderr.write(f"fillpath: {error}\n")
        return EXIT_USAGE if not script.is_file() else error.exit_code
    return 0
