"""The MATLAB files of UTD-MHAD: skeleton, inertial and depth sequences, one variable a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from msafusion.data.checks import check_finite
from msafusion.data.media.extraction import WHOLE, Extracted, Extractor, Span, StreamMissing
from msafusion.data.media.timeline import middles, part, resample
from msafusion.data.preprocessing import Layout
from msafusion.failures import DataError
from msafusion.files.matlab5 import numeric_part
from msafusion.files.reading import reading
from msafusion.streams import check_count

NUM_JOINTS = 20
HIP_CENTRE = 3
"""Joint 4 of 20 (head, shoulder centre, spine, hip centre, left arm, right arm, left leg, right leg), from 0."""
INERTIAL_RATE = 50.0
KINECT_RATE = 19.3
"""Frames a second that fit the inertial sequences, which are 2.59 steps longer a frame (a line through the lengths of
all 861 pairs, correlation 0.94); the paper says 30."""


def read_variable(file: Path, name: str, shape: Sequence[int | None], unit: str) -> np.ndarray:
    """One numeric array of a .mat file, checked; None in `shape` stands for any length from 1.

    Raises:
        DataError: no such file, no MATLAB file, another variable, type or shape, or values that are not finite.
    """
    from scipy.io import loadmat

    wanted = f"'{name}' ({', '.join('time' if length is None else str(length) for length in shape)})"
    with reading(file, wanted, "download it again"):
        variables = loadmat(numeric_part(file, wanted), variable_names=[name], appendmat=False)
    values = variables.get(name)
    if values is None:
        raise DataError(f"'{file}' holds no such variable of numbers, expected {wanted}; download it again.")
    fits = isinstance(values, np.ndarray) and values.dtype.kind in "iuf" and values.ndim == len(shape)
    if not fits or any(
        got == 0 if length is None else got != length for got, length in zip(values.shape, shape, strict=True)
    ):
        got = f"{getattr(values, 'dtype', type(values).__name__)} {getattr(values, 'shape', '')}".strip()
        raise DataError(f"'{file}' holds {got}, expected {wanted} in {unit}; download it again.")
    check_finite(values, f"'{file}', {wanted} in {unit},", "download it again")
    return values


@dataclass(frozen=True)
class UtdSkeleton(Extractor):
    """20 joints: (time, 60) float32, metres, three columns (x, y, z) a joint.

    Attributes:
        origin: what positions are relative to: the hip centre in each "frame", that in the first frame of the "clip"
            (which keeps how the body moves through the room), or the camera ("none").
        num_steps: resampled linearly to so many steps; None: as recorded.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from scipy.io import savemat
        >>> from msafusion.data.media import UtdSkeleton
        >>> with TemporaryDirectory() as folder:
        ...     savemat(f"{folder}/a.mat", {"d_skel": np.random.randn(20, 3, 60)})
        ...     UtdSkeleton(origin="frame")(Path(folder, "a.mat")).values.shape
        (60, 60)
    """

    suffixes: ClassVar = (".mat",)
    origin: Literal["frame", "clip", "none"] = "clip"
    num_steps: int | None = None

    def __post_init__(self) -> None:
        check_count("num_steps", 1 if self.num_steps is None else self.num_steps)
        if self.origin not in ("frame", "clip", "none"):
            raise ValueError(f"origin is '{self.origin}', expected frame, clip or none; choose one of them.")

    @property
    def layout(self) -> Layout:
        """(time, 60)."""
        return "sequence"

    @property
    def channels(self) -> int:
        """x, y and z of each joint."""
        return 3 * NUM_JOINTS

    def probe(self, file: Path) -> float:
        """Seconds; the small file is read whole."""
        return len(self._read(file)) / KINECT_RATE

    def __call__(self, file: Path, *, span: Span = WHOLE, companion: Path | None = None) -> Extracted:
        """The joints of the span."""
        joints = self._read(file)
        joints = joints[part(span, len(joints), KINECT_RATE, file)]
        if self.origin != "none":
            centre = joints[:, HIP_CENTRE : HIP_CENTRE + 1]
            joints = joints - (centre if self.origin == "frame" else centre[:1])
        joints = joints.reshape(len(joints), -1).astype(np.float32)
        return Extracted(joints if self.num_steps is None else resample(joints, self.num_steps))

    def _read(self, file: Path) -> np.ndarray:
        """(time, 20, 3)."""
        return read_variable(file, "d_skel", (NUM_JOINTS, 3, None), "metres").transpose(2, 0, 1)


@dataclass(frozen=True)
class UtdInertial(Extractor):
    """The sensor on wrist or thigh: (time, 6) float32: accelerometer (g) and gyroscope (degrees a second), 50 Hz.

    Attributes:
        num_steps: resampled linearly to so many steps; None: as recorded.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from scipy.io import savemat
        >>> from msafusion.data.media import UtdInertial
        >>> with TemporaryDirectory() as folder:
        ...     savemat(f"{folder}/a.mat", {"d_iner": np.random.randn(180, 6)})
        ...     UtdInertial(num_steps=90)(Path(folder, "a.mat")).values.shape
        (90, 6)
    """

    suffixes: ClassVar = (".mat",)
    num_steps: int | None = None

    def __post_init__(self) -> None:
        check_count("num_steps", 1 if self.num_steps is None else self.num_steps)

    @property
    def layout(self) -> Layout:
        """(time, 6)."""
        return "sequence"

    @property
    def channels(self) -> int:
        """Three axes of the accelerometer, three of the gyroscope."""
        return 6

    def probe(self, file: Path) -> float:
        """Seconds; the small file is read whole."""
        return len(self._read(file)) / INERTIAL_RATE

    def __call__(self, file: Path, *, span: Span = WHOLE, companion: Path | None = None) -> Extracted:
        """The readings of the span."""
        readings = self._read(file).astype(np.float32)
        readings = readings[part(span, len(readings), INERTIAL_RATE, file)]
        return Extracted(readings if self.num_steps is None else resample(readings, self.num_steps))

    def _read(self, file: Path) -> np.ndarray:
        return read_variable(file, "d_iner", (None, self.channels), "g and degrees a second")


@dataclass(frozen=True)
class UtdDepth(Extractor):
    """Depth maps as grey video: uint8 (1, num_frames, size, size); 0 where nothing was measured.

    Depths from `near` to `far` become 1 to 255; what lies outside is clipped. The real files have their background cut
    away: what is left lies between 2174 and 3975 mm.

    Attributes:
        num_frames: those in the middle of as many equal parts of the span.
        size: height and width (pixels): the 240 x 320 map is squeezed, taking the nearest pixel, as a mean over an
            edge would be a depth where nothing is.
        near, far: millimetres.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from scipy.io import savemat
        >>> from msafusion.data.media import UtdDepth
        >>> with TemporaryDirectory() as folder:
        ...     savemat(f"{folder}/a.mat", {"d_depth": np.full((240, 320, 20), 2500, np.uint16)})
        ...     UtdDepth(num_frames=4, size=32)(Path(folder, "a.mat")).values.shape
        (1, 4, 32, 32)
    """

    suffixes: ClassVar = (".mat",)
    num_frames: int = 16
    size: int = 112
    near: int = 2000
    far: int = 4000

    def __post_init__(self) -> None:
        check_count("num_frames", self.num_frames)
        check_count("size", self.size)
        if not 0 <= self.near < self.far:
            raise ValueError(f"near is {self.near} and far {self.far} mm, expected 0 <= near < far; change them.")

    @property
    def layout(self) -> Layout:
        """uint8 (1, num_frames, size, size)."""
        return "video"

    @property
    def channels(self) -> int:
        """One: the depth."""
        return 1

    def probe(self, file: Path) -> float:
        """Seconds; the file is unpacked whole, as it can break anywhere."""
        return self._read(file).shape[2] / KINECT_RATE

    def __call__(self, file: Path, *, span: Span = WHOLE, companion: Path | None = None) -> Extracted:
        """The frames of the span."""
        maps = self._read(file)
        steps = part(span, maps.shape[2], KINECT_RATE, file)
        rows, columns = (middles(length, self.size) for length in maps.shape[:2])
        frames = steps.start + middles(steps.stop - steps.start, self.num_frames)
        depth = maps[np.ix_(rows, columns, frames)].transpose(2, 0, 1).astype(np.float32)
        grey = 1 + 254 * (depth - self.near) / (self.far - self.near)
        values = np.where(depth > 0, grey.clip(1, 255).round(), 0).astype(np.uint8)
        measured = depth[depth > 0]
        if not measured.size:
            raise StreamMissing(f"'{file}' has no depth above 0 in its frames, expected a body; leave the sample out.")
        outside = float(((measured < self.near) | (measured > self.far)).mean())
        notes = [f"{outside:.0%} of the depths clipped to {self.near}-{self.far} mm"] if outside > 0.01 else []
        return Extracted(np.ascontiguousarray(values[None]), notes)

    def _read(self, file: Path) -> np.ndarray:
        return read_variable(file, "d_depth", (240, 320, None), "millimetres")
