"""A second connection that takes its share of the rows of a load.

Storing rows keeps one process of the server busy; two of them store nearly twice as many. What the
second one stores, in a table that nobody looks at yet, is committed before the load ends: it counts
only when the load, ending, makes that table a part of the one that is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.rows import TupleRow
    from psycopg.sql import Composed

_AHEAD: Final = 2
"""Blocks that wait for a connection: one being sent, and one not to be idle afterwards."""


class _AbandonedError(Exception):
    """The load failed on the other connection."""


class CopyLane:
    """A COPY that goes on beside another one."""

    def __init__(self) -> None:
        self._blocks: SimpleQueue[bytes | None] = SimpleQueue()
        self._abandoned = False
        self._done: Future[None] | None = None

    def offer(self, block: bytes) -> bool:
        """Give it a block, unless enough of them wait; tells whether it takes it.

        Raises:
            psycopg.Error: The database refused an earlier one.
        """
        if self._done is not None and self._done.done():
            self._done.result()
        if self._blocks.qsize() >= _AHEAD:
            return False
        self._blocks.put(block)
        return True

    def add(self, block: bytes) -> None:
        """Give it a block that only it can take: the head or the end of the stream."""
        self._blocks.put(block)

    def finish(self) -> None:
        """Wait until all of it is stored and committed.

        Raises:
            psycopg.Error: The database refused.
        """
        self._blocks.put(None)
        if self._done is not None:
            self._done.result()

    def _run(
        self,
        connection: Connection[TupleRow],
        make: Callable[[Connection[TupleRow]], None],
        statement: Composed,
    ) -> None:
        with connection.transaction():
            make(connection)
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                while (block := self._blocks.get()) is not None:
                    copy.write(block)
                if self._abandoned:
                    raise _AbandonedError

    @contextmanager
    def running(
        self,
        connection: Connection[TupleRow],
        make: Callable[[Connection[TupleRow]], None],
        statement: Composed,
    ) -> Iterator[None]:
        """Copy what is given, until `finish`; leaving without it leaves nothing.

        Args:
            connection: Its own connection.
            make: Makes its table, in its transaction.
            statement: The COPY.
        """
        with ThreadPoolExecutor(1) as pool:
            self._done = pool.submit(self._run, connection, make, statement)
            try:
                yield
            except BaseException:
                self._abandoned = True
                self._blocks.put(None)
                raise


@contextmanager
def another_connection(
    connection: Connection[TupleRow],
) -> Iterator[Connection[TupleRow] | None]:
    """Connect once more to the same database, as the same role; None if it does not let us."""
    info = connection.info
    given: dict[str, Any] = {"password": info.password} if info.password else {}
    settings = connection.execute(
        "SELECT current_setting('search_path'), current_setting('role')"
    ).fetchone()
    with ExitStack() as closing:
        yield _connected(closing, info.dsn, given, settings)


def _connected(
    closing: ExitStack, dsn: str, given: dict[str, Any], settings: TupleRow | None
) -> Connection[TupleRow] | None:
    import psycopg

    try:
        other = closing.enter_context(psycopg.connect(dsn, autocommit=True, **given))
        other.execute(
            "SELECT set_config('search_path', %s, false), set_config('role', %s, false)", settings
        )
    except psycopg.Error:
        return None
    return other
