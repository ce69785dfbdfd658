"""Samples are fused with themselves: the axis of the batch is found by changing a sample, whatever its place."""

import pytest
import torch
from torch import nn

from msafusion import FusionError, FusionPoint, fuse


class StepsFirst(nn.Module):
    """Puts time first, as fairseq and XLNet do, without a module that tells it."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.output = nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.output(self.norm(self.embed(x.transpose(0, 1))).mean(0))


class Vectors(nn.Module):
    def __init__(self, order=lambda x: x):
        super().__init__()
        self.layer, self.output, self.order = nn.Linear(4, 8), nn.Linear(8, 3), order

    def forward(self, x):
        return self.order(self.output(self.layer(self.order(x))))


class LastState(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.output = nn.GRU(5, 8, num_layers=2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.output(self.rnn(x)[1][-1])


def assert_apart(net, inputs):
    """A change of the first sample of one network changes no other prediction."""
    net.eval()
    with torch.no_grad():
        for parameter in net.fusion_layers.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        changed = {**inputs, "a": torch.cat([inputs["a"][:1] + 1, inputs["a"][1:]])}
        change = (net(changed) - net(inputs)).abs().amax(1)
    assert change[0] > 1e-3
    assert not change[1:].any()


@pytest.mark.parametrize(
    ("make", "at", "steps"),
    [
        ((StepsFirst, StepsFirst), ("norm", "norm"), 6),
        ((StepsFirst, StepsFirst), ("norm", "norm"), 4),  # as many as samples
        ((StepsFirst, Vectors), ("norm", "layer"), 4),
        ((LastState, LastState), ("rnn[1]", "rnn[1]"), 6),
    ],
)
def test_the_batch_is_found_where_no_module_tells_it(make, at, steps):
    torch.manual_seed(0)
    inputs = {
        name: torch.randn(4, 4) if one is Vectors else torch.randn(4, steps, 5)
        for name, one in zip("ab", make, strict=True)
    }
    streams = dict(zip("ab", at, strict=True))
    options = {"channel_axis": -1} if LastState in make else {}
    networks = {name: one() for name, one in zip("ab", make, strict=True)}
    assert_apart(fuse(networks, FusionPoint(streams, block_channels=4, **options), example=inputs), inputs)


def test_a_head_reads_samples_where_time_comes_first():
    inputs = {"a": torch.randn(4, 6, 5), "b": torch.randn(4, 6, 5)}
    net = fuse(
        {"a": StepsFirst(), "b": StepsFirst()},
        [],
        head="gmu",
        head_at={"a": "norm", "b": "norm"},
        num_outputs=3,
        example=inputs,
    )
    assert net(inputs).shape == (4, 3)


def test_rows_in_another_order_than_samples_are_refused():
    inputs = {"a": torch.randn(5, 4), "b": torch.randn(5, 4)}
    networks = {"a": Vectors(order=lambda x: x.flip(0)), "b": Vectors()}
    with pytest.raises(FusionError, match=r"submodule 'layer' of network 'a'.*\(5, 8\).*first sample is not the first"):
        fuse(networks, FusionPoint({"a": "layer", "b": "layer"}, block_channels=4), example=inputs)
