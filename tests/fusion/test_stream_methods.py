"""What every fusion method between layers promises, whatever it computes."""

import pytest
import torch
from stream_methods import CHANNELS, GATES, METHODS, TOKENS, every_method, new_features, new_module
from torch import nn
from torch.testing import assert_close

TWO = {"video": 5, "audio.1": 4}
RANKS = {"vectors": (0, 0, 0), "sequences": (1, 1, 1), "maps": (2, 2, 2), "volumes": (3, 3, 3), "mixed": (3, 1, 0)}
garbage = float("nan")


@every_method
@pytest.mark.parametrize(("ranks", "num_streams"), [*((ranks, 3) for ranks in RANKS), ("maps", 1), ("mixed", 2)])
def test_names_order_shapes_and_types_stay(method, ranks, num_streams):
    channels = dict(list(CHANNELS.items())[:num_streams])
    features = dict(reversed(new_features(RANKS[ranks], channels=channels).items()))
    outputs = new_module(method, channels)(features)
    assert list(outputs) == list(features)
    for name, feature in features.items():
        assert outputs[name].shape == feature.shape
        assert outputs[name].dtype == feature.dtype
        assert outputs[name].isfinite().all()


@every_method
def test_streams_change_each_other(method):
    module, features = new_module(method), new_features()
    changed = module({**features, "audio.1": features["audio.1"] + torch.randn(3, 4, 1, dtype=torch.float64)})
    for name in ("video", "keys"):
        assert not torch.isclose(changed[name], module(features)[name]).all()


@every_method
@pytest.mark.parametrize(("side", "ranks"), [("left", (1, 1, 0)), ("right", (3, 2, 1))])
def test_a_padded_and_masked_batch_gives_what_every_sequence_gives_alone(method, side, ranks):
    module, lengths = new_module(method), {"video": (4, 9, 6), "audio.1": (9, 2, 5)}  # more and fewer than 5 tokens
    alone = [new_features(ranks, batch=1) for _ in range(3)]
    together, masks = {}, {}
    for name in CHANNELS:
        if name in lengths:
            for sample, length in zip(alone, lengths[name], strict=True):
                sample[name] = torch.randn(1, *sample[name].shape[1:2], length, *sample[name].shape[3:]).double()
            together[name] = alone[0][name].new_full((3, CHANNELS[name], 10, *alone[0][name].shape[3:]), garbage)
            masks[name] = torch.zeros(3, 10, dtype=torch.bool)
            for i, length in enumerate(lengths[name]):
                steps = slice(0, length) if side == "right" else slice(10 - length, 10)
                together[name][i, :, steps], masks[name][i, steps] = alone[i][name][0], True
        else:
            together[name] = torch.cat([sample[name] for sample in alone])
    outputs = module(together, masks)
    for i, sample in enumerate(alone):
        expected = module(sample)
        for name in CHANNELS:
            output = outputs[name][i]
            if name in masks:
                assert not output[:, ~masks[name][i]].any()
                output = output[:, masks[name][i]]
            assert_close(output, expected[name][0])


@every_method
def test_a_mask_of_only_real_steps_changes_nothing(method):
    module, features = new_module(method), new_features()
    masks = {name: torch.ones(3, 7, dtype=torch.bool) for name in ("video", "audio.1")}
    assert_close(module(features, masks), module(features))


@every_method
@pytest.mark.parametrize("missing", [("video",), ("audio.1", "keys")])
def test_absent_is_present_nowhere(method, missing):
    module, features = new_module(method), new_features()
    present = {name: torch.zeros(3, dtype=torch.bool) for name in missing}
    outputs = module({name: v * garbage if name in missing else v for name, v in features.items()}, None, present)
    expected = module({name: feature for name, feature in features.items() if name not in missing})
    for name in features:
        assert not outputs[name].any() if name in missing else (outputs[name] == expected[name]).all()


@every_method
def test_samples_without_a_stream_have_zeros_and_change_no_other(method):
    module, features = new_module(method), new_features()
    here = {"video": torch.tensor([True, False, True]), "audio.1": torch.tensor([True, True, False])}
    outputs = module(features, None, here)
    assert not outputs["video"][1].any()
    assert not outputs["audio.1"][2].any()
    for i in range(3):  # every sample alone, with the streams that it has
        own = {n: feature[i : i + 1] for n, feature in features.items() if n not in here or here[n][i]}
        for name, expected in module(own).items():
            assert_close(outputs[name][i], expected[0])


@every_method
def test_a_stream_of_only_padding_is_missing(method):
    module, features = new_module(method), new_features()
    masks = {"audio.1": torch.tensor([True, True, False])[:, None].expand(3, 7)}
    expected = module(features, None, {"audio.1": masks["audio.1"][:, 0]})
    assert_close(module(features, masks), expected)


@every_method
def test_a_stream_with_a_mask_is_missing_where_presence_says_so(method):
    module, features = new_module(method), new_features()
    mask, here = torch.rand(3, 7) < 0.7, torch.tensor([True, False, True])
    expected = module(features, {"video": mask & here[:, None]})
    assert_close(module(features, {"video": mask}, {"video": here}), expected)


@every_method
def test_gradients_reach_all_inputs_and_parameters_of_a_batch_of_one(method):
    module = new_module(method).train()
    # several positions each: where there is only one to attend to, what it is asked does not matter
    features = {name: feature.requires_grad_() for name, feature in new_features((2, 1, 1), batch=1).items()}
    masks = {"video": torch.tensor([[True] * 4 + [False] * 3])}
    sum(output.square().sum() for output in module(features, masks).values()).backward()
    for name, value in [*features.items(), *module.named_parameters()]:
        assert value.grad is not None, name
        assert value.grad.isfinite().all(), name
        # a key's bias shifts all logits of a softmax alike
        assert value.grad.any() or name.endswith("key.bias"), name
    assert not features["video"].grad[:, :, 4:].any()


@every_method
def test_gradients_are_finite_where_a_sample_lacks_a_stream(method):
    module = new_module(method).train()
    features = {name: feature.requires_grad_() for name, feature in new_features().items()}
    present = {"audio.1": torch.tensor([False, True, True])}
    sum(output.square().sum() for output in module(features, None, present).values()).backward()
    for name, value in [*features.items(), *module.named_parameters()]:
        assert value.grad.isfinite().all(), name
    assert not features["audio.1"].grad[0].any()


@every_method
def test_gradients_agree_with_finite_differences(method):
    channels = {"video": 2, "audio": 2}
    module = new_module(method, channels)
    inputs = [v.requires_grad_() for v in new_features((2, 1), batch=2, time=3, channels=channels).values()]
    masks = {"video": torch.tensor([[True, True, False], [True, True, True]])}
    present = {"audio": torch.tensor([True, False])}

    def outputs(video, audio):
        return tuple(module({"video": video, "audio": audio}, masks, present).values())

    assert torch.autograd.gradcheck(outputs, inputs, fast_mode=True)


@every_method
@pytest.mark.parametrize("type_now", [torch.float32, torch.bfloat16])
def test_a_new_module_changes_no_bit(method, type_now):
    features = new_features(dtype=type_now)
    module = METHODS[method](CHANNELS).train()
    for autocast in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            outputs = module(features)
        for name, feature in features.items():
            assert torch.equal(outputs[name], feature)
    mask, here = torch.rand(3, 7) < 0.7, torch.tensor([True, False, True])
    outputs = module(features, {"video": mask}, {"keys": here})
    assert torch.equal(outputs["video"].movedim(1, 2)[mask], features["video"].movedim(1, 2)[mask])
    assert torch.equal(outputs["keys"][here], features["keys"][here])


@pytest.mark.parametrize("method", [*GATES, *TOKENS])
def test_a_new_module_with_a_random_start_changes_something_and_a_reset_starts_anew(method):
    module, features = METHODS[method](CHANNELS, init="paper"), new_features(dtype=torch.float32)
    for name, output in module(features).items():
        assert not torch.isclose(output, features[name]).any(dim=1).all()
    identity = METHODS[method](CHANNELS)
    for parameter in identity.parameters():
        nn.init.normal_(parameter)
    identity.reset_parameters()
    assert torch.equal(identity(features)["video"], features["video"])


@every_method
def test_a_new_module_learns_from_its_first_step(method):
    module = METHODS[method](CHANNELS)
    sum(output.square().sum() for output in module(new_features(dtype=torch.float32)).values()).backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())


@every_method
def test_evaluation_repeats_itself_and_keeps_samples_apart(method):
    options = {"dropout": 0.5} if method == "cross_attention" else {}
    module, features = new_module(method, **options), new_features()
    outputs = module(features)
    for name, output in module(features).items():
        assert torch.equal(output, outputs[name])
    other = {name: torch.cat([feature[:1], torch.randn_like(feature[1:])]) for name, feature in features.items()}
    for name, output in module(other).items():
        assert_close(output[:1], outputs[name][:1])


def test_dropout_of_attention_is_of_training_only():
    module, features = new_module("cross_attention", dropout=0.5).train(), new_features()
    assert not torch.equal(module(features)["video"], module(features)["video"])


@every_method
def test_a_state_dict_restores_the_module(method):
    module, other, features = new_module(method), new_module(method), new_features()
    other.load_state_dict(module.state_dict())
    assert_close(other(features), module(features), rtol=0, atol=0)


@every_method
def test_autocast_is_close_to_float32_and_keeps_types(method):
    module, features = METHODS[method](CHANNELS), new_features(dtype=torch.float32)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    features["audio.1"] = features["audio.1"].bfloat16()
    expected = module(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = module(features)
        sum(output.float().square().sum() for output in outputs.values()).backward()
    assert_close(outputs, expected, rtol=0.05, atol=0.05)
    for name, feature in features.items():
        assert outputs[name].dtype == feature.dtype
        assert method in TOKENS or torch.equal(outputs[name], expected[name])  # gates are computed in float32
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def traced_inputs(batch):
    features = new_features((2, 1), batch=batch, time=6, channels=TWO)
    masks = {"video": torch.arange(6) < torch.arange(batch)[:, None] + 3}
    return features, masks, {"audio.1": torch.arange(batch) % 2 == 0}


def slow_except(*quick):
    """The methods that trace differently (the gates share it all; MSAF has its own tests): a second each."""
    methods = ["mmtm", *TOKENS]
    return pytest.mark.parametrize(
        "method", [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in methods]
    )


@slow_except("cross_attention")
@pytest.mark.usefixtures("without_shape_checks")
def test_one_exported_program_serves_every_batch(method):
    module, given, batch = new_module(method, TWO), traced_inputs(3), torch.export.Dim("batch")
    shapes = tuple({name: {0: batch} for name in values} for values in given)
    exported = torch.export.export(module, given, dynamic_shapes=shapes).module()
    given = traced_inputs(5)
    assert_close(exported(*given), module(*given))


@slow_except()
@pytest.mark.usefixtures("without_shape_checks")
def test_a_compiled_training_step_agrees_with_eager(method):
    module, given, results = new_module(method, TWO).train(), traced_inputs(3), []
    for call in (module, torch.compile(module, fullgraph=True, backend="aot_eager")):
        module.zero_grad()
        outputs = call(*given)
        sum(output.square().sum() for output in outputs.values()).backward()
        results.append((outputs, [parameter.grad for parameter in module.parameters()]))
    assert_close(results[1], results[0])
