"""Which axis of a stored signal is its time: where the data tell."""

from collections.abc import Sequence

import numpy as np

from msafusion.data.datasets.array_file import ArrayFile

MAX_LOOKED_AT, MAX_VALUES = 256, 2**22
"""Samples, evenly spread, by which the axes are told apart, and the most values in all of them."""
FEWEST, TIMES, APART, SMOOTHER = 8, 5.0, 0.15, 0.3
"""Samples that tell anything; channels differ so many times as much as moments, by so many deviations at least; or time
is smoother by so much."""


def find_time_axis(file: ArrayFile, name: str) -> int | None:
    """The axis of an array (n, ..., ...) along which time runs, 1 or 2; None: the data do not tell.

    Raises:
        DataError: the array cannot be read.
    """
    number = file.shape(name)[0]
    first = file.row(name, 0)
    some = max(1, min(number, MAX_LOOKED_AT, MAX_VALUES // max(1, first.size)))
    rows = [file.row(name, int(index)) for index in np.linspace(0, number - 1, some).astype(int)]
    return time_axis(np.stack(rows))


def time_axis_of(arrays: Sequence[np.ndarray]) -> int | None:
    """The time axis, 0 or 1, of two-dimensional arrays, one per sample; None: it cannot be told from them.

    The number of channels is the same in every sample. Arrays with other numbers of axes are ignored.

    Examples:
        >>> import numpy as np
        >>> from msafusion.data.datasets.array_axes import time_axis_of
        >>> time_axis_of([np.ones((3, 80)), np.ones((3, 95))])
        1
    """
    arrays = [array for array in arrays if array.ndim == 2 and array.size and array.dtype.kind in "biuf"]
    if not arrays:
        return None
    counts = [len({array.shape[axis] for array in arrays}) for axis in (0, 1)]
    if min(counts) == 1 < max(counts):
        return counts.index(max(counts))
    if max(counts) > 1:
        return None
    found = time_axis(np.stack(arrays))
    return None if found is None else found - 1


def time_axis(values: np.ndarray) -> int | None:
    """The axis of signals (n, ..., ...) along which time runs, 1 or 2; None: they do not tell.

    Channels differ: each has a mean and a deviation of its own, while those of one moment over all samples are nearly
    those of the next. Where all channels are standardised, time is the axis along which values change slowly.

    Args:
        values: at least one sample.

    Examples:
        >>> import numpy as np
        >>> from msafusion.data.datasets.array_axes import time_axis
        >>> signals = np.random.default_rng(0).standard_normal((50, 3, 200)) * np.array([1.0, 5.0, 20.0])[:, None]
        >>> time_axis(signals), time_axis(signals.swapaxes(1, 2))
        (2, 1)
    """
    values = np.nan_to_num(np.asarray(values, dtype=np.float64), posinf=0.0, neginf=0.0)
    if values.shape[1] == 1 or values.shape[2] == 1:  # one channel is likelier than one step
        return None if values.shape[1] == values.shape[2] else 2 if values.shape[1] == 1 else 1
    values = np.unique(values, axis=0)  # copies of one sample tell no more than it does
    if len(values) < FEWEST:
        return None
    scale = np.abs(values).max()
    if not scale or not np.isfinite(scale):
        return None
    values = values / scale
    apart = _apart(values, 1), _apart(values, 2)
    if max(apart) > max(APART, TIMES * min(apart)):
        return 2 if apart[0] > apart[1] else 1
    smooth = _smoothness(values, 1), _smoothness(values, 2)
    if abs(smooth[0] - smooth[1]) > SMOOTHER + 4 / values.size**0.5:  # the root: what few values are by chance
        return 1 if smooth[0] > smooth[1] else 2
    return None


def _apart(values: np.ndarray, axis: int) -> float:
    """How far neighbours on an axis lie apart in mean and (log) deviation over all samples, beyond chance."""
    profile = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    overall = values.std() + np.finfo(float).tiny
    mean, deviation = profile.mean(1) / overall, np.log(profile.std(1) / overall + 1e-3)
    apart = np.square(np.diff(mean)).mean() + np.square(np.diff(deviation)).mean()
    by_chance = 2 * 3 / profile.shape[1]  # twice that of equal indices: 2 of n for means, 1 for deviations
    return float(np.sqrt(max(0.0, apart - by_chance)))


def _smoothness(values: np.ndarray, axis: int) -> float:
    """Correlation of neighbours on an axis, where the other's indices are standardised as channels."""
    signals = np.moveaxis(values, axis, 2)
    signals = signals - signals.mean((0, 2), keepdims=True)
    deviation = signals.std((0, 2), keepdims=True)
    signals = signals / np.where(deviation > 0, deviation, 1)
    return float(1 - np.square(np.diff(signals, axis=2)).mean() / (2 * np.square(signals).mean() + 1e-12))
