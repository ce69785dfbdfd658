"""State dicts with the keys and shapes of public weights, and random values."""

import functools
import json
from pathlib import Path

import fill
import torch
from safetensors.torch import load_file
from torch import Tensor

GOLDEN = Path(__file__).parent


@functools.cache
def _filled(name: str) -> dict[str, Tensor]:
    manifest = json.loads((GOLDEN / f"{name}.json").read_text())
    filled = fill.fill_state_dict(manifest["state_dict"], manifest["fill_base"])
    return {key: torch.from_numpy(value) if value.shape else torch.tensor(int(value)) for key, value in filled.items()}


def golden(name: str) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor], int]:
    """State dict, inputs, outputs and number of parameters of a network of the published code."""
    manifest = json.loads((GOLDEN / f"{name}.json").read_text())
    state = dict(_filled(name))
    inputs = [torch.from_numpy(fill.noise(tuple(given["shape"]), given["seed"])) for given in manifest["inputs"]]
    saved = load_file(GOLDEN / f"{name}.safetensors")
    return state, inputs, [saved[f"output/{number}"] for number in range(len(saved))], manifest["parameters"]


def batch_norm(prefix: str, channels: int, counter: bool = True) -> dict[str, Tensor]:
    state = {
        f"{prefix}.{name}": torch.rand(channels) + 0.5 for name in ("weight", "bias", "running_mean", "running_var")
    }
    return {**state, f"{prefix}.num_batches_tracked": torch.tensor(7)} if counter else state


def bottlenecks(depths, widths, expansion, groups, kernel) -> dict[str, Tensor]:
    """`layer1` to `layer4` and `downsample` of a residual network, with kernels such as (3, 3, 3) in the middle."""
    point, state, channels = (1,) * len(kernel), {}, 64
    for stage, (blocks, width) in enumerate(zip(depths, widths, strict=True), start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            shapes = ((width, channels, *point), (width, width // groups, *kernel), (width * expansion, width, *point))
            for number, shape in enumerate(shapes, start=1):
                state[f"{name}.conv{number}.weight"] = 0.1 * torch.randn(shape)
                state |= batch_norm(f"{name}.bn{number}", shape[0])
            if block == 0:
                state[f"{name}.downsample.0.weight"] = 0.1 * torch.randn(width * expansion, channels, *point)
                state |= batch_norm(f"{name}.downsample.1", width * expansion)
            channels = width * expansion
    return state


def residual(depths, widths, expansion, groups, stem, kernel, num_classes) -> dict[str, Tensor]:
    features = widths[-1] * expansion
    return {
        "conv1.weight": 0.1 * torch.randn(64, 3, *stem),
        **batch_norm("bn1", 64),
        **bottlenecks(depths, widths, expansion, groups, kernel),
        "fc.weight": torch.randn(num_classes, features),
        "fc.bias": torch.randn(num_classes),
    }


def resnext3d(num_classes=400, depths=(3, 4, 6, 3)) -> dict[str, Tensor]:
    return residual(depths, (128, 256, 512, 1024), 2, 32, (7, 7, 7), (3, 3, 3), num_classes)


def resnet3d(num_classes=400, depths=(3, 4, 6, 3)) -> dict[str, Tensor]:
    return residual(depths, (64, 128, 256, 512), 4, 1, (7, 7, 7), (3, 3, 3), num_classes)


def torchvision_resnet50(depths=(3, 4, 6, 3)) -> dict[str, Tensor]:
    return residual(depths, (64, 128, 256, 512), 4, 1, (7, 7), (3, 3), 1000)


INCEPTION = {
    "3b": (192, 64, 96, 128, 16, 32, 32),
    "3c": (256, 128, 128, 192, 32, 96, 64),
    "4b": (480, 192, 96, 208, 16, 48, 64),
    "4c": (512, 160, 112, 224, 24, 64, 64),
    "4d": (512, 128, 128, 256, 24, 64, 64),
    "4e": (512, 112, 144, 288, 32, 64, 64),
    "4f": (528, 256, 160, 320, 32, 128, 128),
    "5b": (832, 256, 160, 320, 32, 128, 128),
    "5c": (832, 384, 192, 384, 48, 128, 128),
}


def i3d(style: str, num_classes: int = 400) -> dict[str, Tensor]:
    """The Kinetics RGB weights of "hassony2" or "piergiaj"."""
    hassony = style == "hassony2"
    stem, mixed, norm = ("conv3d_", "mixed_", "batch3d") if hassony else ("Conv3d_", "Mixed_", "bn")
    branches = ("branch_0", "branch_1.0", "branch_1.1", "branch_2.0", "branch_2.1", "branch_3.1")
    branches = branches if hassony else ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")
    units = {f"{stem}1a_7x7": (64, 3, 7, 7, 7), f"{stem}2b_1x1": (64, 64, 1, 1, 1), f"{stem}2c_3x3": (192, 64, 3, 3, 3)}
    for name, (came, direct, reduce1, wide1, reduce2, wide2, pooled) in INCEPTION.items():
        ins, outs = (came, came, reduce1, came, reduce2, came), (direct, reduce1, wide1, reduce2, wide2, pooled)
        for branch, inside, outside, kernel in zip(branches, ins, outs, (1, 1, 3, 1, 3, 1), strict=True):
            units[f"{mixed}{name}.{branch}"] = (outside, inside, kernel, kernel, kernel)
    state = {}
    for name, shape in units.items():
        state[f"{name}.conv3d.weight"] = torch.randn(shape)
        state |= batch_norm(f"{name}.{norm}", shape[0], counter=not hassony)
    last = "conv3d_0c_1x1" if hassony else "logits"
    state[f"{last}.conv3d.weight"] = torch.randn(num_classes, 1024, 1, 1, 1)
    return {**state, f"{last}.conv3d.bias": torch.randn(num_classes)}


def hcn(window: int, num_classes: int = 60) -> dict[str, Tensor]:
    shapes = {f"conv1{kind}.0": (64, 3, 1, 1) for kind in ("", "m")}
    shapes |= {f"conv2{kind}": (window, 64, 3, 1) for kind in ("", "m")}
    shapes |= {f"conv3{kind}.0": (32, 25, 3, 3) for kind in ("", "m")}
    shapes |= {f"conv4{kind}.0": (64, 32, 3, 3) for kind in ("", "m")}
    shapes |= {"conv5.0": (128, 128, 3, 3), "conv6.0": (256, 128, 3, 3)}
    shapes |= {"fc7.0": (512, 256 * (window // 16) ** 2), "fc8": (num_classes, 512)}
    state = {f"{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    return state | {f"{name}.bias": torch.randn(shape[0]) for name, shape in shapes.items()}
