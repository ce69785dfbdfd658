"""Fusion methods: modules from streams to streams of the same shapes, all called alike.

A method is an `nn.Module` made by `Method(channels, **options)` with `channels` = {stream name: number of channels},
and called by `method(features, masks=None, present=None)`. Add a file here and a line to `FUSIONS`.
"""

from collections.abc import Callable

from torch import nn

from msafusion.fusion.msaf import MSAF

FUSIONS: dict[str, Callable[..., nn.Module]] = {"msaf": MSAF}
"""Name -> fusion method, as `FusionPoint(..., fusion=name)` takes it."""

__all__ = ["FUSIONS", "MSAF"]
