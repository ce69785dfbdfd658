"""Freezing parts of a fused network, and learning rates by part."""

import copy

import pytest
import torch
from small_networks import cnn_example, fused_cnns, gradients
from torch import nn


def trained_keys(net):
    return {name for name, parameter in net.named_parameters() if parameter.requires_grad}


def step(net, example):
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net(example).square().sum().backward()
    optimizer.step()


def test_a_frozen_network_keeps_weights_and_statistics_while_the_rest_trains():
    example = cnn_example()
    net = fused_cnns(example).freeze("video").train()
    before = copy.deepcopy(net.state_dict())
    step(net, example)
    step(net, example)
    changed = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert not {key for key in changed if key.startswith("networks.video.")}
    assert "networks.audio.bn1.running_mean" in changed
    assert any(key.startswith("fusion_layers.") for key in changed)
    assert net.training
    assert not any(module.training for module in net.networks["video"].modules())


def test_unfreeze_gives_back_exactly_what_freeze_took():
    net = fused_cnns()
    net.networks["video"].classifier.requires_grad_(False)
    before = trained_keys(net)
    assert not any(
        key.startswith(("networks.video", "fusion_layers")) for key in trained_keys(net.freeze("video", "fusion"))
    )
    assert trained_keys(net.freeze("video")) == trained_keys(net)
    assert trained_keys(net.unfreeze("video")) == {key for key in before if not key.startswith("fusion_layers")}
    assert trained_keys(net.unfreeze()) == before
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize("mode", [True, False])
def test_unfrozen_parts_take_the_mode_of_the_whole(mode):
    net = fused_cnns().freeze("audio").train(mode).unfreeze("audio")
    assert all(module.training == mode for module in net.networks["audio"].modules())


def test_freezing_survives_deepcopy():
    net = copy.deepcopy(fused_cnns().freeze("audio")).train()
    assert not net.networks["audio"].training
    assert len(trained_keys(net.unfreeze())) == len(list(net.parameters()))


def test_a_frozen_fusion_still_passes_gradients_on():
    example = cnn_example()
    net = fused_cnns(example).freeze("fusion").train()
    net(example).square().sum().backward()
    assert {name.split(".")[0] for name in gradients(net)} == {"networks"}


def test_parameter_groups_hold_every_trained_parameter_once_with_its_rate():
    net = fused_cnns(head="concat", num_outputs=3)
    groups = net.parameter_groups({"fusion": 0.1, "video": 0.01}, default=0.001)
    assert {g["name"]: g["lr"] for g in groups} == {"video": 0.01, "audio": 0.001, "fusion": 0.1, "head": 0.001}
    counted = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(counted) == sorted(id(parameter) for parameter in net.parameters())
    optimizer = torch.optim.SGD(groups)
    assert optimizer.param_groups[2]["lr"] == 0.1


def test_parameter_groups_leave_frozen_parts_out_and_shared_ones_once():
    net = fused_cnns().freeze("video")
    assert [group["name"] for group in net.parameter_groups({}, default=0.1)] == ["audio", "fusion"]
    net.networks["video"].classifier.weight = nn.Parameter(torch.zeros(4, 12))
    net.networks["audio"].extra = net.networks["video"].classifier
    groups = {group["name"]: group["params"] for group in net.parameter_groups({}, default=0.1)}
    weight = net.networks["video"].classifier.weight
    assert sum(parameter is weight for group in groups.values() for parameter in group) == 1


@pytest.mark.parametrize("call", ["freeze", "unfreeze", "parameter_groups"])
def test_unknown_parts_are_an_error_with_the_nearest_names(call):
    net = fused_cnns()
    with pytest.raises(ValueError, match=r"unknown part 'vidio'.*did you mean 'video'"):
        net.parameter_groups({"vidio": 1.0}, default=0.1) if call == "parameter_groups" else getattr(net, call)("vidio")
