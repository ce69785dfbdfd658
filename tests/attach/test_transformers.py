"""Hugging Face transformers as they are: video, audio and text fused in the middle, from small random configs."""

import copy

import pytest
import torch
import transformers
from small_networks import gradients

from msafusion import FusionPoint, fuse

NUM_CLASSES = 4
WIDTH = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
POINTS = {
    "videomae": "videomae.encoder.layer.0",
    "vit": "vit.layers.0",
    "audio": "wav2vec2.encoder.layers.0",
    "text": "bert.encoder.layer.0",
}


def videomae():
    config = transformers.VideoMAEConfig(
        image_size=16, patch_size=8, num_frames=4, tubelet_size=2, num_labels=NUM_CLASSES, **WIDTH, **NO_DROPOUT
    )
    return transformers.VideoMAEForVideoClassification(config)


def vit():
    config = transformers.ViTConfig(image_size=16, patch_size=8, num_labels=NUM_CLASSES, **WIDTH, **NO_DROPOUT)
    return transformers.ViTForImageClassification(config)


def wav2vec2():
    config = transformers.Wav2Vec2Config(
        **WIDTH,
        conv_dim=(8, 8),
        conv_stride=(4, 2),
        conv_kernel=(8, 4),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=8,
        num_labels=NUM_CLASSES,
        **dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0),
        **dict.fromkeys(("final_dropout", "layerdrop", "mask_time_prob"), 0.0),
    )
    return transformers.Wav2Vec2ForSequenceClassification(config)


def bert():
    config = transformers.BertConfig(
        vocab_size=30, max_position_embeddings=12, num_labels=NUM_CLASSES, **WIDTH, **NO_DROPOUT
    )
    return transformers.BertForSequenceClassification(config)


def inputs_for(vision, batch=3, padded=True):
    pixels = torch.randn(batch, 4, 3, 16, 16) if vision == "videomae" else torch.randn(batch, 3, 16, 16)
    text = {"input_ids": torch.randint(0, 30, (batch, 7))}
    if padded:
        text["attention_mask"] = torch.arange(7) < torch.tensor([7, 4, 2] * batch)[:batch].unsqueeze(1)
        text["attention_mask"] = text["attention_mask"].long()
    return {vision: {"pixel_values": pixels}, "audio": torch.randn(batch, 160), "text": text}


def trio(vision="videomae", **options):
    networks = {vision: videomae() if vision == "videomae" else vit(), "audio": wav2vec2(), "text": bert()}
    point = FusionPoint({name: POINTS[name] for name in networks}, block_channels=8, norm="layer")
    inputs = inputs_for(vision)
    return fuse(networks, [point], example=inputs, **options), inputs


def alone(network, given):
    network = copy.deepcopy(network)
    return network, (network(**given) if isinstance(given, dict) else network(given)).logits


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("vision", ["videomae", "vit"])
def test_three_transformers_keep_their_logits_exactly(vision, training):
    net, inputs = trio(vision)
    net.train(training)
    outputs = net.stream_outputs(inputs)
    for name, given in inputs.items():
        assert torch.equal(outputs[name].logits, alone(net.networks[name], given)[1]), name
    assert net(inputs).shape == (3, NUM_CLASSES)


def test_channels_of_transformer_layers_are_found_on_their_last_axis():
    net, _ = trio("vit")
    assert [tap.layout.channel_axis for tap in net.fusion_layers[0].taps] == [2, 2, 2]
    assert net.fusion_layers[0].fusion.channels == {"vit": 16, "audio": 16, "text": 16}


def test_gradients_reach_every_parameter_that_gets_one_alone_and_the_fusion():
    net, inputs = trio("videomae")
    net.train()
    target = torch.tensor([0, 1, 3])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    torch.nn.functional.cross_entropy(net(inputs), target).backward()
    optimizer.step()
    optimizer.zero_grad()
    expected = set()
    for name, given in inputs.items():
        network, logits = alone(net.networks[name], given)
        torch.nn.functional.cross_entropy(logits, target).backward()
        expected |= {f"networks.{name}.{key}" for key in gradients(network)}
    expected |= {f"fusion_layers.{name}" for name, _ in net.fusion_layers.named_parameters()}
    torch.nn.functional.cross_entropy(net(inputs), target).backward()
    assert gradients(net).keys() == expected
    assert all(grad.isfinite().all() for grad in gradients(net).values())
    fusion = {key for key in expected if key.startswith("fusion_layers.")}
    assert all(gradients(net)[key].abs().sum() > 0 for key in fusion)


def test_attention_mask_hides_padding_from_the_fusion():
    net, inputs = trio("vit")
    torch.nn.init.normal_(net.fusion_layers[0].fusion.block_weight)
    net.eval()
    lengths = inputs["text"]["attention_mask"].sum(dim=1)
    together = net(inputs)
    for i, length in enumerate(lengths):
        text = {key: value[i : i + 1, :length] for key, value in inputs["text"].items()}
        single = {
            "vit": {"pixel_values": inputs["vit"]["pixel_values"][i : i + 1]},
            "audio": inputs["audio"][i : i + 1],
        }
        torch.testing.assert_close(net({**single, "text": text}), together[i : i + 1], rtol=1e-4, atol=1e-5)


def test_options_that_return_hidden_states_still_work():
    net, inputs = trio("vit")
    inputs = {"vit": {**inputs["vit"], "output_hidden_states": True}, "audio": inputs["audio"], "text": inputs["text"]}
    outputs = net.eval().stream_outputs(inputs)
    assert len(outputs["vit"].hidden_states) == 3
    assert torch.equal(outputs["vit"].logits, alone(net.networks["vit"], inputs["vit"])[1])


def test_a_missing_transformer_equals_one_that_is_left_out_sample_by_sample():
    net, inputs = trio("vit")
    torch.nn.init.normal_(net.fusion_layers[0].fusion.block_weight)
    net.eval()
    present = {"audio": torch.tensor([True, False, True])}
    broken = {**inputs, "audio": inputs["audio"].clone()}
    broken["audio"][1] = float("nan")
    outputs = net(broken, present=present)
    without = net({name: given for name, given in inputs.items() if name != "audio"})
    torch.testing.assert_close(outputs[1], without[1])
    torch.testing.assert_close(outputs[[0, 2]], net(inputs)[[0, 2]])


def test_checkpointed_transformer_layers_can_be_fused_after_but_not_inside():
    """transformers 5 calls a layer's hooks outside its checkpoint, so the layer's own output is no trouble."""
    net, inputs = trio("vit")
    torch.nn.init.normal_(net.fusion_layers[0].fusion.block_weight)
    net.train()
    net(inputs).square().sum().backward()
    expected = gradients(net)
    net.zero_grad()
    for network in net.networks.values():
        network.activation_checkpointing_enable()
    net(inputs).square().sum().backward()
    for name, grad in gradients(net).items():
        torch.testing.assert_close(grad, expected[name], msg=name)

    inside = FusionPoint({"vit": POINTS["vit"], "text": "bert.encoder.layer.0.output"}, block_channels=8)
    net = fuse({"vit": vit(), "text": bert()}, [inside], example={name: inputs[name] for name in ("vit", "text")})
    net.networks["text"].activation_checkpointing_enable()
    with pytest.raises(
        ValueError, match=r"network 'text' at fusion point .*checkpointed region.*turn checkpointing off"
    ):
        net.train()({name: inputs[name] for name in ("vit", "text")})


@pytest.mark.slow
def test_export_of_three_transformers_runs_in_onnx_runtime_with_another_batch(tmp_path, no_shape_checks):
    onnxruntime = pytest.importorskip("onnxruntime")
    net, inputs = trio("videomae")
    torch.nn.init.normal_(net.fusion_layers[0].fusion.block_weight)
    net.eval()
    program = net.export(inputs)
    other = inputs_for("videomae", batch=5)
    torch.testing.assert_close(program.module()(other), net(other), rtol=1e-4, atol=1e-5)
    torch.onnx.export(program, f=str(tmp_path / "net.onnx"), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    flat = torch.utils._pytree.tree_leaves(other)
    feeds = {node.name: value.numpy() for node, value in zip(session.get_inputs(), flat, strict=True)}
    torch.testing.assert_close(torch.tensor(session.run(None, feeds)[0]), net(other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", [(1,), (0, 1)])
def test_layers_that_wav2vec2_drops_at_random_are_missing_streams_in_that_step(layers):
    speech, text = wav2vec2(), bert()
    speech.config.layerdrop = 0.5
    points = [
        FusionPoint({"audio": f"wav2vec2.encoder.layers.{i}", "text": f"bert.encoder.layer.{i}"}, block_channels=8)
        for i in layers
    ]
    example = {name: given for name, given in inputs_for("vit").items() if name != "vit"}
    net = fuse({"audio": speech, "text": text}, points, example=example).train()
    seen = []
    for fusion_layer in net.fusion_layers:
        fusion_layer.register_forward_hook(lambda fusion_layer, args, output: seen.append(set(args[0])))
    with pytest.warns(UserWarning, match="left out its submodule 'wav2vec2.encoder.layers"):
        outputs = torch.stack([net(example) for _ in range(8)])
    assert outputs.isfinite().all()
    outputs.sum().backward()
    assert {"text"} in seen
    assert {"text", "audio"} in seen
    assert len(seen) == 8 * len(layers)
    net.eval()(example)
    assert seen[-1] == {"text", "audio"}
