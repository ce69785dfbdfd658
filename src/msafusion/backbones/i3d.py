"""I3D: Inception v1 inflated to video (Carreira and Zisserman 2017, arXiv 1705.07750)."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Padding = Literal["symmetric", "same"]
Triple = tuple[int, int, int]
BRANCHES = {
    "mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}
"""Block -> channels: in, branch 0, branch 1 (reduce, 3x3x3), branch 2 (reduce, 3x3x3), branch 3 after the pool."""


class _Unit(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, padding: Padding = "symmetric"
    ) -> None:
        super().__init__()
        self.same = padding == "same" and kernel > 1
        # torch 2.13 on CPUs reads beyond the weights' gradient where a padded, strided kernel is about as long as the
        # clip (docs/log.md), so the stem's padding is made by hand
        self.by_hand = kernel // 2 if stride > 1 and not self.same else 0
        symmetric = 0 if self.same or self.by_hand else kernel // 2
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, stride, padding=symmetric, bias=False)
        self.bn = nn.BatchNorm3d(out_channels, eps=1e-3, momentum=0.001)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b _c _t _h _w"]:
        """Features, all at least 0."""
        if self.same:
            video = _pad_same(video, self.conv.kernel_size, self.conv.stride)
        elif self.by_hand:
            video = functional.pad(video, [self.by_hand] * 6)
        return self.relu(self.bn(self.conv(video)))


class _Pool(nn.Module):
    """Maximum over a neighbourhood of values that are all at least 0, so that zeros can pad them."""

    def __init__(self, kernel: Triple, stride: Triple, padding: Padding) -> None:
        super().__init__()
        self.kernel, self.stride, self.same = kernel, stride, padding == "same"

    def extra_repr(self) -> str:
        """Kernel and stride, for printing."""
        return f"{self.kernel}, stride={self.stride}"

    def forward(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c _t _h _w"]:
        """The pooled map; an even kernel keeps what is left over at the end of an axis."""
        if self.same:
            return functional.max_pool3d(_pad_same(video, self.kernel, self.stride), self.kernel, self.stride)
        padding = [(size - 1) // 2 for size in self.kernel]
        even = self.kernel[0] % 2 == 0
        return functional.max_pool3d(video, self.kernel, self.stride, padding, ceil_mode=even)


class _Inception(nn.Module):
    """Four branches side by side: 1x1x1; twice 1x1x1 then 3x3x3; max pool then 1x1x1."""

    def __init__(self, channels: Sequence[int], padding: Padding) -> None:
        super().__init__()
        came, direct, reduce1, wide1, reduce2, wide2, pooled = channels
        self.branch0 = nn.Sequential(_Unit(came, direct))
        self.branch1 = nn.Sequential(_Unit(came, reduce1), _Unit(reduce1, wide1, 3, padding=padding))
        self.branch2 = nn.Sequential(_Unit(came, reduce2), _Unit(reduce2, wide2, 3, padding=padding))
        self.branch3 = nn.Sequential(_Pool((3, 3, 3), (1, 1, 1), padding), _Unit(came, pooled))

    def forward(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b _c t h w"]:
        """The branches' channels side by side."""
        return torch.cat([self.branch0(video), self.branch1(video), self.branch2(video), self.branch3(video)], dim=1)


class I3D(nn.Module):
    """Inception v1 inflated to 3D (arXiv 1705.07750), as MSAF uses it on NTU RGB+D (arXiv 2012.07175, sec. 4.3).

    Fuse at the blocks, such as `mixed_5b` (832 channels) and `mixed_5c` (1024). Clips of any length and size; 32 frames
    of 224 x 224 leave a map of 4 x 7 x 7.

    Args:
        num_outputs: classes.
        in_channels: 3 for RGB, 2 for optical flow.
        dropout: of whole channels, before the classifier.
        padding: "symmetric" as the MSAF authors have it; "same" as TensorFlow pads, which the public Kinetics weights
            were trained with (it differs where the stride is 2).

    Examples:
        >>> import torch
        >>> from msafusion.backbones import I3D
        >>> net = I3D(num_outputs=60).eval()
        >>> net(torch.randn(1, 3, 8, 32, 32)).shape
        torch.Size([1, 60])
    """

    def __init__(
        self, num_outputs: int = 60, in_channels: int = 3, dropout: float = 0.5, padding: Padding = "symmetric"
    ) -> None:
        if padding not in ("symmetric", "same"):
            raise ValueError(f"padding is {padding!r}, expected 'symmetric' or 'same'; set it to one of them.")
        super().__init__()
        blocks = {name: _Inception(channels, padding) for name, channels in BRANCHES.items()}
        layers: dict[str, nn.Module] = {
            "conv_1a": _Unit(in_channels, 64, 7, 2, padding),
            "pool_2a": _Pool((1, 3, 3), (1, 2, 2), padding),
            "conv_2b": _Unit(64, 64),
            "conv_2c": _Unit(64, 192, 3, padding=padding),
            "pool_3a": _Pool((1, 3, 3), (1, 2, 2), padding),
            **{name: block for name, block in blocks.items() if "_3" in name},
            "pool_4a": _Pool((3, 3, 3), (2, 2, 2), padding),
            **{name: block for name, block in blocks.items() if "_4" in name},
            "pool_5a": _Pool((2, 2, 2), (2, 2, 2), padding),
            **{name: block for name, block in blocks.items() if "_5" in name},
            "dropout": nn.Dropout3d(dropout),
            "logits": nn.Conv3d(1024, num_outputs, 1),
        }
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, video: Float[Tensor, "batch channels time height width"]) -> Float[Tensor, "batch outputs"]:
        """Logits: the mean over pairs of consecutive steps, classified, then averaged over time."""
        for name, layer in self.named_children():
            if name == "dropout":
                video = torch.mean(video, dim=(3, 4), keepdim=True)
                if video.shape[2] > 1:
                    video = 0.5 * (video[:, :, 1:] + video[:, :, :-1])
            video = layer(video)
        return torch.mean(video, dim=(2, 3, 4))


def _pad_same(video: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Zeros around time, height and width as TensorFlow's SAME padding: ceil(size / stride) outputs, odd one last."""
    amounts: list[int] = []
    for size, width, step in zip(video.shape[2:], kernel, stride, strict=True):
        total = max((-(-size // step) - 1) * step + width - size, 0)
        amounts = [total // 2, total - total // 2, *amounts]
    return functional.pad(video, amounts)
