"""Which axis of a stored signal is its time: where the data tell."""

from collections.abc import Sequence

import numpy as np

FEWEST, TIMES, APART, SMOOTHER = 8, 5.0, 0.15, 0.3
"""Samples that tell anything; channels differ so many times as much as moments, by so many deviations at least; or time
is smoother by so much."""
SIDE = 1024
"""Longer axes are looked at up to here."""


def find_time_axis(samples: Sequence[np.ndarray] | np.ndarray) -> int | None:
    """The axis of signals along which time runs, 0 or 1; None: they do not tell.

    Where samples differ in length, that is time. Otherwise channels differ: each has its own mean and deviation, while
    those of one moment, over all samples, are nearly those of the next. Where all channels are standardised, time is
    the axis along which values change slowly.

    Args:
        samples: one array of two axes each; others do not count.

    Examples:
        >>> import numpy as np
        >>> from msafusion.data.datasets.array_axes import find_time_axis
        >>> signals = np.random.default_rng(0).standard_normal((50, 3, 200)) * np.array([1.0, 5.0, 20.0])[:, None]
        >>> find_time_axis(signals), find_time_axis(signals.swapaxes(1, 2))
        (1, 0)
        >>> find_time_axis([np.ones((3, 80)), np.ones((3, 95))])
        1
    """
    arrays = [sample for sample in samples if sample.ndim == 2 and sample.size and sample.dtype.kind in "biuf"]
    sizes = [{array.shape[axis] for array in arrays} for axis in (0, 1)]
    uneven = [axis for axis in (0, 1) if len(sizes[axis]) > 1]
    if uneven or not arrays:
        return uneven[0] if len(uneven) == 1 else None
    lone = [axis for axis in (0, 1) if sizes[axis] == {1}]  # one channel is likelier than one step
    if lone:
        return 1 - lone[0] if len(lone) == 1 else None
    return _by_values(np.stack([array[:SIDE, :SIDE] for array in arrays]))


def _by_values(values: np.ndarray) -> int | None:
    """The same of samples (n, ..., ...) of one size."""
    values = np.nan_to_num(np.asarray(values, dtype=np.float64), posinf=0.0, neginf=0.0)
    values = np.unique(values, axis=0)  # copies of one sample tell no more than it does
    if len(values) < FEWEST:
        return None
    scale = np.abs(values).max()
    if not scale or not np.isfinite(scale):
        return None
    values = values / scale
    apart = _apart(values, 1), _apart(values, 2)
    if max(apart) > max(APART, TIMES * min(apart)):
        return 1 if apart[0] > apart[1] else 0
    smooth = _smoothness(values, 1), _smoothness(values, 2)
    if abs(smooth[0] - smooth[1]) > SMOOTHER + 4 / values.size**0.5:  # the root: what few values are by chance
        return 0 if smooth[0] > smooth[1] else 1
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
