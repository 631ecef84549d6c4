"""Run benchmarks, print their figures and write them as JSON: ``make bench``.

``make bench ONLY=caller,size`` runs some, ``ONLY=engines`` those of all engines that are installed,
``FULL=1`` at full size. Each benchmark has a process of its own, so that none finds what another
one left. The exit code is 0 also when a goal is missed, and 1 when a benchmark fails.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from engines import NAMES as ENGINES
from engines import PREFIX, absent
from fillpath.instrumentation.settings import ENV_COMPILED
from harness import Figure, Size

NAMES: Final = (
    "caller", "disabled", "pipeline", "api", "otlp", "size", "find", "memory", "sampling",
    *ENGINES, "postgres", "queries", "report",
)  # fmt: skip
_GROUPS: Final = {"engines": ENGINES}
"""Names that stand for several."""
_KNOWN: Final = ", ".join((*NAMES, *_GROUPS))
_HERE: Final = Path(__file__).resolve().parent


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--only", default="", help=f"comma-separated, of: {_KNOWN}")
    parser.add_argument("--size", default=Size.USUAL, type=Size, help=" | ".join(Size))
    parser.add_argument("--output", default=Path("build/bench.json"), type=Path)
    parser.add_argument(
        "--markdown", nargs="*", type=Path, metavar="JSON", help="print these results as Markdown"
    )
    parser.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        return _inside(given.inside, given.size, given.output)
    if given.markdown is not None:
        results: dict[str, Any] = {}
        for path in given.markdown or [given.output]:
            results |= json.loads(path.read_text())
        from figure_table import print_markdown

        print_markdown(results)
        return 0
    asked = [name.strip() for name in given.only.split(",") if name.strip()] or list(NAMES)
    chosen = [one for name in asked for one in _GROUPS.get(name, (name,))]
    if unknown := [name for name in chosen if name not in NAMES]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {_KNOWN}")
    return _run(chosen, given.size, given.output)


def _run(chosen: list[str], size: Size, output: Path) -> int:
    # What the figures are printed with stays out of the processes in which they are measured.
    from figure_table import print_absence, print_failure, print_table
    from machine import describe

    results: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    failed = False
    for name in dict.fromkeys(chosen):
        if (lacking := absent(name)) is not None:
            print_absence(name, lacking)
            continue
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            written = Path(scratch) / "figures.json"
            done = subprocess.run(
                [*_myself(), "--inside", name, "--size", size, "--output", str(written)],
                env=_without_settings(),
                check=False,
            )
            if done.returncode == 0:
                results[name] = json.loads(written.read_text())
            else:
                failed = True
                print_failure(name, done.returncode)
        seconds[name] = round(time.monotonic() - begun, 1)
    results["machine"] = describe() | {"size": str(size), "seconds": seconds}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print_table(results, output)
    return 1 if failed else 0


def _inside(arguments: list[str], size: Size, output: Path) -> int:
    """One benchmark in a process of its own, or a process that a benchmark starts."""
    name, *rest = arguments
    if name.startswith(PREFIX):
        from engines import measure

        return _written(measure(size, name), output)
    module = importlib.import_module(name)
    if rest:
        module.child(*rest)
        return 0
    return _written(module.measure(size), output)


def _written(figures: dict[str, Figure], output: Path) -> int:
    output.write_text(json.dumps({name: figure.to_dict() for name, figure in figures.items()}))
    return 0


def _myself() -> list[str]:
    return [sys.executable, "-P", str(_HERE)]


def _without_settings() -> dict[str, str]:
    """The environment without what the user set for fillpath and OpenTelemetry.

    But whether recording is compiled is for the user to choose, and told beside the figures.
    """
    ours = ("FILLPATH_", "OTEL_")
    return {
        name: value
        for name, value in os.environ.items()
        if name == ENV_COMPILED or not name.startswith(ours)
    }


if __name__ == "__main__":
    sys.exit(main())
