"""`fillpath report`."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import lake_connection
from fillpath.analytics.output import print_json, print_line, say
from fillpath.analytics.results_loading import results_of
from fillpath.analytics.run_lookup import find_run
from fillpath.analytics.trace_links import configured_links
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.errors import MissingExtra, UsageError
from fillpath.instrumentation.settings import ENV_REPORT_TEMPLATES

if TYPE_CHECKING:
    from fillpath.analytics.report_model import ReportData
    from fillpath.analytics.report_own_sections import OwnTemplate
    from fillpath.analytics.report_sections import Section
    from fillpath.analytics.results_manager import ResultsManager

Format = Literal["html", "csv", "json"]


def make_report(
    given: Invocation,
    wanted: str,
    *,
    form: Format,
    output: Path | None,
    templates: Path | None,
    open_it: bool,
) -> None:
    """Write the report of a run, or its results for other programs, and print where they are.

    Raises:
        NotFound: There is no such run.
        MissingExtra: The extra `report` is not installed.
        UsageError: Options do not fit together, or there is no such folder of templates.
        FillpathError: The report cannot be written.
    """
    if form != "html" and (open_it or templates is not None):
        raise UsageError(f"--open and --templates are for HTML, not for {form}.")
    if output is not None and str(output) == "-" and (form != "json" or given.json):
        raise UsageError("Only --format json can be written to stdout, and not with --json.")
    with lake_connection(given.folder) as connection:
        run_id = find_run(connection, wanted)
    if form != "html":
        _export(given, run_id, form, output)
        return
    path = write_run_report(given, run_id, output, templates)
    if given.json:
        print_json({"run_id": run_id, "path": path})
    else:
        print_line(path)
    if open_it:
        import webbrowser

        if not webbrowser.open(path.as_uri()):
            say(("No browser was found; open it with: ", "yellow"), path.as_uri())


def write_run_report(
    given: Invocation, run_id: str, output: Path | None = None, templates: Path | None = None
) -> Path:
    """Bring the results of a run up to date and write its report.

    A section of the user's own that fails is told of on stderr and in its place; the rest of the
    report is made all the same.

    Args:
        given: What the command line says.
        run_id: The run; its whole id.
        output: The file; else one of the run's name in the folder of reports.
        templates: Folder of further sections; else `FILLPATH_REPORT_TEMPLATES`, else none.

    Raises:
        MissingExtra: The extra `report`, or one for the results database, is not installed.
        UsageError: `FILLPATH_TRACE_URL` or `FILLPATH_TRACE_LINKS` is no address, or there is no
            folder `templates`.
        FillpathError: The results cannot be loaded, or the file cannot be written.
    """
    for module in ("jinja2", "altair"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtra("report", "to make an HTML report")
    viewers = configured_links()
    from fillpath.analytics.report import write_report
    from fillpath.analytics.report_data import report_data
    from fillpath.analytics.report_own_sections import brought_sections, own_templates

    folder = given.folder
    listed = own_templates(templates or _templates_of_the_environment())
    brought = brought_sections()
    store = EventStore(folder)
    with results_of(folder) as results:
        results.load(store, run_id)
        command = given.lasting_command()
        data = report_data(results, store, run_id, command=command, viewers=viewers)
        if listed or brought:
            data = _with_own_sections(data, results, store, listed, brought)
    return write_report(data, output or folder.reports / f"{run_id}.html")


def _with_own_sections(
    data: ReportData,
    results: ResultsManager,
    store: EventStore,
    listed: tuple[OwnTemplate, ...],
    brought: tuple[Section, ...],
) -> ReportData:
    from fillpath.analytics.report_own_sections import OwnContent, own_sections
    from fillpath.analytics.report_sections import ReportSource

    run_id = data.run.run_id
    with store.connect([run_id]) as connection:
        run = results.run(run_id)
        source = ReportSource(results, store, connection, run, data.currency_digits)
        own = own_sections(data, source, listed, brought)
    for filled in own:
        if isinstance(filled.model, OwnContent) and filled.model.failure:
            words = f"The section '{filled.section.title}' could not be made. "
            say((words, "yellow"), filled.model.failure)
    return replace(data, sections=(*data.sections, *own))


def _templates_of_the_environment() -> Path | None:
    named = os.environ.get(ENV_REPORT_TEMPLATES, "").strip()
    return Path(named) if named else None


def _export(given: Invocation, run_id: str, form: Format, output: Path | None) -> None:
    from fillpath.analytics.report_data import report_data
    from fillpath.analytics.report_exports import write_csv_files, write_json

    store = EventStore(given.folder)
    with results_of(given.folder) as results:
        results.load(store, run_id)
        if form == "csv":
            folder = output or given.folder.reports / run_id
            if folder.exists() and not folder.is_dir():
                raise UsageError(f"{folder} is no folder; --format csv writes a file a table.")
            paths = write_csv_files(results, run_id, folder)
            if given.json:
                print_json({"run_id": run_id, "paths": paths})
            else:
                print_line(paths[0].parent)
            return
        target = output or given.folder.reports / f"{run_id}.json"
        sections = report_data(results, store, run_id).sections
        path = write_json(results, run_id, sections, None if str(target) == "-" else target)
    if given.json:
        print_json({"run_id": run_id, "path": path})
    elif path is not None:
        print_line(path)
