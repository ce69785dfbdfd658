"""Fusion methods, one a file, all made and called alike.

A method is an `nn.Module` made by `Method(channels, **options)` with `channels` = {stream name: number of channels},
and called by `method(features, masks=None, present=None)`. Methods of `FUSIONS` go between layers: they return every
stream in its shape. Methods of `HEADS` (made by `Method(channels, num_outputs, **options)`) return one prediction. Add
a file here and a line to one of the two.
"""

from collections.abc import Callable

from torch import nn

from msafusion.fusion.base import Head
from msafusion.fusion.block import BLOCK
from msafusion.fusion.bottleneck import BottleneckTokens
from msafusion.fusion.centralnet import CentralNet
from msafusion.fusion.concat import Concat
from msafusion.fusion.cross_attention import CrossAttention
from msafusion.fusion.gmu import GMU
from msafusion.fusion.late import Mean, Product, Sum
from msafusion.fusion.lmf import LMF
from msafusion.fusion.mcb import MCB
from msafusion.fusion.mfb import MFB
from msafusion.fusion.mmtm import MMTM
from msafusion.fusion.msaf import MSAF
from msafusion.fusion.multiplicative import Multiplicative
from msafusion.fusion.squeeze_excitation import SqueezeExcitation
from msafusion.fusion.tfn import TFN

FUSIONS: dict[str, Callable[..., nn.Module]] = {
    "msaf": MSAF,
    "msaf_paper": MSAF.paper,
    "mmtm": MMTM,
    "se": SqueezeExcitation,
    "cross_attention": CrossAttention,
    "bottleneck": BottleneckTokens,
}
"""Name -> method between layers, as `FusionPoint(..., fusion=name)` takes it."""

HEADS: dict[str, Callable[..., Head]] = {
    "sum": Sum,
    "mean": Mean,
    "product": Product,
    "multiplicative": Multiplicative,
    "concat": Concat,
    "gmu": GMU,
    "tfn": TFN,
    "lmf": LMF,
    "mcb": MCB,
    "mfb": MFB,
    "block": BLOCK,
    "centralnet": CentralNet,
}
"""Name -> method that makes the prediction, as `fuse(..., head=name)` takes it."""

__all__ = [
    "BLOCK",
    "FUSIONS",
    "GMU",
    "HEADS",
    "LMF",
    "MCB",
    "MFB",
    "MMTM",
    "MSAF",
    "TFN",
    "BottleneckTokens",
    "CentralNet",
    "Concat",
    "CrossAttention",
    "Head",
    "Mean",
    "Multiplicative",
    "Product",
    "SqueezeExcitation",
    "Sum",
]
