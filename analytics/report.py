"""Renders a run's report: one HTML file that needs no network and lets no foreign script run.

The page carries its charts as inert JSON, the chart runtime and its own script as inline blocks
whose hashes are the only scripts that its content security policy allows, and every text as text.
"""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fillpath.analytics.report_checks import (
    Check,
    report_checks,
)
from fillpath.analytics.report_model import ReportData
from fillpath.analytics.report_sections import ALWAYS
from fillpath.instrumentation.errors import FillpathError, MissingExtra

if TYPE_CHECKING:
    pass

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
        import jinja2  # noqa: F401 - the modules below may have been imported when it was there
        from markupsafe import Markup

        from fillpath.analytics import report_views
        from fillpath.analytics.report_environment import report_environment
    except ModuleNotFoundError as missing:
        if missing.name not in {"altair", "jinja2", "markupsafe"}:
            raise
        raise MissingExtra("report", "to make an HTML report") from missing

    checks = report_checks(data)
    traces = report_views.trace_views(data)
    runtime, script, style = map(
        _block_source, (_CHART_RUNTIME, _TEMPLATES / "report.js", _TEMPLATES / "report.css")
    )
    environment = report_environment(data, traces.embedded)
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
        sections=data.sections or ALWAYS,
        style=Markup(style),  # noqa: S704
        traces=traces,
        unknown=[check for check in checks if check.passed is None],
    )


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
