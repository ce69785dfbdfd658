"""bf16, torch.export and ONNX Runtime: the same network, the same numbers."""

import pytest
import torch
from small_networks import (
    AudioCNN,
    Chain,
    Recurrent,
    VideoCNN,
    cnn_example,
    cnns,
    fused_cnns,
    gradients,
    lstms,
    pair,
    stir,
)
from torch import nn

from msafusion import FusionError, FusionPoint, fuse

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
pytestmark = pytest.mark.usefixtures("no_shape_checks")


@pytest.mark.parametrize("training", [True, False])
def test_bf16_autocast_keeps_outputs_exactly_and_gradients_finite(training):
    example = cnn_example()
    net = fused_cnns(example).train(training)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = net.stream_outputs(example)
        expected = {name: network(example[name]) for name, network in net.networks.items()}
        loss = net(example).float().square().sum()
    assert all(output.dtype == torch.bfloat16 for output in outputs.values())
    assert all(torch.equal(outputs[name], expected[name]) for name in outputs)
    loss.backward()
    assert all(grad.isfinite().all() for grad in gradients(net).values())


def test_bf16_autocast_is_close_to_float32():
    example = cnn_example()
    net = stir(fused_cnns(example)).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = net(example)
    torch.testing.assert_close(rounded.float(), net(example), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_networks_in_another_type_keep_their_outputs(dtype):
    example = {name: given.to(dtype) for name, given in cnn_example().items()}
    networks = {"video": VideoCNN().to(dtype).eval(), "audio": AudioCNN().to(dtype).eval()}
    expected = {name: network(example[name]) for name, network in networks.items()}
    net = fuse(networks, FusionPoint({"video": "layer1", "audio": "relu1"}, block_channels=4), example=example)
    outputs = net.stream_outputs(example)
    assert all(torch.equal(outputs[name], expected[name]) for name in outputs)


def run_onnx(program, path, inputs):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.onnx.export(program, f=str(path), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(path))
    feeds = {node.name: value.numpy() for node, value in zip(session.get_inputs(), inputs.values(), strict=True)}
    return torch.tensor(session.run(None, feeds)[0])


def resampled(example, batch):
    return {name: torch.randn(batch, *given.shape[1:]) for name, given in example.items()}


@pytest.mark.parametrize(("make", "batch"), [(cnns, 1), pytest.param(lstms, 3, marks=pytest.mark.slow)])
def test_export_runs_in_torch_and_onnx_runtime_with_other_batch_sizes(make, batch, tmp_path):
    net, example = make()
    modes = [module.training for module in net.modules()]
    program = net.export({name: given[:batch] for name, given in example.items()})
    assert [module.training for module in net.modules()] == modes
    net.eval()
    for other in (resampled(example, 5), resampled(example, 1)):
        torch.testing.assert_close(program.module()(other), net(other), **CLOSE)
    other = resampled(example, 5)
    torch.testing.assert_close(run_onnx(program, tmp_path / "net.onnx", other), net(other), **CLOSE)


def test_export_with_dynamic_time():
    net, example = cnns()
    program = net.eval().export(example, dynamic_time=True)
    longer = {"video": torch.randn(2, 3, 8, 6, 6), "audio": torch.randn(2, 5, 14)}
    torch.testing.assert_close(program.module()(longer), net(longer), **CLOSE)


def test_export_of_time_first_networks_frees_their_batch():
    options = {"batch_first": False}
    example = {"a": torch.randn(7, 3, 5), "b": torch.randn(9, 3, 2)}
    net = stir(pair(Recurrent(5, 6, **options), Recurrent(2, 8, **options), "rnn", example)).eval()
    other = {"a": torch.randn(7, 5, 5), "b": torch.randn(9, 5, 2)}
    torch.testing.assert_close(net.export(example).module()(other), net(other), **CLOSE)


def test_export_of_fewer_networks_and_of_a_batch_that_equals_other_sizes():
    net, _ = cnns()
    net.eval()
    program = net.export({"audio": torch.randn(5, 5, 9)})
    other = {"audio": torch.randn(2, 5, 9)}
    torch.testing.assert_close(program.module()(other), net(other), **CLOSE)


def test_export_of_shared_modules_and_tied_weights_leaves_them_intact():
    shared, example = Chain().eval(), {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 8)}
    shared.third.weight = shared.first.weight
    net = stir(pair(shared, shared, "second", example)).eval()
    expected = net(example)
    program = net.export(example)
    assert torch.equal(net(example), expected)
    torch.testing.assert_close(program.module()(example), expected, **CLOSE)


class FixedBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x) * int(x.shape[0])


def test_export_refuses_a_fixed_batch_and_inputs_that_are_no_tensors():
    net = fuse({"a": FixedBatch()})
    with pytest.raises(ValueError, match=r"batch of network 'a' came out fixed, expected dynamic.*use x.shape"):
        net.export({"a": torch.randn(4, 3)})
    with pytest.raises(ValueError, match="example of 'a' holds a bool, expected tensors only"):
        net.export({"a": {"x": torch.randn(4, 3), "flag": True}})


def test_torch_export_names_our_own():
    net, example = cnns()
    with pytest.raises(FusionError, match=r"net\.export\(example\)"):
        torch.export.export(net.eval(), (example,))


class Strided(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Conv1d(5, 8, 3, stride=2, padding=1), nn.Linear(8, 4)

    def forward(self, x, attention_mask):
        return self.out(self.layer((x * attention_mask[..., None]).transpose(1, 2)).mean(dim=2))


def test_export_says_where_padding_has_to_be():
    given = {"x": torch.randn(2, 10, 5), "attention_mask": torch.ones(2, 10)}
    example = {"a": given, "b": torch.randn(2, 5, 10)}
    point = FusionPoint({"a": "layer", "b": "relu1"}, block_channels=4)
    net = fuse({"a": Strided(), "b": AudioCNN()}, point, example=example).eval()
    with pytest.warns(UserWarning, match="attention_mask of network 'a'"):
        program = net.export(example)
    mask = (torch.arange(10) < torch.tensor([[10], [6], [3]])).float()
    other = {"a": {"x": torch.randn(3, 10, 5), "attention_mask": mask}, "b": torch.randn(3, 5, 10)}
    torch.testing.assert_close(program.module()(other), net(other))
