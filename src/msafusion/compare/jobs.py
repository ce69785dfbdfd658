"""The runs of a comparison: each trains, tests once and leaves a file, in whatever process it is called."""

import contextlib
import json
import logging
import math
import shutil
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import torch
from rich.console import Console
from torch import Tensor

from msafusion import plugins
from msafusion.attach import FusedNetwork
from msafusion.checkpoints import read_model, save_model
from msafusion.compare.conditions import conditions_for
from msafusion.compare.config import ComparisonConfig, Method
from msafusion.compare.tables import SINGLE
from msafusion.data.folds import make_folds
from msafusion.data.samples import Sample, Splits, collate
from msafusion.failures import Failure, attempt
from msafusion.files.json_file import write_json
from msafusion.networks import NetworkPlan
from msafusion.training.metrics import MAIN, report
from msafusion.training.simple_models import fit_simple
from msafusion.training.stage import RunContext, run_stage
from msafusion.training.stage_options import StageOptions
from msafusion.training.task import DivergedError
from msafusion.training.testing import build, fit_plan, keep_inputs, predict_dataset

TEST_BATCH = 128
SCRATCH = "scratch"
"""Folder of what runs write while they train."""
MAX_HELD = 2**31
"""Bytes."""
_SPLITS: dict[str, dict[int | None, Splits]] = {}
"""The data set of this process, read once: its own division, and its folds."""


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        seed: of weights, order and dropout.
        method: the contender; None: the single networks, with which the others of this seed start.
        trial: number of a trial of tuning, which is validated and not tested; None: a run that counts.
        fold: which division of the data; None: their own.
        simple: the simple models of these streams (a key of `stream_sets`) instead of networks.
    """

    seed: int
    method: Method | None = None
    trial: int | None = None
    fold: int | None = None
    simple: str | None = None

    @property
    def name(self) -> str:
        """Of its files."""
        what = f"simple-{self.simple}" if self.simple else "unimodal" if self.method is None else self.method.name
        trial = "" if self.trial is None else f"-trial{self.trial}"
        return f"{what}-{self.seed}{fold_suffix(self.fold)}{trial}"

    def file(self, folder: Path) -> Path:
        """What it leaves: rows as JSON."""
        return folder / "runs" / f"{self.name}.json"

    def rows(self, folder: Path) -> list[dict[str, Any]] | None:
        """What it has left; None: it is not done, or its file is broken, so that it has to run again."""
        try:
            rows = json.loads(self.file(folder).read_text())
            whole = all(row["seed"] == self.seed and row["fusion"] and "valid" in row for row in rows)
            trained = self.method is not None or all(
                (_weights(folder, self, row["fusion"].removesuffix(SINGLE)) / "config.json").is_file()
                for row in rows
                if row["kind"] == "single"
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return rows if rows and whole and trained else None


class JobRunner:
    """Does jobs of one comparison; pickled to wherever they run."""

    def __init__(self, config: ComparisonConfig) -> None:
        self.config = config

    def __call__(self, job: Job) -> Failure | None:
        """Run a job; returns why it failed, with its name, or nothing.

        Raises:
            OSError: its file cannot be written.
        """
        with _quiet():
            rows = attempt(lambda: self._rows(job))
        if isinstance(rows, Failure):
            return replace(rows, line=f"{job.name}: {rows.line}")
        write_json(job.file(self.config.folder), rows)
        return None

    def _rows(self, job: Job) -> list[dict[str, Any]]:
        config = self.config
        plugins.use(config.imports)
        splits = self.splits(job.fold)
        if job.simple:
            return self._simple(job, job.simple, splits)
        scratch = config.folder / SCRATCH / f"{job.name}-{uuid.uuid4().hex[:8]}"
        context = RunContext(scratch, config.trainer, 0, job.seed, False, Console(quiet=True))
        try:
            if job.method is None:
                return self._alone(job, splits, context)
            return [self._fused(job, job.method, splits, context)]
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def splits(self, fold: int | None = None) -> Splits:
        """The data set, or a fold of it, read once in a process, and kept in memory where it fits."""
        if self.config.key not in _SPLITS:
            _SPLITS.clear()
            own = _held(self.config.data.splits())
            folds = make_folds(own, self.config.folds) if self.config.folds else []
            _SPLITS[self.config.key] = {None: own, **dict(enumerate(folds))}
        return _SPLITS[self.config.key][fold]

    def samples(self, fold: int | None = None) -> Sequence[Sample]:
        """Those on which finished networks are compared."""
        splits = self.splits(fold)
        return splits.test if self.config.on == "test" else splits.valid

    def network(self, plan: NetworkPlan, seed: int, splits: Splits) -> FusedNetwork:
        """With new weights; the networks are made before the fusion, so that a seed gives all methods the same."""
        lightning.seed_everything(seed, workers=True, verbose=False)
        return build(fit_plan(plan, splits), splits)

    def _alone(self, job: Job, splits: Splits, context: RunContext) -> list[dict[str, Any]]:
        plan = fit_plan(self.config.network.with_fusion("sum", {}), splits)
        net = self.network(plan, job.seed, splits)
        rows = []
        for stream in net.networks:
            single = plan.unimodal(net, stream, splits.num_outputs)
            row = {"fusion": f"{stream}{SINGLE}", "kind": "single"}
            row |= self._trained(single, splits, self.config.unimodal, context)
            weights = _weights(self.config.folder, job, stream)
            save_model(weights, single.networks[stream], {"stream": stream, "seed": job.seed})
            rows.append(self._tested(row, single, splits, job, robustness=False))
        return rows

    def _fused(self, job: Job, method: Method, splits: Splits, context: RunContext) -> dict[str, Any]:
        net = self.network(method.plan(self.config.network), job.seed, splits)
        if self.config.init == "unimodal":
            for stream, network in net.networks.items():
                network.load_state_dict(read_model(_weights(self.config.folder, job, stream))[1])
        row = {"fusion": method.name, "kind": "fusion", "options": dict(method.options)}
        row |= self._trained(net, splits, method.stage(self.config.multimodal), context)
        if job.trial is not None:
            return {**row, "seed": job.seed, "trial": job.trial}
        return self._tested(row, net, splits, job, robustness=self.config.robustness)

    def _simple(self, job: Job, streams: str, splits: Splits) -> list[dict[str, Any]]:
        samples, metric = self.samples(job.fold), MAIN[splits.task]
        found, left_out = fit_simple(splits, streams, samples, job.seed)
        rows = []
        for one in found:
            row = {"fusion": one.name, "kind": "simple", "options": dict(one.options), "valid": {metric: one.valid}}
            row |= {"seed": job.seed, "cost": {"train_seconds": one.seconds}, "robustness": {}}
            row["metrics"] = _metrics(one.outputs, one.labels, splits, probabilities=False)
            row["scores"] = _scores(one.outputs, one.labels, bool(splits.classes)).tolist()
            rows.append(row)
        return rows + [{"fusion": line, "kind": "left out", "seed": job.seed, "valid": {}} for line in left_out]

    def _trained(self, net: FusedNetwork, splits: Splits, stage: StageOptions, context: RunContext) -> dict[str, Any]:
        start = time.perf_counter()
        valid: dict[str, float | None] = {}
        try:
            valid = run_stage("run", net, splits, stage, replace(context, folder=context.folder / str(uuid.uuid4())))
        except DivergedError:
            if len(net.networks) == 1:
                raise  # nothing could start from it
            for parameter in net.parameters():  # its predictions are then undefined, and so are its metrics
                torch.nn.init.constant_(parameter, torch.nan)
        return {"valid": _numbers(valid), "cost": {"train_seconds": time.perf_counter() - start}}

    def _tested(
        self, row: dict[str, Any], net: FusedNetwork, splits: Splits, job: Job, *, robustness: bool
    ) -> dict[str, Any]:
        """The row with its metrics under all conditions, and the score of every test sample."""
        conditions = {"": keep_inputs}
        samples = self.samples(job.fold)
        if robustness:
            inputs = splits.preprocessing.inputs(collate([samples[0]])["inputs"])
            conditions |= conditions_for(inputs, job.seed)
        outputs, labels = predict_dataset(net, samples, splits.preprocessing, conditions, TEST_BATCH)
        metrics = {name: _metrics(output, labels, splits) for name, output in outputs.items()}
        row |= {"seed": job.seed, "metrics": metrics.pop(""), "robustness": metrics}
        if outputs[""].isfinite().all():
            row["scores"] = _scores(outputs[""], labels, bool(splits.classes)).tolist()
        return row


def fold_suffix(fold: int | None) -> str:
    """Of the names of files."""
    return "" if fold is None else f"-fold{fold}"


def _weights(folder: Path, job: Job, stream: str) -> Path:
    return folder / "unimodal" / f"{stream}-{job.seed}{fold_suffix(job.fold)}"


def _metrics(outputs: Tensor, labels: Tensor, splits: Splits, probabilities: bool = True) -> dict[str, float | None]:
    """All metrics; undefined where a network gives NaN or infinity, which would count as its first class."""
    finite = bool(outputs.isfinite().all())
    given = outputs if finite else torch.zeros_like(outputs)
    figures = _numbers(report(given, labels, splits.classes, splits.sentiment, probabilities=probabilities))
    return figures if finite else dict.fromkeys(figures)


def _held(splits: Splits) -> Splits:
    """With all samples in memory, unless they are too many: hundreds of runs read each of them in every epoch."""
    parts = {name: getattr(splits, name) for name in ("train", "valid", "test")}
    size = sum(values.nbytes for values in splits.train[0]["streams"].values())
    if size * sum(map(len, parts.values())) > MAX_HELD:
        return splits
    return replace(splits, **{name: list(samples) for name, samples in parts.items()})


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The plain metrics; None where one is not defined (JSON has no NaN)."""
    plain = {name: value for name, value in metrics.items() if value is None or isinstance(value, int | float)}
    return {name: None if value is None or not math.isfinite(value) else float(value) for name, value in plain.items()}


def _scores(outputs: Tensor, labels: Tensor, of_classes: bool) -> Tensor:
    """Of each test sample: 1 where the class is right, else 0; of values minus the absolute error."""
    if of_classes:
        return (outputs.argmax(dim=1) == labels).long()
    return -(outputs.flatten() - labels).abs()


@contextlib.contextmanager
def _quiet() -> Any:
    """Lightning says for every run that there is no GPU; here runs are counted in hundreds."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        yield
