"""Numbered SQL migrations: each applied once, in order, and never changed afterwards.

A migration is a file ``NNNN_name.sql`` in ``migrations/``. What was applied is in the table
``schema_migrations``, with the checksum of the file. Tables go to the first schema of the
connection's search path (``public`` unless the connection string sets another).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fillpath.analytics.results_error import ResultsError, first_line

if TYPE_CHECKING:
    from psycopg import Connection, Cursor
    from psycopg.rows import TupleRow

MIGRATIONS_FOLDER: Final = Path(__file__).parent / "migrations"
OLDEST_SERVER: Final = 140000
"""The oldest server the migrations work on, as Postgres numbers its versions."""
LOCK_SECONDS: Final = 60
"""How long to wait for another process that migrates."""

# Any number will do, as long as nobody else takes it for something else: "fillpath" in ASCII.
_ADVISORY_LOCK: Final = 0x66696C6C70617468
_RECORD: Final = """
CREATE TABLE schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE schema_migrations IS 'The steps this schema was made by.';
COMMENT ON COLUMN schema_migrations.version IS 'Number of the step, from 1.';
COMMENT ON COLUMN schema_migrations.name IS 'Name of the step.';
COMMENT ON COLUMN schema_migrations.checksum IS 'SHA-256 of its SQL, as hex digits.';
COMMENT ON COLUMN schema_migrations.applied_at IS 'When it was applied.';
"""
_FILE_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema.

    Args:
        version: Its number, from 1.
        name: What it is called.
        statements: SQL; several statements are fine.
    """

    version: int
    name: str
    statements: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the statements, line ends apart."""
        text = "\n".join(self.statements.splitlines())
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def label(self) -> str:
        """The number and the name, as in the name of the file."""
        return f"{self.version:04d}_{self.name}"


def read_migrations(folder: Path = MIGRATIONS_FOLDER) -> list[Migration]:
    """Read the migrations in `folder`, in order.

    Raises:
        ValueError: A file is named otherwise, or the numbers are not 1, 2, 3…
    """
    migrations = []
    for path in sorted(folder.glob("*.sql")):
        matched = _FILE_NAME.fullmatch(path.name)
        if matched is None:
            raise ValueError(f"{path.name} is not named NNNN_name.sql")
        text = path.read_text(encoding="utf-8")
        migrations.append(Migration(int(matched[1]), matched[2], text))
    numbers = [migration.version for migration in migrations]
    if numbers != list(range(1, len(numbers) + 1)):
        raise ValueError(f"migrations are numbered {numbers}, which is not 1, 2, 3…")
    return migrations


def pending_migrations(
    connection: Connection[TupleRow], migrations: Sequence[Migration] | None = None
) -> list[Migration]:
    """Give the migrations that the database lacks, in order; nothing is changed.

    Args:
        connection: A connection outside of a transaction.
        migrations: Instead of the ones that come with fillpath.

    Raises:
        ResultsError: As `apply_migrations` does.
    """
    import psycopg

    try:
        with connection.transaction(), connection.cursor() as cursor:
            _check_server(cursor)
            return _pending(
                _applied(cursor), read_migrations() if migrations is None else migrations
            )
    except psycopg.Error as error:
        raise ResultsError(
            f"The schema of the results database cannot be read: {first_line(error)}.",
            next_command="a database and a login of its own for fillpath in FILLPATH_POSTGRES__DSN",
        ) from error


def apply_migrations(
    connection: Connection[TupleRow], migrations: Sequence[Migration] | None = None
) -> list[Migration]:
    """Bring the database up to date, in one transaction; give what was applied.

    Safe to call from several processes at once: one of them migrates, the others wait.

    Args:
        connection: A connection outside of a transaction.
        migrations: Instead of the ones that come with fillpath.

    Raises:
        ResultsError: The database is newer than this code, a migration was changed after it was
            applied, or the server refuses.
    """
    import psycopg

    known = read_migrations() if migrations is None else migrations
    try:
        with connection.transaction(), connection.cursor() as cursor:
            _check_server(cursor)
            # Most of the time there is nothing to do, and no need to wait for anybody.
            if not _pending(_applied(cursor), known):
                return []
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
            pending = _pending(_applied(cursor), known)
            for migration in pending:
                _apply(cursor, migration)
            return pending
    except psycopg.errors.LockNotAvailable as error:
        raise ResultsError(
            f"Another process has been migrating the results database for {LOCK_SECONDS} seconds.",
            next_command="the same command again in a while",
        ) from error
    except psycopg.Error as error:
        raise ResultsError(
            f"The schema of the results database cannot be brought up to date: "
            f"{first_line(error)}.",
            next_command="a database and a login of its own for fillpath in FILLPATH_POSTGRES__DSN",
        ) from error


def _check_server(cursor: Cursor[TupleRow]) -> None:
    info = cursor.connection.info
    if info.server_version < OLDEST_SERVER:
        raise ResultsError(
            f"The results database is Postgres {info.server_version // 10000}; fillpath needs "
            f"{OLDEST_SERVER // 10000} or newer."
        )
    encoding = info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ResultsError(
            f"The results database is encoded in {encoding}; fillpath needs UTF8.",
            next_command="createdb --encoding=UTF8 --template=template0 fillpath",
        )


def _applied(cursor: Cursor[TupleRow]) -> dict[int, tuple[str, str]]:
    # Not to_regclass: after waiting for the lock it may still answer from a cache.
    cursor.execute(
        "SELECT count(*) FROM pg_catalog.pg_class "
        "WHERE relname = 'schema_migrations' AND pg_catalog.pg_table_is_visible(oid)"
    )
    if cursor.fetchone() == (0,):
        return {}
    cursor.execute("SELECT version, name, checksum FROM schema_migrations ORDER BY version")
    return {version: (name, checksum) for version, name, checksum in cursor.fetchall()}


def _pending(applied: Mapping[int, tuple[str, str]], known: Sequence[Migration]) -> list[Migration]:
    newest_known = known[-1].version if known else 0
    newest_applied = max(applied, default=0)
    if newest_applied > newest_known:
        raise ResultsError(
            f"The results database has schema version {newest_applied}, but this fillpath "
            f"knows none beyond {newest_known}: a newer fillpath has used it.",
            next_command="pip install --upgrade fillpath",
        )
    for migration in known:
        name, checksum = applied.get(migration.version, (None, None))
        if checksum not in {None, migration.checksum}:
            raise ResultsError(
                f"Migration {migration.label} of the results database was changed after it was "
                f"applied (then '{name}' with checksum {str(checksum)[:12]}, now "
                f"{migration.checksum[:12]}).",
                next_command="pip install --force-reinstall fillpath",
            )
    return [migration for migration in known if migration.version not in applied]


def _apply(cursor: Cursor[TupleRow], migration: Migration) -> None:
    if migration.version == 1:
        cursor.execute(_RECORD.encode())
    cursor.execute(migration.statements.encode())
    cursor.execute(
        "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
        [migration.version, migration.name, migration.checksum],
    )
