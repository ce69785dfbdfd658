"""With init="identity" a new fused network is what its networks are, to the last bit; then it learns."""

import copy

import pytest
import torch
from small_networks import (
    AudioCNN,
    Recurrent,
    RecurrentWithLengths,
    VideoCNN,
    cnn_example,
    fused_cnns,
    gradients,
    pair,
    stir,
)
from torch import nn

from msafusion import FusionPoint, fuse


def own_outputs(net, inputs, lengths=None):
    """What copies of the networks, with hooks removed, say by themselves in the same mode."""
    outputs = {}
    for name, given in inputs.items():
        network = copy.deepcopy(net.networks[name])
        for module in network.modules():
            module._forward_hooks.clear()
        outputs[name] = network(given) if lengths is None else network(given, lengths[name])
    return outputs


def assert_same(outputs, expected):
    assert outputs.keys() == expected.keys()
    for name, output in outputs.items():
        assert torch.equal(output, expected[name]), name


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("training", [True, False])
def test_cnns_keep_their_outputs_exactly(norm, training):
    example = cnn_example()
    net = fused_cnns(example, norm=norm).train(training)
    expected = own_outputs(net, example)
    assert_same(net.stream_outputs(example), expected)
    assert torch.equal(net(example), expected["video"] + expected["audio"])


def test_a_fusion_that_is_not_new_changes_the_outputs():
    example = cnn_example()
    net = stir(fused_cnns(example)).eval()
    for name, output in net.stream_outputs(example).items():
        assert not torch.allclose(output, own_outputs(net, example)[name], atol=1e-4), name


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"batch_first": False}, {"num_layers": 2}])
@pytest.mark.parametrize("training", [True, False])
def test_recurrent_networks_of_different_lengths_keep_their_outputs_with_padding(kind, options, training):
    a, b = Recurrent(5, 6, kind, **options), Recurrent(3, 8, kind, **options)
    example = {"a": torch.randn(4, 7, 5), "b": torch.randn(4, 11, 3)}
    if options.get("batch_first") is False:
        example = {name: given.transpose(0, 1) for name, given in example.items()}
    lengths = {"a": torch.tensor([7, 2, 5, 1]), "b": torch.tensor([3, 11, 1, 6])}
    net = pair(a, b, "rnn", example).train(training)
    assert_same(net.stream_outputs(example, lengths), own_outputs(net, example))


@pytest.mark.parametrize("longest", [7, 5])
def test_networks_that_take_lengths_keep_their_outputs(longest):
    example = {"a": torch.randn(3, 7, 5), "b": torch.randn(3, 9, 2)}
    lengths = {"a": torch.tensor([longest, 2, 4]), "b": torch.tensor([1, longest, 3])}
    net = pair(RecurrentWithLengths(5, 6), RecurrentWithLengths(2, 8), "steps", example)
    assert_same(net.stream_outputs(example, lengths), own_outputs(net, example, lengths))


def test_recurrent_network_with_a_cnn_keeps_both_outputs():
    example = {"cnn": torch.randn(3, 5, 9), "rnn": torch.randn(3, 7, 2)}
    at = [FusionPoint({"cnn": "relu1", "rnn": "rnn"}, block_channels=4)]
    net = fuse({"cnn": AudioCNN(), "rnn": Recurrent(2, 6)}, at, example=example).train()
    assert_same(net.stream_outputs(example), own_outputs(net, example))


def test_a_network_used_alone_after_fuse_is_unchanged():
    video, clip = VideoCNN().eval(), cnn_example()["video"]
    before = video(clip)
    point = FusionPoint({"video": "layer1", "audio": "bn1"}, block_channels=4)
    stir(fuse({"video": video, "audio": AudioCNN()}, [point], example=cnn_example()))
    assert torch.equal(video(clip), before)
    assert list(video.state_dict()) == list(VideoCNN().state_dict())


def test_fuse_leaves_weights_statistics_and_modes_alone():
    networks = {"video": VideoCNN().eval(), "audio": AudioCNN()}
    networks["audio"].bn1.eval()
    before = {name: copy.deepcopy(network.state_dict()) for name, network in networks.items()}
    modes = {name: [m.training for m in network.modules()] for name, network in networks.items()}
    fuse(networks, [FusionPoint({"video": "layer1", "audio": "relu1"}, block_channels=4)], example=cnn_example())
    for name, network in networks.items():
        assert all(torch.equal(value, before[name][key]) for key, value in network.state_dict().items())
        assert [m.training for m in network.modules()] == modes[name]


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_after_one_step_gradients_reach_all_that_trains_alone_and_the_fusion(norm):
    example, target = cnn_example(6), torch.arange(6) % 4
    net = fused_cnns(example, norm=norm).train()
    alone = {}
    for name in example:
        network = copy.deepcopy(net.networks[name])
        nn.functional.cross_entropy(network(example[name]), target).backward()
        alone.update({f"networks.{name}.{key}": grad for key, grad in gradients(network).items()})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    nn.functional.cross_entropy(net(example), target).backward()
    optimizer.step()
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(example), target).backward()
    reached = {name for name, grad in gradients(net).items() if grad.abs().sum() > 0}
    assert {name for name, grad in alone.items() if grad.abs().sum() > 1e-6} <= reached
    fusion = {f"fusion_layers.{name}" for name, _ in net.fusion_layers.named_parameters()}
    # a bias before BatchNorm has no gradient: the normalisation takes it away
    without = {name for name in fusion if norm == "batch" and name.endswith("joint_bias")}
    assert fusion - without <= reached


def test_training_lowers_the_loss_of_a_task_that_needs_both_networks():
    example = {"a": torch.randn(64, 6, 2), "b": torch.randn(64, 9, 2)}
    target = ((example["a"][:, :, 0].mean(dim=1) > 0) ^ (example["b"][:, :, 0].mean(dim=1) > 0)).long()
    net = pair(Recurrent(2, 8), Recurrent(2, 8), "rnn", example)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(example), target)
        loss.backward()
        optimizer.step()
    assert loss < 0.35  # chance is 0.69; a sum of networks that see one input each stays there
