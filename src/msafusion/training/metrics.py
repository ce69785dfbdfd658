"""Metrics by their full names, of TorchMetrics: of classes, and of sentiment in [-3, 3]."""

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
        "pearson": ("Pearson", 1),
        "accuracy_7": ("Acc-7 %", 100),
        "accuracy_2_negative_positive": ("Acc-2 neg/pos %", 100),
        "f1_negative_positive": ("F1 neg/pos %", 100),
    },
}
"""Task -> metric -> its column's title and factor."""


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


def report(outputs: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """All metrics of a finished evaluation, as plain numbers: `of_classes`, or `of_values` where there are none."""
    return of_classes(outputs, labels, classes) if classes else of_values(outputs.flatten(), labels)


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


def of_values(values: Tensor, labels: Tensor) -> dict[str, Any]:
    """Metrics of sentiment, each under its full name because the literature mixes them.

    Args:
        values: (samples,) predicted.
        labels: (samples,) in [-3, 3].

    Returns:
        mae; pearson; accuracy_7 and accuracy_5 (rounded, after clipping to 3 and to 2); accuracy_2 and weighted f1 in
        both forms: negative against non-negative, and negative against positive with labels of zero left out;
        num_samples.
    """
    metrics: dict[str, Any] = {"mae": float(mean_absolute_error(values, labels))}
    metrics["pearson"] = float(pearson_corrcoef(values, labels)) if len(labels) > 1 else float("nan")
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
    metrics["num_samples"] = len(labels)
    return metrics
