"""The video stream of a recording: evenly spaced frames, or the faces in them, as square pictures."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np

from msafusion.data.media.container import VIDEOS
from msafusion.data.media.extraction import WHOLE, Extracted, Extractor, Span
from msafusion.data.media.video import probe_video, read_frames
from msafusion.data.preprocessing import Layout
from msafusion.failures import DataError
from msafusion.streams import check_count, check_option, nearest

Face = Literal["crop", "none"]
Fit = Literal["squeeze", "centre"]
Order = Literal["rgb", "bgr", "grey"]


@dataclass(frozen=True)
class Frames(Extractor):
    """Frames shown in the middle of equal parts of the recording, by their time stamps.

    Attributes:
        num_frames: how many; all are filled.
        size: height and width (pixels).
        face: "crop": the square about the face, by the landmarks of the companion file or else by a detector, cut at
            full resolution; "none": the frame.
        margin: added to the face's box on each side, as a share of its longer side.
        fit: how a frame becomes a square where faces are not cropped: "squeeze" it or take the "centre".
        order: of the channels: "rgb", "bgr" or one channel "grey".
        squeeze_first: squeeze the frame to `size` before the face is cropped. It loses resolution: only for weights of
            authors who did so.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import av
        >>> import numpy as np
        >>> from msafusion.data.media import Frames
        >>> with TemporaryDirectory() as folder:
        ...     with av.open(f"{folder}/a.avi", "w") as file:
        ...         stream = file.add_stream("mjpeg", rate=10, width=64, height=48, pix_fmt="yuvj420p")
        ...         for _ in range(10):
        ...             file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))))
        ...     Frames(num_frames=4, size=32, face="none")(Path(folder, "a.avi")).values.shape
        (3, 4, 32, 32)
    """

    suffixes: ClassVar = VIDEOS
    num_frames: int = 30
    size: int = 224
    face: Face = "crop"
    margin: float = 0.1
    fit: Fit = "squeeze"
    order: Order = "rgb"
    squeeze_first: bool = False

    def __post_init__(self) -> None:
        check_count("num_frames", self.num_frames)
        check_count("size", self.size)
        check_option("margin", self.margin, 0.0, 2.0)
        for name, known in (("face", get_args(Face)), ("fit", get_args(Fit)), ("order", get_args(Order))):
            if (got := getattr(self, name)) not in known:
                raise ValueError(f"unknown {name} {got!r}; {nearest(str(got), known)}")

    @property
    def layout(self) -> Layout:
        """uint8 (channels, num_frames, size, size)."""
        return "video"

    @property
    def channels(self) -> int:
        """3 colours, or grey."""
        return 1 if self.order == "grey" else 3

    def probe(self, file: Path) -> float | None:
        """Seconds, after decoding the first frame; see `Extractor.probe`."""
        return probe_video(file).duration

    def __call__(self, file: Path, *, span: Span = WHOLE, companion: Path | None = None) -> Extracted:
        """The frames; `companion` is a CSV of 68 landmarks in pixels of the frames. See `Extractor`."""
        if self.face == "crop":
            frames, times, notes = read_frames(file, self.num_frames, span)
            pictures, found = self._faces(file, frames, times, companion)
            notes += found
        else:  # frame by frame: 32 of 1080p would take 200 MB
            shrink = partial(resize, size=self.size, fit=self.fit)
            pictures, _, notes = read_frames(file, self.num_frames, span, shrink)
        return Extracted(np.ascontiguousarray(_ordered(pictures, self.order).transpose(3, 0, 1, 2)), notes)

    def _faces(
        self, file: Path, frames: np.ndarray, times: np.ndarray, companion: Path | None
    ) -> tuple[np.ndarray, list[str]]:
        from msafusion.data.media.face import boxes_from_landmarks, crop_faces, face_boxes

        height, width = frames.shape[1:3]
        try:
            boxes, notes = face_boxes(frames) if companion is None else boxes_from_landmarks(companion, times)
        except DataError as error:
            # the boxes do not know of which file the frames are
            raise type(error)(f"'{file}': {error}") from None
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        if companion is not None and ((centres < 0) | (centres > [width, height])).all(axis=0).any():
            raise DataError(
                f"'{companion}' has landmarks outside of the frames of '{file}' ({width} x {height} pixels), expected "
                "them in pixels of these frames; give the video that they were found in, or no landmarks."
            )
        if self.squeeze_first:
            frames = np.stack([resize(frame, self.size, "squeeze") for frame in frames])
            boxes = boxes * np.tile([self.size / width, self.size / height], 2)
        return crop_faces(frames, boxes, self.size, self.margin), notes


def resize(frame: np.ndarray, size: int, fit: Fit) -> np.ndarray:
    """One frame uint8 (height, width, 3) to (size, size, 3), by Pillow's antialiased bilinear filter."""
    from PIL import Image

    height, width = frame.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side) if fit == "centre" else None
    image = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def _ordered(pictures: np.ndarray, order: Order) -> np.ndarray:
    if order == "grey":  # ITU-R BT.601, as Pillow and OpenCV
        return np.round(pictures @ np.array([0.299, 0.587, 0.114], np.float32))[..., None].astype(np.uint8)
    return pictures[..., ::-1] if order == "bgr" else pictures
