"""Lower precision and mixed types agree with float32 within their tolerance and keep the types (invariant 9)."""

import pytest
import torch
from random_cases import randomised
from torch.testing import assert_close

from msafusion import MSAF

CHANNELS = {"a": 12, "b": 7}
EPSILON = {torch.bfloat16: 2**-8, torch.float16: 2**-11, torch.float64: 1e-6}
MASKS = {"a": torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [True] * 6])}
PRESENT = {"b": torch.tensor([True, True, False])}
GIVEN = [(None, None), (MASKS, None), (None, PRESENT), (MASKS, PRESENT)]


def module_and_features(dtype, **options):
    """Features that the type holds exactly, so that rounding within the module is all that differs."""
    torch.manual_seed(1)
    module = randomised(MSAF(CHANNELS, 4, reduction=2, **options)).eval()
    features = {"a": torch.randn(3, 12, 6, 2), "b": torch.randn(3, 7, 5)}
    return module, {name: feature.to(dtype) for name, feature in features.items()}


def assert_agrees(got, expected, features, epsilon):
    """Within `epsilon` of the input's size: what is rounded is the gate (at most about the number of blocks)."""
    for name, feature in features.items():
        assert got[name].dtype == feature.dtype
        assert (got[name].double() - expected[name].double()).abs().max() < 8 * epsilon * feature.abs().max()


@pytest.mark.parametrize("segments", [1, 2])
@pytest.mark.parametrize(("masks", "present"), GIVEN)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_bfloat16_autocast_agrees_and_keeps_the_type(segments, masks, present, dtype):
    module, features = module_and_features(dtype, segments=segments)
    expected, expected_attention = module(
        {name: feature.float() for name, feature in features.items()}, masks, present, return_attention=True
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, attention = module(features, masks, present, return_attention=True)
    assert_agrees(outputs, expected, features, EPSILON[torch.bfloat16] if dtype == torch.bfloat16 else 1e-6)
    assert_close(attention, expected_attention)  # computed in float32 whatever autocast says


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("segments", [1, 2])
@pytest.mark.parametrize(("masks", "present"), GIVEN)
def test_features_of_another_type_than_the_parameters(dtype, segments, masks, present):
    module, features = module_and_features(dtype, segments=segments)
    expected = module({name: feature.float() for name, feature in features.items()}, masks, present)
    assert_agrees(module(features, masks, present), expected, features, EPSILON[dtype])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_a_converted_module_agrees(dtype, norm):
    module, features = module_and_features(dtype, norm=norm)
    with torch.no_grad():
        module.block_weight.mul_(0.1)  # logits are rounded here too: keep them near one
    expected = module({name: feature.float() for name, feature in features.items()})
    outputs = module.to(dtype)(features)
    assert_agrees(outputs, expected, features, 4 * EPSILON[dtype])


def test_streams_of_different_types_keep_each_its_own():
    module, features = module_and_features(torch.float32)
    expected = module(features)
    features["b"] = features["b"].double()
    outputs = module(features)
    assert (outputs["a"].dtype, outputs["b"].dtype) == (torch.float32, torch.float64)
    assert_close(outputs, expected, check_dtype=False)


@pytest.mark.parametrize("segments", [1, 2])
def test_gradients_under_autocast_agree(segments):
    module, features = module_and_features(torch.float32, segments=segments)
    gradients = []
    for enabled in (False, True):
        leaves = {name: feature.clone().requires_grad_() for name, feature in features.items()}
        module.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            outputs = module(leaves, MASKS)
        sum(output.square().sum() for output in outputs.values()).backward()
        gradients.append([value.grad for value in [*leaves.values(), *module.parameters()]])
    assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)
