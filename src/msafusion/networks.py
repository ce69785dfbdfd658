"""Whole fused networks, described by options and built for the streams and classes of a data set: wiring only.

Add a `NetworkPlan` and a line to `NETWORKS`; `msafusion train --network <class name>` then takes its options.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch

from msafusion.attach import FusedNetwork, FusionPoint, fuse
from msafusion.backbones import CNN1d
from msafusion.streams import nearest


class NetworkPlan(ABC):
    """A network described by options (the arguments of its constructor, all kept as attributes of the same name).

    Attributes:
        cpu_threads: threads that its operations are worth on a CPU; None: all.
    """

    cpu_threads: ClassVar[int | None] = None

    @abstractmethod
    def build(self, channels: Mapping[str, int], num_outputs: int) -> FusedNetwork:
        """The network, with new weights, for streams of so many channels and a prediction of `num_outputs`."""

    def as_dict(self) -> dict[str, Any]:
        """Name and options, from which `plan_from` makes the plan again."""
        return {"name": type(self).__name__, "options": dict(vars(self))}


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
        gain: Literal["identity", "none"] = "identity",
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


NETWORKS: dict[str, type[NetworkPlan]] = {"SmallCNN": SmallCNN}
"""Name -> plan."""


def plan_from(saved: Mapping[str, Any]) -> NetworkPlan:
    """The plan that `NetworkPlan.as_dict` describes.

    Raises:
        ValueError: its name is unknown to this version.
    """
    if saved["name"] not in NETWORKS:
        raise ValueError(f"unknown network {saved['name']!r}; {nearest(saved['name'], NETWORKS)}")
    return NETWORKS[saved["name"]](**saved["options"])
