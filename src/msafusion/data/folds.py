"""Folds: a data set divided so that every sample, or every person, is tested once."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from msafusion.data.dataset import Dataset
from msafusion.data.dividing import divide
from msafusion.data.samples import LazySamples, Sample, Splits, labels_and_groups, with_streams
from msafusion.streams import check_count

VALIDATION = 5
"""One part in so many of what is not tested is for validation."""
MAX_NAMED = 3


class SelectedSamples(LazySamples):
    """Some samples of several sequences, each read when it is asked for."""

    def __init__(self, sources: Sequence[Sequence[Sample]], indices: Sequence[int]) -> None:
        super().__init__(indices)
        self.sources = sources
        self.ends = np.cumsum([len(source) for source in self.sources])

    def only(self, streams: Iterable[str]) -> "SelectedSamples":
        """The same samples, of which only some streams are read."""
        wanted = list(streams)
        return SelectedSamples([with_streams(source, wanted) for source in self.sources], self.entries)

    def labels_and_groups(self) -> list[tuple[int | float, str]]:
        """Of each sample, without reading it."""
        known = [entry for source in self.sources for entry in labels_and_groups(source)]
        return [known[index] for index in self.entries]

    def read(self, entry: int) -> Sample:
        """One of all the sequences' samples, counted over all of them."""
        source = int(np.searchsorted(self.ends, entry, side="right"))
        return self.sources[source][entry - (int(self.ends[source - 1]) if source else 0)]


def make_folds(splits: Splits, number: int) -> list[Splits]:
    """Divide the samples several times; each division tests another part, and together they test every sample once.

    Groups stay together: each is tested once, by models that have seen nothing of it. Classes are spread as evenly as
    the groups allow. A fifth of what is not tested, again by groups, is for validation; the preprocessing is fitted to
    the rest. The divisions depend on labels and groups alone.

    Args:
        splits: any division of the samples; how it divides them does not matter.
        number: of folds.

    Raises:
        ValueError: there are fewer groups, or fewer samples of a class, than folds; a fold would train without a class.

    Examples:
        >>> from msafusion.data.datasets import SmartwatchExercises
        >>> from msafusion.data.folds import make_folds
        >>> folds = make_folds(SmartwatchExercises().splits(), 5)
        >>> sorted({sample["group"] for fold in folds for sample in fold.test}, key=int)
        ['1', '2', '3', '4', '5', '6', '7', '8', '9', '10']
    """
    check_count("folds", number)
    return [make_fold(splits, number, fold) for fold in range(1, number + 1)]


def make_fold(splits: Splits, number: int, fold: int) -> Splits:
    """One of `make_folds`, counted from 1.

    Raises:
        ValueError: see `make_folds`; fold is not one of 1 to number.
    """
    if not 1 <= fold <= number:
        raise ValueError(f"fold is {fold}, expected 1 to {number} (the number of folds).")
    parts = [splits.train, splits.test] if splits.chosen_on_test else [splits.train, splits.valid, splits.test]
    entries = [entry for part in parts for entry in labels_and_groups(part)]
    labels, groups = np.array([label for label, _ in entries]), np.array([group for _, group in entries])
    rest, test = list(divide(labels, groups, number, splits.classes, "folds"))[fold - 1]
    number_inside = min(VALIDATION, len(set(groups[rest])))
    if number_inside < 2:
        raise ValueError(f"folds is {number}, which leaves fold {fold} a single group to train on; use more folds.")
    # the first division whose training samples have all classes, where there is one
    inside = [(rest[a], rest[b]) for a, b in divide(labels[rest], groups[rest], number_inside, (), "valid")]
    train, valid = max(inside, key=lambda part: len(set(labels[part[0]])))
    if splits.classes:
        _check_classes(fold, splits.classes, labels, train, np.concatenate([valid, test]))
    chosen = [SelectedSamples(parts, indices.tolist()) for indices in (train, valid, test)]
    return replace(
        splits,
        **dict(zip(("train", "valid", "test"), chosen, strict=True)),
        preprocessing=splits.refit(chosen[0]) if splits.refit else splits.preprocessing,
        chosen_on_test=False,
    )


class Fold(Dataset):
    """One fold of another data set (see `make_folds`).

    Args:
        data: any data set.
        number: of folds.
        fold: from 1.
    """

    def __init__(self, data: Dataset, number: int, fold: int) -> None:
        self.data, self.number, self.fold = data, number, fold

    def splits(self) -> Splits:
        """The fold's samples."""
        return make_fold(self.data.splits(), self.number, self.fold)


def _check_classes(fold: int, classes: Sequence[str], labels: np.ndarray, train: Any, others: Any) -> None:
    if unknown := sorted(set(labels[others]) - set(labels[train])):
        named = ", ".join(f"'{classes[label]}'" for label in unknown[:MAX_NAMED])
        raise ValueError(
            f"fold {fold} has no training sample of the class {named}, which too few groups have; use another number "
            "of folds, or leave the class out."
        )
