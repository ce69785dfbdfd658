"""What every data set is checked for: names, labels, groups that leak across splits, values that are not finite."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from msafusion.failures import DataError

MAX_ID = 200  # bytes; file systems take names of 255, and files under way have longer ones than arrays


def can_be_stream(name: str) -> bool:
    """Whether a folder of arrays can have this name: it stays below the prepared folder on any system."""
    return re.fullmatch(r"\w[\w.-]*", name) is not None


def can_be_sample(name: str) -> bool:
    """Whether a file of one sample's array can have this name."""
    return re.fullmatch(r"[\w$ +-][\w.$ +-]*", name) is not None


def check_streams(names: Iterable[str], where: str, remedy: str, reserved: Iterable[str] = ()) -> None:
    """Refuse names that no folder of arrays can have, or `reserved` ones.

    Raises:
        DataError: there is one.
    """
    for name in names:
        if not can_be_stream(name) or name in reserved:
            raise DataError(
                f"{where}: {name[:100]!r} cannot be a stream's name, expected letters, digits and _.-; {remedy}."
            )


def check_unique(ids: Iterable[str], where: str, remedy: str) -> None:
    """Refuse identifiers that occur twice.

    Raises:
        DataError: one does.
    """
    if twice := [name for name, times in Counter(ids).items() if times > 1]:
        raise DataError(f"{where}: the id '{twice[0]}' occurs twice, expected it once; {remedy}.")


def check_ids(ids: Iterable[str], where: str, remedy: str) -> None:
    """Refuse identifiers of samples that no file can have, and those that occur twice.

    Raises:
        DataError: there is one.
    """
    ids = list(ids)
    for number, name in enumerate(ids, start=1):
        if not can_be_sample(name):
            raise DataError(
                f"{where}: '{name}' (sample {number}) cannot be a sample's id, expected letters, digits and _$ +-, and "
                f"dots after the first; {remedy}."
            )
        if (length := len(name.encode())) > MAX_ID:
            raise DataError(
                f"{where}: the id '{name[:40]}...' has {length} bytes, expected {MAX_ID} at most; {remedy}."
            )
    check_unique(ids, where, remedy)


def check_label(label: int | float | str, num_classes: int, where: str, remedy: str) -> None:
    """Refuse what is not the index of a class, or (without classes) not a finite number; or the text of one.

    Raises:
        DataError: it is not.
    """
    try:
        value = int(label) if num_classes and isinstance(label, str) else float(label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (num_classes and not (value == int(value) and 0 <= value < num_classes)):
        wanted = f"the index of one of {num_classes} classes" if num_classes else "a number"
        raise DataError(f"{where}: label '{label}', expected {wanted}; {remedy}.")


def check_apart(groups: Mapping[str, Iterable[str]], where: str, remedy: str) -> None:
    """Refuse groups (subjects, videos) that two splits share: testing on what was trained on is not a test.

    Args:
        groups: split -> its groups.
        where: what is divided, for messages.
        remedy: what to do.

    Raises:
        DataError: two splits share one.
    """
    known = {part: set(names) for part, names in groups.items()}
    for one, other in itertools.combinations(known, 2):
        if shared := sorted(known[one] & known[other]):
            more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
            raise DataError(
                f"{where}: the splits {one} and {other} share the groups {shared[:3]}{more}, expected every group in "
                f"one split; {remedy}."
            )


def check_finite(values: np.ndarray, what: str, remedy: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        DataError: there is one.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise DataError(
            f"{what} holds NaN or infinity ({bad} of {values.size} values), expected finite values; {remedy}."
        )


def as_float32(values: np.ndarray) -> np.ndarray:
    """The values in float32; what is too large becomes infinite, for `check_finite` to refuse."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)
