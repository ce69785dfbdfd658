"""Low-rank multimodal fusion (Liu, Shen, Lakshminarasimhan, Liang, Zadeh, Morency, ACL 2018, arXiv 1806.00064)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from msafusion.fusion.base import Head, Prediction, vectors
from msafusion.streams import check_count


class LMF(Head):
    """Linear map of the outer product of all streams (as TFN), with a weight tensor of low rank: never formed.

    h = sum_r w_r prod_m W_m,r [x_m; 1] + b (arXiv 1806.00064, with the weights w_r of the published code). A
    missing stream is zero, so that only its 1 stays.

    Args:
        channels: stream name -> number of channels.
        num_outputs: of the prediction.
        rank: number of terms.

    Raises:
        ValueError: num_outputs is missing; rank is not a positive integer.

    Examples:
        >>> import torch
        >>> from msafusion.fusion import LMF
        >>> head = LMF({"video": 64, "audio": 32, "text": 48}, num_outputs=7, rank=8)
        >>> head({"video": torch.randn(8, 64), "audio": torch.randn(8, 32), "text": torch.randn(8, 48)}).shape
        torch.Size([8, 7])
    """

    search_space: ClassVar = {"rank": (2, 4, 8)}

    def __init__(self, channels: Mapping[str, int], num_outputs: int | None = None, *, rank: int = 4) -> None:
        super().__init__(channels, num_outputs)
        check_count("rank", rank)
        outputs = self.predict_dataset("lmf")
        self.factors = nn.ParameterList(torch.empty(rank, count + 1, outputs) for count in self.channels.values())
        self.rank_weight = nn.Parameter(torch.empty(rank))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Every factor near 1: the weights of the appended 1 are 1, the others keep the scale of the stream.

        The published code draws all of them around 0 (Xavier): the products, and with them the gradients, shrink with
        every stream.
        """
        for factor in self.factors:
            nn.init.normal_(factor, std=factor.shape[1] ** -0.5)
            nn.init.ones_(factor[:, -1])
        nn.init.normal_(self.rank_weight, std=len(self.rank_weight) ** -0.5)
        nn.init.zeros_(self.bias)

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Prediction (batch, num_outputs) of streams (batch, channels, *positions); see `vectors` for the rest."""
        streams, _ = vectors(features, self.channels, masks, present)
        terms = None
        for factor, stream in zip(self.factors, streams.values(), strict=True):
            given = stream.to(factor.dtype)
            given = torch.cat([given, torch.ones_like(given[:, :1])], dim=1)
            mapped = torch.einsum("bc,rco->bro", given, factor)
            terms = mapped if terms is None else terms * mapped
        assert terms is not None
        return torch.einsum("r,bro->bo", self.rank_weight, terms) + self.bias
