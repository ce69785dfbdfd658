"""Residual networks for video: 3D ResNet and ResNeXt (arXiv 1711.09577), and ResNet-50 inflated from 2D."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Depth -> blocks in each of the four stages."""
Stride = tuple[int, int, int]


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions beside a shortcut (18 and 34 layers)."""

    def __init__(self, in_channels: int, width: int, out_channels: int, stride: Stride, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, out_channels, 3, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b _c _t _h _w"]:
        """ReLU of the convolutions' result plus the shortcut's."""
        features = self.relu(self.bn1(self.conv1(video)))
        features = self.bn2(self.conv2(features))
        features += video if self.downsample is None else self.downsample(video)
        return self.relu(features)


class Bottleneck(nn.Module):
    """1x1x1, (grouped) 3x3x3 and 1x1x1 convolutions beside a shortcut; the middle one carries the stride."""

    def __init__(self, in_channels: int, width: int, out_channels: int, stride: Stride, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b _c _t _h _w"]:
        """ReLU of the convolutions' result plus the shortcut's."""
        features = self.relu(self.bn1(self.conv1(video)))
        features = self.relu(self.bn2(self.conv2(features)))
        features = self.bn3(self.conv3(features))
        features += video if self.downsample is None else self.downsample(video)  # in place: maps are large
        return self.relu(features)


class _ResidualNetwork(nn.Module):
    """What all of them share: a stem, four stages `layer1` to `layer4`, the mean over what is left, `fc`."""

    def __init__(
        self,
        num_outputs: int,
        depth: int,
        widths: Sequence[int],
        expansion: int,
        groups: int,
        strides: Sequence[Stride],
        stem: Sequence[nn.Module],
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"depth is {depth}, expected one of {', '.join(map(str, DEPTHS))}; choose one of them.")
        self.conv1, self.bn1, self.relu, self.maxpool = stem
        block = BasicBlock if depth < 50 else Bottleneck
        channels = 64
        for number, (blocks, width, stride) in enumerate(zip(DEPTHS[depth], widths, strides, strict=True), start=1):
            layers = [block(channels, width, width * expansion, stride, groups)]
            channels = width * expansion
            layers += [block(channels, width, channels, (1, 1, 1), groups) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*layers))
        self.fc = nn.Linear(channels, num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stem(self, video: Float[Tensor, "_batch 3 *_positions"]) -> Float[Tensor, "_batch _c *_pooled"]:
        """First convolution, batch norm, ReLU, max pool."""
        return self.maxpool(self.relu(self.bn1(self.conv1(video))))

    def forward(self, video: Float[Tensor, "batch 3 time height width"]) -> Float[Tensor, "batch outputs"]:
        """Logits of clips of any length and size."""
        features = self.stem(video)
        for number in range(1, 5):
            features = self.get_submodule(f"layer{number}")(features)
        return self.fc(torch.mean(features, dim=(2, 3, 4)))


class ResNet3d(_ResidualNetwork):
    """3D ResNet with shortcut B (Hara et al. 2018, arXiv 1711.09577; keys of kenshohara/3D-ResNets-PyTorch).

    Fuse at `layer1` to `layer4`: 64, 128, 256, 512 channels (18, 34 layers) or 256, 512, 1024, 2048; time is halved by
    the stem's pool and by each stage from the second on.

    Args:
        num_outputs: classes.
        depth: 18, 34, 50, 101 or 152.

    Examples:
        >>> import torch
        >>> from msafusion.backbones import ResNet3d
        >>> net = ResNet3d(num_outputs=8, depth=18).eval()
        >>> net(torch.randn(1, 3, 8, 32, 32)).shape
        torch.Size([1, 8])
    """

    def __init__(self, num_outputs: int = 400, depth: int = 50) -> None:
        expansion = 1 if depth < 50 else 4
        super().__init__(num_outputs, depth, (64, 128, 256, 512), expansion, 1, _ALL_AXES, _stem3d())


class ResNeXt3d(_ResidualNetwork):
    """3D ResNeXt with shortcut B and cardinality 32 (Hara et al. 2018, arXiv 1711.09577; keys as of ResNet3d).

    The video network of MSAF on RAVDESS (arXiv 2012.07175, sec. 4.1). Fuse at `layer1` to `layer4`: 256, 512, 1024,
    2048 channels, time and size halved from stage to stage.

    Args:
        num_outputs: classes.
        depth: 50, 101 or 152.

    Raises:
        ValueError: another depth.

    Examples:
        >>> import torch
        >>> from msafusion.backbones import ResNeXt3d
        >>> net = ResNeXt3d(num_outputs=8, depth=50).eval()
        >>> net(torch.randn(1, 3, 8, 32, 32)).shape
        torch.Size([1, 8])
    """

    def __init__(self, num_outputs: int = 400, depth: int = 50) -> None:
        if depth not in (50, 101, 152):
            raise ValueError(f"depth is {depth}, expected 50, 101 or 152 for a ResNeXt; use ResNet3d for fewer layers.")
        super().__init__(num_outputs, depth, (128, 256, 512, 1024), 2, 32, _ALL_AXES, _stem3d())


class InflatedResNet(_ResidualNetwork):
    """ResNet-50 for few frames: a 7x7 stem on each frame, then 3x3x3 bottlenecks (as in MFAS, arXiv 1903.06496).

    The second RGB network of MSAF on NTU RGB+D (arXiv 2012.07175, sec. 4.3). All strides are spatial, so every stage
    keeps the number of frames. Fuse at `layer1` to `layer4`: 256, 512, 1024, 2048 channels.

    Args:
        num_outputs: classes.

    Examples:
        >>> import torch
        >>> from msafusion.backbones import InflatedResNet
        >>> net = InflatedResNet(num_outputs=60).eval()
        >>> net(torch.randn(1, 3, 2, 32, 32)).shape
        torch.Size([1, 60])
    """

    def __init__(self, num_outputs: int = 60) -> None:
        stem = (
            nn.Conv2d(3, 64, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, padding=1),
        )
        super().__init__(num_outputs, 50, (64, 128, 256, 512), 4, 1, _SPATIAL_AXES, stem)

    def stem(self, video: Float[Tensor, "_batch 3 *_positions"]) -> Float[Tensor, "_batch _c *_pooled"]:
        """The 2D stem on every frame."""
        frames = super().stem(video.transpose(1, 2).flatten(0, 1))
        return frames.unflatten(0, (video.shape[0], video.shape[2])).transpose(1, 2)


_ALL_AXES: tuple[Stride, ...] = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
_SPATIAL_AXES: tuple[Stride, ...] = ((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2))


def _stem3d() -> tuple[nn.Module, ...]:
    conv = nn.Conv3d(3, 64, 7, (1, 2, 2), padding=3, bias=False)
    return conv, nn.BatchNorm3d(64), nn.ReLU(inplace=True), nn.MaxPool3d(3, 2, padding=1)


def _shortcut(in_channels: int, out_channels: int, stride: Stride) -> nn.Sequential | None:
    """Shortcut B: a 1x1x1 convolution where the shape changes, else none."""
    if in_channels == out_channels and stride == (1, 1, 1):
        return None
    return nn.Sequential(nn.Conv3d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm3d(out_channels))
