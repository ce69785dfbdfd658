"""Tables of labelled samples that users bring: labels to classes, and the rows divided by their column `split`."""

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from msafusion.preprocessing import DataError
from msafusion.streams import check_option, nearest

Task = Literal["auto", "classification", "regression"]
PARTS = ("train", "valid", "test")
MOST_CLASSES = 20
"""Whole numbers written as decimals ("0.0", "1.0") are classes where they are at most so many."""


@dataclass(frozen=True)
class Labels:
    """Labels as training wants them.

    Attributes:
        classes: names of the classes, numbers in their order, then names by the alphabet; none: labels are values.
        values: label of each row: the index of its class, or its value.
    """

    classes: list[str]
    values: list[int | float]

    @classmethod
    def read(cls, texts: Sequence[str], task: Task, where: str) -> "Labels":
        """From the labels as they are written.

        Args:
            texts: label of each row.
            task: classification, regression, or auto: values where all labels are numbers and one has decimals
                ("1.2"), or where more than 20 different whole numbers are written as decimals ("1.0"); else classes.
                Classes that are all whole numbers are named without decimals: "1.0" is the class "1".
            where: file and column, for messages.

        Raises:
            DataError: an empty label, NaN or infinity among numbers, or no number where values are wanted.
        """
        for row, text in enumerate(texts, start=1):
            if not text:
                raise DataError(f"{where}: row {row} has no label, expected one; fill it in, or remove the row.")
        numbers = [_number(text) for text in texts]
        whole = all(number is not None and number.is_integer() for number in numbers)
        written_whole = all(text.lstrip("+-").isdigit() for text in texts)
        if task == "auto":
            few = whole and len(set(numbers)) <= MOST_CLASSES
            names = any(number is None and not _not_finite(text) for text, number in zip(texts, numbers, strict=True))
            task = "classification" if names or written_whole or few else "regression"
        if task == "regression":
            for row, (text, number) in enumerate(zip(texts, numbers, strict=True), start=1):
                if number is None:
                    raise DataError(f"{where}: row {row} has the label '{text}', expected a finite number; correct it.")
            return cls([], [number for number in numbers if number is not None])
        if whole and not written_whole:
            texts = [str(int(number)) for number in numbers if number is not None]
        classes = sorted(set(texts), key=lambda text: (_number(text) is None, _number(text) or 0.0, text))
        index = {name: number for number, name in enumerate(classes)}
        return cls(classes, [index[text] for text in texts])


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _not_finite(text: str) -> bool:
    """Whether it is NaN or infinity."""
    try:
        return not math.isfinite(float(text))
    except ValueError:
        return False


def marked(rows: Sequence[Mapping[str, Any]], classes: Sequence[str], where: str) -> dict[str, list[int]]:
    """Indices of the rows of each part (train, valid, test), by their column `split`; `valid` may be empty.

    Args:
        rows: with `id`, `split`, `label` (a class's index, or a value) and `group`.
        classes: names of the classes; none: labels are values.
        where: the file, for messages.

    Raises:
        DataError: an unknown split, no training or test row, a group in two splits, one class only, a class that only
            validation or test rows have.
    """
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    for index, row in enumerate(rows):
        if row["split"] not in parts:
            raise DataError(
                f"{where}: row {index + 1} has the split '{row['split']}', expected train, valid or test; correct it."
            )
        parts[row["split"]].append(index)
    for part in ("train", "test"):
        if not parts[part]:
            raise DataError(f"{where}: no row has the split {part}, expected at least one; mark some.")
    if len(classes) == 1:
        raise DataError(f"{where}: every row has the label '{classes[0]}', expected two classes or more; add others.")
    groups = {part: {rows[index]["group"] for index in parts[part]} for part in PARTS}
    for one, other in itertools.combinations(PARTS, 2):
        if shared := sorted(groups[one] & groups[other]):
            more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
            raise DataError(
                f"{where}: the splits {one} and {other} share the groups {shared[:3]}{more}, expected every group in "
                "one split; move their rows into one."
            )
    _check_known(rows, parts, classes, where)
    return parts


def divide(
    rows: Sequence[Mapping[str, Any]], classes: Sequence[str], valid_fraction: float, where: str
) -> dict[str, list[int]]:
    """Indices of the rows of each part, as `marked` gives them, with validation rows.

    Where no row is marked valid, whole groups are drawn from the training rows until about `valid_fraction` of every
    class is reached; the draw depends on the groups' names alone.

    Args:
        rows: see `marked`.
        classes: see `marked`.
        valid_fraction: of the training rows.
        where: see `marked`.

    Raises:
        DataError: see `marked`; no validation row can be drawn, or only with all training rows of a class.
    """
    check_option("valid_fraction", valid_fraction, 0.0, 0.9)
    parts = marked(rows, classes, where)
    if not parts["valid"]:
        parts["valid"] = _draw(rows, parts["train"], valid_fraction, bool(classes))
        drawn = set(parts["valid"])
        parts["train"] = [index for index in parts["train"] if index not in drawn]
        if not parts["valid"] or not parts["train"]:
            raise DataError(
                f"{where}: no row has the split valid, and none can be drawn from {len(drawn) + len(parts['train'])} "
                "training rows; mark some as valid."
            )
        _check_known(rows, parts, classes, where)
    return parts


def _check_known(
    rows: Sequence[Mapping[str, Any]], parts: Mapping[str, Sequence[int]], classes: Sequence[str], where: str
) -> None:
    """Refuse classes that only validation or test rows have."""
    known = {rows[index]["label"] for index in parts["train"]}
    if classes:
        for part in ("valid", "test"):
            for index in parts[part]:
                if rows[index]["label"] not in known:
                    name = classes[int(rows[index]["label"])]
                    close = nearest(name, [classes[int(label)] for label in sorted(known)])
                    raise DataError(
                        f"{where}: sample '{rows[index]['id']}' ({part}) has the unknown label '{name}', expected one "
                        f"of the training rows; {close}"
                    )


def _draw(rows: Sequence[Mapping[str, Any]], train: Sequence[int], fraction: float, by_class: bool) -> list[int]:
    """Whole groups of training rows for validation."""
    members: dict[str, list[int]] = defaultdict(list)
    for index in train:
        members[rows[index]["group"]].append(index)
    left: dict[Any, float] = defaultdict(float)
    for index in train:
        left[rows[index]["label"] if by_class else None] += fraction
    groups = sorted(members)
    random.Random("validation").shuffle(groups)
    drawn: list[int] = []
    for group in groups:
        labels = [rows[index]["label"] if by_class else None for index in members[group]]
        wanted = sum(left[label] >= labels.count(label) for label in set(labels))
        if wanted * 2 > len(set(labels)):
            drawn += members[group]
            for label in labels:
                left[label] -= 1
    if not drawn and len(groups) > 1:  # small data: the smallest group rather than none
        drawn = members[min(groups, key=lambda group: len(members[group]))]
    return sorted(drawn)
