"""Video as the reference's NTU RGB+D networks were trained on it, mistakes included; for its published weights only."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from msafusion.data.media.container import VIDEOS, decode, open_container, track, undecoded_notes
from msafusion.data.media.extraction import WHOLE, Extracted, Extractor, Span
from msafusion.data.media.timeline import part
from msafusion.data.media.video import probe_video
from msafusion.data.preprocessing import Layout
from msafusion.failures import DataError
from msafusion.streams import check_count

NUM_READ = 24


@dataclass(frozen=True)
class NtuReferenceFrames(Extractor):
    """BGR frames squeezed to (3, num_frames, size, size) uint8.

    24 frames are taken at linspace(0, number of frames, 24): the last is beyond the clip and stays black. They are
    repeated (or thinned) to `num_frames` by rounding down. Use `Frames` for anything else.

    Attributes:
        num_frames: 32 for I3D, 8 for the inflated ResNet-50.
        size: height and width (pixels), resized by swscale's bicubic filter as `ffmpeg -vf scale` does.
    """

    suffixes: ClassVar = VIDEOS
    num_frames: int = 32
    size: int = 256

    def __post_init__(self) -> None:
        check_count("num_frames", self.num_frames)
        check_count("size", self.size)

    @property
    def layout(self) -> Layout:
        """uint8 (3, num_frames, size, size)."""
        return "video"

    @property
    def channels(self) -> int:
        """Blue, green and red."""
        return 3

    def probe(self, file: Path) -> float:
        """Seconds, after decoding the first frame."""
        return probe_video(file).duration

    def __call__(self, file: Path, *, span: Span = WHOLE, companion: Path | None = None) -> Extracted:
        """The frames of the span; DataError where the file holds fewer frames than it says."""
        from av.video.reformatter import Interpolation

        read, filled, problems = np.zeros((NUM_READ, self.size, self.size, 3), np.uint8), 0, list[str]()
        with open_container(file) as container:
            stream, notes = track(file, container, "video")
            if not stream.frames or not stream.average_rate:
                raise DataError(f"'{file}' holds no video that tells its number of frames; give an .avi of NTU RGB+D.")
            steps = part(span, stream.frames, float(stream.average_rate), file)
            taken = steps.start + np.linspace(0, steps.stop - steps.start, NUM_READ).astype(int)
            wanted = set(taken.tolist()) - {steps.stop}
            for number, frame in enumerate(decode(container, stream, problems)):
                if number in wanted:
                    read[filled] = frame.to_ndarray(
                        width=self.size, height=self.size, format="bgr24", interpolation=Interpolation.BICUBIC
                    )
                    filled += 1
                if filled == len(wanted):
                    break
            if filled < len(wanted):
                raise DataError(f"'{file}' ends early, expected {stream.frames} frames as it says; download it again.")
        values = read[np.linspace(0, NUM_READ - 1, self.num_frames).astype(int)]
        return Extracted(np.ascontiguousarray(values.transpose(3, 0, 1, 2)), [*notes, *undecoded_notes(problems)])
