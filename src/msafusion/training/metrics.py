"""Classification metrics by their full names, of TorchMetrics."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassF1Score


def running_metrics(num_classes: int) -> MetricCollection:
    """What is followed while training: accuracy (of samples) and macro F1 (mean over classes), both in [0, 1]."""
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro"),
            "macro_f1": MulticlassF1Score(num_classes, average="macro"),
        }
    )


def report(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """All metrics of a finished evaluation, as plain numbers.

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
