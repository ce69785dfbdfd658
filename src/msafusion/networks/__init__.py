"""Whole fused networks: wiring only, by `fuse()`.

`ravdess`, `mosei` and `ntu_rgbd` make the three of arXiv 2012.07175. For the command line each is also a `NetworkPlan`;
add one and a line to `NETWORKS`, and `msafusion train --network <class name>` takes its options.
"""

from collections.abc import Mapping
from typing import Any

from msafusion.networks.action import NTURGBDNet, ntu_rgbd
from msafusion.networks.emotion import RAVDESSNet, ravdess
from msafusion.networks.plan import NetworkPlan
from msafusion.networks.sentiment import MOSEINet, mosei
from msafusion.networks.small import SmallCNN
from msafusion.streams import nearest

NETWORKS: dict[str, type[NetworkPlan]] = {
    "SmallCNN": SmallCNN,
    "RAVDESSNet": RAVDESSNet,
    "MOSEINet": MOSEINet,
    "NTURGBDNet": NTURGBDNet,
}
"""Name -> plan."""

__all__ = [
    "NETWORKS",
    "MOSEINet",
    "NTURGBDNet",
    "NetworkPlan",
    "RAVDESSNet",
    "SmallCNN",
    "mosei",
    "ntu_rgbd",
    "plan_from",
    "ravdess",
]


def plan_from(saved: Mapping[str, Any]) -> NetworkPlan:
    """The plan that `NetworkPlan.as_dict` describes.

    Raises:
        ValueError: its name is unknown to this version.

    Examples:
        >>> from msafusion.networks import SmallCNN, plan_from
        >>> plan = plan_from(SmallCNN(fusion="mmtm").as_dict())
        >>> type(plan).__name__, plan.fusion
        ('SmallCNN', 'mmtm')
    """
    if saved["name"] not in NETWORKS:
        raise ValueError(f"unknown network {saved['name']!r}; {nearest(saved['name'], NETWORKS)}")
    return NETWORKS[saved["name"]](**saved["options"])
