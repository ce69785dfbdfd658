"""What happens to stored streams before a network sees them, in training and in use alike."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from msafusion.streams import nearest


class DataError(ValueError):
    """The data are not what the reader expects; the message says which file, what was expected and what to do."""


class Preprocessing(ABC):
    """Saved with a model, so that it sees in use what it saw in training. Add a dataclass and a line to KINDS."""

    @abstractmethod
    def num_channels(self) -> dict[str, int]:
        """Stream name -> channels."""

    @abstractmethod
    def __call__(self, recording: Mapping[str, np.ndarray | Tensor]) -> dict[str, Tensor]:
        """One raw recording to a batch for the network.

        Raises:
            DataError: the recording does not fit.
        """

    def inputs(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A batch of stored streams to the network's inputs; runs on the batch's device."""
        return dict(stored)

    def augmented(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same with random changes, drawn for each sample: what training sees."""
        return self.inputs(stored)

    def as_dict(self) -> dict[str, Any]:
        """Kind and plain numbers, for a saved model's configuration; see `preprocessing_from`."""
        return {"kind": type(self).__name__, **asdict(self)}  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Windows(Preprocessing):
    """Cuts recordings into windows and standardises their channels: what happens to raw signals before a network.

    Attributes:
        rate: samples per second of the recordings (Hz).
        steps: time steps of a window.
        hop: time steps between the starts of two windows.
        mean, std: per stream and channel, of the training recordings, in the recording's units.
    """

    rate: float
    steps: int
    hop: int
    mean: dict[str, list[float]]
    std: dict[str, list[float]]

    def num_channels(self) -> dict[str, int]:
        """Stream name -> channels."""
        return {name: len(values) for name, values in self.mean.items()}

    @classmethod
    def fitted(cls, recordings: Sequence[Mapping[str, np.ndarray]], rate: float, steps: int, hop: int) -> "Windows":
        """With the mean and standard deviation of the training recordings, {stream: (time, channels)} each."""
        stacked = {name: np.concatenate([recording[name] for recording in recordings]) for name in recordings[0]}
        mean = {name: values.mean(axis=0).tolist() for name, values in stacked.items()}
        std = {name: np.maximum(values.std(axis=0), 1e-8).tolist() for name, values in stacked.items()}
        return cls(rate, steps, hop, mean, std)

    def __call__(self, recording: Mapping[str, np.ndarray | Tensor]) -> dict[str, Tensor]:
        """{stream: (time, channels)} of one recording to {stream: float32 (windows, channels, steps)}.

        Raises:
            DataError: an unknown stream, the wrong number of channels, streams of different lengths, fewer time steps
                than one window, or values that are not finite.
        """
        if not isinstance(recording, Mapping):
            raise DataError(f"the recording is a {type(recording).__name__}, expected {{stream: (time, channels)}}.")
        arrays = {name: np.asarray(values, dtype=np.float64) for name, values in recording.items()}
        lengths = {name: len(values) for name, values in arrays.items()}
        for name, values in arrays.items():
            if name not in self.mean:
                raise DataError(f"unknown stream '{name}', expected {', '.join(self.mean)}; rename or leave it out.")
            if values.ndim != 2 or values.shape[1] != len(self.mean[name]):
                raise DataError(
                    f"stream '{name}' has shape {values.shape}, expected (time, {len(self.mean[name])}); "
                    "give it one column a channel."
                )
            if len(values) < self.steps:
                raise DataError(
                    f"stream '{name}' has {len(values)} time steps, expected at least {self.steps} "
                    f"({self.steps / self.rate:g} s at {self.rate:g} Hz); record longer or resample."
                )
            if not np.isfinite(values).all():
                raise DataError(f"stream '{name}' holds NaN or infinity, expected finite values; clean the recording.")
        if len(set(lengths.values())) > 1:
            raise DataError(f"the streams have {lengths} time steps, expected equal ones; align them first.")
        return {name: self._cut(name, values) for name, values in arrays.items()}

    def _cut(self, name: str, values: np.ndarray) -> Tensor:
        standard = (values - np.array(self.mean[name])) / np.array(self.std[name])
        windows = np.lib.stride_tricks.sliding_window_view(standard, self.steps, axis=0)[:: self.hop]
        return torch.from_numpy(np.ascontiguousarray(windows)).float()


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
            the whole frame is resized in use. None: a random crop of `size` in training, the central one in use.
        flip: mirror half of the clips in training, all video streams of a clip alike.
        least_steps: stream -> steps that a sequence (time, channels) gets at least, by zeros at its end.
    """

    channels: dict[str, int]
    mean: dict[str, list[float]] = field(default_factory=dict)
    std: dict[str, list[float]] = field(default_factory=dict)
    size: int | None = None
    crop_area: Sequence[float] | None = None
    flip: bool = False
    least_steps: dict[str, int] = field(default_factory=dict)

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
            kind = "video" if name in self.mean else "sequence" if name in self.least_steps else "map"
            wanted = layout_missed(values, count, kind)
            if wanted or not np.isfinite(values).all():
                raise DataError(
                    f"stream '{name}' is {values.dtype} {values.shape}, expected finite {wanted or 'values'} of one "
                    "clip; give it as it is prepared."
                )
            missing = self.least_steps.get(name, 0) - len(values)
            values = np.pad(values, [(0, missing), (0, 0)]) if missing > 0 else values
            batch[name] = torch.as_tensor(values.astype(np.float32) if values.dtype.kind == "f" else values)[None]
        return self.inputs(batch)

    def inputs(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Standardised; the central crop where frames are larger than `size`."""
        return {name: self._standardised(name, self._central(name, values)) for name, values in stored.items()}

    def augmented(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Standardised random crops, flipped or not."""
        videos = {name: values for name, values in stored.items() if name in self.mean}
        results = dict(stored)
        for name, video in videos.items():
            results[name] = self._standardised(name, torch.stack([self._crop(clip) for clip in video]))
        some = next(iter(videos.values()), None)
        if self.flip and some is not None:
            mirrored = torch.rand(len(some), device=some.device) < 0.5
            for name in videos:
                video = results[name]
                results[name] = torch.where(mirrored.reshape(-1, 1, 1, 1, 1), video.flip(-1), video)
        return results

    def _standardised(self, name: str, values: Tensor) -> Tensor:
        if name not in self.mean:
            return values
        mean, std = (values.new_tensor(numbers, dtype=torch.float32) for numbers in (self.mean[name], self.std[name]))
        shape = (-1, 1, 1, 1)
        return (values.float() - 255 * mean.reshape(shape)) / (255 * std.reshape(shape))

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


def layout_missed(values: np.ndarray, channels: int, kind: Literal["video", "sequence", "map"]) -> str:
    """The layout that an array of a stream of whole clips should have and has not; empty where it has."""
    if kind == "video":
        fits = values.ndim == 4 and len(values) == channels and values.dtype == np.uint8
        return "" if fits else f"uint8 ({channels}, time, height, width)"
    if kind == "sequence":
        fits = values.ndim == 2 and len(values) > 0 and values.shape[1] == channels
        return "" if fits else f"(time, {channels})"
    return "" if values.ndim and len(values) == channels else f"({channels}, ...)"


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
    return resized if video.is_floating_point() else resized.round().clamp(0, 255).to(video.dtype)


KINDS: dict[str, type[Preprocessing]] = {"Windows": Windows, "Clips": Clips}
"""Name -> preprocessing."""


def preprocessing_from(saved: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that `Preprocessing.as_dict` describes.

    Raises:
        ValueError: its kind is unknown to this version.
    """
    options = {name: value for name, value in saved.items() if name != "kind"}
    kind = saved.get("kind", "Windows")
    if kind not in KINDS:
        raise ValueError(f"unknown preprocessing {kind!r}; {nearest(kind, KINDS)}")
    return KINDS[kind](**options)
