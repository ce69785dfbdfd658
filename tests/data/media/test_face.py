from pathlib import Path

import numpy as np
import pytest
from faces import face_box, face_frames, write_landmarks

from msafusion.data.media import StreamMissing
from msafusion.data.media.face import boxes_from_landmarks, crop_faces, face_boxes
from msafusion.data.media.mtcnn import overlaps
from msafusion.failures import DataError

GRID = Path(__file__).resolve().parents[3] / "../shared/data/grid_s1/clips"
AWAY = (np.nan, np.nan)
RIGHTWARDS = [(20 + 3 * i, 12) for i in range(10)]


def near(boxes, corners, side):
    return [overlaps(got, face_box(c, side)[None])[0] for got, c in zip(boxes, corners, strict=True)]


def test_a_moving_face_has_a_box_in_every_frame():
    frames = face_frames([[corner] for corner in RIGHTWARDS])
    boxes, notes = face_boxes(frames)
    assert boxes.shape == (10, 4)
    assert notes == []
    assert min(near(boxes, RIGHTWARDS, 120)) > 0.75
    every_frame, _ = face_boxes(frames, every=1)
    assert min(overlaps(a, b[None])[0] for a, b in zip(boxes, every_frame, strict=True)) > 0.85


def test_frames_without_the_face_are_interpolated_and_noted():
    corners = [[corner] if i not in (4, 5) else [AWAY] for i, corner in enumerate(RIGHTWARDS)]
    boxes, notes = face_boxes(face_frames(corners))
    assert notes == ["no face in 2 of 10 frames, interpolated"]
    assert min(near(boxes, RIGHTWARDS, 120)) > 0.75


def test_of_three_faces_the_largest_is_taken():
    corners = [(10, 10), (150, 30), (240, 60)]
    boxes, notes = face_boxes(face_frames([corners] * 3, (80, 120, 60), 160, 320))
    assert notes == ["3 faces, took the largest"]
    assert min(near(boxes, [(150, 30)] * 3, 120)) > 0.75


def test_of_two_faces_the_one_seen_longest_is_taken():
    corners = [[(10, 10), (150, 30) if i < 2 else AWAY] for i in range(5)]
    boxes, notes = face_boxes(face_frames(corners, (80, 120), 160, 320), every=1)
    assert notes == ["2 faces, took the one seen longest"]
    assert min(near(boxes, [(10, 10)] * 5, 80)) > 0.75


def test_dark_small_and_turned_faces_are_found_at_the_second_look():
    frames = face_frames([[(30, 12)]] * 2)
    boxes, notes = face_boxes((frames * 0.04).astype(np.uint8))
    assert notes == ["face found after brightening in 2 of 2 frames"]
    assert min(near(boxes, [(30, 12)] * 2, 120)) > 0.7
    boxes, notes = face_boxes(face_frames([[(300, 200)]], 40, 600, 640))
    assert notes == ["face found smaller than usual in 1 of 1 frames"]
    assert near(boxes, [(300, 200)], 40)[0] > 0.7
    boxes, notes = face_boxes(np.rot90(frames, axes=(1, 2)).copy())
    assert "turned by" in notes[0]
    left, top, right, bottom = face_box((30, 12), 120)
    assert overlaps(boxes[0], np.array([[top, 176 - right, bottom, 176 - left]]))[0] > 0.5


def test_a_clip_without_a_face_lacks_the_stream():
    with pytest.raises(StreamMissing, match="no face in 2 frames"):
        face_boxes(face_frames([[AWAY]] * 2))


@pytest.mark.parametrize("frames", [np.zeros((0, 20, 20, 3), np.uint8), np.zeros((2, 20, 20, 3), np.float32)])
def test_what_is_no_clip_is_refused(frames):
    with pytest.raises(ValueError, match="expected frames"):
        face_boxes(frames)


@pytest.mark.skipif(not GRID.is_dir(), reason="needs ../shared/data/grid_s1")
def test_a_real_clip_gives_steady_boxes_and_crops():
    import av

    with av.open(str(sorted(GRID.glob("*.mpg"))[0])) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)][::5])
    boxes, notes = face_boxes(frames)
    assert notes == []
    assert np.abs(np.diff(boxes, axis=0)).max() < 25
    sides = boxes[:, 2:] - boxes[:, :2]
    assert ((sides > 70) & (sides < 220)).all()
    assert crop_faces(frames, boxes, 112, 0.1).std() > 20


def test_landmarks_give_the_box_of_the_row_nearest_in_time(tmp_path):
    stamps = np.arange(10) / 30
    table = write_landmarks(tmp_path / "a.csv", stamps, [(i, 10, i + 20, 40) for i in range(10)])
    boxes, notes = boxes_from_landmarks(table, np.array([0.0, 0.11, 0.29]))
    np.testing.assert_allclose(boxes, [[0, 10, 20, 40], [3, 10, 23, 40], [9, 10, 29, 40]], atol=1e-3)
    assert notes == []


def test_rows_without_success_are_interpolated(tmp_path):
    boxes_written = [(i, 10, i + 20, 40) if i != 2 else (0, 0, 0, 0) for i in range(4)]
    table = write_landmarks(tmp_path / "a.csv", np.arange(4) / 30, boxes_written, [1, 1, 0, 1])
    boxes, notes = boxes_from_landmarks(table, np.arange(4) / 30)
    np.testing.assert_allclose(boxes[:, 0], [0, 1, 2, 3], atol=2e-2)
    assert notes == ["no face in 1 of 4 frames, interpolated"]


def test_landmarks_far_from_the_frames_in_time_are_noted(tmp_path):
    table = write_landmarks(tmp_path / "a.csv", [0.0, 0.1], [(0, 0, 9, 9)] * 2)
    _, notes = boxes_from_landmarks(table, np.array([0.0, 2.1]))
    assert notes == ["landmarks are up to 2.00 s away from the frames; is 'a.csv' of this clip?"]


def test_landmarks_without_any_success_lack_the_stream(tmp_path):
    table = write_landmarks(tmp_path / "a.csv", [0.0, 0.1], [(0, 0, 9, 9)] * 2, [0, 0])
    with pytest.raises(StreamMissing, match=r"a\.csv' has no row with success 1"):
        boxes_from_landmarks(table, np.array([0.0]))


def damaged(damage):
    def lacking(text):
        return text.replace(" y_67", " z_67")

    def empty(text):
        return text.split("\n")[0]

    def text_in_a_cell(text):
        return text.replace("0.100", "soon")

    def short_row(text):
        return text.rstrip()[:-60]

    def no_stamp(text):
        return text.replace("0.100", "nan")

    return locals()[damage]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("lacking", "lacks 1 columns such as 'y_67'"),
        ("empty", "a header and no rows"),
        ("text_in_a_cell", "no 138 numbers in row 2"),
        ("short_row", "no 138 numbers in row 2"),
        ("no_stamp", "rows without a timestamp"),
    ],
)
def test_broken_landmark_tables_are_refused_in_one_line(tmp_path, damage, said):
    table = write_landmarks(tmp_path / "a.csv", [0.0, 0.1], [(0, 0, 9, 9)] * 2)
    table.write_text(damaged(damage)(table.read_text()))
    with pytest.raises(DataError, match=said) as error:
        boxes_from_landmarks(table, np.array([0.0]))
    assert "a.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_binary_or_empty_landmark_file_is_refused(tmp_path):
    binary, empty = tmp_path / "b.csv", tmp_path / "e.csv"
    binary.write_bytes(bytes(range(256)))
    empty.write_bytes(b"")
    for file, said in ((tmp_path / "none.csv", "No such file"), (binary, "of landmarks"), (empty, "lacks 138 columns")):
        with pytest.raises(DataError, match=said):
            boxes_from_landmarks(file, np.array([0.0]))


def test_a_crop_is_the_square_about_the_box_with_its_margin():
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8)[None, :, None], (80, 100, 3))[None]
    crop = crop_faces(ramp, np.array([[30.0, 20, 50, 60]]), 40, 0.0)
    assert crop.shape == (1, 40, 40, 3)
    np.testing.assert_array_equal(crop[0, 0, :, 0], np.arange(20, 60))
    wider = crop_faces(ramp, np.array([[30.0, 20, 50, 60]]), 60, 0.25)
    np.testing.assert_array_equal(wider[0, 0, :, 0], np.arange(10, 70))


def test_beyond_the_frame_the_border_is_repeated():
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8)[None, :, None], (80, 100, 3))[None]
    crop = crop_faces(ramp, np.array([[-20.0, -20, 20, 20]]), 40, 0.0)[0, :, :, 0]
    np.testing.assert_array_equal(crop[7], [0] * 20 + list(range(20)))
    astray = crop_faces(ramp, np.array([[1e9, 1e9, 3e9, 3e9]]), 8, 0.0)[0]
    assert astray[0, 0, 0] < astray[0, -1, 0] == 99


def test_small_crops_of_fine_patterns_are_averaged():
    stripes = np.zeros((1, 96, 96, 3), np.uint8)
    stripes[:, :, ::2] = 200
    crop = crop_faces(stripes, np.array([[0.0, 0, 96, 96]]), 12, 0.0)
    assert abs(crop.astype(float) - 100).max() < 6


@pytest.mark.parametrize("boxes", [np.zeros((2, 4)), np.array([[0, 0, np.nan, 4]])])
def test_boxes_that_are_not_one_a_frame_or_not_finite_are_refused(boxes):
    with pytest.raises(ValueError, match="expected one for each of 1 frames"):
        crop_faces(np.zeros((1, 8, 8, 3), np.uint8), boxes, 4, 0.0)


@pytest.mark.parametrize("ids", ["told", "none", "new id"])
def test_of_several_faces_in_a_landmark_table_the_steady_one_is_taken(tmp_path, ids):
    rows = [(i, who) for i in range(20) for who in (0, 1) if who == 0 or i // 5 % 2]
    boxes = [(100 + 400 * who, 100, 140 + 400 * who, 140) for _, who in rows]
    table = write_landmarks(tmp_path / "a.csv", [i / 10 for i, _ in rows], boxes)
    if ids != "none":
        names = [2 if who == 0 and i > 9 and ids == "new id" else who for i, who in rows]
        lines = table.read_text().splitlines()
        added = zip(lines, [" face_id", *map(str, names)], strict=True)
        table.write_text("\n".join(",".join(pair) for pair in added))
    found, notes = boxes_from_landmarks(table, np.arange(20) / 10)
    np.testing.assert_allclose(found, [(100, 100, 140, 140)] * 20, atol=0.1)
    assert notes == ["landmarks of 2 faces, took the one seen longest"]
