"""The tables of a comparison, made of its runs; pure functions of numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Shaped

from msafusion.compare.statistics import estimate, holm

Kind = Literal["fusion", "single", "simple"]
Row = Mapping[str, Any]
"""One trained network (of all folds), as in the `rows` of results.json."""
Scores = Mapping[tuple[str, int], Shaped[np.ndarray, " _samples"]]
"""(fusion, seed) -> score of each test sample, higher is better."""

LEVEL = 0.05
"""Below it a p value tells two methods apart."""
MIN_RUNS = 5
"""With fewer runs of a method nothing is tested."""
BASELINE = "sum"
SINGLE = " alone"
"""How the rows of single streams end: they fuse nothing."""
COSTS = ("parameters", "flops", "latency_ms", "peak_bytes", "train_seconds")


class Spread(NamedTuple):
    """Mean and standard deviation over seeds (ddof 1); None: undefined."""

    mean: float | None
    std: float | None


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation; if one value is not finite (a run diverged) both are undefined.

    Raises:
        ValueError: no value.
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise ValueError("got no value, expected one a seed; train with at least one seed.")
    if not np.isfinite(array).all():
        return Spread(None, None)
    return Spread(float(array.mean()), float(array.std(ddof=1)) if array.size > 1 else None)


@dataclass(frozen=True)
class Runs:
    """The runs of all methods, which are compared in pairs of common seeds; a simple model counts for every seed.

    Attributes:
        rows: of results.json; each has fusion, kind, seed, metrics, valid, num_folds and cost.
        scores: where those of a row are missing nothing is tested.
        units: for each scored sample, the person it is from, or the sample itself where there are no groups.
        metric: key of each row's metrics.
        higher_is_better: of the metric; scores always are.
        folds: of each scored sample; where there is a single seed they are drawn again, as the people of one fold share
            its one model. None: a fixed split.
    """

    rows: Sequence[Row]
    scores: Scores
    units: Shaped[np.ndarray, " _samples"]
    metric: str
    higher_is_better: bool
    folds: Shaped[np.ndarray, " _samples"] | None = None

    @cached_property
    def by_fusion(self) -> dict[str, list[Row]]:
        """Method -> its rows."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row["fusion"], []).append(row)
        return found

    @property
    def sign(self) -> float:
        """1 or -1: what the metric is multiplied by, so that higher is better."""
        return 1.0 if self.higher_is_better else -1.0

    def kind(self, name: str) -> Kind:
        """Of a method."""
        return self.by_fusion[name][0]["kind"]

    def values(self, name: str, part: str = "metrics") -> dict[int, float]:
        """Seed -> the metric on test data, or on validation data (`valid`); NaN where a run diverged."""
        return {int(row["seed"]): _number(row[part].get(self.metric)) for row in self.by_fusion[name]}

    def mean(self, name: str, part: str = "metrics") -> float | None:
        """Of the metric over seeds."""
        return spread(list(self.values(name, part).values())).mean

    def merit(self, name: str, part: str = "metrics") -> float:
        """What is compared: the mean, signed so that higher is better; minus infinity for a method that diverged."""
        mean = self.mean(name, part)
        return -math.inf if mean is None else self.sign * mean

    def best(self, kind: Kind, part: str = "valid") -> str | None:
        """The best method of a kind, on validation data unless told otherwise; None: there is none that finished."""
        names = [name for name in self.by_fusion if self.kind(name) == kind and math.isfinite(self.merit(name))]
        return max(names, key=lambda name: self.merit(name, part), default=None)

    def entry(self, name: str) -> dict[str, Any]:
        """A method's mean, spread over seeds, 95 % interval, validation mean and costs."""
        found = spread(list(self.values(name).values()))
        low = high = None
        if found.mean is not None and (scores := self._stacked(name, list(self.values(name)))) is not None:
            _, low, high, _ = estimate(scores, self._units(scores))
            if low is not None and high is not None:
                if scores.min() >= 0 and scores.max() <= 1:  # of right answers no more than all
                    low, high = max(low, 0.0), min(high, 1.0)
                low, high = (low, high) if self.higher_is_better else (-high, -low)
        entry: dict[str, Any] = {"fusion": name, "kind": self.kind(name), "num_runs": self._runs(name)}
        entry |= {"mean": found.mean, "std": found.std, "low": low, "high": high, "valid": self.mean(name, "valid")}
        return entry | {cost: self._cost(name, cost) for cost in COSTS}

    def versus(self, name: str, other: str) -> dict[str, Any] | None:
        """A paired comparison: fusion (the other), difference (positive: `name` is better), low, high and p.

        None without a common seed that both finished.
        """
        of_name, of_other = self.values(name), self.values(other)
        if self.kind(name) == "simple":
            of_name = dict.fromkeys(of_other, next(iter(of_name.values())))
        elif self.kind(other) == "simple":
            of_other = dict.fromkeys(of_name, next(iter(of_other.values())))
        seeds = [seed for seed in of_name if seed in of_other]
        one, two = [of_name[seed] for seed in seeds], [of_other[seed] for seed in seeds]
        if not seeds or not np.isfinite([*one, *two]).all():
            return None
        difference = self.sign * float(np.mean(one) - np.mean(two))
        found: dict[str, Any] = {"fusion": other, "difference": difference, "low": None, "high": None, "p": None}
        first, second = self._stacked(name, seeds), self._stacked(other, seeds)
        if first is not None and second is not None:
            scores = first - second
            _, found["low"], found["high"], p = estimate(scores, self._units(scores))
            trained = [self._runs(each) for each in (name, other) if self.kind(each) != "simple"]
            found["p"] = p if not trained or min(trained) >= MIN_RUNS else None
        return found

    def _runs(self, name: str) -> int:
        return sum(int(row.get("num_folds") or 1) for row in self.by_fusion[name])

    def _units(self, scores: np.ndarray) -> np.ndarray:
        return self.units if self.folds is None or len(scores) > 1 else self.folds

    def _stacked(self, name: str, seeds: Sequence[int]) -> Shaped[np.ndarray, "_seeds _samples"] | None:
        own = [seed for of, seed in self.scores if of == name]
        if self.kind(name) == "simple":
            seeds = own[:1] * len(seeds)
        if not seeds or any((name, seed) not in self.scores for seed in seeds):
            return None
        return np.stack([self.scores[name, seed] for seed in seeds]).astype(np.float64)

    def _cost(self, name: str, cost: str) -> float | None:
        """Mean of what is known."""
        known = [_number((row.get("cost") or {}).get(cost)) for row in self.by_fusion[name]]
        known = [value for value in known if math.isfinite(value)]
        return float(np.mean(known)) if known else None


def comparison(runs: Runs, baseline: str = BASELINE) -> list[dict[str, Any]]:
    """The main table: one entry per method, the best mean first, methods with a diverged run last.

    Each has what `Runs.entry` gives, versus_best (`Runs.versus` against the best other fusion method), versus_sum (with
    p_holm, adjusted for all methods) and tied_for_best: whether it is the best of all, or the
    paired test does not tell it apart from the best; also for single streams and simple models. Nothing is tied where
    nothing is tested.

    Args:
        runs: of all methods.
        baseline: name of the method that adds the networks' outputs.
    """
    names = sorted(runs.by_fusion, key=runs.merit, reverse=True)
    fusions = [name for name in names if runs.kind(name) == "fusion" and runs.mean(name) is not None]
    known = baseline in runs.by_fusion
    table = []
    for name in names:
        entry = runs.entry(name)
        rival = next((other for other in fusions if other != name), None)
        entry["versus_best"] = runs.versus(name, rival) if rival else None
        entry["versus_sum"] = runs.versus(name, baseline) if known and name != baseline else None
        against = None if name == names[0] else runs.versus(name, names[0])
        if name == names[0]:
            # a simple model has one run; it is told from methods that have enough
            counted = [name, *fusions] if entry["kind"] == "simple" else [name]
            enough = any(runs.entry(other)["num_runs"] >= MIN_RUNS for other in counted)
            entry["tied_for_best"] = entry["mean"] is not None and enough
        else:
            entry["tied_for_best"] = against is not None and against["p"] is not None and against["p"] >= LEVEL
        table.append(entry)
    with_sum = [entry["versus_sum"] for entry in table if entry["versus_sum"]]
    for one, p in zip(with_sum, holm([one["p"] for one in with_sum]), strict=True):
        one["p_holm"] = p
    return table


def robustness_table(runs: Runs) -> list[dict[str, Any]]:
    """One entry per (fusion, condition), in the order of the rows: fusion, condition, mean, std, num_seeds and loss.

    The loss is what the condition costs beside undisturbed data of the same seeds (positive: worse).
    """
    table = []
    for name, some in runs.by_fusion.items():
        clean = runs.values(name)
        for condition in dict.fromkeys(condition for row in some for condition in row.get("robustness") or {}):
            disturbed = {
                int(row["seed"]): _number(row["robustness"][condition].get(runs.metric))
                for row in some
                if condition in (row.get("robustness") or {})
            }
            whole = spread([clean.get(seed, math.nan) for seed in disturbed])
            found = spread(list(disturbed.values()))
            loss = None
            if whole.mean is not None and found.mean is not None:
                loss = runs.sign * (whole.mean - found.mean)
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


def _number(value: float | None) -> float:
    """NaN for what JSON holds as null: a run diverged."""
    return math.nan if value is None else float(value)
