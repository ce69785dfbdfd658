"""Recordings of any layout, standardised channel by channel: the preprocessing for one's own data."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from msafusion.data.preprocessing.augmentation import Augmentation, SignalAugmentation
from msafusion.data.preprocessing.base import Layout
from msafusion.data.preprocessing.clips import Clips
from msafusion.failures import DataError
from msafusion.text import note

MIN_STEPS = 8
"""Shorter signals get zeros at their end: what three stages that halve time need."""
FLOAT32, FINE_ENOUGH = float(np.finfo(np.float32).eps), 1e-3
"""Relative step of float32, and the largest one of values as a part of their standard deviation that loses nothing."""
HARDLY, TINY = 0.1, 1e-30
"""The part from which on steps count in a note, and the least standard deviation by which float32 divides."""
MAX_NAMED = 10
QUARTILES, OF_NORMAL = (0.25, 0.5, 0.75), 1.349
"""OF_NORMAL: how far the quartiles of a normal distribution lie apart, in standard deviations."""


@dataclass(frozen=True)
class Standardize(SignalAugmentation, Clips):
    """Every channel minus its mean, divided by its standard deviation; sequences turned to (channels, time).

    Attributes:
        layouts: stream -> layout of its stored arrays. `mean` and `std` hold those of the video streams.
        signal_mean, signal_std: by stream of another layout, of each channel, in the stored unit.
        compressed: streams with heavy tails, whose signal_mean is the median and signal_std the spread of the quartiles
            (1.35 of it as one), and whose scaled values become their inverse hyperbolic sine: far ones their logarithm.
        shift, noise, scale, drop, mix, offset: what changes in training, see `Augmentation`.

    Examples:
        >>> import numpy as np
        >>> from msafusion.data.preprocessing import Standardize
        >>> mean, std = {"motion": [0.0, 9.81]}, {"motion": [1.0, 2.0]}
        >>> standardize = Standardize({"motion": 2}, layouts={"motion": "sequence"}, signal_mean=mean, signal_std=std)
        >>> standardize({"motion": np.random.randn(50, 2)})["motion"].shape
        torch.Size([1, 2, 50])
    """

    layouts: dict[str, Layout] = field(default_factory=dict)
    signal_mean: dict[str, list[float]] = field(default_factory=dict)
    signal_std: dict[str, list[float]] = field(default_factory=dict)
    compressed: list[str] = field(default_factory=list)
    shift: float = 0.0

    @classmethod
    def fitted(
        cls,
        samples: Sequence[Mapping[str, Tensor]],
        layouts: Mapping[str, Layout],
        augmentation: Augmentation | None = None,
        compressed: Collection[str] = (),
    ) -> "Standardize":
        """With the mean and standard deviation of training samples, {stream: stored array} each.

        Args:
            samples: at least one.
            layouts: of the streams to use.
            augmentation: random changes in training; None: no change.
            compressed: streams, no videos, that are scaled by median and quartiles, and compressed.

        Raises:
            DataError: the samples differ in their channels.
        """
        channels: dict[str, int] = {}
        mean: dict[str, list[float]] = {}
        std: dict[str, list[float]] = {}
        for stream, layout in layouts.items():
            axis = 1 if layout == "sequence" else 0
            counts = {sample[stream].shape[axis] for sample in samples}
            if len(counts) > 1:
                raise DataError(f"stream '{stream}' has {sorted(counts)} channels, expected one number; correct it.")
            channels[stream] = counts.pop()
            parts = [sample[stream].movedim(axis, 0).reshape(channels[stream], -1) for sample in samples]
            of_mean, of_std = _mean_and_std(parts)
            if stream in compressed:
                of_mean, of_std = _median_and_spread(parts, of_std)
            dtypes = {sample[stream].dtype for sample in samples}
            dtype = torch.float64 if torch.float64 in dtypes else samples[0][stream].dtype  # others hold all digits
            of_std = _usable(stream, of_mean, of_std, dtype)
            factor = 255.0 if layout == "video" else 1.0
            mean[stream], std[stream] = (of_mean / factor).tolist(), (of_std / factor).tolist()
        videos = [stream for stream, layout in layouts.items() if layout == "video"]
        others = [stream for stream in layouts if stream not in videos]
        return cls(
            channels,
            mean={stream: mean[stream] for stream in videos},
            std={stream: std[stream] for stream in videos},
            layouts=dict(layouts),
            signal_mean={stream: mean[stream] for stream in others},
            signal_std={stream: std[stream] for stream in others},
            compressed=[stream for stream in others if stream in compressed],
            **asdict(augmentation or Augmentation()),
        )

    def wide(self) -> set[str]:
        """Streams that have to come in float64, as float32 would lose their differences beside their mean."""
        return {name for name in self.signal_mean if self._is_wide(name)}

    def _is_wide(self, name: str) -> bool:
        channels = zip(self.signal_mean[name], self.signal_std[name], strict=True)
        return any(abs(mean) * FLOAT32 > FINE_ENOUGH * std for mean, std in channels)

    def _precision(self, name: str) -> type[np.floating]:
        return np.float64 if name in self.signal_mean and self._is_wide(name) else np.float32

    def _layout(self, name: str) -> Layout:
        return self.layouts[name]

    def inputs(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Standardised; sequences (batch, time, channels) become signals (batch, channels, time)."""
        videos = super().inputs({name: values for name, values in stored.items() if name in self.mean})
        return {name: videos[name] if name in videos else self._signal(name, stored[name]) for name in stored}

    def augmented(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same, moved, flipped, and with noise."""
        videos = super().augmented({name: values for name, values in stored.items() if name in self.mean})
        if self.shift and videos:
            first = next(iter(videos.values()))
            moves = torch.empty(len(first), 2).uniform_(-self.shift, self.shift)
            videos = {
                name: torch.stack([_moved(clip, move.tolist()) for clip, move in zip(video, moves, strict=True)])
                for name, video in videos.items()
            }
        results = dict(videos)
        for name in stored:
            if name not in videos:
                results[name] = self.change(self._signal(name, stored[name]))
        return {name: results[name] for name in stored}

    def _signal(self, name: str, values: Tensor) -> Tensor:
        if self.layouts[name] == "sequence":
            values = values.movedim(2, 1)
        precision = torch.float64 if self._is_wide(name) else torch.float32
        mean, std = (values.new_tensor(n[name], dtype=precision) for n in (self.signal_mean, self.signal_std))
        shape = (-1, *[1] * (values.dim() - 2))
        signal = ((values.to(precision) - mean.reshape(shape)) / std.reshape(shape)).float()
        signal = torch.asinh(signal) if name in self.compressed else signal
        short = MIN_STEPS - signal.shape[2] if self.layouts[name] == "sequence" else 0
        return functional.pad(signal, (0, short)) if short > 0 else signal


def _mean_and_std(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Of each channel of (channels, values) parts, in float64."""
    pivot = parts[0][:, :1].double()  # squares of values far from zero would leave no digits for their differences
    total, number = torch.zeros(2, len(pivot), dtype=torch.float64), 0
    for part in parts:
        values = part.double() - pivot
        total += torch.stack([values.sum(1), values.square().sum(1)])
        number += values.shape[1]
    shifted = total[0] / number
    return pivot[:, 0] + shifted, (total[1] / number - shifted.square()).clamp(min=0).sqrt()


def _median_and_spread(parts: Sequence[Tensor], std: Tensor) -> tuple[Tensor, Tensor]:
    """Of each channel, robust against heavy tails; the standard deviation where half of the values are one."""
    values = torch.cat([part.double() for part in parts], dim=1)
    low, median, high = (torch.from_numpy(np.quantile(values.numpy(), part, axis=1)) for part in QUARTILES)
    spread = (high - low) / OF_NORMAL
    return median, torch.where(spread > FLOAT32 * median.abs(), spread, std)


def _usable(stream: str, mean: Tensor, std: Tensor, dtype: torch.dtype) -> Tensor:
    """The standard deviations, 1 where a channel does not vary: a small difference at inference would blow it up.

    Says so, and where the differences are hardly larger than the steps of the type.
    """
    step = torch.finfo(dtype).eps * mean.abs() if dtype.is_floating_point else torch.zeros_like(mean)
    constant = std <= step.clamp(min=TINY)
    hardly = ~constant & (step > HARDLY * std)
    if constant.any():
        note(
            f"stream '{stream}': {_named(constant)} one value in all training samples, as far as "
            f"{_called(dtype)} can tell: constant, and only its mean is subtracted."
        )
    if hardly.any():
        note(
            f"stream '{stream}': {_named(hardly)} differences that {_called(dtype)} can hardly hold "
            "beside the mean; store it in float64, or with its mean subtracted."
        )
    return torch.where(constant, torch.ones_like(std), std)


def _called(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _named(chosen: Tensor) -> str:
    """Channels, counted from 0, and the verb."""
    numbers = chosen.nonzero().flatten().tolist()
    more = f" and {len(numbers) - MAX_NAMED} more" if len(numbers) > MAX_NAMED else ""
    several = len(numbers) > 1
    return f"channel{'s' * several} {', '.join(map(str, numbers[:MAX_NAMED]))}{more} {'have' if several else 'has'}"


def _moved(clip: Tensor, move: Sequence[float]) -> Tensor:
    """A clip (channels, time, height, width) moved by parts of its height and width, its edge repeated."""
    down, right = (round(part * length) for part, length in zip(move, clip.shape[-2:], strict=True))
    margins = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    height, width = clip.shape[-2:]
    padded = functional.pad(clip, margins, mode="replicate")
    return padded[..., max(-down, 0) : max(-down, 0) + height, max(-right, 0) : max(-right, 0) + width]
