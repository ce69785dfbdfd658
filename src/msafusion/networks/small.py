"""The default for signals, vectors, images and short clips: small networks, fused after some of their stages."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import nn

from msafusion.attach import FusedNetwork, FusionPoint, fuse
from msafusion.backbones import MLP, CNN1d, CNN2d, CNN3d, FrameCNN1d
from msafusion.backbones.cnn1d import Pool
from msafusion.fusion import FUSIONS, HEADS
from msafusion.networks.plan import NetworkPlan
from msafusion.streams import check_count, check_option, nearest

Small = Literal["mlp", "cnn1d", "cnn2d", "cnn3d", "frame_cnn1d"]
LateMethod = Literal["sum", "mean", "product", "multiplicative"]
"""Methods of HEADS that take the networks' predictions rather than features."""
BY_RANK: dict[int, Small] = {1: "mlp", 2: "cnn1d", 3: "cnn2d", 4: "cnn3d"}
"""Axes of one sample's input (channels and positions) -> network."""
SMALL_FRAME, MIN_FRAMES = 100, 8
"""Clips whose frames have at most so many pixels a side, and that have at least so many of them, get `frame_cnn1d`."""

MAX_STAGES = 16
"""Each halves the positions."""
MAX_NOISE = 100.0


class SmallCNN(NetworkPlan):
    """One small network a stream, fused after its second and third stage: on a laptop, for data of any rank.

    A method of `FUSIONS` fuses after the stages of `fuse_at`, and `head` makes the prediction; a method of `HEADS`
    makes it of the features before each network's last linear map (CentralNet also of those after `fuse_at`).

    Args:
        widths: channels of the stages of each network (half of them in `CNN3d`).
        kernel_size: of the 1D convolutions, odd, in time steps.
        dropout: before each network's linear map.
        noise: standard deviation of the noise that training adds to vectors, see `MLP`.
        fusion: a method of FUSIONS, or of HEADS.
        fusion_options: the method's own, such as `{block_channels: 16}`; none: its defaults.
        fuse_at: the stages after which the streams are fused.
        head: how the networks' logits become one prediction where `fusion` is of FUSIONS.
        pool: of the 1D networks, over time: statistics (mean, maximum and standard deviation side by side), mean, or
            max.
        backbones: stream -> mlp (vectors), cnn1d (signals), cnn2d (images), frame_cnn1d or cnn3d (clips of small and of
            larger frames); streams that are not named get the one that fits their rank and size.

    Examples:
        >>> import torch
        >>> from msafusion.networks import SmallCNN
        >>> plan = SmallCNN(widths=(8, 16, 32), fusion="mmtm", backbones={"image": "cnn2d"})
        >>> net = plan.build({"signal": 3, "image": 1}, num_outputs=7)
        >>> net({"signal": torch.randn(2, 3, 100), "image": torch.randn(2, 1, 32, 32)}).shape
        torch.Size([2, 7])
    """

    typical_channels: ClassVar = {"accelerometer": 3, "gyroscope": 3}
    typical_outputs = 7

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128),
        kernel_size: int = 7,
        dropout: float = 0.3,
        noise: float = 0.5,
        fusion: str = "msaf",
        fusion_options: dict[str, Any] | None = None,
        fuse_at: Sequence[str] = ("stage2", "stage3"),
        head: LateMethod | Literal["concat"] = "sum",
        pool: Pool = "statistics",
        backbones: dict[str, Small] | None = None,
    ) -> None:
        if fusion not in FUSIONS and fusion not in HEADS:
            raise ValueError(f"unknown fusion {fusion!r}; {nearest(fusion, (*FUSIONS, *HEADS))}")
        if not 1 <= len(widths) <= MAX_STAGES:
            raise ValueError(f"widths has {len(widths)} stages, expected 1 to {MAX_STAGES}; give one width each.")
        if len(fuse_at) > MAX_STAGES:
            raise ValueError(f"fuse_at has {len(fuse_at)} stages, expected {MAX_STAGES} at most; leave some out.")
        for width in widths:
            check_count("widths", width)
        self.widths, self.kernel_size, self.dropout = list(widths), kernel_size, dropout
        check_option("noise", noise, 0.0, MAX_NOISE)
        self.noise = noise
        self.fusion, self.fusion_options, self.fuse_at = fusion, dict(fusion_options or {}), list(fuse_at)
        self.head: LateMethod | Literal["concat"] = head
        self.pool: Pool = pool
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
                    "another --network (for sentiment MOSEINet)."
                )
            small_clip = len(shape) == 4 and shape[1] >= MIN_FRAMES and max(shape[2:]) <= SMALL_FRAME
            chosen[stream] = self.backbones.get(stream, "frame_cnn1d" if small_clip else BY_RANK[len(shape)])
        return SmallCNN(**{**vars(self), "backbones": chosen})

    def with_fusion(self, fusion: str, options: Mapping[str, Any]) -> "SmallCNN":
        """The same networks with another fusion method."""
        return SmallCNN(**{**vars(self), "fusion": fusion, "fusion_options": dict(options)})

    def build(self, channels: Mapping[str, int], num_outputs: int) -> FusedNetwork:
        """One network a stream, and their fusion."""
        kinds: dict[str, Small] = {stream: self.backbones.get(stream, "cnn1d") for stream in channels}
        networks = {stream: self._network(kinds[stream], count, num_outputs) for stream, count in channels.items()}
        small = 4 * 2 ** len(self.widths)
        clip = (small, small, small)
        positions = {"mlp": (), "cnn1d": (small,), "cnn2d": clip[1:], "cnn3d": clip, "frame_cnn1d": clip}
        example = {stream: torch.zeros(2, count, *positions[kinds[stream]]) for stream, count in channels.items()}
        time_axis = {stream: 2 for stream, kind in kinds.items() if kind in ("cnn1d", "cnn3d", "frame_cnn1d")}
        fused = self._between_stages(networks) if self.fusion in FUSIONS else self._at_the_end(kinds)
        return fuse(networks, num_outputs=num_outputs, example=example, time_axis=time_axis, **fused)

    def _between_stages(self, networks: Mapping[str, nn.Module]) -> dict[str, Any]:
        stages = [dict.fromkeys(networks, stage) for stage in self.fuse_at]
        points = [FusionPoint(stage, fusion=self.fusion, **self.fusion_options) for stage in stages]
        return {"at": points, "head": self.head}

    def _at_the_end(self, kinds: Mapping[str, Small]) -> dict[str, Any]:
        if self.fusion in get_args(LateMethod):
            return {"head": self.fusion, "head_options": self.fusion_options}
        last = {stream: f"stage{len(self.widths)}" if kind == "mlp" else "dropout" for stream, kind in kinds.items()}
        earlier = [dict.fromkeys(kinds, stage) for stage in self.fuse_at if stage not in last.values()]
        levels = [*earlier, last] if self.fusion == "centralnet" else last
        return {"head": self.fusion, "head_at": levels, "head_options": self.fusion_options}

    def _network(self, kind: Small, channels: int, num_outputs: int) -> nn.Module:
        if kind in ("cnn1d", "frame_cnn1d"):
            net = {"cnn1d": CNN1d, "frame_cnn1d": FrameCNN1d}[kind]
            return net(channels, num_outputs, self.widths, self.kernel_size, self.dropout, self.pool)
        if kind == "cnn3d":
            return CNN3d(channels, num_outputs, [width // 2 for width in self.widths], self.dropout)
        if kind == "mlp":
            return MLP(channels, num_outputs, self.widths, self.dropout, self.noise)
        return CNN2d(channels, num_outputs, self.widths, self.dropout)

    def typical_shapes(self) -> dict[str, tuple[int, ...]]:
        """4 s at 50 Hz, as in the smart-watch data."""
        return {stream: (count, 200) for stream, count in self.typical_channels.items()}
