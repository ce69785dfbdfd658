"""Fused networks that are saved and built again around new networks."""

import json

import pytest
import torch
from small_networks import (
    AudioCNN,
    Recurrent,
    RecurrentWithLengths,
    VideoCNN,
    cnn_example,
    cnn_points,
    fused_cnns,
    stir,
)
from torch import nn

from msafusion import FusedNetwork, FusionPoint, fuse
from msafusion.backbones import CNN1d
from msafusion.fusion import FUSIONS, HEADS, MSAF
from msafusion.version import __version__

ARRAYS = {"a": 3, "b": 2}


def cnns():
    return {"video": VideoCNN(), "audio": AudioCNN()}


def cnn1ds():
    return {name: CNN1d(count, 5, widths=(4, 8)) for name, count in ARRAYS.items()}


def arrays(size=3, steps=12):
    return {name: torch.randn(size, count, steps) for name, count in ARRAYS.items()}


def again(net, folder, networks, **more):
    """The network saved and loaded into others."""
    net.save_pretrained(folder)
    return FusedNetwork.from_pretrained(folder, networks, **more)


def assert_same(net, other, inputs, *more):
    net.eval()
    assert torch.equal(net(inputs, *more), other(inputs, *more))
    ours, theirs = net.stream_outputs(inputs, *more), other.stream_outputs(inputs, *more)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert list(ours) == list(theirs)
    assert {key: value.dtype for key, value in net.state_dict().items()} == {
        key: value.dtype for key, value in other.state_dict().items()
    }
    assert net.input_rules == other.input_rules
    assert net.orders == other.orders
    for one, two in zip([*net.fusion_layers, *net.readings], [*other.fusion_layers, *other.readings], strict=True):
        assert (one.taps, one.name) == (two.taps, two.name)


def test_two_points_padding_and_missing_samples_come_back_bit_for_bit(tmp_path):
    net, inputs = stir(fused_cnns(norm="batch")).train(), cnn_example(4)
    net(inputs)  # statistics of batch norms
    loaded = again(net, tmp_path / "deep" / "fused", dict(reversed(cnns().items())))
    assert sorted(path.name for path in (tmp_path / "deep" / "fused").iterdir()) == ["config.json", "model.safetensors"]
    assert not loaded.training
    assert list(loaded.networks) == ["video", "audio"]
    lengths = {"video": torch.tensor([4, 2, 1, 3]), "audio": torch.tensor([9, 1, 0, 5])}
    present = {"audio": torch.tensor([True, True, True, False])}
    assert_same(net, loaded, inputs)
    assert_same(net, loaded, inputs, lengths)
    assert_same(net, loaded, inputs, lengths, present)
    assert_same(net, loaded, {"audio": inputs["audio"]})
    net.train(), loaded.train()
    assert torch.equal(net(inputs), loaded(inputs))
    assert json.loads((tmp_path / "deep" / "fused" / "config.json").read_text())["msafusion"] == __version__


def test_a_loaded_network_saves_to_the_same_files(tmp_path):
    net = stir(fused_cnns()).freeze("audio")
    loaded = again(net, tmp_path / "one", cnns())
    loaded.save_pretrained(tmp_path / "two")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    net.save_pretrained(tmp_path / "two")


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_method_between_layers_comes_back(fusion, tmp_path):
    at = FusionPoint({"a": "stage1", "b": "stage1"}, fusion=fusion)
    net = fuse(cnn1ds(), at, head="mean", example=arrays())
    for parameter in net.fusion_layers.parameters():
        nn.init.normal_(parameter)
    assert_same(net, again(net, tmp_path, cnn1ds()), arrays())


@pytest.mark.parametrize("head", HEADS)
def test_every_head_comes_back(head, tmp_path):
    late = head in ("sum", "mean", "product", "multiplicative")
    last = {"a": "dropout", "b": "dropout"}
    levels = [{"a": "stage1", "b": "stage1"}, last] if head == "centralnet" else last
    options = {"mcb": {"sketch": 64, "sketch_seed": 3}, "multiplicative": {"beta": 0.1}}.get(head)
    where = {} if late else {"head_at": levels, "num_outputs": 5}
    net = fuse(cnn1ds(), head=head, head_options=options, example=arrays(), **where)
    assert_same(net, again(net, tmp_path, cnn1ds()), arrays(), {"a": torch.tensor([12, 3, 7])})


def test_late_fusion_without_example_comes_back(tmp_path):
    net = fuse(cnn1ds())
    assert_same(net, again(net, tmp_path, cnn1ds()), arrays())


@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_networks_and_their_own_lengths_come_back(batch_first, tmp_path):
    def networks():
        return {"a": Recurrent(5, 6, batch_first=batch_first), "b": RecurrentWithLengths(2, 8)}

    first = (3, 7, 5) if batch_first else (7, 3, 5)
    inputs = {"a": torch.randn(first), "b": torch.randn(3, 9, 2)}
    at = FusionPoint({"a": {"x": "rnn[0]"}, "b": "steps"}, fusion="mmtm", time_axis={"b": 1}, channel_axis=-1)
    net = fuse(networks(), at, example=inputs)
    for parameter in net.fusion_layers.parameters():
        nn.init.normal_(parameter)
    loaded = again(net, tmp_path, networks())
    assert loaded.fusion_layers[0].taps[0].stream == "x"
    assert_same(net, loaded, inputs, {"a": torch.tensor([7, 1, 3]), "b": torch.tensor([9, 2, 5])})


class Turned(nn.Module):
    """A network with a buffer that is in no state dict, and one of integers that is."""

    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Linear(3, 4), nn.Linear(4, 4)
        self.register_buffer("angles", torch.rand(4), persistent=False)
        self.register_buffer("steps", torch.tensor(3))

    def forward(self, x):
        return self.out(self.layer(x) * self.angles.to(x.dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_types_are_as_they_were_saved(dtype, tmp_path):
    torch.manual_seed(1)
    network, other = Turned(), Turned()
    other.angles.copy_(network.angles)
    inputs = {"a": torch.randn(3, 3)}
    net = fuse({"a": network}, FusionPoint({"a": "layer"}), example=inputs).to(dtype)
    network.angles.data = network.angles.data.float()  # as models do that keep some numbers exact
    other.angles.data = other.angles.data.half().to(dtype)
    network.angles.copy_(other.angles)
    loaded = again(net, tmp_path, {"a": other})
    assert other.angles.dtype == torch.float32
    assert other.layer.weight.dtype == dtype
    assert_same(net, loaded, {"a": inputs["a"].to(dtype)})


class Tied(nn.Module):
    def __init__(self, tied=True):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        if tied:
            self.two.weight = self.one.weight

    def forward(self, x):
        return self.two(self.one(x))


def tied(shared=True, within=True):
    a = Tied(within)
    return {"a": a, "b": a if shared else Tied(within)}


def test_shared_weights_stay_shared(tmp_path):
    inputs = {"a": torch.randn(2, 4), "b": torch.randn(2, 4)}
    net = fuse(tied(), FusionPoint({"a": "one", "b": "one"}), example=inputs)
    loaded = again(net.double(), tmp_path, tied())
    assert loaded.networks["a"] is loaded.networks["b"]
    assert loaded.networks["a"].one.weight is loaded.networks["a"].two.weight
    assert_same(net, loaded, {name: value.double() for name, value in inputs.items()})


def test_weights_shared_otherwise_are_refused(tmp_path):
    inputs = {"a": torch.randn(2, 4), "b": torch.randn(2, 4)}
    fuse(tied(shared=False, within=False), FusionPoint({"a": "one", "b": "one"}), example=inputs).save_pretrained(
        tmp_path
    )
    before = tied()
    kept = before["a"].one.weight.clone()
    with pytest.raises(ValueError, match=r"^networks\.a\.one\.weight and .* one tensor in the networks given, two in"):
        FusedNetwork.from_pretrained(tmp_path, before)
    assert torch.equal(kept, before["a"].one.weight)
    fuse(tied(), FusionPoint({"a": "one", "b": "one"}), example=inputs).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"are one tensor in .* two in the networks given; build"):
        FusedNetwork.from_pretrained(tmp_path, tied(within=False))


def test_frozen_parts_stay_frozen_and_thaw_as_before(tmp_path):
    net = fused_cnns()
    net.networks["video"].classifier.requires_grad_(False)
    net.freeze("video", "fusion").train()
    loaded = again(net, tmp_path, cnns()).train()

    def trained(one):
        return [key for key, parameter in one.named_parameters() if parameter.requires_grad]

    assert trained(loaded) == trained(net)
    assert not loaded.networks["video"].training
    assert loaded.networks["audio"].training
    assert trained(loaded.unfreeze()) == trained(net.unfreeze())
    assert "networks.video.classifier.weight" not in trained(loaded)


class Own(nn.Module):
    """A head and fusion of the user's."""

    def __init__(self, width=4):
        super().__init__()
        self.linear = nn.Linear(width, 4)

    def forward(self, outputs, masks=None, present=None):
        return self.linear(sum(outputs.values()))


def test_modules_of_your_own_are_given_again(tmp_path):
    channels, inputs = {"video": 8, "audio": 10}, cnn_example()
    points = [FusionPoint({"video": "layer1", "audio": "relu1"}, fusion=MSAF(channels, 4)), cnn_points()[1]]
    net = fuse(cnns(), points, head=Own(), example=inputs)
    with pytest.raises(
        ValueError, match=r"^fusion point 0 \(video.layer1 \+ audio.relu1\) was a module of your own \(MSAF"
    ):
        again(net, tmp_path, cnns(), head=Own())
    own = MSAF(channels, 4)
    with pytest.raises(ValueError, match=r"^the head was a module of your own \(Own\).* as head=\.\.\.\.$"):
        again(net, tmp_path, cnns(), fusions={0: own})
    with pytest.raises(ValueError, match=r"^the head is a Linear, expected a Own"):
        again(net, tmp_path, cnns(), fusions={0: own}, head=nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"^fusions names the point 1, expected one with a module of your own: 0\."):
        again(net, tmp_path, cnns(), fusions={0: own, 1: own}, head=Own())
    with pytest.raises(ValueError, match=r"the weights do not fit the head as in .*linear.weight has shape \(4, 4\)"):
        again(net, tmp_path, cnns(), fusions={0: own}, head=Own(5))
    assert_same(net, again(net, tmp_path, cnns(), fusions={0: own}, head=Own()), inputs)
    with pytest.raises(ValueError, match=r"is 'sum', made by its name; leave head out"):
        again(fused_cnns(), tmp_path, cnns(), head=Own())


def test_a_module_put_in_place_of_a_method_counts_as_your_own(tmp_path):
    net = fused_cnns()
    net.fusion_layers[0].fusion = MSAF({"video": 8, "audio": 10}, 2, reduction=2)
    with pytest.raises(ValueError, match=r"^fusion point 0 .* module of your own \(MSAF\)"):
        again(net, tmp_path, cnns())


def test_lazy_networks_are_filled(tmp_path):
    def lazy():
        return {"a": nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))}

    inputs = {"a": torch.randn(2, 3)}
    net = fuse(lazy(), FusionPoint({"a": "1"}, channel_axis=1, fusion="se"), example=inputs)
    assert_same(net, again(net, tmp_path, lazy()), inputs)


def test_an_option_that_json_does_not_have_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(FUSIONS, "mine", lambda channels, device: MSAF(channels))
    net = fuse(cnn1ds(), FusionPoint({"a": "stage1"}, fusion="mine", device=torch.device("cpu")), example=arrays())
    with pytest.raises(ValueError, match=r"^option 'device' of 'mine' \(fusion point a.stage1\) is .*cannot hold"):
        net.save_pretrained(tmp_path / "x")
    assert not (tmp_path / "x").exists()
