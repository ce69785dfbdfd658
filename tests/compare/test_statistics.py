"""Intervals and p values, by hand and by counting how often they hold."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msafusion.compare.statistics import estimate, holm


def test_one_seed_of_independent_samples_is_the_t_test():
    scores = np.array([[1.0, 2.0, 3.0]])
    found = estimate(scores, np.arange(3))
    half = 4.302653 / math.sqrt(3)  # t(0.975, 2) of the tables, standard deviation 1
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2 - half, 2 + half), rel=1e-6)
    t = 2 * math.sqrt(3)  # with 2 degrees of freedom p = 1 - t / sqrt(2 + t^2)
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t))


def test_many_samples_of_few_people_count_as_few():
    people = np.repeat([0.1, 0.2, 0.6], 100)[None]
    found = estimate(people, np.repeat([1, 2, 3], 100))
    alone = estimate(np.array([[0.1, 0.2, 0.6]]), np.arange(3))
    assert (found.low, found.high, found.p) == pytest.approx((alone.low, alone.high, alone.p))


def test_seeds_of_one_person_are_the_t_test_over_seeds():
    found = estimate(np.repeat([[1.0], [2.0], [3.0]], 50, axis=1), np.zeros(50))
    half = 4.302653 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), rel=1e-6)


def test_variances_of_people_and_seeds_add_up():
    people, seeds = np.array([0.0, 1.0, 5.0, 2.0]), np.array([0.0, 3.0, 1.0])
    found = estimate(seeds[:, None] + people, np.arange(4))
    of_people, of_seeds = people.var(ddof=1) / 4, seeds.var(ddof=1) / 3
    assert (of_people + of_seeds) ** 2 / (of_people**2 / 3 + of_seeds**2 / 2) == pytest.approx(5)
    half = 2.570582 * math.sqrt(of_people + of_seeds)  # t(0.975, 5) of the tables
    assert (found.mean, found.high) == pytest.approx((10 / 3, 10 / 3 + half), rel=1e-6)


def test_intervals_hold_the_truth_for_few_people():
    """Intervals for new people hold the mean; those of a bootstrap would do so 90 times of 100 (docs/log.md)."""
    draw, held, number = np.random.default_rng(0), 0, 600
    for _ in range(number):
        people = np.repeat(draw.normal(0, 0.1, 5), 40)
        scores = 0.7 + people + draw.normal(0, 0.05, (3, 1)) + draw.normal(0, 0.4, (3, 200))
        found = estimate(scores, np.repeat(np.arange(5), 40))
        held += found.low <= 0.7 <= found.high
    assert 0.925 < held / number < 0.995


def test_without_spread():
    assert estimate(np.zeros((2, 4)), np.arange(4)) == (0, 0, 0, 1)
    assert estimate(np.full((2, 4), 0.25), np.arange(4)) == (0.25, 0.25, 0.25, 0)
    assert estimate(np.ones((1, 4)), np.zeros(4)) == (1, None, None, None)
    for bad in (np.zeros((1, 0)), np.full((1, 3), math.nan)):
        with pytest.raises(ValueError, match="finite"):
            estimate(bad, np.arange(bad.shape[1]))


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
