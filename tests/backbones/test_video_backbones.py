"""ResNet3d, ResNeXt3d, InflatedResNet and I3D: any clip, documented stage shapes, and I3D's ends and padding."""

import itertools
import json
import math
from pathlib import Path

import jaxtyping
import pytest
import torch
from torch import nn
from torch.nn import functional

from msafusion.backbones import I3D, InflatedResNet, ResNet3d, ResNeXt3d

GOLDEN = Path(__file__).parents[1] / "golden"
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
CLIPS = [(4, 32, 32), (1, 32, 32), (5, 33, 47), (3, 1, 9)]
RESIDUAL = {
    "resnet18": lambda: ResNet3d(5, depth=18),
    "resnet50": lambda: ResNet3d(5, depth=50),
    "resnext50": lambda: ResNeXt3d(5, depth=50),
    "inflated": lambda: InflatedResNet(5),
}


def shapes_at(net, names, video):
    """Shape of the output of each named submodule."""
    shapes = {}
    for name in names:
        net.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: shapes.update({name: tuple(output.shape)})
        )
    net(video)
    return shapes


def halved(size, times):
    for _ in range(times):
        size = math.ceil(size / 2)
    return size


@torch.no_grad()
@pytest.mark.parametrize("name", RESIDUAL)
def test_residual_networks_take_any_length_and_size(name):
    net = RESIDUAL[name]().eval()
    for clip in CLIPS:
        logits = net(torch.randn(2, 3, *clip))
        assert logits.shape == (2, 5)
        assert logits.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_i3d_takes_any_length_and_size(padding):
    net = I3D(5, padding=padding).eval()
    for clip in CLIPS:
        logits = net(torch.randn(2, 3, *clip))
        assert logits.shape == (2, 5)
        assert logits.isfinite().all()
    flow = I3D(5, in_channels=2, padding=padding).eval()
    assert flow(torch.randn(1, 2, 4, 32, 32)).shape == (1, 5)


@pytest.mark.parametrize(
    ("make", "channels", "halves_time"),
    [
        (lambda: ResNet3d(7, depth=18), (64, 128, 256, 512), True),
        (lambda: ResNet3d(7, depth=34), (64, 128, 256, 512), True),
        (lambda: ResNet3d(7, depth=50), (256, 512, 1024, 2048), True),
        (lambda: ResNeXt3d(7, depth=50), (256, 512, 1024, 2048), True),
        (lambda: ResNeXt3d(7, depth=101), (256, 512, 1024, 2048), True),
        (lambda: InflatedResNet(7), (256, 512, 1024, 2048), False),
    ],
)
@pytest.mark.parametrize("clip", [(30, 224, 224), (9, 113, 75)])
def test_residual_stages_have_the_documented_channels_and_strides(make, channels, halves_time, clip):
    with torch.device("meta"):  # shapes only
        shapes = shapes_at(make(), ["layer1", "layer2", "layer3", "layer4"], torch.empty(2, 3, *clip))
    time, height, width = clip
    for stage, count in enumerate(channels, start=1):
        steps = halved(time, stage) if halves_time else time
        expected = (2, count, steps, halved(height, stage + 1), halved(width, stage + 1))
        assert shapes[f"layer{stage}"] == expected


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("clip", [(32, 224, 224), (13, 75, 97)])
def test_i3d_blocks_have_the_documented_channels_and_strides(padding, clip):
    channels = {"conv_1a": 64, "conv_2c": 192, "mixed_3b": 256, "mixed_3c": 480, "mixed_4b": 512, "mixed_4c": 512}
    channels |= {"mixed_4d": 512, "mixed_4e": 528, "mixed_4f": 832, "mixed_5b": 832, "mixed_5c": 1024}
    halves = {"1": (1, 1), "2": (1, 2), "3": (1, 3), "4": (2, 4), "5": (3, 5)}  # of time, of size
    with torch.device("meta"):
        shapes = shapes_at(I3D(7, padding=padding), channels, torch.empty(1, 3, *clip))
    for name, count in channels.items():
        in_time, in_size = halves[name.split("_")[1][0]]
        expected = (1, count, halved(clip[0], in_time), halved(clip[1], in_size), halved(clip[2], in_size))
        assert shapes[name] == expected
    if clip == (32, 224, 224):
        assert shapes["mixed_5c"][2:] == (4, 7, 7)


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [(18, (2, 2, 2, 2)), (34, (3, 4, 6, 3)), (50, (3, 4, 6, 3)), (101, (3, 4, 23, 3)), (152, (3, 8, 36, 3))],
)
def test_depths_have_the_published_number_of_blocks(depth, blocks):
    with torch.device("meta"):
        nets = [ResNet3d(7, depth=depth), *([ResNeXt3d(7, depth=depth)] if depth >= 50 else [])]
    for net in nets:
        assert tuple(len(net.get_submodule(f"layer{stage}")) for stage in range(1, 5)) == blocks
        # as the depth is counted: the stem, the convolutions of the blocks, the classifier
        convolutions = [name for name, module in net.named_modules() if isinstance(module, nn.Conv3d)]
        assert sum("downsample" not in name for name in convolutions) + 1 == depth


def test_a_wrong_depth_is_refused():
    with pytest.raises(ValueError, match=r"depth is 20, expected one of 18, 34, 50, 101, 152; choose one"):
        ResNet3d(7, depth=20)
    with pytest.raises(ValueError, match=r"depth is 60, expected 50, 101 or 152 for a ResNeXt"):
        ResNeXt3d(7, depth=60)
    with pytest.raises(ValueError, match=r"depth is 34, expected 50, 101 or 152 for a ResNeXt; use ResNet3d"):
        ResNeXt3d(7, depth=34)


def test_resnext_has_the_published_keys_and_shapes():
    manifest = json.loads((GOLDEN / "unimodal_ravdess_video.json").read_text())
    with torch.device("meta"):
        net = ResNeXt3d(8)
    published = {key: tuple(shape) for key, shape in manifest["state_dict"]}
    assert {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()} == published
    assert sum(parameter.numel() for parameter in net.parameters()) == manifest["parameters"]


@torch.no_grad()
def test_inflated_resnet_sees_each_frame_by_itself_in_its_stem():
    net = InflatedResNet(5).eval()
    video = torch.randn(2, 3, 3, 20, 24)
    frames = [functional.conv2d(video[:, :, i], net.conv1.weight, stride=2, padding=3) for i in range(3)]
    frames = [functional.max_pool2d(functional.relu(net.bn1(frame)), 3, 2, 1) for frame in frames]
    torch.testing.assert_close(net.stem(video), torch.stack(frames, dim=2), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("steps", [4, 2])
def test_i3d_ends_like_the_published_average_pool_on_7_by_7(steps):
    net = I3D(5).eval()
    features = torch.rand(2, 1024, steps, 7, 7)
    net.mixed_5c.register_forward_hook(lambda module, inputs, output: features)
    pooled = functional.avg_pool3d(features, (2, 7, 7), stride=1)
    assert pooled.shape[2:] == (steps - 1, 1, 1)
    expected = net.logits(pooled).squeeze(4).squeeze(3).mean(dim=2)
    torch.testing.assert_close(net(torch.randn(2, 3, 4, 32, 32)), expected, **CLOSE)


@torch.no_grad()
def test_i3d_classifies_a_single_step_as_it_is():
    net = I3D(5).eval()
    features = torch.rand(2, 1024, 1, 3, 2)
    net.mixed_5c.register_forward_hook(lambda module, inputs, output: features)
    expected = functional.linear(features.mean(dim=(2, 3, 4)), net.logits.weight.flatten(1), net.logits.bias)
    torch.testing.assert_close(net(torch.randn(2, 3, 4, 32, 32)), expected, **CLOSE)


def same_windows(size, kernel, stride):
    """TensorFlow's documentation of SAME: for each output, the input positions it reads; beyond the map are zeros."""
    total = max(kernel - stride, 0) if size % stride == 0 else max(kernel - size % stride, 0)
    return [[i * stride - total // 2 + k for k in range(kernel)] for i in range(math.ceil(size / stride))]


def at_same_windows(video, kernel, stride, reduce):
    """`reduce` of (batch, channels, *kernel) at every output position."""
    axes = [same_windows(*sizes) for sizes in zip(video.shape[2:], kernel, stride, strict=True)]
    values = []
    for starts in itertools.product(*axes):
        window = video.new_zeros(*video.shape[:2], *kernel)
        inside = [
            [(k, p) for k, p in enumerate(places) if 0 <= p < size]
            for places, size in zip(starts, video.shape[2:], strict=True)
        ]
        for (i, t), (j, h), (k, w) in itertools.product(*inside):
            window[:, :, i, j, k] = video[:, :, t, h, w]
        values.append(reduce(window))
    return torch.stack(values, dim=2).unflatten(2, [len(axis) for axis in axes])


@torch.no_grad()
@pytest.mark.parametrize("clip", [(4, 6, 5), (3, 8, 7)])
@pytest.mark.parametrize("name", ["conv_1a", "mixed_3b.branch1.1"])
def test_i3d_pads_convolutions_as_tensorflow_does(name, clip):
    unit = I3D(5, padding="same").eval().get_submodule(name)
    weight, sizes = unit.conv.weight, unit.conv.kernel_size
    video = torch.randn(1, weight.shape[1], *clip)
    summed = at_same_windows(
        video, sizes, unit.conv.stride, lambda window: torch.einsum("bcijk,ocijk->bo", window, weight)
    )
    expected = functional.relu(summed / math.sqrt(1 + 1e-3))  # a new batch norm has mean 0, variance 1
    torch.testing.assert_close(unit(video), expected, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("clip", [(4, 6, 7), (3, 5, 8), (1, 1, 1)])
@pytest.mark.parametrize(
    ("name", "kernel", "stride"),
    [
        ("pool_2a", (1, 3, 3), (1, 2, 2)),
        ("pool_3a", (1, 3, 3), (1, 2, 2)),
        ("pool_4a", (3, 3, 3), (2, 2, 2)),
        ("pool_5a", (2, 2, 2), (2, 2, 2)),
        ("mixed_4b.branch3.0", (3, 3, 3), (1, 1, 1)),
    ],
)
def test_i3d_pads_pools_as_tensorflow_does(name, kernel, stride, clip):
    pool = I3D(5, padding="same").get_submodule(name)
    video = torch.rand(2, 3, *clip)
    expected = at_same_windows(video, kernel, stride, lambda window: window.amax(dim=(2, 3, 4)))
    assert torch.equal(pool(video), expected)


@torch.no_grad()
def test_i3d_paddings_differ_only_where_the_stride_is_2():
    symmetric, same = I3D(5).eval(), I3D(5, padding="same").eval()
    same.load_state_dict(symmetric.state_dict())
    even, odd = torch.rand(1, 3, 4, 16, 16), torch.rand(1, 3, 5, 17, 17)
    assert not torch.allclose(symmetric.conv_1a(even), same.conv_1a(even), atol=1e-3)
    assert torch.equal(symmetric.conv_1a(odd), same.conv_1a(odd))  # as many zeros on both sides
    features = torch.rand(1, 192, 2, 4, 4)
    assert torch.equal(symmetric.mixed_3b(features), same.mixed_3b(features))


def test_i3d_refuses_an_unknown_padding(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse the value first
    with pytest.raises(ValueError, match=r"padding is 'valid', expected 'symmetric' or 'same'; set it"):
        I3D(5, padding="valid")


def test_i3d_short_clips_get_the_gradients_of_plain_convolutions():
    """torch 2.13's CPU kernels read freed memory in the gradient of a padded, strided kernel as long as the clip."""
    clip = torch.randn(2, 3, 6, 16, 16)

    def gradient(enabled):
        torch.manual_seed(0)
        net = I3D(3).eval()
        junk = [torch.full((997 * (number + 1),), float("nan")) for number in range(100)]
        del junk
        torch._C._set_mkldnn_enabled(enabled)
        try:
            net.conv_1a(clip).square().sum().backward()
        finally:
            torch._C._set_mkldnn_enabled(True)
        return net.conv_1a.conv.weight.grad

    torch.testing.assert_close(gradient(True), gradient(False), rtol=1e-3, atol=1e-3)
