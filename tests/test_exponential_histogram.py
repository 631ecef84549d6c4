"""Exponential histograms: OpenTelemetry's, added up without loss, quantiles within their bound."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    ExponentialHistogram as SdkHistogram,
)
from opentelemetry.sdk.metrics.export import (
    ExponentialHistogramDataPoint,
    InMemoryMetricReader,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from fillpath.analytics.exponential_histogram import (
    MAX_BUCKETS,
    MAX_SCALE,
    ExponentialHistogram,
    added,
    bucket_indices,
    from_row,
    rank,
)

LONGEST = 10**15
# From a nanosecond to days, as likely short as long.
durations = st.one_of(
    st.integers(0, 100),
    st.floats(0, math.log(LONGEST)).map(lambda power: int(math.exp(power))),
    st.integers(0, 49).map(lambda power: 2**power),
)
many = st.lists(durations, max_size=60)
quick = settings(max_examples=60, deadline=None)


def by_the_sdk(values: list[int]) -> ExponentialHistogramDataPoint:
    """What OpenTelemetry's SDK makes of the same values."""
    aggregation = ExponentialBucketHistogramAggregation(max_size=MAX_BUCKETS, max_scale=MAX_SCALE)
    reader = InMemoryMetricReader()
    provider = MeterProvider(
        [reader], views=[View(instrument_type=Histogram, aggregation=aggregation)]
    )
    histogram = provider.get_meter("test").create_histogram("durations")
    for value in values:
        histogram.record(value)
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    metric = data.resource_metrics[0].scope_metrics[0].metrics[0].data
    assert isinstance(metric, SdkHistogram)
    (point,) = metric.data_points
    return point


def check_against_the_sdk(values: list[int]) -> None:
    ours, theirs = ExponentialHistogram.of(values), by_the_sdk(values)
    assert (ours.count, ours.sum, ours.zero_count) == (theirs.count, theirs.sum, theirs.zero_count)
    assert (ours.min, ours.max) == (theirs.min, theirs.max)
    if ours.counts:
        assert (ours.scale, ours.offset) == (theirs.scale, theirs.positive.offset)
    # The SDK keeps room for more.
    counts = list(theirs.positive.bucket_counts)
    assert list(ours.counts) == counts[: len(ours.counts)]
    assert not any(counts[len(ours.counts) :])


@quick
@given(st.lists(durations, min_size=1, max_size=60))
def test_it_is_the_histogram_of_opentelemetrys_sdk(values: list[int]) -> None:
    check_against_the_sdk(values)


def test_it_is_that_of_the_sdk_for_latencies_as_they_are() -> None:
    source = random.Random(5)
    values = [int(source.lognormvariate(math.log(40_000), 0.8)) for _ in range(3_000)]
    check_against_the_sdk(values)
    check_against_the_sdk([*values, 250_000_000])


@quick
@given(many, many, many)
def test_a_sum_is_the_histogram_of_all_values_in_any_order(
    first: list[int], second: list[int], third: list[int]
) -> None:
    whole = ExponentialHistogram.of([*first, *second, *third])
    parts = [ExponentialHistogram.of(values) for values in (first, second, third)]
    for a, b, c in itertools.permutations(parts):
        assert (a + b) + c == a + (b + c) == whole
    assert added(parts) == whole
    assert added([]) == ExponentialHistogram()


@quick
@given(st.lists(durations, min_size=1, max_size=200), st.integers(1, 100))
def test_a_quantile_is_within_its_bound_of_the_exact_one(values: list[int], part: int) -> None:
    histogram = ExponentialHistogram.of(values)
    exact = sorted(values)[rank(len(values), part) - 1]
    told = histogram.quantile(part)
    assert told is not None
    # Half a nanosecond is from rounding.
    assert abs(told - exact) <= histogram.relative_error * exact + 0.5
    assert histogram.min <= told <= histogram.max
    assert histogram.quantile(100) == max(values)


@quick
@given(st.lists(st.integers(1, LONGEST), min_size=1, max_size=200), st.integers(1, 100))
def test_the_rank_is_that_of_numpys_discrete_quantile(values: list[int], part: int) -> None:
    exact = np.quantile(np.array(values), part / 100, method="inverted_cdf")
    # numpy reckons the rank with floats, and may be one off.
    place = rank(len(values), part) - 1
    ordered = sorted(values)
    near = {ordered[max(place - 1, 0)], ordered[place], ordered[min(place + 1, len(values) - 1)]}
    assert exact in near
    if len(values) * part % 100:
        assert exact == ordered[place]


def test_values_within_a_factor_of_thirty_are_told_to_one_per_cent() -> None:
    histogram = ExponentialHistogram.of(range(20_000, 600_000, 7))
    assert histogram.relative_error < 0.011
    assert len(histogram.counts) <= MAX_BUCKETS
    assert ExponentialHistogram.of([20_000, 90_000]).relative_error < 0.006
    # A nanosecond and a year in one histogram.
    assert ExponentialHistogram.of([1, 3 * 10**16]).relative_error < 0.18


@pytest.mark.parametrize("scale", [MAX_SCALE])
def test_buckets_hold_their_upper_bound_and_not_their_lower_one(scale: int) -> None:
    values = np.array([1, 2, 3, 4, 5, 1024, 1025, 2**62, 2**63 - 1])
    for value, index in zip(values.tolist(), bucket_indices(values).tolist(), strict=True):
        # base ** i < v <= base ** (i + 1), in whole numbers.
        power = value ** (1 << scale)
        assert power <= 1 << (index + 1)
        assert index < 0 or power > 1 << index


def test_sums_leave_no_digit_out() -> None:
    values = [2**62, 2**62, 2**62 + 1]
    assert ExponentialHistogram.of(values).sum == sum(values)


def test_a_negative_duration_has_no_bucket() -> None:
    with pytest.raises(ValueError, match="cannot hold -1"):
        ExponentialHistogram.of([3, -1])


def test_nothing_has_no_quantile() -> None:
    nothing = ExponentialHistogram()
    assert nothing.quantile(50) is None
    assert nothing.mean is None
    assert nothing.relative_error == 0
    assert ExponentialHistogram.of([0, 0]).quantile(99) == 0


def test_a_row_of_the_database_is_read_back_as_it_was() -> None:
    whole = ExponentialHistogram.of([0, 5, 700, 90_000])
    row = {
        "count": whole.count,
        "sum": whole.sum,
        "min": whole.min,
        "max": whole.max,
        "scale": whole.scale,
        "zero_count": whole.zero_count,
        "bucket_offset": whole.offset,
        "bucket_counts": list(whole.counts),
    }
    assert from_row(row) == whole
