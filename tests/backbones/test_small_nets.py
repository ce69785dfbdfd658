import pytest
import torch

from msafusion.backbones import MLP, CNN1d, CNN2d, CNN3d, FrameCNN1d
from msafusion.networks import SmallCNN, plan_from

CHANNELS = {"vector": 5, "signal": 3, "image": 3, "clip": 1}
SHAPES = {"vector": (5,), "signal": (3, 20), "image": (3, 18, 22), "clip": (1, 6, 20, 24)}


@pytest.mark.parametrize(
    ("network", "shape"), [(MLP, (5,)), (CNN2d, (3, 33, 20)), (CNN3d, (1, 5, 30, 21)), (FrameCNN1d, (1, 8, 9, 11))]
)
def test_small_networks_give_logits_and_stages_to_fuse_at(network, shape):
    net = network(shape[0], 4).eval()
    assert net(torch.randn(2, *shape)).shape == (2, 4)
    assert [name for name, _ in net.named_children()][:3] == ["stage1", "stage2", "stage3"]


def test_a_clip_keeps_its_time_steps_and_sees_their_order():
    net = CNN3d(1, 4).eval()
    clip = torch.randn(2, 1, 6, 20, 24)
    assert net.stage3(net.stage2(net.stage1(clip))).shape[2] == 6
    assert not torch.allclose(net(clip), net(clip.flip(2)))


def test_gradients_of_clips_are_those_of_double_precision():
    """torch 2.13 computes wrong weight gradients for some 3D convolutions on a CPU (docs/log.md)."""
    clip = torch.randn(2, 1, 6, 20, 24)
    net = CNN3d(1, 4).eval()
    net(clip).square().sum().backward()
    single = [parameter.grad.clone() for parameter in net.parameters()]
    net.double().zero_grad()
    net(clip.double()).square().sum().backward()
    for one, parameter in zip(single, net.parameters(), strict=True):
        torch.testing.assert_close(one.double(), parameter.grad, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("pool", ["mean", "max", "statistics"])
def test_padding_changes_nothing_where_lengths_are_given(pool):
    net = CNN1d(3, 4, pool=pool).eval()
    signal = torch.randn(1, 3, 16)
    padded = torch.cat([signal, torch.randn(1, 3, 8)], dim=2)
    torch.testing.assert_close(net(padded, torch.tensor([16])), net(signal))
    assert not torch.allclose(net(padded), net(signal))


def test_a_fitted_plan_has_a_network_for_every_rank_and_trains_them_together():
    plan = SmallCNN(backbones={"signal": "cnn1d"}).fitted(SHAPES, CHANNELS)
    assert plan.backbones == {"vector": "mlp", "signal": "cnn1d", "image": "cnn2d", "clip": "cnn3d"}
    net = plan_from(plan.as_dict()).build({name: shape[0] for name, shape in SHAPES.items()}, 4)
    batch = {name: torch.randn(3, *shape) for name, shape in SHAPES.items()}
    net(batch, {"signal": torch.tensor([20, 9, 12])}).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_clips_of_larger_frames_get_3d_convolutions():
    assert SmallCNN().fitted({"clip": (1, 16, 112, 112)}, {"clip": 1}).backbones == {"clip": "cnn3d"}
    assert SmallCNN().fitted({"clip": (1, 16, 60, 80)}, {"clip": 1}).backbones == {"clip": "frame_cnn1d"}


def test_frames_become_a_signal_of_grey_values_and_padded_frames_do_not_count():
    net = FrameCNN1d(2, 4, pool="mean").eval()
    clip = torch.randn(2, 2, 12, 16, 20)
    places = clip.unflatten(4, (10, 2)).unflatten(3, (8, 2)).mean(dim=(4, 6))  # (batch, channels, time, 8, 10)
    signal = places.permute(0, 1, 3, 4, 2).flatten(1, 3)
    torch.testing.assert_close(net(clip), CNN1d.forward(net, signal))
    padded = torch.cat([clip, torch.randn(2, 2, 4, 16, 20)], dim=2)
    torch.testing.assert_close(net(padded, torch.tensor([12, 12])), net(clip))


def test_a_backbone_for_an_unknown_stream_or_an_unknown_rank_is_refused():
    with pytest.raises(ValueError, match="unknown stream 'clp'; did you mean 'clip'"):
        SmallCNN(backbones={"clp": "cnn3d"}).fitted(SHAPES, CHANNELS)
    with pytest.raises(ValueError, match="expected 1 to 4 axes"):
        SmallCNN().fitted({"tensor": (1, 2, 3, 4, 5)}, {"tensor": 1})
    with pytest.raises(ValueError, match=r"stream 'text' has the shape \(50, 768\), expected its 768 channels first"):
        SmallCNN().fitted({"text": (50, 768)}, {"text": 768})


def test_statistics_pooling_by_hand():
    net = CNN1d(2, 4, widths=(3,), pool="statistics").eval()
    signal = torch.randn(2, 2, 11)
    features = net.stage1(signal)
    pooled = torch.cat([features.mean(2), features.amax(2), features.std(2, correction=0)], dim=1)
    torch.testing.assert_close(net(signal), net.fc(pooled), atol=1e-3, rtol=1e-3)  # 1e-5 is added to the variances


def test_statistics_of_a_constant_signal_have_finite_gradients():
    signal = torch.zeros(2, 3, 16, requires_grad=True)
    CNN1d(3, 4, pool="statistics")(signal).sum().backward()
    assert signal.grad.isfinite().all()


@pytest.mark.parametrize("fusion", ["msaf", "concat"])
def test_small_networks_with_statistics_pooling_are_fused(fusion):
    plan = SmallCNN(widths=(4, 8, 8), pool="statistics", fusion=fusion)
    net = plan_from(plan.as_dict()).build({"a": 3, "b": 2}, 5)
    assert net({"a": torch.randn(2, 3, 24), "b": torch.randn(2, 2, 16)}).shape == (2, 5)
