"""Ids come from (run, sequence) alone: they can be turned back, do not repeat, and keep order."""

from __future__ import annotations

import random
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fillpath.instrumentation import identity
from fillpath.instrumentation.identity import MAX_SEQUENCE, run_key, span_id, trace_id

run_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True)
sequences = st.integers(1, MAX_SEQUENCE)


@pytest.mark.smoke
@given(run_ids, sequences)
def test_a_trace_id_names_its_run_and_its_root(run_id: str, root: int) -> None:
    key = run_key(run_id)
    value = trace_id(key, root)
    assert 0 < value < 1 << 128
    assert identity.root_of_trace(value) == (key, root)


@given(run_ids, sequences, sequences)
def test_different_events_have_different_ids(run_id: str, one: int, other: int) -> None:
    key = run_key(run_id)
    assert (span_id(key, one) == span_id(key, other)) is (one == other)
    assert (trace_id(key, one) == trace_id(key, other)) is (one == other)


@given(run_ids, sequences)
def test_a_span_id_names_its_event_and_the_tag_of_its_run(run_id: str, sequence: int) -> None:
    key = run_key(run_id)
    value = span_id(key, sequence)
    assert 0 < value < 1 << 64
    assert identity.sequence_of_span(value) == (identity.tag_of(key), sequence)


@given(run_ids, sequences, sequences)
def test_ids_of_one_run_lie_in_the_order_of_their_events(run_id: str, one: int, other: int) -> None:
    """So the smallest and largest id of a file tell what it can hold."""
    key = run_key(run_id)
    assert (span_id(key, one) < span_id(key, other)) is (one < other)
    assert (trace_id(key, one) < trace_id(key, other)) is (one < other)


def test_runs_share_no_ids() -> None:
    keys = {run_key(f"run-{n}") for n in range(1000)}
    assert len(keys) == 1000
    assert all(0 < key < 1 << identity.KEY_BITS for key in keys)
    assert len({trace_id(key, n) for key in keys for n in range(1, 20)}) == 19_000


@given(st.integers(0, (1 << 128) - 1))
def test_a_foreign_trace_id_is_turned_back_only_if_it_could_be_ours(value: int) -> None:
    found = identity.root_of_trace(value)
    assert (found is None) is (value >> 40 == 0 or value & MAX_SEQUENCE == 0)
    if found is not None:
        assert trace_id(*found) == value


@given(st.integers(0, (1 << 64) - 1))
def test_a_foreign_span_id_is_turned_back_only_if_it_could_be_ours(value: int) -> None:
    found = identity.sequence_of_span(value)
    assert (found is None) is (value & MAX_SEQUENCE == 0)
    if found is not None:
        assert span_id(*found) == value


@pytest.mark.parametrize(
    "name",
    [
        "0123456789abcdef0123456789abcdef",
        "0123456789ABCDEF0123456789ABCDEF",
        "01234567-89ab-cdef-0123-456789abcdef",
        "01234567-89AB-CDEF-0123-456789ABCDEF",
        "urn:uuid:01234567-89ab-cdef-0123-456789abcdef",
        "{01234567-89ab-cdef-0123-456789abcdef}",
        " 0123456789abcdef0123456789abcdef ",
    ],
)
def test_a_uuid_or_32_hex_digits_are_the_trace_id(name: str) -> None:
    expected = 0x0123456789ABCDEF0123456789ABCDEF
    assert identity.trace_id_of_correlation("run-1", name) == expected
    assert identity.trace_id_of_correlation("run-2", name) == expected


@given(st.uuids())
def test_any_uuid_is_the_trace_id(value: uuid.UUID) -> None:
    if value.int:
        assert identity.trace_id_of_correlation("r", str(value)) == value.int


@pytest.mark.parametrize(
    "name",
    [
        "trade-1",
        "",
        "é\ud800",
        "0" * 32,
        str(uuid.UUID(int=0)),
        "0123456789abcdef0123456789abcde",  # 31 digits
        "0x23456789abcdef0123456789abcdef",  # what int(..., 16) would take
        "0123456789abcdef_123456789abcdef",
        "-0-1-2-3-4-5-6-7-89abcdef01234567",
        "0-1-2-3-4-5-6-7-89abcdef0123456789abcdef0",
        "{01234567-89ab-cdef-0123-456789abcdef",
        "\u0660" + "123456789abcdef0123456789abcdef",
    ],
)
def test_any_other_name_is_hashed_with_the_run(name: str) -> None:
    one = identity.trace_id_of_correlation("run-1", name)
    assert 0 < one < 1 << 128
    assert one == identity.trace_id_of_correlation("run-1", name)
    assert one != identity.trace_id_of_correlation("run-2", name)
    digits = re.sub(r"[^0-9a-f]", "", name.lower())
    assert not digits or f"{one:x}" != digits.lstrip("0")


def test_runs_whose_long_names_begin_alike_hash_apart() -> None:
    one, other = ("sweep-" + "x" * 80 + end for end in ("-001", "-002"))
    assert identity.trace_id_of_correlation(one, "c") != identity.trace_id_of_correlation(
        other, "c"
    )


def test_new_run_ids_differ_sort_by_time_and_are_valid() -> None:
    ids = [identity.new_run_id() for _ in range(50)]
    assert len(set(ids)) == 50
    assert [each[:19] for each in ids] == sorted(each[:19] for each in ids)
    assert all(identity.is_valid_run_id(each) for each in ids)
    assert identity.new_run_id("sweep").startswith("sweep-")


@pytest.mark.parametrize("run_id", ["a", "A.b_c-9", "x" * 100])
def test_valid_run_ids(run_id: str) -> None:
    assert identity.is_valid_run_id(run_id)


@pytest.mark.parametrize("run_id", ["", ".", "../x", "a/b", "-a", "x" * 101, "a b", "a\n", "é"])
def test_invalid_run_ids(run_id: str) -> None:
    assert not identity.is_valid_run_id(run_id)


def test_the_global_random_generator_is_left_alone() -> None:
    random.seed(1)
    before = random.getstate()
    identity.new_run_id()
    span_id(run_key("r"), 1)
    assert random.getstate() == before
