"""Multimodal split attention fusion (Su, Hu, Li, Cao: "MSAF", arXiv 2012.07175)."""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from msafusion.fusion.base import real_parts
from msafusion.fusion.pooling import PooledMap, without_autocast
from msafusion.fusion.segments import SegmentedMap
from msafusion.streams import (
    Features,
    check_channels,
    check_choice,
    check_count,
    check_features,
    check_option,
    presence_of,
)

TEMPERATURE = {"identity": 0.3, "paper": 1.0}
"""Initialization -> temperature where none is given."""
Attention = dict[str, Float[Tensor, "batch segments _blocks block_channels"]]


class MSAF(nn.Module):
    """Reweight feature blocks by attention computed jointly over all streams (arXiv 2012.07175, eq. 1 to 5).

    Every stream's channels are split into blocks of block_channels, N in all. With G the sum of the blocks' means over
    positions, Z = ReLU(norm(W_Z G + b_Z)) and logits U_i = W_i Z + b_i, the attention A_i is the softmax of U_i /
    temperature over all blocks, by channel; block i is multiplied by gain * A_i + lowest_attention * (1 - gain * A_i).

    Args:
        channels: stream name -> number of channels.
        block_channels: channels per block, C. A stream whose channels it does not divide is padded with zeros. None:
            a quarter of the narrowest stream, at least `reduction`.
        reduction: the joint representation has block_channels // reduction channels.
        lowest_attention: lambda in [0, 1], the least that a block can be multiplied by.
        block_dropout: probability in [0, 1) to drop a whole block of a sample in training, the others scaled by
            1 / (1 - p). A dropped block adds nothing to G but stays in the softmax. Drawn for each segment.
        segments: split time (dim 2) into that many consecutive segments, each with its own parameters; the last takes
            the remainder. Every stream then needs a time axis.
        init: "identity" sets the gain to the number of blocks that take part and starts the logits at zero, so that a
            new module changes nothing; "paper" sets it to 1, as in the paper.
        temperature: above 0, divides the logits of the softmax. None: 1 with init="paper", else 0.3 (docs/log.md).
        norm: of the joint representation: "batch" (the paper; needs two samples in training), "layer" or "none".

    Shapes:
        features: stream name -> (batch, channels, *positions); a stream may be absent.
        masks: stream name -> bool (batch, time), True where a step is real. Only real steps are averaged, the segments
            divide each sample's own real steps, and padded steps leave as zeros. No real step at all: missing.
        present: stream name -> bool (batch,). Attention is that of the streams present; missing ones leave as zeros.
        output: the same; with `return_attention` also the softmax itself: (batch, segments, blocks, block_channels).

    Raises:
        ValueError: an option is out of range; inputs do not fit, one sample in training with norm="batch", fewer steps
            than segments, or a sample without streams (these two in eager mode, where masks or presence are given).

    Examples:
        >>> import torch
        >>> from msafusion import MSAF
        >>> fusion = MSAF({"video": 1024, "audio": 32}, block_channels=16)
        >>> fused = fusion({"video": torch.randn(2, 1024, 3, 4, 4), "audio": torch.randn(2, 32, 50)})
        >>> fused["video"].shape
        torch.Size([2, 1024, 3, 4, 4])
    """

    search_space: ClassVar = {
        "lowest_attention": (0.0, 0.5),
        "block_dropout": (0.0, 0.1, 0.2),
        "block_channels": (8, 16, 32),
    }

    def __init__(
        self,
        channels: Mapping[str, int],
        block_channels: int | None = None,
        *,
        reduction: int = 4,
        lowest_attention: float = 0.0,
        block_dropout: float = 0.0,
        segments: int = 1,
        init: Literal["identity", "paper"] = "identity",
        temperature: float | None = None,
        norm: Literal["batch", "layer", "none"] = "batch",
    ) -> None:
        super().__init__()
        check_channels(channels)
        for name, count in (("reduction", reduction), ("segments", segments)):
            check_count(name, count)
        block_channels = max(reduction, min(channels.values()) // 4) if block_channels is None else block_channels
        check_count("block_channels", block_channels)
        if reduction > block_channels:
            raise ValueError(
                f"reduction is {reduction}, expected at most block_channels = {block_channels}: "
                "the joint representation would have no channel; lower reduction."
            )
        check_option("lowest_attention", lowest_attention, 0.0, 1.0)
        check_option("block_dropout", block_dropout, 0.0, 1.0, open_above=True)
        check_choice("init", init, ("identity", "paper"))
        check_choice("norm", norm, ("batch", "layer", "none"))
        temperature = TEMPERATURE[init] if temperature is None else temperature
        check_option("temperature", temperature, 1e-6, math.inf, open_above=True)
        if norm == "layer" and block_channels // reduction == 1:
            raise ValueError(
                'norm="layer" got a joint representation of block_channels // reduction = 1 channel, expected at least '
                '2 (one alone is normalised to a constant); lower reduction or use norm="batch" (or "none").'
            )
        self.channels = dict(channels)
        self.block_channels, self.reduction, self.segments = block_channels, reduction, segments
        self.lowest_attention, self.block_dropout = lowest_attention, block_dropout
        self.init, self.temperature, self.norm_kind = init, temperature, norm
        self.num_blocks = {name: math.ceil(count / block_channels) for name, count in self.channels.items()}
        total_blocks, joint_channels = sum(self.num_blocks.values()), block_channels // reduction
        self.joint_weight = nn.Parameter(torch.empty(segments, joint_channels, block_channels))
        self.joint_bias = nn.Parameter(torch.empty(segments, joint_channels))
        self.block_weight = nn.Parameter(torch.empty(segments, total_blocks, block_channels, joint_channels))
        self.block_bias = nn.Parameter(torch.empty(segments, total_blocks, block_channels))
        # one normalisation for all segments: their channels lie side by side, each with its own statistics
        self.norm: nn.Module = {
            "batch": lambda: nn.BatchNorm1d(segments * joint_channels),
            "layer": lambda: nn.GroupNorm(segments, segments * joint_channels),
            "none": nn.Identity,
        }[norm]()
        self.reset_parameters()

    @classmethod
    def paper(
        cls,
        channels: Mapping[str, int],
        block_channels: int | None = None,
        *,
        reduction: int = 4,
        lowest_attention: float = 0.0,
        block_dropout: float = 0.0,
        segments: int = 1,
    ) -> "MSAF":
        """The published form: attention that sums to 1 over the blocks, weights that start at random, batch norm."""
        options = {"lowest_attention": lowest_attention, "block_dropout": block_dropout, "segments": segments}
        return cls(channels, block_channels, reduction=reduction, init="paper", norm="batch", **options)

    def reset_parameters(self) -> None:
        """Start as nn.Linear does, or the block logits at zero with init="identity"."""
        for weight, bias in ((self.joint_weight, self.joint_bias), (self.block_weight, self.block_bias)):
            bound = weight.shape[-1] ** -0.5
            nn.init.uniform_(weight, -bound, bound)
            nn.init.uniform_(bias, -bound, bound)
        if self.init == "identity":
            nn.init.zeros_(self.block_weight)
            nn.init.zeros_(self.block_bias)
        if isinstance(self.norm, nn.BatchNorm1d | nn.GroupNorm):
            self.norm.reset_parameters()

    def extra_repr(self) -> str:
        """Streams and options, for printing."""
        options = [
            "block_channels",
            "reduction",
            "lowest_attention",
            "block_dropout",
            "segments",
            "init",
            "temperature",
        ]
        return f"{self.channels}, " + ", ".join(f"{name}={getattr(self, name)!r}" for name in options)

    @overload
    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
        *,
        return_attention: Literal[False] = False,
    ) -> Features: ...

    @overload
    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
        *,
        return_attention: Literal[True],
    ) -> tuple[Features, Attention]: ...

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
        *,
        return_attention: bool = False,
    ) -> Features | tuple[Features, Attention]:
        """Reweight the streams; shapes and errors as in the class's docstring."""
        batch = check_features(features, self.channels, masks, present)
        if self.norm_kind == "batch" and self.training and batch == 1:
            raise ValueError(
                'norm="batch" got a batch of 1 in training, expected at least 2 samples to take statistics over; '
                'use norm="layer" (or "none"), a larger batch, or module.eval().'
            )
        masks, present = masks or {}, present or {}
        names = [name for name in self.channels if name in features]
        presence = presence_of(names, masks, present)
        maps: dict[str, PooledMap | SegmentedMap] = {}
        real = real_parts(features, masks, present)
        for name in names:
            feature = real[name]
            if self.segments == 1 and name not in masks:
                maps[name] = PooledMap(feature)
            else:
                maps[name] = SegmentedMap(name, feature, self.segments, masks.get(name), presence.get(name))
        pooled = torch.cat([self._blocks(name, maps[name].mean) for name in names], dim=2)
        with without_autocast(pooled.device.type):
            attention, gates = self._attend(pooled, names, presence, return_attention)
        counts = [self.num_blocks[name] for name in names]
        output: Features = dict.fromkeys(features, gates)  # in the order given
        for name, gate in zip(names, gates.split(counts, dim=2), strict=True):
            output[name] = maps[name].reweight(gate.flatten(2)[..., : self.channels[name]])
        if attention is not None:
            return output, dict(zip(names, attention.split(counts, dim=2), strict=True))
        return output

    def _blocks(
        self, name: str, mean: Float[Tensor, "batch segments channels"]
    ) -> Float[Tensor, "batch segments blocks block_channels"]:
        padding = -self.channels[name] % self.block_channels
        if padding:
            mean = functional.pad(mean, (0, padding))
        return mean.reshape(*mean.shape[:2], self.num_blocks[name], self.block_channels)

    def _attend(
        self,
        pooled: Float[Tensor, "batch segments blocks block_channels"],
        names: list[str],
        presence: Mapping[str, Bool[Tensor, " batch"]],
        return_attention: bool,
    ) -> tuple[
        Float[Tensor, "batch segments blocks block_channels"] | None,
        Float[Tensor, "batch segments blocks block_channels"],
    ]:
        """Block attention (the softmax) if wanted, and what the blocks are to be multiplied by."""
        dropped = None
        if self.training and self.block_dropout > 0:
            keep = 1.0 - self.block_dropout
            dropped = torch.empty_like(pooled[..., :1]).bernoulli_(keep) / keep
            pooled = pooled * dropped
        logits = self._logits(pooled.sum(dim=2), names).to(pooled.dtype) / self.temperature
        num_present: int | Tensor = logits.shape[2]
        if presence:
            everyone = torch.ones(pooled.shape[0], dtype=torch.bool, device=pooled.device)
            here = torch.stack(
                [presence.get(name, everyone) for name in names for _ in range(self.num_blocks[name])], 1
            )
            here = here[:, None, :, None]
            logits = logits.masked_fill(~here, -math.inf)
            num_present = here.sum(dim=2, keepdim=True)
        attention = torch.softmax(logits, dim=2) if return_attention or self.init == "paper" else None
        if self.init == "paper":
            assert attention is not None
            weight = attention
        else:
            # not attention * N: with equal logits these exponents are 1 and their sum is N, so the weight is 1 to the
            # last bit, where N * softmax(0) is an ulp off for some N
            exponents = torch.exp(logits - logits.detach().amax(dim=2, keepdim=True))
            weight = exponents / (exponents.sum(dim=2, keepdim=True) / num_present)
        if self.lowest_attention:
            weight = weight + self.lowest_attention * (1.0 - weight)
        return attention if return_attention else None, weight if dropped is None else weight * dropped

    def _logits(
        self, joined: Float[Tensor, "batch segments block_channels"], names: list[str]
    ) -> Float[Tensor, "batch segments blocks block_channels"]:
        """Joint representation of the joined blocks, then every block's own linear map of it (eq. 2 and 3)."""
        weight, bias = self.block_weight, self.block_bias
        if len(names) < len(self.channels):
            rows = [name in names for name, count in self.num_blocks.items() for _ in range(count)]
            rows = [row for row, wanted in enumerate(rows) if wanted]
            weight, bias = weight[:, rows], bias[:, rows]
        batch, joint_channels = joined.shape[0], self.joint_bias.shape[1]
        joint = _linear_per_segment(joined.to(weight.dtype), self.joint_weight, self.joint_bias)
        joint = functional.relu(self.norm(joint.flatten(1)), inplace=True)
        joint = joint.reshape(batch, self.segments, joint_channels)
        logits = _linear_per_segment(joint, weight.flatten(1, 2), bias.flatten(1))
        return logits.reshape(batch, *weight.shape[:3])


def _linear_per_segment(
    inputs: Float[Tensor, "batch segments inputs"],
    weight: Float[Tensor, "segments outputs inputs"],
    bias: Float[Tensor, "segments outputs"],
) -> Float[Tensor, "batch segments outputs"]:
    """Each segment's own linear map, in one product."""
    if len(weight) == 1:
        return functional.linear(inputs, weight[0], bias[0])
    return torch.matmul(inputs.transpose(0, 1), weight.transpose(1, 2)).transpose(0, 1) + bias
