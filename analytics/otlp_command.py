"""`fillpath otlp replay` and `fillpath otlp status`."""

from __future__ import annotations

import datetime as dt
import re
import time
from typing import Any, Final

from fillpath.analytics.amounts import parse_age
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import current_store
from fillpath.analytics.output import data_console, inert, print_json, say, styled, table
from fillpath.analytics.progress import Progress
from fillpath.analytics.report_format import count
from fillpath.analytics.run_lookup import find_run
from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.otlp_positions import Delivered, answered_spans, left_to_replay
from fillpath.exporters.otlp_replay import PATIENCE_SECONDS, Replay, Since, replay, selected_rows
from fillpath.exporters.otlp_sender import OtlpRefused, OtlpUnavailable, open_sender
from fillpath.exporters.otlp_settings import OtlpSettings
from fillpath.instrumentation.errors import CheckFailed, UsageError
from fillpath.instrumentation.forwarder_files import AT_WORK, FORWARDING_NAME, Forwarding
from fillpath.instrumentation.settings import DataFolder, keep_grpc_quiet

_AGE: Final = re.compile(r"\d+(\.\d+)?\s*[smhdwy]", re.IGNORECASE)
_FIRST_TIME: Final = 1 << 40
"""A larger number is no position in a run but a time in ns."""
_LOOK_SECONDS: Final = 0.1


def replay_run(
    given: Invocation,
    wanted: str,
    *,
    everything: bool,
    missing: bool,
    since: str | None,
    endpoint: str | None,
    protocol: str | None,
    patience: float | None,
) -> None:
    """Send a run from the lake.

    Raises:
        NotFound: There is no such run.
        UsageError: The endpoint's settings or an option make no sense.
        OtlpUnavailable: The endpoint cannot be reached.
        OtlpRefused: It accepts nothing.
        CheckFailed: It did not want some of the spans.
    """
    keep_grpc_quiet()
    begin = None if since is None else parse_since(since)
    settings = OtlpSettings.from_environment(endpoint=endpoint, protocol=protocol)
    store = current_store(given.folder)
    record = _found(store, wanted)
    began = time.monotonic()
    done = Replay()

    def note(one: Replay) -> None:
        nonlocal done
        done = one

    with Progress().step(f"Sending run {record.run_id} to {settings.destination}") as step:
        try:
            with open_sender(settings) as sender:
                done = replay(
                    store,
                    record,
                    sender,
                    selection="all" if everything else "sampled",
                    since=begin,
                    only_missing=missing,
                    patience=PATIENCE_SECONDS if patience is None else patience,
                    tell=note,
                )
        except (OtlpUnavailable, OtlpRefused) as error:
            if done.sent:
                left = left_to_replay(error, record.run_id, "all" if everything else "sampled")
                error.message = f"{left.message} {count(done.sent)} spans were sent before."
                error.next_command = left.next_command
            raise
        step.finish(_summary(done, everything=everything))
    if given.json:
        print_json(
            {
                "run_id": record.run_id,
                "destination": settings.destination,
                "selection": "all" if everything else "sampled",
                "selected": done.selected,
                "skipped": done.skipped,
                "sent": done.sent,
                "ids": done.sent - done.rejected,
                "rejected": done.rejected,
                "refused": done.refused,
                "traces": done.traces,
                "seconds": round(time.monotonic() - began, 3),
            }
        )
    if lost := done.rejected + done.refused:
        raise CheckFailed(
            f"{count(lost)} of {count(done.sent + done.refused)} spans were turned down by "
            f"{settings.destination}. {done.trouble}"
        )


def _summary(done: Replay, *, everything: bool) -> str:
    of_what = "" if everything else " of the sampled set"
    if done.skipped and not done.sent + done.refused:
        return f"{count(done.skipped)} spans{of_what} were there already, and none was missing"
    words = f"{count(done.sent)} spans of {count(done.traces)} traces were sent"
    return f"{words}, {count(done.skipped)}{of_what} were there" if done.skipped else words


def _found(store: EventStore, wanted: str) -> RunRecord:
    with store.connect(further_views=()) as connection:
        run_id = find_run(connection, wanted)
    return next(record for record in store.run_records() if record.run_id == run_id)


def parse_since(text: str) -> Since:
    """Read where a replay begins: a time, an age, or a sequence.

    Raises:
        UsageError: When it is none of these.
    """
    text = text.strip()
    if text.isdecimal():
        number = int(text)
        return Since(time=number) if number >= _FIRST_TIME else Since(sequence=number)
    if _AGE.fullmatch(text):
        return Since(time=time.time_ns() - parse_age(text, "--since"))
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--since is '{text}'; it takes a time, an age or a sequence.",
            next_command="--since 2026-03-01T09:30, --since 10m or --since 5000",
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    since_epoch = moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return Since(time=since_epoch // dt.timedelta(microseconds=1) * 1000)


def show_status(given: Invocation, wanted: str | None, *, wait: float | None) -> None:
    """Print what every endpoint has of each run; of one run, what it lacks is looked up.

    Raises:
        NotFound: There is no such run.
        LakeError: The lake cannot be read.
    """
    folder = given.folder
    if wanted is None:
        documents = [_document(one) for one in Delivered.all_of(folder)]
        known = {document["run_id"] for document in documents}
        documents += [
            document
            for path in sorted(folder.spool.glob(f"*/{FORWARDING_NAME}"))
            if path.parent.name not in known and (document := _of_spool(folder, path.parent.name))
        ]
    else:
        store = current_store(folder)
        record = _found(store, wanted)
        if wait is not None:
            _wait(folder, record.run_id, wait)
            store = current_store(folder)
            record = _found(store, record.run_id)
        documents = [
            _document(one, _missing(store, record, one))
            for one in Delivered.all_of(folder, record.run_id)
            if one.started_at == (record.started_at or 0)
        ]
        if not documents and (document := _of_spool(folder, record.run_id)):
            documents = [document]
    if given.json:
        print_json(documents)
    elif documents:
        _print(given, documents)
    else:
        say("Nothing was sent by OTLP yet.")
        say(("  Try: ", "bold"), given.command("otlp", "replay", wanted or "latest"))


def _wait(folder: DataFolder, run_id: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        forwarding = Forwarding.read(folder.spool / run_id)
        if forwarding is None or forwarding.state not in AT_WORK:
            return
        time.sleep(_LOOK_SECONDS)


def _missing(store: EventStore, record: RunRecord, one: Delivered) -> tuple[int, int]:
    """Count what is selected of a run in the lake, and what of it was not answered for."""
    spans = answered_spans(store.folder, one)
    selected = waiting = 0
    for rows in selected_rows(store, record, "all" if one.selection == "all" else "sampled"):
        selected += len(rows)
        waiting += len(rows) - int(spans.holds(rows).sum())
    return selected, waiting


def _document(one: Delivered, exact: tuple[int, int] | None = None) -> dict[str, Any]:
    state: str = one.state
    if state in AT_WORK and not one.is_being_sent:
        state = "interrupted"
    selected, waiting = one.selected, one.selected - one.acknowledged - one.rejected
    if exact is not None:
        selected, waiting = exact
    known = exact is not None or one.complete
    return {
        "run_id": one.run_id,
        "destination": one.destination,
        "selection": one.selection,
        "state": state,
        "selected": selected if known else None,
        "acknowledged": one.acknowledged,
        "rejected": one.rejected,
        "waiting": max(waiting, 0) if known else None,
        "error": one.error,
        "next_command": one.next_command,
        "updated_at": one.updated_at,
    }


def _of_spool(folder: DataFolder, run_id: str) -> dict[str, Any] | None:
    """Give what is known of a run that never came so far as to have a destination."""
    found = Forwarding.read(folder.spool / run_id)
    if found is None:
        return None
    started = Delivered(run_id, 0, found.destination, state=found.state, error=found.error)
    return {**_document(started), "state": found.state, "next_command": found.next_command}


def _print(given: Invocation, documents: list[dict[str, Any]]) -> None:
    columns = ("run", "destination", "what", "spans", "there", "rejected", "waiting", "state")
    drawn = table(columns, right=columns[3:7])
    for one in documents:
        numbers = [one[key] for key in ("selected", "acknowledged", "rejected", "waiting")]
        drawn.add_row(
            *(styled(inert(one[key])) for key in ("run_id", "destination", "selection")),
            *(styled("?" if number is None else count(number)) for number in numbers),
            styled(one["state"]),
        )
    data_console().print(drawn)
    for one in documents:
        if one["error"] is not None:
            say((f"{one['run_id']}: ", "bold"), inert(one["error"]))
            if one["next_command"]:
                say(("  Try: ", "bold"), given.completed(one["next_command"]) or "")
