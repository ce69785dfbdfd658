"""Samples divided into parts that share no group."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


def divide(
    labels: np.ndarray, groups: np.ndarray, number: int, classes: Sequence[str], option: str
) -> Iterator[tuple[Any, Any]]:
    """Indices of (the rest, one part) for each of `number` parts, which share no group and spread classes evenly.

    Args:
        labels: of each sample; integers are classes.
        groups: of each sample.
        number: of parts.
        classes: names; where there are some, a class with fewer samples than parts is refused.
        option: what sets the number, for messages.

    Raises:
        ValueError: there are fewer groups, or fewer samples of a class, than parts.
    """
    from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

    people, rows = len(set(groups)), np.zeros(len(labels))
    by_group, of_classes = people < len(groups), labels.dtype.kind in "iu"
    if number < 2 or number > people:
        what = "groups" if by_group else "samples"
        raise ValueError(f"{option} is {number}, expected 2 to {people} (the number of {what}).")
    counts = np.bincount(labels)[np.unique(labels)] if of_classes else np.array([number])
    if by_group:
        spread = of_classes and counts.max() >= number  # scikit-learn refuses to spread classes that are all smaller
        strata = labels if spread else np.zeros(len(labels), dtype=int)
        with warnings.catch_warnings():  # of rare classes, which are spread as far as they go
            warnings.simplefilter("ignore", UserWarning)
            parts = list(StratifiedGroupKFold(number, shuffle=True, random_state=0).split(rows, strata, groups))
        yield from parts
    elif of_classes and counts.min() >= number:
        yield from StratifiedKFold(number, shuffle=True, random_state=0).split(rows, labels)
    elif of_classes and classes:
        rarest = int(np.unique(labels)[counts.argmin()])
        raise ValueError(
            f"{option} is {number}, expected at most the {counts.min()} samples of class '{classes[rarest]}'."
        )
    else:
        yield from KFold(number, shuffle=True, random_state=0).split(rows)
