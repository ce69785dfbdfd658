"""The preprocessing for training samples, wherever they are stored."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from msafusion.data.dividing import divide
from msafusion.data.preprocessing import Augmentation, Layout, Standardize
from msafusion.data.samples import Sample
from msafusion.text import note

MAX_FITTED = 1000
"""Training samples, evenly spread, from which mean and standard deviation are taken."""
MAX_VALUES, FOLDS, STRENGTHS = 2048, 3, (1.0, 10.0, 100.0, 1000.0)
"""Of the linear models that choose the scaling: the most inputs, cross-validation, ridge penalties."""
CLEARLY = 2.0
"""Standard errors by which the other scaling must be better."""


class Store(Protocol):
    """Where samples are read from; `exact` names the streams that stay in float64 where they are."""

    exact: set[str]


def standardize(
    samples: Sequence[Sample], store: Store, layouts: Mapping[str, Layout], augmentation: Augmentation | None
) -> Standardize:
    """Fit the preprocessing to training samples; from then on, their store keeps the precision that it needs.

    Vectors whose values have heavy tails are compressed where a linear model says so, see `compressed_streams`.

    Args:
        samples: for training; at most 1000 of them, evenly spread, are read.
        store: what they are read from.
        layouts: stream -> layout, of the streams to use.
        augmentation: random changes in training; None: no change.
    """
    some = samples[:: -(-len(samples) // MAX_FITTED)] if samples else samples
    store.exact = set(layouts)  # until it is known of which float32 loses nothing
    read = [some[index] for index in range(len(some))]
    compressed = compressed_streams(read, layouts)
    preprocessing = Standardize.fitted([sample["streams"] for sample in read], layouts, augmentation, compressed)
    store.exact = preprocessing.wide()
    return preprocessing


def compressed_streams(samples: Sequence[Sample], layouts: Mapping[str, Layout]) -> list[str]:
    """Streams of vectors that a linear model predicts the labels better from when their tails are compressed.

    Standardised as they are, or by median and quartiles and compressed (see `Standardize`): compared by
    cross-validation over groups, ridge regression of the classes or targets. What is chosen is noted.

    Args:
        samples: for training.
        layouts: stream -> layout.
    """
    labels = np.array([sample["label"] for sample in samples])
    groups = np.array([sample["group"] for sample in samples])
    number = min(FOLDS, len(set(groups)))
    if number < 2 or len(set(labels.tolist())) < 2:
        return []
    parts = list(divide(labels, groups, number, (), "folds"))
    chosen = []
    for stream, layout in layouts.items():
        vectors = [sample["streams"][stream] for sample in samples]
        if layout != "map" or any(vector.shape != vectors[0].shape or vector.dim() != 1 for vector in vectors):
            continue
        if len(vectors[0]) > MAX_VALUES:
            continue
        stacked = torch.stack(vectors)
        as_it_is, compressed = (_errors(_scaled(stacked, stream, names), labels, parts) for names in ((), (stream,)))
        better = as_it_is - compressed
        if better.mean() > CLEARLY * better.std() / len(better) ** 0.5:
            chosen.append(stream)
            note(
                f"stream '{stream}' is scaled by its quartiles and its far values are compressed: the error of a "
                f"linear model is {compressed.mean():.3g} rather than {as_it_is.mean():.3g}."
            )
    return chosen


def _scaled(vectors: torch.Tensor, stream: str, compressed: Sequence[str]) -> np.ndarray:
    fitted = Standardize.fitted([{stream: vector} for vector in vectors], {stream: "map"}, None, compressed)
    return fitted.inputs({stream: vectors})[stream].numpy()


def _errors(inputs: np.ndarray, labels: np.ndarray, parts: Sequence[tuple[Any, Any]]) -> np.ndarray:
    """Of each sample, of the best of several strengths: 1 for a wrong class, or the distance to the target."""
    from sklearn.linear_model import Ridge, RidgeClassifier

    of_classes = labels.dtype.kind in "iu"
    found = []
    for strength in STRENGTHS:
        errors = np.zeros(len(labels))
        for rest, part in parts:
            model = RidgeClassifier(strength) if of_classes else Ridge(strength)
            predicted = model.fit(inputs[rest], labels[rest]).predict(inputs[part])
            errors[part] = predicted != labels[part] if of_classes else np.abs(predicted - labels[part])
        found.append(errors)
    return min(found, key=np.mean)
