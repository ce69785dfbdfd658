import pytest
import torch

from msafusion.networks import NETWORKS, NetworkPlan, SmallCNN, plan_from

CHANNELS = {"accelerometer": 3, "gyroscope": 5}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_plan_builds_trains_and_can_be_saved_as_plain_options(name):
    plan = NETWORKS[name]()
    assert isinstance(plan, NetworkPlan)
    again = plan_from(plan.as_dict())
    assert vars(again) == vars(plan)
    net = again.build(CHANNELS, 4)
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
    net = SmallCNN(widths=(8, 8), fuse_at=("stage2",), block_channels=4).build({"x": 1, "y": 1}, 2)
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
