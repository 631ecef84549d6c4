"""What a destination has answered for is remembered, by whomever it was sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fillpath.exporters.otlp_positions import Delivered, Positions, answered_spans
from fillpath.exporters.otlp_settings import OtlpSettings
from fillpath.exporters.span_set import SpanSet
from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.settings import DataFolder

SETTINGS = OtlpSettings("http://127.0.0.1:4318/v1/traces", "http/protobuf")
STARTED = 1_700_000_000_000_000_000

OWN = st.integers(1, 1 << 24)
FOREIGN = st.binary(min_size=8, max_size=8)
SPANS = st.lists(OWN | FOREIGN, unique=True, max_size=60)


def rows_of(spans: list[int | bytes]) -> pa.Table:
    """Rows as the lake has them: fillpath's own by sequence, others by their ids."""
    own = [isinstance(one, int) for one in spans]
    return pa.table(
        {
            "root_sequence": pa.array([1 if mine else None for mine in own], pa.int64()),
            "sequence": pa.array([one if isinstance(one, int) else 7 for one in spans], pa.int64()),
            "span_id": pa.array(
                [one if isinstance(one, bytes) else b"\0" * 8 for one in spans], pa.binary()
            ),
        }
    )


@given(SPANS, SPANS, SPANS)
def test_a_set_of_spans_holds_what_was_put_into_it_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory,
    first: list[int | bytes],
    second: list[int | bytes],
    others: list[int | bytes],
) -> None:
    one, two = SpanSet(), SpanSet()
    one.add(rows_of(first))
    one.add(rows_of(first[:3]))
    two.add(rows_of(second))
    one.add_set(two)
    path = tmp_path_factory.getbasetemp() / "set.spans"
    one.write(path, {"run_id": "run"})
    for made in (one, SpanSet.read(path, {"run_id": "run"})):
        assert made is not None
        assert len(made) == len({*first, *second})
        asked = [*first, *second, *others]
        wanted = [span in {*first, *second} for span in asked]
        assert made.holds(rows_of(asked)).tolist() == wanted


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"{}\nnonsense"])
def test_a_damaged_set_counts_as_none(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "set.spans"
    whole = SpanSet()
    whole.add(rows_of([1, 2, 3]))
    whole.write(path, {})
    assert SpanSet.read(path, {"run_id": "another"}) is None
    content = path.read_bytes()
    for written in (damage, content[:-1], content[:-9]):
        path.write_bytes(written)
        assert SpanSet.read(path, {}) is None
    path.unlink()
    assert SpanSet.read(path, {}) is None


def opened(data: DataFolder, started_at: int = STARTED, settings: Any = SETTINGS) -> Positions:
    return Positions(data, "run", started_at, settings)


def test_two_processes_that_send_one_run_do_not_forget_for_each_other(tmp_path: Path) -> None:
    data = DataFolder(tmp_path)
    one, two = opened(data), opened(data)
    one.answered(rows_of([1, 2, 3]), 1)
    two.answered(rows_of([3, 4]), 0)
    one.save("following")
    two.answered(rows_of([5, b"12345678"]), 1)
    two.save("ended")
    one.answered(rows_of([6]), 0)
    one.save("ended")
    (known,) = Delivered.all_of(data)
    assert (known.rejected, known.acknowledged) == (2, 5)
    left = opened(data).left_of(rows_of([1, 2, 3, 4, 5, 6, 7, b"12345678", b"87654321"]))
    assert left["sequence"].to_pylist() == [7, 7]
    assert len(answered_spans(data, known)) == 7


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("opened_before", [False, True])
def test_who_was_to_have_all_of_a_run_shall_have_it_after_its_sample_was_sent(
    tmp_path: Path, counted: bool, opened_before: bool
) -> None:
    data = DataFolder(tmp_path)
    sample = opened(data) if opened_before else None
    live = opened(data)
    live.note_selected("all", 9 if counted else 4, complete=counted)
    live.answered(rows_of([1, 2]), 0)
    live.save("gave_up")
    sample = sample or opened(data)
    sample.note_selected("sampled", 3, complete=False)
    sample.answered(rows_of([1, 2, 3]), 0)
    sample.save_if_due("following", None)
    sample.note_selected("sampled", 3, complete=True, whole=9)
    sample.save("ended")
    (known,) = Delivered.all_of(data)
    assert (known.selection, known.selected, known.complete) == ("all", 9, True)
    assert known.acknowledged == 3


def test_another_run_of_the_same_id_and_another_destination_have_their_own(tmp_path: Path) -> None:
    data = DataFolder(tmp_path)
    first = opened(data)
    first.answered(rows_of([1, 2, 3]), 1)
    first.save("ended")
    elsewhere = OtlpSettings("http://127.0.0.1:4319/v1/traces", "http/protobuf")
    for other in (opened(data, STARTED + 1), opened(data, settings=elsewhere)):
        assert not len(other.spans)
        assert other.about.rejected == 0
    assert len(opened(data).spans) == 3


def test_who_begins_anew_forgets_nothing_before_the_first_answer(tmp_path: Path) -> None:
    data = DataFolder(tmp_path)
    first = opened(data)
    first.answered(rows_of([1, 2, 3]), 1)
    first.save("ended")
    again = opened(data)
    again.begin_anew()
    again.save("gave_up")
    assert len(opened(data).spans) == 3
    again.answered(rows_of([2]), 0)
    again.save("ended")
    (known,) = Delivered.all_of(data)
    assert (known.acknowledged, known.rejected) == (1, 0)
    assert len(opened(data).spans) == 1


def test_a_folder_that_cannot_be_written_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "otlp").write_text("a file")
    with pytest.raises(FillpathError, match="cannot be written"):
        opened(DataFolder(tmp_path))
