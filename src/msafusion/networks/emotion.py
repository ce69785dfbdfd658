"""Emotion from video and sound: MSAF's network for RAVDESS (arXiv 2012.07175, sec. 4.1)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from msafusion.attach import FusedNetwork, FusionPoint, fuse
from msafusion.backbones import MFCCNet, ResNeXt3d
from msafusion.networks.plan import Init, NetworkPlan


def ravdess(
    *, num_classes: int = 8, reference: bool = False, init: Init = "identity", block_dropout: float = 0.2
) -> FusedNetwork:
    """3D ResNeXt-50 on video and a 1D CNN on MFCCs, fused at two points; the logits are summed. 25.9 M parameters.

    Inputs: `video` (batch, 3, time, height, width), RGB with ImageNet's mean and standard deviation (30 frames of
    224 x 224 in the paper); `audio` (batch, 13, steps), MFCCs (212 steps in the paper).

    Args:
        num_classes: 8 emotions in RAVDESS.
        reference: the published code's network, for its weights (`reproduce.load_reference`): no ReLU after the
            video stem's batch norm, and init="paper".
        init: "identity" starts as the sum of the two networks' logits, "paper" as in the paper.
        block_dropout: probability to drop a block in training.

    Examples:
        >>> import torch
        >>> from msafusion import networks
        >>> net = networks.ravdess().eval()
        >>> net({"video": torch.randn(1, 3, 8, 32, 32), "audio": torch.randn(1, 13, 212)}).shape
        torch.Size([1, 8])
    """
    video = ResNeXt3d(num_classes, depth=50)
    if reference:
        video.relu = nn.Identity()
    options = {"block_dropout": block_dropout, "reduction": 4, "init": "paper" if reference else init}
    points = [
        FusionPoint({"video": "layer3", "audio": "relu2"}, block_channels=16, **options),
        FusionPoint({"video": "layer4", "audio": "bn3"}, block_channels=32, **options),
    ]
    example = {"video": torch.zeros(1, 3, 16, 32, 32), "audio": torch.zeros(1, 13, 212)}
    return fuse({"video": video, "audio": MFCCNet(num_classes)}, points, head="sum", example=example)


class RAVDESSNet(NetworkPlan):
    """`networks.ravdess` by options: 3D ResNeXt-50 on video, 1D CNN on MFCCs.

    Args:
        reference: with the published code's quirks, for its weights.
        init: "identity" starts as no fusion at all, "paper" as in the paper.
        block_dropout: probability to drop a block in training, in [0, 1).

    Examples:
        >>> from msafusion.networks import RAVDESSNet
        >>> RAVDESSNet(block_dropout=0.1).as_dict()["options"]
        {'reference': False, 'init': 'identity', 'block_dropout': 0.1}
        >>> RAVDESSNet().typical_shapes()
        {'video': (3, 30, 224, 224), 'audio': (13, 212)}
    """

    typical_channels: ClassVar = {"video": 3, "audio": 13}
    typical_outputs = 8

    def __init__(self, reference: bool = False, init: Init = "identity", block_dropout: float = 0.2) -> None:
        self.reference, self.init, self.block_dropout = reference, init, block_dropout

    def build(self, channels: Mapping[str, int], num_outputs: int) -> FusedNetwork:
        """The network for so many classes; the streams must be video and audio."""
        self.check_streams(channels, self.typical_channels)
        return ravdess(num_classes=num_outputs, **vars(self))

    def typical_shapes(self) -> dict[str, tuple[int, ...]]:
        """30 frames of 224 x 224, 2.45 s of MFCCs at 44.1 kHz."""
        return {"video": (3, 30, 224, 224), "audio": (13, 212)}
