"""What runs say about new people and seeds: intervals, paired tests; pure functions of numbers."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped


class Estimate(NamedTuple):
    """A mean, its 95 % interval and the two-sided p value of its being zero; None: undefined."""

    mean: float
    low: float | None
    high: float | None
    p: float | None


def estimate(scores: Float[np.ndarray, "seeds samples"], units: Shaped[np.ndarray, " samples"]) -> Estimate:
    """Mean of scores with its 95 % interval and the p value of its being zero, for other people and other seeds.

    The variance of the mean is that between units (people, of unequal numbers of samples) plus that between seeds: the
    moment estimate of a mixed model with crossed random effects of unit and seed, slightly too wide, as variance
    due to both counts twice. Degrees of freedom are Satterthwaite's (Biometrics Bulletin 2, 1946). A bootstrap of
    people and seeds is too narrow for the few people that most data sets have (docs/log.md).

    Args:
        scores: of each (seed, sample); differences of two methods for a paired comparison.
        units: of each sample: what would be drawn again, such as the person.

    Returns:
        Without interval and p where there is one unit and one seed. p is 1 where all scores are zero.

    Raises:
        ValueError: no score, or one that is not finite.
    """
    from scipy.special import stdtr, stdtrit

    if not scores.size or not np.isfinite(scores).all():
        raise ValueError("got no scores or some that are not finite, expected numbers; leave out runs that diverged.")
    mean, (num_seeds, num_samples) = float(scores.mean()), scores.shape
    _, places = np.unique(units, return_inverse=True)
    parts: list[tuple[float, int]] = []
    sums = np.bincount(places, weights=scores.mean(axis=0) - mean) / num_samples
    if sums.size > 1:
        parts.append((sums.size / (sums.size - 1) * float(np.square(sums).sum()), sums.size - 1))
    if num_seeds > 1:
        parts.append((float(scores.mean(axis=1).var(ddof=1)) / num_seeds, num_seeds - 1))
    if not parts:
        return Estimate(mean, None, None, None)
    variance = sum(one for one, _ in parts)
    if variance <= (1e-12 * max(1.0, float(np.abs(scores).max()))) ** 2:  # equal but for rounding
        return Estimate(mean, mean, mean, 1.0 if abs(mean) <= 1e-12 else 0.0)
    freedom = variance**2 / sum(one**2 / of for one, of in parts)
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(variance)
    return Estimate(mean, mean - half, mean + half, float(2 * stdtr(freedom, -abs(mean) / math.sqrt(variance))))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p values for testing them all (Holm, Scand. J. Statist. 6, 1979); None stays and does not count."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[index] = largest
    return adjusted
