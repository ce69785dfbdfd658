"""Faces over the frames of a clip: which boxes are the same face, which face to take, where it is in between."""

from collections.abc import Sequence

import numpy as np

from msafusion.data.media.mtcnn import overlaps

Track = dict[int, np.ndarray]
"""Frame -> box (4,) of the same face."""


def link(found: Sequence[Sequence[np.ndarray]], least: float = 0.2) -> list[Track]:
    """Boxes of the same face over the frames: each goes to the track whose last box overlaps most, or starts one.

    Args:
        found: the boxes (4,) of each frame.
        least: area shared with the track's last box, as a fraction of their union.
    """
    tracks: list[Track] = []
    for number, boxes in enumerate(found):
        last = [track[max(track)] for track in tracks]
        pairs = [
            (shared, i, j)
            for j, box in enumerate(boxes)
            for i, shared in enumerate(overlaps(box, np.array(last).reshape(-1, 4)))
            if shared >= least
        ]
        linked: dict[int, int] = {}
        for _, i, j in sorted(pairs, reverse=True):
            if j not in linked and i not in linked.values():
                linked[j] = i
        for j, box in enumerate(boxes):
            if j in linked:
                tracks[linked[j]][number] = box
            else:
                tracks.append({number: box})
    return tracks


def choose(tracks: Sequence[Track]) -> tuple[Track, str]:
    """One face, and what to say about the others, if there are any.

    The largest is taken of those seen about as long as the one seen longest (in at least nine tenths of its frames).
    """
    longest = max(map(len, tracks))
    steady = [track for track in tracks if 10 * len(track) >= 9 * longest]
    area = [float(np.mean([(box[2:] - box[:2]).prod() for box in track.values()])) for track in steady]
    faces = sum(3 * len(track) >= longest for track in tracks)  # shorter ones are mostly mistakes of the detector
    reason = "the one seen longest" if len(steady) == 1 else "the largest"
    return steady[int(np.argmax(area))], f"{faces} faces, took {reason}" if faces > 1 else ""


def fill_gaps(boxes: np.ndarray, at: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) known at increasing places `at` (n,), interpolated linearly to `wanted` (m,), held at both ends."""
    return np.stack([np.interp(wanted, at, boxes[:, side]) for side in range(4)], axis=1)


def smooth(boxes: np.ndarray, deviation: float) -> np.ndarray:
    """Boxes (n, 4) after a Gaussian over the frames; the first and last one are repeated beyond the ends."""
    if deviation <= 0:
        return boxes
    reach = int(np.ceil(3 * deviation))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    padded = np.pad(boxes, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([np.convolve(side, weights / weights.sum(), mode="valid") for side in padded.T], axis=1)
