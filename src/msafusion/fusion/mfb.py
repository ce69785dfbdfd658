"""Multimodal factorised bilinear pooling (Yu, Yu, Fan, Tao, ICCV 2017, arXiv 1708.01471)."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from msafusion.fusion.base import Head, Prediction, power_normalised, vectors
from msafusion.streams import check_count, check_option


class MFB(Head):
    """Product of linear maps of all streams, sums of `factor` neighbours, signed root at length 1, a linear map.

    z = SumPool(U^T x * V^T y, k) (arXiv 1708.01471), for more streams the product of all. A missing stream is
    left out of the product.

    Args:
        channels: stream name -> number of channels.
        num_outputs: of the prediction.
        factor: k, the rank of each output's bilinear map (the paper: 5).
        hidden: o, the size of z (the paper: 1000).
        dropout: of the product, in [0, 1) (the paper: 0.1).

    Raises:
        ValueError: no num_outputs; an option out of range.

    Examples:
        >>> import torch
        >>> from msafusion.fusion import MFB
        >>> head = MFB({"video": 64, "audio": 32}, num_outputs=7, factor=5)
        >>> head({"video": torch.randn(8, 64), "audio": torch.randn(8, 32)}).shape
        torch.Size([8, 7])
    """

    search_space: ClassVar = {"factor": (2, 4, 8), "hidden": (64, 128)}

    def __init__(
        self,
        channels: Mapping[str, int],
        num_outputs: int | None = None,
        *,
        factor: int = 4,
        hidden: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(channels, num_outputs)
        check_count("factor", factor)
        check_count("hidden", hidden)
        check_option("dropout", dropout, 0.0, 1.0, open_above=True)
        self.factor = factor
        self.projections = nn.ModuleList(nn.Linear(count, factor * hidden) for count in self.channels.values())
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, self.predict_dataset("mfb"))

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Prediction (batch, num_outputs) of streams (batch, channels, *positions); see `vectors` for the rest."""
        streams, here = vectors(features, self.channels, masks, present)
        product = None
        for projection, (name, stream) in zip(self.projections, streams.items(), strict=True):
            projected = projection(stream.to(self.linear.weight.dtype))
            if name in here:
                projected = projected.masked_fill(~here[name].unsqueeze(1), 1)
            product = projected if product is None else product * projected
        assert isinstance(product, Tensor)
        pooled = self.dropout(product).unflatten(1, (-1, self.factor)).sum(dim=2)
        return self.linear(power_normalised(pooled))
