"""Gated multimodal unit (Arevalo, Solorio, Montes-y-Gómez, González, ICLR workshop 2017, arXiv 1702.01992)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from msafusion.fusion.base import Head, Prediction, vectors
from msafusion.streams import check_count


class GMU(Head):
    """Streams mapped to one space, each weighted by a gate that sees all of them, added; then a linear map.

    h_m = tanh(W_m x_m) and h = sum_m z_m * h_m with z_m = sigmoid(W_zm [x_1, ..., x_M]). Exactly two streams share one
    gate: h = z * h_1 + (1 - z) * h_2, the paper's bimodal unit (arXiv 1702.01992, without biases as there).
    A missing stream is zero and so adds nothing.

    Args:
        channels: stream name -> number of channels.
        num_outputs: of the prediction.
        hidden: size of h.

    Raises:
        ValueError: num_outputs is missing; hidden is not a positive integer.

    Examples:
        >>> import torch
        >>> from msafusion.fusion import GMU
        >>> head = GMU({"video": 64, "audio": 32}, num_outputs=7)
        >>> head({"video": torch.randn(8, 64), "audio": torch.randn(8, 32)}).shape
        torch.Size([8, 7])
        >>> head({"video": torch.randn(8, 64)}).shape  # without audio
        torch.Size([8, 7])
    """

    search_space: ClassVar = {"hidden": (32, 64, 128)}

    def __init__(self, channels: Mapping[str, int], num_outputs: int | None = None, *, hidden: int = 64) -> None:
        super().__init__(channels, num_outputs)
        check_count("hidden", hidden)
        num_gates = 1 if len(self.channels) == 2 else len(self.channels)
        self.hidden = hidden
        # lists in the order of channels: names with a dot cannot be names of modules
        self.transforms = nn.ModuleList(nn.Linear(count, hidden, bias=False) for count in self.channels.values())
        self.gate = nn.Linear(sum(self.channels.values()), num_gates * hidden, bias=False)
        self.linear = nn.Linear(hidden, self.predict_dataset("gmu"))

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Prediction (batch, num_outputs) of streams (batch, channels, *positions); see `vectors` for the rest."""
        streams, _ = vectors(features, self.channels, masks, present)
        given = [stream.to(self.linear.weight.dtype) for stream in streams.values()]
        gates = torch.sigmoid(self.gate(torch.cat(given, dim=1))).split(self.hidden, dim=1)
        if len(given) == 2:
            gates = gates[0], 1 - gates[0]
        hidden = [
            gate * torch.tanh(transform(stream))
            for gate, transform, stream in zip(gates, self.transforms, given, strict=True)
        ]
        return self.linear(torch.stack(hidden).sum(dim=0))
