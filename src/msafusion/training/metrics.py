"""Every metric: its name, how it is shown, and how it is computed. Add one by an entry in `METRICS`.

A metric that is not defined for the samples (the correlation of one, say) is None.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torchmetrics
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanAbsoluteError, MetricCollection, PearsonCorrCoef
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassF1Score
from torchmetrics.functional import pearson_corrcoef
from torchmetrics.functional.classification import (
    binary_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
)

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Metric:
    """One number of an evaluation.

    Attributes:
        name: in `metrics.json`, and as `monitor`.
        title: of its column; empty: it is in the files only.
        unit: "%" for a part of one, shown times 100; empty: shown as it is.
        higher_is_better: or lower.
        of: the kind of labels that it applies to; sentiment: regression targets in [-3, 3].
        running: number of classes -> a metric of TorchMetrics, which can be followed while training, and monitored.
        of_probabilities: it judges probabilities, not only which class is predicted.
        compute: (outputs, labels) -> value, where `outputs` are (samples, classes) logits or (samples,) predictions;
            None: as `running` has it.
    """

    name: str
    title: str
    unit: Literal["%", ""]
    higher_is_better: bool
    of: Literal["classification", "regression", "sentiment"]
    running: Callable[[int], torchmetrics.Metric] | None = None
    compute: Callable[[Tensor, Tensor], float | None] | None = None
    of_probabilities: bool = False

    def value(self, outputs: Tensor, labels: Tensor) -> float | None:
        """Of a finished evaluation; None where it is not defined."""
        if self.compute is not None:
            found = self.compute(outputs, labels)
        else:
            assert self.running is not None
            found = float(self.running(outputs.shape[1] if outputs.dim() > 1 else 0)(outputs, labels))
        return found if found is not None and math.isfinite(found) else None

    @property
    def column(self) -> str:
        """Title and unit, as tables and plots have them."""
        return f"{self.title or self.name.replace('_', ' ')} {self.unit}".rstrip()

    @property
    def factor(self) -> float:
        """What values are multiplied by where they are shown."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def decimals(self) -> int:
        """Digits after the decimal point where values are shown."""
        return 1 if self.unit == "%" else 3


def _calibration_error(logits: Tensor, labels: Tensor) -> float:
    """Over 15 bins of the confidence."""
    probabilities = torch.softmax(logits.double(), dim=1)
    return float(multiclass_calibration_error(probabilities, labels, logits.shape[1], n_bins=15, norm="l1"))


def _recall(logits: Tensor, labels: Tensor) -> float:
    """Mean recall of the classes that occur."""
    recalls = MulticlassAccuracy(logits.shape[1], average="none")(logits, labels)
    return float(recalls[torch.bincount(labels, minlength=logits.shape[1]) > 0].mean())


def _log_loss(logits: Tensor, labels: Tensor) -> float:
    return float(functional.cross_entropy(logits.double(), labels))


def _differ(values: Tensor) -> bool:
    return len(values) > 1 and bool((values != values[0]).any())


def _r2(values: Tensor, labels: Tensor) -> float | None:
    """The part of the labels' variance that is explained."""
    error, spread = values - labels, labels - labels.mean()
    return float(1 - error.square().sum() / spread.square().sum()) if _differ(labels) else None


def _pearson(values: Tensor, labels: Tensor) -> float | None:
    return float(pearson_corrcoef(values, labels)) if _differ(labels) and _differ(values) else None


def _accuracy_of(classes: int) -> Callable[[Tensor, Tensor], float]:
    """Accuracy of sentiment rounded to `classes` classes, after clipping."""

    def accuracy(values: Tensor, labels: Tensor) -> float:
        rounded, true = (v.clamp(-(classes // 2), classes // 2).round() for v in (values, labels))
        return float((rounded == true).float().mean())

    return accuracy


def _of_signs(score: Callable[[Tensor, Tensor], Tensor], zeros: bool) -> Callable[[Tensor, Tensor], float | None]:
    """A score of negative against non-negative sentiment, or, without labels of zero, against positive."""

    def of_signs(values: Tensor, labels: Tensor) -> float | None:
        chosen, above = (torch.ones_like(labels, dtype=torch.bool), torch.ge) if zeros else (labels != 0, torch.gt)
        predicted, true = above(values[chosen], 0).int(), above(labels[chosen], 0).int()
        return float(score(predicted, true)) if len(true) else None

    return of_signs


def _weighted_f1(predicted: Tensor, true: Tensor) -> Tensor:
    return multiclass_f1_score(predicted, true, num_classes=2, average="weighted")


# the metrics of sentiment have full names, because the literature mixes their forms
_ALL = (
    Metric("accuracy", "accuracy", "%", True, "classification", lambda n: MulticlassAccuracy(n, average="micro")),
    Metric("macro_f1", "macro F1", "%", True, "classification", lambda n: MulticlassF1Score(n, average="macro")),
    Metric("unweighted_average_recall", "", "%", True, "classification", compute=_recall),
    Metric(
        *("expected_calibration_error", "", "%", False, "classification"),
        compute=_calibration_error,
        of_probabilities=True,
    ),
    Metric("log_loss", "", "", False, "classification", compute=_log_loss, of_probabilities=True),
    Metric("mae", "MAE", "", False, "regression", lambda _: MeanAbsoluteError()),
    Metric("rmse", "RMSE", "", False, "regression", compute=lambda o, y: float((o - y).square().mean().sqrt())),
    Metric("r2", "R2", "", True, "regression", compute=_r2),
    Metric("pearson", "Pearson", "", True, "regression", lambda _: PearsonCorrCoef(), _pearson),
    Metric("accuracy_7", "Acc-7", "%", True, "sentiment", compute=_accuracy_of(7)),
    Metric("accuracy_5", "", "%", True, "sentiment", compute=_accuracy_of(5)),
    Metric("accuracy_2_negative_non_negative", "", "%", True, "sentiment", compute=_of_signs(binary_accuracy, True)),
    Metric("f1_negative_non_negative", "", "%", True, "sentiment", compute=_of_signs(_weighted_f1, True)),
    Metric(
        "accuracy_2_negative_positive", "Acc-2 neg/pos", "%", True, "sentiment", None, _of_signs(binary_accuracy, False)
    ),
    Metric("f1_negative_positive", "F1 neg/pos", "%", True, "sentiment", compute=_of_signs(_weighted_f1, False)),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Name -> metric, in the order of the columns."""
MAIN: dict[Task, str] = {"classification": "accuracy", "regression": "mae"}
"""Task -> the metric that chooses the epoch and that methods are compared by, unless told otherwise."""


def monitored(task: Task) -> list[str]:
    """The names that `monitor` takes for a task: metrics that are followed while training, and the loss."""
    return [name for name, metric in METRICS.items() if metric.of == task and metric.running] + ["loss"]


def higher_is_better(name: str) -> bool:
    """Whether higher is better for a monitored value; for the loss it is not."""
    return name in METRICS and METRICS[name].higher_is_better


def running_metrics(num_classes: int) -> MetricCollection:
    """The metrics that are followed while training, for `num_classes` classes; 0: for regression."""
    task = "classification" if num_classes else "regression"
    known = [metric for metric in METRICS.values() if metric.of == task]
    return MetricCollection({metric.name: metric.running(num_classes) for metric in known if metric.running})


def report(
    outputs: Tensor, labels: Tensor, classes: Sequence[str], sentiment: bool = False, *, probabilities: bool = True
) -> dict[str, Any]:
    """All metrics of a finished evaluation, as plain numbers.

    Args:
        outputs: (samples, classes) logits, or (samples, 1) predicted regression targets.
        labels: (samples,).
        classes: names of the classes; none: labels are regression targets.
        sentiment: the labels are sentiment in [-3, 3], which has metrics of its own.
        probabilities: softmax of the outputs gives probabilities; otherwise only the predicted classes count.

    Returns:
        The metrics of `METRICS` for these labels, num_samples, and of classes per_class ({name: recall, f1,
        num_samples}) and confusion_matrix (rows: true class).
    """
    kinds = ("classification",) if classes else ("regression", "sentiment") if sentiment else ("regression",)
    known = {name: metric for name, metric in METRICS.items() if metric.of in kinds}
    known = {name: metric for name, metric in known.items() if probabilities or not metric.of_probabilities}
    given, true = (outputs, labels) if classes else (outputs.flatten().double(), labels.double())
    values = {name: metric.value(given, true) for name, metric in known.items()}
    result = {name: value for name, value in values.items() if value is not None or METRICS[name].of != "sentiment"}
    return {**result, "num_samples": len(labels), **(_by_class(outputs, labels, classes) if classes else {})}


def _by_class(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    num = len(classes)
    recalls = MulticlassAccuracy(num, average="none")(logits, labels)
    f1s = MulticlassF1Score(num, average="none")(logits, labels)
    counts = torch.bincount(labels, minlength=num)
    per_class = {
        name: {"recall": float(recall), "f1": float(f1), "num_samples": int(count)}
        for name, recall, f1, count in zip(classes, recalls, f1s, counts, strict=True)
    }
    return {"per_class": per_class, "confusion_matrix": MulticlassConfusionMatrix(num)(logits, labels).tolist()}
