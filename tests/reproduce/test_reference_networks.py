"""The published code's numbers for its three networks and their unimodal networks (tests/golden)."""

import functools

import pytest
import torch
from published import golden

from msafusion import networks
from msafusion.backbones import HCN, I3D, CNN1d, MFCCNet, ResNeXt3d, SequenceLSTM
from msafusion.checkpoints import ModelError, WeightsMismatch
from msafusion.reproduce import load_reference

FUSED = {
    "network_ravdess": lambda **options: networks.ravdess(**options),
    "network_mosei": lambda **options: networks.mosei(**options),
    "network_ntu_i3d": lambda **options: networks.ntu_rgbd(rgb="i3d", **options),
    "network_ntu_resnet": lambda **options: networks.ntu_rgbd(rgb="resnet50", **options),
}
UNIMODAL = {
    "unimodal_mosei_audio": lambda: SequenceLSTM(74, 64),
    "unimodal_mosei_text": lambda: SequenceLSTM(768, 128),
    "unimodal_mosei_visual": lambda: SequenceLSTM(35, 32),
    "unimodal_ntu_i3d": lambda: I3D(60),
    "unimodal_ntu_skeleton": lambda: HCN(60),
    "unimodal_ravdess_audio": lambda: MFCCNet(8),
    "unimodal_ravdess_video": lambda: ResNeXt3d(8),
}


PUBLISHED = {name: functools.partial(make, reference=True) for name, make in FUSED.items()}
"""As they were published, with their quirks."""


def channels_second(frames):
    return frames.permute(0, 4, 1, 2, 3) if frames.dim() == 5 and frames.shape[-1] == 3 else frames


def close(got, expected):
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-3 * expected.abs().max()


@torch.no_grad()
def run(net, inputs, ntu):
    inputs = dict(zip(net.networks, map(channels_second, inputs), strict=True))
    return list(net.stream_outputs(inputs).values()) if ntu else [net(inputs)]


@pytest.mark.parametrize("name", FUSED)
def test_fused_network_gives_the_published_outputs(name, built):
    state, inputs, outputs, parameters = golden(name)
    net = load_reference(built(PUBLISHED[name]).eval(), state)
    for got, expected in zip(run(net, inputs, "ntu" in name), outputs, strict=True):
        close(got, expected)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "shifted"),
    [
        ("network_ravdess", "video_model_blocks.0.1.bias"),
        pytest.param("network_ntu_resnet", None, marks=pytest.mark.slow),
    ],
)
def test_without_the_quirks_the_same_weights_give_other_outputs(name, shifted, built):
    state, inputs, *_ = golden(name)
    if shifted:  # otherwise the pool after the stem finds a positive value everywhere, which ReLU does not change
        state[shifted] = state[shifted] - 3.0
    quirky, plain = (load_reference(net.eval(), state) for net in (built(PUBLISHED[name]), FUSED[name](init="paper")))
    inputs = [inputs[0][:, :, :8, :64, :64] if name == "network_ravdess" else inputs[0][:, :, :64, :64], inputs[1]]
    one, other = run(quirky, inputs, "ntu" in name), run(plain, inputs, "ntu" in name)
    assert (one[0] - other[0]).abs().max() > 0.01 * one[0].abs().max()


LARGE = ("unimodal_ntu_i3d", "unimodal_ravdess_video")  # the fused networks hold them too


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in UNIMODAL]
)
@torch.no_grad()
def test_unimodal_network_gives_the_published_outputs(name):
    state, inputs, (expected,), parameters = golden(name)
    net = load_reference(UNIMODAL[name]().eval(), state)
    close(net(channels_second(inputs[0])), expected)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


def test_a_wrapped_checkpoint_is_opened_and_read_from_a_file(tmp_path, built):
    state, inputs, (expected,), _ = golden("network_mosei")
    torch.save({"epoch": 3, "model_state_dict": state, "test_loss": 0.5}, tmp_path / "msaf_mosei_epoch3.pth")
    net = load_reference(built(PUBLISHED["network_mosei"]).eval(), tmp_path / "msaf_mosei_epoch3.pth")
    close(run(net, inputs, False)[0], expected)


@pytest.mark.parametrize(
    "name",
    ["network_ravdess", "network_mosei", "network_ntu_i3d", pytest.param("network_ntu_resnet", marks=pytest.mark.slow)],
)
def test_missing_and_unexpected_keys_are_reported_exactly_in_the_published_names(name, built):
    state, *_ = golden(name)
    lost = [key for key in state if key.endswith("weight")][::37]
    changed = {key: value for key, value in state.items() if key not in lost} | {"extra.one": torch.zeros(1)}
    with pytest.raises(WeightsMismatch) as caught:
        load_reference(built(PUBLISHED[name]), changed)
    assert sorted(caught.value.missing) == sorted(lost)
    assert caught.value.unexpected == ["extra.one"]
    assert f"{len(lost)} keys missing, 1 unexpected, 0 of another shape" in str(caught.value)
    assert lost[0] in str(caught.value)


def test_weights_for_other_classes_are_refused_by_shape():
    state, *_ = golden("unimodal_ravdess_audio")
    with pytest.raises(WeightsMismatch, match=r"fc1\.weight has shape \(8, 1664\), expected \(5, 1664\)") as caught:
        load_reference(MFCCNet(5), state)
    assert set(caught.value.wrong_shape) == {"fc1.weight", "fc1.bias"}


def test_nothing_is_loaded_where_something_does_not_fit():
    state, *_ = golden("unimodal_ravdess_audio")
    net = MFCCNet(8)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(WeightsMismatch):
        load_reference(net, {key: value for key, value in state.items() if key != "fc1.bias"})
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_network_that_was_never_published_is_refused():
    with pytest.raises(ModelError, match="got a CNN1d, expected an MSAF, one of the three published networks"):
        load_reference(CNN1d(3, 5), {"a": torch.zeros(1)})
