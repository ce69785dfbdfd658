"""Clips: how stored video becomes what a network sees, in training and in use."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from msafusion.data.preprocessing import Clips, preprocessing_from
from msafusion.data.preprocessing.clips import _crop_size
from msafusion.failures import DataError

MEAN, STD = [0.5, 0.2, 0.0], [0.25, 0.1, 1.0]


def clips(**options):
    return Clips({"video": 3, "audio": 2}, {"video": MEAN}, {"video": STD}, **options)


def raw(**options):
    """Clips whose standardisation leaves the numbers of the frames as they are."""
    return Clips({"video": 3}, {"video": [0.0] * 3}, {"video": [1 / 255] * 3}, **options)


def places(batch=1, frames=2, height=12, width=16):
    """uint8 video whose every pixel tells where it is: channel 0 its row, channel 1 its column; all frames equal."""
    rows = torch.arange(height, dtype=torch.uint8)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=torch.uint8).expand(height, width)
    frame = torch.stack([rows, columns, torch.zeros_like(rows)])
    return frame[None, :, None].expand(batch, 3, frames, height, width).contiguous()


def corners(video):
    """(top, left) of each clip cut out of `places`, and whether it is mirrored."""
    flipped = video[:, 1, 0, 0, 0] > video[:, 1, 0, 0, -1]
    left = torch.minimum(video[:, 1, 0, 0, 0], video[:, 1, 0, 0, -1])
    return video[:, 0, 0, 0, 0].round().int(), left.round().int(), flipped


def test_channels_are_standardised_by_hand_computed_numbers():
    video = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(3, 3)[None, :, :, None, None]  # every channel: 0 0.2 1
    inputs = clips().inputs({"video": video.contiguous()})["video"]
    assert inputs.dtype == torch.float32
    expected = torch.tensor([[-2.0, -1.2, 2.0], [-2.0, 0.0, 8.0], [0.0, 0.2, 1.0]])
    torch.testing.assert_close(inputs[0, :, :, 0, 0], expected)


@pytest.mark.parametrize("way", ["inputs", "augmented"])
def test_streams_without_mean_pass_untouched(way):
    stored = {"video": places(), "audio": torch.tensor([[[1, -2]]], dtype=torch.int16)}
    result = getattr(clips(size=4, flip=True, crop_area=[0.5, 1.0]), way)(stored)
    assert result["audio"] is stored["audio"]
    assert list(result) == ["video", "audio"]


@pytest.mark.parametrize("way", ["inputs", "augmented"])
@pytest.mark.parametrize("options", [{}, {"size": 8}, {"size": 8, "crop_area": [0.5, 1.0], "flip": True}, {"size": 20}])
def test_uint8_goes_in_and_float_comes_out_and_the_batch_stays_as_it_was(way, options):
    video = places(batch=2)
    result = getattr(clips(**options), way)({"video": video})["video"]
    size = (options["size"],) * 2 if "size" in options else (12, 16)
    assert (result.dtype, result.shape) == (torch.float32, (2, 3, 2, *size))
    assert torch.equal(video, places(batch=2))


@pytest.mark.parametrize("way", ["inputs", "augmented"])
def test_a_batch_of_float_video_stays_as_it_was_too(way):
    video = places().float()
    result = getattr(clips(), way)({"video": video})["video"]
    assert torch.equal(video, places().float())
    torch.testing.assert_close(result[0, 0, 0, :, 0], (torch.arange(12) / 255 - MEAN[0]) / STD[0])


@pytest.mark.parametrize("way", ["inputs", "augmented"])
def test_a_video_of_one_colour_stays_it_however_it_is_cut(way):
    video = torch.full((3, 3, 2, 30, 20), 100, dtype=torch.uint8)
    result = getattr(clips(size=7, crop_area=[0.1, 1.0], flip=True), way)({"video": video})["video"]
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        torch.testing.assert_close(result[:, channel], torch.full((3, 2, 7, 7), (100 / 255 - mean) / std))


@pytest.mark.parametrize(
    ("height", "width", "size", "top", "left"), [(12, 16, 8, 2, 4), (9, 8, 8, 0, 0), (8, 8, 8, 0, 0)]
)
def test_use_sees_the_central_crop(height, width, size, top, left):
    result = raw(size=size, flip=True).inputs({"video": places(height=height, width=width)})["video"]
    assert result.shape == (1, 3, 2, size, size)
    torch.testing.assert_close(result[0, 0, 0, :, 0], torch.arange(top, top + size).float())
    torch.testing.assert_close(result[0, 1, 1, 0], torch.arange(left, left + size).float())


def test_use_sees_the_whole_frame_resized_where_training_crops_by_area():
    result = raw(size=4, crop_area=[0.5, 1.0]).inputs({"video": places(height=8, width=16)})["video"]
    middles = [result[0, 0, 0, :, 0], result[0, 1, 0, 0]]
    for values, length in zip(middles, (8, 16), strict=True):
        expected = (torch.arange(4) + 0.5) * length / 4 - 0.5
        torch.testing.assert_close(values, expected, atol=0.6, rtol=0)  # rounded to whole colours
    assert torch.equal(raw().inputs({"video": places()})["video"], places().float())


def test_use_does_not_depend_on_chance():
    preprocessing = clips(size=8, crop_area=[0.5, 1.0], flip=True)
    torch.manual_seed(1)
    one = preprocessing.inputs({"video": places()})["video"]
    assert torch.equal(preprocessing.inputs({"video": places()})["video"], one)
    assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(1)))


def test_random_crops_lie_inside_the_frame_and_reach_every_place():
    result = raw(size=10).augmented({"video": places(batch=300, height=12, width=13)})["video"]
    assert result.shape == (300, 3, 2, 10, 10)
    top, left, flipped = corners(result)
    assert set(top.tolist()) == {0, 1, 2}
    assert set(left.tolist()) == {0, 1, 2, 3}
    assert not flipped.any()
    inside = torch.arange(10)
    torch.testing.assert_close(result[:, 0, 0, :, 0], (top[:, None] + inside).float())
    torch.testing.assert_close(result[:, 1, 0, 0], (left[:, None] + inside).float())


@pytest.mark.parametrize("area", [None, [0.1, 1.4]])
def test_one_crop_and_flip_holds_for_all_frames_of_a_clip_and_another_for_the_next_clip(area):
    video = torch.randint(0, 256, (1, 3, 1, 40, 40), dtype=torch.uint8).expand(6, 3, 5, 40, 40)
    result = raw(size=16, crop_area=area, flip=True).augmented({"video": video})["video"]
    assert torch.equal(result, result[:, :, :1].expand_as(result))
    assert not any(torch.equal(result[i], result[j]) for i in range(6) for j in range(i))


def test_frames_smaller_than_the_crop_are_enlarged_alike_in_training_and_use():
    stored = {"video": places(height=6, width=5)}
    preprocessing = raw(size=10)
    assert torch.equal(preprocessing.augmented(stored)["video"], preprocessing.inputs(stored)["video"])
    assert preprocessing.inputs(stored)["video"].shape[-2:] == (10, 10)


@pytest.mark.parametrize("size", [None, 12])
def test_about_half_of_the_clips_are_mirrored(size):
    stored = {"video": places(batch=400, height=12, width=12)}
    result = raw(size=size, flip=True).augmented(stored)["video"]
    flipped = corners(result)[2]
    assert 160 < int(flipped.sum()) < 240  # four standard deviations
    assert torch.equal(result[flipped], stored["video"][flipped].flip(-1).float())
    assert torch.equal(result[~flipped], stored["video"][~flipped].float())
    assert torch.equal(raw(size=size).augmented(stored)["video"], stored["video"].float())


def test_all_video_streams_of_a_clip_are_mirrored_alike():
    means, stds = ({name: [number] * 3 for name in ("face", "scene")} for number in (0.0, 1 / 255))
    preprocessing = Clips({"face": 3, "scene": 3}, means, stds, flip=True)
    stored = {"face": places(batch=50), "scene": places(batch=50, frames=1, height=4, width=6)}
    result = preprocessing.augmented(stored)
    face, scene = (corners(result[name])[2] for name in stored)
    assert torch.equal(face, scene)
    assert 0 < int(face.sum()) < 50


def test_the_same_seed_gives_the_same_clips():
    preprocessing = clips(size=8, crop_area=[0.3, 1.0], flip=True)
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(preprocessing.augmented({"video": places(batch=4)})["video"])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def drawn(height, width, area, num=1000):
    torch.manual_seed(0)
    return torch.tensor([_crop_size(height, width, area) for _ in range(num)])


def test_crop_sizes_have_the_area_and_aspect_that_were_asked_for():
    sizes = drawn(200, 200, [0.2, 0.5])
    share = sizes.prod(dim=1) / 200**2
    aspect = sizes[:, 1] / sizes[:, 0]
    assert 0.195 < share.min() < 0.21
    assert 0.49 < share.max() < 0.505
    assert share.mean() == pytest.approx(0.35, abs=0.01)  # uniform over the area
    assert 0.74 < aspect.min() < 0.77
    assert 1.3 < aspect.max() < 1.35
    assert aspect.log().mean() == pytest.approx(0.0, abs=0.02)  # as often wide as tall
    assert aspect.log().std() == pytest.approx(math.log(4 / 3) / 3**0.5, rel=0.05)


@pytest.mark.parametrize("area", [[0.8, 1.4], [0.08, 1.0], [1.0, 1.0]])
@pytest.mark.parametrize(("height", "width"), [(48, 48), (60, 80), (20, 90)])
def test_crops_never_leave_the_frame(height, width, area):
    sizes = drawn(height, width, area, num=300)
    assert (sizes >= 1).all()
    assert (sizes <= torch.tensor([height, width])).all()


def test_an_area_that_never_fits_falls_back_to_the_frame():
    assert set(map(tuple, drawn(30, 30, [1.2, 1.4], num=50).tolist())) == {(30, 30)}
    assert set(map(tuple, drawn(30, 36, [1.2, 1.4], num=50).tolist())) == {(30, 36)}


def test_the_crop_of_ravdess_is_the_whole_frame_now_and_then_and_no_less_than_its_least_area():
    sizes = drawn(100, 100, [0.8, 1.4])
    share = sizes.prod(dim=1) / 100**2
    assert share.min() > 0.79
    assert 0.01 < (share == 1).float().mean() < 0.5
    assert (share < 0.95).float().mean() > 0.3


@pytest.mark.parametrize("area", [[0.3, 1.0], [1.5, 1.6]])
def test_crops_by_area_show_a_part_of_the_frame(area):
    result = raw(size=8, crop_area=area).augmented({"video": places(batch=100, height=32, width=32)})["video"]
    assert result.shape == (100, 3, 2, 8, 8)
    for channel, last in ((0, result[:, 0, 0, -1, 0]), (1, result[:, 1, 0, 0, -1])):
        first = result[:, channel, 0, 0, 0]
        assert (first >= 0).all()
        assert (last <= 31).all()
        spans = (last - first) * 8 / 7 / 32  # from the middle of the first to that of the last of 8 pixels
        whole = area[0] > 1
        assert (spans > (0.95 if whole else 0.3**0.5 * (3 / 4) ** 0.5 - 0.1)).all()
        assert (spans.std() < 0.01) == whole


def test_one_recording_becomes_a_batch_of_one_and_matches_the_batch():
    recording = {"video": places()[0].numpy(), "audio": np.ones((2, 5), np.float32)}
    result = clips(size=8)(recording)
    assert {name: tuple(values.shape) for name, values in result.items()} == {
        "video": (1, 3, 2, 8, 8),
        "audio": (1, 2, 5),
    }
    assert torch.equal(result["video"], clips(size=8).inputs({"video": places()})["video"])
    assert clips().num_channels() == {"video": 3, "audio": 2}


def test_an_unknown_stream_is_refused():
    with pytest.raises(DataError, match="unknown stream 'voice', expected video, audio; rename or leave it out"):
        clips()({"voice": np.zeros((2, 5))})


@pytest.mark.parametrize("options", [{}, {"size": 8, "crop_area": [0.8, 1.4], "flip": True}])
def test_clips_survive_being_saved(options):
    preprocessing = clips(**options)
    saved = preprocessing.as_dict()
    assert saved["kind"] == "Clips"
    assert preprocessing_from(saved) == preprocessing
    again = preprocessing_from(json.loads(json.dumps(saved)))
    assert again == preprocessing
    results = []
    for one in (preprocessing, again):
        torch.manual_seed(0)
        results.append(one.augmented({"video": places(batch=3)})["video"])
    assert torch.equal(*results)


def test_every_option_of_clips_is_saved():
    names = {option.name for option in dataclasses.fields(Clips)}
    assert set(clips().as_dict()) == names | {"kind"}


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"unknown preprocessing 'Clip'; .*Clips"):
        preprocessing_from({**clips().as_dict(), "kind": "Clip"})
