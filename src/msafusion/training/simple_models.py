"""The obvious simple models beside the networks: scikit-learn's, on summary features of each stream.

Logistic or ridge regression, a support vector machine with a Gaussian kernel, and gradient-boosted trees. Their inputs
are scaled, and scaling and strength are chosen by cross-validation inside the data that networks train and validate on.
"""

import itertools
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from msafusion.data.dividing import divide
from msafusion.data.preprocessing import Preprocessing
from msafusion.data.samples import Sample, Splits, collate, labels_and_groups, with_streams

ALL_STREAMS = "all streams"
INSIDE = 3
"""Folds that choose scaling and strength."""
QUANTILES = (0.1, 0.5, 0.9)
BANDS, PARTS, PIXELS, FRAMES = 8, 8, 8, 4
"""Of the summary: bands of the spectrum, parts of the time of a signal; pixels of a side and frames of pictures."""
BATCH, MAX_BYTES = 256, 2**27
"""Most samples and most bytes of inputs that are summarised at once."""


@dataclass(frozen=True)
class SimpleModel:
    """One of the models.

    Attributes:
        name: in tables.
        make: (of classes, seed) -> the estimator.
        options: (of classes, number of features) -> option -> values to try.
        scaled: its inputs are scaled.
        worth: the most samples x features x outputs for which it is tried.
        max_samples: the most samples for which it is tried.
    """

    name: str
    make: Callable[[bool, int], Any]
    options: Callable[[bool, int], dict[str, list[Any]]]
    scaled: bool
    worth: float
    max_samples: int


def _linear(of_classes: bool, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge

    return LogisticRegression(max_iter=100) if of_classes else Ridge()


def _svm(of_classes: bool, seed: int) -> Any:
    from sklearn.svm import SVC, SVR

    return SVC() if of_classes else SVR()


def _trees(of_classes: bool, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    make = HistGradientBoostingClassifier if of_classes else HistGradientBoostingRegressor
    return make(max_leaf_nodes=8, random_state=seed)


def _strengths(of_classes: bool, num_features: int) -> dict[str, list[Any]]:
    return {"C": [1e-3, 1e-2, 1e-1, 1.0]} if of_classes else {"alpha": [1.0, 10.0, 100.0, 1000.0]}


def _kernels(of_classes: bool, num_features: int) -> dict[str, list[Any]]:
    return {"C": [1.0, 10.0, 100.0] if of_classes else [0.1, 1.0, 10.0], "gamma": [0.5 / num_features]}


def _one_size(of_classes: bool, num_features: int) -> dict[str, list[Any]]:
    return {"max_iter": [100]}  # trees take most of the time as it is


MODELS = (
    SimpleModel("linear", _linear, _strengths, scaled=True, worth=2e8, max_samples=50_000),
    SimpleModel("SVM", _svm, _kernels, scaled=True, worth=2e8, max_samples=5_000),
    SimpleModel("trees", _trees, _one_size, scaled=False, worth=2e7, max_samples=50_000),
)


@dataclass(frozen=True)
class SimpleResult:
    """What a simple model has reached.

    Attributes:
        name: of model and streams, such as "SVM (all streams)".
        valid: mean accuracy, or mean absolute error, of the cross-validation that chose its strength.
        outputs: of the test samples: (samples, classes), 1 for the predicted class, or (samples, 1) values.
        labels: (samples,).
        options: what was chosen.
        seconds: that fitting took.
    """

    name: str
    valid: float
    outputs: Tensor
    labels: Tensor
    options: Mapping[str, Any]
    seconds: float


def stream_sets(splits: Splits) -> dict[str, list[str]]:
    """Name -> streams: each by itself, and all together where there are several."""
    singles = {stream: [stream] for stream in splits.channels}
    return singles | ({ALL_STREAMS: list(singles)} if len(singles) > 1 else {})


def fit_simple(
    splits: Splits, streams: str, test: Sequence[Sample], seed: int = 0, models: Sequence[SimpleModel] | None = None
) -> tuple[list[SimpleResult], list[str]]:
    """Fit every simple model to training and validation samples, and give its predictions of other samples.

    Args:
        splits: divided data; validation samples are for fitting too, except where they are the test's.
        streams: a key of `stream_sets`.
        test: what to predict.
        seed: of trees and of the cross-validation.
        models: those to fit; None: all.

    Returns:
        Results, and a line for each model that was left out because it would take long.
    """
    own = stream_sets(splits)[streams]
    valid = [] if splits.chosen_on_test or test is splits.valid else splits.valid
    parts = [summaries(part, splits.preprocessing, own) for part in (splits.train, valid) if len(part)]
    known = [entry for part in (splits.train, valid) for entry in labels_and_groups(part)]
    x, x_test = torch.cat(parts).numpy(), summaries(test, splits.preprocessing, own).numpy()
    y, groups = np.array([label for label, _ in known]), np.array([group for _, group in known])
    labels = torch.tensor([label for label, _ in labels_and_groups(test)])
    found, left_out = [], []
    for model in MODELS if models is None else models:
        amount = x.size * max(1, len(splits.classes))
        if amount > model.worth or len(x) > model.max_samples:
            what = f"{len(x)} samples of {x.shape[1]} features"
            left_out.append(f"{model.name} ({streams}) was left out: it would take long for {what}")
            continue
        start = time.perf_counter()
        search = _search(model, bool(splits.classes), y, groups, x.shape[1], seed)
        with warnings.catch_warnings():  # of what does not converge the best is taken all the same
            warnings.simplefilter("ignore")
            predicted = search.fit(x, y).predict(x_test)
        chosen = {name.rpartition("__")[2]: _plain(value) for name, value in search.best_params_.items()}
        found.append(
            SimpleResult(
                f"{model.name} ({streams})",
                valid=abs(float(search.best_score_)),  # errors are negative there
                outputs=_outputs(torch.as_tensor(predicted), len(splits.classes)),
                labels=labels,
                options=chosen,
                seconds=time.perf_counter() - start,
            )
        )
    return found, left_out


def _outputs(predicted: Tensor, num_classes: int) -> Tensor:
    """As a network would give them."""
    return functional.one_hot(predicted.long(), num_classes).float() if num_classes else predicted[:, None].float()


def _search(
    model: SimpleModel, of_classes: bool, labels: np.ndarray, groups: np.ndarray, num_features: int, seed: int
) -> Any:
    """The model with its scaling, as one estimator that chooses its options itself."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import QuantileTransformer, StandardScaler

    steps, options = [], {f"model__{name}": of for name, of in model.options(of_classes, num_features).items()}
    if model.scaled:
        quantiles = QuantileTransformer(n_quantiles=min(200, len(labels)), output_distribution="normal")
        steps, options["scale"] = [("scale", StandardScaler())], [StandardScaler(), quantiles]
    parts = list(divide(labels, groups, min(INSIDE, len(set(groups))), (), "folds"))
    scoring = "accuracy" if of_classes else "neg_mean_absolute_error"
    return GridSearchCV(Pipeline([*steps, ("model", model.make(of_classes, seed))]), options, scoring=scoring, cv=parts)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else type(value).__name__


@torch.no_grad()
def summaries(samples: Sequence[Sample], preprocessing: Preprocessing, streams: Sequence[str]) -> Tensor:
    """Features (samples, features) of some streams, as the networks get them; see `summarise`."""
    parts = []
    some = with_streams(samples, streams)
    first = preprocessing.inputs(collate([some[0]], streams)["inputs"])
    at_once = max(1, min(BATCH, MAX_BYTES // max(1, sum(values.nbytes for values in first.values()))))
    for start in range(0, len(some), at_once):
        batch = collate([some[index] for index in range(start, min(start + at_once, len(some)))], streams)
        inputs = preprocessing.inputs(batch["inputs"])
        each = [summarise(inputs[stream], batch["lengths"].get(stream)) for stream in streams]
        parts.append(torch.cat(each, dim=1))
    return torch.cat(parts).nan_to_num(0.0, 0.0, 0.0)


def summarise(values: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Summary features (batch, features) of one stream.

    Vectors (batch, channels) stay as they are. Of signals (batch, channels, time), each channel: mean, deviation,
    extremes, quantiles, mean change from step to step, energy in bands of the spectrum, means and deviations of parts
    of the time. Pictures (batch, channels, height, width) and clips (batch, channels, time, height, width): pooled to
    few pixels and frames.

    Args:
        values: as networks get them.
        lengths: real steps of signals (batch,).

    Examples:
        >>> import torch
        >>> from msafusion.training.simple_models import summarise
        >>> summarise(torch.randn(4, 3, 100)).shape
        torch.Size([4, 96])
    """
    if values.dim() <= 2:
        return values.flatten(1)
    if values.dim() == 3:
        if lengths is None or bool((lengths == values.shape[2]).all()):
            return _of_signals(values)
        real = [int(length) for length in lengths.clamp(1, values.shape[2])]
        return torch.cat([_of_signals(one[None, :, :length]) for one, length in zip(values, real, strict=True)])
    if values.dim() == 4:
        values = values.unsqueeze(2)
    if values.dim() == 5:
        frames, height, width = values.shape[2:]
        size = min(frames, FRAMES), min(height, PIXELS), min(width, PIXELS)
        return functional.adaptive_avg_pool3d(values, size).flatten(1)
    return values.flatten(2).mean(2)


def _of_signals(values: Tensor) -> Tensor:
    """(batch, channels, time) to (batch, channels x features)."""
    steps = values.shape[2]
    mean = values.mean(2, keepdim=True)
    spectrum = torch.fft.rfft(values - mean, n=max(steps, 2 * BANDS)).abs().square()[:, :, 1:]
    edges = np.unique(np.geomspace(1, spectrum.shape[2], BANDS + 1).round().astype(int))
    bands = [spectrum[:, :, low - 1 : high].mean(2) for low, high in itertools.pairwise(edges)]
    energy = torch.stack(bands, dim=2).add(1e-6 * max(steps, 1)).log()
    change = values.diff(dim=2).abs().mean(2, keepdim=True) if steps > 1 else torch.zeros_like(mean)
    parts = functional.adaptive_avg_pool1d(values, PARTS)
    squares = functional.adaptive_avg_pool1d(values.square(), PARTS)
    deviations = (squares - parts.square()).clamp(min=0).sqrt()
    quantiles = torch.quantile(values, torch.tensor(QUANTILES).to(values), dim=2).movedim(0, 2)
    extremes = torch.stack([values.amin(2), values.amax(2)], dim=2)
    deviation = values.std(2, keepdim=True, correction=0)
    features = [mean, deviation, extremes, quantiles, change, energy, parts, deviations]
    return torch.cat(features, dim=2).flatten(1)
