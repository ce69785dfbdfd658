"""The default for signals, vectors, images and short clips: small networks, fused after some of their stages."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import nn

from msafusion.attach import FusedNetwork, FusionPoint, fuse
from msafusion.backbones import MLP, CNN1d, CNN2d, CNN3d
from msafusion.networks.plan import Gain, NetworkPlan
from msafusion.streams import nearest

Small = Literal["mlp", "cnn1d", "cnn2d", "cnn3d"]
BY_RANK: dict[int, Small] = {1: "mlp", 2: "cnn1d", 3: "cnn2d", 4: "cnn3d"}
"""Axes of one sample's input (channels and positions) -> network."""


class SmallCNN(NetworkPlan):
    """One small network a stream, fused after its second and third stage: on a laptop, for data of any rank.

    Args:
        widths: channels of the stages of each network (half of them in `CNN3d`).
        kernel_size: of the 1D convolutions, odd, in time steps.
        dropout: before each network's linear map.
        fuse_at: the stages after which the streams are fused.
        block_channels: channels per feature block.
        lowest_attention: lambda, the least that a block can be multiplied by, in [0, 1].
        block_dropout: probability to drop a block in training, in [0, 1).
        gain: "identity" starts as no fusion at all, "none" is the paper.
        norm: of the joint representation.
        head: how the networks' logits become one prediction: sum, mean, product or concat.
        pool: of the 1D networks, over time: mean, or max for what shows in a part of the signal only.
        backbones: stream -> mlp (vectors), cnn1d (signals), cnn2d (images) or cnn3d (clips); streams that are not named
            get the one that fits their rank.
    """

    typical_channels: ClassVar = {"accelerometer": 3, "gyroscope": 3}
    typical_outputs = 7

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
        pool: Literal["mean", "max"] = "mean",
        backbones: dict[str, Small] | None = None,
    ) -> None:
        self.widths, self.kernel_size, self.dropout = list(widths), kernel_size, dropout
        self.fuse_at, self.block_channels, self.lowest_attention = list(fuse_at), block_channels, lowest_attention
        self.block_dropout, self.gain, self.norm, self.head = block_dropout, gain, norm, head
        self.pool: Literal["mean", "max"] = pool
        self.backbones: dict[str, Small] = dict(backbones or {})

    @property
    def cpu_threads(self) -> int | None:
        """One for signals (two take longer, ten times as long where another process wants a core); all for video."""
        return None if "cnn3d" in self.backbones.values() else 1

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], channels: Mapping[str, int]) -> "SmallCNN":
        """With a backbone for every stream.

        Raises:
            ValueError: a backbone is named for a stream that there is not, a stream's rank has none, or its channels
                do not come first.
        """
        if unknown := [stream for stream in self.backbones if stream not in shapes]:
            raise ValueError(f"a backbone for the unknown stream '{unknown[0]}'; {nearest(unknown[0], shapes)}")
        chosen: dict[str, Small] = {}
        for stream, shape in shapes.items():
            if len(shape) not in BY_RANK:
                raise ValueError(
                    f"stream '{stream}' has the shape {shape}, expected 1 to 4 axes; choose another --network."
                )
            if shape[0] != channels[stream]:
                raise ValueError(
                    f"stream '{stream}' has the shape {shape}, expected its {channels[stream]} channels first; choose "
                    "another --network (for sentiment Mosei)."
                )
            chosen[stream] = self.backbones.get(stream, BY_RANK[len(shape)])
        return SmallCNN(**{**vars(self), "backbones": chosen})

    def build(self, channels: Mapping[str, int], num_outputs: int) -> FusedNetwork:
        """One network a stream, and MSAF at each of `fuse_at`."""
        kinds: dict[str, Small] = {stream: self.backbones.get(stream, "cnn1d") for stream in channels}
        networks = {stream: self._network(kinds[stream], count, num_outputs) for stream, count in channels.items()}
        options = {
            name: getattr(self, name)
            for name in ("block_channels", "lowest_attention", "block_dropout", "gain", "norm")
        }
        points = [FusionPoint(dict.fromkeys(networks, stage), fusion="msaf", **options) for stage in self.fuse_at]
        small = 4 * 2 ** len(self.widths)
        positions = {"mlp": (), "cnn1d": (small,), "cnn2d": (small, small), "cnn3d": (4, small, small)}
        example = {stream: torch.zeros(2, count, *positions[kinds[stream]]) for stream, count in channels.items()}
        time_axis = {stream: 2 for stream, kind in kinds.items() if kind in ("cnn1d", "cnn3d")}
        return fuse(networks, points, head=self.head, num_outputs=num_outputs, example=example, time_axis=time_axis)

    def _network(self, kind: Small, channels: int, num_outputs: int) -> nn.Module:
        if kind == "cnn1d":
            return CNN1d(channels, num_outputs, self.widths, self.kernel_size, self.dropout, self.pool)
        if kind == "cnn3d":
            return CNN3d(channels, num_outputs, [width // 2 for width in self.widths], self.dropout)
        return {"mlp": MLP, "cnn2d": CNN2d}[kind](channels, num_outputs, self.widths, self.dropout)

    def typical_shapes(self) -> dict[str, tuple[int, ...]]:
        """4 s at 50 Hz, as in the smart-watch data."""
        return {stream: (count, 200) for stream, count in self.typical_channels.items()}
