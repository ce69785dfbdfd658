"""The published code's weights (anita-hu/MSAF): its module, its three networks and their unimodal networks."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from msafusion.attach import FusedNetwork
from msafusion.backbones import HCN, I3D, InflatedResNet, MFCCNet, ResNeXt3d, SequenceLSTM
from msafusion.checkpoints.pretrained import I3D_LAYERS
from msafusion.checkpoints.weights import weights_of
from msafusion.files.saved_model import ModelError, check_fit
from msafusion.fusion import MSAF

Module = TypeVar("Module", bound=nn.Module)
Renaming = tuple[tuple[str, str], ...]
"""(pattern at the start of our key, the published code's beginning), the first that fits counts."""

UNIMODAL: dict[type[nn.Module], Renaming] = {
    HCN: (),
    I3D: tuple((rf"{name}\.", f"features.{number}.") for number, name in enumerate(I3D_LAYERS)),
    InflatedResNet: ((r"fc\.", "classifier."), ("", "cnn.")),
    MFCCNet: (),
    ResNeXt3d: (),
    SequenceLSTM: (),
}
"""Network -> renaming; none: the keys are the same."""
VIDEO = {"conv1": "0.0", "bn1": "0.1", "layer1": "0.3", "layer2": "0.4", "layer3": "0.5", "layer4": "1.0", "fc": "2.2"}
AUDIO = {"conv1": "0.0", "bn1": "0.2", "conv2": "0.3", "bn2": "1.1", "conv3": "1.3", "bn3": "1.5", "fc1": "2.2"}
"""Our layers -> block and number in the published fused network for RAVDESS."""


@dataclass(frozen=True)
class _Source:
    """Where one of our tensors comes from: keys of the published code, the shape of each, and how they are combined."""

    keys: list[str]
    shape: tuple[int, ...]
    combine: Callable[[list[Tensor]], Tensor] = lambda parts: parts[0]


def load_reference(module: Module, state_dict: Mapping[str, Any] | str | Path) -> Module:
    """Fill a module from the parameter names of the published code (anita-hu/MSAF).

    Args:
        module: an `MSAF` with norm="batch" and its streams in the order of the published code's list; a network of
            `networks.ravdess`, `.mosei` or `.ntu_rgbd` (made with reference=True if its outputs are to be the same); or
            one of their backbones.
        state_dict: of the published code's module of the same kind, whole, or a file of it; a checkpoint that wraps it
            is opened.

    Returns:
        The module, filled.

    Raises:
        ModelError: WeightsMismatch where keys are missing or left over, or a shape differs (it names them all, in the
            published code's names); or the module is none of these.

    Examples:
        >>> import torch
        >>> from msafusion import MSAF
        >>> from msafusion.reproduce import load_reference
        >>> joint, dense = torch.nn.Sequential(torch.nn.Linear(8, 2), torch.nn.BatchNorm1d(2)), torch.nn.Linear(2, 8)
        >>> theirs = {f"joint_features.{key}": tensor for key, tensor in joint.state_dict().items()}
        >>> theirs |= {f"dense_group.{n}.{key}": tensor for n in (0, 1) for key, tensor in dense.state_dict().items()}
        >>> ours = MSAF({"video": 8, "audio": 8}, block_channels=8, init="paper")
        >>> filled = load_reference(ours, {f"blocks.0.{key}": tensor for key, tensor in theirs.items()})
        >>> torch.equal(filled.joint_weight[0], joint[0].weight)
        True
    """
    weights = weights_of(state_dict)
    sources = _sources(module)
    expected = {key: source.shape for source in sources.values() for key in source.keys}
    check_fit(f"this {type(module).__name__}", weights, expected)
    module.load_state_dict(
        {ours: source.combine([weights[key] for key in source.keys]) for ours, source in sources.items()}
    )
    return module


def _sources(module: nn.Module) -> dict[str, _Source]:
    """Our key -> where it comes from, for all of a module's state."""
    renaming, fusion_prefix = _renaming(module)
    sources: dict[str, _Source] = {}
    inside = [(name, part) for name, part in module.named_modules() if isinstance(part, MSAF)]
    for number, (name, msaf) in enumerate(inside):
        ours = f"{name}." if name else ""
        sources |= _msaf_sources(msaf, ours, fusion_prefix(number))
    for key, value in module.state_dict().items():
        if key not in sources:
            pattern, theirs = next(((p, t) for p, t in renaming if re.match(p, key)), ("", ""))
            sources[key] = _Source([re.sub(f"^(?:{pattern})", theirs, key)], tuple(value.shape))
    return sources


def _renaming(module: nn.Module) -> tuple[Renaming, Callable[[int], str]]:
    """How the published code calls a module's layers, and its fusion module of a number."""
    if isinstance(module, MSAF):
        return (), lambda number: ""
    if type(module) in UNIMODAL:
        return UNIMODAL[type(module)], lambda number: ""
    streams = set(module.networks.keys()) if isinstance(module, FusedNetwork) else set()
    if isinstance(module, FusedNetwork) and streams == {"video", "audio"}:
        layers = (("video", VIDEO), ("audio", AUDIO))
        return tuple(
            (rf"networks\.{stream}\.{ours}\.", f"{stream}_model_blocks.{theirs}.")
            for stream, names in layers
            for ours, theirs in names.items()
        ), lambda number: f"msaf.{number}."
    if isinstance(module, FusedNetwork) and streams == {"visual", "audio", "text"}:
        lstms = tuple(
            (rf"networks\.{stream}\.lstm{number + 1}\.", f"{stream}_model.{number}.")
            for stream in ("visual", "audio", "text")
            for number in (0, 1)
        )
        return (*lstms, (r"head\.linear\.", "multimodal_classifier.0.")), lambda number: f"msaf.{number}."
    if isinstance(module, FusedNetwork) and streams == {"rgb", "skeleton"}:
        rgb = UNIMODAL.get(type(module.networks["rgb"]), ())
        visual = tuple((rf"networks\.rgb\.{ours}", f"visual.{theirs}") for ours, theirs in rgb)
        return (*visual, (r"networks\.skeleton\.", "skeleton.")), lambda number: f"msaf{number + 1}."
    what = f"a fused network of {', '.join(sorted(streams))}" if streams else f"a {type(module).__name__}"
    raise ModelError(
        f"got {what}, expected an MSAF, one of the three published networks or one of "
        f"{', '.join(kind.__name__ for kind in UNIMODAL)}; for other weights use load_pretrained or load_state_dict."
    )


def _msaf_sources(module: MSAF, ours: str, theirs: str) -> dict[str, _Source]:
    """From `blocks.<segment>.joint_features.<0: linear, 1: batch norm>` and `blocks.<segment>.dense_group.<block>`."""
    if not isinstance(module.norm, nn.BatchNorm1d):
        raise ModelError(f'module has norm="{module.norm_kind}", expected norm="batch" as the published code has.')
    segments, blocks, channels, joint = module.block_weight.shape
    prefixes = [f"{theirs}blocks.{segment}." for segment in range(segments)]

    def by_block(name: str) -> list[str]:
        return [f"{prefix}dense_group.{block}.{name}" for prefix in prefixes for block in range(blocks)]

    def whole(parts: list[Tensor]) -> Tensor:
        return torch.stack(parts).unflatten(0, (segments, blocks))

    sources = {
        "joint_weight": _Source([f"{p}joint_features.0.weight" for p in prefixes], (joint, channels), torch.stack),
        "joint_bias": _Source([f"{p}joint_features.0.bias" for p in prefixes], (joint,), torch.stack),
        "block_weight": _Source(by_block("weight"), (channels, joint), whole),
        "block_bias": _Source(by_block("bias"), (channels,), whole),
        "norm.num_batches_tracked": _Source([f"{p}joint_features.1.num_batches_tracked" for p in prefixes], ()),
    }
    for name in ("weight", "bias", "running_mean", "running_var"):
        sources[f"norm.{name}"] = _Source([f"{p}joint_features.1.{name}" for p in prefixes], (joint,), torch.cat)
    return {ours + key: source for key, source in sources.items()}
