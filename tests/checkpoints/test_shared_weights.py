"""Saving networks that share weights."""

import torch
from torch import nn

from msafusion.checkpoints import read_model, save_model


def test_networks_that_share_weights_are_saved_under_all_their_names(tmp_path):
    shared = nn.Linear(3, 2)
    network = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared)})
    save_model(tmp_path, network, {})
    _, state = read_model(tmp_path)
    assert set(state) == {"a.weight", "a.bias", "b.0.weight", "b.0.bias"}
    assert torch.equal(state["a.weight"], state["b.0.weight"])
