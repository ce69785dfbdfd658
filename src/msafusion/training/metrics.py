"""Metrics by their full names, of TorchMetrics: of classes, of values, and of sentiment in [-3, 3].

A metric that is not defined for the samples (a correlation of one, say) is None.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MetricCollection, PearsonCorrCoef
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassF1Score
from torchmetrics.functional import mean_absolute_error, pearson_corrcoef
from torchmetrics.functional.classification import binary_accuracy, multiclass_f1_score

Task = Literal["classification", "regression"]
SHOWN: dict[Task, dict[str, tuple[str, float]]] = {
    "classification": {"accuracy": ("accuracy %", 100), "macro_f1": ("macro F1 %", 100)},
    "regression": {
        "mae": ("MAE", 1),
        "rmse": ("RMSE", 1),
        "r2": ("R2", 1),
        "pearson": ("Pearson", 1),
        "accuracy_7": ("Acc-7 %", 100),
        "accuracy_2_negative_positive": ("Acc-2 neg/pos %", 100),
        "f1_negative_positive": ("F1 neg/pos %", 100),
    },
}
"""Task -> metric -> its column's title and factor; accuracies in regression are for sentiment only."""


def running_metrics(num_classes: int) -> MetricCollection:
    """What is followed while training.

    Args:
        num_classes: accuracy (of samples) and macro F1 (mean over classes), both in [0, 1]; 0: mean absolute error and
            Pearson's correlation of values.
    """
    if num_classes == 0:
        return MetricCollection({"mae": MeanAbsoluteError(), "pearson": PearsonCorrCoef()})
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro"),
            "macro_f1": MulticlassF1Score(num_classes, average="macro"),
        }
    )


def report(outputs: Tensor, labels: Tensor, classes: Sequence[str], sentiment: bool = False) -> dict[str, Any]:
    """All metrics of a finished evaluation, as plain numbers: `of_classes`, or `of_values` where there are none.

    Args:
        outputs: (samples, classes) logits, or (samples, 1) values.
        labels: (samples,).
        classes: names of the classes; none: labels are regression targets.
        sentiment: values are sentiment in [-3, 3], which has accuracies of its own.
    """
    if classes:
        return of_classes(outputs, labels, classes)
    values = outputs.flatten()
    num_samples = {"num_samples": len(labels)}
    return of_values(values, labels) | (of_sentiment(values, labels) if sentiment else {}) | num_samples


def of_classes(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """Metrics of a classification.

    Args:
        logits: (samples, classes).
        labels: (samples,) int64.
        classes: names of the classes.

    Returns:
        accuracy, macro_f1, unweighted_average_recall, num_samples, per_class ({name: recall, f1, num_samples}) and
        confusion_matrix (rows: true class).
    """
    num = len(classes)
    metrics: dict[str, Any] = {name: float(value) for name, value in running_metrics(num)(logits, labels).items()}
    recalls = MulticlassAccuracy(num, average="none")(logits, labels)
    f1s = MulticlassF1Score(num, average="none")(logits, labels)
    counts = torch.bincount(labels, minlength=num)
    metrics["unweighted_average_recall"] = float(recalls[counts > 0].mean())
    metrics["num_samples"] = len(labels)
    metrics["per_class"] = {
        name: {"recall": float(recall), "f1": float(f1), "num_samples": int(count)}
        for name, recall, f1, count in zip(classes, recalls, f1s, counts, strict=True)
    }
    metrics["confusion_matrix"] = MulticlassConfusionMatrix(num)(logits, labels).tolist()
    return metrics


def of_values(values: Tensor, labels: Tensor) -> dict[str, float | None]:
    """Metrics of a regression.

    Args:
        values: (samples,) predicted.
        labels: (samples,).

    Returns:
        mae and rmse, in the labels' unit; r2, the part of the labels' variance that is explained (None: they do not
        differ); pearson, the correlation (None: the values or the labels do not differ).
    """
    given, true = values.double(), labels.double()
    errors, spread = given - true, true - true.mean()
    metrics: dict[str, float | None] = {"mae": float(mean_absolute_error(given, true))}
    metrics["rmse"] = float(errors.square().mean().sqrt())
    differ = len(true) > 1 and bool((true != true[0]).any())
    metrics["r2"] = float(1 - errors.square().sum() / spread.square().sum()) if differ else None
    differ &= bool((given != given[0]).any())
    metrics["pearson"] = float(pearson_corrcoef(given, true)) if differ else None
    return {name: None if value is None or not math.isfinite(value) else value for name, value in metrics.items()}


def of_sentiment(values: Tensor, labels: Tensor) -> dict[str, float]:
    """Metrics of sentiment, each under its full name because the literature mixes them.

    Args:
        values: (samples,) predicted.
        labels: (samples,) in [-3, 3].

    Returns:
        accuracy_7 and accuracy_5 (rounded, after clipping to 3 and to 2); accuracy_2 and weighted f1 in both forms:
        negative against non-negative, and negative against positive with labels of zero left out (absent where all
        labels are zero).
    """
    metrics: dict[str, float] = {}
    for classes in (7, 5):
        rounded, true = (v.clamp(-(classes // 2), classes // 2).round() for v in (values, labels))
        metrics[f"accuracy_{classes}"] = float((rounded == true).float().mean())
    nonzero = labels != 0
    forms = ("negative_non_negative", nonzero | True, torch.ge), ("negative_positive", nonzero, torch.gt)
    for name, chosen, above in forms:
        predicted, true = above(values[chosen], 0).int(), above(labels[chosen], 0).int()
        if len(true):
            metrics[f"accuracy_2_{name}"] = float(binary_accuracy(predicted, true))
            metrics[f"f1_{name}"] = float(multiclass_f1_score(predicted, true, num_classes=2, average="weighted"))
    return metrics
