"""Layers that a head reads: what named submodules give, averaged over positions, beside the networks' outputs."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from msafusion.attach.points import FusionPoint, Joint, Tap
from msafusion.attach.timing import TimeMask
from msafusion.fusion.base import real_parts, stream_means

HeadAt = Mapping[str, str] | Sequence[Mapping[str, str]]
"""Network -> submodule that the head reads; several of them: levels, the first ones first."""


class Outputs(dict[str, Any]):
    """Each network's output, with what the head needs beside it.

    Attributes:
        vectors: what it reads inside the networks, stream -> (batch, channels).
        present: network -> bool (batch,), for those whose input some sample may lack.
    """

    def __init__(
        self,
        outputs: Mapping[str, Any],
        vectors: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(outputs)
        self.vectors, self.present = dict(vectors or {}), dict(present or {})


class Reading(Joint):
    """The submodules of one level, which the head reads; the networks go on with what they gave."""

    def __init__(self, taps: list[Tap], name: str) -> None:
        super().__init__(taps, nn.Identity(), name)

    def vectors(
        self, outputs: Mapping[str, Any], masks: Mapping[str, TimeMask], present: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Mean of each stream over its real positions, (batch, channels), zero where it is missing."""
        features, stream_masks, here = self.streams(outputs, masks, present)
        means = stream_means(real_parts(features, stream_masks, here), stream_masks)
        return {stream: mean.to(features[stream].dtype) for stream, mean in means.items()}


def reading_points(head_at: HeadAt | None) -> list[FusionPoint]:
    """One point a level; with several levels a stream is named "network.submodule", else like its network."""
    levels = [] if head_at is None else [head_at] if isinstance(head_at, Mapping) else list(head_at)
    if not all(isinstance(level, Mapping) for level in levels):
        raise TypeError(f"head_at is {head_at!r}, expected {{network: submodule}}, or a list of such levels.")
    if len(levels) < 2:
        return [FusionPoint(level, nn.Identity(), name=f"head at {level}") for level in levels]
    return [
        FusionPoint(
            {network: {f"{network}.{submodule}": submodule} for network, submodule in level.items()},
            nn.Identity(),
            name=f"head at {dict(level)}",
        )
        for level in levels
    ]
