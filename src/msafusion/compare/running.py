"""A whole comparison: its runs in parallel, tuning, costs, and the result."""

import json
import math
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from msafusion.compare.config import ComparisonConfig, Method
from msafusion.compare.costs import costs_of
from msafusion.compare.jobs import SCRATCH, Job, JobRunner
from msafusion.compare.report import BATCH
from msafusion.compare.statistics import comparison, robustness_table
from msafusion.compare.tuning import draw_options
from msafusion.data.preparation.engines import run_work
from msafusion.data.preparation.progress import progress_on
from msafusion.data.samples import Splits, collate
from msafusion.failures import TraceLog
from msafusion.files.json_file import write_json
from msafusion.files.reading import read_json, reading
from msafusion.training.folder import MODEL, holds_anything, remove_written
from msafusion.training.metrics import MAIN, METRICS, higher_is_better
from msafusion.training.testing import build, fit_plan
from msafusion.version import __version__

RECIPE = "recipe.json"
FILES = (
    *(RECIPE, "results.json", "report.html", "report.md", "*.png", "*.log", "runs/*.json", f"{SCRATCH}/**"),
    *(f"unimodal/*/{name}" for name in MODEL),
)
"""What a comparison writes into its folder."""
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
    splits = runner.splits()
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
    singles = [Job(seed) for seed in seeds]
    run("single networks", singles)
    if tune:
        methods = _tuned(config, methods, seeds[0], tune, metric, run)
    jobs = [Job(seed, method) for seed in seeds for method in methods]
    run("fused networks", jobs)
    shutil.rmtree(config.folder / SCRATCH, ignore_errors=True)
    rows = _rows(config.folder, [*singles, *jobs])
    costs = _costs(runner, splits, methods)
    for row in rows:
        row["cost"] = {**row["cost"], **costs[row["fusion"]]}
    return _result(config, splits, rows, seeds, tune)


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
) -> list[Method]:
    """The methods with the options of their best trial on the validation samples; the first trial changes nothing."""
    tried = {
        method.name: [
            Method(method.name, method.fusion, draw_options(method, trial) if trial else method.options)
            for trial in range(trials)
        ]
        for method in methods
    }
    jobs = {name: [Job(seed, one, trial) for trial, one in enumerate(them)] for name, them in tried.items()}
    run("tuning", [job for them in jobs.values() for job in them])
    chosen = []
    for name, them in jobs.items():
        values = [row["valid"].get(metric) for row in _rows(config.folder, them)]
        worst = -math.inf if higher_is_better(metric) else math.inf
        known = [worst if value is None else value for value in values]  # a trial that diverged has none
        if all(value is None for value in values):
            raise ValueError(f"all {trials} trials of '{name}' diverged; leave it out of --fusions.")
        chosen.append(tried[name][int(np.argmax(known) if higher_is_better(metric) else np.argmin(known))])
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
        found += rows
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
    config: ComparisonConfig, splits: Splits, rows: list[dict[str, Any]], seeds: Sequence[int], tune: int
) -> dict[str, Any]:
    metric = METRICS[MAIN[splits.task]]
    kept = [(row["fusion"], row["seed"], row.pop("scores", None)) for row in rows]
    scores = {(name, seed): np.asarray(values, dtype=float) for name, seed, values in kept if values is not None}
    return {
        "data": {
            "name": config.name,
            "streams": splits.channels,
            "task": splits.task,
            "classes": len(splits.classes),
            "num_samples": {part: len(getattr(splits, part)) for part in ("train", "valid", "test")},
            "chosen_on_test": splits.chosen_on_test,
        },
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "on": config.on,
        "recipe": {"unimodal": config.unimodal.epochs, "multimodal": config.multimodal.epochs, "init": config.init},
        "batch": min(BATCH, len(splits.test)),
        "made_with": {"msafusion": __version__, "torch": torch.__version__, "machine": platform.machine()},
        "seeds": list(seeds),
        "tune": tune,
        "rows": rows,
        "table": comparison(rows, scores, metric.name, metric.higher_is_better),
        "robustness": robustness_table(rows, metric.name, metric.higher_is_better),
    }


def as_json(result: Mapping[str, Any]) -> str:
    """The result as JSON with one row a line, so that versions of it can be compared."""
    rows = ",\n".join("    " + json.dumps(row, allow_nan=False) for row in result["rows"])
    around = json.dumps({**result, "rows": None}, indent=2, allow_nan=False)
    return around.replace('\n  "rows": null', f'\n  "rows": [\n{rows}\n  ]', 1) + "\n"


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Look whether a comparison can start, or go on, in a folder; nothing is changed.

    Raises:
        ValueError: the folder holds something else.
    """
    if holds_anything(folder) and not (folder / RECIPE).is_file():
        what = "is not overwritten: it holds" if overwrite else "holds"
        raise ValueError(f"'{folder}' {what} something else than a comparison; choose another --out.")


def prepare_folder(folder: Path, recipe: Mapping[str, Any], *, overwrite: bool) -> None:
    """Begin a comparison in a folder, or go on in one whose runs share the same recipe.

    What killed runs have left is removed: nobody else is at work in a locked folder.

    Raises:
        ValueError: see `check_folder` and `remove_written`; or the folder holds runs of another recipe.
    """
    check_folder(folder, overwrite=overwrite)
    try:
        if overwrite:
            remove_written(folder, FILES)
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)
        if (folder / RECIPE).is_file():
            _check_recipe(folder, recipe)
        else:
            write_json(folder / RECIPE, dict(recipe))
    except OSError as error:
        raise ValueError(f"cannot write into '{folder}' ({error.strerror}); choose another --out.") from None


def _check_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    file = folder / RECIPE
    with reading(file, "the recipe of a comparison", "choose another --out, or --overwrite it", ValueError):
        before = dict(read_json(file))
        changed = [name for name in recipe if before.get(name) != json.loads(json.dumps(recipe[name]))]
    if changed:
        raise ValueError(
            f"the comparison in '{folder}' was begun with another {changed[0]}; choose another --out, give the "
            "same options to go on, or --overwrite it."
        )
