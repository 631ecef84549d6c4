"""`fillpath db load`, `fillpath db url` and `fillpath db stop`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import lake_connection
from fillpath.analytics.output import print_json, print_line, say
from fillpath.analytics.postgres import external_dsn, results_database_url, stop_results_database
from fillpath.analytics.progress import counted
from fillpath.analytics.results_loading import results_of
from fillpath.analytics.run_lookup import LATEST, find_run, run_ids
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.errors import UsageError


def load_runs(given: Invocation, wanted: Sequence[str], *, everything: bool) -> None:
    """Bring runs of the lake into the results database; what has not changed is left alone.

    Args:
        given: What the command line says.
        wanted: Run ids or unique prefixes; the latest run when empty.
        everything: Every run of the lake instead.

    Raises:
        NotFound: There is no such run.
        UsageError: Runs are named although every run is wanted.
        FillpathError: The lake or the results database cannot be used.
    """
    if everything and wanted:
        raise UsageError(
            "Name runs, or say --all, not both.", next_command=given.command("db", "load", "--all")
        )
    with lake_connection(given.folder) as connection:
        if everything:
            runs = run_ids(connection)
        else:
            runs = [find_run(connection, one) for one in wanted or [LATEST]]
    loaded = []
    store = EventStore(given.folder)
    with results_of(given.folder) as results:
        wanted_runs = list(dict.fromkeys(runs))
        for run_id in counted(wanted_runs, lambda run_id: f"loading {run_id}"):
            is_new = results.load(store, run_id)
            loaded.append({"run_id": run_id, "loaded": is_new})
            if not given.json:
                print_line(f"{run_id}  {'loaded' if is_new else 'was loaded already'}")
    if given.json:
        print_json(loaded)


def print_database_url(given: Invocation) -> None:
    """Print how to reach the results database, and leave the embedded server running.

    Raises:
        BackendUnreachable: The server does not answer.
        FillpathError: The embedded server cannot be used.
    """
    database = results_database_url(given.folder)
    if given.json:
        print_json({"url": database.dsn, "embedded": database.embedded})
        return
    if sys.stdout.isatty():
        print_line(database.shown)
        if database.shown != database.dsn and "***" in database.shown:
            say(("The password is left out on a terminal; a pipe gets it.", "dim"))
    else:
        print_line(database.dsn)
    if database.embedded:
        say(("The server runs on until: ", "dim"), given.command("db", "stop"))


def stop_database(given: Invocation) -> None:
    """Stop the embedded server.

    Raises:
        FillpathError: Another process uses it.
    """
    if external_dsn() is not None:
        say("The results are on a server of yours; fillpath does not stop it.")
    elif stop_results_database(given.folder):
        say("The results database has stopped.")
    else:
        say("The results database was not running.")
