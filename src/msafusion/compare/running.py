"""A whole comparison: its runs in parallel, tuning, costs, and the result."""

import math
import platform
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from msafusion.compare.config import ComparisonConfig, Method
from msafusion.compare.costs import costs_of
from msafusion.compare.jobs import SCRATCH, Job, JobRunner
from msafusion.compare.pooling import runs_of
from msafusion.compare.report import BATCH
from msafusion.compare.tables import BASELINE, comparison, robustness_table
from msafusion.compare.tuning import draw_options
from msafusion.compare.verdict import verdict
from msafusion.data.preparation.engines import run_work
from msafusion.data.preparation.progress import progress_on
from msafusion.data.samples import Splits, collate
from msafusion.failures import TraceLog
from msafusion.training.metrics import MAIN, METRICS, higher_is_better
from msafusion.training.simple_models import stream_sets
from msafusion.training.testing import build, fit_plan
from msafusion.version import __version__

Run = Callable[[str, Sequence[Job]], None]


def compare(
    config: ComparisonConfig,
    methods: Sequence[Method],
    seeds: Sequence[int],
    *,
    tune: int = 0,
    workers: int = 1,
    engine: str = "joblib",
    ray_address: str | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Train every method with every seed from the same single networks, test once, and compare.

    Runs that are done already are not repeated. Every run is a file under `runs/` of the config's folder.

    Args:
        config: what all runs share.
        methods: the contenders.
        seeds: of weights, order and dropout, the same for all.
        tune: random trials for every method, validated with the first seed; the best one's options are used.
        workers: processes.
        engine: joblib or ray.
        ray_address: of a running Ray cluster; every machine needs the folder and the data under the same path.
        console: where progress is shown.

    Returns:
        The result, as `results.json` holds it.

    Raises:
        ValueError: a method does not suit the data; runs failed.
    """
    runner = JobRunner(config)
    folds = config.fold_numbers
    splits = runner.splits(folds[0])
    metric = config.multimodal.metric(len(splits.classes))

    def run(what: str, jobs: Sequence[Job]) -> None:
        left = [job for job in jobs if job.rows(config.folder) is None]
        problems, log = [], TraceLog(config.folder / "errors.log")
        with progress_on(console, what) as tell:
            results = run_work(runner, left, workers=workers, engine=engine, ray_address=ray_address)
            for done, failure in enumerate(results, start=1):
                problems += [] if failure is None else [log.line(failure)]
                tell(done, len(left), len(problems))
        if problems:
            raise ValueError(
                f"{len(problems)} of {len(left)} runs failed, the first: {problems[0]} Run the same command again to "
                "resume."
            )

    (config.folder / "runs").mkdir(parents=True, exist_ok=True)
    simple = [Job(seeds[0], fold=fold, simple=of) for fold in folds for of in stream_sets(splits)]
    if config.simple_models:
        run("simple models", simple)
    singles = [Job(seed, fold=fold) for seed in seeds for fold in folds]
    run("single networks", singles)
    chosen = dict.fromkeys(folds, methods)
    if tune:
        chosen = _tuned(config, methods, seeds[0], tune, metric, run)
    jobs = [Job(seed, method, fold=fold) for seed in seeds for fold in folds for method in chosen[fold]]
    run("fused networks", jobs)
    shutil.rmtree(config.folder / SCRATCH, ignore_errors=True)
    rows = _rows(config.folder, [*singles, *jobs, *(simple if config.simple_models else [])])
    costs = _costs(runner, splits, methods)
    for row in rows:
        row["cost"] = {**row.get("cost", {}), **costs.get(row["fusion"], {})}
    return _result(config, runner, rows, methods, seeds, tune)


def suits(config: ComparisonConfig, splits: Splits, method: Method) -> str:
    """Why a method cannot be built for a data set; empty where it can."""
    try:
        build(fit_plan(method.plan(config.network), splits), splits)
        method.stage(config.multimodal)
    except (ValueError, TypeError) as error:
        return " ".join(str(error).split())
    return ""


def _tuned(
    config: ComparisonConfig, methods: Sequence[Method], seed: int, trials: int, metric: str, run: Run
) -> dict[int | None, list[Method]]:
    """Fold -> the methods with the options of their best trial on its validation samples; the first changes nothing."""
    tried = {
        method.name: [
            Method(method.name, method.fusion, draw_options(method, trial) if trial else method.options)
            for trial in range(trials)
        ]
        for method in methods
    }
    jobs = {
        (fold, name): [Job(seed, one, trial, fold) for trial, one in enumerate(them)]
        for fold in config.fold_numbers
        for name, them in tried.items()
    }
    run("tuning", [job for them in jobs.values() for job in them])
    chosen: dict[int | None, list[Method]] = {fold: [] for fold in config.fold_numbers}
    for (fold, name), them in jobs.items():
        values = [row["valid"].get(metric) for row in _rows(config.folder, them)]
        worst = -math.inf if higher_is_better(metric) else math.inf
        known = [worst if value is None else value for value in values]  # a trial that diverged has none
        if all(value is None for value in values):
            raise ValueError(f"all {trials} trials of '{name}' diverged; leave it out of --fusions.")
        chosen[fold].append(tried[name][int(np.argmax(known) if higher_is_better(metric) else np.argmin(known))])
    return chosen


def _rows(folder: Path, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """What finished jobs have left, in their order.

    Raises:
        ValueError: a run's file is missing.
    """
    found = []
    for job in jobs:
        rows = job.rows(folder)
        if rows is None:
            raise ValueError(f"the run '{job.file(folder)}' is gone; run the same command again to repeat it.")
        found += [{**row, "fold": job.fold} for row in rows]
    return found


def _costs(runner: JobRunner, splits: Splits, methods: Sequence[Method]) -> dict[str, dict[str, float]]:
    """Of every row of the table, for one batch of test samples, measured in this process."""
    batch = collate([splits.test[index] for index in range(min(BATCH, len(splits.test)))])
    inputs = splits.preprocessing.inputs(batch["inputs"])
    networks = {method.name: runner.network(method.plan(runner.config.network), 0, splits) for method in methods}
    plan = fit_plan(runner.config.network.with_fusion("sum", {}), splits)
    alone = runner.network(plan, 0, splits)
    singles = {f"{stream} alone": plan.unimodal(alone, stream, splits.num_outputs) for stream in alone.networks}
    return costs_of({**singles, **networks}, inputs, batch["lengths"])


def _result(
    config: ComparisonConfig,
    runner: JobRunner,
    rows: list[dict[str, Any]],
    methods: Sequence[Method],
    seeds: Sequence[int],
    tune: int,
) -> dict[str, Any]:
    splits = runner.splits(config.fold_numbers[0])
    runs = runs_of(runner, [row for row in rows if row["kind"] != "left out"], METRICS[MAIN[splits.task]])
    baseline = next((method.name for method in methods if method.fusion == BASELINE), BASELINE)
    units = len(set(runs.units.tolist()))
    return {
        "data": {
            "name": config.name,
            "streams": splits.channels,
            "task": splits.task,
            "classes": len(splits.classes),
            "num_samples": {part: len(getattr(splits, part)) for part in ("train", "valid", "test")},
            "num_tested": len(runs.units),
            "num_groups": units if units < len(runs.units) else None,
            "chosen_on_test": splits.chosen_on_test,
        },
        "metric": runs.metric,
        "higher_is_better": runs.higher_is_better,
        "on": config.on,
        "folds": config.folds,
        "recipe": {
            **{
                name: getattr(config, name).for_samples(len(splits.train)).epochs for name in ("unimodal", "multimodal")
            },
            "init": config.init,
        },
        "batch": min(BATCH, len(splits.test)),
        "made_with": {"msafusion": __version__, "torch": torch.__version__, "machine": platform.machine()},
        "seeds": list(seeds),
        "tune": tune,
        "left_out": sorted({row["fusion"] for row in rows if row["kind"] == "left out"}),
        "verdict": verdict(runs),
        "rows": list(runs.rows),
        "table": comparison(runs, baseline),
        "robustness": robustness_table(runs),
    }
