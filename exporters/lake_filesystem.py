"""Lets DuckDB read a lake that is in an object store: the files of the lake, and nothing else.

DuckDB's own reader of object stores is an extension that it would have to download. It takes an
fsspec filesystem as well, and reads through it only the byte ranges that it needs: the footer,
then the columns and row groups that a query cannot do without.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fillpath.exporters.lake_storage import SCHEME
from fillpath.instrumentation.errors import MissingExtra

if TYPE_CHECKING:
    import duckdb

    from fillpath.exporters.lake_file import LakeFile


def register_filesystem(connection: duckdb.DuckDBPyConnection, files: Iterable[LakeFile]) -> None:
    """Let a connection open these files by their URLs, to read.

    Raises:
        MissingExtra: When fsspec is not installed.
    """
    try:
        import fsspec  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtra("s3", "to query a lake in an object store") from error

    known = {file.address.partition("://")[2]: file for file in files}

    class LakeFilesystem(fsspec.AbstractFileSystem):  # type: ignore[misc]
        """Files by the URL without its scheme. They never change, so neither does their time."""

        protocol = SCHEME
        cachable = False

        def _known(self, path: str) -> LakeFile:
            file = known.get(str(self._strip_protocol(path)))
            if file is None:
                raise FileNotFoundError(path)
            return file

        def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
            if mode != "rb":
                raise PermissionError(f"{path} is only there to be read")
            return self._known(path).open()

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            return {"name": path, "size": self._known(path).size, "type": "file"}

        def exists(self, path: str, **_: Any) -> bool:
            return str(self._strip_protocol(path)) in known

        def glob(self, path: str, **_: Any) -> list[str]:
            return [path] if self.exists(path) else []

        def modified(self, path: str) -> dt.datetime:
            self._known(path)
            return dt.datetime.fromtimestamp(0, dt.UTC)

    connection.register_filesystem(LakeFilesystem())
