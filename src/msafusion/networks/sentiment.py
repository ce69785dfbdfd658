"""Sentiment from text, sound and face: MSAF's network for CMU-MOSEI and CMU-MOSI (arXiv 2012.07175, sec. 4.2)."""

from collections.abc import Mapping
from typing import ClassVar

import torch

from msafusion.attach import FusedNetwork, FusionPoint, fuse
from msafusion.backbones import SequenceLSTM
from msafusion.networks.plan import Init, NetworkPlan

CHANNELS = {"visual": 35, "audio": 74, "text": 768}
"""Facet, COVAREP and BERT base features of CMU-MOSEI."""
HIDDEN = {"visual": 32, "audio": 64, "text": 128}


def mosei(
    *,
    reference: bool = False,
    init: Init = "identity",
    block_dropout: float = 0.2,
    segments: int = 5,
    channels: Mapping[str, int] = CHANNELS,
    num_outputs: int = 1,
) -> FusedNetwork:
    """Two LSTMs a stream, fused between them in 5 segments; the last steps side by side, linear. 0.69 M parameters.

    Inputs: `visual`, `audio`, `text` (batch, time, features) with `lengths` where right-padded; sequences of at least
    `segments` real steps.

    Args:
        reference: the published code's network, for its weights (`reproduce.load_reference`): padded steps are read
            as real ones, the last step is taken as it is, `lengths` are refused, and init="paper".
        init: "identity" starts as the three networks side by side, "paper" as in the paper.
        block_dropout: probability to drop a block in training.
        segments: of the fusion, each with its own parameters.
        channels: features a step of each stream.
        num_outputs: 1, the sentiment in [-3, 3].

    Examples:
        >>> import torch
        >>> from msafusion import networks
        >>> net = networks.mosei()
        >>> batch = {"visual": torch.randn(2, 20, 35), "audio": torch.randn(2, 20, 74), "text": torch.randn(2, 20, 768)}
        >>> net(batch, lengths={stream: torch.tensor([20, 12]) for stream in batch}).shape
        torch.Size([2, 1])
    """
    if missing := [stream for stream in HIDDEN if stream not in channels]:
        raise ValueError(f"channels lack {', '.join(missing)}, expected visual, audio and text; name all three.")
    networks = {
        stream: SequenceLSTM(channels[stream], hidden, num_outputs=None, read_padding=reference)
        for stream, hidden in HIDDEN.items()
    }
    point = FusionPoint(
        dict.fromkeys(networks, "lstm1"),
        block_channels=16,
        block_dropout=block_dropout,
        reduction=2,
        segments=segments,
        init="paper" if reference else init,
    )
    example = {stream: torch.zeros(1, max(50, segments), channels[stream]) for stream in networks}
    return fuse(networks, point, head="concat", num_outputs=num_outputs, example=example)


class MOSEINet(NetworkPlan):
    """`networks.mosei` by options: two LSTMs each for face, sound and text.

    Args:
        init: "identity" starts as no fusion at all, "paper" as in the paper.
        block_dropout: probability to drop a block in training, in [0, 1).
        segments: of the fusion.

    Examples:
        >>> from msafusion.networks import MOSEINet
        >>> plan = MOSEINet(segments=3)
        >>> net = plan.build(plan.typical_channels, num_outputs=1)
        >>> list(net.networks)
        ['visual', 'audio', 'text']
    """

    typical_channels: ClassVar = CHANNELS
    typical_outputs = 1

    def __init__(self, init: Init = "identity", block_dropout: float = 0.2, segments: int = 5) -> None:
        self.init, self.block_dropout, self.segments = init, block_dropout, segments

    @property
    def cpu_threads(self) -> int:
        """One: the matrices are too small for two."""
        return 1

    def build(self, channels: Mapping[str, int], num_outputs: int) -> FusedNetwork:
        """The network for the features of a data set; the streams must be visual, audio and text."""
        self.check_streams(channels, dict.fromkeys(HIDDEN))
        return mosei(channels=channels, num_outputs=num_outputs, **vars(self))

    def typical_shapes(self) -> dict[str, tuple[int, ...]]:
        """50 steps."""
        return {stream: (50, count) for stream, count in CHANNELS.items()}

    def unimodal(self, net: FusedNetwork, stream: str, num_outputs: int) -> FusedNetwork:
        """The stream's LSTMs with the dropout and linear map that they have when they stand alone."""
        encoder = net.networks[stream]
        assert isinstance(encoder, SequenceLSTM)
        network = SequenceLSTM(encoder.in_channels, encoder.hidden_channels, num_outputs)
        network.lstm1, network.lstm2 = encoder.lstm1, encoder.lstm2
        return fuse({stream: network})
