"""Consecutive segments of a stream's time axis, per sample where masks tell the real steps (arXiv 2012.07175, 3.2)."""

import itertools
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from msafusion.fusion.pooling import position_mean, without_autocast
from msafusion.streams import values_are_known


class SegmentedMap:
    """A feature map (batch, channels, time, *rest) with the mean of each segment of time, (batch, segments, channels).

    A segment has steps // num_segments steps, the last one also the remainder. With a mask, the segments divide each
    sample's own real steps, wherever the padding stands; padded steps must hold zeros.

    Raises:
        ValueError: the stream has no time axis, or fewer (real) steps than segments; names the stream.
    """

    def __init__(
        self,
        stream: str,
        feature: Float[Tensor, "batch channels *positions"],
        num_segments: int,
        mask: Bool[Tensor, "batch time"] | None = None,
        present: Bool[Tensor, " batch"] | None = None,
    ) -> None:
        if feature.dim() < 3:
            raise ValueError(
                f"stream '{stream}' has shape {tuple(feature.shape)} and no time axis, expected (batch, channels, "
                f"time, ...) for segments={num_segments}; use segments=1 or leave the stream out of this fusion point."
            )
        num_steps = feature.shape[2]
        if num_steps < num_segments:
            raise ValueError(_too_short(stream, num_steps, num_segments))
        self.feature, self.num_segments, self.mask = feature, num_segments, mask
        if mask is None:
            index = torch.arange(num_steps, device=feature.device) // (num_steps // num_segments)
            index = index.unsqueeze(0)
        else:
            lengths = mask.sum(dim=1, keepdim=True)
            if num_segments > 1 and values_are_known(lengths):
                shortest = lengths if present is None else lengths[present]
                if shortest.numel() and shortest.min() < num_segments:
                    raise ValueError(_too_short(stream, int(shortest.min()), num_segments))
            index = (mask.cumsum(dim=1) - 1).clamp(min=0) // (lengths // num_segments).clamp(min=1)
        self.index = index.clamp(max=num_segments - 1)
        """(batch or 1, time): the segment of each step."""
        self.mean = self._mean()

    def _mean(self) -> Float[Tensor, "batch segments channels"]:
        feature, dtype = self.feature, torch.promote_types(self.feature.dtype, torch.float32)
        if self.mask is None and not isinstance(feature.shape[2], torch.SymInt):
            steps = feature.shape[2] // self.num_segments
            starts = [i * steps for i in range(self.num_segments)] + [feature.shape[2]]
            parts = [feature[:, :, start:stop] for start, stop in itertools.pairwise(starts)]
            return torch.stack([position_mean(part) for part in parts], dim=1)
        # also where time is symbolic: slices would bind an exported graph to lengths that num_segments divides
        steps = feature.flatten(3).sum(dim=3, dtype=dtype) if feature.dim() > 3 else feature.to(dtype)
        member = self.index.unsqueeze(1) == torch.arange(self.num_segments, device=feature.device).unsqueeze(1)
        if self.mask is not None:
            member = member & self.mask.unsqueeze(1)
        member = member.to(dtype)
        count = member.sum(dim=2, keepdim=True).clamp(min=1) * math.prod(feature.shape[3:])
        with without_autocast(feature.device.type):
            return torch.matmul(member, steps.transpose(1, 2)) / count

    def reweight(self, gate: Float[Tensor, "batch segments channels"]) -> Float[Tensor, "batch channels time *rest"]:
        """Each channel of each step times the gate of its segment, in the map's own type."""
        gate = gate.to(self.feature.dtype)
        if self.num_segments == 1:
            per_step = gate
        elif self.mask is None:
            per_step = gate.index_select(1, self.index[0])
        else:
            per_step = gate.gather(1, self.index.unsqueeze(2).expand(-1, -1, gate.shape[2]))
        per_step = per_step.transpose(1, 2)
        return self.feature * per_step.reshape(*per_step.shape, *[1] * (self.feature.dim() - 3))


def _too_short(stream: str, steps: int, segments: int) -> str:
    return (
        f"stream '{stream}' has {steps} time steps, expected at least segments = {segments}; "
        "use fewer segments or longer samples."
    )
