"""Block dropout: whole blocks of a sample, scaled once, still in the softmax."""

import pytest
import torch
from random_cases import randomised
from torch.testing import assert_close

from msafusion import MSAF


def new_module(**options):
    """With init="identity" a new module multiplies by the dropout's factor and nothing else."""
    return MSAF({"a": 8, "b": 6}, 4, norm="none", **options)


def block_factors(module, batch):
    """What every block of every sample and segment is multiplied by, (batch, segments, blocks of a)."""
    time = module.segments
    output = module({"a": torch.ones(batch, 8, time), "b": torch.ones(batch, 6, time)})["a"]
    per_block = output.unflatten(1, (2, 4))
    assert torch.equal(per_block, per_block[:, :, :1].expand_as(per_block))  # all channels of a block alike
    return per_block[:, :, 0].transpose(1, 2)


@pytest.mark.parametrize("probability", [0.1, 0.25, 0.5, 0.9])
def test_survivors_are_scaled_once(probability):
    factors = block_factors(new_module(block_dropout=probability), 200)
    assert_close(factors.unique(), torch.tensor([0.0, 1 / (1 - probability)]))


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.8])
def test_the_expected_output_is_the_output_without_dropout(probability):
    factors = block_factors(new_module(block_dropout=probability), 20000)
    deviation = (probability / (1 - probability) / factors.numel()) ** 0.5
    assert abs(factors.mean().item() - 1) < 5 * deviation


def test_blocks_are_dropped_independently_per_sample_segment_and_block():
    dropped = block_factors(new_module(block_dropout=0.5, segments=3), 8000) == 0  # (samples, 3 segments, 2 blocks)
    correlation = torch.corrcoef(dropped.flatten(1).T.float())
    assert (correlation - torch.eye(6)).abs().max() < 5 / 8000**0.5
    next_sample = torch.corrcoef(torch.stack([dropped[:-1].flatten(), dropped[1:].flatten()]).float())[0, 1]
    assert next_sample.abs() < 5 / 48000**0.5


def test_streams_are_dropped_independently():
    ones = {"a": torch.ones(8000, 8), "b": torch.ones(8000, 6)}
    outputs = new_module(block_dropout=0.5)(ones)
    first_blocks = torch.stack([outputs["a"][:, 0], outputs["b"][:, 0]])
    assert torch.corrcoef(first_blocks)[0, 1].abs() < 5 / 8000**0.5


def test_evaluation_is_not_affected():
    features = {"a": torch.randn(3, 8, 5), "b": torch.randn(3, 6, 2)}
    module = randomised(new_module(block_dropout=0.9)).eval()
    plain = new_module().eval()
    plain.load_state_dict(module.state_dict())
    assert_close(module(features), plain(features), rtol=0, atol=0)


@pytest.mark.parametrize("init", ["identity", "paper"])
def test_a_dropped_block_adds_nothing_to_the_join_but_stays_in_the_softmax(init):
    options = {"block_dropout": 0.5, "lowest_attention": 0.25, "init": init, "reduction": 2}
    module = randomised(new_module(**options))
    features = {"a": torch.randn(64, 8), "b": torch.randn(64, 6)}
    outputs, attention = module(features, return_attention=True)
    blocks = torch.cat([features["a"], features["b"], torch.zeros(64, 2)], dim=1).unflatten(1, (4, 4))
    output = torch.cat([outputs["a"], outputs["b"], torch.zeros(64, 2)], dim=1).unflatten(1, (4, 4))
    factor = 2.0 * (output[:, :, 0] != 0)
    assert 0.3 < (factor == 0).float().mean() < 0.7

    joined = (blocks * factor.unsqueeze(2)).sum(dim=1)
    joint = torch.relu(joined @ module.joint_weight[0].T + module.joint_bias[0])
    logits = torch.einsum("nci,bi->bnc", module.block_weight[0], joint) + module.block_bias[0]
    expected = torch.softmax(logits / {"identity": 0.3, "paper": 1.0}[init], dim=1)
    assert_close(torch.cat(list(attention.values()), dim=2)[:, 0], expected)
    weight = expected * (4 if init == "identity" else 1)
    assert_close(output, (0.25 + 0.75 * weight) * blocks * factor.unsqueeze(2))


def test_the_backward_pass_uses_the_blocks_that_were_dropped():
    feature = torch.randn(50, 8, 3, requires_grad=True)
    output = new_module(block_dropout=0.5)({"a": feature, "b": torch.randn(50, 6)})["a"]
    output.sum().backward()
    assert_close(feature.grad, (output / feature).detach())


def test_dropout_follows_the_seed():
    module, draws = new_module(block_dropout=0.5), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(block_factors(module, 20))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
