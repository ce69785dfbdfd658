"""Lengths told in several ways, through wrappers, in small integers, and within torch.func.vmap."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from msafusion import FusionPoint, fuse

STEPS = 9


class Conv(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Conv1d(4, 8, 3, padding=1), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.layer(x).mean(dim=2))


class Masked(nn.Module):
    """Takes `lengths`, or an attention mask, and keeps the lengths that it got."""

    def __init__(self):
        super().__init__()
        self.layer, self.out, self.got = nn.Linear(5, 8), nn.Linear(8, 3), None

    def forward(self, x, attention_mask=None, lengths=None):
        self.got = lengths
        return self.out(self.layer(x).mean(dim=1))


class Wrapper(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.base_model = network

    def forward(self, *args, **kwargs):
        return self.base_model(*args, **kwargs)


def pair(**given):
    torch.manual_seed(0)
    example = {"a": {"x": torch.randn(4, STEPS, 5), **given}, "b": torch.randn(4, 4, 11)}
    point = FusionPoint({"a": "layer", "b": "layer"}, block_channels=4, norm="none")
    net = fuse({"a": Masked(), "b": Conv()}, point, example=example).eval()
    for parameter in net.fusion_layers.parameters():
        nn.init.normal_(parameter)
    return net, example


@pytest.mark.parametrize("told", ["lengths", "attention_mask"])
def test_lengths_beside_others_that_differ_are_refused(told):
    lengths = torch.tensor([9, 3, 5, 7])
    mask = (torch.arange(STEPS) < lengths.unsqueeze(1)).long()
    net, example = pair(**({"lengths": lengths} if told == "lengths" else {"attention_mask": mask}))
    same = net(example, lengths={"a": lengths})
    assert torch.equal(same, net(example))
    with pytest.raises(ValueError, match=f"'a'.*{told}.*sample 1"):
        net(example, lengths={"a": torch.tensor([9, 4, 5, 7])})


def test_lengths_beside_padding_on_the_left_are_refused():
    net, example = pair(attention_mask=torch.ones(4, STEPS))
    example["a"]["attention_mask"] = (torch.arange(STEPS) >= 5).long().expand(4, -1)
    with pytest.raises(ValueError, match=r"'a'.*attention_mask.*sample 0"):
        net(example, lengths={"a": torch.full((4,), 4)})


@pytest.mark.parametrize("wrap", [Wrapper, lambda network: Wrapper(Wrapper(network)), lambda n: torch.compile(n)])
def test_a_wrapped_network_gets_its_lengths(wrap):
    network, lengths = Masked(), torch.tensor([3, 9, 5, 7])
    net = fuse({"a": wrap(network), "b": Conv()}).eval()
    rule = net.input_rules["a"]
    assert (rule.lengths_at, rule.lengths_required) == (2, False)
    if not isinstance(net.networks["a"], Wrapper):
        return  # compiling takes long
    net({"a": torch.randn(4, STEPS, 5), "b": torch.randn(4, 4, 11)}, lengths={"a": lengths})
    assert network.got is lengths or torch.equal(network.got, lengths)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32])
def test_small_integers_hold_lengths(dtype):
    torch.manual_seed(0)
    example = {name: torch.randn(2, 4, 200) for name in "ab"}
    net = fuse({"a": Conv(), "b": Conv()}, FusionPoint({"a": "layer", "b": "layer"}, block_channels=4), example=example)
    lengths = torch.tensor([100, 127])
    got = net.eval()(example, lengths={"a": lengths.to(dtype)})
    assert torch.equal(got, net(example, lengths={"a": lengths}))


def test_gradients_by_sample_take_lengths_and_presence():
    net, example = pair()
    a, b = example["a"]["x"], example["b"]
    lengths, here = torch.tensor([3, 9, 5, 7]), torch.tensor([True, False, True, True])

    def loss(parameters, a, b, length, here):
        told = {"a": length[None]}, {"b": here[None]}
        return functional_call(net, parameters, ({"a": a[None], "b": b[None]}, *told)).square().sum()

    parameters = dict(net.named_parameters())
    gradients = vmap(grad(loss), (None, 0, 0, 0, 0))(parameters, a, b, lengths, here)
    for i in range(4):
        one = slice(i, i + 1)
        net.zero_grad()
        net({"a": a[one], "b": b[one]}, {"a": lengths[one]}, {"b": here[one]}).square().sum().backward()
        for name, parameter in parameters.items():
            torch.testing.assert_close(gradients[name][i], parameter.grad, atol=1e-5, rtol=1e-4)
