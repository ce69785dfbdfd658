"""Whole clips: videos standardised, cropped and flipped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from msafusion.data.preprocessing.base import Layout, Preprocessing, layout_problem
from msafusion.failures import DataError

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
"""Mean and standard deviation of red, green and blue."""


@dataclass(frozen=True)
class Clips(Preprocessing):
    """Whole clips: uint8 video becomes standardised float, cropped and flipped at random in training.

    Attributes:
        channels: stream name -> channels.
        mean, std: by stream of uint8 video (batch, 3, time, height, width), of its channels after division by 255;
            streams not named pass as they are.
        size: height and width of the crop that the network sees (pixels); None: the whole frame.
        crop_area: least and greatest area of a random crop, as a part of the frame's, drawn as torchvision's
            RandomResizedCrop does (a try that does not fit is drawn again, at last the frame itself), one for a clip;
            the whole frame is resized at inference. None: a random crop of `size` in training, the central
            one at inference.
        flip: mirror half of the clips in training, all video streams of a clip alike.
        min_steps: stream -> minimum number of steps of a sequence (time, channels), reached by zeros at its end.

    Examples:
        >>> import numpy as np
        >>> from msafusion.data.preprocessing import Clips
        >>> clips = Clips({"video": 3, "audio": 13}, mean={"video": [0.5] * 3}, std={"video": [0.25] * 3}, size=24)
        >>> recording = {"video": np.zeros((3, 8, 32, 32), np.uint8), "audio": np.random.randn(13, 50)}
        >>> {stream: tuple(values.shape) for stream, values in clips(recording).items()}
        {'video': (1, 3, 8, 24, 24), 'audio': (1, 13, 50)}
    """

    channels: dict[str, int]
    mean: dict[str, list[float]] = field(default_factory=dict)
    std: dict[str, list[float]] = field(default_factory=dict)
    size: int | None = None
    crop_area: Sequence[float] | None = None
    flip: bool = False
    min_steps: dict[str, int] = field(default_factory=dict)

    def num_channels(self) -> dict[str, int]:
        """Stream name -> channels."""
        return self.channels

    def __call__(self, recording: Mapping[str, np.ndarray | Tensor]) -> dict[str, Tensor]:
        """One clip, {stream: as it is stored}, to a batch of one."""
        if not isinstance(recording, Mapping):
            raise DataError(
                f"the recording is a {type(recording).__name__}, expected {{stream: array}}; name the streams."
            )
        batch = {}
        for name, given in recording.items():
            if name not in self.channels:
                raise DataError(
                    f"unknown stream '{name}', expected {', '.join(self.channels)}; rename or leave it out."
                )
            values, count = np.asarray(given), self.channels[name]
            if values.dtype.kind == "f":
                with np.errstate(over="ignore"):  # what is too large becomes infinite, and is told
                    values = values.astype(self._precision(name))
            wanted = layout_problem(values, count, self._layout(name))
            if wanted or not np.isfinite(values).all():
                raise DataError(
                    f"stream '{name}' is {values.dtype} {values.shape}, expected finite {wanted or 'values'} of one "
                    "clip; give it as it is prepared."
                )
            missing = self.min_steps.get(name, 0) - len(values)
            values = np.pad(values, [(0, missing), (0, 0)]) if missing > 0 else values
            batch[name] = torch.as_tensor(values)[None]
        return self.inputs(batch)

    def _precision(self, name: str) -> type[np.floating]:
        return np.float32

    def _layout(self, name: str) -> Layout:
        return "video" if name in self.mean else "sequence" if name in self.min_steps else "map"

    def inputs(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Standardised; the central crop where frames are larger than `size`."""
        return {name: self._standardised(name, self._central(name, values)) for name, values in stored.items()}

    def augmented(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Standardised random crops, flipped or not."""
        videos = {
            name: torch.stack([self._crop(clip) for clip in values])
            for name, values in stored.items()
            if name in self.mean
        }
        some = next(iter(videos.values()), None)
        if self.flip and some is not None:
            mirrored = (torch.rand(len(some), device=some.device) < 0.5).reshape(-1, 1, 1, 1, 1)
            # as stored: a quarter of the bytes of what the network sees
            videos = {name: torch.where(mirrored, video.flip(-1), video) for name, video in videos.items()}
        return {name: self._standardised(name, videos.get(name, values)) for name, values in stored.items()}

    def _standardised(self, name: str, values: Tensor) -> Tensor:
        if name not in self.mean:
            return values
        mean, std = (values.new_tensor(numbers, dtype=torch.float32) for numbers in (self.mean[name], self.std[name]))
        shape = (-1, 1, 1, 1)
        # in place: to page new memory in takes longer than to compute what goes there
        return values.to(torch.float32, copy=True).sub_(255 * mean.reshape(shape)).div_(255 * std.reshape(shape))

    def _central(self, name: str, video: Tensor) -> Tensor:
        if name not in self.mean or self.size is None or video.shape[-2:] == (self.size, self.size):
            return video
        if self.crop_area is not None or min(video.shape[-2:]) < self.size:
            return _resized(video, self.size)
        top, left = ((length - self.size) // 2 for length in video.shape[-2:])
        return video[..., top : top + self.size, left : left + self.size]

    def _crop(self, clip: Tensor) -> Tensor:
        """A random crop of (channels, time, height, width)."""
        height, width = clip.shape[-2:]
        if self.size is None:
            return clip
        if self.crop_area is None:
            if min(height, width) < self.size:
                return _resized(clip, self.size)
            tall = wide = self.size
        else:
            tall, wide = _crop_size(height, width, self.crop_area)
        top, left = (int(torch.randint(0, room + 1, ())) for room in (height - tall, width - wide))
        crop = clip[..., top : top + tall, left : left + wide]
        return crop if (tall, wide) == (self.size, self.size) else _resized(crop, self.size)


def _crop_size(height: int, width: int, area: Sequence[float]) -> tuple[int, int]:
    """Height and width of a random crop with a part of the frame's area and an aspect ratio from 3:4 to 4:3."""
    for _ in range(10):
        wanted = height * width * float(torch.empty(()).uniform_(*area))
        ratio = float(torch.empty(()).uniform_(-1, 1).mul(np.log(4 / 3)).exp())
        wide, tall = round((wanted * ratio) ** 0.5), round((wanted / ratio) ** 0.5)
        if 0 < wide <= width and 0 < tall <= height:
            return tall, wide
    return height, width


def _resized(video: Tensor, size: int) -> Tensor:
    """(..., time, height, width) with frames of size x size, in the type it came in."""
    frames = video.float().flatten(0, -3).unsqueeze(1)
    resized = functional.interpolate(frames, (size, size), mode="bilinear", align_corners=False, antialias=True)
    resized = resized.reshape(*video.shape[:-2], size, size)
    # weights are positive and sum to one, so that none leaves 0 to 255
    return resized if video.is_floating_point() else resized.round_().to(video.dtype)
