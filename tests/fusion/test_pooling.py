"""Pooled maps: their mean, and the hand-written gradients of large ones against plain autograd."""

import threading

import pytest
import torch
from large_maps import BY_HAND, PLAIN, is_by_hand, squares
from random_cases import randomised
from torch.testing import assert_close

from msafusion import MSAF
from msafusion.fusion import pooling
from msafusion.fusion.pooling import PooledMap


def module_and_features(dtype=torch.float64, init="paper"):
    torch.manual_seed(1)
    module = randomised(MSAF({"a": 5, "b": 4}, 4, reduction=1, init=init, lowest_attention=0.2)).to(dtype)
    features = {"a": torch.randn(3, 5, 4, 2, dtype=dtype), "b": torch.randn(3, 4, 6, dtype=dtype)}
    return module, {name: feature.requires_grad_() for name, feature in features.items()}


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 2, 4), (2, 3, 2, 1, 4)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_mean_is_over_all_positions_in_float32_or_better(shape, dtype):
    feature = torch.randn(shape, dtype=dtype)
    exact = feature.double().reshape(2, 3, -1).mean(dim=2)
    mean = PooledMap(feature).mean
    assert mean.dtype == torch.promote_types(dtype, torch.float32)
    assert_close(mean[:, 0].double(), exact, rtol=1e-6, atol=1e-6)


def test_mean_of_many_half_precision_positions_does_not_overflow():
    mean = PooledMap(torch.full((1, 2, 1000), 6e4, dtype=torch.float16)).mean
    assert_close(mean, torch.full((1, 1, 2), 6e4), rtol=1e-3, atol=0)


def test_only_large_contiguous_maps_with_gradients_are_differentiated_by_hand(large_map):
    large_map(60)

    def by_hand(feature):
        return is_by_hand(PooledMap(feature).reweight(torch.ones(3, 1, 5, requires_grad=True)))

    assert by_hand(torch.randn(3, 5, 4, requires_grad=True))
    assert by_hand(torch.randn(3, 5, 2, 1, 2, requires_grad=True))
    assert not by_hand(torch.randn(3, 5, 3, requires_grad=True))  # small
    assert not by_hand(torch.randn(3, 4, 5, requires_grad=True).transpose(1, 2))  # not contiguous
    assert not by_hand(torch.randn(3, 5, 4))
    with torch.no_grad():
        assert not by_hand(torch.randn(3, 5, 4, requires_grad=True))


@pytest.mark.parametrize("elements", [1, 6, 10, 17, 1000])
@pytest.mark.parametrize("shape", [(3, 5, 4, 2), (3, 5, 1), (1, 1, 7), (2, 3, 4)])
def test_sum_of_products_for_every_size_of_the_scratch_buffer(large_map, elements, shape):
    large_map(elements)
    one, other = torch.randn(2, *shape, dtype=torch.float64)
    assert_close(pooling._sum_of_products(one, other), (one * other).flatten(2).sum(dim=2).flatten())


def attention_only(outputs, attention):
    return attention["a"].square().sum()


def outputs_and_attention(outputs, attention):
    return squares(outputs, attention) + attention_only(outputs, attention)


def one_stream(outputs, attention):
    return outputs["b"].square().sum()


def expanded_gradient(outputs, attention):
    return outputs["a"].sum() + outputs["b"].sum()


def gradient_of_another_layout(outputs, attention):
    weight = torch.arange(8, dtype=outputs["a"].dtype).reshape(4, 2)
    return (outputs["a"].transpose(2, 3).contiguous() * weight.T).pow(3).sum()


LOSSES = [squares, attention_only, outputs_and_attention, one_stream, expanded_gradient, gradient_of_another_layout]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("init", ["identity", "paper"])
def test_gradients_by_hand_equal_plain_autograd(large_map, loss, init):
    gradients = []
    for elements in (PLAIN, BY_HAND, 50):
        large_map(elements)
        module, features = module_and_features(init=init)
        outputs, attention = module(features, return_attention=True)
        assert is_by_hand(outputs["a"]) == (elements != PLAIN)
        loss(outputs, attention).backward()
        gradients.append([value.grad for value in [*features.values(), *module.parameters()]])
    assert gradients[0][0].abs().max() > 0
    assert_close(gradients[1], gradients[0])
    assert_close(gradients[2], gradients[0])


def test_gradients_by_hand_equal_plain_autograd_with_missing_streams(large_map):
    gradients = []
    for elements in (PLAIN, BY_HAND):
        large_map(elements)
        module, features = module_and_features()
        outputs = module(features, present={"a": torch.tensor([True, False, True])})
        assert is_by_hand(outputs["a"]) == (elements == BY_HAND)
        squares(outputs, None).backward()
        gradients.append([value.grad for value in [*features.values(), *module.parameters()]])
    assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_by_hand_in_half_precision(large_map, dtype):
    large_map(BY_HAND)
    module, features = module_and_features()
    squares(module(features), None).backward()
    halves = {name: feature.detach().to(dtype).requires_grad_() for name, feature in features.items()}
    outputs, attention = module.float()(halves, return_attention=True)
    assert is_by_hand(outputs["a"])
    squares(outputs, attention).backward()
    for name, half in halves.items():
        assert half.grad.dtype == dtype
        assert_close(half.grad.double(), features[name].grad, rtol=0.05, atol=0.05 * features[name].grad.abs().max())
        half.grad = None
    attention_only(*module(halves, return_attention=True)).backward()
    assert halves["a"].grad.dtype == dtype


def test_backward_twice_through_a_retained_graph_doubles_the_gradient(large_map):
    large_map(BY_HAND)
    module, features = module_and_features()
    loss = squares(module(features), None)
    loss.backward(retain_graph=True)
    once = [value.grad.clone() for value in [*features.values(), *module.parameters()]]
    loss.backward()
    assert_close([value.grad for value in [*features.values(), *module.parameters()]], [2 * value for value in once])


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_backward_that_stops_before_the_map_leaves_nothing_for_the_next(large_map, create_graph):
    large_map(BY_HAND)
    module, features = module_and_features()
    outputs, attention = module(features, return_attention=True)
    loss, inputs = squares(outputs, attention), list(features.values())
    expected = torch.autograd.grad(loss, inputs, retain_graph=True)
    only_attention = torch.autograd.grad(attention["a"].square().sum(), inputs, retain_graph=True)
    torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)  # reaches the gate, not the map
    assert_close(torch.autograd.grad(attention["a"].square().sum(), inputs, retain_graph=True), only_attention)
    torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
    assert_close(torch.autograd.grad(loss, inputs, create_graph=create_graph), expected)


def test_a_frozen_module_passes_gradients_through(large_map):
    gradients = []
    for elements in (PLAIN, BY_HAND):
        large_map(elements)
        module, features = module_and_features()
        squares(module.requires_grad_(False)(features), None).backward()
        gradients.append([feature.grad for feature in features.values()])
    assert_close(gradients[1], gradients[0])


def test_gradients_by_hand_under_activation_checkpointing(large_map):
    large_map(BY_HAND)
    module, features = module_and_features()
    squares(module.eval()(features), None).backward()
    expected = [value.grad.clone() for value in [*features.values(), *module.parameters()]]
    module.zero_grad()
    for feature in features.values():
        feature.grad = None
    squares(torch.utils.checkpoint.checkpoint(module, features, use_reentrant=False), None).backward()
    assert_close([value.grad for value in [*features.values(), *module.parameters()]], expected)


def test_torch_func_grad_takes_the_plain_path(large_map):
    large_map(BY_HAND)
    module, features = module_and_features()
    squares(module.eval()(features), None).backward()
    detached = {name: feature.detach() for name, feature in features.items()}
    gradients = torch.func.grad(lambda inputs: squares(module(inputs), None))(detached)
    assert_close(gradients, {name: feature.grad for name, feature in features.items()})


def test_two_backward_passes_at_once_keep_their_gates_apart(large_map):
    large_map(BY_HAND)
    module, features = module_and_features()
    loss = squares(module(features), None)
    expected = torch.autograd.grad(loss, list(features.values()), retain_graph=True)
    got = [[] for _ in range(4)]

    def work(results):
        results.extend(torch.autograd.grad(loss, list(features.values()), retain_graph=True) for _ in range(50))

    threads = [threading.Thread(target=work, args=(results,)) for results in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(results) for results in got] == [50] * 4
    for results in got:
        for gradients in results:
            assert_close(gradients, expected)
