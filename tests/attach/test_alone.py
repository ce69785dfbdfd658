"""Networks used alone after `fuse()`, modules that hooks cannot be put on, layers left out in training."""

import copy

import pytest
import torch
from small_networks import AudioCNN, Chain, fused_chains, num_hooks, pair, stir
from torch import nn

from msafusion import FusionError, FusionPoint, fuse


def test_networks_alone_export_and_compile_as_before_and_have_no_hooks():
    networks = {name: AudioCNN().eval() for name in "ab"}
    example = {name: torch.randn(3, 5, 9) for name in "ab"}
    for _ in range(3):
        net = pair(networks["a"], networks["b"], "relu1", example)
        net(example)
    assert num_hooks(*networks.values()) == 0
    expected = networks["a"](example["a"])
    exported = torch.export.export(networks["a"], (example["a"],)).module()
    torch.testing.assert_close(exported(example["a"]), expected)
    compiled = torch.compile(networks["a"], fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(example["a"]), expected)


def test_no_hooks_are_left_by_an_error():
    net, example = fused_chains()
    net.eval().networks["b"].order = ("first",)
    with pytest.raises(ValueError, match="ended without"):
        net(example)
    assert num_hooks(net) == 0


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_beside_a_point_works_and_at_one_is_an_error():
    example = {name: torch.randn(3, 5, 9) for name in "ab"}
    a = AudioCNN().eval()
    expected = pair(copy.deepcopy(a), a, "relu1", example).eval()(example)
    scripted = copy.deepcopy(a)
    scripted.classifier = torch.jit.script(scripted.classifier)
    torch.testing.assert_close(pair(scripted, a, "relu1", example).eval()(example), expected)
    assert fuse({"a": scripted, "b": a}, example=example)(example).shape == (3, 4)
    with pytest.raises(ValueError, match=r"'classifier' of network 'a' .* is TorchScript"):
        fuse({"a": scripted, "b": a}, FusionPoint({"a": "classifier", "b": "relu1"}, block_channels=4), example=example)


@pytest.mark.usefixtures("without_shape_checks")  # of which dynamo would trace every line
def test_a_network_wrapped_after_fuse_is_still_stopped():
    net, example = fused_chains()
    expected = stir(net.eval())(example)
    net.networks["a"] = torch.compile(net.networks["a"], backend="eager")
    torch.testing.assert_close(net(example), expected)


@pytest.mark.parametrize("left_out", ["first", "second", "third"])
def test_a_layer_left_out_in_a_training_step_is_a_missing_stream_there(left_out):
    net, example = fused_chains(at=("first", "second", "third"))
    stir(net)
    full = net(example)
    order = ("first", "second", "third")
    net.networks["a"].order = tuple(name for name in order if name != left_out)
    seen = []
    for fusion_layer in net.fusion_layers:
        fusion_layer.fusion.register_forward_pre_hook(lambda module, args: seen.append(sorted(args[0])))
    with pytest.warns(UserWarning, match=f"network 'a' left out its submodule '{left_out}'"):
        output = net(example)
    assert seen == [["b"] if name == left_out else ["a", "b"] for name in order]
    assert not torch.allclose(output, full)
    seen.clear()
    net(example)  # told once
    net.networks["a"].order = order
    assert torch.equal(net(example), full)


def test_a_point_left_out_by_all_is_passed():
    net, example = fused_chains(at=("first", "second"))
    for network in net.networks.values():
        network.order = ("first", "third")
    assert net(example).shape == (2, 4)


class Merges(nn.Linear):
    """Does its work in train(), as LoRA layers do."""

    merged = False

    def train(self, mode=True):
        self.merged = not mode
        return super().train(mode)


class WithMerges(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.frozen, self.last = Merges(6, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.last(self.frozen(self.layer(x)))


def test_modules_are_restored_by_their_own_train():
    example = {name: torch.randn(3, 6) for name in "ab"}
    a, b = WithMerges(), WithMerges()
    a.frozen.eval()
    b.eval()
    net = fuse({"a": a, "b": b}, FusionPoint({"a": "layer", "b": "layer"}, block_channels=8), example=example)
    assert (a.layer.training, a.layer.merged, a.frozen.training, a.training) == (True, False, False, True)
    assert (b.layer.training, b.layer.merged, b.training) == (False, True, False)
    net.export(example)
    assert (a.layer.merged, a.frozen.training) == (False, False)


class Nested(nn.Module):
    def forward(self, x):
        return (x, x), x.detach()


def test_features_nested_in_an_output_are_an_error():
    example = {name: torch.randn(3, 4, 6) for name in "ab"}

    class Net(Chain):
        def __init__(self):
            super().__init__()
            self.nested = Nested()

        def forward(self, x):
            return super().forward(self.nested(x)[0][0])

    with pytest.raises(ValueError, match=r"submodule 'nested' of network 'a' .*inside \[0\].*submodule\[key\]"):
        fuse({"a": Net(), "b": Chain()}, FusionPoint({"a": "nested", "b": "first"}, block_channels=4), example=example)


def test_a_point_inside_another_fused_network_is_an_error_and_around_it_is_not():
    example = {name: torch.randn(3, 4, 6) for name in "ab"}
    first = FusionPoint({"a": "first", "b": "first"}, block_channels=4)
    inner = fuse({"a": Chain(), "b": Chain()}, first, example=example)

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.last = inner, nn.Identity()

        def forward(self, a, b):
            return self.last(self.inner({"a": a, "b": b}))

    networks, both = {"ab": Around(), "c": Chain()}, {"ab": tuple(example.values()), "c": example["a"]}
    inside = FusionPoint({"ab": "inner.networks.a.second", "c": "second"}, block_channels=4)
    with pytest.raises(FusionError, match=r"network 'ab' at .* inside another fused network, in its 'a'"):
        fuse(networks, inside, example=both)
    around = FusionPoint({"ab": "last", "c": "third"}, "se", channel_axis=1)
    assert fuse(networks, around, example=both)(both).shape == inner(example).shape


def test_a_part_that_a_network_copies_in_its_forward_keeps_no_hook():
    class Copies(Chain):
        def forward(self, x):
            self.copies = [copy.deepcopy(self.first)]  # in a list, so that it is no submodule
            self.copies[0](x)
            return super().forward(x)

    example = {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 6)}
    network = Copies()
    net = pair(network, Chain(), "first", example)
    net(example)
    assert num_hooks(network, *network.copies) == 0
