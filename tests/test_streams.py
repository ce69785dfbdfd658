"""Names, checks and error messages that all fusion methods share."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from msafusion.streams import check_count, check_features, check_option, nearest, values_are_known

CHANNELS = {"video": 4, "audio": 3}


def features():
    return {"video": torch.zeros(2, 4, 5, 6), "audio": torch.zeros(2, 3)}


def test_good_features_give_the_batch_size():
    masks = {"video": torch.ones(2, 5, dtype=torch.bool)}
    present = {"video": torch.ones(2, dtype=torch.bool), "audio": torch.zeros(2, dtype=torch.bool)}
    assert check_features(features(), CHANNELS) == 2
    assert check_features(features(), CHANNELS, masks, present) == 2
    assert check_features({"audio": torch.zeros(7, 3)}, CHANNELS, {}, None) == 7


def test_presence_may_name_a_declared_stream_that_is_absent():
    assert (
        check_features({"audio": torch.zeros(2, 3)}, CHANNELS, None, {"video": torch.zeros(2, dtype=torch.bool)}) == 2
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_all_floating_point_types_are_taken(dtype):
    assert check_features({"audio": torch.zeros(2, 3, dtype=dtype)}, CHANNELS) == 2


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((), r"'audio' has shape \(\), expected \(batch, channels, \*positions\); add the missing axes"),
        ((3,), r"'audio' has shape \(3,\), expected \(batch, channels, \*positions\); add"),
        ((2, 4), r"'audio' has 4 channels .*expected 3 on axis 1; pass channels=\{'audio': 4\} or move"),
        (
            (2, 3, 0),
            r"'audio' has shape \(2, 3, 0\) and so no position, expected at least one .*; leave",
        ),
    ],
)
@pytest.mark.parametrize("order", [("audio", "video"), ("video", "audio")])
def test_a_wrong_shape_is_refused_wherever_the_stream_stands(shape, message, order):
    wrong = {**features(), "audio": torch.zeros(shape)}
    with pytest.raises(ValueError, match=message):
        check_features({name: wrong[name] for name in order}, CHANNELS)


@pytest.mark.parametrize(("first", "second"), [("audio", "video"), ("video", "audio")])
def test_another_batch_than_the_first_stream_has_is_refused(first, second):
    shapes = {"video": (4, 5), "audio": (3,)}
    wrong = {first: torch.zeros(2, *shapes[first]), second: torch.zeros(6, *shapes[second])}
    message = rf"'{second}' has a batch of 6, expected 2 as in stream '{first}'; give every stream the same samples"
    with pytest.raises(ValueError, match=message):
        check_features(wrong, CHANNELS)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_other_types_are_refused(dtype):
    with pytest.raises(ValueError, match=rf"'audio' has type {dtype}, expected floating point; call \.float\(\)"):
        check_features({"audio": torch.zeros(2, 3, dtype=dtype)}, CHANNELS)


def test_an_unknown_stream_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"unknown stream 'vidoe', expected .*declared.*; did you mean 'video'\?"):
        check_features({"vidoe": torch.zeros(2, 4)}, CHANNELS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vidoe", "did you mean 'video'?"),
        ("layer3.con1", "did you mean 'layer3.conv1' or 'layer3.conv2'?"),
        ("zzz", "choose from: video, layer3.conv1, layer3.conv2"),
    ],
)
def test_nearest_names(name, expected):
    assert nearest(name, iter(["video", "layer3.conv1", "layer3.conv2"])) == expected


def test_nearest_lists_at_most_twenty_names():
    known = [f"block{i}" for i in range(30)]
    assert nearest("zzz", known) == "choose from: " + ", ".join(known[:20]) + ", ..."
    assert nearest("zzz", known[:20]).endswith("block19")


def test_values_are_known_of_real_tensors_only():
    assert values_are_known(torch.zeros(2))
    with FakeTensorMode():
        assert not values_are_known(torch.zeros(2))


def test_values_are_not_known_while_compiling():
    seen = []

    def function(tensor):
        seen.append(values_are_known(tensor))
        return tensor + 1 if values_are_known(tensor) else tensor - 1

    assert torch.equal(torch.compile(function, backend="eager")(torch.zeros(2)), torch.full((2,), -1.0))


@pytest.mark.parametrize("good", [0.0, 0, 0.5, 1.0, 1])
def test_option_within_its_range(good):
    check_option("rate", good, 0.0, 1.0)


@pytest.mark.parametrize("bad", [float("nan"), -1e-9, 1.001, float("inf"), -float("inf")])
def test_option_outside_its_range(bad):
    with pytest.raises(ValueError, match=r"rate is .*, expected a number in \[0\.0, 1\.0\]; set rate within it"):
        check_option("rate", bad, 0.0, 1.0)


def test_option_whose_range_is_open_above():
    check_option("rate", 0.999, 0.0, 1.0, open_above=True)
    with pytest.raises(ValueError, match=r"rate is 1\.0, expected a number in \[0\.0, 1\.0\); set rate within it"):
        check_option("rate", 1.0, 0.0, 1.0, open_above=True)


def test_counts():
    check_count("blocks", 1)
    check_count("blocks", 10**9)


@pytest.mark.parametrize("bad", [0, -3])
def test_counts_below_one_are_refused(bad):
    with pytest.raises(ValueError, match=rf"blocks is {bad}, expected a positive integer; set blocks to 1 or more"):
        check_count("blocks", bad)
