"""What the templates of a report have to write with: filters, macros' helpers, commands, links."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from fillpath.analytics import report_format
from fillpath.analytics.charts import ChartFigure, waterfall_figure
from fillpath.analytics.figure_definitions import FIGURES
from fillpath.analytics.figure_meaning import FigureDefinition
from fillpath.analytics.report_attribution import KINDS, Waterfall
from fillpath.analytics.report_checks import completeness_holds, pnl_adds_up
from fillpath.analytics.report_model import ReportData
from fillpath.analytics.report_trades import TradesTable, packed_document
from fillpath.analytics.report_views import trace_places
from fillpath.analytics.span_words import short_trace
from fillpath.analytics.trace_links import TracePlace

TEMPLATES: Final = Path(__file__).parent / "templates"


def report_environment(
    data: ReportData,
    embedded: frozenset[str],
    *,
    folders: Sequence[Path] = (),
    sandboxed: bool = False,
) -> Environment:
    """Return an environment for templates of a report.

    Args:
        data: What the report shows.
        embedded: Ids of the traces whose trees are in the page.
        folders: Where templates are beside ours.
        sandboxed: Keep templates from reaching anything but what they are given.
    """
    kind = ImmutableSandboxedEnvironment if sandboxed else Environment
    environment = kind(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    _add_helpers(environment, data, embedded)
    return environment


def _printable(value: object) -> object:
    """Clean what a template writes; text that is markup already was cleaned when it became so."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return report_format.printable(value)
    return value


def figure_groups() -> list[tuple[str, list[FigureDefinition]]]:
    """Every figure of a tearsheet by its group."""
    return [(name, list(its)) for name, its in groupby(FIGURES, key=lambda one: one.group)]


def inert_json(value: Any) -> str:
    """Return JSON that can stand in a script block: ASCII only, and no character of markup."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _add_helpers(environment: Environment, data: ReportData, embedded: frozenset[str]) -> None:
    def money(amount: Decimal, currency: str, *, signed: bool = False) -> report_format.Figure:
        digits = report_format.currency_digits(currency, data.currency_digits)
        return report_format.money(amount, digits, signed=signed)

    def command(*words: str) -> str:
        return shlex.join((*data.command, *map(report_format.printable, words)))

    def from_start_to_end(waterfall: Waterfall) -> ChartFigure:
        digits = report_format.currency_digits(waterfall.currency, data.currency_digits)
        return waterfall_figure(waterfall, digits)

    places = trace_places(data)
    otherwise = TracePlace("", data.run.run_id, start=data.run.started_at)
    otherwise = replace(otherwise, end=data.run.ended_at or data.made_at or data.run.started_at)

    def viewers(trace_id: str) -> list[tuple[str, str]]:
        place = places.get(trace_id) or replace(otherwise, trace_id=trace_id)
        return [(link.name, link.url(place)) for link in data.viewers]

    def trades_document(table: TradesTable) -> dict[str, Any]:
        names = {trade.currency for trade in table.first}
        names |= {*data.currency_digits, *data.pnl_totals}
        digits = {name: report_format.currency_digits(name, data.currency_digits) for name in names}

        def addresses(trace_id: str, portfolio: str) -> list[tuple[str, str]]:
            place = replace(otherwise, trace_id=trace_id, portfolio=portfolio)
            return [(link.name, link.url(place)) for link in data.viewers]

        return packed_document(table, digits, addresses)

    def own_markup(text: str) -> Markup:
        return Markup(text)  # noqa: S704 - a template with autoescape wrote it

    def json_block(value: Any) -> Markup:
        return Markup(inert_json(value))  # noqa: S704 - no character of markup is left in it

    filters: dict[str, Callable[..., Any]] = {
        "count": report_format.count,
        "date": report_format.date,
        "duration": report_format.duration,
        "held": report_format.held,
        "iso_timestamp": report_format.iso_timestamp,
        "json_block": json_block,
        "markup": own_markup,
        "number": report_format.number,
        "percent": report_format.percent,
        "short_trace": short_trace,
        "timestamp": report_format.timestamp,
    }
    environment.filters.update(filters)
    environment.globals.update(
        command=command,
        completeness_holds=completeness_holds,
        embedded=embedded,
        figure_groups=figure_groups,
        kind_titles=KINDS,
        money=money,
        pnl_adds_up=pnl_adds_up,
        ratio=report_format.ratio,
        trades_document=trades_document,
        viewers=viewers,
        waterfall_figure=from_start_to_end,
    )
