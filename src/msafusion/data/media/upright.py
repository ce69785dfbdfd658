"""Frames as they are meant to be shown: turned and mirrored by the display matrix that cameras write."""

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from av import VideoFrame


def display(frame: "VideoFrame") -> tuple[int, bool, str | None]:
    """What the frame's display matrix asks for, to the nearest quarter turn.

    The matrix has a, b, then c, d in its first two rows: x' = a x + c y, y' = b x + d y, where y points downwards.

    Returns:
        turn: clockwise (degrees): 0, 90, 180 or 270.
        mirrored: whether left and right are exchanged then.
        note: about a turn by another angle than a multiple of 90 degrees.
    """
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return 0, False, None
    matrix = np.frombuffer(bytes(found), np.int32)
    a, b, c, d = (float(matrix[at]) for at in (0, 1, 3, 4))
    mirrored = a * d - b * c < 0
    angle = math.degrees(math.atan2(b, -a if mirrored else a)) if a or b else 0.0
    turn = round(angle / 90) * 90
    note = f"to be shown turned by {angle:.0f} degrees, taken as {turn}" if abs(angle - turn) > 1 else None
    return turn % 360, mirrored, note


def upright(frame: "VideoFrame") -> tuple[np.ndarray, str | None]:
    """uint8 (height, width, 3), RGB, as it is meant to be shown; and the note of `display`."""
    turn, mirrored, note = display(frame)
    # one thread: starting threads for each frame takes several times as long as converting it
    picture = np.rot90(frame.to_ndarray(format="rgb24", threads=1), -turn // 90)
    return (picture[:, ::-1] if mirrored else picture), note
