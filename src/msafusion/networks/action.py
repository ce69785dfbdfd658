"""Action from RGB video and skeletons: MSAF's networks for NTU RGB+D (arXiv 2012.07175, sec. 4.3)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from msafusion.attach import FusedNetwork, FusionPoint, fuse
from msafusion.backbones import HCN, I3D, InflatedResNet
from msafusion.fusion import MSAF
from msafusion.networks.plan import Init, NetworkPlan

Rgb = Literal["i3d", "resnet50"]
PERSONS = {"person1": "conv5[0]", "person2": "conv5[1]"}
"""The skeleton network's two streams at the first fusion point."""


class _LeavesRgb(nn.Module):
    """MSAF whose fused RGB map is thrown away: what the published ResNet variant does at its first fusion point."""

    def __init__(self, channels: Mapping[str, int], **options: Any) -> None:
        super().__init__()
        self.msaf = MSAF(channels, **options)

    def forward(self, features: Mapping[str, Tensor], *given: Any) -> dict[str, Tensor]:
        """The fused streams, with `rgb` as it came."""
        return {**self.msaf(features, *given), **{name: features[name] for name in features if name == "rgb"}}


def ntu_rgbd(
    *,
    rgb: Rgb = "i3d",
    num_classes: int = 60,
    reference: bool = False,
    init: Init = "identity",
    padding: Literal["symmetric", "same"] = "symmetric",
) -> FusedNetwork:
    """I3D (13.5 M parameters with HCN) or inflated ResNet-50 (47.5 M) on RGB, HCN on skeletons, fused at two points.

    The prediction is the mean of the two networks' logits; train with one loss each (`stream_outputs`).
    Inputs: `rgb` (batch, 3, time, height, width), 32 frames of 224 x 224 for I3D, 8 for the ResNet in the paper;
    `skeleton` (batch, 3, time, joints, persons), 32 steps, 25 joints, 2 persons (zeros for an absent second one; a
    third would be seen by the skeleton network, but not fused).

    Args:
        rgb: the RGB network.
        num_classes: 60 actions in NTU RGB+D.
        reference: the published code's network, for its weights (`reproduce.load_reference`): init="paper", and in the
            ResNet variant the fused map of layer 3 is thrown away, so that layer 4 gets the unfused one.
        init: "identity" starts as the mean of the two networks' logits, "paper" as in the paper.
        padding: of I3D, "same" for the public Kinetics weights as they were trained.

    Raises:
        ValueError: an unknown RGB network.

    Examples:
        >>> import torch
        >>> from msafusion import networks
        >>> net = networks.ntu_rgbd(rgb="i3d").eval()
        >>> net({"rgb": torch.randn(1, 3, 8, 32, 32), "skeleton": torch.randn(1, 3, 32, 25, 2)}).shape
        torch.Size([1, 60])
    """
    if rgb not in ("i3d", "resnet50"):
        raise ValueError(f"rgb is {rgb!r}, expected 'i3d' or 'resnet50'; set it to one of them.")
    visual = I3D(num_classes, padding=padding) if rgb == "i3d" else InflatedResNet(num_classes)
    first, second = ("mixed_5b", "mixed_5c") if rgb == "i3d" else ("layer3", "layer4")
    options: dict[str, Any] = {"reduction": 4, "lowest_attention": 0.5, "init": "paper" if reference else init}
    where = {"rgb": first, "skeleton": PERSONS}
    if reference and rgb == "resnet50":
        meeting = FusionPoint(
            where, _LeavesRgb({"rgb": 1024, "person1": 128, "person2": 128}, block_channels=64, **options)
        )
    else:
        meeting = FusionPoint(where, block_channels=64, **options)
    points = [meeting, FusionPoint({"rgb": second, "skeleton": "fc7"}, block_channels=256, **options)]
    example = {"rgb": torch.zeros(1, 3, 8, 32, 32), "skeleton": torch.zeros(1, 3, 32, 25, 2)}
    return fuse({"rgb": visual, "skeleton": HCN(num_classes)}, points, head="mean", example=example)


class NTURGBDNet(NetworkPlan):
    """`networks.ntu_rgbd` by options: I3D or inflated ResNet-50 on RGB, HCN on skeletons.

    Args:
        rgb: the RGB network.
        reference: with the published code's quirks, for its weights.
        init: "identity" starts as no fusion at all, "paper" as in the paper.
        padding: of I3D, "same" for the public Kinetics weights as they were trained.

    Examples:
        >>> from msafusion.networks import NTURGBDNet
        >>> NTURGBDNet(rgb="resnet50").typical_shapes()
        {'rgb': (3, 8, 224, 224), 'skeleton': (3, 32, 25, 2)}
    """

    typical_channels: ClassVar = {"rgb": 3, "skeleton": 3}
    typical_outputs = 60

    def __init__(
        self,
        rgb: Rgb = "i3d",
        reference: bool = False,
        init: Init = "identity",
        padding: Literal["symmetric", "same"] = "symmetric",
    ) -> None:
        self.rgb, self.reference, self.init, self.padding = rgb, reference, init, padding

    def build(self, channels: Mapping[str, int], num_outputs: int) -> FusedNetwork:
        """The network for so many classes; the streams must be rgb and skeleton."""
        self.check_streams(channels, self.typical_channels)
        return ntu_rgbd(num_classes=num_outputs, **vars(self))

    def typical_shapes(self) -> dict[str, tuple[int, ...]]:
        """32 frames (8 for the ResNet) of 224 x 224; 32 steps of 25 joints of 2 persons."""
        return {"rgb": (3, 32 if self.rgb == "i3d" else 8, 224, 224), "skeleton": (3, 32, 25, 2)}
