"""Unimodal networks, usable alone. Add a file here and a line to `BACKBONES`."""

from torch import nn

from msafusion.backbones.cnn1d import CNN1d

BACKBONES: dict[str, type[nn.Module]] = {"cnn1d": CNN1d}
"""Name -> network."""

__all__ = ["BACKBONES", "CNN1d"]
