"""`fillpath report`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import lake_connection
from fillpath.analytics.output import print_json, print_line, say
from fillpath.analytics.results_loading import results_of
from fillpath.analytics.run_lookup import find_run
from fillpath.analytics.trace_links import configured_links
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.errors import MissingExtra


def make_report(given: Invocation, wanted: str, *, output: Path | None, open_it: bool) -> None:
    """Write the report of a run and print where it is.

    Raises:
        NotFound: There is no such run.
        MissingExtra: The extra `report` is not installed.
        FillpathError: The report cannot be written.
    """
    with lake_connection(given.folder) as connection:
        run_id = find_run(connection, wanted)
    path = write_run_report(given, run_id, output)
    if given.json:
        print_json({"run_id": run_id, "path": path})
    else:
        print_line(path)
    if open_it:
        import webbrowser

        if not webbrowser.open(path.as_uri()):
            say(("No browser was found; open it with: ", "yellow"), path.as_uri())


def write_run_report(given: Invocation, run_id: str, output: Path | None = None) -> Path:
    """Bring the results of a run up to date and write its report.

    Args:
        given: What the command line says.
        run_id: The run; its whole id.
        output: The file; else one of the run's name in the folder of reports.

    Raises:
        MissingExtra: The extra `report`, or one for the results database, is not installed.
        UsageError: `FILLPATH_TRACE_URL` or `FILLPATH_TRACE_LINKS` is no address.
        FillpathError: The results cannot be loaded, or the file cannot be written.
    """
    for module in ("jinja2", "altair"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtra("report", "to make an HTML report")
    viewers = configured_links()
    from fillpath.analytics.report import write_report
    from fillpath.analytics.report_data import report_data

    folder = given.folder
    store = EventStore(folder)
    with results_of(folder) as results:
        results.load(store, run_id)
        data = report_data(results, store, run_id, command=given.lasting_command(), viewers=viewers)
    return write_report(data, output or folder.reports / f"{run_id}.html")
