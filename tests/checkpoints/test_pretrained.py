"""Importers, on state dicts with exactly the keys and shapes of the public files and random values."""

import logging
import os

import published
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from msafusion.backbones import HCN, I3D, CNN1d, InflatedResNet, ResNet3d, ResNeXt3d
from msafusion.checkpoints import ModelError, WeightsMismatch, load_pretrained, read_weights


def parallel(state):
    return {f"module.{key}": value for key, value in state.items()}


@pytest.mark.parametrize(("network", "depth", "make"), [
    (ResNeXt3d, 50, published.resnext3d),
    pytest.param(ResNeXt3d, 101, lambda: published.resnext3d(depths=(3, 4, 23, 3)), marks=pytest.mark.slow),
    (ResNet3d, 50, published.resnet3d),
])  # fmt: skip
def test_kinetics_residual_networks_load_with_a_new_classifier(network, depth, make, tmp_path, caplog):
    state = make()
    file = tmp_path / f"resnext-{depth}-kinetics.pth"
    torch.save({"epoch": 200, "arch": f"resnext-{depth}", "state_dict": parallel(state), "optimizer": {}}, file)
    net = network(8, depth=depth)
    fresh = net.fc.weight.clone()
    with caplog.at_level(logging.WARNING):
        imported = load_pretrained(net, file)
    assert imported.source == "kenshohara/3D-ResNets-PyTorch"
    assert imported.new_classifier
    assert "the classifier 'fc' has 400 outputs, the network 8 outputs; it starts scratch" in caplog.text
    assert torch.equal(net.fc.weight, fresh)
    ours = net.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in state.items() if not key.startswith("fc."))


def test_the_classifier_is_kept_where_the_classes_are_as_many():
    state = published.resnext3d()
    net = ResNeXt3d(400)
    assert not load_pretrained(net, parallel(state)).new_classifier
    assert torch.equal(net.fc.weight, state["fc.weight"])


@pytest.mark.parametrize(("style", "pairs"), [
    ("hassony2", {
        "conv3d_1a_7x7.conv3d.weight": "conv_1a.conv.weight",
        "conv3d_2c_3x3.batch3d.running_var": "conv_2c.bn.running_var",
        "mixed_4c.branch_0.conv3d.weight": "mixed_4c.branch0.0.conv.weight",
        "mixed_4c.branch_1.1.conv3d.weight": "mixed_4c.branch1.1.conv.weight",
        "mixed_5c.branch_3.1.batch3d.bias": "mixed_5c.branch3.1.bn.bias",
        "conv3d_0c_1x1.conv3d.bias": "logits.bias",
    }),
    ("piergiaj", {
        "Conv3d_2b_1x1.conv3d.weight": "conv_2b.conv.weight",
        "Mixed_3b.b0.bn.running_mean": "mixed_3b.branch0.0.bn.running_mean",
        "Mixed_4f.b1a.conv3d.weight": "mixed_4f.branch1.0.conv.weight",
        "Mixed_4f.b2b.conv3d.weight": "mixed_4f.branch2.1.conv.weight",
        "Mixed_5b.b3b.bn.weight": "mixed_5b.branch3.1.bn.weight",
        "logits.conv3d.weight": "logits.weight",
    }),
])  # fmt: skip
def test_both_styles_of_i3d_land_in_their_places(style, pairs):
    state = published.i3d(style)
    net = I3D(400, padding="same")
    assert style in load_pretrained(net, state).source
    ours = net.state_dict()
    for theirs, name in pairs.items():
        assert torch.equal(ours[name], state[theirs])
    counters = sum(key.endswith("num_batches_tracked") for key in ours)
    assert len(ours) == len(state) + (counters if style == "hassony2" else 0)


def test_the_two_styles_of_the_same_i3d_give_the_same_network():
    hassony, piergiaj = published.i3d("hassony2"), published.i3d("piergiaj")
    same = dict(zip((key for key in piergiaj if "tracked" not in key), hassony.values(), strict=True))
    one, other = I3D(400).eval(), I3D(400).eval()
    load_pretrained(one, hassony)
    load_pretrained(other, {**piergiaj, **same})
    clip = torch.randn(1, 3, 8, 32, 32)
    assert torch.equal(one(clip), other(clip))


def test_hcn_loads_at_its_window_and_names_the_layers_of_another(tmp_path):
    state = published.hcn(64)
    torch.save({"epoch": 400, "state_dict": parallel(state), "optim_dict": {"lr": 0.1}}, tmp_path / "best.pth.tar")
    net = HCN(60, window_size=64)
    assert load_pretrained(net, tmp_path / "best.pth.tar").source == "huguyuehuhu/HCN-pytorch"
    assert torch.equal(net.state_dict()["conv5.0.weight"], state["conv5.0.weight"])
    with pytest.raises(WeightsMismatch, match=r"conv2\.weight has shape \(64, 64, 3, 1\), expected \(32, 64, 3, 1\)"):
        load_pretrained(HCN(60, window_size=32), tmp_path / "best.pth.tar")


def resnet50_on_images(state, images):
    """torchvision's ResNet-50 up to its classifier, written out."""

    def norm(x, name):
        keys = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(state[f"{name}.{key}"] for key in keys))

    x = functional.conv2d(images, state["conv1.weight"], stride=2, padding=3)
    x = functional.max_pool2d(norm(x, "bn1").relu(), 3, 2, padding=1)
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = norm(functional.conv2d(x, state[f"{name}.conv1.weight"]), f"{name}.bn1").relu()
            y = functional.conv2d(y, state[f"{name}.conv2.weight"], stride=stride, padding=1)
            y = norm(y, f"{name}.bn2").relu()
            y = norm(functional.conv2d(y, state[f"{name}.conv3.weight"]), f"{name}.bn3")
            if block == 0:
                x = functional.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
                x = norm(x, f"{name}.downsample.1")
            x = (x + y).relu()
    return x.mean(dim=(2, 3))


@torch.no_grad()
@pytest.mark.parametrize("frames", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_inflated_resnet_answers_each_frame_as_the_image_network(frames):
    state = {key: value.double() for key, value in published.torchvision_resnet50().items()}
    net = InflatedResNet(60).double().eval()
    assert load_pretrained(net, state).new_classifier
    net.fc = torch.nn.Identity()
    clip = torch.randn(2, 3, frames, 40, 40, dtype=torch.float64)
    expected = sum(resnet50_on_images(state, clip[:, :, t]) for t in range(frames)) / frames
    torch.testing.assert_close(net(clip), expected)


@torch.no_grad()
def test_mean_inflation_answers_a_still_clip_alike_away_from_its_ends():
    state = published.torchvision_resnet50()
    first, second = InflatedResNet(60).eval(), InflatedResNet(60).eval()
    load_pretrained(first, state, inflation="center")
    load_pretrained(second, state, inflation="mean")
    kernel = "layer2.0.conv2"
    still = torch.randn(1, 128, 1, 8, 8).expand(-1, -1, 5, -1, -1)
    one, other = first.get_submodule(kernel)(still), second.get_submodule(kernel)(still)
    torch.testing.assert_close(one[:, :, 1:-1], other[:, :, 1:-1], rtol=1e-4, atol=1e-4)


def test_own_weights_and_safetensors_load_too(tmp_path):
    one, other = CNN1d(3, 5), CNN1d(3, 5)
    save_file(one.state_dict(), tmp_path / "own.safetensors")
    assert load_pretrained(other, tmp_path / "own.safetensors").source == "msafusion"
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


class Runs:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}, "hook": Runs(tmp_path / "proof")}, tmp_path / "bad.pth")
    with pytest.raises(ModelError, match=r"is not loaded: it asks for \S*mkdir, and weights are read without running"):
        load_pretrained(CNN1d(3, 5), tmp_path / "bad.pth")
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("name", ["torn.pth", "torn.safetensors"])
def test_a_broken_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(ModelError, match=name):
        read_weights(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"no file .*expected weights"):
        read_weights(tmp_path / "nothing.pth")


def test_what_is_no_state_dict_is_named(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="holds a list, expected a state dict"):
        read_weights(tmp_path / "list.pth")
    torch.save({"weights": torch.zeros(1), "lr": 0.1}, tmp_path / "mixed.pth")
    with pytest.raises(ModelError, match=r"1 tensors among 2 entries.*lr is a float"):
        read_weights(tmp_path / "mixed.pth")


def test_weights_of_another_network_name_the_sources_that_are_known():
    with pytest.raises(ModelError, match="not known as weights for I3D, expected those of hassony2"):
        load_pretrained(I3D(60), published.hcn(32))


def test_missing_layers_are_named():
    state = published.i3d("piergiaj")
    del state["Mixed_4c.b0.conv3d.weight"]
    with pytest.raises(WeightsMismatch, match=r"1 keys missing.*mixed_4c\.branch0\.0\.conv\.weight"):
        load_pretrained(I3D(60), state)
