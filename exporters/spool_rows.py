"""Makes rows of the spool of one run, block by block, for the lake and for whoever else follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fillpath.exporters.causal_sampling import CausalSampling
from fillpath.exporters.completeness import Completeness
from fillpath.exporters.run_rows import RunRows
from fillpath.exporters.spool_events import SpoolEvents
from fillpath.exporters.spool_index import SpoolIndex
from fillpath.instrumentation.event_sampler import EventSampler
from fillpath.instrumentation.spool import Block, BlockType

POLICY = "policy"
"""Value of `lake_sampling` in a run's description: the lake holds what the policy keeps."""


class SpoolRows:
    """The rows of one run, under the sampling policy that it was recorded with, if one is wanted.

    Args:
        run_id: The run.
        folder: Folder of its spool.
        sampled: Whether the policy is applied; None leaves that to what the run's lake shall hold.

    Attributes:
        events: What is known of the run, its sites and its events.
        completeness: Where events are counted.
        rows: The rows; take them from here.
    """

    def __init__(self, run_id: str, folder: Path, *, sampled: bool | None = None) -> None:
        self.events = SpoolEvents()
        self.completeness = Completeness()
        self.rows = RunRows(run_id, self.events, self.completeness)
        self._run_id = run_id
        self._folder = folder
        self._sampled = sampled
        self._index: SpoolIndex | None = None

    @property
    def run(self) -> dict[str, Any]:
        """The run's description; empty before its first block was fed."""
        return self.events.run

    @property
    def ended(self) -> bool:
        """Whether the block has been fed by which the host ends a run."""
        return self.events.end is not None

    def feed(self, block: Block, *, new: bool = True) -> None:
        """Take the next block of the spool.

        Args:
            block: The block.
            new: Whether its rows are wanted; otherwise it is taken only to know what it says.

        Raises:
            SpoolError: When a record does not fit what was read before.
        """
        if self._index is not None:
            self._index.note(block)
        if block.type is BlockType.EVENTS:
            self.rows.add(block, new=new)
        else:
            self.events.feed_fact(block)
            if block.type is BlockType.END:
                self.rows.add_unfinished(new=new)
        if block.type is BlockType.RUN and block.number == 1:
            self._begin(block)

    def _begin(self, block: Block) -> None:
        wanted = self._sampled
        if wanted is None:
            wanted = self.run.get("lake_sampling") == POLICY
        if not wanted:
            return
        policy = EventSampler.from_dict(self.run.get("sampling") or {})
        self._index = SpoolIndex(self._folder, self.events)
        self._index.note(block)
        self.rows.sampling = CausalSampling(
            policy, self._run_id, self.events, self._index.event, self.completeness
        )
