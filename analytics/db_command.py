"""`fillpath db url` and `fillpath db stop`."""

from __future__ import annotations

import sys

from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.output import print_json, print_line, say
from fillpath.analytics.postgres import external_dsn, results_database_url, stop_results_database


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
