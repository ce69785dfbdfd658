"""The table of metrics: what is in it is reported, shown and can be monitored, without another line elsewhere."""

import math

import pytest
import torch

from msafusion.compare.report import metric_display
from msafusion.training.metrics import MAIN, METRICS, Metric, higher_is_better, monitored, report, running_metrics
from msafusion.training.recipe import table
from msafusion.training.stage_options import StageOptions

LOGITS, LABELS = (
    torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 0.5], [0.0, 0.1, 0.2]]),
    torch.tensor([0, 1, 2, 2]),
)


def test_reports_have_the_metrics_of_the_table_in_its_order():
    classes = report(LOGITS, LABELS, ["a", "b", "c"])
    shown = ["accuracy", "macro_f1", "unweighted_average_recall", "expected_calibration_error", "log_loss"]
    assert list(classes)[:6] == [*shown, "num_samples"]
    assert classes["accuracy"] == 0.75
    assert classes["unweighted_average_recall"] == pytest.approx((1 + 1 + 0.5) / 3)
    values = report(torch.tensor([[1.0], [-2.0], [0.4]]), torch.tensor([1.0, -1.0, 0.0]), [], sentiment=True)
    assert list(values) == [name for name, metric in METRICS.items() if metric.of != "classification"] + ["num_samples"]
    assert values["mae"] == pytest.approx((0 + 1 + 0.4) / 3)


@pytest.mark.parametrize("num_classes", [3, 0])
def test_what_is_followed_while_training_agrees_with_the_report(num_classes):
    outputs, labels = (
        (LOGITS, LABELS) if num_classes else (torch.tensor([0.5, 2.0, 1.0]), torch.tensor([0.0, 3.0, 1.0]))
    )
    followed = running_metrics(num_classes)(outputs, labels)
    task = "classification" if num_classes else "regression"
    assert [*followed, "loss"] == sorted(monitored(task), key=[*followed, "loss"].index)
    assert MAIN[task] in followed
    reported = report(outputs, labels, ["a", "b", "c"][:num_classes])
    for name, value in followed.items():
        assert reported[name] == pytest.approx(float(value))


def test_a_new_metric_is_one_entry(monkeypatch):
    median = Metric("median_error", "median", "", False, "regression", None, lambda o, y: float((o - y).abs().median()))
    monkeypatch.setitem(METRICS, "median_error", median)
    row = report(torch.tensor([[1.0], [5.0], [2.5]]), torch.tensor([1.0, 2.0, 2.0]), [])
    assert row["median_error"] == 0.5
    assert "median" in [column.header for column in table({"fused": row}, "test").columns]
    assert metric_display("median_error") == ("median", 1.0, 3)


def test_units_and_directions():
    assert metric_display("accuracy") == ("accuracy %", 100.0, 1)
    assert [higher_is_better(name) for name in ("accuracy", "mae", "loss", "pearson")] == [True, False, False, True]
    with pytest.raises(ValueError, match=r"monitor is mae, .*accuracy, macro_f1, loss"):
        StageOptions(monitor="mae").metric(3)
    assert math.isclose(METRICS["accuracy"].factor, 100)
