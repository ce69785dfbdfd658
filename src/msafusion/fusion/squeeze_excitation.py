"""Squeeze-and-excitation over the channels of all streams (Hu et al., arXiv 1709.01507)."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from msafusion.fusion.gates import ChannelGates
from msafusion.fusion.tokens import check_method


class SqueezeExcitation(ChannelGates):
    """Squeeze-and-excitation of the channels of all streams side by side.

    Hu, Shen, Sun: "Squeeze-and-Excitation Networks", CVPR 2018, arXiv 1709.01507, eq. 2 to 4: with s the means over
    positions of all streams, every channel is multiplied by sigmoid(W_2 ReLU(W_1 s)). In the paper there is one stream.
    W_1 has max(total channels // reduction, 4) outputs; both maps have biases, which the paper leaves out.

    Args:
        channels: stream name -> number of channels.
        reduction: r of the paper.
        init: "paper" is the paper, whose gates start near 0.5, and so halve what a trained network goes on with.
            With "identity", which is ours, the gates are 2 * sigmoid and W_2 starts at zero: they start at exactly 1.

    Shapes:
        see `ChannelGates.forward`.

    Raises:
        ValueError: an option out of range.

    Examples:
        >>> import torch
        >>> from msafusion.fusion import SqueezeExcitation
        >>> fusion = SqueezeExcitation({"video": 64, "audio": 32})
        >>> features = {"video": torch.randn(2, 64, 3, 4, 4), "audio": torch.randn(2, 32, 50)}
        >>> {name: tuple(fused.shape) for name, fused in fusion(features).items()}
        {'video': (2, 64, 3, 4, 4), 'audio': (2, 32, 50)}
    """

    search_space: ClassVar = {"reduction": (4, 8, 16)}

    def __init__(
        self, channels: Mapping[str, int], reduction: int = 16, init: Literal["identity", "paper"] = "identity"
    ) -> None:
        check_method(channels, init, reduction=reduction)
        identity = init == "identity"
        super().__init__(channels, max(sum(channels.values()) // reduction, 4), 2.0 if identity else 1.0, identity)
