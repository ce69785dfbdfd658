"""Segments of time, each fused with its own parameters."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_cases import randomised
from torch.testing import assert_close

from msafusion import MSAF
from msafusion.fusion.segments import SegmentedMap

CHANNELS = {"a": 5, "b": 6}


def segment(module, index):
    """A module of one segment with the parameters of one of the module's segments."""
    one = MSAF(module.channels, module.block_channels, reduction=module.reduction, norm=module.norm_kind)
    state = {}
    for key, value in module.state_dict().items():
        per_segment = value.chunk(module.segments) if value.dim() else [value] * module.segments
        state[key] = per_segment[index]
    one.load_state_dict(state)
    return one.train(module.training)


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("segments", [2, 3, 4])
def test_segments_are_fused_one_by_one_and_the_last_takes_the_remainder(segments, norm, training):
    module = randomised(MSAF(CHANNELS, 4, reduction=2, segments=segments, norm=norm)).train(training)
    features = {"a": torch.randn(4, 5, 11, 2), "b": torch.randn(4, 6, 7)}
    alone = [segment(module, i) for i in range(segments)]
    outputs = module(features)
    for i in range(segments):
        part = {}
        for name, feature in features.items():
            length = feature.shape[2] // segments
            part[name] = slice(i * length, None if i == segments - 1 else (i + 1) * length)
        expected = alone[i]({name: feature[:, :, part[name]] for name, feature in features.items()})
        for name in features:
            assert_close(outputs[name][:, :, part[name]], expected[name])


def test_running_statistics_are_those_of_each_segment():
    module = MSAF(CHANNELS, 4, reduction=2, segments=3)
    alone = [segment(module, i) for i in range(3)]
    features = {"a": torch.randn(4, 5, 9), "b": torch.randn(4, 6, 6)}
    module(features)
    for i in range(3):
        alone[i]({"a": features["a"][:, :, 3 * i : 3 * i + 3], "b": features["b"][:, :, 2 * i : 2 * i + 2]})
    assert_close(module.norm.running_mean, torch.cat([one.norm.running_mean for one in alone]))
    assert_close(module.norm.running_var, torch.cat([one.norm.running_var for one in alone]))


@given(st.integers(1, 5), st.lists(st.integers(5, 12), min_size=1, max_size=4), st.booleans())
def test_segments_with_a_mask_divide_each_samples_own_steps(num_segments, lengths, left):
    longest = max(lengths)
    position = torch.arange(longest)
    mask = torch.stack([position >= longest - length if left else position < length for length in lengths])
    feature = torch.randn(len(lengths), 3, longest, 2, dtype=torch.float64) * mask[:, None, :, None]
    segmented = SegmentedMap("a", feature, num_segments, mask)
    for i, length in enumerate(lengths):
        real = feature[i : i + 1, :, mask[i]]
        assert_close(segmented.mean[i : i + 1], SegmentedMap("a", real, num_segments).mean)
        sizes = segmented.index[i][mask[i]].bincount(minlength=num_segments).tolist()
        assert sizes[:-1] == [length // num_segments] * (num_segments - 1)
        assert sum(sizes) == length


def test_a_segment_does_not_see_the_others():
    module = randomised(MSAF(CHANNELS, 4, reduction=1, segments=2)).eval()
    features = {"a": torch.randn(2, 5, 8), "b": torch.randn(2, 6, 8)}
    changed = {**features, "b": torch.cat([features["b"][:, :, :4], torch.randn(2, 6, 4)], dim=2)}
    before, after = module(features)["a"], module(changed)["a"]
    assert_close(after[:, :, :4], before[:, :, :4])
    assert (after[:, :, 4:] - before[:, :, 4:]).abs().max() > 1e-4


def test_as_many_segments_as_steps_fuses_every_step():
    module = randomised(MSAF(CHANNELS, 4, segments=5)).eval()
    outputs, attention = module({"a": torch.randn(2, 5, 5), "b": torch.randn(2, 6, 5)}, return_attention=True)
    assert outputs["a"].shape == (2, 5, 5)
    assert attention["b"].shape == (2, 5, 2, 4)
