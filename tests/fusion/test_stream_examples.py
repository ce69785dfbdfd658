"""Each method between layers against the equations of its paper, written out once more."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from msafusion.fusion.bottleneck import BottleneckTokens
from msafusion.fusion.cross_attention import CrossAttention
from msafusion.fusion.mmtm import MMTM
from msafusion.fusion.squeeze_excitation import SqueezeExcitation
from msafusion.fusion.tokens import pool_positions, positions_of, sinusoids


def randomised(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module.double().eval().requires_grad_(False)


def numbers(module):
    return {name: value.numpy() for name, value in module.state_dict().items()}


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize(
    ("method", "hidden", "highest"),
    [
        (MMTM, 2, 2.0),
        (lambda channels: MMTM(channels, reduction=2), 4, 2.0),
        (lambda channels: MMTM(channels, reduction=100), 1, 2.0),
        (lambda channels: SqueezeExcitation(channels, init="paper"), 4, 1.0),
        (lambda channels: SqueezeExcitation(channels, reduction=1), 8, 2.0),
    ],
)
def test_gates_are_those_of_the_papers(method, hidden, highest):
    module = randomised(method({"video": 5, "audio": 3}))
    video, audio = torch.randn(2, 5, 3, 2).double(), torch.randn(2, 3, 4).double()
    own = numbers(module)
    squeezed = np.concatenate([video.numpy().mean(axis=(2, 3)), audio.numpy().mean(axis=2)], axis=1)
    joint = np.maximum(squeezed @ own["squeeze.weight"].T + own["squeeze.bias"], 0)
    assert joint.shape == (2, hidden)
    gates = highest * sigmoid(joint @ own["excite.weight"].T + own["excite.bias"])
    outputs = module({"video": video, "audio": audio})
    assert_close(outputs["video"].numpy(), video.numpy() * gates[:, :5, None, None])
    assert_close(outputs["audio"].numpy(), audio.numpy() * gates[:, 5:, None])


def test_a_published_start_of_squeeze_and_excitation_halves_what_has_no_evidence():
    module = SqueezeExcitation({"video": 3}, init="paper")
    nn.init.zeros_(module.excite.weight)
    nn.init.zeros_(module.excite.bias)
    assert_close(module({"video": torch.full((1, 3, 2), 4.0)})["video"], torch.full((1, 3, 2), 2.0))


def layer_norm(tokens, own, name):
    centred = tokens - tokens.mean(axis=-1, keepdims=True)
    scale = np.sqrt(centred.var(axis=-1, keepdims=True) + 1e-5)
    return centred / scale * own[f"{name}.weight"] + own[f"{name}.bias"]


def linear(inputs, own, name):
    return inputs @ own[f"{name}.weight"].T + own[f"{name}.bias"]


def attended(queries, sources, own, name):
    """Two heads, one after the other."""
    query, key, value = (
        linear(queries, own, f"{name}.query"),
        *(linear(sources, own, f"{name}.{part}") for part in ("key", "value")),
    )
    size, heads = query.shape[-1] // 2, []
    for head in (slice(0, size), slice(size, 2 * size)):
        logits = query[:, head] @ key[:, head].T / math.sqrt(size)
        weight = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        heads.append(weight @ value[:, head])
    return np.concatenate(heads, axis=1)


def tokens(feature, times, own, name):
    """Of one sample: (channels, positions) -> (positions, width)."""
    projected = linear(feature.T, own, f"{name}.project")
    if times is not None:
        half = projected.shape[1] // 2
        angles = 100 * np.array(times)[:, None] / 10000 ** (np.arange(half) / half)
        projected = projected + np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return layer_norm(projected, own, f"{name}.norm")


VIDEO_TIMES = [1 / 6, 1 / 6, 3 / 6, 3 / 6, 5 / 6, 5 / 6]  # three steps of two joints


def example():
    return {
        "video": torch.randn(1, 5, 3, 2).double(),
        "audio": torch.randn(1, 4, 2).double(),
        "face": torch.randn(1, 3).double(),
    }


def test_cross_attention_is_the_softmax_formula():
    features = example()
    module = randomised(CrossAttention({"video": 5, "audio": 4, "face": 3}, width=4, num_heads=2))
    own, outputs = numbers(module), module(features)
    embedded = [
        tokens(features["video"][0].flatten(1).numpy(), VIDEO_TIMES, own, "embed.0"),
        tokens(features["audio"][0].numpy(), [0.25, 0.75], own, "embed.1"),
        tokens(features["face"].numpy().T, None, own, "embed.2"),
    ]
    pair = 0
    for target, name in enumerate(features):
        message = 0
        for source in range(3):
            if source != target:
                message = message + attended(embedded[target], embedded[source], own, f"attend.{pair}")
                pair += 1
        feature = features[name][0].numpy()
        change = (message @ own[f"output.{target}.weight"].T).T.reshape(feature.shape)
        assert_close(outputs[name][0].numpy(), feature + change)


def test_attention_is_that_of_torch_with_the_same_weights():
    module = randomised(CrossAttention({"video": 5, "audio": 4}, width=6, num_heads=3))
    ours, theirs = module.attend[0], nn.MultiheadAttention(6, 3, batch_first=True).double()
    maps = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.data = torch.cat([part.weight.data for part in maps])
    theirs.in_proj_bias.data = torch.cat([part.bias.data for part in maps])
    theirs.out_proj.weight.data = torch.eye(6).double()
    theirs.out_proj.bias.data.zero_()
    features = {"video": torch.randn(2, 5, 3).double(), "audio": torch.randn(2, 4, 7).double()}
    real = torch.tensor([[True] * 7, [False, True, True, False, True, True, False]])
    features["audio"] = features["audio"].masked_fill(~real[:, None], 0)
    queries = module.embed[0](positions_of(features["video"]))
    sources = module.embed[1](positions_of(features["audio"], real))
    expected, _ = theirs(queries.values, sources.values, sources.values, key_padding_mask=~real)
    assert_close(ours(queries.values, sources), expected)
    change = module(features, {"audio": real})["video"] - features["video"]
    assert_close(change, module.output[0](expected).transpose(1, 2))


def test_a_bottleneck_is_equations_8_and_9():
    features = example()
    module = randomised(BottleneckTokens({"video": 5, "audio": 4, "face": 3}, num_tokens=3, width=4, num_heads=2))
    own, everyone = numbers(module), torch.ones(1, dtype=torch.bool)
    embedded = {
        0: tokens(features["video"][0].flatten(1).numpy(), VIDEO_TIMES, own, "embed.0"),
        1: tokens(features["audio"][0].numpy(), [0.25, 0.75], own, "embed.1"),
        2: tokens(features["face"].numpy().T, None, own, "embed.2"),
    }
    for missing in (None, 2):
        present = {"face": ~everyone} if missing else {"audio": everyone}
        outputs, learned = module(features, None, present), own["tokens"]
        queries = layer_norm(learned, own, "token_norm")
        streams = [stream for stream in embedded if stream != missing]
        filled = [learned + attended(queries, embedded[stream], own, f"collect.{stream}") for stream in streams]
        fused = layer_norm(np.mean(filled, axis=0), own, "fused_norm")
        for stream in streams:
            feature = features[list(features)[stream]][0].numpy()
            message = attended(embedded[stream], fused, own, f"distribute.{stream}")
            change = (message @ own[f"output.{stream}.weight"].T).T.reshape(feature.shape)
            assert_close(outputs[list(features)[stream]][0].numpy(), feature + change)


def test_sources_are_pooled_in_even_parts_of_each_samples_own_real_steps():
    feature = torch.arange(6.0).expand(2, 1, 6)
    real = torch.tensor([[True] * 6, [False, True, True, False, False, True]])
    values, times, kept = pool_positions(positions_of(feature.masked_fill(~real[:, None], 0), real), 4)
    assert_close(values[:, :, 0, 0], torch.tensor([[0.5, 2.0, 3.5, 5.0], [1.0, 2.0, 5.0, 0.0]]))
    assert_close(times[0], torch.tensor([1 / 8, 3 / 8, 5 / 8, 7 / 8]))
    assert_close(times[1, :3], torch.tensor([1 / 6, 3 / 6, 5 / 6]))
    assert kept.tolist() == [[True] * 4, [True, True, True, False]]
    without = pool_positions(positions_of(feature), 4)
    assert_close(without.values[0], values[0])
    assert without.real is None


@pytest.mark.parametrize(
    ("shape", "kept"),
    [((5,), (1, 1)), ((9,), (1, 1)), ((5, 9), (9, 1)), ((5, 30), (16, 1)), ((5, 3, 4), (3, 4)), ((5, 9, 4), (4, 4))]
    + [((5, 9, 5), (9, 1)), ((5, 30, 2, 2), (4, 4)), ((5, 30, 3, 2), (16, 1))],
)
def test_positions_beyond_time_stay_where_they_are_few(shape, kept):
    stream = pool_positions(positions_of(torch.randn(2, *shape)), 16)
    assert stream.values.shape == (2, *kept, 5 if len(shape) > 1 or shape == (5,) else 9)


def test_steps_at_the_same_time_have_the_same_embedding():
    slow, fast = (positions_of(torch.zeros(1, 2, steps)).times for steps in (3, 9))
    assert_close(sinusoids(slow, 5)[0, 1], sinusoids(fast, 5)[0, 4])
    expected = [math.sin(1.0), math.sin(0.01), math.cos(1.0), math.cos(0.01)]  # step 1, wavelengths 2 pi and 200 pi
    assert_close(sinusoids(torch.tensor([[0.01]]), 4)[0, 0], torch.tensor(expected))
