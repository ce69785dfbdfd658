"""What a fused network tells about itself, and what a point's repr is good for."""

import pytest
import torch
from small_networks import AudioCNN, VideoCNN, cnn_example, cnn_points, fused_cnns
from torch import nn

from msafusion import FusionPoint, fuse


@pytest.mark.parametrize(
    "point",
    [
        FusionPoint({"a": "layer1", "b": "rnn"}),
        FusionPoint({"a": "layer1[0]"}, fusion="mmtm", reduction=2),
        FusionPoint({"a": {"x": "layer[key]", "y": "layer"}, "b": "z"}, channel_axis={"x": 1}, time_axis=-1),
        FusionPoint({"a": "x"}, name="first", time_axis={"a": None}, block_channels=4, norm="layer"),
    ],
)
def test_repr_of_a_point_makes_the_same_again(point):
    other = eval(repr(point))
    assert repr(other) == repr(point)
    assert vars(other) == vars(point)


def test_repr_of_a_point_shows_a_module():
    assert repr(FusionPoint({"a": "x"}, nn.Tanh())) == "FusionPoint({'a': 'x'}, fusion=Tanh())"


def test_status_tells_points_shapes_parameters_and_frozen_parts():
    net = fused_cnns(cnn_example(batch=3)).freeze("video")
    status = net.fusion_status()
    assert [point.name for point in status.points] == ["video.layer1 + audio.relu1", "video.layer2 + audio.relu2"]
    first = status.points[0]
    assert (first.fusion, first.options["block_channels"]) == ("msaf", 4)
    assert first.streams["video"].shape == (3, 8, 4, 6, 6)
    assert (first.streams["audio"].submodule, first.streams["audio"].channel_axis) == ("relu1", 1)
    assert first.streams["audio"].time_axis == 2
    assert status.parts["video"].frozen
    assert status.parts["video"].trainable == 0
    assert status.parts["audio"].trainable == status.parts["audio"].parameters
    assert status.parts["head"].kind == "sum"
    every = sum(parameter.numel() for parameter in net.parameters())
    assert status.counts == (every - status.parts["video"].parameters, every)
    assert sum(part.parameters for part in status.parts.values()) == every
    text = str(status)
    assert "point 1: video.layer2 + audio.relu2: msaf(block_channels=4, reduction=2, norm='layer')" in text
    assert "audio: audio.relu1 (3, 10, 9), channels on axis 1, time on 2" in text
    assert f"video: VideoCNN, {status.parts['video'].parameters:,} parameters, 0 trainable, frozen" in text


def test_status_tells_what_the_head_reads_and_counts_shared_weights_once():
    network = AudioCNN()
    inputs = {"a": torch.randn(2, 5, 9), "b": torch.randn(2, 5, 9)}
    net = fuse(
        {"a": network, "b": network}, head="gmu", head_at={"a": "relu2", "b": "relu2"}, num_outputs=2, example=inputs
    )
    status = net.fusion_status()
    assert status.points == []
    assert status.readings[0].streams["b"].submodule == "relu2"
    assert status.parts["head"].kind == "gmu"
    assert "b: b.relu2 (2, 6, 5), channels on axis 1" in str(status)
    assert status.counts[1] == sum(p.numel() for p in net.parameters())


def test_trainable_parameters_are_printed_as_peft_does(capsys):
    net = fuse({"video": VideoCNN(), "audio": AudioCNN()}, cnn_points(), example=cnn_example())
    net.freeze("video", "audio").print_trainable_parameters()
    trains, every = net.fusion_status().counts
    said = f"trainable params: {trains:,} || all params: {every:,} || trainable%: {100 * trains / every:.4f}\n"
    assert capsys.readouterr().out == said
