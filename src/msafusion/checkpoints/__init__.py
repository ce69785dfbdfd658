"""Weights in and out: saved models and pretrained unimodal weights."""

from msafusion.checkpoints.pretrained import Imported, load_pretrained
from msafusion.checkpoints.weights import read_weights
from msafusion.files.saved_model import ModelError, WeightsMismatch, read_model, save_model

__all__ = [
    "Imported",
    "ModelError",
    "WeightsMismatch",
    "load_pretrained",
    "read_model",
    "read_weights",
    "save_model",
]
