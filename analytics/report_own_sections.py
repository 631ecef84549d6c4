"""Sections of the user's own: templates in a folder, and what other packages bring.

A template sees the run, the results and the lake, and writes text; it runs in Jinja's sandbox, so
it can neither read files nor reach the process. One that fails says so in its own section, and the
rest of the report is made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics import report_views
from fillpath.analytics.report_environment import report_environment
from fillpath.analytics.report_model import ReportData
from fillpath.analytics.report_sections import FilledSection, ReportSource, Section
from fillpath.exporters.sql_guard import check_reads_only
from fillpath.instrumentation.errors import FillpathError, UsageError

if TYPE_CHECKING:
    from jinja2 import Environment

ENTRY_POINTS: Final = "fillpath_report_section"
"""Group under which a package names a `Section` of its own."""
MOST_ROWS: Final = 10_000
"""Rows that a template may ask for at once."""
_TITLE: Final = re.compile(r"\A\s*\{#-?\s*(.+?)\s*-?#\}")
# Before a template's first line, so that its lines keep their numbers.
_WITH_MACROS: Final = '{% import "_macros.html" as ui with context %}'
_TEMPLATE: Final = "_own_section.html"
_NOT_IN_AN_ANCHOR: Final = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class OwnTemplate:
    """A template of the user's.

    Attributes:
        path: Its file.
        key: Anchor of its section.
        title: Heading: the comment on its first line (``{# Title #}``), else the file's name.
        text: What it says.
    """

    path: Path
    key: str
    title: str
    text: str


def own_templates(folder: Path | None) -> tuple[OwnTemplate, ...]:
    """Read the templates of a folder, in the order of their names.

    Raises:
        UsageError: There is no such folder, or a file in it cannot be read.
    """
    if folder is None:
        return ()
    place = folder.expanduser()
    if not place.is_dir():
        raise UsageError(f"There is no folder of templates {place}.")
    found = []
    for path in sorted(place.glob("*.html")):
        if path.name.startswith("_"):
            continue  # for others to include
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"The template {path} cannot be read: {error}.") from error
        titled = _TITLE.match(text)
        name = path.stem.replace("_", " ").replace("-", " ").strip()
        title = titled[1] if titled else name[:1].upper() + name[1:]
        found.append(OwnTemplate(path, _key(path.stem), title, text))
    return tuple(found)


def _key(stem: str) -> str:
    return f"own-{_NOT_IN_AN_ANCHOR.sub('-', stem.lower()).strip('-')}"


def brought_sections() -> tuple[Section, ...]:
    """Load the sections that installed packages bring, by the name of their entry point.

    Raises:
        UsageError: What an entry point names is no `Section`, or cannot be imported.
    """
    sections = []
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda one: one.name):
        try:
            section = point.load()
        except Exception as error:
            raise UsageError(
                f"The report's section '{point.name}' cannot be loaded from {point.value}: {error}."
            ) from error
        if not isinstance(section, Section):
            raise UsageError(f"The report's section '{point.name}' ({point.value}) is no Section.")
        sections.append(section)
    return tuple(sections)


@dataclass(frozen=True, slots=True)
class OwnContent:
    """What a section of the user's came to.

    Attributes:
        key: Its anchor.
        title: Its heading.
        markup: What it wrote, escaped as templates do.
        whole: Whether `markup` is the whole section, with its heading.
        failure: Why there is nothing, and where it went wrong.
    """

    key: str
    title: str
    markup: str = ""
    whole: bool = False
    failure: str | None = None


def own_sections(
    data: ReportData,
    source: ReportSource,
    templates: Iterable[OwnTemplate] = (),
    brought: Iterable[Section] = (),
) -> tuple[FilledSection, ...]:
    """Let sections of the user's own, and those of other packages, write themselves.

    Args:
        data: What the report shows besides.
        source: Where they read from.
        templates: The user's templates.
        brought: Sections of other packages.

    Returns:
        One for each, in which `OwnContent.failure` tells of one that failed.
    """
    traces = report_views.trace_views(data).embedded
    contents = []
    for section in brought:
        content = _brought(section, data, source, traces)
        if content is not None:
            contents.append(content)
    listed = tuple(templates)
    folders = list(dict.fromkeys(template.path.parent for template in listed))
    sandbox = report_environment(data, traces, folders=folders, sandboxed=True)
    given = {"run": data.run, "data": data, **queries(source)}
    contents.extend(_written(template, sandbox, given) for template in listed)
    return tuple(map(_filled, contents))


def queries(source: ReportSource) -> dict[str, Callable[..., Any]]:
    """Return the functions with which a template asks for data of its run.

    ``sql(query)``: rows of one DuckDB query over the views ``spans`` and ``runs``.
    ``results(table)``: the rows of a table of the results.
    ``pnl_by(dimension, …)``: sums of profit, as `ResultsManager.pnl_by` gives them.
    """

    def sql(query: str) -> list[dict[str, Any]]:
        check_reads_only(query)
        cursor = source.connection.cursor().execute(query)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchmany(MOST_ROWS)]

    def results(table: str) -> list[dict[str, Any]]:
        return source.results.rows(table, source.run.run_id)

    def pnl_by(*dimensions: str) -> list[Any]:
        return source.results.pnl_by(source.run.run_id, *dimensions)

    return {"sql": sql, "results": results, "pnl_by": pnl_by}


def _written(
    template: OwnTemplate, environment: Environment, given: Mapping[str, Any]
) -> OwnContent:
    try:
        compiled = environment.from_string(_WITH_MACROS + template.text)
        return OwnContent(template.key, template.title, compiled.render(given))
    except Exception as error:  # noqa: BLE001 - whatever a user's template or query does wrong
        where = template.path.name
        line = _line_of(error)
        where = f"{where}, line {line}" if line else where
        return OwnContent(template.key, template.title, failure=f"{where}: {_words(error)}")


def _brought(
    section: Section, data: ReportData, source: ReportSource, traces: frozenset[str]
) -> OwnContent | None:
    try:
        model = section.read(source)
        if model is None:
            return None
        folders = [section.folder] if section.folder is not None else []
        environment = report_environment(data, traces, folders=folders)
        text = f"{_WITH_MACROS}{{% include {json.dumps(section.template)} %}}"
        compiled = environment.from_string(text)
        markup = compiled.render(section=model, data=data, run=data.run)
        return OwnContent(section.key, section.title, markup, whole=True)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's section does wrong
        return OwnContent(section.key, section.title, failure=_words(error))


def _line_of(error: BaseException) -> int | None:
    """The line of the template in which it went wrong, as far as that is known."""
    line: int | None = getattr(error, "lineno", None)
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename in {"<template>", "<unknown>"}:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _words(error: BaseException) -> str:
    if isinstance(error, FillpathError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _filled(content: OwnContent) -> FilledSection:
    section = Section(content.key, content.title, _TEMPLATE, lambda _: None)
    return FilledSection(section, content)
