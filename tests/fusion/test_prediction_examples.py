"""Methods that make one prediction: each against its paper's equation or numbers worked out by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from msafusion.fusion.block import BLOCK
from msafusion.fusion.centralnet import CentralNet
from msafusion.fusion.gmu import GMU
from msafusion.fusion.lmf import LMF
from msafusion.fusion.mcb import MCB, power_normalised
from msafusion.fusion.mfb import MFB
from msafusion.fusion.multiplicative import Multiplicative
from msafusion.fusion.tfn import TFN


def fill(tensor, values):
    with torch.no_grad():
        tensor.copy_(torch.as_tensor(values, dtype=tensor.dtype).reshape(tensor.shape))


def logits(*probabilities):
    return torch.tensor(probabilities, dtype=torch.float64).log()


def test_multiplicative_weighs_each_vote_by_how_unsure_the_others_are():
    method = Multiplicative({"a": 2, "b": 2, "c": 2}, beta=1.0)
    given = {"a": logits([0.9, 0.1]), "b": logits([0.4, 0.6]), "c": logits([0.5, 0.5])}
    first = (0.6 * 0.5) ** 0.5 * math.log(0.9) + (0.1 * 0.5) ** 0.5 * math.log(0.4) + 0.06**0.5 * math.log(0.5)
    second = (0.4 * 0.5) ** 0.5 * math.log(0.1) + (0.9 * 0.5) ** 0.5 * math.log(0.6) + 0.36**0.5 * math.log(0.5)
    assert_close(method(given), torch.tensor([[first, second]], dtype=torch.float64))
    pair = method(given, present={"c": torch.tensor([False])})  # the exponent is that of two networks
    assert_close(pair[0, 0].item(), 0.6 * math.log(0.9) + 0.1 * math.log(0.4))
    assert_close(method({"a": given["a"]}), given["a"])


def test_multiplicative_without_beta_adds_log_probabilities():
    given = {"a": torch.randn(4, 3), "b": torch.randn(4, 3)}
    expected = given["a"].log_softmax(dim=1) + given["b"].log_softmax(dim=1)
    assert_close(Multiplicative({"a": 3, "b": 3}, beta=0.0)(given), expected)


def test_multiplicative_is_exact_where_a_probability_rounds_to_one():
    sure = torch.tensor([[50.0, 0.0]], dtype=torch.float64, requires_grad=True)
    scores = Multiplicative({"a": 2, "b": 2}, beta=0.5)({"a": sure, "b": torch.zeros_like(sure)})
    # 1 - sigmoid(50) is exp(-50), where 1 - p is 0; log p_a itself is far below both
    assert_close(scores[0, 0].item(), math.exp(-25) * math.log(0.5), rtol=1e-4, atol=0)
    scores[:, 0].sum().backward()
    # the slope of (1 - p_a)^0.5 log p_b over a's logit is -0.5 p_a (1 - p_a)^0.5 log p_b
    assert_close(sure.grad[0, 0].item(), -0.5 * math.exp(-25) * math.log(0.5), rtol=1e-4, atol=0)
    certain = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    Multiplicative({"a": 3, "b": 3})({"a": certain, "b": certain.detach()}).sum().backward()
    assert certain.grad.isfinite().all()


def test_the_loss_of_multiplicative_is_minus_the_score_of_the_label():
    scores = torch.tensor([[-1.0, -2.0, -3.0], [-4.0, -5.0, -6.0]])
    assert Multiplicative({"a": 3}).loss(scores, torch.tensor([2, 0])).item() == 3.5


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_multiplicative_of_a_single_class_is_an_error(shape):
    with pytest.raises(ValueError, match=r"multiplicative head got logits of shape .*two classes.*two outputs"):
        Multiplicative({"a": 1})({"a": torch.randn(shape)})


def test_gmu_of_two_streams_shares_one_gate():
    method = GMU({"a": 1, "b": 1}, 1, hidden=1)
    for layer, weight in zip([*method.transforms, method.gate], ([2.0], [3.0], [0.5, -1.0]), strict=True):
        fill(layer.weight, weight)
    fill(method.linear.weight, [1.0])
    fill(method.linear.bias, [0.0])
    gate = 1 / (1 + math.exp(-(0.5 * 0.4 - 1.0 * 0.1)))
    expected = gate * math.tanh(2 * 0.4) + (1 - gate) * math.tanh(3 * 0.1)
    assert_close(method({"a": torch.tensor([[0.4]]), "b": torch.tensor([[0.1]])}).item(), expected)
    assert_close(method({"a": torch.tensor([[0.4]])}).item(), math.tanh(0.8) / (1 + math.exp(-0.2)))


def test_gmu_of_three_streams_gates_each():
    method = GMU({"a": 1, "b": 1, "c": 1}, 1, hidden=1)
    for layer in method.transforms:
        fill(layer.weight, [1.0])
    fill(method.gate.weight, [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    fill(method.linear.weight, [1.0])
    fill(method.linear.bias, [0.0])
    values = {"a": 0.3, "b": -0.7, "c": 1.1}
    expected = math.tanh(0.3) / (1 + math.exp(-0.3)) + math.tanh(-0.7) / (1 + math.exp(-1.1)) + math.tanh(1.1) / 2
    assert_close(method({name: torch.tensor([[value]]) for name, value in values.items()}).item(), expected)


def test_tfn_holds_every_product_of_streams_and_ones():
    method = TFN({"a": 2, "b": 1}, 1, hidden=None, post_hidden=6).eval()
    fill(method.post.weight, torch.eye(6))
    fill(method.post.bias, torch.zeros(6))
    fill(method.linear.weight, [1.0, 10.0, 100.0, 1000.0, 1e4, 1e5])
    fill(method.linear.bias, [0.0])
    a, b = torch.tensor([[2.0, 3.0]]), torch.tensor([[4.0]])
    # [2, 3, 1] x [4, 1] = 8 2 12 3 4 1
    expected = 8 + 20 + 1200 + 3000 + 4e4 + 1e5
    assert method({"a": a, "b": b}).item() == expected
    assert method({"a": a}).item() == 20 + 3000 + 1e5


def test_tfn_keeps_only_the_one_of_a_missing_stream_that_it_reduces():
    method = TFN({"a": 1, "b": 1}, 1, hidden=1, post_hidden=4).eval()
    for index in range(2):
        fill(method.get_parameter(f"reductions.{index}.0.weight"), [1.0])
        fill(method.get_parameter(f"reductions.{index}.0.bias"), [5.0])
    fill(method.post.weight, torch.eye(4))
    fill(method.post.bias, torch.zeros(4))
    fill(method.linear.weight, [1.0, 10.0, 100.0, 1000.0])
    fill(method.linear.bias, [0.0])
    two = torch.full((2, 1), 2.0)
    # [7, 1] x [7, 1] = 49 7 7 1; without the second 0 7 0 1
    prediction = method({"a": two, "b": two}, present={"b": torch.tensor([True, False])})
    assert prediction.tolist() == [[49 + 70 + 700 + 1000], [70 + 1000]]


def test_lmf_is_a_full_tensor_contracted_with_the_outer_product():
    method = LMF({"a": 2, "b": 3, "c": 1}, 4, rank=5).double()
    fill(method.bias, torch.randn(4))
    streams = {name: torch.randn(6, count, dtype=torch.float64) for name, count in method.channels.items()}
    a, b, c = (torch.cat([stream, torch.ones(6, 1, dtype=torch.float64)], dim=1) for stream in streams.values())
    tensor = torch.einsum("r,rio,rjo,rko->ijko", method.rank_weight, *method.factors)
    outer = torch.einsum("bi,bj,bk->bijk", a, b, c)
    assert_close(method(streams), torch.einsum("bijk,ijko->bo", outer, tensor) + method.bias)


def test_lmf_starts_with_factors_near_one_whatever_the_number_of_streams():
    method = LMF({f"stream{number}": 8 for number in range(12)}, 3, rank=4)
    streams = {name: (0.1 * torch.randn(16, 8)).requires_grad_() for name in method.channels}
    method(streams).square().sum().backward()
    assert min(stream.grad.norm() for stream in streams.values()) > 1e-2


@pytest.mark.parametrize("sketch", [16, 7])
def test_mcb_is_the_count_sketch_of_the_outer_product(sketch):
    method = MCB({"a": 4, "b": 3, "c": 2}, 2, sketch=sketch).double()
    streams = {name: torch.randn(2, count, dtype=torch.float64) for name, count in method.channels.items()}
    hashes, signs = method.hashes.tolist(), method.signs.tolist()
    expected = torch.zeros(2, sketch, dtype=torch.float64)
    for i in range(4):
        for j in range(3):
            for k in range(2):
                cell = (hashes[i] + hashes[4 + j] + hashes[7 + k]) % sketch
                product = streams["a"][:, i] * streams["b"][:, j] * streams["c"][:, k]
                expected[:, cell] += signs[i] * signs[4 + j] * signs[7 + k] * product
    assert_close(method.pooled(streams), expected)


def test_mcb_leaves_a_missing_stream_out_of_the_product():
    method = MCB({"a": 4, "b": 3}, 2, sketch=16)
    streams = {"a": torch.randn(2, 4), "b": torch.randn(2, 3)}
    sketch_of_a = torch.zeros(2, 16)
    for i in range(4):
        sketch_of_a[:, method.hashes[i]] += method.signs[i] * streams["a"][:, i]
    pooled = method.pooled(streams, present={"b": torch.tensor([False, True])})
    assert_close(pooled[0], sketch_of_a[0])
    assert_close(pooled[1], method.pooled(streams)[1])


def test_a_seed_of_mcb_draws_signs_and_cells_and_they_are_saved():
    method, again, other = (MCB({"a": 40}, 2, sketch_seed=seed) for seed in (0, 0, 1))
    assert torch.equal(method.hashes, again.hashes)
    assert not torch.equal(method.hashes, other.hashes)
    assert set(method.signs.tolist()) == {-1, 1}
    other.load_state_dict(method.state_dict())
    assert torch.equal(method.hashes, other.hashes)
    assert torch.equal(method.signs, other.signs)


def test_power_normalised_takes_signed_roots_and_brings_them_to_length_one():
    given = torch.tensor([[9.0, -16.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    normalised = power_normalised(given)
    assert_close(normalised, torch.tensor([[0.6, -0.8, 0.0], [0.0, 0.0, 0.0]]))
    normalised.sum().backward()
    assert given.grad.isfinite().all()


def test_mfb_sums_neighbours_of_the_product():
    method = MFB({"a": 1, "b": 1}, 2, factor=2, hidden=2).eval()
    fill(method.projections[0].weight, [1.0, 2.0, 3.0, 4.0])
    fill(method.projections[1].weight, [1.0, 4.0, 0.0, -4.0])
    for layer in method.projections:
        fill(layer.bias, torch.zeros(4))
    fill(method.linear.weight, torch.eye(2))
    fill(method.linear.bias, torch.zeros(2))
    one = torch.ones(1, 1)
    # [1 + 8, 0 - 16]: roots 3 and -4, of length 5
    assert_close(method({"a": one, "b": one}), torch.tensor([[0.6, -0.8]]))
    # [1 + 2, 3 + 4] without the second
    assert_close(method({"a": one}), torch.tensor([[0.3**0.5, 0.7**0.5]]))


def test_block_is_a_bilinear_map_with_a_block_superdiagonal_tensor():
    method = BLOCK({"a": 3, "b": 2}, 6, hidden=6, chunks=2, rank=2).double()
    for bias in (method.merge_bias, method.linear.bias):
        fill(bias, torch.zeros_like(bias))
    fill(method.linear.weight, torch.eye(6))
    core = torch.zeros(6, 6, 6, dtype=torch.float64)  # first stream, second stream, output
    for chunk in range(2):
        part = slice(3 * chunk, 3 * chunk + 3)
        left, right = (method.merge_weight[stream, chunk].unflatten(0, (2, 3)) for stream in range(2))
        core[part, part, part] = torch.einsum("roi,roj->ijo", left, right).detach()
    given = {name: torch.randn(5, count, dtype=torch.float64) for name, count in method.channels.items()}
    a, b = (projection(stream) for projection, stream in zip(method.projections, given.values(), strict=True))
    bilinear = torch.einsum("bi,bj,ijo->bo", a, b, core).unflatten(1, (2, 3))
    expected = bilinear.sign() * bilinear.abs().sqrt()
    expected = expected / expected.norm(dim=2, keepdim=True)
    assert_close(method(given), expected.flatten(1), rtol=1e-3, atol=1e-3)


def test_block_leaves_a_missing_stream_out_of_the_product():
    method = BLOCK({"a": 1, "b": 1}, 2, hidden=2, chunks=1, rank=2)
    fill(method.projections[0].weight, [1.0, 2.0])
    fill(method.projections[0].bias, [0.0, 0.0])
    fill(method.merge_weight[0], [[1.0, 0.0], [0.0, -1.0], [0.0, 4.0], [2.0, -8.0]])  # rank 0, then rank 1
    fill(method.merge_bias[0], torch.zeros(1, 4))
    fill(method.linear.weight, torch.eye(2))
    fill(method.linear.bias, torch.zeros(2))
    # [1, 2] -> [1, -2] + [8, -14] = [9, -16]
    assert_close(method({"a": torch.ones(1, 1)}), torch.tensor([[0.6, -0.8]]))


def test_centralnet_takes_in_one_level_after_the_other():
    method = CentralNet({"a1": 1, "a2": 1, "b1": 1}, 1, levels=[["a1", "b1"], ["a2"]], hidden=1)
    layers = [projection for level in method.projections for projection in level]
    for layer, weight in zip(layers, (1.0, 10.0, 100.0), strict=True):
        fill(layer.weight, [weight])
    for layer, weight, bias in zip([*method.central, method.linear], (1.0, -1.0, 2.0), (0.5, 7.0, 0.25), strict=True):
        fill(layer.weight, [weight])
        fill(layer.bias, [bias])
    given = {"a1": torch.tensor([[1.0]]), "a2": torch.tensor([[-3.0]]), "b1": torch.tensor([[2.0]])}
    first = 1.0 + 20.0 + 0.5  # all alphas start at 1
    second = -(-300.0 + first) + 7.0
    assert method(given).item() == 2 * second + 0.25
    fill(method.alphas[0], [2.0, 3.0])  # a1, b1
    fill(method.alphas[1], [0.5, 4.0])  # a2, the central network
    first = 2.0 + 60.0 + 0.5
    assert method(given).item() == 2 * max(0.0, -(-150.0 + 4 * first) + 7.0) + 0.25
    fill(method.alphas[1], [0.5, 1.0])
    assert method(given).item() == 2 * (-(-150.0 + first) + 7.0) + 0.25
    del given["b1"]
    assert method(given).item() == 2 * (-(-150.0 + 2.0 + 0.5) + 7.0) + 0.25
