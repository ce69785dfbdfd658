"""Padded steps and missing streams leave no trace in the result (design: invariant 5)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_cases import cases, randomised, with_streams
from torch.testing import assert_close

from msafusion import MSAF


def padded(sequences, side, garbage):
    """Sequences (1, channels, time, *rest) stacked with garbage where a sequence has no step, and the mask."""
    longest = max(sequence.shape[2] for sequence in sequences) + 1
    batch = sequences[0].new_full((len(sequences), sequences[0].shape[1], longest, *sequences[0].shape[3:]), garbage)
    mask = torch.zeros(len(sequences), longest, dtype=torch.bool)
    for i, sequence in enumerate(sequences):
        steps = slice(0, sequence.shape[2]) if side == "right" else slice(longest - sequence.shape[2], longest)
        batch[i, :, steps] = sequence[0]
        mask[i, steps] = True
    return batch, mask


@given(cases(min_rank=1), st.data(), st.sampled_from(["left", "right"]), st.sampled_from([torch.nan, torch.inf, 7.0]))
def test_a_padded_and_masked_batch_gives_what_every_sequence_gives_alone(case, data, side, garbage):
    module, sequences = case.module, []
    for _ in range(3):
        lengths = {name: data.draw(st.integers(module.segments, 9)) for name in case.features}
        sequences.append(
            {
                name: torch.randn(1, feature.shape[1], lengths[name], *feature.shape[3:], dtype=torch.float64)
                for name, feature in case.features.items()
            }
        )
    padding = {name: padded([sample[name] for sample in sequences], side, garbage) for name in case.features}
    masks = {name: mask for name, (_, mask) in padding.items()}
    outputs, attention = module({name: batch for name, (batch, _) in padding.items()}, masks, return_attention=True)
    for i, sample in enumerate(sequences):
        expected, expected_attention = module(sample, return_attention=True)
        for name in case.features:
            assert_close(outputs[name][i].movedim(1, 0)[masks[name][i]], expected[name][0].movedim(1, 0))
            assert not outputs[name][i].movedim(1, 0)[~masks[name][i]].any()
            assert_close(attention[name][i], expected_attention[name][0])


def test_real_steps_may_have_gaps():
    module = randomised(MSAF({"a": 5}, 2, reduction=1, segments=2)).double().eval()
    feature = torch.randn(1, 5, 7, 2, dtype=torch.float64)
    mask = torch.tensor([[False, True, True, False, True, False, True]])
    expected = module({"a": feature[:, :, mask[0]]})["a"]
    assert_close(module({"a": feature}, {"a": mask})["a"][:, :, mask[0]], expected)


@given(cases(min_rank=1))
def test_a_mask_of_only_real_steps_changes_nothing(case):
    masks = {name: torch.ones(feature.shape[::2][:2], dtype=torch.bool) for name, feature in case.features.items()}
    assert_close(case.module(case.features, masks), case.module(case.features))


@given(cases(min_streams=2), st.data())
def test_a_missing_stream_gives_the_result_of_the_smaller_set(case, data):
    kept = data.draw(st.lists(st.sampled_from(list(case.features)), min_size=1, unique=True))
    smaller = with_streams(case.module, [name for name in case.features if name in kept])
    fewer = {name: case.features[name] for name in kept}
    expected, expected_attention = smaller(fewer, return_attention=True)
    outputs, attention = case.module(fewer, return_attention=True)
    assert list(outputs) == kept
    assert_close(outputs, expected)
    assert_close(attention, expected_attention)


@given(cases(min_streams=2), st.data(), st.sampled_from([torch.nan, torch.inf, 7.0]))
def test_presence_gives_each_sample_the_result_of_its_own_streams(case, data, garbage):
    names, batch = list(case.features), len(next(iter(case.features.values())))
    streams = [data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True)) for _ in range(batch)]
    present = {name: torch.tensor([name in own for own in streams]) for name in names}
    features = {name: value.clone() for name, value in case.features.items()}
    for name in names:
        features[name][~present[name]] = garbage
    outputs, attention = case.module(features, present=present, return_attention=True)
    for i, own in enumerate(streams):
        expected, expected_attention = case.module(
            {name: case.features[name][i : i + 1] for name in own}, return_attention=True
        )
        for name in names:
            if name in own:
                assert_close(outputs[name][i], expected[name][0])
                assert_close(attention[name][i], expected_attention[name][0])
            else:
                assert not outputs[name][i].any()
                assert not attention[name][i].any()
    total = sum(value.sum(dim=2) for value in attention.values())
    assert_close(total, torch.ones_like(total))


def small_case():
    """Three samples of two streams; sample 0 lacks a, sample 1 lacks b and has two padded steps of a."""
    module = randomised(MSAF({"a": 5, "b": 4}, 2, reduction=1, segments=2)).double()
    features = {"a": torch.randn(3, 5, 6, dtype=torch.float64), "b": torch.randn(3, 4, 4, 2, dtype=torch.float64)}
    masks = {"a": torch.ones(3, 6, dtype=torch.bool)}
    masks["a"][1, 4:] = False
    present = {"a": torch.tensor([False, True, True]), "b": torch.tensor([True, False, True])}
    return module, features, masks, present


def test_a_missing_stream_may_have_a_mask_without_any_real_step():
    module, features, masks, present = small_case()
    expected = module.eval()(features, masks, present)
    masks["a"][0] = False
    assert_close(module(features, masks, present), expected)
    assert_close(module(features, masks, {"b": present["b"]}), expected)  # no real step: missing


def test_streams_given_as_present_are_as_streams_not_mentioned():
    module, features, masks, present = small_case()
    everyone = torch.ones(3, dtype=torch.bool)
    expected = module.eval()(features, masks, {"a": present["a"]})
    assert_close(module(features, masks, {"a": present["a"], "b": everyone}), expected)


@pytest.mark.parametrize("init", ["identity", "paper"])
@pytest.mark.parametrize("training", [False, True])
def test_nan_in_missing_and_padded_data_reaches_no_gradient(init, training):
    module, features, masks, present = small_case()
    module.init = init
    gradients = []
    for garbage in (torch.nan, 7.0):
        features["a"][0] = features["b"][1] = garbage
        features["a"][1, :, 4:] = garbage
        leaves = {name: feature.clone().requires_grad_() for name, feature in features.items()}
        outputs = module.train(training)(leaves, masks, present)
        module.zero_grad()
        sum(output.square().sum() for output in outputs.values()).backward()
        gradients.append({key: value.grad.clone() for key, value in [*leaves.items(), *module.named_parameters()]})
        assert not leaves["a"].grad[0].any()
        assert not leaves["a"].grad[1, :, 4:].any()
        assert not leaves["b"].grad[1].any()
    assert all(gradient.isfinite().all() for gradient in gradients[0].values())
    assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_masks_and_features_are_left_as_they_were():
    module, features, masks, present = small_case()
    before = {name: feature.clone() for name, feature in features.items()}, masks["a"].clone()
    module(features, masks, present)
    assert_close((features, masks["a"]), before, rtol=0, atol=0)
