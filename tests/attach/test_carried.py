"""Trial runs leave networks as they were, whatever these carry from call to call."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from msafusion import FusionPoint, fuse


class Vectors(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.output = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.output(self.layer(x))


class Carrying(nn.Module):
    """Keeps running statistics and its last state, in eval mode, too."""

    def __init__(self):
        super().__init__()
        self.layer, self.output, self.state = nn.Linear(4, 8), nn.Linear(8, 3), None
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        self.state = self.layer(x)
        return self.output(self.state)


def test_running_statistics_and_states_are_put_back():
    network, inputs = Carrying(), {"a": torch.randn(5, 4), "b": torch.randn(5, 4)}
    mean = network.mean
    net = fuse({"a": network, "b": Vectors()}, FusionPoint({"a": "layer", "b": "layer"}, "se"), example=inputs)
    assert (float(network.calls), network.state) == (0, None)
    assert network.mean is mean
    net(inputs)
    assert float(network.calls) == 1


class Positions(nn.Module):
    """A table that grows with the longest input, as rotary embeddings keep it."""

    def __init__(self):
        super().__init__()
        self.layer, self.output, self.longest = nn.Linear(5, 8), nn.Linear(8, 3), 0
        self.register_buffer("table", torch.zeros(0), persistent=False)

    def forward(self, x):
        if x.shape[1] > self.longest:
            self.longest = x.shape[1]
            self.register_buffer("table", torch.linspace(0, 1, self.longest), persistent=False)
        return self.output((self.layer(x) + self.table[: x.shape[1], None]).mean(1))


def test_a_table_and_its_length_go_together():
    network, inputs = Positions(), {"a": torch.randn(2, 6, 5), "b": torch.randn(2, 4)}
    net = fuse({"a": network, "b": Vectors()}, FusionPoint({"a": "layer", "b": "layer"}, "se"), example=inputs)
    assert (network.longest, len(network.table)) == (0, 0)
    assert net({"a": torch.randn(2, 9, 5), "b": torch.randn(2, 4)}).shape == (2, 3)


class Built(nn.Module):
    """Makes a layer for its first input."""

    def __init__(self):
        super().__init__()
        self.ready, self.output = False, nn.Linear(8, 3)

    def forward(self, x):
        if not self.ready:
            self.layer, self.ready = nn.Linear(x.shape[1], 8), True
        return self.output(self.layer(x))


def test_layers_made_for_the_first_input_stay():
    network, lazy = Built(), nn.Sequential(nn.LazyLinear(8), nn.Linear(8, 3))
    inputs = {"a": torch.randn(2, 4), "b": torch.randn(2, 4)}
    net = fuse({"a": network, "b": lazy}, FusionPoint({"a": "output", "b": "1"}, "se"), example=inputs)
    made = network.layer
    net(inputs)
    assert network.layer is made
    assert lazy[0].in_features == 4


class Merging(nn.Linear):
    """Adds something to its weight in eval mode, once, and takes it off in training, as LoRA does."""

    merged = False

    def __init__(self):
        super().__init__(4, 8)
        self.merged = False

    def train(self, mode=True):
        if self.merged == mode:
            self.weight.data += -1 if mode else 1
            self.merged = not mode
        return super().train(mode)


def test_what_eval_notes_for_train_is_kept_for_it():
    network = Vectors()
    network.layer = Merging()
    weight, inputs = network.layer.weight.detach().clone(), {"a": torch.randn(2, 4), "b": torch.randn(2, 4)}
    fuse({"a": network, "b": Vectors()}, FusionPoint({"a": "layer", "b": "layer"}, "se"), example=inputs)
    assert not network.layer.merged
    torch.testing.assert_close(network.layer.weight, weight)


class Stateful(nn.Module):
    """An LSTM that goes on from its last state, kept as a tuple or in a dict, with noise of generators of its own."""

    def __init__(self, in_dict):
        super().__init__()
        self.layer, self.output, self.in_dict = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 3), in_dict
        self.state, self.states = None, {}
        self.torchs, self.pythons = torch.Generator().manual_seed(1), random.Random(1)
        self.numpys, self.legacy = np.random.default_rng(1), np.random.RandomState(1)

    def forward(self, x):
        steps, state = self.layer(x, self.states.get("last") if self.in_dict else self.state)
        self.state, self.states = state, {"last": state}
        noise = torch.rand((), generator=self.torchs) + self.pythons.random() + self.numpys.random()
        return self.output(steps.mean(1)) + noise + self.legacy.rand()

    def generators(self):
        states = self.torchs.get_state().tolist(), self.pythons.getstate(), self.numpys.bit_generator.state
        return *states, self.legacy.get_state()[1].tolist()


@pytest.mark.parametrize("in_dict", [False, True])
def test_states_in_tuples_and_dicts_and_generators_are_put_back(in_dict):
    network, inputs = Stateful(in_dict), {"a": torch.randn(5, 6, 4), "b": torch.randn(5, 4)}
    states, generators = network.states, network.generators()
    net = fuse({"a": network, "b": Vectors()}, FusionPoint({"a": "layer", "b": "layer"}, "se"), example=inputs)
    assert network.state is None
    assert network.states is states
    assert network.generators() == generators
    net({"a": torch.randn(2, 6, 4), "b": torch.randn(2, 4)})  # another batch size


class InPlace(Vectors):
    """Changes its input and a cache that it is given; draws from Python's and NumPy's global generators."""

    def forward(self, x, cache):
        x.sub_(1)
        cache["calls"].append(1)
        return super().forward(x) * (1 + 0.1 * random.random() + 0.1 * np.random.rand())  # noqa: NPY002


def test_the_example_and_the_global_generators_stay_as_they_are():
    x, cache = torch.randn(5, 4), {"calls": []}
    before = x.clone(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    given = {"a": (x, Cache(cache)), "b": torch.randn(5, 4)}
    fuse({"a": InPlace(), "b": Vectors()}, FusionPoint({"a": "layer", "b": "layer"}, "se"), example=given)
    assert torch.equal(x, before[0])
    assert cache == {"calls": []}
    trials = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    random.setstate(before[1])
    random.random()
    assert trials[0] == random.getstate()  # one forward of the network, as its user would have run it


class Cache:
    """An object that trials copy."""

    def __init__(self, values):
        self.values = values

    def __getitem__(self, key):
        return self.values[key]
