"""Which axes of inputs and outputs are the samples': what is zero for those that lack a network's input."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from msafusion import FusedNetwork, FusionError, FusionPoint, fuse

HERE = torch.tensor([True, False, True, True])


class Graph(nn.Module):
    """Nodes (batch, nodes, 6) with one adjacency matrix (nodes, nodes) for all samples."""

    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x, adjacency, scale=None):
        return self.out(self.layer(adjacency @ x).mean(dim=1)) * (1 if scale is None else scale)


class Vector(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.layer(x))


class TimeFirst(nn.Module):
    """(time, batch, 5) -> (time, batch, 3)."""

    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(5, 3)

    def forward(self, x):
        return self.layer(x)[0]


@dataclass
class Answer:
    logits: Tensor


class Opaque:
    def __init__(self, logits):
        self.logits = logits


class Answering(Vector):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        return self.kind(super().forward(x))


class AddLogits(nn.Module):
    def forward(self, outputs):
        return sum(getattr(output, "logits", output) for output in outputs.values())


def point():
    return FusionPoint({"a": "layer", "b": "layer"}, block_channels=4, norm="none")


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_an_adjacency_matrix_is_not_by_sample(samples, tmp_path):
    torch.manual_seed(0)
    adjacency, scale = torch.rand(4, 4), torch.rand(4, 1)
    example = {"a": (torch.randn(samples, 4, 6), adjacency, scale[:samples]), "b": torch.randn(samples, 6)}
    net = fuse({"a": Graph(), "b": Vector()}, point(), example=example).eval()
    x, y = torch.randn(4, 4, 6), torch.randn(4, 6)
    got = net({"a": (x, adjacency, scale), "b": y}, present={"a": HERE})
    kept = {"a": (x[HERE], adjacency, scale[HERE]), "b": y[HERE]}
    torch.testing.assert_close(got[HERE], net(kept))
    net.save_pretrained(tmp_path)
    again = FusedNetwork.from_pretrained(tmp_path, {"a": Graph(), "b": Vector()})
    assert torch.equal(got, again({"a": (x, adjacency, scale), "b": y}, present={"a": HERE}))


@pytest.mark.parametrize("steps", [4, 6])
@pytest.mark.parametrize("head", ["sum", "mean", "concat"])
def test_outputs_with_time_first_are_zero_where_a_sample_lacks_the_input(steps, head):
    torch.manual_seed(0)
    example = {name: torch.randn(steps, 4, 5) for name in "ab"}
    outputs = {"num_outputs": 3} if head == "concat" else {}
    axes = dict.fromkeys("ab", 0)
    net = fuse({"a": TimeFirst(), "b": TimeFirst()}, head=head, time_axis=axes, example=example, **outputs).eval()
    got = net(example, present={"a": HERE})
    assert got.shape == (steps, 4, 3)
    torch.testing.assert_close(got[:, 1:2], net({"b": example["b"][:, 1:2]}))
    torch.testing.assert_close(got[:, HERE], net({name: x[:, HERE] for name, x in example.items()}))


def test_an_output_in_which_the_samples_cannot_be_told_is_refused():
    example = {name: torch.randn(4, 4, 5) for name in "ab"}
    net = fuse({"a": TimeFirst(), "b": TimeFirst()}, time_axis=dict.fromkeys("ab", 0)).eval()
    with pytest.raises(ValueError, match=r"network 'a' has shape \(4, 4, 3\).*example"):
        net(example, present={"a": HERE})


def test_a_time_axis_counts_from_the_end_as_well():
    torch.manual_seed(0)
    example = {"a": torch.randn(9, 4, 5), "b": torch.randn(4, 6)}
    networks = {"a": nn.Sequential(TimeFirst(), Mean()), "b": Vector()}
    at = FusionPoint({"a": "0.layer", "b": "layer"}, block_channels=1, reduction=1, norm="none")
    net = fuse(networks, at, example=example, time_axis={"a": -3}).eval()
    assert net.input_rules["a"].time_axis == 0
    with pytest.raises(FusionError, match=r"'a' is -4.*\(9, 4, 5\)"):
        fuse(networks, at, example=example, time_axis={"a": -4})


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(dim=0)


def test_rows_in_dataclasses_are_zero_and_objects_are_refused():
    example = {name: torch.randn(4, 6) for name in "ab"}
    net = fuse({"a": Answering(Answer), "b": Vector()}, point(), head=AddLogits(), example=example).eval()
    got = net(example, present={"a": HERE})
    torch.testing.assert_close(got[1:2], net({"b": example["b"][1:2]}))
    net = fuse({"a": Answering(Opaque), "b": Vector()}, point(), head=AddLogits(), example=example).eval()
    assert net(example).shape == (4, 3)
    with pytest.raises(FusionError, match="'a' gives a Opaque"):
        net(example, present={"a": HERE})


class TimeFirstWithStatic(TimeFirst):
    """With one vector (batch, 4) beside each sequence (time, batch, 5)."""

    def __init__(self):
        super().__init__()
        self.static = nn.Linear(4, 3)

    def forward(self, x, static):
        return self.layer(x)[0].mean(dim=0) + self.static(static)


@pytest.mark.parametrize("samples", [3, 4])
def test_a_vector_beside_time_first_input_has_its_samples_first(samples):
    torch.manual_seed(0)
    example = {"a": (torch.randn(6, samples, 5), torch.randn(samples, 4)), "b": torch.randn(samples, 6)}
    net = fuse({"a": TimeFirstWithStatic(), "b": Vector()}, time_axis={"a": 0}, example=example).eval()
    x, static, y = torch.randn(6, 4, 5), torch.randn(4, 4), torch.randn(4, 6)
    got = net({"a": (x, static), "b": y}, present={"a": HERE})
    torch.testing.assert_close(got[HERE], net({"a": (x[:, HERE], static[HERE]), "b": y[HERE]}))
