"""Disturbed test inputs."""

import pytest
import torch

from msafusion.compare.conditions import NOISE, SHIFTS, conditions_for

INPUTS = {"signal": torch.randn(4, 2, 20), "vector": torch.randn(4, 3), "clip": torch.randn(4, 1, 10, 2, 2)}


def test_every_stream_is_left_out_and_made_noisy_and_those_with_time_are_shifted():
    names = set(conditions_for(INPUTS, 0))
    assert names == (
        {f"without {stream}" for stream in INPUTS}
        | {f"noise {strength:g} on {stream}" for stream in INPUTS for strength in NOISE}
        | {f"{stream} shifted by {part:g}" for stream in ("signal", "clip") for part in SHIFTS}
    )


def test_a_single_stream_has_no_conditions():
    assert conditions_for({"signal": INPUTS["signal"]}, 0) == {}


def test_a_stream_is_left_out_and_the_others_stay():
    assert conditions_for(INPUTS, 0)["without vector"](INPUTS, {}).keys() == {"signal", "clip"}


def test_noise_has_the_strength_it_says_and_is_the_same_for_every_method():
    inputs = {"a": torch.zeros(100, 50), "b": torch.zeros(100, 2)}
    noisy = conditions_for(inputs, 3)["noise 0.5 on a"](inputs, {})
    assert noisy["a"].std() == pytest.approx(0.5, rel=0.05)
    assert torch.equal(noisy["b"], inputs["b"])
    assert torch.equal(conditions_for(inputs, 3)["noise 0.5 on a"](inputs, {})["a"], noisy["a"])
    assert not torch.equal(conditions_for(inputs, 4)["noise 0.5 on a"](inputs, {})["a"], noisy["a"])
    assert not torch.equal(conditions_for(inputs, 3)["noise 1 on a"](inputs, {})["a"], 2 * noisy["a"])


def test_a_shifted_stream_starts_later_by_a_part_of_its_own_length():
    steps = torch.arange(1.0, 9).repeat(2, 1, 1)
    inputs = {"a": steps, "b": torch.zeros(2, 1)}
    late = conditions_for(inputs, 0)["a shifted by 0.25"]
    assert late(inputs, {})["a"][0, 0].tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
    shorter = late(inputs, {"a": torch.tensor([8, 4])})["a"]
    assert shorter[1, 0].tolist() == [0, 1, 2, 3, 0, 0, 0, 0]
    clip = {"a": steps.reshape(2, 1, 8, 1, 1).expand(2, 1, 8, 2, 3), "b": torch.zeros(2, 1)}
    assert late(clip, {})["a"][0, 0, :, 1, 2].tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
