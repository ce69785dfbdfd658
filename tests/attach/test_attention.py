"""`net(batch, return_attention=True)`: what each fusion point attends to, by stream."""

import pytest
import torch
from small_networks import AudioCNN, VideoCNN

from msafusion import FusionError, FusionPoint, fuse

EXAMPLE = {"video": torch.randn(3, 3, 4, 6, 6), "audio": torch.randn(3, 5, 9)}
FIRST, SECOND = {"video": "layer1", "audio": "relu1"}, {"video": "layer2", "audio": "relu2"}


def fused(*fusions):
    points = [FusionPoint(where, *given) for where, given in zip((FIRST, SECOND), fusions, strict=False)]
    net = fuse({"video": VideoCNN(), "audio": AudioCNN()}, points, example=EXAMPLE).eval()
    for parameter in net.fusion_layers.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net


def test_attention_is_that_of_the_method_at_each_point():
    net, seen = fused(["msaf"], ["msaf"]), []
    for layer in net.fusion_layers:
        layer.fusion.register_forward_pre_hook(lambda module, args: seen.append((module, args)))
    prediction, attention = net(EXAMPLE, return_attention=True)
    assert list(attention) == [layer.name for layer in net.fusion_layers]
    assert len(seen) == 2
    for maps, (module, args) in zip(list(attention.values()), list(seen), strict=True):
        expected = module(*args, return_attention=True)[1]
        assert list(maps) == ["video", "audio"]
        for name, values in maps.items():
            assert values.shape == (3, 1, module.num_blocks[name], module.block_channels)
            assert torch.equal(values, expected[name])
        torch.testing.assert_close(
            sum(values.sum(dim=2) for values in maps.values()), torch.ones(3, 1, module.block_channels)
        )
    assert torch.equal(prediction, net(EXAMPLE))
    assert len(attention) == 2


def test_attention_of_a_missing_stream_is_zero():
    present = {"audio": torch.tensor([True, False, True])}
    _, attention = fused(["msaf"])(EXAMPLE, present=present, return_attention=True)
    (maps,) = attention.values()
    assert maps["audio"][1].eq(0).all()
    assert maps["audio"][0].gt(0).all()
    torch.testing.assert_close(maps["video"][1].sum(dim=1), torch.ones(1, maps["video"].shape[3]))


def test_attention_is_differentiable():
    net = fused(["msaf"]).train()
    _, attention = net(EXAMPLE, return_attention=True)
    next(iter(attention.values()))["video"].square().sum().backward()
    assert net.networks["video"].layer1[0].weight.grad.abs().sum() > 0


def test_a_method_without_attention_is_named_with_its_point():
    net = fused(["msaf"], ["mmtm"])
    with pytest.raises(FusionError, match=r"layer2.*MMTM.*return_attention"):
        net(EXAMPLE, return_attention=True)


def test_two_points_of_one_name_have_an_entry_each():
    net = fused(["msaf"], ["msaf"])
    net.fusion_layers[1].name = net.fusion_layers[0].name
    _, attention = net(EXAMPLE, return_attention=True)
    assert len(attention) == 2
