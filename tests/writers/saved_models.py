"""Saved models with new weights: all that `msafusion predict` needs, without the time that training takes."""

import numpy as np
import torch

from msafusion.checkpoints import save_model
from msafusion.data.extractors import extractor_from
from msafusion.data.media.stored import StoredArray
from msafusion.data.preprocessing import Standardize, Windows
from msafusion.data.samples import collate
from msafusion.networks import SmallCNN

SIGNALS = {"motion": 2, "sound": 3}
"""Stream -> channels, at 10 Hz."""


def write_model(folder, preprocessing, shapes, classes=("a", "b", "c"), extraction=None, seconds=None):
    """The model of a run, with a small network for inputs of such shapes (without the batch axis).

    extraction: stream -> Extractor. seconds: usual duration of a recording.
    """
    torch.manual_seed(0)
    plan = SmallCNN(widths=(8, 8, 8), fusion_options={"block_channels": 4}).fitted(
        shapes, {name: shape[0] for name, shape in shapes.items()}
    )
    network = plan.build(preprocessing.num_channels(), len(classes) or 1)
    for parameter in network.parameters():  # far from the cautious start: streams and windows make a difference
        parameter.data *= 2
    how = {name: extractor.as_dict() for name, extractor in (extraction or {}).items()}
    config = {"network": plan.as_dict(), "classes": list(classes), "preprocessing": preprocessing.as_dict()}
    config["extraction"] = {"streams": how, "seconds": seconds} if how else {}
    save_model(folder / "model", network, config)
    return folder


def write_model_of(folder, splits):
    """As training begins on these splits."""
    inputs = splits.preprocessing.inputs(collate([splits.train[0]])["inputs"])
    shapes = {name: tuple(values.shape[1:]) for name, values in inputs.items()}
    readers = {name: extractor_from(saved) for name, saved in splits.extraction["streams"].items()}
    return write_model(folder, splits.preprocessing, shapes, splits.classes, readers, splits.extraction["seconds"])


def write_signal_model(folder, classes=("a", "b", "c"), **more):
    """For recordings of usually 2 s, stored as arrays."""
    layouts = dict.fromkeys(SIGNALS, "sequence")
    samples = [{name: torch.randn(20, count) for name, count in SIGNALS.items()}]
    arrays = {name: StoredArray("sequence", count, 16, 10.0) for name, count in {**SIGNALS, **more}.items()}
    shapes = {name: (count, 16) for name, count in SIGNALS.items()}
    return write_model(folder, Standardize.fitted(samples, layouts), shapes, classes, arrays, 2.0)


def write_window_model(folder):
    """For recordings that come as arrays only: windows of 16 steps, every 8, at 10 Hz."""
    preprocessing = Windows.fitted(
        [{n: np.random.default_rng(0).normal(size=(50, c)) for n, c in SIGNALS.items()}], 10.0, 16, 8
    )
    return write_model(folder, preprocessing, {name: (count, 16) for name, count in SIGNALS.items()})


def signals(steps=20, seed=0, streams=("motion", "sound")):
    """{stream: (steps, channels)}, as stored at 10 Hz."""
    random = np.random.default_rng(seed)
    return {name: random.normal(size=(steps, SIGNALS[name])).astype(np.float32) for name in streams}
