"""Renders a run's report: one HTML file that needs no network and lets no foreign script run.

The page carries its charts as inert JSON, the chart runtime and its own script as inline blocks
whose hashes are the only scripts that its content security policy allows, and every text as text.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fillpath.analytics import report_format
from fillpath.analytics.report_checks import (
    Check,
    completeness_holds,
    pnl_adds_up,
    report_checks,
)
from fillpath.analytics.report_model import ReportData
from fillpath.analytics.span_words import short_trace
from fillpath.analytics.trace_links import TracePlace
from fillpath.instrumentation.errors import FillpathError, MissingExtra

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["Check", "ReportData", "render_report", "report_checks", "write_report"]

_HERE = Path(__file__).parent
_TEMPLATES = _HERE / "templates"
_CHART_RUNTIME = _HERE / "vendor" / "vega-bundle.min.js"


def write_report(data: ReportData, path: Path) -> Path:
    """Write the report to a file, which is complete whenever it is there.

    Args:
        data: What to show.
        path: The file; its folder is made if it is missing.

    Returns:
        The file's absolute path.

    Raises:
        MissingExtra: If the extra ``report`` is not installed.
        FillpathError: If the file cannot be written.
    """
    page = render_report(data).encode("utf-8")
    target = path.expanduser().absolute()
    part = target.with_name(f".{target.name[:64]}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(page)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise FillpathError(
            f"The report cannot be written to {target}: {error.strerror or error}."
        ) from error
    return target


def render_report(data: ReportData) -> str:
    """Return the report as one HTML page.

    Raises:
        MissingExtra: If the extra ``report`` is not installed.
    """
    try:
        import jinja2
        from markupsafe import Markup

        from fillpath.analytics import report_views
    except ModuleNotFoundError as missing:
        if missing.name not in {"altair", "jinja2", "markupsafe"}:
            raise
        raise MissingExtra("report", "to make an HTML report") from missing

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    checks = report_checks(data)
    traces = report_views.trace_views(data)
    runtime, script, style = map(
        _block_source, (_CHART_RUNTIME, _TEMPLATES / "report.js", _TEMPLATES / "report.css")
    )
    _add_helpers(environment, data, traces.embedded)
    return environment.get_template("report.html").render(
        accounts=report_views.account_views(data),
        checks=checks,
        completeness=report_views.completeness_views(data.completeness),
        data=data,
        equity=report_views.equity_views(data),
        failed=[check for check in checks if check.passed is False],
        order_table=report_views.order_table(data.orders),
        pnl=report_views.pnl_tables(data),
        policy=_content_security_policy([runtime, script], [style]),
        run=data.run,
        runtime=Markup(runtime),  # noqa: S704 - our own files, checked by _block_source
        script=Markup(script),  # noqa: S704
        sections=data.sections,
        style=Markup(style),  # noqa: S704
        traces=traces,
        unknown=[check for check in checks if check.passed is None],
    )


def _printable(value: object) -> object:
    """Clean what a template writes; text that is markup already was cleaned when it became so."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return report_format.printable(value)
    return value


def _block_source(path: Path) -> str:
    """Return a file that can stand between script or style tags as it is.

    Raises:
        ValueError: If it contains what would end the block or be read differently inside one.
    """
    text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    lowered = text.lower()
    for danger in ("</script", "<script", "</style", "<!--"):
        if danger in lowered:
            raise ValueError(f"{path.name} contains {danger!r} and cannot be inlined")
    return text


def _content_security_policy(scripts: list[str], styles: list[str]) -> str:
    def sources(blocks: list[str]) -> str:
        hashes = (hashlib.sha256(block.encode("utf-8")).digest() for block in blocks)
        return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in hashes)

    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {sources(scripts)}",
            f"style-src {sources(styles)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        )
    )


def inert_json(value: Any) -> str:
    """Return JSON that can stand in a script block: ASCII only, and no character of markup."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _add_helpers(environment: Environment, data: ReportData, embedded: frozenset[str]) -> None:
    from markupsafe import Markup

    from fillpath.analytics.report_views import trace_places

    def money(amount: Decimal, currency: str, *, signed: bool = False) -> report_format.Figure:
        digits = report_format.currency_digits(currency, data.currency_digits)
        return report_format.money(amount, digits, signed=signed)

    def command(*words: str) -> str:
        return shlex.join((*data.command, *map(report_format.printable, words)))

    places = trace_places(data)
    otherwise = TracePlace("", data.run.run_id, start=data.run.started_at)
    otherwise = replace(otherwise, end=data.run.ended_at or data.made_at or data.run.started_at)

    def viewers(trace_id: str) -> list[tuple[str, str]]:
        place = places.get(trace_id) or replace(otherwise, trace_id=trace_id)
        return [(link.name, link.url(place)) for link in data.viewers]

    def json_block(value: Any) -> Markup:
        return Markup(inert_json(value))  # noqa: S704 - no character of markup is left in it

    filters: dict[str, Callable[..., Any]] = {
        "count": report_format.count,
        "date": report_format.date,
        "duration": report_format.duration,
        "iso_timestamp": report_format.iso_timestamp,
        "json_block": json_block,
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
        money=money,
        pnl_adds_up=pnl_adds_up,
        ratio=report_format.ratio,
        viewers=viewers,
    )
