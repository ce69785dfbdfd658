"""The preprocessing for training samples, wherever they are stored."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msafusion.data.preprocessing import Augmentation, Layout, Standardize
from msafusion.data.samples import Sample

MAX_FITTED = 1000
"""Training samples, evenly spread, from which mean and standard deviation are taken."""


class Store(Protocol):
    """Where samples are read from; `exact` names the streams that stay in float64 where they are."""

    exact: set[str]


def standardize(
    samples: Sequence[Sample], store: Store, layouts: Mapping[str, Layout], augmentation: Augmentation | None
) -> Standardize:
    """The preprocessing for training samples; from then on their store keeps the digits that it needs.

    Args:
        samples: for training; at most 1000 of them, evenly spread, are read.
        store: what they are read from.
        layouts: stream -> layout, of the streams to use.
        augmentation: random changes in training; None: no change.
    """
    some = samples[:: -(-len(samples) // MAX_FITTED)] if samples else samples
    store.exact = set(layouts)  # until it is known of which float32 loses nothing
    preprocessing = Standardize.fitted([sample["streams"] for sample in some], layouts, augmentation)
    store.exact = preprocessing.wide()
    return preprocessing
