"""Small networks for vectors, images and videos, with the stages of `CNN1d`."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

GRID = 4
"""Places along height and along width that `CNN3d` tells apart."""
MANY = 100
"""Values of a vector from which on it gets all the noise that `MLP` adds."""


class MLP(nn.Module):
    """Noise on the input in training; stages of linear map, batch norm, ReLU and dropout; linear.

    The vectors should be standardised, so that the noise suits them: it keeps a network with few samples from resting
    on single values (Bishop 1995, doi 10.1162/neco.1995.7.1.108). The stages are the submodules `stage1`, `stage2`,
    ...: fuse at their outputs, (batch, widths[i]).

    Args:
        in_channels: length of the vector.
        num_outputs: classes, or regression targets.
        widths: channels of each stage.
        dropout: after every stage.
        noise: standard deviation of what is added to each value in training; less, as the root of their number, for
            vectors of fewer than 100 values, of which each says more.

    Examples:
        >>> import torch
        >>> from msafusion.backbones import MLP
        >>> net = MLP(20, num_outputs=7)
        >>> net(torch.randn(8, 20)).shape
        torch.Size([8, 7])
    """

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        widths: Sequence[int] = (32, 64, 128),
        dropout: float = 0.3,
        noise: float = 0.5,
    ) -> None:
        super().__init__()
        self.noise = noise * min(1.0, in_channels / MANY) ** 0.5
        self.stages = [f"stage{i + 1}" for i in range(len(widths))]
        for name, before, width in zip(self.stages, (in_channels, *widths), widths, strict=False):
            layers = nn.Linear(before, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)
            self.add_module(name, nn.Sequential(*layers))
        self.fc = nn.Linear(widths[-1], num_outputs)

    def forward(self, vector: Float[Tensor, "batch channels"]) -> Float[Tensor, "batch outputs"]:
        """Logits of a batch of vectors."""
        features = vector + self.noise * torch.randn_like(vector) if self.training and self.noise else vector
        for name in self.stages:
            features = self.get_submodule(name)(features)
        return self.fc(features)


class CNN2d(nn.Module):
    """Stages of 3x3 convolution, batch norm, ReLU and pooling; mean over what is left; linear.

    Every stage halves height and width, the first twice. Fuse at `stage1`, `stage2`, ...: (batch, widths[i], height,
    width).

    Args:
        in_channels: of the image.
        num_outputs: classes, or regression targets.
        widths: channels of each stage.
        dropout: before the linear map.

    Examples:
        >>> import torch
        >>> from msafusion.backbones import CNN2d
        >>> net = CNN2d(3, num_outputs=7)
        >>> net(torch.randn(8, 3, 32, 32)).shape
        torch.Size([8, 7])
    """

    def __init__(
        self, in_channels: int, num_outputs: int, widths: Sequence[int] = (32, 64, 128), dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.stages = [f"stage{i + 1}" for i in range(len(widths))]
        for i, (name, before, width) in enumerate(zip(self.stages, (in_channels, *widths), widths, strict=False)):
            conv = nn.Conv2d(before, width, 3 if i else 5, 1 if i else 2, padding=1 if i else 2, bias=False)
            pool = nn.MaxPool2d(2, ceil_mode=True)
            self.add_module(name, nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(), pool))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(widths[-1], num_outputs)

    def forward(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch outputs"]:
        """Logits of a batch of images."""
        features = image
        for name in self.stages:
            features = self.get_submodule(name)(features)
        return self.fc(self.dropout(features.flatten(2).mean(dim=2)))


class CNN3d(nn.Module):
    """A network for short clips of small frames: what moves where, and the moment when it shows most.

    Stages of 3x3x3 convolution, batch norm, ReLU and pooling over space (the first stage halves it twice); what is left
    of every frame as a grid of 4 x 4 places, side by side; a convolution over 5 frames (`temporal`); the maximum over
    time; linear. Time keeps its steps. Fuse at `stage1`, `stage2`, ... (batch, widths[i], time, height, width) or
    `temporal` (batch, 2 * widths[-1], time). On AVLetters' lips a mean over space and time instead learnt nothing
    (docs/log.md).

    Args:
        in_channels: of the frames.
        num_outputs: classes, or regression targets.
        widths: channels of each stage.
        dropout: before the convolution over time, and before the linear map.

    Examples:
        >>> import torch
        >>> from msafusion.backbones import CNN3d
        >>> net = CNN3d(3, num_outputs=7)
        >>> net(torch.randn(2, 3, 10, 32, 32)).shape
        torch.Size([2, 7])
    """

    def __init__(
        self, in_channels: int, num_outputs: int, widths: Sequence[int] = (16, 32, 64), dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.stages = [f"stage{i + 1}" for i in range(len(widths))]
        for i, (name, before, width) in enumerate(zip(self.stages, (in_channels, *widths), widths, strict=False)):
            if i:
                conv = nn.Conv3d(before, width, 3, padding=1, bias=False)
            else:
                conv = nn.Conv3d(before, width, (3, 5, 5), (1, 2, 2), padding=(1, 2, 2), bias=False)
            pool = nn.MaxPool3d((1, 2, 2), ceil_mode=True)
            self.add_module(name, nn.Sequential(conv, nn.BatchNorm3d(width), nn.ReLU(), pool))
        self.dropout = nn.Dropout(dropout)
        hidden = 2 * widths[-1]
        conv = nn.Conv1d(widths[-1] * GRID**2, hidden, 5, padding=2, bias=False)
        self.temporal = nn.Sequential(conv, nn.BatchNorm1d(hidden), nn.ReLU())
        self.fc = nn.Linear(hidden, num_outputs)

    def forward(self, video: Float[Tensor, "batch channels time height width"]) -> Float[Tensor, "batch outputs"]:
        """Logits of a batch of clips."""
        features = video
        for name in self.stages:
            features = self.get_submodule(name)(features)
        batch, channels, time = features.shape[:3]
        frames = features.transpose(1, 2).flatten(0, 1)  # (batch * time, channels, height, width)
        places = functional.adaptive_avg_pool2d(frames, GRID).reshape(batch, time, channels * GRID**2)
        return self.fc(self.dropout(self.temporal(self.dropout(places.transpose(1, 2))).amax(dim=2)))
