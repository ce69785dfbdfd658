"""Small networks for vectors, images and videos, with the stages of `CNN1d`."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn


class MLP(nn.Module):
    """Stages of linear map, batch norm, ReLU and dropout; linear.

    The stages are the submodules `stage1`, `stage2`, ...: fuse at their outputs, (batch, widths[i]).

    Args:
        in_channels: length of the vector.
        num_outputs: classes, or regression targets.
        widths: channels of each stage.
        dropout: after every stage.
    """

    def __init__(
        self, in_channels: int, num_outputs: int, widths: Sequence[int] = (32, 64, 128), dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.stages = [f"stage{i + 1}" for i in range(len(widths))]
        for name, before, width in zip(self.stages, (in_channels, *widths), widths, strict=False):
            layers = nn.Linear(before, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)
            self.add_module(name, nn.Sequential(*layers))
        self.fc = nn.Linear(widths[-1], num_outputs)

    def forward(self, vector: Float[Tensor, "batch channels"]) -> Float[Tensor, "batch outputs"]:
        """Logits of a batch of vectors."""
        features = vector
        for name in self.stages:
            features = self.get_submodule(name)(features)
        return self.fc(features)


class _SpatialCNN(nn.Module):
    """What `CNN2d` and `CNN3d` share: every stage halves height and width, the first twice; mean; linear."""

    def __init__(self, num_outputs: int, stages: Sequence[nn.Module], width: int, dropout: float) -> None:
        super().__init__()
        self.stages = [f"stage{i + 1}" for i in range(len(stages))]
        for name, stage in zip(self.stages, stages, strict=True):
            self.add_module(name, stage)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(width, num_outputs)

    def _logits(self, features: Tensor) -> Tensor:
        for name in self.stages:
            features = self.get_submodule(name)(features)
        return self.fc(self.dropout(features.flatten(2).mean(dim=2)))


class CNN2d(_SpatialCNN):
    """Stages of 3x3 convolution, batch norm, ReLU and pooling over images of 16 x 16 pixels or more.

    Fuse at `stage1`, `stage2`, ...: (batch, widths[i], height, width).

    Args:
        in_channels: of the image.
        num_outputs: classes, or regression targets.
        widths: channels of each stage.
        dropout: before the linear map.
    """

    def __init__(
        self, in_channels: int, num_outputs: int, widths: Sequence[int] = (32, 64, 128), dropout: float = 0.3
    ) -> None:
        stages = []
        for i, (before, width) in enumerate(zip((in_channels, *widths), widths, strict=False)):
            conv = nn.Conv2d(before, width, 3 if i else 5, 1 if i else 2, padding=1 if i else 2, bias=False)
            pool = nn.MaxPool2d(2, ceil_mode=True)
            stages.append(nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(), pool))
        super().__init__(num_outputs, stages, widths[-1], dropout)

    def forward(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch outputs"]:
        """Logits of a batch of images."""
        return self._logits(image)


class CNN3d(_SpatialCNN):
    """Stages of 3x3x3 convolution, batch norm, ReLU and pooling over space: for short clips of small frames.

    Time keeps its steps, so that what moves is seen. Fuse at `stage1`, `stage2`, ...: (batch, widths[i], time, height,
    width).

    Args:
        in_channels: of the frames.
        num_outputs: classes, or regression targets.
        widths: channels of each stage.
        dropout: before the linear map.
    """

    def __init__(
        self, in_channels: int, num_outputs: int, widths: Sequence[int] = (16, 32, 64), dropout: float = 0.3
    ) -> None:
        stages = []
        for i, (before, width) in enumerate(zip((in_channels, *widths), widths, strict=False)):
            if i:
                conv = nn.Conv3d(before, width, 3, padding=1, bias=False)
            else:
                conv = nn.Conv3d(before, width, (3, 5, 5), (1, 2, 2), padding=(1, 2, 2), bias=False)
            pool = nn.MaxPool3d((1, 2, 2), ceil_mode=True)
            stages.append(nn.Sequential(conv, nn.BatchNorm3d(width), nn.ReLU(), pool))
        super().__init__(num_outputs, stages, widths[-1], dropout)

    def forward(self, video: Float[Tensor, "batch channels time height width"]) -> Float[Tensor, "batch outputs"]:
        """Logits of a batch of clips."""
        return self._logits(video)
