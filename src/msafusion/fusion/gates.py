"""Gates of channels that depend on all streams: what MMTM and squeeze-and-excitation share."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from msafusion.fusion.base import real_parts, stream_means
from msafusion.fusion.pooling import without_autocast
from msafusion.streams import Features, check_features


class ChannelGates(nn.Module):
    """Multiply every channel by a gate computed from the means of all streams: highest * sigmoid(W_2 ReLU(W_1 s)).

    Both maps have biases and are computed in the parameters' type, also under autocast.

    Args:
        channels: stream name -> number of channels; a stream not given at call counts as zeros.
        hidden: outputs of W_1.
        highest: what a gate can reach.
        zero_gates: start W_2 at zero: every gate is highest / 2. Else both maps start as nn.Linear does.
    """

    def __init__(self, channels: Mapping[str, int], hidden: int, highest: float, zero_gates: bool) -> None:
        super().__init__()
        self.channels, self.highest, self.zero_gates = dict(channels), highest, zero_gates
        total = sum(self.channels.values())
        self.squeeze, self.excite = nn.Linear(total, hidden), nn.Linear(hidden, total)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize all parameters."""
        self.squeeze.reset_parameters()
        self.excite.reset_parameters()
        if self.zero_gates:
            nn.init.zeros_(self.excite.weight)
            nn.init.zeros_(self.excite.bias)

    def extra_repr(self) -> str:
        """Streams and the highest gate, for printing."""
        return f"{self.channels}, highest={self.highest}"

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Features:
        """Gate the streams.

        Args:
            features: stream name -> (batch, channels, *positions); a stream may be absent.
            masks: stream name -> bool (batch, time), True where a step is real. Padded steps leave as zeros.
            present: stream name -> bool (batch,). A missing stream counts as zeros and leaves as zeros.

        Returns:
            The same names, shapes and types.

        Raises:
            ValueError: see `check_features`.
        """
        batch = check_features(features, self.channels, masks, present)
        real = real_parts(features, masks, present)
        means, some = stream_means(real, masks), next(iter(real.values()))
        with without_autocast(some.device.type):
            parts = [means[n] if n in means else some.new_zeros(batch, c) for n, c in self.channels.items()]
            joint = functional.relu(self.squeeze(torch.cat([part.to(self.squeeze.weight.dtype) for part in parts], 1)))
            gates = (self.highest * torch.sigmoid(self.excite(joint))).split(list(self.channels.values()), dim=1)
        for name, gate in zip(self.channels, gates, strict=True):
            if name in real:
                gate = gate.to(real[name].dtype)
                real[name] = real[name] * gate.reshape(*gate.shape, *[1] * (real[name].dim() - 2))
        return real
