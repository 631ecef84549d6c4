"""`fillpath doctor`: checks every part that a command may need, and says what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from fillpath.analytics import (
    installation_checks,
    lake_checks,
    otlp_checks,
    postgres_checks,
    spool_checks,
)
from fillpath.analytics.check_result import CheckResult
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.output import data_console, print_json, say, styled
from fillpath.instrumentation.errors import EXIT_CHECK_FAILED, EXIT_OK, FillpathError
from fillpath.instrumentation.settings import DataFolder

_CHECKS: Final[tuple[tuple[str, Callable[[DataFolder], Iterator[CheckResult]]], ...]] = (
    ("installation", installation_checks.check_installation),
    ("data folder", installation_checks.check_data_folder),
    ("spool", spool_checks.check_spools),
    ("lake", lake_checks.check_lake),
    ("OTLP", otlp_checks.check_otlp),
    ("Postgres", postgres_checks.check_postgres),
)
_MARKS: Final = {
    "passed": ("✔", "bold green"),
    "failed": ("✘", "bold red"),
    "warning": ("!", "bold yellow"),
    "skipped": ("\N{EN DASH}", "dim"),
}


def examine(folder: DataFolder) -> Iterator[CheckResult]:
    """Run every check on a data folder; one that breaks down has failed."""
    for area, check in _CHECKS:
        try:
            yield from check(folder)
        except FillpathError as error:
            yield CheckResult.failed(area, error.message, error.next_command)
        except Exception as error:  # noqa: BLE001 - the other checks still help
            finding = f"The check broke down: {type(error).__name__}: {error}"
            yield CheckResult.failed(area, finding)


def run_doctor(given: Invocation) -> int:
    """Print what every check found; gives the exit code."""
    results = []
    if given.json:
        results = list(examine(given.folder))
        print_json(
            {
                "passed": not any(one.outcome == "failed" for one in results),
                "data": given.folder.path,
                "checks": [
                    {
                        "area": one.area,
                        "outcome": one.outcome,
                        "finding": one.finding,
                        "advice": given.completed(one.advice),
                        "facts": one.facts,
                    }
                    for one in results
                ],
            }
        )
    else:
        console = data_console()
        area = ""
        for one in examine(given.folder):
            if one.area != area:
                area = one.area
                console.print(styled((area[0].upper() + area[1:], "bold")))
            mark, style = _MARKS[one.outcome]
            first, *more = one.finding.splitlines() or [""]
            console.print(styled("  ", (mark, style), " ", first), soft_wrap=True)
            for line in more:
                console.print(styled("    ", line), soft_wrap=True)
            if one.advice:
                words = ("    Try: ", "bold" if one.outcome == "failed" else "dim")
                console.print(styled(words, given.completed(one.advice) or ""), soft_wrap=True)
            results.append(one)
    failed = sum(one.outcome == "failed" for one in results)
    if failed:
        say((f"{failed} of {len(results)} checks failed.", "bold red"))
        return EXIT_CHECK_FAILED
    warnings = sum(one.outcome == "warning" for one in results)
    if warnings:
        say((f"Nothing failed; {warnings} warning{'s' * (warnings != 1)}.", "yellow"))
    else:
        say(("Everything is in order.", "green"))
    return EXIT_OK
