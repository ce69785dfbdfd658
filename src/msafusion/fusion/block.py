"""BLOCK: block-superdiagonal bilinear fusion (Ben-younes, Cadene, Thome, Cord, AAAI 2019, arXiv 1902.00038)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from msafusion.fusion.base import Head, Prediction, power_normalised, vectors
from msafusion.streams import check_count


class BLOCK(Head):
    """Streams mapped to one size and cut into chunks; a bilinear map of low rank for each chunk; then a linear map.

    Chunk c of stream m, x_m,c, gives z_c = sum_r prod_m (W_m,c,r x_m,c + b_m,c,r): the block-term decomposition of a
    bilinear map (arXiv 1902.00038), for more than two streams the product of all. Each z_c leaves as its
    signed square root at length 1, as in the published code. A missing stream is left out of the product.

    Args:
        channels: stream name -> number of channels.
        num_outputs: of the prediction.
        hidden: size of all chunks together (published code: 1600).
        chunks: their number (published code: 20).
        rank: number of terms in each (published code: 15).

    Raises:
        ValueError: num_outputs is missing; an option is not a positive integer; hidden is not a multiple of chunks.

    Examples:
        >>> import torch
        >>> from msafusion.fusion import BLOCK
        >>> head = BLOCK({"video": 64, "audio": 32}, num_outputs=7, hidden=32, chunks=4)
        >>> head({"video": torch.randn(8, 64), "audio": torch.randn(8, 32)}).shape
        torch.Size([8, 7])
    """

    search_space: ClassVar = {"chunks": (4, 8, 16), "rank": (2, 4, 8)}

    def __init__(
        self,
        channels: Mapping[str, int],
        num_outputs: int | None = None,
        *,
        hidden: int = 128,
        chunks: int = 8,
        rank: int = 4,
    ) -> None:
        super().__init__(channels, num_outputs)
        for name, count in (("hidden", hidden), ("chunks", chunks), ("rank", rank)):
            check_count(name, count)
        if hidden % chunks:
            raise ValueError(
                f"hidden is {hidden}, expected a multiple of chunks = {chunks}; "
                f"set hidden={-(-hidden // chunks) * chunks} or change chunks."
            )
        size = hidden // chunks
        self.chunks, self.rank = chunks, rank
        self.projections = nn.ModuleList(nn.Linear(count, hidden) for count in self.channels.values())
        self.merge_weight = nn.Parameter(torch.empty(len(self.channels), chunks, rank * size, size))
        self.merge_bias = nn.Parameter(torch.empty(len(self.channels), chunks, rank * size))
        self.linear = nn.Linear(hidden, self.predict_dataset("block"))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as nn.Linear does."""
        bound = self.merge_weight.shape[-1] ** -0.5
        nn.init.uniform_(self.merge_weight, -bound, bound)
        nn.init.uniform_(self.merge_bias, -bound, bound)
        for layer in (*self.projections, self.linear):
            assert isinstance(layer, nn.Linear)
            layer.reset_parameters()

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Prediction (batch, num_outputs) of streams (batch, channels, *positions); see `vectors` for the rest."""
        streams, here = vectors(features, self.channels, masks, present)
        product = None
        for index, (name, stream) in enumerate(streams.items()):
            projected = self.projections[index](stream.to(self.linear.weight.dtype)).unflatten(1, (self.chunks, -1))
            merged = torch.einsum("bci,coi->bco", projected, self.merge_weight[index]) + self.merge_bias[index]
            if name in here:
                merged = merged.masked_fill(~here[name].reshape(-1, 1, 1), 1)
            product = merged if product is None else product * merged
        assert product is not None
        pooled = product.unflatten(2, (self.rank, -1)).sum(dim=2)
        return self.linear(power_normalised(pooled).flatten(1))
