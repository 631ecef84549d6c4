"""Where a table's files are: a local folder or an object store. Both make files visible whole.

In a folder a file is written under a temporary name, made durable, and renamed. An object store
shows an object only once all of it has arrived, so there the name is final from the beginning.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from fillpath.exporters.parquet_file import fsync, writing_whole
from fillpath.instrumentation.errors import BackendUnreachable, LakeError, UsageError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SCHEME: Final = "s3"
_OTHER_FOLDER: Final = "choose another data folder with --data"
_RETRY_SECONDS: Final = 30
"""How long a store that does not answer is asked again."""


class LakeUnreachable(BackendUnreachable, LakeError):
    """The object store of a lake does not answer, or refuses."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that lies in a table's folder, committed or not. The time is seconds."""

    name: str
    size: int
    modified_at: float


class LakeStorage(Protocol):
    """The files of one table, by name."""

    place: str
    """Path or URL for people."""
    options: dict[str, str] | None
    """What the Delta library needs to know to come there."""

    @property
    def uri(self) -> str:
        """The table as the Delta library names it."""

    def holds_table(self) -> bool:
        """Tell whether there is a Delta log; raises LakeError where there is something else."""

    def prepare(self) -> None:
        """Make the place, if it needs to be made."""

    def writing(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Open a new file to write; it can be seen, and is durable, once the block has ended."""

    def open(self, name: str) -> Any:
        """Open a file to read, as Arrow's file."""

    def address(self, name: str) -> str:
        """Give the full path or URL of a file."""

    def size(self, name: str) -> int | None:
        """Give the size of a file in bytes; None when it is not there."""

    def listed(self) -> Iterator[StoredFile]:
        """List the files beside the log, those under temporary names among them."""

    def remove(self, name: str) -> None:
        """Delete a file; one that is not there is no error."""

    def settle(self, first: int, last: int) -> None:
        """Make these versions of the log durable."""

    def mark_of_newest(self, version: int) -> tuple[int, ...] | None:
        """Give what tells this version of the log from one of another table.

        None when there is a newer one, or when that cannot be told without asking the log.
        """


def storage_at(place: str | Path) -> LakeStorage:
    """Give the storage of a table at a path or a URL.

    Raises:
        UsageError: When the URL is none of an object store that can be used.
    """
    text = str(place)
    if "://" not in text:
        return FolderStorage(Path(text))
    return ObjectStorage(text)


class FolderStorage:
    """A local folder.

    Args:
        folder: The folder; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = str(folder)
        self.options: dict[str, str] | None = None

    @property
    def uri(self) -> str:
        """The folder as a file URI."""
        if unquote(self.place) != self.place:
            raise LakeError(
                f"The Delta library cannot use a folder with a percent sign and two hexadecimal "
                f"digits in its path: {self.place}.",
                next_command=_OTHER_FOLDER,
            )
        return self.folder.as_uri()

    def holds_table(self) -> bool:
        """Tell whether there is a Delta log."""
        try:
            names = [entry.name for entry in os.scandir(self.folder)]
            if "_delta_log" in names:
                # A table whose making was cut short has a log without an entry.
                return any((self.folder / "_delta_log").iterdir())
        except FileNotFoundError:
            return False
        except OSError as error:
            raise LakeError(
                f"The table {self.place} cannot be read: {error.strerror or error}.",
                next_command=_OTHER_FOLDER,
            ) from error
        if any(not name.startswith(".") for name in names):
            raise LakeError(
                f"{self.place} holds files but no Delta log, so it is not a table.",
                next_command="move the files away, or choose another data folder with --data",
            )
        return False

    def prepare(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def writing(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Open a new file to write."""
        return writing_whole(self.folder / name)

    def open(self, name: str) -> Any:
        """Open a file to read."""
        return pa.OSFile(str(self.folder / name))

    def address(self, name: str) -> str:
        """Give the path of a file."""
        return str(self.folder / name)

    def size(self, name: str) -> int | None:
        """Give the size of a file in bytes."""
        try:
            return (self.folder / name).stat().st_size
        except FileNotFoundError:
            return None

    def listed(self) -> Iterator[StoredFile]:
        """List the files beside the log."""
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self.folder):
                with contextlib.suppress(FileNotFoundError):  # a writer has just renamed it
                    if entry.is_file():
                        state = entry.stat()
                        yield StoredFile(entry.name, state.st_size, state.st_mtime)

    def remove(self, name: str) -> None:
        """Delete a file."""
        (self.folder / name).unlink(missing_ok=True)

    def settle(self, first: int, last: int) -> None:
        """Make these versions of the log durable."""
        log = self.folder / "_delta_log"
        for version in range(first, last + 1):
            with contextlib.suppress(FileNotFoundError):
                fsync(log / f"{version:020d}.json")
        fsync(log)

    def mark_of_newest(self, version: int) -> tuple[int, ...] | None:
        """Give inode, time and size of the version's entry; None when it is not the newest."""
        log = self.folder / "_delta_log"
        try:
            state = (log / f"{version:020d}.json").stat()
        except OSError:
            return None
        if (log / f"{version + 1:020d}.json").exists():
            return None
        return state.st_ino, state.st_mtime_ns, state.st_size


class ObjectStorage:
    """A prefix of a bucket that speaks S3; who and where it is, the `AWS_` variables say.

    `AWS_ENDPOINT_URL` names a store other than Amazon's, over HTTP only when it begins so.

    Args:
        url: `s3://bucket/prefix`.

    Raises:
        UsageError: When it is not such a URL.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != SCHEME or not parts.netloc:
            raise UsageError(
                f"A lake can be a folder or at s3://bucket/prefix, not at {url}.",
                next_command="FILLPATH_LAKE=s3://bucket/prefix",
            )
        self.place = url.rstrip("/")
        self._key = f"{parts.netloc}{parts.path}".rstrip("/")
        self.options: dict[str, str] | None = {"retry_timeout": f"{_RETRY_SECONDS}s"}
        if _endpoint().startswith("http://"):
            self.options["AWS_ALLOW_HTTP"] = "true"
        self._filesystem: FileSystem | None = None

    @property
    def uri(self) -> str:
        """The table's URL."""
        return self.place

    @property
    def filesystem(self) -> FileSystem:
        """Arrow's view of the store, opened when it is first needed."""
        if self._filesystem is None:
            from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            known: dict[str, Any] = {"region": region} if region else {}
            if endpoint := _endpoint():
                parts = urlsplit(endpoint)
                known |= {"scheme": parts.scheme, "endpoint_override": parts.netloc}
                known |= {"region": region or "us-east-1"}
            self._filesystem = S3FileSystem(
                retry_strategy=AwsStandardS3RetryStrategy(max_attempts=10),
                # One PUT instead of a multipart upload's three for what fits into one part.
                allow_delayed_open=True,
                background_writes=False,
                **known,
            )
        return self._filesystem

    def holds_table(self) -> bool:
        """Tell whether there may be a Delta log: that it is none shows when it is opened."""
        return True

    def prepare(self) -> None:
        """Do nothing: a prefix needs no making."""

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Open a new object to write."""
        with self.filesystem.open_output_stream(f"{self._key}/{name}") as stream:
            yield stream

    def open(self, name: str) -> Any:
        """Open an object to read."""
        return self.filesystem.open_input_file(f"{self._key}/{name}")

    def address(self, name: str) -> str:
        """Give the URL of an object."""
        return f"{self.place}/{name}"

    def size(self, name: str) -> int | None:
        """Give the size of an object in bytes."""
        info = self.filesystem.get_file_info(f"{self._key}/{name}")
        return info.size if info.is_file else None

    def listed(self) -> Iterator[StoredFile]:
        """List the objects beside the log."""
        from pyarrow.fs import FileSelector

        selector = FileSelector(self._key, allow_not_found=True, recursive=False)
        for info in self.filesystem.get_file_info(selector):
            if info.is_file:
                modified = info.mtime.timestamp() if info.mtime else time.time()
                yield StoredFile(info.base_name, info.size, modified)

    def remove(self, name: str) -> None:
        """Delete an object."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(f"{self._key}/{name}")

    def settle(self, first: int, last: int) -> None:
        """Do nothing: what the store has taken is durable."""

    def mark_of_newest(self, version: int) -> tuple[int, ...] | None:
        """Give None: a store is asked through the Delta library."""
        del version
        return None


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
