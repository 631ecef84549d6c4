"""Reads a spool a share at a time, and knows how far it is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fillpath.instrumentation.spool import HEADER, SUFFIX, Block, SpoolReader
from fillpath.instrumentation.writer_files import Progress

SHARE_BYTES: Final = 8 << 20
"""What one run may take before it is the turn of the next."""
SHARE_SECONDS: Final = 0.1


class PacedReader(SpoolReader):
    """Reads the blocks of one run's spool, in shares if that is asked for.

    Args:
        folder: Folder of the spool.
        in_shares: Whether `blocks` ends after `SHARE_BYTES` or `SHARE_SECONDS`, if there are more.

    Attributes:
        block: Number of the last block that was given.
        file: Number of the file that comes next.
        offset: Place in it, bytes.
        stopped_short: Whether the last share ended before the spool did.
    """

    def __init__(self, folder: Path, *, in_shares: bool = False) -> None:
        super().__init__(folder)
        self._in_shares = in_shares
        self.block, self.file, self.offset = 0, 1, 0
        self.stopped_short = False

    def blocks(self) -> Iterator[Block]:
        """Give the next blocks; see `SpoolReader.blocks`."""
        taken, until = 0, time.monotonic() + SHARE_SECONDS
        self.stopped_short = False
        for block in super().blocks():
            length = HEADER.size + len(block.payload)
            self.block, self.file, self.offset = block.number, block.file, block.offset + length
            yield block
            taken += length
            if self._in_shares and (taken >= SHARE_BYTES or time.monotonic() >= until):
                self.stopped_short = True
                return

    def lag_bytes(self) -> int:
        """Bytes of the spool that were not given yet."""
        lag, number = -self.offset, self.file
        while True:
            try:
                lag += (self.folder / f"{number:06d}{SUFFIX}").stat().st_size
            except FileNotFoundError:
                return max(lag, 0)
            number += 1

    def progress(self, committed_block: int, waiting_rows: int = 0) -> Progress:
        """Tell how far the run is, for `Progress.write`."""
        return Progress(
            os.getpid(),
            self.block,
            self.file,
            self.offset,
            committed_block,
            waiting_rows,
            lag_bytes=self.lag_bytes(),
        )
