"""Unimodal networks, usable alone. Add a file here and a line to `BACKBONES`."""

from torch import nn

from msafusion.backbones.cnn1d import CNN1d, FrameCNN1d
from msafusion.backbones.hcn import HCN
from msafusion.backbones.i3d import I3D
from msafusion.backbones.lstm import SequenceLSTM
from msafusion.backbones.mfcc_cnn import MFCCNet
from msafusion.backbones.resnet3d import InflatedResNet, ResNet3d, ResNeXt3d
from msafusion.backbones.small_nets import MLP, CNN2d, CNN3d
from msafusion.backbones.text import TextEncoder

BACKBONES: dict[str, type[nn.Module]] = {
    "cnn1d": CNN1d,
    "cnn2d": CNN2d,
    "cnn3d": CNN3d,
    "frame_cnn1d": FrameCNN1d,
    "hcn": HCN,
    "i3d": I3D,
    "inflated_resnet": InflatedResNet,
    "mfcc_cnn": MFCCNet,
    "mlp": MLP,
    "resnet3d": ResNet3d,
    "resnext3d": ResNeXt3d,
    "sequence_lstm": SequenceLSTM,
    "text": TextEncoder,
}
"""Name -> network."""

__all__ = [
    "BACKBONES",
    "HCN",
    "I3D",
    "MLP",
    "CNN1d",
    "CNN2d",
    "CNN3d",
    "FrameCNN1d",
    "InflatedResNet",
    "MFCCNet",
    "ResNeXt3d",
    "ResNet3d",
    "SequenceLSTM",
    "TextEncoder",
]
