"""The fusion methods between layers, and modules and feature maps that their tests share."""

import functools

import pytest
import torch

from msafusion import MSAF
from msafusion.fusion.bottleneck import BottleneckTokens
from msafusion.fusion.cross_attention import CrossAttention
from msafusion.fusion.mmtm import MMTM
from msafusion.fusion.squeeze_excitation import SqueezeExcitation

GATES = {"mmtm": functools.partial(MMTM, reduction=1), "squeeze_excitation": SqueezeExcitation}
TOKENS = {
    "cross_attention": functools.partial(CrossAttention, width=6, num_heads=2, max_positions=5),
    "bottleneck": functools.partial(BottleneckTokens, width=6, num_heads=2, num_tokens=3),
}
METHODS = {"msaf": functools.partial(MSAF, block_channels=4, norm="layer", reduction=2), **GATES, **TOKENS}
CHANNELS = {"video": 5, "audio.1": 4, "keys": 3}  # names that an nn.ModuleDict would not take

every_method = pytest.mark.parametrize("method", METHODS)


def new_module(method, channels=CHANNELS, dtype=torch.float64, **options):
    """A module whose parameters are all random, so that nothing is left out by a zero."""
    module = METHODS[method](channels, **options).to(dtype).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


def new_features(ranks=(3, 1, 0), batch=3, time=7, channels=CHANNELS, dtype=torch.float64):
    positions = (time, 2, 3)
    return {
        name: torch.randn(batch, count, *positions[:rank], dtype=dtype)
        for (name, count), rank in zip(channels.items(), ranks, strict=False)
    }
