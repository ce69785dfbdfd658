import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msafusion.compare.statistics import (
    bootstrap_difference,
    comparison,
    holm,
    interval,
    paired_test,
    robustness_table,
)


def row(fusion, seed, value, metric="accuracy", robustness=None, **cost):
    return {
        "fusion": fusion,
        "seed": seed,
        "valid": {metric: value, "epoch": 1},
        "metrics": {metric: value},
        "robustness": {name: {metric: number} for name, number in (robustness or {}).items()},
        "cost": cost,
    }


def rows_of(values, metric="accuracy"):
    return [row(name, seed, value, metric) for name, some in values.items() for seed, value in enumerate(some)]


def test_interval_by_hand():
    mean, std, low, high = interval([1.0, 2.0, 3.0])
    half = 4.302653 / math.sqrt(3)  # t(0.975, 2) of the tables, std 1
    assert (mean, std) == (2.0, 1.0)
    assert (low, high) == pytest.approx((2 - half, 2 + half), rel=1e-6)


def test_interval_of_one_seed_and_of_a_diverged_one():
    assert interval([0.5]) == (0.5, None, None, None)
    assert interval([0.5, math.nan]) == (None, None, None, None)
    with pytest.raises(ValueError, match="got no value"):
        interval([])


@given(st.floats(0.5, 0.999))
def test_a_higher_level_is_wider(level):
    _, _, low, high = interval([0.1, 0.4, 0.2, 0.9], level)
    _, _, lower, higher = interval([0.1, 0.4, 0.2, 0.9], (1 + level) / 2)
    assert lower < low < 0.4 < high < higher


def test_paired_test_by_hand():
    # differences 1, 2, 3: t = 2 / (1 / sqrt(3)); with 2 degrees of freedom p = 1 - t / sqrt(2 + t^2)
    t = 2 * math.sqrt(3)
    assert paired_test([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]) == pytest.approx(1 - t / math.sqrt(2 + t * t))
    # scipy.stats.ttest_rel of scipy 1.17 (its import takes a second)
    assert paired_test([0.91, 0.93, 0.90, 0.95], [0.90, 0.90, 0.91, 0.92]) == pytest.approx(
        0.21516994256955022, rel=1e-9
    )


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([0.5, 0.7], [0.5, 0.7], 1.0),
        ([0.9, 0.7, 0.3], [0.8, 0.6, 0.2], 0.0),  # equal but for rounding
        ([0.5], [0.4], None),
        ([0.5, math.nan], [0.4, 0.2], None),
    ],
)
def test_paired_test_without_spread(one, other, expected):
    assert paired_test(one, other) == expected


def test_paired_test_refuses_what_is_not_paired():
    with pytest.raises(ValueError, match="expected pairs"):
        paired_test([1.0, 2.0], [1.0])


def test_bootstrap_of_a_constant_difference():
    other = np.random.default_rng(0).integers(2, size=(3, 40)).astype(np.float32)
    found = bootstrap_difference(other + 0.25, other, num_resamples=199)
    assert found == pytest.approx((0.25, 0.25, 0.25, 2 / 200))
    assert bootstrap_difference(other, other) == (0, 0, 0, 1)


def test_bootstrap_interval_is_about_the_normal_one():
    difference = np.random.default_rng(1).normal(0.1, 1, size=(1, 400))
    found = bootstrap_difference(difference, np.zeros_like(difference), num_resamples=4000)
    half = 1.96 * difference.std() / 20
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.1 * half)
    exact = math.erfc(abs(found.mean) / (difference.std() / 20) / math.sqrt(2))
    assert found.p == pytest.approx(exact, abs=0.03)


def test_bootstrap_draws_seeds_too():
    """All samples of a seed agree, so that samples alone would leave no spread."""
    one = np.repeat([[0.0], [1.0], [2.0], [3.0]], 50, axis=1)
    found = bootstrap_difference(one, np.zeros_like(one))
    assert found.mean == 1.5
    assert found.low < 0.75 < 2.25 < found.high


def test_bootstrap_in_parts_is_a_bootstrap(monkeypatch):
    """Many samples are drawn a few resamples at a time."""
    one, other = np.random.default_rng(2).integers(2, size=(2, 3, 30)).astype(bool)
    whole = bootstrap_difference(one, other)
    monkeypatch.setattr("msafusion.compare.statistics._CHUNK", 300)
    parts = bootstrap_difference(one, other)
    assert parts[:3] == pytest.approx(whole[:3], abs=0.03)
    assert parts.p == pytest.approx(whole.p, abs=0.15)


def test_bootstrap_is_antisymmetric_and_refuses_other_shapes():
    one, other = np.random.default_rng(3).random((2, 2, 25))
    there, back = bootstrap_difference(one, other), bootstrap_difference(other, one)
    assert (there.mean, there.low, there.high, there.p) == pytest.approx((-back.mean, -back.high, -back.low, back.p))
    with pytest.raises(ValueError, match="expected the same"):
        bootstrap_difference(one, other[:, 1:])
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_difference(one, np.full_like(other, np.nan))


def test_holm_by_hand():
    assert holm([0.01, None, 0.04, 0.03, 0.005]) == pytest.approx([0.03, None, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_p_value_and_bonferroni(p_values):
    adjusted = holm(p_values)
    for p, found in zip(p_values, adjusted, strict=True):
        assert p <= found <= min(1.0, len(p_values) * p)
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


VALUES = {
    "sum": [0.80, 0.82, 0.81],
    "msaf": [0.90, 0.91, 0.95],
    "gmu": [0.90, 0.92, 0.91],
    "skeleton alone": [0.60, 0.61, 0.65],
}


def test_comparison_sorts_and_compares():
    table = comparison(rows_of(VALUES), {}, "accuracy", True)
    entries = {entry["fusion"]: entry for entry in table}
    assert list(entries) == ["msaf", "gmu", "sum", "skeleton alone"]
    assert [entry["single"] for entry in table] == [False, False, False, True]
    assert entries["msaf"]["versus_best"]["fusion"] == "gmu"
    assert entries["gmu"]["versus_best"]["fusion"] == "msaf"
    assert entries["gmu"]["versus_best"]["difference"] == pytest.approx(-0.01)
    assert entries["gmu"]["versus_best"]["p_seeds"] == pytest.approx(paired_test(VALUES["gmu"], VALUES["msaf"]))
    assert entries["gmu"]["versus_best"]["p_bootstrap"] is None
    assert entries["sum"]["versus_sum"] is None
    assert entries["msaf"]["versus_sum"]["difference"] == pytest.approx(0.11)
    assert [entry["tied_for_best"] for entry in table] == [True, True, False, False]
    others = [entry["versus_sum"] for entry in table if entry["versus_sum"]]
    assert [one["p_seeds_holm"] for one in others] == holm([one["p_seeds"] for one in others])


def test_comparison_where_lower_is_better():
    values = {"sum": [0.7, 0.72], "msaf": [0.5, 0.53], "text alone": [0.9, 0.8]}
    table = comparison(rows_of(values, "mae"), {}, "mae", False)
    assert [entry["fusion"] for entry in table] == ["msaf", "sum", "text alone"]
    assert table[0]["versus_sum"]["difference"] == pytest.approx(0.195)
    assert table[2]["versus_best"]["difference"] == pytest.approx(-0.335)


def test_comparison_bootstraps_the_scores_of_common_seeds():
    draw = np.random.default_rng(0)
    scores = {(name, seed): draw.integers(2, size=60) for name in ("sum", "msaf") for seed in range(3)}
    rows = [row(name, seed, float(score.mean())) for (name, seed), score in scores.items()]
    rows = [one for one in rows if (one["fusion"], one["seed"]) != ("msaf", 1)]
    entry = next(one for one in comparison(rows, scores, "accuracy", True) if one["fusion"] == "msaf")
    expected = bootstrap_difference(*(np.stack([scores[name, seed] for seed in (0, 2)]) for name in ("msaf", "sum")))
    assert entry["num_seeds"] == 2
    found = entry["versus_sum"]
    assert (found["difference"], found["low"], found["high"], found["p_bootstrap"]) == pytest.approx(expected)


def test_comparison_of_single_seeds_ties_by_the_bootstrap():
    right = np.arange(100) < 90
    scores = {("sum", 0): right, ("msaf", 0): np.arange(100) < 91, ("gmu", 0): np.arange(100) < 50}
    table = comparison(
        [row(name, 0, float(score.mean())) for (name, _), score in scores.items()], scores, "accuracy", True
    )
    assert [(entry["fusion"], entry["tied_for_best"]) for entry in table] == [
        ("msaf", True),
        ("sum", True),
        ("gmu", False),
    ]
    assert table[0]["std"] is None
    assert table[0]["versus_sum"]["p_seeds"] is table[0]["versus_sum"]["p_seeds_holm"] is None


def test_a_single_stream_may_be_the_best():
    values = {"sum": [0.5, 0.51, 0.52], "skeleton alone": [0.8, 0.83, 0.82]}
    table = comparison(rows_of(values), {}, "accuracy", True)
    assert [(entry["fusion"], entry["tied_for_best"]) for entry in table] == [("skeleton alone", True), ("sum", False)]
    assert table[1]["versus_best"] is None


def test_comparison_without_common_seeds_or_after_divergence():
    rows = [row("sum", 0, 0.5), row("msaf", 1, 0.6), row("gmu", 0, None), row("gmu", 1, 0.9)]
    table = comparison(rows, {}, "accuracy", True)
    assert [entry["fusion"] for entry in table] == ["msaf", "sum", "gmu"]
    assert table[0]["versus_sum"] is None
    assert table[2]["mean"] is None
    assert not table[2]["tied_for_best"]
    json.dumps(table, allow_nan=False)


def test_costs_are_means_of_what_is_known():
    rows = [row("sum", 0, 0.5, flops=10, peak_bytes=None), row("sum", 1, 0.6, flops=20, latency_ms=3.0)]
    (entry,) = comparison(rows, {}, "accuracy", True)
    assert (entry["flops"], entry["latency_ms"], entry["peak_bytes"]) == (15.0, 3.0, None)


def test_robustness_loss_is_positive_where_worse():
    rows = [
        row("msaf", 0, 0.9, robustness={"without audio": 0.7, "noise 0.5 on audio": 0.9}),
        row("msaf", 1, 0.8, robustness={"without audio": 0.5}),
        row("audio alone", 0, 0.4),
    ]
    first, second = robustness_table(rows, "accuracy", True)
    assert (first["fusion"], first["condition"], first["num_seeds"]) == ("msaf", "without audio", 2)
    assert (first["mean"], first["loss"]) == pytest.approx((0.6, 0.25))
    assert (second["num_seeds"], second["std"], second["loss"]) == (1, None, 0.0)
    (worse,) = robustness_table([row("sum", 0, 0.5, "mae", {"without text": 0.8})], "mae", False)
    assert worse["loss"] == pytest.approx(0.3)


def test_tables_survive_json():
    draw = np.random.default_rng(0)
    scores = {(name, seed): draw.random(20).astype(np.float32) for name in VALUES for seed in range(3)}
    rows = [one | {"robustness": {"without audio": {"accuracy": 0.2}}} for one in rows_of(VALUES)]
    for table in (comparison(rows, scores, "accuracy", True), robustness_table(rows, "accuracy", True)):
        assert json.loads(json.dumps(table, allow_nan=False)) == table
