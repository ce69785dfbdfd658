"""Streams side by side, then a linear map (arXiv 2012.07175, sec. 4.2)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from msafusion.fusion.base import Head, Prediction
from msafusion.streams import check_someone


class Concat(Head):
    """Streams side by side, then a linear map to `num_outputs` (arXiv 2012.07175, sec. 4.2); a missing one is zero.

    Args:
        channels: stream name -> number of channels.
        num_outputs: of the prediction.

    Raises:
        ValueError: no num_outputs.

    Examples:
        >>> import torch
        >>> from msafusion.fusion import Concat
        >>> head = Concat({"video": 64, "audio": 32}, num_outputs=7)
        >>> head({"video": torch.randn(8, 64), "audio": torch.randn(8, 32)}).shape
        torch.Size([8, 7])
    """

    def __init__(self, channels: Mapping[str, int], num_outputs: int | None = None) -> None:
        super().__init__(channels, num_outputs)
        self.linear = nn.Linear(sum(self.channels.values()), self.predict_dataset("concat"))

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Linear map of all streams, (batch, *steps, channels) each; rows of samples that lack one must be zero.

        Raises:
            ValueError: a sample has none of them.
        """
        check_someone(features, masks, present)
        some = next(iter(features.values()))
        parts = [
            features[n] if n in features else some.new_zeros(*some.shape[:-1], c) for n, c in self.channels.items()
        ]
        return self.linear(torch.cat(parts, dim=-1))
