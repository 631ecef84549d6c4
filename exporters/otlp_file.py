"""Opens a file of OTLP and finds out, by what is in it, how it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Final

import pyarrow as pa

from fillpath.exporters.otlp_input import InputResource, OtlpDamage
from fillpath.exporters.otlp_json_reader import OtlpJsonReader
from fillpath.exporters.otlp_wire_reader import (
    LENGTH_BYTES,
    RESOURCE_SPANS_TAG,
    ZSTD,
    OtlpWireReader,
)

_GZIP: Final = b"\x1f\x8b"
_PEEKED: Final = 4096
_JSON: Final = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*(?:"[A-Za-z_]|\})')
_MOST_WRAPPINGS: Final = 3


class UnknownForm(ValueError):
    """What is in the file is no form of OTLP that is known."""


class _Bytes:
    """Bytes of a stream whose beginning can be looked at; they are counted as they are read."""

    def __init__(self, source: IO[bytes] | pa.NativeFile) -> None:
        self._source = source
        self._waiting = b""
        self.taken = 0

    def beginning(self) -> bytes:
        """Give the first bytes, and leave them there."""
        while len(self._waiting) < _PEEKED:
            more = self._more(_PEEKED)
            if not more:
                break
            self._waiting += more
        return self._waiting

    def read(self, size: int = -1) -> bytes:
        """Give up to so many bytes; none at the end."""
        if self._waiting:
            size = len(self._waiting) if size < 0 else size
            given, self._waiting = self._waiting[:size], self._waiting[size:]
            return given
        return self._more(size)

    def _more(self, size: int) -> bytes:
        data = self._source.read(size)
        self.taken += len(data)
        return data

    # What Arrow asks of a file of Python.
    closed = False

    def close(self) -> None:
        """Leave the source open: it is the caller's."""


class _Damaged:
    """Turns what Arrow says of a damaged stream into the end of it, and remembers it."""

    def __init__(self, stream: pa.NativeFile, form: str) -> None:
        self._stream = stream
        self._form = form
        self.damage: OtlpDamage | None = None

    def read(self, size: int = -1) -> bytes:
        """Give up to so many bytes; none at the end, or where it is damaged."""
        if self.damage is not None:
            return b""
        try:
            return bytes(self._stream.read(size))
        except (OSError, pa.ArrowException) as error:
            what = f"the file is not whole {self._form} ({error})"
            self.damage = OtlpDamage(what, "in the compressed bytes")
            return b""


class OtlpFile:
    """A file of OTLP: JSON or binary, one message or many, plain or compressed.

    Args:
        source: The file, open to read bytes. It need not be seekable.

    Attributes:
        form: How it is written, in words.

    Raises:
        UnknownForm: Nothing of the kind is in it.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self._source = _Bytes(source)
        self._compressed: list[_Damaged] = []
        self._reader: OtlpJsonReader | OtlpWireReader | None = None
        self.form = self._opened(self._source)

    def _opened(self, stream: _Bytes) -> str:
        head = stream.beginning()
        for magic, name in ((_GZIP, "gzip"), (ZSTD, "zstd")):
            if head.startswith(magic) and len(self._compressed) < _MOST_WRAPPINGS:
                inside = pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), name)
                damaged = _Damaged(inside, name)
                self._compressed.append(damaged)
                return f"{self._opened(_Bytes(damaged))}, {name}"
        if not head:
            return "nothing"
        if _JSON.match(head):
            self._reader = OtlpJsonReader(stream.read)
            return "JSON"
        if head[0] == RESOURCE_SPANS_TAG:
            self._reader = OtlpWireReader(stream.read, framed=False)
            return "binary"
        content = head[LENGTH_BYTES:]
        known = content[:1] == b"\x0a" or content.startswith(ZSTD) or _JSON.match(content)
        if known or head[:LENGTH_BYTES] == bytes(LENGTH_BYTES):
            self._reader = OtlpWireReader(stream.read, framed=True)
            return "binary with lengths"
        raise UnknownForm("it begins with " + repr(head[:16]))

    def __iter__(self) -> Iterator[InputResource]:
        """Read all that can be read."""
        if self._reader is not None:
            yield from self._reader

    @property
    def position(self) -> int:
        """Bytes of the file that are read."""
        return self._source.taken

    @property
    def others(self) -> int:
        """Parts of other signals (metrics, logs, profiles) that were passed over."""
        return 0 if self._reader is None else self._reader.others

    @property
    def damages(self) -> list[OtlpDamage]:
        """What could not be read so far."""
        damages = [each.damage for each in self._compressed if each.damage is not None]
        if damages:  # what its readers say of the end is a consequence
            return damages
        return [] if self._reader is None else self._reader.damages
