import functools

import pytest
import torch

from msafusion.attach import FusedNetwork
from msafusion.networks import NETWORKS, NetworkPlan, SmallCNN, plan_from

CHANNELS = {"accelerometer": 3, "gyroscope": 5}
SMALL = {  # shapes of a small sample
    "SmallCNN": {"accelerometer": (3, 50), "gyroscope": (3, 50)},
    "RAVDESSNet": {"video": (3, 8, 32, 32), "audio": (13, 60)},
    "MOSEINet": {"visual": (12, 35), "audio": (12, 74), "text": (12, 768)},
    "NTURGBDNet": {"rgb": (3, 8, 32, 32), "skeleton": (3, 32, 25, 2)},
}
PUBLISHED = [name for name in NETWORKS if name != "SmallCNN"]
OTHER_OPTIONS = {
    "SmallCNN": {"widths": (8, 12), "fuse_at": ("stage2",), "head": "mean", "fusion": "mmtm"},
    "RAVDESSNet": {"reference": True, "block_dropout": 0.0},
    "MOSEINet": {"init": "paper", "segments": 3},
    "NTURGBDNet": {"rgb": "resnet50", "padding": "same"},
}


def small_inputs(name, batch=4):
    return {stream: torch.randn(batch, *shape) for stream, shape in SMALL[name].items()}


def typical(plan):
    return plan.build(plan.typical_channels, plan.typical_outputs)


DEFAULT = {
    name: functools.partial(lambda plan: typical(plan_from(plan().as_dict())), NETWORKS[name]) for name in NETWORKS
}
"""By name: the network of a plan's own options, from plain values."""


@pytest.mark.parametrize("name", NETWORKS)
def test_every_plan_builds_trains_and_can_be_saved_as_plain_options(name, built):
    plan = NETWORKS[name]()
    assert isinstance(plan, NetworkPlan)
    assert vars(plan_from(plan.as_dict())) == vars(plan)
    net, inputs = built(DEFAULT[name]), small_inputs(name, batch=2)
    output = net(inputs)
    output.square().sum().backward()
    assert output.shape == (2, plan.typical_outputs)
    assert list(net.networks) == list(plan.typical_channels)
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_options_come_back_from_plain_values(name, built):
    plan = NETWORKS[name](**OTHER_OPTIONS[name])
    saved = plan.as_dict()
    assert saved["name"] == name
    again = plan_from(saved)
    assert type(again) is type(plan)
    assert vars(again) == vars(plan) != vars(NETWORKS[name]())
    kinds = [
        [type(module) for module in net.modules()] + [str(fusion_layer) for fusion_layer in net.fusion_layers]
        for net in (typical(again), built(DEFAULT[name]))
    ]
    assert kinds[0] != kinds[1]


@pytest.mark.parametrize("name", NETWORKS)
def test_typical_shapes_have_the_typical_channels(name):
    plan = NETWORKS[name]()
    shapes = plan.typical_shapes()
    assert shapes.keys() == plan.typical_channels.keys()
    last = name == "MOSEINet"  # sequences have their features last
    assert {stream: shape[-1 if last else 0] for stream, shape in shapes.items()} == dict(plan.typical_channels)


@torch.no_grad()
@pytest.mark.parametrize("name", PUBLISHED)
def test_each_network_alone_shares_its_weights_with_the_whole(name, built):
    plan, inputs, net = NETWORKS[name](), small_inputs(name, batch=1), built(DEFAULT[name])
    for stream in net.networks:
        alone = plan.unimodal(net, stream, plan.typical_outputs).eval()
        assert isinstance(alone, FusedNetwork)
        assert list(alone.networks) == [stream]
        before = alone({stream: inputs[stream]})
        assert before.shape == (1, plan.typical_outputs)
        own = set(map(id, alone.parameters()))
        assert all(id(parameter) in own for parameter in net.networks[stream].parameters())
        for parameter in net.networks[stream].parameters():
            parameter.mul_(1.1)
        assert not torch.allclose(alone({stream: inputs[stream]}), before)


@pytest.mark.parametrize("name", ["MOSEINet", "NTURGBDNet"])
def test_training_a_network_alone_changes_the_whole(name, built):
    plan, inputs, net = NETWORKS[name](), small_inputs(name), built(DEFAULT[name])
    stream = list(net.networks)[-1]
    before = [parameter.detach().clone() for parameter in net.networks[stream].parameters()]
    others = [parameter.detach().clone() for key, parameter in net.named_parameters() if f".{stream}." not in key]
    alone = plan.unimodal(net, stream, plan.typical_outputs)
    optimizer = torch.optim.SGD(alone.parameters(), 0.1)
    alone({stream: inputs[stream]}).square().sum().backward()
    optimizer.step()
    changed = [not torch.equal(old, new) for old, new in zip(before, net.networks[stream].parameters(), strict=True)]
    assert all(changed)
    now = [parameter for key, parameter in net.named_parameters() if f".{stream}." not in key]
    assert all(torch.equal(old, new) for old, new in zip(others, now, strict=True))


@pytest.mark.parametrize(
    ("name", "channels", "wanted"),
    [
        ("RAVDESSNet", CHANNELS, r"video \(3\), audio \(13\)"),
        ("RAVDESSNet", {"video": 3}, r"video \(3\), audio \(13\)"),
        ("RAVDESSNet", {"video": 3, "audio": 40}, r"video \(3\), audio \(13\)"),
        ("MOSEINet", CHANNELS, r"visual, audio, text"),
        ("MOSEINet", {"visual": 35, "audio": 74}, r"visual, audio, text"),
        ("NTURGBDNet", CHANNELS, r"rgb \(3\), skeleton \(3\)"),
        ("NTURGBDNet", {"rgb": 3, "skeleton": 3, "audio": 13}, r"rgb \(3\), skeleton \(3\)"),
    ],
)
def test_a_data_set_with_other_streams_is_refused(name, channels, wanted):
    with pytest.raises(
        ValueError, match=rf"network {name} got the streams \{{.*\}}, expected {wanted}; choose another"
    ):
        NETWORKS[name]().build(channels, 3)


def test_mosei_takes_other_numbers_of_features_in_any_order():
    net = NETWORKS["MOSEINet"]().build({"text": 300, "audio": 74, "visual": 47}, 1).eval()
    assert list(net.networks) == ["visual", "audio", "text"]
    inputs = {"text": torch.randn(2, 9, 300), "visual": torch.randn(2, 9, 47), "audio": torch.randn(2, 9, 74)}
    assert net(inputs).shape == (2, 1)


def test_small_cnn_takes_any_streams():
    net = SmallCNN().build(CHANNELS, 4)
    inputs = {stream: torch.randn(6, channels, 50) for stream, channels in CHANNELS.items()}
    loss = torch.nn.functional.cross_entropy(net(inputs), torch.tensor([0, 1, 2, 3, 0, 1]))
    loss.backward()
    assert net(inputs).shape == (6, 4)
    assert list(net.networks) == list(CHANNELS)
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_small_cnn_starts_as_the_sum_of_its_networks():
    net = SmallCNN().build(CHANNELS, 4).eval()
    inputs = {stream: torch.randn(6, channels, 50) for stream, channels in CHANNELS.items()}
    alone = sum(net.networks[stream](inputs[stream]) for stream in CHANNELS)
    assert torch.equal(net(inputs), alone)


def test_small_cnn_learns_to_tell_two_noisy_waves_apart():
    net = SmallCNN(widths=(8, 8), fuse_at=("stage2",), fusion_options={"block_channels": 4}).build({"x": 1, "y": 1}, 2)
    time = torch.arange(40.0)
    labels = torch.arange(32) % 2
    wave = torch.sin(time * (0.3 + 0.5 * labels[:, None]))[:, None]
    inputs = {"x": wave + 0.5 * torch.randn(32, 1, 40), "y": wave + 0.5 * torch.randn(32, 1, 40)}
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(net(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_an_unknown_plan_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown network 'SmalCNN'; did you mean 'SmallCNN'"):
        plan_from({"name": "SmalCNN", "options": {}})
