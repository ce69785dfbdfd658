"""CentralNet (Vielzeuf, Lechervy, Pateux, Jurie, ECCV workshops 2018, arXiv 1808.07275)."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from msafusion.fusion.base import Head, Prediction, vectors
from msafusion.streams import check_count, nearest


class CentralNet(Head):
    """A central network that takes in streams level by level, each with a trainable weight.

    h_{l+1} = ReLU(W_l (alpha_C,l h_l + sum_m alpha_m,l P_m x_m) + b_l), a linear map of the last h is the prediction
    (arXiv 1808.07275; the linear maps P_m give streams one size, which the paper's have by design). The first
    level has no h. All alphas start at 1 and are free. A missing stream is zero and so adds nothing.

    The paper adds the losses of the single networks' own predictions to that of the central one; here the loss is
    left to the training.

    Args:
        channels: stream name -> number of channels.
        num_outputs: of the prediction.
        levels: the streams of each level, e.g. [["video.stage2", "audio.stage2"], ["video.stage3", "audio.stage3"]];
            each stream once. None: all streams in one level.
        hidden: size of h.

    Raises:
        ValueError: num_outputs is missing; hidden is not a positive integer; a level is empty or not a list; a
            stream in levels is unknown or repeated, or one is in none.

    Examples:
        >>> import torch
        >>> from msafusion.fusion import CentralNet
        >>> channels = {"video.stage2": 64, "audio.stage2": 32, "video.stage3": 128, "audio.stage3": 64}
        >>> levels = [["video.stage2", "audio.stage2"], ["video.stage3", "audio.stage3"]]
        >>> head = CentralNet(channels, num_outputs=7, levels=levels)
        >>> head({name: torch.randn(8, count) for name, count in channels.items()}).shape
        torch.Size([8, 7])
    """

    search_space: ClassVar = {"hidden": (64, 128, 256)}

    def __init__(
        self,
        channels: Mapping[str, int],
        num_outputs: int | None = None,
        *,
        levels: Sequence[Sequence[str]] | None = None,
        hidden: int = 128,
    ) -> None:
        super().__init__(channels, num_outputs)
        check_count("hidden", hidden)
        self.levels = [list(self.channels)] if levels is None else check_levels(levels, self.channels)
        self.projections = nn.ModuleList(
            nn.ModuleList(nn.Linear(self.channels[name], hidden, bias=False) for name in level) for level in self.levels
        )
        # of each level the weights of its streams, then, but in the first, that of the central network
        self.alphas = nn.ParameterList(torch.ones(len(level) + (at > 0)) for at, level in enumerate(self.levels))
        self.central = nn.ModuleList(nn.Linear(hidden, hidden) for _ in self.levels)
        self.linear = nn.Linear(hidden, self.predict_dataset("centralnet"))

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Prediction (batch, num_outputs) of streams (batch, channels, *positions); see `vectors` for the rest."""
        streams, _ = vectors(features, self.channels, masks, present)
        central: Tensor | None = None
        for level, projections, alphas, layer in zip(
            self.levels, self.projections, self.alphas, self.central, strict=True
        ):
            assert isinstance(projections, nn.ModuleList)
            parts = [
                projection(streams[name].to(self.linear.weight.dtype))
                for name, projection in zip(level, projections, strict=True)
            ]
            if central is not None:
                parts.append(central)
            central = torch.relu(layer(torch.einsum("p,pbh->bh", alphas, torch.stack(parts))))
        return self.linear(central)


def check_levels(levels: Sequence[Sequence[str]], channels: Mapping[str, int]) -> list[list[str]]:
    """The levels as lists, if each declared stream is in exactly one."""
    for level in levels:
        if isinstance(level, str) or not level:
            raise ValueError(
                f"levels has the level {level!r}, expected a list of stream names; pass levels=[['a', 'b'], ['c']]."
            )
    named = [name for level in levels for name in level]
    for name in named:
        if name not in channels:
            raise ValueError(f"levels names '{name}', expected a declared stream; {nearest(name, channels)}")
        if named.count(name) > 1:
            raise ValueError(f"levels names '{name}' {named.count(name)} times, expected once; leave it in one level.")
    unused = [name for name in channels if name not in named]
    if unused:
        raise ValueError(
            f"levels names {len(named)} of {len(channels)} streams, expected all; add {', '.join(unused)} to a level."
        )
    return [list(level) for level in levels]
