"""A set of spans of one run, in little room, in memory and in a file."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fillpath.exporters.record_columns import Booleans
from fillpath.exporters.sequence_bits import Bits

_FORMAT: Final = "fillpath-spans-1"
_FAST: Final = 1


class SpanSet:
    """Spans of one run: those that fillpath recorded by their sequences, others by their ids.

    Sequences lie close together, so such a span takes a bit; other SDKs' ids take eight bytes each.
    """

    def __init__(self) -> None:
        self._own = Bits()
        self._foreign: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)

    def __len__(self) -> int:
        return len(self._own) + len(self._foreign)

    def add(self, rows: pa.Table) -> None:
        """Put the spans of some rows of `SPAN_SCHEMA` into the set."""
        own, sequences, ids = _named(rows)
        self._own.add_all(sequences[own])
        if len(ids):
            self._foreign = np.union1d(self._foreign, ids)

    def add_set(self, other: SpanSet) -> None:
        """Put all spans of another set of the same run into this one."""
        self._own.add_set(other._own)
        if len(other._foreign):
            self._foreign = np.union1d(self._foreign, other._foreign)

    def holds(self, rows: pa.Table) -> Booleans:
        """Tell of each row whether its span is in the set."""
        own, sequences, ids = _named(rows)
        held = np.zeros(len(own), np.bool_)
        held[own] = self._own.holds(sequences[own])
        if len(ids):
            held[~own] = np.isin(ids, self._foreign)
        return held

    def write(self, path: Path, about: dict[str, Any]) -> None:
        """Write the set to a file, as a whole and durably.

        Args:
            path: The file; its folder is there.
            about: What the set is about, as JSON has it.

        Raises:
            OSError: When the file cannot be written.
        """
        own = zlib.compress(self._own.packed(), _FAST)
        foreign = zlib.compress(self._foreign.astype("<u8").tobytes(), _FAST)
        head = json.dumps({"format": _FORMAT, "own": len(own), "about": about})
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(head.encode() + b"\n" + own + foreign)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path, about: dict[str, Any]) -> Self | None:
        """Read a set; None when there is none that is whole, or it is about something else."""
        try:
            head, _, body = path.read_bytes().partition(b"\n")
            told = json.loads(head)
            if told["format"] != _FORMAT or told["about"] != about:
                return None
            own, foreign = body[: told["own"]], body[told["own"] :]
            made = cls()
            made._own = Bits(zlib.decompress(own))
            made._foreign = np.frombuffer(zlib.decompress(foreign), "<u8").astype(np.uint64)
        except (OSError, ValueError, KeyError, TypeError, zlib.error):
            return None
        return made


def _named(
    rows: pa.Table,
) -> tuple[Booleans, npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """Give which rows fillpath recorded, the sequences of all, and the ids of the others."""
    own = pc.is_valid(rows["root_sequence"]).to_numpy()
    sequences = rows["sequence"].to_numpy()
    if own.all():
        return own, sequences, np.zeros(0, np.uint64)
    ids = rows["span_id"].filter(pa.array(~own)).to_pylist()
    return own, sequences, np.frombuffer(b"".join(ids), ">u8").astype(np.uint64)
