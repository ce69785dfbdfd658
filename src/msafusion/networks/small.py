"""The default for signals: small 1D CNNs, fused after some of their stages."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch

from msafusion.attach import FusedNetwork, FusionPoint, fuse
from msafusion.backbones import CNN1d
from msafusion.networks.plan import Gain, NetworkPlan


class SmallCNN(NetworkPlan):
    """One `CNN1d` a stream, fused after its second and third stage: for signals of any length, on a laptop.

    Args:
        widths: channels of the stages of each network.
        kernel_size: of the convolutions, odd, in time steps.
        dropout: before each network's linear map.
        fuse_at: the stages after which the streams are fused.
        block_channels: channels per feature block.
        lowest_attention: lambda, the least that a block can be multiplied by, in [0, 1].
        block_dropout: probability to drop a block in training, in [0, 1).
        gain: "identity" starts as no fusion at all, "none" is the paper.
        norm: of the joint representation.
        head: how the networks' logits become one prediction: sum, mean, product or concat.
    """

    typical_channels: ClassVar = {"accelerometer": 3, "gyroscope": 3}
    typical_outputs = 7
    cpu_threads = 1  # two take longer, and ten times as long where another process wants a core

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128),
        kernel_size: int = 7,
        dropout: float = 0.3,
        fuse_at: Sequence[str] = ("stage2", "stage3"),
        block_channels: int = 16,
        lowest_attention: float = 0.0,
        block_dropout: float = 0.1,
        gain: Gain = "identity",
        norm: Literal["batch", "layer", "none"] = "batch",
        head: Literal["sum", "mean", "product", "concat"] = "sum",
    ) -> None:
        self.widths, self.kernel_size, self.dropout = list(widths), kernel_size, dropout
        self.fuse_at, self.block_channels, self.lowest_attention = list(fuse_at), block_channels, lowest_attention
        self.block_dropout, self.gain, self.norm, self.head = block_dropout, gain, norm, head

    def build(self, channels: Mapping[str, int], num_outputs: int) -> FusedNetwork:
        """One CNN1d a stream, and MSAF at each of `fuse_at`."""
        networks = {
            stream: CNN1d(count, num_outputs, self.widths, self.kernel_size, self.dropout)
            for stream, count in channels.items()
        }
        options = {
            name: getattr(self, name)
            for name in ("block_channels", "lowest_attention", "block_dropout", "gain", "norm")
        }
        points = [FusionPoint(dict.fromkeys(networks, stage), fusion="msaf", **options) for stage in self.fuse_at]
        example = {stream: torch.zeros(2, count, 4 * 2 ** len(self.widths)) for stream, count in channels.items()}
        return fuse(networks, points, head=self.head, num_outputs=num_outputs, example=example)

    def typical_shapes(self) -> dict[str, tuple[int, ...]]:
        """4 s at 50 Hz, as in the smart-watch data."""
        return {stream: (count, 200) for stream, count in self.typical_channels.items()}
