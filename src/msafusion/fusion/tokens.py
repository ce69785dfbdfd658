"""Streams as sequences of tokens, attention between them, and the base of the methods made of these."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from msafusion.fusion.base import real_parts
from msafusion.streams import Features, check_channels, check_choice, check_count, check_features


def check_method(channels: Mapping[str, int], init: str, **counts: int) -> None:
    """Refuse channels, a start or counts that no method takes.

    Raises:
        ValueError: channels are not a mapping, none, or not positive; `init` is neither "identity" nor "paper"; a
            count is not positive.
    """
    check_channels(channels)
    for name, count in counts.items():
        check_count(name, count)
    check_choice("init", init, ("identity", "paper"))


class Positions(NamedTuple):
    """A stream with time first: what its positions hold, where they are in time, which are real."""

    values: Float[Tensor, "_batch _time _rest _channels"]
    """`rest` are the positions beyond time, such as joints; a vector has one step and one such position."""
    times: Float[Tensor, "_batch _time"] | None
    """Middle of each step, from 0 to 1 of the sample's own real steps; None for a vector."""
    real: Bool[Tensor, "_batch _time"] | None
    """True where a step is real and the stream there; None where all are."""


class Tokens(NamedTuple):
    """Vectors of one width, and which are real."""

    values: Float[Tensor, "_batch _tokens _width"]
    real: Bool[Tensor, "_batch _tokens"] | None
    """None where all are."""


def positions_of(
    feature: Float[Tensor, "batch channels *positions"],
    mask: Bool[Tensor, "batch time"] | None = None,
    present: Bool[Tensor, " batch"] | None = None,
) -> Positions:
    """A stream, with zeros at padded steps, as a `Positions`."""
    steps = feature[..., None] if feature.dim() == 2 else feature
    values = (steps[..., None] if steps.dim() == 3 else steps.flatten(3)).permute(0, 2, 3, 1)
    real = mask
    if present is not None:
        here = present[:, None].expand(values.shape[:2])
        real = here if real is None else real & here
    if feature.dim() == 2:
        return Positions(values, None, real)
    dtype = torch.promote_types(feature.dtype, torch.float32)
    rank, length = _ranks(values, real)
    return Positions(values, (rank.to(dtype) + 0.5) / length, real)


def pool_positions(stream: Positions, most: int) -> Positions:
    """At most `most` positions, each the mean of neighbours; what is padded does not change the result.

    Positions beyond time are averaged where there are more than sqrt(most) of them. Each sample's real steps, where
    there are more than fit, are cut into as many parts, as even as can be; else they stay.
    """
    values, times, real = stream
    if values.shape[2] * values.shape[2] > most:
        values = values.mean(dim=2, keepdim=True)
    num_parts = most // values.shape[2]
    if times is None or values.shape[1] <= num_parts:
        return Positions(values, times, real)
    rank, length = _ranks(values, real)
    parts = length.clamp(max=num_parts)
    part = torch.arange(num_parts, device=values.device).unsqueeze(0)
    member = (rank * parts // length).unsqueeze(1) == part.unsqueeze(2)
    if real is not None:
        member = member & real.unsqueeze(1)
    weight = member.to(values.dtype)
    weight = weight / weight.sum(dim=2, keepdim=True).clamp(min=1)
    values = torch.matmul(weight, values.flatten(2)).unflatten(2, values.shape[2:])
    return Positions(values, (part.to(times.dtype) + 0.5) / parts, None if real is None else member.any(dim=2))


def _ranks(values: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
    """How many real steps come before each, (batch or 1, time), and how many there are, (batch or 1, 1), 1 at least."""
    if real is None:
        real = torch.ones(1, values.shape[1], dtype=torch.bool, device=values.device)
    return (real.cumsum(dim=1) - 1).clamp(min=0), real.sum(dim=1, keepdim=True).clamp(min=1)


def sinusoids(times: Float[Tensor, "batch time"], width: int) -> Float[Tensor, "batch time {width}"]:
    """Sinusoidal embedding of step 100 t (Vaswani et al. 2017, arXiv 1706.03762, sec. 3.5), sines then cosines."""
    frequencies = torch.arange(0, width, 2, device=times.device, dtype=times.dtype) / width
    angles = 100.0 * times.unsqueeze(2) * 10000.0**-frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=2)[..., :width]


class Embedding(nn.Module):
    """Tokens of a stream: a linear map to `width`, plus the embedding of time, normalised over the width."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.project, self.norm = nn.Linear(channels, width), nn.LayerNorm(width)

    def forward(self, stream: Positions) -> Tokens:
        """Tokens of all positions, time first."""
        values, times, real = stream
        values = self.project(values.to(self.project.weight.dtype))
        if times is not None:
            values = values + sinusoids(times, values.shape[3]).to(values.dtype).unsqueeze(2)
        if real is not None:
            real = real.unsqueeze(2).expand(values.shape[:3]).flatten(1)
        return Tokens(self.norm(values).flatten(1, 2), real)


class TokenAttention(nn.Module):
    """Scaled dot-product attention of several heads (arXiv 1706.03762, eq. 1), without a map of the output.

    Args:
        width: of the tokens; a multiple of num_heads.
        num_heads: of width / num_heads channels each.
        dropout: of the attention weights, in training.
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(
        self, queries: Float[Tensor, "batch queries width"], sources: Tokens
    ) -> Float[Tensor, "batch queries width"]:
        """What each query gets from the real sources; zero where a sample has none."""
        heads = [
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.query(queries), self.key(sources.values), self.value(sources.values))
        ]
        allowed, nothing = None, None
        if sources.real is not None:
            # where no source is real all are let in and the result is dropped: not every backend has a softmax over
            # nothing that is a number
            nothing = ~sources.real.any(dim=1)[:, None, None]
            allowed = (sources.real.unsqueeze(1) | nothing).unsqueeze(1)
        dropout = self.dropout if self.training else 0.0
        result = functional.scaled_dot_product_attention(*heads, attn_mask=allowed, dropout_p=dropout)
        result = result.transpose(1, 2).flatten(2)
        return result if nothing is None else result.masked_fill(nothing, 0)


class TokenMethod(nn.Module, ABC):
    """Base of methods that add to every position what its token gets from others: x + W_out message, without a bias.

    Under autocast the tokens are computed in its type, and the sum is in the stream's own.

    Args:
        channels: stream name -> number of channels.
        width: of the tokens.
        num_heads: of the attention.
        init: "identity" starts W_out at zero, "paper" as Xavier, which all maps of tokens do.
        counts: further options to be checked, positive integers.
    """

    def __init__(
        self,
        channels: Mapping[str, int],
        width: int,
        num_heads: int,
        init: Literal["identity", "paper"],
        **counts: int,
    ) -> None:
        super().__init__()
        check_method(channels, init, width=width, num_heads=num_heads, **counts)
        if width % num_heads:
            raise ValueError(f"width is {width}, expected a multiple of num_heads = {num_heads}; change one of them.")
        self.channels, self.width, self.num_heads, self.init = dict(channels), width, num_heads, init
        self.embed = nn.ModuleList(Embedding(count, width) for count in self.channels.values())
        self.output = nn.ModuleList(nn.Linear(width, count, bias=False) for count in self.channels.values())

    def reset_parameters(self) -> None:
        """Xavier's uniform start and zero biases for all maps of tokens; W_out as `init` says."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        if self.init == "identity":
            for weight in self.output.parameters():
                nn.init.zeros_(weight)

    @abstractmethod
    def messages(self, streams: dict[str, Positions]) -> dict[str, Float[Tensor, "batch _tokens width"]]:
        """What the tokens of each stream are given; a stream that is left out gets nothing."""

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Features:
        """Let the streams tell each other.

        Args:
            features: stream name -> (batch, channels, *positions); a stream may be absent.
            masks: stream name -> bool (batch, time), True where a step is real. Padded steps tell nothing and leave
                as zeros.
            present: stream name -> bool (batch,). A missing stream tells nothing and leaves as zeros.

        Returns:
            The same names, shapes and types.

        Raises:
            ValueError: see `check_features`.
        """
        check_features(features, self.channels, masks, present)
        masks, present = masks or {}, present or {}
        result = real_parts(features, masks, present)
        streams = {n: positions_of(result[n], masks.get(n), present.get(n)) for n in self.channels if n in result}
        outputs = dict(zip(self.channels, self.output, strict=False))
        for name, message in self.messages(streams).items():
            change = outputs[name](message).transpose(1, 2).reshape(result[name].shape)
            result[name] = result[name] + change.to(result[name].dtype)
        return real_parts(result, masks, present)
