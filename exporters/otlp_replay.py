"""Sends a run from the lake to an OTLP destination: all that is selected, or what is missing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.otlp_delivery import Delivery
from fillpath.exporters.otlp_forwarder import Selection
from fillpath.exporters.otlp_outcome import OtlpRefused, OtlpUnavailable
from fillpath.exporters.otlp_positions import Positions, left_to_replay
from fillpath.exporters.otlp_sender import OtlpSender
from fillpath.exporters.span_selection import SpanSelection
from fillpath.exporters.span_set import SpanSet
from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.event_sampler import EventSampler
from fillpath.instrumentation.forwarder_files import ForwardingState
from fillpath.instrumentation.semconv import Resource

PATIENCE_SECONDS: Final = 15.0
"""How long a replay goes on without an answer."""
_ROWS_AT_ONCE: Final = 16_384
_SELECTED_NAME: Final = "selected.set"
"""What the policy keeps of a run, in the run's folder below `<data>/otlp`."""


@dataclass(frozen=True, slots=True)
class Since:
    """Where a replay begins.

    Attributes:
        sequence: Position in the run from which on spans are sent.
        time: Wall clock, ns since the epoch, from which on their starts lie.
    """

    sequence: int | None = None
    time: int | None = None

    def of(self, rows: pa.Table) -> pa.Table:
        """Give the rows from there on."""
        if self.sequence is not None:
            rows = rows.filter(pc.greater_equal(rows["sequence"], self.sequence))
        if self.time is not None:
            rows = rows.filter(pc.greater_equal(rows["start_time"], self.time))
        return rows


@dataclass(slots=True)
class Replay:
    """What a replay has done so far.

    Attributes:
        selected: Spans that were to be sent.
        skipped: Of these, those that the destination had answered for already.
        sent: Spans that were sent and answered for.
        rejected: Of these, those that the destination did not want.
        refused: Spans whose request was refused.
        traces: Different traces among the spans that were sent.
        trouble: What the destination said about spans that it did not take.
    """

    selected: int = 0
    skipped: int = 0
    sent: int = 0
    rejected: int = 0
    refused: int = 0
    traces: int = 0
    trouble: str | None = None


def policy_of(record: RunRecord, selection: Selection) -> EventSampler | None:
    """Give the policy that selects a run's spans: the one that it was recorded with."""
    if selection == "all":
        return None
    recorded = record.metadata.get("sampling")
    return EventSampler.from_dict(recorded) if recorded else EventSampler.from_environment()


def selected_rows(
    store: EventStore,
    record: RunRecord,
    selection: Selection,
    since: Since | None = None,
    seen: Callable[[int], None] = lambda _: None,
) -> Iterator[pa.Table]:
    """Give the rows of a run that are to be sent, a few thousand at a time.

    To find out what the policy keeps takes a look at every row of the run. So that is remembered
    for as long as the run's files are the same.

    Args:
        store: The lake.
        record: The run.
        selection: What to give.
        since: Leave out what lies before.
        seen: Called with numbers of rows that were looked at, whether they are given or not.

    Raises:
        LakeError: When a file of the lake is missing or damaged.
    """
    for rows in _chosen_rows(store, record, policy_of(record, selection), seen):
        yield rows if since is None else since.of(rows)


def _chosen_rows(
    store: EventStore, record: RunRecord, policy: EventSampler | None, seen: Callable[[int], None]
) -> Iterator[pa.Table]:
    chosen = None if policy is None else _chosen_by(policy, store, record)
    waiting: list[pa.Table] = []
    number = 0
    for batch in SpanSelection(store, record.run_id).batches():
        seen(batch.num_rows)
        rows = pa.Table.from_batches([batch])
        if chosen is not None:
            rows = rows.filter(pa.array(chosen.holds(rows)))
        waiting.append(rows)
        number += len(rows)
        if number >= _ROWS_AT_ONCE:
            yield pa.concat_tables(waiting)
            waiting, number = [], 0
    if number:
        yield pa.concat_tables(waiting)


def _chosen_by(policy: EventSampler, store: EventStore, record: RunRecord) -> SpanSet:
    files = sorted(file.name for file in store.spans.files([record.run_id]))
    facts = json.dumps([record.run_id, record.started_at, policy.to_dict(), files])
    about = {"selection": hashlib.sha256(facts.encode()).hexdigest()}
    path = store.folder.otlp / record.run_id / _SELECTED_NAME
    if (known := SpanSet.read(path, about)) is not None:
        return known
    chosen = SpanSet()
    for batch in SpanSelection(store, record.run_id, policy=policy).batches():
        chosen.add(pa.Table.from_batches([batch]))
    if record.status != "Running":
        with contextlib.suppress(OSError):  # it is found out anew the next time
            path.parent.mkdir(parents=True, exist_ok=True)
            chosen.write(path, about)
    return chosen


def replay(
    store: EventStore,
    record: RunRecord,
    sender: OtlpSender,
    *,
    selection: Selection = "sampled",
    since: Since | None = None,
    only_missing: bool = False,
    patience: float = PATIENCE_SECONDS,
    tell: Callable[[Replay], None] = lambda _: None,
) -> Replay:
    """Send a run from the lake; it has the same ids whenever it is sent.

    What is sent and answered for is remembered also when it ends early, so that another replay can
    send what is missing.

    Args:
        store: The lake.
        record: The run.
        sender: The destination.
        selection: What to send.
        since: Leave out what lies before.
        only_missing: Leave out what the destination has answered for.
        patience: Seconds without an answer after which it fails.
        tell: Called as it goes on.

    Returns:
        What was done.

    Raises:
        OtlpUnavailable: When the destination cannot be reached for so long.
        OtlpRefused: When it accepts nothing.
        LakeError: When a file of the lake is missing or damaged.
        FillpathError: When it cannot be written down what was sent.
    """
    positions = Positions(store.folder, record.run_id, record.started_at or 0, sender.settings)
    before = positions.before
    shared = before.is_being_sent and before.pid != os.getpid()
    done = Replay()
    whole = 0

    def see(rows: int) -> None:
        nonlocal whole
        whole += rows

    def wait(error: OtlpUnavailable | OtlpRefused, seconds: float) -> None:
        waited = time.monotonic() - delivery.answered_at
        if isinstance(error, OtlpRefused) or waited + seconds > patience:
            raise error
        time.sleep(seconds)

    runs = {record.run_id: {Resource.RUN_MODE: record.mode}} if record.mode else {}
    delivery = Delivery(sender, positions, runs, wait)
    traces: set[bytes] = set()
    if not only_missing and since is None and not shared:
        positions.begin_anew()
    state: ForwardingState = "gave_up"
    failure: FillpathError | None = None
    try:
        for rows in selected_rows(store, record, selection, since, see):
            left = positions.left_of(rows) if only_missing else rows
            done.selected += len(rows)
            done.skipped += len(rows) - len(left)
            delivery.deliver(left)
            traces.update(left["trace_id"].unique().to_pylist())
            done.sent, done.rejected = delivery.sent, delivery.rejected
            done.refused, done.trouble = delivery.refused, delivery.trouble
            done.traces = len(traces)
            positions.save_if_due("following", None)
            tell(done)
        state = "ended"
    except FillpathError as error:
        failure = left_to_replay(error, record.run_id, selection)
        raise
    finally:
        if since is None:
            complete = state == "ended" and record.status != "Running"
            positions.note_selected(selection, done.selected, complete=complete, whole=whole)
        if failure is None and delivery.trouble is not None:
            failure = FillpathError(delivery.trouble)
        positions.save(state, failure)
    return done
