"""Rows of different samples never meet: networks that sort, fold or leave out samples, or give more than features."""

import pytest
import torch
from torch import nn

from msafusion import FusionError, FusionPoint, fuse


class Frames(nn.Module):
    """Folds time into the batch, sample by sample or step by step."""

    def __init__(self, step_by_step=False):
        super().__init__()
        self.step_by_step, self.layer, self.out = step_by_step, nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 3)

    def forward(self, x):
        batch, steps = x.shape[:2]
        x = x.transpose(0, 1) if self.step_by_step else x
        hidden = self.out(self.layer(x.flatten(0, 1)).mean(dim=(2, 3)))
        return hidden.view(steps, batch, -1).mean(0) if self.step_by_step else hidden.view(batch, steps, -1).mean(1)


class Sorting(nn.Module):
    """Sorts its samples by length, as networks that pack do, and back."""

    def __init__(self, descending=True, by_mask=False):
        super().__init__()
        self.descending, self.by_mask = descending, by_mask
        self.layer, self.out = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x, lengths=None, attention_mask=None):
        lengths = attention_mask.sum(dim=1) if self.by_mask else lengths
        order = lengths.sort(descending=self.descending, stable=True).indices
        return self.out(self.layer(x[order])[order.argsort()].mean(dim=1))


class Some(nn.Module):
    """Runs its layer on half of the samples in training (stochastic depth by sample)."""

    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        kept = torch.arange(len(x))[: len(x) // 2 if self.training else len(x)]
        return torch.zeros(len(x), 3).index_copy(0, kept, self.out(self.layer(x[kept])))


class WithBias(nn.Module):
    """Its layer gives features and a position bias, as T5's do."""

    def __init__(self):
        super().__init__()
        self.layer, self.out = Biased(), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.layer(x)[0].mean(dim=1))


class Biased(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.bias = nn.Linear(5, 8), nn.Parameter(torch.randn(1, 2, 7, 7))

    def forward(self, x):
        return self.inner(x), self.bias * 2


def point(**options):
    return FusionPoint({"a": "layer", "b": "layer"}, block_channels=4, norm="none", **options)


def test_frames_folded_in_two_orders_are_refused():
    example = {name: torch.randn(2, 4, 3, 8, 8) for name in "ab"}
    with pytest.raises(FusionError, match=r"'a' and 'b' have 8 rows"):
        fuse({"a": Frames(), "b": Frames(step_by_step=True)}, point(), example=example)
    for step_by_step in (False, True):
        net = fuse({"a": Frames(step_by_step), "b": Frames(step_by_step)}, point(), example=example).eval()
        for parameter in net.fusion_layers.parameters():
            nn.init.normal_(parameter)
        alone = net({name: clip[:1] for name, clip in example.items()})
        torch.testing.assert_close(net(example)[:1], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("samples", [1, 2, 4])
@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("told", ["own", "argument", "mask"])
def test_samples_sorted_by_length_are_refused(samples, descending, told):
    x, lengths = torch.randn(samples, 7, 5), torch.full((samples,), 7)
    given = {"own": {"x": x, "lengths": lengths}, "mask": {"x": x, "attention_mask": torch.ones(samples, 7)}}
    example = {"a": given.get(told, {"x": x}), "b": torch.randn(samples, 6)}
    networks = {"a": Sorting(descending, by_mask=told == "mask"), "b": Some()}
    if told == "argument":
        networks["a"].forward = lambda x, lengths: Sorting.forward(networks["a"], x, lengths)
    with pytest.raises(FusionError, match=r"'layer' of network 'a' .*the first sample is not the first on axis 0"):
        fuse(networks, point(), example=example)


def test_a_point_that_some_samples_pass_is_refused():
    example = {name: torch.randn(4, 6) for name in "ab"}
    net = fuse({"a": Some(), "b": Some()}, point(), example=example)
    assert net.eval()(example).shape == (4, 3)
    with pytest.raises(FusionError, match=r"network 'a' gives shape \(2, 8\), expected 4 on axis 0"):
        net.train()(example)


@pytest.mark.parametrize("samples", [1, 3])
def test_a_position_bias_beside_the_features_is_no_stream(samples):
    example = {"a": torch.randn(samples, 7, 5), "b": torch.randn(samples, 6)}
    networks = {"a": WithBias(), "b": Some()}
    with pytest.raises(FusionError, match=r"\[1\] does not depend on the input.*'layer\[0\]'"):
        fuse(networks, point(), example=example)
    named = FusionPoint({"a": "layer[0]", "b": "layer"}, block_channels=4, norm="none")
    assert fuse(networks, named, example=example).eval()(example).shape == (samples, 3)
