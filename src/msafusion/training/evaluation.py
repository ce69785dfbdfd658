"""What a trained run is worth on test samples: its models, their calibration, and the simple model beside them."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from msafusion import plugins
from msafusion.attach import FusedNetwork
from msafusion.calibration import fit_temperature, read_temperature
from msafusion.checkpoints import read_model
from msafusion.data.preprocessing import preprocessing_from
from msafusion.data.samples import Splits
from msafusion.files.saved_model import check_fit
from msafusion.networks import plan_from
from msafusion.training.metrics import MAIN, METRICS, higher_is_better, report
from msafusion.training.same_samples import check_fits_model
from msafusion.training.simple_models import fit_simple, stream_sets
from msafusion.training.testing import build, predict_dataset

Metrics = dict[str, Any]


def choose_temperature(net: FusedNetwork, splits: Splits) -> float:
    """The temperature of the fused prediction, chosen on the validation samples; 1 where these are the test's."""
    if not splits.classes or splits.chosen_on_test:
        return 1.0
    outputs, labels = predict_dataset(net, splits.valid, splits.preprocessing)
    net.cpu()
    return fit_temperature(outputs[""], labels)


def best_simple_model(splits: Splits, seed: int, console: Console) -> dict[str, Metrics]:
    """A row for the simple model that is best on validation data, of all streams; none where all would take long."""
    streams = list(stream_sets(splits))[-1]
    console.print(f"fitting simple models to summaries of {streams} (--simple_models false leaves them out)")
    found, left_out = fit_simple(splits, streams, splits.test, seed)
    for line in left_out:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if not found:
        return {}
    metric = MAIN[splits.task]
    best = max(found, key=lambda one: one.valid if higher_is_better(metric) else -one.valid)
    tested = report(best.outputs, best.labels, splits.classes, splits.sentiment, probabilities=False)
    row = {"model": best.name, "options": dict(best.options), "valid": {metric: best.valid}, "test": tested}
    return {"simple model": row}


def evaluate(folder: Path, splits: Splits, batch_size: int = 32) -> dict[str, Metrics]:
    """Metrics on the test samples of every model that a run has saved: each stream alone, and fused.

    Raises:
        ModelError: a model is missing, broken or does not fit the data.
        ValueError: the data have other classes or streams.
    """
    config, state = read_model(folder / "model")
    plugins.check_allowed(config.get("imports"), f"the model in '{folder / 'model'}'")
    plan, preprocessing = plan_from(config["network"]), preprocessing_from(config["preprocessing"])
    check_fits_model(folder, splits, config["classes"], state)
    net = build(plan, splits)
    others = copy.deepcopy(net)
    _load(net, state, folder)
    rows: dict[str, FusedNetwork] = {}
    for stream in others.networks:
        single = plan.unimodal(others, stream, splits.num_outputs)
        _load(single.networks[stream], read_model(folder / "unimodal" / stream)[1], folder)
        rows[f"{stream} alone"] = single
    rows["fused"] = net
    result = {}
    for name, row in rows.items():
        outputs, labels = predict_dataset(row, splits.test, preprocessing, batch_size=batch_size)
        temperature = read_temperature(config) if name == "fused" else 1.0
        result[name] = report(outputs[""] / temperature, labels, config["classes"], splits.sentiment)
        if temperature != 1:
            raw = report(outputs[""], labels, config["classes"])
            before = {metric: raw[metric] for metric in raw if metric in METRICS and METRICS[metric].of_probabilities}
            result[name]["calibration"] = {"temperature": temperature, "before": before}
    return result


def _load(network: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    check_fit(f"the model in '{folder}', built for these data,", state, shapes)
    network.load_state_dict(state)


def table(rows: Mapping[str, Metrics], title: str) -> Table:
    """The metrics of every row that people look at first."""
    result = Table(title=title)
    known = {name for metrics in rows.values() for name in metrics}
    shown = [metric for metric in METRICS.values() if metric.name in known and metric.title]
    for column in ("model", *(metric.column for metric in shown)):
        result.add_column(column, justify="left" if column == "model" else "right")
    for row, metrics in rows.items():
        values = ((metrics.get(metric.name), metric) for metric in shown)
        cells = ("" if value is None else f"{metric.factor * value:.{metric.decimals}f}" for value, metric in values)
        result.add_row(row, *cells)
    return result


def calibration_line(metrics: Metrics) -> str:
    """What calibration has changed, for people; empty where nothing was calibrated."""
    if "calibration" not in metrics:
        return ""
    name = "expected_calibration_error"
    before, after = (100 * of[name] for of in (metrics["calibration"]["before"], metrics))
    return (
        f"probabilities of the fused prediction: calibrated on validation data by the temperature "
        f"{metrics['calibration']['temperature']:.2f}; expected calibration error on test data {before:.1f} -> "
        f"{after:.1f} %"
    )
