"""Random changes of recordings in training."""

from dataclasses import dataclass

import torch
from torch import Tensor

from msafusion.streams import check_option

LIMITS = {"shift": 1.0, "noise": 100.0, "scale": 1.0, "drop": 1.0, "mix": 1.0, "offset": 100.0}
"""Largest values."""


@dataclass(frozen=True, kw_only=True)
class SignalAugmentation:
    """Random changes of standardised signals; see `Augmentation` for the attributes."""

    noise: float = 0.0
    scale: float = 0.0
    drop: float = 0.0
    mix: float = 0.0
    offset: float = 0.0

    def change(self, signal: Tensor) -> Tensor:
        """Change signals (batch, channels, time), or other values (batch, ...), each sample by itself."""
        each = (len(signal), *[1] * (signal.dim() - 1))
        if self.mix and signal.dim() == 3:
            channels = signal.shape[1]
            noise = torch.randn(len(signal), channels, channels, device=signal.device)
            signal = signal + self.mix * min(1.0, (3 / channels) ** 0.5) * (noise @ signal)
        if self.offset and signal.dim() == 3:
            signal = signal + self.offset * torch.randn(*signal.shape[:2], 1, device=signal.device)
        if self.scale:
            signal = signal * torch.empty(each, device=signal.device).uniform_(1 - self.scale, 1 + self.scale)
        if self.noise:
            signal = signal + self.noise * torch.randn_like(signal)
        if self.drop and signal.dim() == 3:
            steps = signal.shape[2]
            length = torch.rand(each, device=signal.device) * steps / 4
            start = torch.rand(each, device=signal.device) * (steps - length)
            lost = torch.rand(each, device=signal.device) < self.drop
            step = torch.arange(steps, device=signal.device)
            signal = signal.masked_fill(lost & (step >= start) & (step < start + length), 0)
        return signal


@dataclass(frozen=True, kw_only=True)
class Augmentation(SignalAugmentation):
    """Random changes of recordings in training, drawn again for each sample.

    Attributes:
        flip: half of the video clips are mirrored.
        shift: clips of video are moved by up to this part of the frame's height and width, the edge repeated; one move
            for a clip, the same in all its videos.
        noise: standard deviation of the noise on standardised signals.
        scale: every signal is multiplied by a random factor between 1 - scale and 1 + scale.
        drop: the probability that a signal loses a stretch of up to a quarter of its time.
        mix: the channels of a signal are mixed by the identity matrix plus normal noise of this standard deviation
            (less for more than three channels), as if the sensor were worn at a slightly different angle.
        offset: standard deviation of a constant that is added to each channel of a standardised signal.

    Raises:
        ValueError: a number out of range.

    Examples:
        >>> from msafusion.data.preprocessing import Augmentation
        >>> Augmentation(flip=True, noise=0.1)
        Augmentation(noise=0.1, scale=0.0, drop=0.0, mix=0.0, offset=0.0, flip=True, shift=0.0)
    """

    flip: bool = False
    shift: float = 0.0

    def __post_init__(self) -> None:
        for name, most in LIMITS.items():
            check_option(name, getattr(self, name), 0.0, most)
