"""The runs of all folds as one: every sample is tested once by each method and seed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msafusion.compare.jobs import JobRunner
from msafusion.compare.tables import Row, Runs
from msafusion.data.samples import labels_and_groups
from msafusion.training.metrics import Metric


def pool(rows: Sequence[Row], sizes: Mapping[int | None, int]) -> list[dict[str, Any]]:
    """One row for each (method, seed), in their order: means over its folds, weighted by their samples.

    Args:
        rows: one for each (method, seed, fold). A method that is not in every fold is left out.
        sizes: fold -> samples that are tested in it.
    """
    found: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        found.setdefault((row["fusion"], row["seed"]), []).append(row)
    return [_pooled(some, [sizes[row["fold"]] for row in some]) for some in found.values() if len(some) == len(sizes)]


def _pooled(rows: Sequence[Row], weights: Sequence[int]) -> dict[str, Any]:
    first = rows[0]
    result = {name: value for name, value in first.items() if name not in ("fold", "scores")}
    if all("scores" in row for row in rows):
        result["scores"] = [score for row in rows for score in row["scores"]]
    if len(rows) == 1:
        return result
    for part, of_rows in (("valid", [1] * len(rows)), ("metrics", weights), ("cost", [1] * len(rows))):
        result[part] = _mean([row[part] for row in rows], of_rows)
    conditions = first["robustness"]
    result["robustness"] = {name: _mean([row["robustness"][name] for row in rows], weights) for name in conditions}
    result["num_folds"] = len(rows)
    result["folds"] = [{name: row[name] for name in ("valid", "metrics", "options") if name in row} for row in rows]
    return result


def _mean(parts: Sequence[Mapping[str, float | None]], weights: Sequence[int]) -> dict[str, float | None]:
    """Of each number; None where one is undefined."""
    result: dict[str, float | None] = {}
    for name in parts[0]:
        values = [part.get(name) for part in parts]
        known = [value for value in values if value is not None and math.isfinite(value)]
        if name == "num_samples":
            result[name] = float(sum(known))
        else:
            result[name] = float(np.average(known, weights=weights)) if len(known) == len(values) else None
    return result


def runs_of(runner: JobRunner, rows: Sequence[Row], metric: Metric) -> Runs:
    """All that is compared.

    Args:
        runner: of the comparison.
        rows: of all jobs, with their folds.
        metric: that methods are compared by.
    """
    tested = {fold: labels_and_groups(runner.samples(fold)) for fold in runner.config.fold_numbers}
    pooled = pool(rows, {fold: len(samples) for fold, samples in tested.items()})
    kept = [(row["fusion"], row["seed"], row.pop("scores", None)) for row in pooled]
    scores = {(name, seed): np.asarray(values, dtype=float) for name, seed, values in kept if values is not None}
    groups = np.array([group for samples in tested.values() for _, group in samples])
    folds = np.repeat(np.arange(len(tested)), [len(samples) for samples in tested.values()])
    return Runs(pooled, scores, groups, metric.name, metric.higher_is_better, folds if runner.config.folds else None)
