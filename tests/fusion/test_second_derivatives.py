"""Second derivatives through pooled maps whose gradients are written by hand, against plain autograd."""

import pytest
import torch
from large_maps import BY_HAND, PLAIN, is_by_hand, squares
from random_cases import randomised
from torch.testing import assert_close

from msafusion import MSAF


def test_gradcheck_and_gradgradcheck(large_map):
    large_map(8)
    module = randomised(MSAF({"a": 3, "b": 2}, 2, reduction=1, norm="none", lowest_attention=0.2)).double()
    names = [name for name, _ in module.named_parameters()]

    def call(a, b, *parameters):
        given = dict(zip(names, parameters, strict=True))
        outputs, attention = torch.func.functional_call(module, given, ({"a": a, "b": b},), {"return_attention": True})
        assert is_by_hand(outputs["a"])
        return *outputs.values(), attention["a"]

    features = torch.randn(2, 3, 2, 2, dtype=torch.float64), torch.randn(2, 2, 4, dtype=torch.float64)
    inputs = [value.detach().requires_grad_() for value in (*features, *module.parameters())]
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


def gated(scale, feature, parameters, module):
    """Sum of squares of what leaves, of a stream that a scale before the fusion has changed."""
    names = [name for name, _ in module.named_parameters()]
    given = dict(zip(names, parameters, strict=True))
    features = {"a": feature * scale, "b": feature.flatten(2).sum(2)[:, :2]}
    return squares(torch.func.functional_call(module, given, (features,)), None)


def penalty(*inputs):
    scale, feature, *_ = inputs
    (gradient,) = torch.autograd.grad(gated(*inputs), feature, create_graph=True)
    loss = gradient.square().sum()
    return torch.autograd.grad(loss, scale, retain_graph=True)[0], torch.autograd.grad(loss, scale)[0]


def hessian_of_autograd(*inputs, **options):
    scale, *rest = inputs
    return torch.autograd.functional.hessian(lambda value: gated(value, *rest), scale, **options)


def hessian_of_func(*inputs):
    scale, *rest = inputs
    return torch.func.hessian(lambda value: gated(value, *rest))(scale)


def forward_over_reverse(*inputs):
    scale, feature, *rest = inputs
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(feature.detach(), torch.ones_like(feature)).requires_grad_()
        (gradient,) = torch.autograd.grad(gated(scale, dual, *rest), scale)
        return torch.autograd.forward_ad.unpack_dual(gradient).tangent


def first_order_after_second(*inputs):
    scale, feature, *_ = inputs
    loss = gated(*inputs)
    (gradient,) = torch.autograd.grad(loss, feature, create_graph=True)
    return torch.autograd.grad(loss + gradient.pow(3).sum(), (scale, feature))


def batched_backward(*inputs):
    scale, *_ = inputs
    return torch.autograd.grad(gated(*inputs), scale, torch.tensor([1.0, 2.0]).double(), is_grads_batched=True)[0]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, in forward mode
@pytest.mark.parametrize(
    "call",
    [
        penalty,
        hessian_of_autograd,
        lambda *inputs: hessian_of_autograd(*inputs, vectorize=True),
        lambda *inputs: hessian_of_autograd(*inputs, vectorize=True, outer_jacobian_strategy="forward-mode"),
        hessian_of_func,
        forward_over_reverse,
        first_order_after_second,
        batched_backward,
    ],
)
def test_second_derivatives_of_a_learned_gate_equal_plain_autograd(large_map, call):
    results = []
    for elements in (PLAIN, BY_HAND):
        large_map(elements)
        torch.manual_seed(2)
        module = randomised(MSAF({"a": 4, "b": 2}, 2, reduction=1, norm="none", init="paper")).double()
        scale = torch.rand(1, 4, 1, dtype=torch.float64).requires_grad_()
        feature = torch.randn(3, 4, 6, dtype=torch.float64).requires_grad_()
        parameters = [parameter.detach().requires_grad_() for parameter in module.parameters()]
        results.append(call(scale, feature, parameters, module))
    assert_close(results[1], results[0])
    assert any(part.abs().max() > 1e-6 for part in torch.utils._pytree.tree_leaves(results[0]))
