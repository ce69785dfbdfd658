"""Recordings of evenly spaced steps (skeleton frames, sensor readings): a part of one, and another number of steps."""

from pathlib import Path

import numpy as np

from msafusion.data.media.extraction import Span, StreamMissing


def part(span: Span, num_steps: int, rate: float, file: Path) -> slice:
    """The steps of a span; at least one, and none beyond the recording's end.

    Args:
        span: seconds from the recording's start.
        num_steps: of the recording.
        rate: steps a second.
        file: for the error.

    Raises:
        StreamMissing: the span starts where the recording has ended.
    """
    first = max(round(span.start * rate), 0)
    if first >= num_steps:
        raise StreamMissing(
            f"'{file}' ends after {num_steps / rate:.2f} s, expected some of it from {span.start:g} s on; choose an "
            "earlier part."
        )
    last = num_steps if span.seconds is None else round((span.start + span.seconds) * rate)
    return slice(first, min(max(last, first + 1), num_steps))


def resample(values: np.ndarray, num_steps: int) -> np.ndarray:
    """(time, ...) to (num_steps, ...), linearly between neighbouring steps; the first and the last step stay."""
    at = np.linspace(0, len(values) - 1, num_steps)
    before = np.floor(at).astype(int)
    after = np.minimum(before + 1, len(values) - 1)
    weight = (at - before).reshape(-1, *[1] * (values.ndim - 1))
    return ((1 - weight) * values[before] + weight * values[after]).astype(values.dtype)


def middles(num_steps: int, parts: int) -> np.ndarray:
    """The steps in the middles of so many equal parts of a recording."""
    return ((np.arange(parts) + 0.5) * num_steps / parts).astype(int)
