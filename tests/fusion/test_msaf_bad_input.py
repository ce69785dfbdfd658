"""Mistakes are refused with a ValueError that says what was got, what was expected and what to do."""

import re

import pytest
import torch

from msafusion import MSAF

TRUE = torch.ones(2, dtype=torch.bool)


def features(**changes):
    good = {"video": torch.randn(2, 8, 6, 3), "audio": torch.randn(2, 6, 5)}
    return {**good, **changes}


def refused(*parts):
    """pytest.raises for a ValueError whose message has these parts in this order."""
    return pytest.raises(ValueError, match=".*".join(map(re.escape, parts)))


BAD_FEATURES = {
    "no stream": ({}, ("got no stream", "expected at least one of video, audio", "pass {name: tensor}")),
    "unknown stream": (
        features(vidoe=torch.randn(2, 8)),
        ("unknown stream 'vidoe'", "expected one of the declared", "did you mean 'video'?"),
    ),
    "wrong channels": (
        features(audio=torch.randn(2, 5, 6)),
        ("'audio' has 5 channels", "(2, 5, 6)", "expected 6 on axis 1", "pass channels={'audio': 5} or move"),
    ),
    "no channel axis": (
        features(audio=torch.randn(2)),
        ("'audio' has shape (2,)", "expected (batch, channels, *positions)", "add the missing axes"),
    ),
    "batch mismatch": (
        features(audio=torch.randn(3, 6, 5)),
        ("'audio' has a batch of 3", "expected 2 as in stream 'video'", "give every stream the same samples"),
    ),
    "no position": (
        features(audio=torch.randn(2, 6, 0)),
        ("'audio' has shape (2, 6, 0)", "expected at least one on every axis", "leave the stream out"),
    ),
    "integers": (
        features(audio=torch.ones(2, 6, 5, dtype=torch.int64)),
        ("'audio' has type torch.int64", "expected floating point", "call .float()"),
    ),
}


@pytest.mark.parametrize(("given", "parts"), BAD_FEATURES.values(), ids=BAD_FEATURES)
def test_bad_features(given, parts):
    with refused(*parts):
        MSAF({"video": 8, "audio": 6}, 4)(given)


BAD_MASKS = {
    "time": (torch.ones(2, 4, dtype=torch.bool), ("has shape (2, 4)", "expected (batch, time) = (2, 5)")),
    "batch": (torch.ones(3, 5, dtype=torch.bool), ("has shape (3, 5)", "expected (batch, time) = (2, 5)")),
    "rank": (torch.ones(2, 1, 5, dtype=torch.bool), ("has shape (2, 1, 5)", "expected (batch, time) = (2, 5)")),
    "type": (torch.ones(2, 5), ("has shape (2, 5) and type torch.float32", "expected", "torch.bool")),
    "integer": (torch.ones(2, 5, dtype=torch.int64), ("type torch.int64", "expected", "torch.bool")),
}


@pytest.mark.parametrize(("mask", "parts"), BAD_MASKS.values(), ids=BAD_MASKS)
def test_bad_mask(mask, parts):
    with refused("mask for stream 'audio'", *parts, "give True where the data are real"):
        MSAF({"video": 8, "audio": 6}, 4)(features(), {"audio": mask})


def test_mask_of_a_vector():
    module = MSAF({"video": 8, "audio": 6}, 4)
    with refused("mask for stream 'audio' of shape (2, 6)", "expected a stream with a time axis", "use present"):
        module(features(audio=torch.randn(2, 6)), {"audio": torch.ones(2, 1, dtype=torch.bool)})


def test_mask_of_a_stream_that_is_not_there():
    with refused("mask for stream 'vidoe'", "not among the features", "did you mean 'video'?"):
        MSAF({"video": 8, "audio": 6}, 4)(features(), {"vidoe": torch.ones(2, 6, dtype=torch.bool)})


@pytest.mark.parametrize(
    ("here", "parts"),
    [
        (torch.ones(3, dtype=torch.bool), ("has shape (3,)", "expected (batch,) = (2,)")),
        (torch.ones(2, 1, dtype=torch.bool), ("has shape (2, 1)", "expected (batch,) = (2,)")),
        (torch.ones(2), ("type torch.float32", "expected", "torch.bool")),
    ],
)
def test_bad_presence(here, parts):
    with refused("present for stream 'audio'", *parts, "give True where the data are real"):
        MSAF({"video": 8, "audio": 6}, 4)(features(), present={"audio": here})


def test_presence_of_an_unknown_stream():
    with refused("present names the unknown stream 'vidoe'", "expected a declared one", "did you mean 'video'?"):
        MSAF({"video": 8, "audio": 6}, 4)(features(), present={"vidoe": TRUE})


NO_STREAM = {
    "not present": ({}, {"video": TRUE & False, "audio": torch.tensor([True, False])}),
    "no real step": ({"audio": torch.tensor([[True] * 5, [False] * 5])}, {"video": torch.tensor([True, False])}),
}


@pytest.mark.parametrize(("masks", "present"), NO_STREAM.values(), ids=NO_STREAM)
@pytest.mark.parametrize("segments", [1, 2])
def test_a_sample_without_any_stream(masks, present, segments):
    module = MSAF({"video": 8, "audio": 6}, 4, segments=segments)
    with refused("sample 1 of the batch has no stream at all", "expected at least one of video, audio", "leave the"):
        module(features(), masks, present)


def test_a_sample_without_the_only_stream_given():
    with refused("sample 0", "no stream at all", "expected at least one of audio"):
        MSAF({"video": 8, "audio": 6}, 4)({"audio": torch.randn(2, 6)}, present={"audio": ~TRUE})


def test_segments_of_a_stream_without_time():
    module = MSAF({"video": 8, "audio": 6}, 4, segments=2)
    with refused("'audio' has shape (2, 6) and no time axis", "expected (batch, channels, time", "use segments=1 or"):
        module(features(audio=torch.randn(2, 6)))


def test_more_segments_than_steps():
    module = MSAF({"video": 8, "audio": 6}, 4, segments=6)
    with refused("'audio' has 5 time steps", "expected at least segments = 6", "use fewer segments or longer samples"):
        module(features())


def test_more_segments_than_real_steps():
    module = MSAF({"video": 8, "audio": 6}, 4, segments=3)
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    with refused("'audio' has 2 time steps", "expected at least segments = 3", "use fewer segments or longer samples"):
        module(features(), {"audio": mask})
    module(features(), {"audio": mask}, {"audio": torch.tensor([True, False])})  # the short one is missing anyway


def test_batch_norm_of_one_sample_in_training_names_the_option():
    module, one = MSAF({"a": 8}, 4), {"a": torch.randn(1, 8, 3)}
    with refused(
        'norm="batch" got a batch of 1', "expected at least 2", 'use norm="layer" (or "none")', "module.eval()"
    ):
        module(one)
    assert torch.equal(module.eval()(one)["a"], one["a"])


@pytest.mark.parametrize("norm", ["layer", "none"])
@pytest.mark.parametrize("training", [False, True])
def test_other_norms_take_a_batch_of_one(norm, training):
    one = {"a": torch.randn(1, 8, 3)}
    assert torch.equal(MSAF({"a": 8}, 8, norm=norm).train(training)(one)["a"], one["a"])


@pytest.mark.parametrize("segments", [1, 2])
def test_an_empty_batch_gives_an_empty_batch(segments):
    outputs = MSAF({"a": 8}, 4, segments=segments).eval()({"a": torch.randn(0, 8, 3)})
    assert outputs["a"].shape == (0, 8, 3)


BAD_OPTIONS = [
    ({"channels": {}}, ("channels is empty", "expected at least one stream", "pass {name: number of channels}")),
    ({"channels": {"a": 0}}, ("channels['a'] is 0", "expected a positive integer", "set channels['a'] to 1 or more")),
    ({"block_channels": 0}, ("block_channels is 0", "expected a positive integer", "set block_channels to 1")),
    ({"reduction": -1}, ("reduction is -1", "expected a positive integer", "set reduction to 1 or more")),
    ({"segments": 0}, ("segments is 0", "expected a positive integer", "set segments to 1 or more")),
    ({"segments": True}, ("segments is True", "expected a positive integer", "set segments to 1 or more")),
    ({"reduction": 5}, ("reduction is 5", "expected at most block_channels = 4", "lower reduction")),
    ({"lowest_attention": float("nan")}, ("lowest_attention is nan", "expected", "[0.0, 1.0]", "set lowest_attention")),
    ({"lowest_attention": -0.1}, ("lowest_attention is -0.1", "expected", "[0.0, 1.0]", "set lowest_attention")),
    ({"lowest_attention": 1.5}, ("lowest_attention is 1.5", "expected", "[0.0, 1.0]", "set lowest_attention")),
    ({"block_dropout": float("nan")}, ("block_dropout is nan", "expected", "[0.0, 1.0)", "set block_dropout within")),
    ({"block_dropout": 1.0}, ("block_dropout is 1.0", "expected", "[0.0, 1.0)", "set block_dropout within")),
    ({"block_dropout": -0.5}, ("block_dropout is -0.5", "expected", "[0.0, 1.0)", "set block_dropout within")),
    ({"norm": "layer", "reduction": 4}, ('norm="layer"', "1 channel", "expected at least 2", "lower reduction or use")),
]


@pytest.mark.parametrize(("options", "parts"), BAD_OPTIONS)
def test_bad_option(options, parts):
    with refused(*parts):
        MSAF(**{"channels": {"a": 8, "b": 6}, "block_channels": 4, **options})


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"init": "unity"}, ("init is 'unity'", "expected 'identity' or 'paper'", "set init to one of them")),
        ({"norm": "instance"}, ("norm is 'instance'", "expected 'batch', 'layer' or 'none'", "set norm to one of")),
        ({"block_channels": 4.0}, ("block_channels is 4.0", "expected a positive integer", "set block_channels")),
        ({"channels": {"a": "8"}}, ("channels['a'] is '8'", "expected a positive integer", "set channels['a'] to")),
    ],
)
def test_option_of_the_wrong_type(options, parts, without_shape_checks):
    with refused(*parts):
        MSAF(**{"channels": {"a": 8, "b": 6}, "block_channels": 4, **options})
