"""Multimodal transfer module (Joze, Shaban, Iuzzolino, Koishida: "MMTM", CVPR 2020, arXiv 1911.08670)."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from msafusion.fusion.gates import ChannelGates
from msafusion.fusion.tokens import check_method


class MMTM(ChannelGates):
    """Gate the channels of every stream by a joint representation of all streams (arXiv 1911.08670, sec. 3.1).

    With S_m the mean of stream m over positions, Z = ReLU(W [S_1, ..., S_M] + b) and E_m = W_m Z + b_m, stream m is
    multiplied by 2 * sigmoid(E_m). Z has C_Z = total channels // reduction channels, 1 at least. The paper has two
    streams and C_Z = (C_1 + C_2) / 4; its code (github.com/haamoon/mmtm) has twice that, which is reduction=2, and
    leaves out the factor 2 of the gates.

    Args:
        channels: stream name -> number of channels.
        reduction: total channels over C_Z.
        init: with "identity" all W_m and b_m start at zero, and every gate at exactly 1; with "paper" as nn.Linear
            does, as in the paper's code.

    Shapes:
        see `ChannelGates.forward`.

    Raises:
        ValueError: an option out of range.

    Examples:
        >>> import torch
        >>> from msafusion.fusion import MMTM
        >>> fusion = MMTM({"video": 64, "audio": 32}, reduction=2)
        >>> features = {"video": torch.randn(2, 64, 3, 4, 4), "audio": torch.randn(2, 32, 50)}
        >>> {name: tuple(fused.shape) for name, fused in fusion(features).items()}
        {'video': (2, 64, 3, 4, 4), 'audio': (2, 32, 50)}
    """

    search_space: ClassVar = {"reduction": (2, 4, 8)}

    def __init__(
        self, channels: Mapping[str, int], reduction: int = 4, init: Literal["identity", "paper"] = "identity"
    ) -> None:
        check_method(channels, init, reduction=reduction)
        super().__init__(channels, max(sum(channels.values()) // reduction, 1), 2.0, init == "identity")
