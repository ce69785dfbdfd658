"""Multimodal fusion of networks you already have, by split attention (MSAF, arXiv 2012.07175) and its rivals."""

from msafusion.attach import FusedNetwork, FusionPoint, fuse
from msafusion.fusion import MSAF
from msafusion.streams import FusionError

__all__ = ["MSAF", "FusedNetwork", "FusionError", "FusionPoint", "fuse"]
