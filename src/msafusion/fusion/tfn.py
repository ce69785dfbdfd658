"""Tensor fusion (Zadeh, Chen, Poria, Cambria, Morency, EMNLP 2017, arXiv 1707.07250)."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from msafusion.fusion.base import Head, Prediction, vectors
from msafusion.streams import check_count, check_option

MAX_WEIGHTS = 2**24
"""Of the layer after the product: 64 MiB in float32."""


class TFN(Head):
    """Outer product of all streams, each with a 1 appended, then two linear maps with a ReLU between.

    The product z = [z_1; 1] x ... x [z_M; 1] holds every stream, every pair, and so on (the tensor fusion layer of
    arXiv 1707.07250). Its size is the product of all (hidden + 1). A missing stream is zero, so that only its 1 stays.

    Args:
        channels: stream name -> number of channels.
        num_outputs: of the prediction.
        hidden: size that a linear map with ReLU reduces each stream to; None takes the streams as they are.
        post_hidden: size between the two last linear maps.
        dropout: of the product, in [0, 1).

    Raises:
        ValueError: no num_outputs; an option out of range; the product is too large.

    Examples:
        >>> import torch
        >>> from msafusion.fusion import TFN
        >>> head = TFN({"video": 64, "audio": 32}, num_outputs=7, hidden=16)
        >>> head({"video": torch.randn(8, 64), "audio": torch.randn(8, 32)}).shape
        torch.Size([8, 7])
    """

    search_space: ClassVar = {"hidden": (16, 32), "post_hidden": (32, 64, 128)}

    def __init__(
        self,
        channels: Mapping[str, int],
        num_outputs: int | None = None,
        *,
        hidden: int | None = 32,
        post_hidden: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(channels, num_outputs)
        if hidden is not None:
            check_count("hidden", hidden)
        check_count("post_hidden", post_hidden)
        check_option("dropout", dropout, 0.0, 1.0, open_above=True)
        outputs = self.predict_dataset("tfn")
        sizes = [count if hidden is None else hidden for count in self.channels.values()]
        product = math.prod(size + 1 for size in sizes)
        if product * post_hidden > MAX_WEIGHTS:
            raise ValueError(
                f"the tensor product of {len(sizes)} streams of {sizes} channels has {product} elements, so "
                f"{product * post_hidden} weights after it with post_hidden={post_hidden}, expected at most "
                f'{MAX_WEIGHTS}; lower hidden (or post_hidden), or use head="lmf", which needs no such product.'
            )
        self.reductions = nn.ModuleList(
            nn.Identity() if hidden is None else nn.Sequential(nn.Linear(count, hidden), nn.ReLU())
            for count in self.channels.values()
        )
        self.dropout = nn.Dropout(dropout)
        self.post = nn.Linear(product, post_hidden)
        self.linear = nn.Linear(post_hidden, outputs)

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Prediction (batch, num_outputs) of streams (batch, channels, *positions); see `vectors` for the rest."""
        streams, here = vectors(features, self.channels, masks, present)
        product = None
        for reduction, (name, stream) in zip(self.reductions, streams.items(), strict=True):
            reduced = reduction(stream.to(self.linear.weight.dtype))
            if name in here:  # the reduction's bias must not stand for a missing stream
                reduced = reduced.masked_fill(~here[name].unsqueeze(1), 0)
            reduced = torch.cat([reduced, torch.ones_like(reduced[:, :1])], dim=1)
            product = reduced if product is None else (product.unsqueeze(2) * reduced.unsqueeze(1)).flatten(1)
        return self.linear(torch.relu(self.post(self.dropout(product))))
