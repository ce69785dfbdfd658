"""Small 1D convolutional networks for signals such as inertial sensors, and for clips of small frames."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

FRAME = (8, 10)
"""Height and width to which `FrameCNN1d` averages frames."""
SMALL = 1e-5
"""Added to variances, so that the gradient of the deviation of equal values is finite."""
Pool = Literal["mean", "max", "statistics"]
"""What is taken of the features over time; statistics: mean, maximum and standard deviation side by side."""


class CNN1d(nn.Module):
    """Stages of convolution, batch norm and ReLU, each but the last halving time; pooling over time; linear.

    The stages are the submodules `stage1`, `stage2`, ...: their outputs, (batch, widths[i], time), are good places to
    fuse at. Any length of at least 2 ** (len(widths) - 1) steps.

    Args:
        in_channels: channels of the signal.
        num_outputs: classes, or regression targets.
        widths: channels of each stage.
        kernel_size: of every convolution, odd, in time steps.
        dropout: before the linear map.
        pool: mean over time; max, for what shows in a part of the signal only; or statistics: mean, maximum and
            standard deviation side by side (Snyder et al. 2018, doi 10.1109/ICASSP.2018.8461375, without the maximum).

    Examples:
        >>> import torch
        >>> from msafusion.backbones import CNN1d
        >>> net = CNN1d(3, num_outputs=7)
        >>> net(torch.randn(8, 3, 200)).shape
        torch.Size([8, 7])
        >>> net.stage2(net.stage1(torch.randn(8, 3, 200))).shape
        torch.Size([8, 64, 50])
    """

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        widths: Sequence[int] = (32, 64, 128),
        kernel_size: int = 7,
        dropout: float = 0.3,
        pool: Pool = "mean",
    ) -> None:
        super().__init__()
        self.pool: Pool = pool
        self.stages = [f"stage{i + 1}" for i in range(len(widths))]
        for i, (name, width) in enumerate(zip(self.stages, widths, strict=True)):
            before = widths[i - 1] if i else in_channels
            conv = nn.Conv1d(before, width, kernel_size, padding=kernel_size // 2, bias=False)
            halved = nn.MaxPool1d(2) if i + 1 < len(widths) else nn.Identity()
            self.add_module(name, nn.Sequential(conv, nn.BatchNorm1d(width), nn.ReLU(), halved))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(widths[-1] * (3 if pool == "statistics" else 1), num_outputs)

    def forward(
        self, signal: Float[Tensor, "batch channels time"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch outputs"]:
        """Logits of a batch of signals.

        Args:
            signal: any length.
            lengths: real steps of each signal; what follows is taken for zeros and left out of the mean.
        """
        features = signal if lengths is None else signal * _real(lengths, signal.shape[2], signal.shape[2])
        for name in self.stages:
            features = self.get_submodule(name)(features)
            if lengths is not None:
                features = features * _real(lengths, signal.shape[2], features.shape[2])
        return self.fc(self.dropout(self._pooled(features, lengths, signal.shape[2])))

    def _pooled(self, features: Tensor, lengths: Tensor | None, before: int) -> Tensor:
        """(batch, width), or three times that; `features` of padded steps are 0."""
        if self.pool == "max":  # of what is 0 or more, so that padding does not count
            return torch.amax(features, dim=2)
        if lengths is None:
            mean, squares = torch.mean(features, dim=2), torch.mean(features.square(), dim=2)
        else:
            real = _real(lengths, before, features.shape[2]).sum(dim=2).clamp(min=1)
            mean, squares = features.sum(dim=2) / real, features.square().sum(dim=2) / real
        if self.pool == "mean":
            return mean
        deviation = (
            (squares - mean.square()).clamp(min=0) + SMALL
        ).sqrt()  # whose gradient is finite where all is equal
        return torch.cat([mean, torch.amax(features, dim=2), deviation], dim=1)


class FrameCNN1d(CNN1d):
    """`CNN1d` on frames of 8 x 10 grey values: for clips of small frames that are cut alike, such as lips.

    Every frame is averaged to the grid, whose values are the channels of a signal. On AVLetters' lips it was better
    than `CNN3d` at a thirtieth of its cost (docs/log.md). Fuse at `stage1`, ... (batch, widths[i], time).

    Args:
        in_channels: of the frames.
        num_outputs: classes, or regression targets.
        widths: channels of each stage.
        kernel_size: of every convolution, odd, in frames.
        dropout: before the linear map.
        pool: as of `CNN1d`.

    Examples:
        >>> import torch
        >>> from msafusion.backbones import FrameCNN1d
        >>> net = FrameCNN1d(1, num_outputs=26)
        >>> net(torch.randn(8, 1, 25, 60, 80)).shape
        torch.Size([8, 26])
    """

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        widths: Sequence[int] = (32, 64, 128),
        kernel_size: int = 7,
        dropout: float = 0.3,
        pool: Pool = "max",
    ) -> None:
        super().__init__(in_channels * FRAME[0] * FRAME[1], num_outputs, widths, kernel_size, dropout, pool)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # another kind of input
        self, video: Float[Tensor, "batch channels time height width"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch outputs"]:
        """Logits of a batch of clips.

        Args:
            video: any size.
            lengths: real frames of each clip.
        """
        batch, time = video.shape[0], video.shape[2]
        frames = functional.adaptive_avg_pool2d(video.transpose(1, 2).flatten(0, 1), FRAME)
        return super().forward(frames.reshape(batch, time, -1).transpose(1, 2), lengths)


def _real(lengths: Tensor, before: int, now: int) -> Tensor:
    """(batch, 1, now): 1 where a step is real after `before` steps have become `now`, 0 elsewhere."""
    scaled = (lengths * now + before - 1) // before
    return (torch.arange(now, device=lengths.device) < scaled.unsqueeze(1)).unsqueeze(1).float()
