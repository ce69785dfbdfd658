"""RAVDESS, MOSEI and NTU RGB+D networks: what they start as, that they train, lengths, missing streams, bf16, ONNX."""

import jaxtyping
import pytest
import torch
from torch import nn
from torch.nn import functional

from msafusion import fuse
from msafusion.backbones import HCN, I3D, InflatedResNet, MFCCNet, ResNeXt3d, SequenceLSTM
from msafusion.networks import mosei, ntu_rgbd, ravdess

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
NETWORKS = {
    "ravdess": ravdess,
    "mosei": lambda **options: mosei(num_outputs=3, **options),
    "i3d": ntu_rgbd,
    "resnet50": lambda **options: ntu_rgbd(rgb="resnet50", **options),
}
OUTPUTS = {"ravdess": 8, "mosei": 3, "i3d": 60, "resnet50": 60}
SHAPES = {
    "ravdess": {"video": (3, 8, 32, 32), "audio": (13, 60)},
    "mosei": {"visual": (12, 35), "audio": (12, 74), "text": (12, 768)},
    "i3d": {"rgb": (3, 8, 32, 32), "skeleton": (3, 32, 25, 2)},
    "resnet50": {"rgb": (3, 2, 32, 32), "skeleton": (3, 32, 25, 2)},
}
SINGLE = {
    "ravdess": {"video": lambda: ResNeXt3d(8), "audio": lambda: MFCCNet(8)},
    "mosei": {
        "visual": lambda: SequenceLSTM(35, 32, None),
        "audio": lambda: SequenceLSTM(74, 64, None),
        "text": lambda: SequenceLSTM(768, 128, None),
    },
    "i3d": {"rgb": lambda: I3D(60), "skeleton": lambda: HCN(60)},
    "resnet50": {"rgb": lambda: InflatedResNet(60), "skeleton": lambda: HCN(60)},
}
HEADS = {
    "ravdess": lambda net, outputs: outputs["video"] + outputs["audio"],
    "mosei": lambda net, outputs: net.head.linear(torch.cat(list(outputs.values()), dim=1)),
    "i3d": lambda net, outputs: (outputs["rgb"] + outputs["skeleton"]) / 2,
    "resnet50": lambda net, outputs: (outputs["rgb"] + outputs["skeleton"]) / 2,
}
SIZES = {"ravdess": 25_940_724, "mosei": 689_337, "i3d": 13_547_400, "resnet50": 47_533_928}


def random_inputs(name, batch=2):
    return {stream: torch.randn(batch, *shape) for stream, shape in SHAPES[name].items()}


def stir(net):
    """The network with fusion modules that do something."""
    with torch.no_grad():
        for key, parameter in net.fusion_layers.named_parameters():
            if "block_" in key:
                parameter.normal_(0, 1)
    return net


@pytest.fixture(scope="module", params=NETWORKS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def new(name, built):
    """A new network in eval mode, which no test changes."""
    return built(NETWORKS[name]).eval()


@pytest.fixture(scope="module")
def stirred(name, built):
    """One with fusion modules that do something, in eval mode; no test changes it."""
    torch.manual_seed(0)
    return stir(built(NETWORKS[name])).eval()


@torch.no_grad()
def test_streams_come_in_order_and_outputs_are_one_row_a_sample(name, stirred):
    assert list(stirred.networks) == list(SHAPES[name])
    inputs = random_inputs(name)
    logits = stirred(inputs)
    assert logits.shape == (2, OUTPUTS[name])
    backwards = dict(reversed(inputs.items()))
    assert torch.equal(stirred(backwards), logits)
    assert list(stirred.stream_outputs(backwards)) == list(SHAPES[name])


def test_they_have_the_published_number_of_parameters(name, new):
    net = mosei() if name == "mosei" else new
    assert sum(parameter.numel() for parameter in net.parameters()) == SIZES[name]


@torch.no_grad()
def test_a_new_network_is_the_head_of_the_unmodified_networks_to_the_last_bit(name, new, stirred):
    inputs, outputs = random_inputs(name), {}
    for stream, make in SINGLE[name].items():
        with torch.device("meta"):
            single = make().eval()
        single.load_state_dict(new.networks[stream].state_dict(), assign=True)
        outputs[stream] = single(inputs[stream])
    expected = HEADS[name](new, outputs)
    assert torch.equal(new(inputs), expected)
    assert not torch.allclose(stirred(inputs), expected, atol=1e-3)  # the same but for the fusion


@pytest.mark.parametrize(
    ("which", "rate"),
    [
        pytest.param("ravdess", 1e-3, marks=pytest.mark.slow),
        ("mosei", 3e-3),
        ("i3d", 1e-4),
        pytest.param("resnet50", 1e-4, marks=pytest.mark.slow),
    ],
)
def test_they_train_and_gradients_reach_every_parameter(which, rate, built):
    net, inputs, labels = built(NETWORKS[which]), random_inputs(which, batch=4), torch.arange(4) % 3
    for module in net.modules():  # noise hides what so few steps do
        if isinstance(module, nn.Dropout | nn.Dropout2d | nn.Dropout3d):
            module.p = 0.0
        elif hasattr(module, "block_dropout"):
            module.block_dropout = 0.0
    optimizer = torch.optim.Adam(net.parameters(), rate, fused=True)
    reached, losses = set(), []
    for _ in range(4):
        optimizer.zero_grad()
        loss = functional.cross_entropy(net(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        reached |= {key for key, parameter in net.named_parameters() if parameter.grad.abs().sum() > 0}
    assert losses[-1] < 0.7 * losses[0]
    assert reached == {key for key, _ in net.named_parameters()}


def test_one_forward_of_ntu_rgbd_gives_both_logits_for_two_losses(built):
    net, inputs, labels = stir(built(NETWORKS["i3d"])).eval(), random_inputs("i3d"), torch.tensor([0, 2])
    outputs = net.stream_outputs(inputs)
    assert {stream: tuple(logits.shape) for stream, logits in outputs.items()} == {"rgb": (2, 60), "skeleton": (2, 60)}
    torch.testing.assert_close(net.combine(outputs), net(inputs), **CLOSE)
    losses = {stream: functional.cross_entropy(logits, labels) for stream, logits in outputs.items()}
    reached = {}
    for stream, loss in losses.items():
        net.zero_grad()
        loss.backward(retain_graph=True)
        reached[stream] = {key for key, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    last = {"rgb": "logits", "skeleton": "fc8"}
    for stream, other in (("rgb", "skeleton"), ("skeleton", "rgb")):
        assert f"networks.{stream}.{last[stream]}.weight" in reached[stream]
        assert f"networks.{other}.{last[other]}.weight" not in reached[stream]
        assert any(key.startswith(f"networks.{other}.") for key in reached[stream])  # through the fusion
        assert any(key.startswith("fusion_layers.") for key in reached[stream])


# missing streams


@torch.no_grad()
def test_a_new_network_without_a_stream_is_the_head_of_the_others(name, new):
    net, inputs = new, random_inputs(name)
    for missing in inputs:
        rest = {stream: given for stream, given in inputs.items() if stream != missing}
        outputs = {stream: net.networks[stream](given) for stream, given in rest.items()}
        if name == "mosei":
            width = net.networks[missing].hidden_channels
            outputs = {s: outputs[s] if s in rest else torch.zeros(2, width) for s in inputs}
            expected = HEADS[name](net, outputs)
        else:
            (expected,) = outputs.values()
        assert torch.equal(net(rest), expected)
        assert list(net.stream_outputs(rest)) == list(rest)


@torch.no_grad()
def test_samples_that_lack_a_stream_equal_the_smaller_set(name, stirred):
    net, inputs = stirred, random_inputs(name, batch=3)
    whole = net(inputs)
    for missing in inputs:
        rest = {stream: given for stream, given in inputs.items() if stream != missing}
        broken = {**rest, missing: inputs[missing].clone()}
        broken[missing][1] = float("nan")
        got = net(broken, present={missing: torch.tensor([True, False, True])})
        torch.testing.assert_close(got[1], net(rest)[1], **CLOSE)
        torch.testing.assert_close(got[[0, 2]], whole[[0, 2]], **CLOSE)
        assert not torch.allclose(got[1], whole[1], atol=1e-3)


# lengths of sequences


@torch.no_grad()
@pytest.mark.parametrize("init", ["identity", "paper"])
def test_mosei_of_a_padded_batch_equals_each_sample_alone(init):
    net, inputs = stir(NETWORKS["mosei"](init=init)).eval(), random_inputs("mosei", batch=4)
    lengths = {
        "visual": torch.tensor([12, 5, 9, 7]),
        "audio": torch.tensor([6, 12, 5, 11]),
        "text": torch.tensor([5, 8, 12, 10]),
    }
    padded = {stream: given.clone() for stream, given in inputs.items()}
    for stream, counts in lengths.items():
        padded[stream][torch.arange(12) >= counts[:, None]] = 50.0
    got = net(padded, lengths)
    for row in range(4):
        alone = {stream: given[[row], : lengths[stream][row]] for stream, given in inputs.items()}
        torch.testing.assert_close(got[[row]], net(alone), **CLOSE)
    assert not torch.allclose(got, net(padded), atol=1e-3)


@torch.no_grad()
def test_mosei_with_lengths_for_some_streams_takes_all_steps_of_the_others(built):
    net, inputs = stir(built(NETWORKS["mosei"])).eval(), random_inputs("mosei")
    lengths = {"audio": torch.tensor([6, 12])}
    cut = {**{stream: given[:1] for stream, given in inputs.items()}, "audio": inputs["audio"][:1, :6]}
    torch.testing.assert_close(net(inputs, lengths)[:1], net(cut), **CLOSE)


@pytest.mark.parametrize("stream", SHAPES["mosei"])
def test_mosei_refuses_fewer_real_steps_than_segments(stream, built):
    net, inputs = built(NETWORKS["mosei"]).eval(), random_inputs("mosei")
    message = rf"fusion point .*stream '{stream}' has 4 time steps, expected at least segments = 5; use fewer segments"
    with pytest.raises(ValueError, match=message):
        net(inputs, {stream: torch.tensor([12, 4])})
    with pytest.raises(ValueError, match=message):
        net({**inputs, stream: inputs[stream][:, :4]})
    shorter = NETWORKS["mosei"](segments=4).eval()
    assert shorter(inputs, {stream: torch.tensor([12, 4])}).shape == (2, 3)


def test_the_published_mosei_refuses_lengths():
    net, inputs = NETWORKS["mosei"](reference=True).eval(), random_inputs("mosei")
    assert net(inputs).shape == (2, 3)
    with pytest.raises(ValueError, match=r"got lengths, but read_padding=True .*; leave lengths out"):
        net(inputs, {"text": torch.tensor([12, 7])})


@torch.no_grad()
def test_mosei_does_not_read_the_padding_of_a_sample_without_any_real_step(built):
    net, inputs = stir(built(NETWORKS["mosei"])).eval(), random_inputs("mosei")
    lengths = {"audio": torch.tensor([12, 0])}
    other = {**inputs, "audio": inputs["audio"].clone()}
    other["audio"][1] = 3.0
    torch.testing.assert_close(net(other, lengths), net(inputs, lengths), **CLOSE)


# other number types and ONNX


@torch.no_grad()
@pytest.mark.parametrize("which", [pytest.param("ravdess", marks=pytest.mark.slow), "i3d"])
def test_bf16_autocast_is_near_float32(which, built):
    net, inputs = stir(built(NETWORKS[which])).eval(), random_inputs(which)
    expected = net.stream_outputs(inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = net.stream_outputs(inputs)
    for stream, logits in expected.items():
        assert rounded[stream].dtype == torch.bfloat16
        assert not torch.equal(rounded[stream].float(), logits)
        torch.testing.assert_close(rounded[stream].float(), logits, rtol=0.05, atol=0.05 * logits.abs().max().item())


@pytest.mark.slow  # by default: fused CNNs in tests/attach/test_precision_export.py
@pytest.mark.parametrize("which", NETWORKS)
def test_export_to_onnx_agrees_at_another_batch_size(which, tmp_path, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # shape checks refuse symbolic sizes
    onnxruntime = pytest.importorskip("onnxruntime")
    net, inputs = stir(NETWORKS[which]()).eval(), random_inputs(which, batch=3)
    program = net.export(random_inputs(which, batch=1))
    torch.onnx.export(program, f=str(tmp_path / "net.onnx"), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    feeds = {node.name: given.numpy() for node, given in zip(session.get_inputs(), inputs.values(), strict=True)}
    got, expected = torch.tensor(session.run(None, feeds)[0]), net(inputs).detach()
    if which == "resnet50":  # the deepest: rounding is judged by the largest logit
        assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()
    else:
        torch.testing.assert_close(got, expected, **CLOSE)


@pytest.mark.slow
def test_the_skeleton_network_of_ntu_rgbd_exports_to_onnx_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    onnxruntime = pytest.importorskip("onnxruntime")
    net = fuse({"skeleton": HCN(3)}).eval()
    torch.onnx.export(net.export({"skeleton": torch.randn(1, 3, 32, 25, 2)}), f=str(tmp_path / "hcn.onnx"), dynamo=True)
    session, given = onnxruntime.InferenceSession(str(tmp_path / "hcn.onnx")), torch.randn(4, 3, 32, 25, 2)
    output = session.run(None, {session.get_inputs()[0].name: given.numpy()})[0]
    torch.testing.assert_close(torch.tensor(output), net({"skeleton": given}).detach(), **CLOSE)
