"""Attach fusion to networks: run unmodified modules in lockstep and fuse what comes out of named submodules."""

from msafusion.attach.assemble import fuse
from msafusion.attach.network import FusedNetwork
from msafusion.attach.points import FusionPoint

__all__ = ["FusedNetwork", "FusionPoint", "fuse"]
