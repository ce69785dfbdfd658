"""Crossmodal attention between all pairs of streams (Tsai et al.: "MulT", ACL 2019, arXiv 1906.00295)."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from msafusion.fusion.tokens import Positions, TokenAttention, TokenMethod, pool_positions
from msafusion.streams import check_option


class CrossAttention(TokenMethod):
    """Add to every position of every stream what it gets by attention from the other streams.

    After arXiv 1906.00295, sec. 3.1 (crossmodal attention from source beta to target alpha) and 3.2 (eq. 3 to 5):

        x_alpha + W_alpha sum over beta of softmax(Q_alpha K_beta^T / sqrt(d)) V_beta

    with Q_alpha the target's tokens through W_Q, K_beta and V_beta the source's through W_K and W_V, each pair (target,
    source) with its own maps, and tokens = layer norm(P x + position). The paper stacks such layers for every pair on
    tokens that stay in `width`, with a feed-forward network after each, and joins them at the end of the network. Here
    it is one layer between layers of the streams' own networks: the sources are added, mapped back to the target's
    channels and added to it, and what follows in the network takes the place of the feed-forward network.

    The position of a step is its middle as a part of the sample's own real length, from 0 to 1, so that streams of
    different rates meet; it is embedded by sines and cosines as step 100 t of a sequence. Vectors have none, and
    positions beyond time (joints, columns of an image) have none of their own.

    Args:
        channels: stream name -> number of channels.
        width: of the tokens.
        num_heads: of the attention; divides width.
        max_positions: most positions of a source that are attended to. Of a source with more than sqrt(max_positions)
            positions beyond time these are averaged; where too many steps are left they are averaged in even parts.
        dropout: of the attention weights, in training.
        init: "identity" starts every W_alpha at zero, so that a new module changes nothing; "paper" starts it as all
            other maps: Xavier, as the paper's code.

    Shapes:
        see `TokenMethod.forward`. A stream gets exactly nothing from sources that are absent, missing or all padding.

    Raises:
        ValueError: an option out of range.

    Examples:
        >>> import torch
        >>> from msafusion.fusion import CrossAttention
        >>> fusion = CrossAttention({"video": 64, "audio": 32}, width=32)
        >>> features = {"video": torch.randn(2, 64, 3, 4, 4), "audio": torch.randn(2, 32, 50)}
        >>> {name: tuple(fused.shape) for name, fused in fusion(features).items()}
        {'video': (2, 64, 3, 4, 4), 'audio': (2, 32, 50)}
    """

    search_space: ClassVar = {"width": (32, 64, 128), "dropout": (0.0, 0.1)}

    def __init__(
        self,
        channels: Mapping[str, int],
        width: int = 64,
        num_heads: int = 4,
        max_positions: int = 64,
        dropout: float = 0.0,
        init: Literal["identity", "paper"] = "identity",
    ) -> None:
        super().__init__(channels, width, num_heads, init, max_positions=max_positions)
        check_option("dropout", dropout, 0.0, 1.0, open_above=True)
        self.max_positions, self.dropout = max_positions, dropout
        if len(self.channels) == 1:  # nothing to attend to: no parameter that would never get a gradient
            self.embed, self.output = nn.ModuleList(), nn.ModuleList()
        self.pairs = [(target, source) for target in self.channels for source in self.channels if target != source]
        self.attend = nn.ModuleList(TokenAttention(width, num_heads, dropout) for _ in self.pairs)
        self.reset_parameters()

    def extra_repr(self) -> str:
        """Streams and options, for printing."""
        return f"{self.channels}, max_positions={self.max_positions}, init={self.init!r}"

    def messages(self, streams: dict[str, Positions]) -> dict[str, Float[Tensor, "batch _tokens width"]]:
        """For each target the sum of what the others tell."""
        embed = {name: module for name, module in zip(self.channels, self.embed, strict=False) if name in streams}
        targets = {name: module(streams[name]) for name, module in embed.items()}
        sources = {name: module(pool_positions(streams[name], self.max_positions)) for name, module in embed.items()}
        result: dict[str, Tensor] = {}
        for (target, source), attend in zip(self.pairs, self.attend, strict=True):
            if target in streams and source in streams:
                told = attend(targets[target].values, sources[source])
                result[target] = result[target] + told if target in result else told
        return result
