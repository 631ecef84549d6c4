"""The note of a table's files: it spares a new process the log, and is never wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NoReturn

import pytest
from deltalake import DeltaTable

from fillpath.exporters import lake_table
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.file_note import NAME
from fillpath.exporters.lake_table import LakeTable
from fillpath.exporters.run_writer import RunWriter
from fillpath.exporters.schema import RUN_SCHEMA, SPAN_SCHEMA
from fillpath.exporters.span_rows import Span, SpanRows
from fillpath.instrumentation.tracing import Tracing

FILES = 10


def _add(store: EventStore, run_id: str, version: int) -> None:
    rows = SpanRows()
    rows.add(
        Span(
            run_id, bytes(15) + bytes([version]), bytes(7) + bytes([version]), None, version,
            None, "n", "INTERNAL", "BAR", "p", start_time=1, end_time=2,
        )
    )  # fmt: skip
    store.append_spans(rows.take(), run_id, f"made/{run_id}", version)


def _filled(folder: Path, run_id: str = "r") -> EventStore:
    store = EventStore(folder)
    for version in range(1, FILES + 1):
        _add(store, run_id, version)
    return store


def _spans(folder: Path) -> LakeTable:
    return LakeTable(folder / "lake", SPAN_SCHEMA, "spans")


def _names(table: LakeTable) -> list[str]:
    return [file.name for file in table.files()]


def _refuse_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the log was read")

    monkeypatch.setattr(lake_table, "DeltaTable", refuse)


def test_a_new_process_reads_the_note_instead_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _filled(tmp_path)
    known = _spans(tmp_path).known_files()  # the first reader leaves it
    assert [file.name for file in known] == _names(_spans(tmp_path))
    _refuse_the_log(monkeypatch)
    noted = _spans(tmp_path)
    assert noted.known_files() == known
    assert noted.known_files() is noted.known_files()


def test_what_was_committed_after_the_note_is_seen(tmp_path: Path) -> None:
    store = _filled(tmp_path)
    _spans(tmp_path).known_files()
    early = _spans(tmp_path)
    assert len(early.known_files()) == FILES
    _add(store, "r", FILES + 1)
    late = _spans(tmp_path)
    for table in (early, late):
        assert [file.name for file in table.known_files()] == _names(table)
        assert len(table.known_files()) == FILES + 1
    assert len(json.loads((tmp_path / "lake" / NAME).read_text())["files"]) == FILES + 1


def test_a_table_that_was_made_anew_has_none_of_the_old_files(tmp_path: Path) -> None:
    _filled(tmp_path)
    table = _spans(tmp_path)
    table.known_files()
    note = (tmp_path / "lake" / NAME).read_text()
    shutil.rmtree(tmp_path / "lake")
    _filled(tmp_path, "other")
    (tmp_path / "lake" / NAME).write_text(note)
    wanted = _names(_spans(tmp_path))
    assert all("other" in name for name in wanted)
    assert [file.name for file in _spans(tmp_path).known_files()] == wanted


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "",
        lambda _: "[]",
        lambda text: text.replace('"format":[1,', '"format":[2,'),
        lambda text: text.replace('"files":[', '"files":[7,'),
        lambda text: text.replace('"mark":[', '"mark":[1,'),
    ],
)
def test_a_note_that_makes_no_sense_is_passed_over(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    _filled(tmp_path)
    _spans(tmp_path).known_files()
    note = tmp_path / "lake" / NAME
    note.write_text(damage(note.read_text()))
    assert [file.name for file in _spans(tmp_path).known_files()] == _names(_spans(tmp_path))


def test_a_folder_that_takes_no_note_is_read_all_the_same(tmp_path: Path) -> None:
    _filled(tmp_path)
    (tmp_path / "lake" / NAME).mkdir()
    assert len(_spans(tmp_path).known_files()) == FILES
    assert not list((tmp_path / "lake").glob("*.tmp"))


def test_a_small_table_has_no_note_and_a_large_run_leaves_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fillpath.exporters.run_writer.COMMIT_ROWS", 1)
    monkeypatch.setattr("fillpath.exporters.run_rows.BATCH_ROWS", 512)
    with Tracing("large", data=tmp_path, writer="none") as tracing:
        bar = tracing.tracer.emitter("BAR", symbol="A", fields=["trading.bar.close"])
        for number in range(512 * FILES):
            bar(number, None, 1.5)
    store = EventStore(tmp_path)
    with RunWriter(store, "large") as writer:
        writer.take()
        writer.finish()
    assert (tmp_path / "lake" / NAME).is_file()
    runs = LakeTable(tmp_path / "runs", RUN_SCHEMA, "runs")
    assert len(runs.known_files()) == 1
    assert not (tmp_path / "runs" / NAME).exists()


def test_other_readers_of_the_table_pass_over_the_note(tmp_path: Path) -> None:
    store = _filled(tmp_path)
    _spans(tmp_path).known_files()
    table = DeltaTable(tmp_path / "lake")
    assert len(table.file_uris()) == FILES
    assert not [file for file in store.spans.unnamed(0) if file.name == NAME]
    assert store.facts()["spans"].rows == FILES
