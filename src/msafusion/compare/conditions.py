"""Conditions of the robustness rows: a stream missing, noise on a stream, a stream that comes too late (shifted)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from msafusion.training.testing import Condition, StreamInputs

NOISE = (0.5, 1.0, 2.0)
"""Standard deviations of the noise, in those of the training samples (inputs are standardised)."""
SHIFTS = (0.1, 0.25)
"""Delays, in parts of a sample's duration."""


def conditions_for(inputs: Mapping[str, Tensor], seed: int) -> dict[str, Condition]:
    """The conditions that fit a data set's streams, by name.

    Args:
        inputs: of one batch; streams (batch, channels, time) and (batch, channels, time, height, width) can be delayed.
        seed: of the noise, the same for every method.
    """
    found: dict[str, Condition] = {}
    if len(inputs) < 2:
        return found
    for stream in inputs:
        found[f"without {stream}"] = _Without(stream)
    for stream in inputs:
        for index, strength in enumerate(NOISE):
            found[f"noise {strength:g} on {stream}"] = _Noise(stream, strength, seed + 1000 * index)
    for stream, values in inputs.items():
        if values.dim() in (3, 5):
            for part in SHIFTS:
                found[f"{stream} shifted by {part:g}"] = _LateFusion(stream, part)
    return found


class _Without:
    def __init__(self, stream: str) -> None:
        self.stream = stream

    def __call__(self, inputs: StreamInputs, lengths: Mapping[str, Tensor]) -> StreamInputs:
        return {name: values for name, values in inputs.items() if name != self.stream}


class _Noise:
    """White noise, drawn in the order of the test samples."""

    def __init__(self, stream: str, strength: float, seed: int) -> None:
        self.stream, self.strength = stream, strength
        self.random = torch.Generator().manual_seed(seed)

    def __call__(self, inputs: StreamInputs, lengths: Mapping[str, Tensor]) -> StreamInputs:
        values = inputs[self.stream]
        noise = torch.randn(values.shape, generator=self.random).to(values)
        return {**inputs, self.stream: values + self.strength * noise}


class _LateFusion:
    """Every sample starts later by a part of its own duration; what is pushed out at its end is lost."""

    def __init__(self, stream: str, part: float) -> None:
        self.stream, self.part = stream, part

    def __call__(self, inputs: StreamInputs, lengths: Mapping[str, Tensor]) -> StreamInputs:
        values = inputs[self.stream]
        batch, steps = values.shape[0], values.shape[2]
        real = lengths.get(self.stream, torch.full((batch,), steps, device=values.device))
        delay = (real * self.part).round().long().unsqueeze(1)
        source = torch.arange(steps, device=values.device) - delay
        shape = (batch, 1, steps, *[1] * (values.dim() - 3))
        index = source.clamp(min=0).reshape(shape).expand_as(values)
        kept = ((source >= 0) & (torch.arange(steps, device=values.device) < real.unsqueeze(1))).reshape(shape)
        return {**inputs, self.stream: values.gather(2, index) * kept}
