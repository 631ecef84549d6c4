"""Prints figures as a table, on the terminal or as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

_HEADINGS: Final = ("benchmark", "figure", "value", "peer", "peer's", "ratio", "goal", "met")
_MET: Final = {True: "yes", False: "no", None: ""}


def print_table(results: dict[str, Any], path: Path) -> None:
    """Print all figures, and where they were written."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in _HEADINGS:
        number = heading in {"value", "peer's", "ratio"}
        table.add_column(heading, justify="right" if number else "left", no_wrap=number)
    for *cells, met in _rows(results):
        style = {"yes": "green", "no": "red"}.get(met, "")
        table.add_row(*cells, f"[{style}]{met}[/]" if style else met)
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(table)
    machine = results["machine"]
    console.print(
        f"\n{machine['processor']}, {machine['cores']} cores, load {machine['load']}, "
        f"Python {machine['python']}, recording {machine['recording']}, size {machine['size']}",
        style="dim",
        highlight=False,
    )
    console.print(f"Written to {path}", highlight=False)


def print_failure(name: str, code: int) -> None:
    """Say that a benchmark failed; its own words stand above."""
    Console(stderr=True).print(f"[red]The benchmark {name} failed (exit code {code}).[/]")


def print_absence(name: str, lacking: str) -> None:
    """Say that a benchmark is left out, and why."""
    Console(stderr=True).print(f"The benchmark {name} is left out: {lacking}.", highlight=False)


def print_markdown(results: dict[str, Any]) -> None:
    """Print the table for docs/performance.md, and the machine it belongs to."""
    lines = ["| " + " | ".join(_HEADINGS) + " |", "|---|---|---:|---|---:|---:|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in _rows(results)]
    machine = results.get("machine", {})
    recording = machine.get("recording", "Python's")  # results of old do not say
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines += [
        "",
        f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB,",
        f"{machine['system']}, load at the end {machine['load']}.",
        f"Measured {machine['date']}, size {machine['size']}, with Python {machine['python']},",
        f"recording {recording},",
        f"{versions}.",
    ]
    print("\n".join(lines))


def _rows(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, figures in results.items():
        if name == "machine":
            continue
        for title, figure in figures.items():
            peer_value, ratio = figure["peer_value"], figure["ratio"]
            yield (
                name,
                title,
                f"{_number(figure['value'])} {figure['unit']}",
                figure["peer"] or "",
                "" if peer_value is None else _number(peer_value),
                "" if ratio is None else f"{_number(ratio)}×",
                figure["goal"] or "",
                _MET[figure["met"]],
            )


def _number(value: float) -> str:
    """Three digits that count, or all of a larger number."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
