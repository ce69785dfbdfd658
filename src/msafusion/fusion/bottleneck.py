"""Attention bottlenecks (Nagrani, Yang, Arnab, Jansen, Schmid, Sun: "MBT", NeurIPS 2021, arXiv 2107.00135)."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from msafusion.fusion.tokens import Positions, TokenAttention, TokenMethod, Tokens


class BottleneckTokens(TokenMethod):
    """Let streams exchange what fits into a few learned tokens.

    After arXiv 2107.00135, eq. 8 and 9. With B the learned bottleneck tokens and x_i the tokens of stream i,

        B_i = B + attention_i(queries norm(B), keys and values x_i)                     (eq. 8)
        F = mean of B_i over the streams that the sample has                            (eq. 9)
        y_i = stream i + W_i attention'_i(queries x_i, keys and values norm(F))         (eq. 8, next layer)

    In the paper the streams are transformers: the bottleneck tokens are appended to each stream's own tokens, both pass
    through the stream's own layer, and the tokens go on from layer to layer. Here any feature map is a stream, with
    maps to and from `width` and two attentions of its own, but no feed-forward network and no attention within a
    stream, which its network does. The tokens start from their learned values at every fusion point. Time steps
    have positions as in `CrossAttention`.

    Args:
        channels: stream name -> number of channels.
        num_tokens: B of the paper, which uses 4.
        width: of the tokens.
        num_heads: of the attention; divides width.
        init: "identity" starts every W_i at zero, so that a new module changes nothing; "paper" starts it as all
            other maps: Xavier. The tokens start as normal numbers of deviation 0.02, as in the paper.

    Shapes:
        see `TokenMethod.forward`. A stream that is absent, missing or all padding does not count in the mean.

    Raises:
        ValueError: an option out of range.

    Examples:
        >>> import torch
        >>> from msafusion.fusion import BottleneckTokens
        >>> fusion = BottleneckTokens({"video": 64, "audio": 32}, num_tokens=4)
        >>> features = {"video": torch.randn(2, 64, 3, 4, 4), "audio": torch.randn(2, 32, 50)}
        >>> {name: tuple(fused.shape) for name, fused in fusion(features).items()}
        {'video': (2, 64, 3, 4, 4), 'audio': (2, 32, 50)}
    """

    search_space: ClassVar = {"num_tokens": (2, 4, 8), "width": (32, 64)}

    def __init__(
        self,
        channels: Mapping[str, int],
        num_tokens: int = 4,
        width: int = 64,
        num_heads: int = 4,
        init: Literal["identity", "paper"] = "identity",
    ) -> None:
        super().__init__(channels, width, num_heads, init, num_tokens=num_tokens)
        self.tokens = nn.Parameter(torch.empty(num_tokens, width))
        self.token_norm, self.fused_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.collect = nn.ModuleList(TokenAttention(width, num_heads) for _ in self.channels)
        self.distribute = nn.ModuleList(TokenAttention(width, num_heads) for _ in self.channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize all parameters."""
        super().reset_parameters()
        nn.init.normal_(self.tokens, std=0.02)

    def extra_repr(self) -> str:
        """Streams and options, for printing."""
        return f"{self.channels}, num_tokens={len(self.tokens)}, init={self.init!r}"

    def messages(self, streams: dict[str, Positions]) -> dict[str, Float[Tensor, "batch _tokens width"]]:
        """For each stream what its positions get from the tokens that all streams have filled."""
        embedded = {
            name: embed(streams[name]) for name, embed in zip(self.channels, self.embed, strict=True) if name in streams
        }
        batch = next(iter(embedded.values())).values.shape[0]
        queries = self.token_norm(self.tokens).expand(batch, -1, -1)
        told, counts = [], []
        for name, collect in zip(self.channels, self.collect, strict=True):
            if name in embedded:
                told.append(collect(queries, embedded[name]))
                real = embedded[name].real
                counts.append(told[-1].new_ones(batch) if real is None else real.any(dim=1).to(told[-1].dtype))
        # a missing stream told zeros, so the mean of B + told over the streams present is B + sum / their number
        number = torch.stack(counts).sum(dim=0).clamp(min=1)
        fused = Tokens(self.fused_norm(self.tokens + torch.stack(told).sum(dim=0) / number[:, None, None]), None)
        return {
            name: distribute(embedded[name].values, fused)
            for name, distribute in zip(self.channels, self.distribute, strict=True)
            if name in embedded
        }
