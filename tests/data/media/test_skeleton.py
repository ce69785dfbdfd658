import pickle

import numpy as np
import pytest
from raw_ntu import moving_body, write_skeleton

from msafusion.data.extractors import extractor_from
from msafusion.data.media import NtuSkeleton, Span, StreamMissing
from msafusion.data.media.skeleton import read_skeleton
from msafusion.failures import DataError


def frames_of(**bodies):
    """{id without its letter: (frames, 25, 3)}; a frame of NaN: the body is not there."""
    num_frames = len(next(iter(bodies.values())))
    return [
        {name[1:]: joints[n] for name, joints in bodies.items() if np.isfinite(joints[n]).all()}
        for n in range(num_frames)
    ]


def written(tmp_path, **bodies):
    return write_skeleton(tmp_path / "S001C001P001R001A001.skeleton", frames_of(**bodies))


def test_reads_every_body_of_every_frame_in_metres(tmp_path):
    one, other = moving_body(5, 0.3), moving_body(5, 0.1, seed=1)
    other[:2] = np.nan
    frames = read_skeleton(written(tmp_path, _1=one, _2=other))
    assert [list(frame) for frame in frames] == [["1"], ["1"], ["1", "2"], ["1", "2"], ["1", "2"]]
    np.testing.assert_allclose(frames[3]["2"], other[3], rtol=1e-6)


def test_positions_are_relative_to_the_first_spine_and_resampled_linearly(tmp_path):
    one, other = moving_body(10, 0.6), moving_body(10, 0.0, (1.0, 0.2, 3.0), seed=1)
    one += np.linspace(0, 0.9, 10)[:, None, None]
    values = NtuSkeleton()(written(tmp_path, _1=one, _2=other)).values
    assert values.shape == (3, 32, 25, 2)
    assert values.dtype == np.float32
    assert not values[:, :, 1, 0].any()
    at = np.linspace(0, 9, 32)
    for body, joints in enumerate((one, other)):
        relative = joints - one[:, 1:2]
        for joint in (0, 11, 24):
            wanted = np.stack([np.interp(at, np.arange(10), relative[:, joint, axis]) for axis in range(3)])
            np.testing.assert_allclose(values[:, :, joint, body], wanted, atol=2e-6)


def test_an_absent_second_body_is_zero_and_minus_the_origin_only_for_the_reference(tmp_path):
    one = moving_body(32)
    file = written(tmp_path, _1=one)
    assert not NtuSkeleton()(file).values[..., 1].any()
    reference = NtuSkeleton(reference=True)(file).values
    np.testing.assert_allclose(reference[..., 1], -np.repeat(one[:, 1].T[:, :, None], 25, axis=2), rtol=1e-5)
    np.testing.assert_allclose(reference[..., 0], NtuSkeleton()(file).values[..., 0], atol=1e-6)


def test_of_three_bodies_those_that_move_most_stay_in_the_files_order_with_a_note(tmp_path):
    bodies = {"_1": moving_body(20, 0.5), "_2": moving_body(20, 0.0, seed=1), "_3": moving_body(20, 2.0, seed=2)}
    extracted = NtuSkeleton(num_steps=20)(written(tmp_path, **bodies))
    assert extracted.notes == ["3 bodies, kept the 2 that move most"]
    wanted = np.stack([bodies["_1"], bodies["_3"]]) - bodies["_1"][:, 1:2]
    np.testing.assert_allclose(extracted.values, wanted.transpose(3, 1, 2, 0), atol=2e-6)


def test_a_body_that_is_lost_is_bridged_and_zero_before_it_comes(tmp_path):
    one, other = moving_body(16, 2.0), moving_body(16, seed=1)
    other += np.arange(16)[:, None, None] / 10
    gone = other.copy()
    gone[:4] = gone[8:12] = np.nan
    first = one.copy()
    first[6] = np.nan
    extracted = NtuSkeleton(num_steps=16)(written(tmp_path, _1=first, _2=gone))
    assert extracted.notes == []
    assert not extracted.values[:, :4, :, 1].any()
    np.testing.assert_allclose(extracted.values[:, 4:, :, 1], (other - one[:, 1:2])[4:].transpose(2, 0, 1), atol=2e-6)


def test_frames_without_a_body_are_noted(tmp_path):
    one = moving_body(8)
    one[:3] = np.nan
    assert NtuSkeleton()(written(tmp_path, _1=one)).notes == ["3 of 8 frames have no body"]


def test_a_span_takes_its_seconds_at_thirty_frames_a_second(tmp_path):
    one = moving_body(30, 1.0)
    file = written(tmp_path, _1=one)
    values = NtuSkeleton(num_steps=9)(file, span=Span(0.5, 0.3)).values
    np.testing.assert_allclose(values[..., 0], (one - one[:, 1:2])[15:24].transpose(2, 0, 1), atol=2e-6)
    assert NtuSkeleton().probe(file) == 1.0
    with pytest.raises(StreamMissing, match=r"ends after 1\.00 s, expected some of it from 1\.5 s on"):
        NtuSkeleton()(file, span=Span(1.5, 1))


def test_no_body_in_any_frame_is_a_missing_stream(tmp_path):
    file = written(tmp_path, _1=np.full((6, 25, 3), np.nan))
    for read in (NtuSkeleton(), NtuSkeleton().probe):
        with pytest.raises(StreamMissing, match=r"A001\.skeleton' has no body in any of 6 frames, expected one or two"):
            read(file)


@pytest.mark.parametrize(
    ("first", "last", "new", "message"),
    [
        (40, None, [], r"line 41: the end of the file, expected 25 joints of a body"),
        (40, None, ["0.1 0.2"], r"line 41: 2 words, expected 12 numbers of a joint"),
        (0, None, [], r"line 1: the end of the file, expected 1 numbers \(the number of frames\)"),
        (0, 1, ["many"], r"line 1: 'many', expected the number of frames"),
        (0, 1, ["-1"], r"line 1: '-1', expected the number of frames"),
        (0, 1, ["1"], r"line 30: more lines, expected the end after 1 frames"),
        (3, 4, ["20"], r"line 4: 20 joints, expected 25 of each body"),
        (4, 5, ["x" + 11 * " 0"], r"line 5: a word, expected x, y and z of a joint"),
        (4, 5, ["nan" + 11 * " 0"], r"line 5: a joint at \[nan, .*\], expected x, y and z in metres"),
        (4, 5, ["1e99" + 11 * " 0"], r"line 5: a joint at \[1e\+99, .*\], expected x, y and z in metres"),
    ],
)
def test_broken_text_is_told_with_its_line(tmp_path, first, last, new, message):
    file = written(tmp_path, _1=moving_body(2))
    lines = file.read_text().split("\n")
    lines[first:last] = new
    file.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"A001\.skeleton', " + message) as caught:
        read_skeleton(file)
    assert "\n" not in str(caught.value)


def test_what_is_no_text_and_what_is_not_there_are_told(tmp_path):
    (tmp_path / "video.skeleton").write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match=r"video\.skeleton' cannot be read \(it is not text in ascii, at byte \d+\)"):
        read_skeleton(tmp_path / "video.skeleton")
    with pytest.raises(DataError, match=r"no file .*none\.skeleton'"):
        read_skeleton(tmp_path / "none.skeleton")


def test_it_is_saved_by_kind_and_options():
    extractor = NtuSkeleton(num_steps=64, reference=True)
    assert extractor_from(extractor.as_dict()) == extractor == pickle.loads(pickle.dumps(extractor))


def test_a_count_of_thousands_of_digits_is_damage(tmp_path):
    file = tmp_path / "S001C001P001R001A001.skeleton"
    file.write_text("1" * 5000)
    with pytest.raises(DataError, match=r"line 1: '1{20}', expected the number of frames"):
        read_skeleton(file)


def test_a_body_with_a_new_id_is_joined_by_its_place(tmp_path):
    one, other = moving_body(12, 1.0), moving_body(12, 0.3, (1.0, 0.0, 3.0), seed=1)
    first, then = one.copy(), one.copy()
    first[6:], then[:7] = np.nan, np.nan  # one frame is lost between
    extracted = NtuSkeleton(num_steps=12)(written(tmp_path, _1=first, _2=other, _3=then))
    assert extracted.notes == ["body 3 goes on where body 1 ends, taken for one"]
    wanted = np.stack([one, other]) - one[:, 1:2]
    np.testing.assert_allclose(extracted.values[:, 7:], wanted.transpose(3, 1, 2, 0)[:, 7:], atol=2e-6)
    np.testing.assert_allclose(extracted.values[:, :6], wanted.transpose(3, 1, 2, 0)[:, :6], atol=2e-6)


@pytest.mark.parametrize("frames", [3, 12])
def test_a_ghost_that_comes_first_is_not_the_origin(tmp_path, frames):
    person, chair = moving_body(12, 1.0), np.repeat(moving_body(1, 0.0, (2.0, 0.0, 3.0), seed=1), 12, axis=0)
    chair[frames:] = np.nan
    extracted = NtuSkeleton(num_steps=12)(written(tmp_path, _1=chair, _2=person))
    assert extracted.notes == ["body 1 comes first but is seen shortly or does not move, put behind"]
    np.testing.assert_allclose(extracted.values[..., 0], (person - person[:, 1:2]).transpose(2, 0, 1), atol=2e-6)
