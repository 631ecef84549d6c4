"""The results database: the embedded Postgres of the data folder, or a server of the user's.

`open_results_database` is the way in; what it yields is connected to with `connect` and has the
current schema. Messages never show a password.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fillpath.analytics import embedded_postgres, migrate
from fillpath.instrumentation.errors import BackendUnreachable, MissingExtra, UsageError
from fillpath.instrumentation.settings import ENV_POSTGRES_DSN, DataFolder

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.rows import TupleRow

CONNECT_SECONDS: Final = 5
"""How long a server may take to accept a connection, unless the connection string says."""

_HIDDEN: Final = "***"
_SECRETS: Final = ("password", "sslpassword", "oauth_client_secret")


@dataclass(frozen=True, slots=True)
class ResultsDatabase:
    """A results database that can be connected to.

    Args:
        dsn: Connection string, secrets and all; for connecting, not for showing.
        embedded: Whether it is the server of the data folder.
    """

    dsn: str = field(repr=False)
    embedded: bool

    @property
    def shown(self) -> str:
        """Where it is, without its secrets."""
        return describe_dsn(self.dsn)

    def connect(self, *, autocommit: bool = False) -> Connection[TupleRow]:
        """Connect to it; the connection is a context manager that commits and closes.

        Raises:
            BackendUnreachable: It does not answer, or refuses the login.
        """
        return _connect(self.dsn, embedded=self.embedded, autocommit=autocommit)


@contextmanager
def open_results_database(
    folder: DataFolder, dsn: str | None = None, *, migrated: bool = True
) -> Iterator[ResultsDatabase]:
    """Use the results database of `folder`, or the server that `dsn` names.

    The embedded server runs as long as somebody is inside this context manager, in any process.

    Args:
        folder: The data folder.
        dsn: Connection string of a server, as libpq takes it; else ``FILLPATH_POSTGRES__DSN``;
            else the embedded server is used.
        migrated: Bring the schema up to date first.

    Raises:
        BackendUnreachable: The server does not answer, or refuses the login.
        ResultsError: The embedded server cannot be used, or the schema is not ours.
        MissingExtra: psycopg or the embedded server is not installed.
        UsageError: The connection string is not one.
    """
    external = external_dsn(dsn)
    _require_psycopg(embedded=external is None)
    if external is None:
        with embedded_postgres.embedded_server(folder.postgres) as url:
            yield _opened(ResultsDatabase(url, embedded=True), migrated=migrated)
    else:
        yield _opened(ResultsDatabase(external, embedded=False), migrated=migrated)


def results_database_url(folder: DataFolder, dsn: str | None = None) -> ResultsDatabase:
    """Give a results database that stays reachable after this process.

    The embedded server is left running until `stop_results_database`.

    Raises:
        FillpathError: As `open_results_database` does.
    """
    with open_results_database(folder, dsn) as database:
        if database.embedded:
            embedded_postgres.keep_running(folder.postgres)
        return database


def stop_results_database(folder: DataFolder) -> bool:
    """Stop the embedded server if it runs, also if it was left running; tell whether it ran.

    Raises:
        ResultsError: Another process uses it; it stops when that one ends.
    """
    return embedded_postgres.stop_server(folder.postgres)


def external_dsn(given: str | None = None) -> str | None:
    """Give the connection string of the user's own server, if there is to be one."""
    return (given or os.environ.get(ENV_POSTGRES_DSN) or "").strip() or None


def describe_dsn(dsn: str) -> str:
    """Say where `dsn` leads to, without user secrets: ``postgresql://user@host:5432/database``.

    Raises:
        UsageError: It is not a connection string.
    """
    from psycopg.conninfo import make_conninfo

    parts = _dsn_parts(dsn)
    if parts.keys() <= {"user", "password", "host", "port", "dbname"}:
        user = f"{parts['user']}@" if "user" in parts else ""
        host = parts.get("host", "")
        if not host.startswith("/"):
            port = f":{parts['port']}" if "port" in parts else ""
            return f"postgresql://{user}{host}{port}/{parts.get('dbname', '')}"
    return make_conninfo(
        "", **{name: _HIDDEN if name in _SECRETS else value for name, value in parts.items()}
    )


def _dsn_parts(dsn: str) -> dict[str, str]:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(dsn)
    except (psycopg.Error, UnicodeError):
        # libpq's own words would repeat the string, and the password in it.
        raise UsageError(
            f"The connection string of the results database ({ENV_POSTGRES_DSN}) is not one "
            "that libpq understands.",
            next_command=f"{ENV_POSTGRES_DSN}=postgresql://USER:PASSWORD@HOST:5432/DATABASE",
        ) from None
    return {name: str(value) for name, value in parts.items() if value is not None}


def _require_psycopg(*, embedded: bool) -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        extra = "postgres-embedded" if embedded else "postgres"
        raise MissingExtra(extra, "to keep results in Postgres") from error


def _opened(database: ResultsDatabase, *, migrated: bool) -> ResultsDatabase:
    with database.connect() as connection:
        if migrated:
            migrate.apply_migrations(connection)
    return database


def _connect(dsn: str, *, embedded: bool, autocommit: bool) -> Connection[TupleRow]:
    import psycopg

    parts = _dsn_parts(dsn)
    defaults = {"connect_timeout": str(CONNECT_SECONDS), "application_name": "fillpath"}
    settings = {name: value for name, value in defaults.items() if name not in parts}
    failure = None
    try:
        return psycopg.connect(dsn, autocommit=autocommit, **settings)  # type: ignore[arg-type]
    except (psycopg.Error, UnicodeError) as error:
        failure = " ".join(str(error).split())
    # Outside of the handler, so that the original, which may hold secrets, is not chained.
    for name in _SECRETS:
        if parts.get(name):
            failure = failure.replace(parts[name], _HIDDEN)
    if not failure.endswith((".", "?")):
        failure += "."
    try_psql = f'psql "${ENV_POSTGRES_DSN}" -c "select 1"'
    raise BackendUnreachable(
        f"No connection to the results database at {describe_dsn(dsn)}: {failure}",
        next_command="fillpath db stop" if embedded else try_psql,
    )
