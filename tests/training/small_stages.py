"""Small networks and samples for whole stages of training, and what a stage leaves."""

import io

import torch
from rich.console import Console
from torch import nn

from msafusion import FusionPoint, fuse
from msafusion.backbones import CNN1d
from msafusion.data.preprocessing import Clips
from msafusion.data.samples import Splits
from msafusion.training.stage import RunContext

CHANNELS = {"a": 2, "b": 3}
SEED = 5


def samples(start, num):
    generator = torch.Generator().manual_seed(start)
    return [
        {
            "id": str(number),
            "streams": {name: torch.randn(c, 12, generator=generator) + number % 3 for name, c in CHANNELS.items()},
            "label": number % 3,
            "group": str(number),
        }
        for number in range(start, start + num)
    ]


def splits(train=None):
    parts = train or samples(0, 16), samples(100, 7), samples(200, 3)
    return Splits(*parts, classes=["x", "y", "z"], channels=CHANNELS, preprocessing=Clips(CHANNELS))


def run_context(folder, resume=False, **trainer):
    options = {"accelerator": "cpu", "devices": 1, **trainer}
    return RunContext(folder, options, 0, SEED, resume, Console(file=io.StringIO()))


def with_chance():
    """A network with batch norm and dropout, in its networks and in its fusion."""
    torch.manual_seed(1)
    networks = {name: CNN1d(c, 3, widths=(4, 8), dropout=0.5) for name, c in CHANNELS.items()}
    point = FusionPoint({"a": "stage2", "b": "stage2"}, block_channels=4, block_dropout=0.3)
    return fuse(networks, point, head="mean", example={n: torch.zeros(2, c, 12) for n, c in CHANNELS.items()})


class Plain(nn.Sequential):
    """Nothing that depends on the other samples of a batch, nor on chance."""

    def __init__(self, channels):
        super().__init__(nn.Conv1d(channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3))


def plain():
    torch.manual_seed(1)
    networks = {name: Plain(c) for name, c in CHANNELS.items()}
    point = FusionPoint({"a": "1", "b": "1"}, block_channels=4, reduction=2, norm="layer")
    return fuse(networks, point, head="mean", example={n: torch.zeros(2, c, 12) for n, c in CHANNELS.items()})


def checkpoint(folder, which):
    return torch.load(folder / "checkpoints" / "stage" / f"{which}.ckpt", weights_only=True)


def assert_same(one, other):
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different
