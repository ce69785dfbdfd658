"""Gradients of whole modules against finite differences (design: invariant 8)."""

import pytest
import torch
from random_cases import randomised

from msafusion import MSAF

MASK = torch.tensor([[True, True, True, True, False], [False, False, True, True, True], [True, True, True, True, True]])
HERE = torch.tensor([True, False, True])

pytestmark = pytest.mark.usefixtures("without_shape_checks")  # hundreds of calls


@pytest.mark.parametrize("init", ["identity", "paper"])
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("training", [False, True])
def test_gradcheck(init, norm, training):
    check({"init": init, "norm": norm}, training=training)


@pytest.mark.parametrize("segments", [1, 2])
@pytest.mark.parametrize("init", ["identity", "paper"])
@pytest.mark.parametrize(
    ("masks", "present"),
    [(None, None), ({"a": MASK}, None), (None, {"b": HERE}), ({"a": MASK, "b": MASK[:, 2:]}, {"a": HERE})],
)
def test_gradcheck_with_masks_segments_and_presence(segments, init, masks, present):
    check({"init": init, "segments": segments, "lowest_attention": 0.2}, masks, present)


def check(options, masks=None, present=None, training=True):
    module = randomised(MSAF({"a": 3, "b": 2}, 2, reduction=1, **options)).double().train(training)
    features = torch.randn(3, 3, 5, dtype=torch.float64), torch.randn(3, 2, 3, 2, dtype=torch.float64)
    names = [name for name, _ in module.named_parameters()]
    buffers = dict(module.named_buffers())

    def call(a, b, *parameters):
        state = dict(zip(names, parameters, strict=True)) | {name: value.clone() for name, value in buffers.items()}
        given = ({"a": a, "b": b}, masks, present)
        outputs, attention = torch.func.functional_call(module, state, given, {"return_attention": True})
        return *outputs.values(), *attention.values()

    inputs = [value.detach().requires_grad_() for value in (*features, *module.parameters())]
    assert torch.autograd.gradcheck(call, inputs)
