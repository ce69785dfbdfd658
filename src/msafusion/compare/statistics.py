"""What the seeds say: intervals, paired tests, bootstraps and the tables made of them; pure functions of numbers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

Row = Mapping[str, Any]
"""One trained network, as in the `rows` of results.json."""
Scores = Mapping[tuple[str, int], Shaped[np.ndarray, " _samples"]]
"""(fusion, seed) -> score of each test sample, higher is better."""

LEVEL = 0.05
"""Below it a p value tells two methods apart."""
BASELINE = "sum"
SINGLE = " alone"
"""How the rows of single streams end: they fuse nothing."""
COSTS = ("parameters", "flops", "latency_ms", "peak_bytes", "train_seconds")
_CHUNK = 2**22
"""Most drawn samples in memory at once."""


class Interval(NamedTuple):
    """Mean, standard deviation (ddof 1) and t interval of the mean; None: undefined."""

    mean: float | None
    std: float | None
    low: float | None
    high: float | None


class Difference(NamedTuple):
    """Mean difference, its 95 % percentile interval and two-sided p value."""

    mean: float
    low: float
    high: float
    p: float


def is_single(fusion: str) -> bool:
    """Whether this is one stream by itself rather than a fusion method."""
    return fusion.endswith(SINGLE)


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean over seeds with Student's t interval: mean ± t(level, n - 1) std / sqrt(n).

    Args:
        values: one a seed. If one is not finite (a run diverged) all is undefined: leaving it out would flatter.
        level: share of such intervals that hold the true mean.

    Raises:
        ValueError: no value.
    """
    from scipy.special import stdtrit

    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise ValueError("got no value, expected one a seed; train with at least one seed.")
    if not np.isfinite(array).all():
        return Interval(None, None, None, None)
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, None, None, None)
    std = float(array.std(ddof=1))
    half = float(stdtrit(array.size - 1, 0.5 + level / 2)) * std / math.sqrt(array.size)
    return Interval(mean, std, mean - half, mean + half)


def paired_test(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Test two methods over seeds: p value of the two-sided paired t test over seeds.

    Args:
        one: a value a seed.
        other: those of the same seeds in the same order.

    Returns:
        None for fewer than two pairs or a value that is not finite. If all differences are equal (but for rounding),
        1.0 where they are zero and 0.0 otherwise.

    Raises:
        ValueError: not as many values on both sides.
    """
    from scipy.special import stdtr

    ones, others = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if ones.shape != others.shape:
        raise ValueError(f"got {ones.size} and {others.size} values, expected pairs; give those of common seeds.")
    if ones.size < 2 or not (np.isfinite(ones).all() and np.isfinite(others).all()):
        return None
    differences = ones - others
    rounding = 1e-12 * max(np.abs(ones).max(), np.abs(others).max())
    if np.ptp(differences) <= rounding:
        return 1.0 if abs(differences.mean()) <= rounding else 0.0
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(differences.size))
    return float(2 * stdtr(differences.size - 1, -abs(t)))


def bootstrap_difference(
    one: Shaped[np.ndarray, "_seeds _samples"],
    other: Shaped[np.ndarray, "_seeds _samples"],
    num_resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Mean difference of two methods with seeds and test samples resampled, both paired.

    Args:
        one: score of each (seed, test sample), higher is better.
        other: those of the same seeds and samples.
        num_resamples: draws; p is at least 2 / (num_resamples + 1).
        seed: of the draws; every comparison draws the same.

    Raises:
        ValueError: other shapes, nothing in them, or values that are not finite.
    """
    if one.shape != other.shape or one.ndim != 2 or not one.size:
        raise ValueError(
            f"got scores of shapes {one.shape} and {other.shape}, expected the same (seeds, samples); give those of "
            "common seeds on one test set."
        )
    differences = one.astype(np.float64) - other.astype(np.float64)
    if not np.isfinite(differences).all():
        raise ValueError("got scores that are not finite, expected numbers; leave out runs that diverged.")
    means = _resampled_means(differences, num_resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [0.025, 0.975])
    fewest = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    p = min(1.0, 2 * (int(fewest) + 1) / (num_resamples + 1))
    return Difference(float(differences.mean()), float(low), float(high), p)


def _resampled_means(
    differences: Float[np.ndarray, "seeds samples"], num_resamples: int, draw: np.random.Generator
) -> Float[np.ndarray, " resamples"]:
    means = []
    at_once = max(1, _CHUNK // differences.shape[1])
    for start in range(0, num_resamples, at_once):
        number = min(at_once, num_resamples - start)
        seeds, samples = (_times_drawn(number, size, draw) for size in differences.shape)
        means.append(np.einsum("rn,rn->r", seeds @ differences, samples) / differences.size)
    return np.concatenate(means)


def _times_drawn(number: int, size: int, draw: np.random.Generator) -> Float[np.ndarray, "number size"]:
    """How often each of `size` things is drawn in each of `number` draws of `size`, with replacement."""
    drawn = draw.integers(size, size=(number, size)) + size * np.arange(number)[:, None]
    return np.bincount(drawn.ravel(), minlength=number * size).reshape(number, size).astype(np.float64)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p values for testing them all (Holm, Scand. J. Statist. 6, 1979); None stays and does not count."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[index] = largest
    return adjusted


def comparison(rows: Sequence[Row], scores: Scores, metric: str, higher_is_better: bool) -> list[dict[str, Any]]:
    """The main table: one entry a method, the best mean first, methods with a run that diverged last.

    Each has fusion, single, num_seeds, mean, std, low, high, mean `COSTS`, versus_best (against the best other
    fusion method, by mean over seeds), versus_sum and tied_for_best. A versus holds fusion, difference (positive is
    better), p_seeds, p_bootstrap, low and high (of the bootstrap), versus_sum p_seeds_holm too; pairs are of common
    seeds. tied_for_best: the best of all, or the paired test (the bootstrap where there is one seed) does not tell it
    from the best.

    Args:
        rows: of results.json.
        scores: where those of a row are missing its bootstraps are None.
        metric: key of each row's metrics.
        higher_is_better: of the metric; scores always are.
    """
    sign = 1.0 if higher_is_better else -1.0
    values = {name: _values(some, metric) for name, some in _by_fusion(rows).items()}
    intervals = {name: interval(list(of_seeds.values())) for name, of_seeds in values.items()}

    def merit(name: str) -> float:
        mean = intervals[name].mean
        return -math.inf if mean is None else sign * mean

    def versus(name: str, other: str | None) -> dict[str, Any] | None:
        return None if other not in values else _versus(name, other, values, scores, sign)

    names = sorted(values, key=merit, reverse=True)
    fusions = [name for name in names if not is_single(name) and intervals[name].mean is not None]
    table = []
    for name in names:
        rival = next((other for other in fusions if other != name), None)
        entry = {"fusion": name, "single": is_single(name), "num_seeds": len(values[name])}
        entry |= intervals[name]._asdict()
        entry |= {
            "versus_best": versus(name, rival),
            "versus_sum": versus(name, BASELINE if name != BASELINE else None),
        }
        if name == names[0] or intervals[name].mean is None:
            entry["tied_for_best"] = intervals[name].mean is not None
        else:
            entry["tied_for_best"] = _tied(entry["versus_best"] if rival == names[0] else versus(name, names[0]))
        table.append(entry | _costs([row for row in rows if row["fusion"] == name]))
    with_sum = [entry["versus_sum"] for entry in table if entry["versus_sum"]]
    for one, p in zip(with_sum, holm([one["p_seeds"] for one in with_sum]), strict=True):
        one["p_seeds_holm"] = p
    return table


def _versus(
    name: str, other: str, values: Mapping[str, Mapping[int, float]], scores: Scores, sign: float
) -> dict[str, Any] | None:
    """None without a common seed that both finished."""
    seeds = [seed for seed in values[name] if seed in values[other]]
    one, two = ([values[method][seed] for seed in seeds] for method in (name, other))
    if not seeds or not np.isfinite([*one, *two]).all():
        return None
    found: dict[str, Any] = {
        "fusion": other,
        "difference": float(sign * (np.mean(one) - np.mean(two))),
        "p_seeds": paired_test(one, two),
        "p_bootstrap": None,
        "low": None,
        "high": None,
    }
    if all((method, seed) in scores for method in (name, other) for seed in seeds):
        first, second = (np.stack([scores[method, seed] for seed in seeds]) for method in (name, other))
        drawn = bootstrap_difference(first, second)
        found |= {"p_bootstrap": drawn.p, "low": drawn.low, "high": drawn.high}
    return found


def _tied(against: Mapping[str, Any] | None) -> bool:
    """Also where nothing can be tested."""
    if against is None:
        return True
    p = against["p_seeds"] if against["p_seeds"] is not None else against["p_bootstrap"]
    return p is None or p >= LEVEL


def robustness_table(rows: Sequence[Row], metric: str, higher_is_better: bool) -> list[dict[str, Any]]:
    """One entry a (fusion, condition), in the order of the rows: fusion, condition, mean, std, num_seeds and loss.

    The loss is what the condition costs beside undisturbed data of the same seeds (positive: worse).
    """
    sign = 1.0 if higher_is_better else -1.0
    table = []
    for name, some in _by_fusion(rows).items():
        clean = _values(some, metric)
        for condition in dict.fromkeys(condition for row in some for condition in row.get("robustness") or {}):
            disturbed = {
                int(row["seed"]): _number(row["robustness"][condition].get(metric))
                for row in some
                if condition in (row.get("robustness") or {})
            }
            whole = interval([clean.get(seed, math.nan) for seed in disturbed])
            found = interval(list(disturbed.values()))
            loss = None
            if whole.mean is not None and found.mean is not None:
                loss = sign * (whole.mean - found.mean)
            table.append(
                {
                    "fusion": name,
                    "condition": condition,
                    "mean": found.mean,
                    "std": found.std,
                    "num_seeds": len(disturbed),
                    "loss": loss,
                }
            )
    return table


def _by_fusion(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["fusion"], []).append(row)
    return found


def _values(rows: Iterable[Row], metric: str) -> dict[int, float]:
    """Seed -> metric on test data."""
    return {int(row["seed"]): _number(row["metrics"].get(metric)) for row in rows}


def _number(value: float | None) -> float:
    """NaN for what JSON holds as null: a run diverged."""
    return math.nan if value is None else float(value)


def _costs(rows: Sequence[Row]) -> dict[str, float | None]:
    """Means of what is known."""
    means: dict[str, float | None] = {}
    for cost in COSTS:
        known = [_number((row.get("cost") or {}).get(cost)) for row in rows]
        known = [value for value in known if math.isfinite(value)]
        means[cost] = float(np.mean(known)) if known else None
    return means
