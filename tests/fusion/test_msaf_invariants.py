"""What holds for every MSAF module (design: invariants 1 to 4, 6 and 8)."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_cases import cases, randomised, with_streams
from torch.testing import assert_close

from msafusion import MSAF


@given(cases())
def test_block_attention_sums_to_one_over_all_blocks(case):
    _, attention = case.module(case.features, return_attention=True)
    total = sum(value.sum(dim=2) for value in attention.values())
    assert_close(total, torch.ones_like(total))


@given(cases())
def test_attention_has_a_value_per_segment_block_and_channel(case):
    _, attention = case.module(case.features, return_attention=True)
    for name, feature in case.features.items():
        blocks = -(-case.module.channels[name] // case.module.block_channels)
        assert attention[name].shape == (len(feature), case.module.segments, blocks, case.module.block_channels)


@given(cases(), st.booleans())
def test_names_order_shapes_and_types_are_kept(case, backwards):
    features = dict(reversed(case.features.items())) if backwards else case.features
    outputs = case.module(features)
    assert list(outputs) == list(features)
    for name, feature in features.items():
        assert outputs[name].shape == feature.shape
        assert outputs[name].dtype == feature.dtype


@given(cases())
def test_output_is_every_channel_times_one_number_per_segment(case):
    outputs, attention = case.module(case.features, return_attention=True)
    num_blocks = sum(case.module.num_blocks.values())
    for name, feature in case.features.items():
        weight = attention[name] * (num_blocks if case.module.init == "identity" else 1)
        gate = case.module.lowest_attention + (1 - case.module.lowest_attention) * weight
        gate = gate.flatten(2)[..., : feature.shape[1]]
        if case.module.segments == 1:
            expected = feature * gate[:, 0].reshape(*feature.shape[:2], *[1] * (feature.dim() - 2))
        else:
            length = feature.shape[2] // case.module.segments
            steps = [gate[:, min(step // length, case.module.segments - 1)] for step in range(feature.shape[2])]
            gate = torch.stack(steps, dim=2)
            expected = feature * gate.reshape(*gate.shape, *[1] * (feature.dim() - 3))
        assert_close(outputs[name], expected)


@given(cases(max_segments=1, min_rank=1), st.randoms(use_true_random=False))
def test_permuting_positions_of_a_stream_permutes_its_output_and_nothing_else(case, random):
    name = random.choice(list(case.features))
    axis = random.randrange(2, case.features[name].dim())
    order = torch.tensor(random.sample(range(case.features[name].shape[axis]), case.features[name].shape[axis]))
    expected = case.module(case.features)
    expected[name] = expected[name].index_select(axis, order)
    permuted = {**case.features, name: case.features[name].index_select(axis, order)}
    assert_close(case.module(permuted), expected)


@given(cases(min_streams=2), st.randoms(use_true_random=False))
def test_permuting_streams_with_their_parameters_permutes_outputs_and_attention(case, random):
    names = random.sample(list(case.features), len(case.features))
    permuted = with_streams(case.module, names)
    expected, expected_attention = case.module(case.features, return_attention=True)
    outputs, attention = permuted({name: case.features[name] for name in names}, return_attention=True)
    assert_close(outputs, expected)
    assert_close(attention, expected_attention)


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_every_stream_influences_every_other(norm):
    module = randomised(MSAF({"a": 8, "b": 5, "c": 3}, 4, reduction=1, norm=norm)).eval()
    features = {name: torch.randn(4, count, 2, requires_grad=True) for name, count in module.channels.items()}
    for name, output in module(features).items():
        others = [feature for other, feature in features.items() if other != name]
        for gradient in torch.autograd.grad(output.sum(), others, retain_graph=True):
            assert gradient.abs().max() > 1e-4


def test_identity_gain_starts_as_the_identity_to_the_last_bit_for_any_number_of_blocks():
    for num_blocks in [*range(1, 71), 127, 1000]:
        feature = torch.randn(2, num_blocks, 3)
        module = MSAF({"a": num_blocks}, 1, reduction=1)
        assert torch.equal(module.eval()({"a": feature})["a"], feature), num_blocks
        assert torch.equal(module.train()({"a": feature})["a"], feature), num_blocks


@pytest.mark.parametrize("num_blocks", [3, 41, 47, 55])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("convert_module", [False, True])
def test_identity_gain_is_exact_in_every_precision(num_blocks, dtype, convert_module):
    channels = {"a": 2 * num_blocks - 3, "b": 1, "c": 2}  # a has a last block that is not full, num_blocks + 1 in all
    module = MSAF(channels, 2, reduction=1, segments=2, lowest_attention=0.3).eval()
    module = module.to(dtype) if convert_module else module
    features = {name: torch.randn(3, count, 5, dtype=dtype) for name, count in channels.items()}
    for name, output in module(features).items():
        assert output.dtype == dtype
        assert torch.equal(output, features[name])


@pytest.mark.parametrize("num_blocks", [41, 47, 55])
@pytest.mark.parametrize("lowest_attention", [0.0, 0.1, 0.7, 1.0])
def test_identity_gain_is_exact_on_what_is_present(num_blocks, lowest_attention):
    channels = {"a": num_blocks, "b": 5, "c": 41}
    module = MSAF(channels, 1, reduction=1, lowest_attention=lowest_attention)
    features = {name: torch.randn(8, count, 3) for name, count in channels.items()}
    present = {name: torch.arange(8) >> bit & 1 == 0 for bit, name in enumerate(channels)}
    present["a"][-1] = True
    for name, output in module(features, present=present).items():
        assert torch.equal(output[present[name]], features[name][present[name]])
        assert not output[~present[name]].any()


def test_identity_gain_still_learns():
    module = MSAF({"a": 8, "b": 8}, 4, norm="none", reduction=1)
    features = {name: torch.randn(16, 8, 3) for name in "ab"}
    module(features)["a"].square().sum().backward()
    assert module.block_weight.grad.abs().max() > 0
    assert module.block_bias.grad.abs().max() > 0


@given(cases(inits=["paper"]))
def test_without_gain_no_channel_grows(case):
    for name, output in case.module(case.features).items():
        assert (output.abs() <= case.features[name].abs() * (1 + 1e-12)).all()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_gives_the_same_and_shares_nothing(copied):
    module = randomised(MSAF({"a": 7, "b": 8}, 4, segments=2)).eval()
    features = {"a": torch.randn(2, 7, 5), "b": torch.randn(2, 8, 4)}
    expected, other = module(features), copied(module)
    with torch.no_grad():
        module.block_bias.normal_()
    assert_close(other(features), expected, rtol=0, atol=0)
    assert not torch.equal(module(features)["a"], expected["a"])


def test_state_dict_carries_everything_that_the_output_depends_on():
    module = randomised(MSAF({"a": 7, "b": 8}, 4, segments=2)).eval()
    features = {"a": torch.randn(2, 7, 5), "b": torch.randn(2, 8, 4)}
    other = MSAF({"a": 7, "b": 8}, 4, segments=2).eval()
    assert not torch.equal(other(features)["a"], module(features)["a"])
    other.load_state_dict(module.state_dict())
    assert_close(other(features), module(features), rtol=0, atol=0)


def test_reset_parameters_makes_a_used_module_new():
    module = randomised(MSAF({"a": 7}, 4))
    module.reset_parameters()
    feature = torch.randn(2, 7, 5)
    assert torch.equal(module.eval()({"a": feature})["a"], feature)
    assert torch.equal(module.norm.running_mean, torch.zeros(1))
