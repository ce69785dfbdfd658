"""Tables of labelled samples that users bring: labels to classes, and the rows divided by their column `split`."""

import random
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np

from msafusion.data.checks import check_apart
from msafusion.data.dividing import divide
from msafusion.data.samples import PARTS
from msafusion.failures import DataError
from msafusion.streams import check_option, nearest
from msafusion.text import PLAIN, SCIENTIFIC, alike, note, note_missing, number

TaskOption = Literal["auto", "classification", "regression"]
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn", "tr"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "devel", "development"), "valid"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
NOT_FINITE = {sign + name for sign in ("", "+", "-") for name in ("nan", "inf", "infinity")}
PEOPLE = (
    "group",
    "subject",
    "person",
    "participant",
    "speaker",
    "actor",
    "patient",
    "user",
    "volunteer",
    "signer",
    "video",
)
"""Names of what samples may share, which should then not be in two splits."""
MAX_CLASSES = 20
"""Whole numbers written as decimals ("0.0", "1.0") are classes where they are at most so many."""


@dataclass(frozen=True)
class Labels:
    """Labels as training wants them.

    Attributes:
        classes: names of the classes, numbers in their order, then names by the alphabet; none: the labels are
            regression targets.
        values: label of each row: the index of its class, or its value.
    """

    classes: list[str]
    values: list[int | float]

    @classmethod
    def read(cls, texts: Sequence[str], task: TaskOption, where: str, numeric: bool = False) -> "Labels":
        """From the labels as they are written; what they were taken for is said once.

        Args:
            texts: label of each row.
            task: classification, regression, or auto: values where all labels are numbers and one has decimals
                ("1.2"), or where more than 20 different whole numbers are written as decimals ("1.0"); else classes.
                Classes that are all whole numbers are named without decimals: "1.0" is the class "1".
            where: file and column, for messages.
            numeric: they come from an array of numbers, whose texts are Python's. Else only plain decimals are numbers:
                "1_0" is a name, and so are "1E1" and "10" among whole numbers.

        Raises:
            DataError: an empty label, NaN or infinity among numbers, no number where values are wanted, or numbers of
                which some are written in a way that may be a name.
        """
        for row, text in enumerate(texts, start=1):
            if not text:
                raise DataError(f"{where}: row {row} has no label, expected one; fill it in, or remove the row.")
        numbers = [number(text, SCIENTIFIC if numeric or task == "regression" else PLAIN) for text in texts]
        if task == "auto":
            numbers, task = _guessed(texts, numbers, where)
        if task == "regression":
            for row, (text, value) in enumerate(zip(texts, numbers, strict=True), start=1):
                if value is None:
                    raise DataError(f"{where}: row {row} has the label '{text}', expected a finite number; correct it.")
            note(f"{where}: taken for regression targets.")
            return cls([], [value for value in numbers if value is not None])
        whole = all(value is not None and value.is_integer() for value in numbers)
        if whole and not all(map(_digits, texts)):
            texts = [str(int(Decimal(text))) for text in texts]
        classes = sorted(set(texts), key=lambda text: (number(text) is None, number(text) or 0.0, text))
        some = ", ".join(classes[:4]) + (", ..." if len(classes) > 4 else "")
        note(f"{where}: taken for the names of {len(classes)} classes ({some}).")
        note_missing(classes, where)
        alike(classes, where)
        index = {name: place for place, name in enumerate(classes)}
        return cls(classes, [index[text] for text in texts])


def _guessed(texts: Sequence[str], numbers: list[float | None], where: str) -> tuple[list[float | None], TaskOption]:
    """The labels' numbers, and the task, where nothing says which."""
    known = [number(text) for text in texts]
    if all(value is not None or text.lower() in NOT_FINITE for text, value in zip(texts, known, strict=True)):
        if any(value is None for value in known):  # NaN among numbers: an error of the regression
            return known, "regression"
        decimals = any("." in text or "e-" in text.lower() for text in texts)
        if None in numbers and decimals:  # as Python and NumPy write 0.00001; "1E1" could be a name
            odd = [text for text in texts if PLAIN.fullmatch(text) is None and repr(float(text)) != text]
            if odd:
                raise DataError(
                    f"{where}: '{odd[0]}' among numbers with decimals may be a number or a name; set task to "
                    "regression or classification."
                )
            numbers = known
        whole = all(value is not None and value.is_integer() for value in numbers)
        few = whole and len(set(numbers)) <= MAX_CLASSES
        return numbers, "classification" if None in numbers or few or all(map(_digits, texts)) else "regression"
    return numbers, "classification"


def _digits(text: str) -> bool:
    """Whether it is a whole number without point or exponent."""
    return text.isascii() and text.lstrip("+-").isdigit()


def check_groups(groups: Sequence[str], where: str) -> None:
    """Refuse rows without a group, which would all be one; note names that look alike, or may stand for none.

    Raises:
        DataError: a row has none.
    """
    if "" in groups:
        raise DataError(f"{where}: row {groups.index('') + 1} is empty, expected its group; fill it in.")
    note_missing(groups, where)
    alike(groups, where)


def note_ungrouped(names: Iterable[str], where: str) -> None:
    """Say that people, as far as their names tell, are not kept together.

    Args:
        names: of columns or arrays, one entry a sample, that are not used.
        where: the table or file.
    """
    for name in names:
        if name.lower().rstrip("s").removesuffix("_id") in PEOPLE:
            note(
                f"{where}: rows of one '{name}' may come to stand in several splits or folds; give it by --data.group "
                "to keep them together."
            )


def parse_splits(texts: Sequence[str], where: str) -> list[str]:
    """Names of splits: the usual ones (`training`, `val`, `dev`, `Testing`) as train, valid and test, with a note."""
    names = [SPLIT_NAMES.get(unicodedata.normalize("NFKC", text).casefold(), text) for text in texts]
    for text, name in dict.fromkeys(zip(texts, names, strict=True)):
        if text != name:
            note(f"{where}: '{text}' is taken for {name}.")
    return names


def split_by_column(rows: Sequence[Mapping[str, Any]], classes: Sequence[str], where: str) -> dict[str, list[int]]:
    """Indices of the rows of each part (train, valid, test), by their column `split`; `valid` may be empty.

    Args:
        rows: with `id`, `split`, `label` (a class's index, or a value) and `group`.
        classes: names of the classes; none: labels are regression targets.
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
    check_apart(groups, where, "move their rows into one")
    _check_known(rows, parts, classes, where)
    return parts


def draw_test(
    rows: Sequence[Mapping[str, Any]], classes: Sequence[str], test_fraction: float, where: str
) -> list[Mapping[str, Any]]:
    """Assign splits to rows that have none: about `test_fraction` of every class is test, by whole groups.

    The draw depends on labels and groups alone.

    Raises:
        DataError: there are not enough groups or samples.
    """
    check_option("test_fraction", test_fraction, 0.05, 0.5)
    labels = np.array([row["label"] for row in rows], dtype=np.int64 if classes else np.float64)
    groups = np.array([row["group"] for row in rows])
    number = round(1 / test_fraction)
    counts = np.bincount(labels) if classes else np.array([len(rows)])
    if len(set(groups)) < number or (len(set(groups)) == len(groups) and counts.min() < number):
        raise DataError(
            f"{where}: without a column of splits, {number} groups or more and as many samples of every class are "
            f"needed to test {test_fraction:.0%} of them; add the column split, or set test_fraction."
        )
    _, test = next(divide(labels, groups, number, classes, "test_fraction"))
    drawn = set(test.tolist())
    by_group = len(set(groups)) < len(groups)
    what = f"{len(set(groups[test]))} of {len(set(groups))} groups" if by_group else f"{len(drawn)} of {len(rows)}"
    note(
        f"{where}: no column split, so {what} are drawn for the test (test_fraction {test_fraction:g}); if the column "
        "has another name, give it by --data.split."
    )
    return [{**row, "split": "test" if index in drawn else "train"} for index, row in enumerate(rows)]


def split_rows(
    rows: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    valid_fraction: float,
    where: str,
    test_fraction: float = 0.2,
) -> dict[str, list[int]]:
    """Indices of the rows of each part, as `split_by_column` gives them, with validation rows.

    Where no row is marked valid, whole groups are drawn from the training rows until about `valid_fraction` of every
    class is reached; the draw depends on the groups' names alone. Where no row has a split, test rows are drawn first.

    Args:
        rows: see `split_by_column`.
        classes: see `split_by_column`.
        valid_fraction: of the training rows.
        where: see `split_by_column`.
        test_fraction: of all rows, where none has a split.

    Raises:
        DataError: see `split_by_column` and `draw_test`; no validation row can be drawn, or only with all training rows
            of a class.
    """
    check_option("valid_fraction", valid_fraction, 0.0, 0.9)
    if not any(row["split"] for row in rows):
        rows = draw_test(rows, classes, test_fraction, where)
    parts = split_by_column(rows, classes, where)
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
