"""RAVDESS as it is downloaded, in miniature: which clips, which labels, faces by landmarks, what is missing."""

import numpy as np
import pytest
from raw_media import write_wav
from raw_ravdess import name, tone, write_clip, write_landmarks, write_raw_ravdess

from msafusion.data.datasets import RAVDESS
from msafusion.data.media import Frames, Mfcc
from msafusion.data.preparation.prepared import write_prepared
from msafusion.failures import DataError


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two actors, two emotions, in all three distributions."""
    root = tmp_path_factory.mktemp("raw")
    write_raw_ravdess(root, modalities=(1, 2, 3))
    return root


@pytest.mark.parametrize(
    ("streams", "modality", "suffix"),
    [(("video", "audio"), "01", ".mp4"), (("audio",), "03", ".wav"), (("video",), "02", ".mp4")],
)
def test_each_clip_is_taken_once_from_the_distribution_that_fits(source, streams, modality, suffix):
    items = RAVDESS(source, streams=streams).items()
    assert [item.id for item in items] == [f"{modality}-{name(actor, e)[3:]}" for e in (1, 3) for actor in (1, 2)]
    assert [(item.label, item.group) for item in items] == [(0, "1"), (0, "2"), (2, "1"), (2, "2")]
    for item in items:
        assert set(item.files) == set(streams)
        assert {file.name for file in item.files.values()} == {item.id + suffix}
        assert {file.stem for file in item.companions.values()} <= {"01" + item.id[2:]}
        assert bool(item.companions) == ("video" in streams)


def test_single_streams_are_taken_from_audio_video_clips_where_their_own_are_missing(tmp_path):
    write_raw_ravdess(tmp_path, actors=(1,), emotions=(1, 2), landmarks=False)
    write_wav(tmp_path / "Actor_01" / f"{name(1, 2, modality=3)}.wav", tone(2), 44100)
    assert [item.id[:8] for item in RAVDESS(tmp_path, streams=("audio",)).items()] == ["01-01-01", "03-01-02"]


def test_a_clip_is_read_to_a_face_by_its_landmarks_and_to_mfccs(source):
    reader = RAVDESS(source, num_frames=4, frame_size=16)
    arrays, notes = reader.read(reader.items()[2])
    assert arrays["video"].shape == (3, 4, 16, 16)
    assert arrays["video"].dtype == np.uint8
    middle = arrays["video"][:, :, 6:10, 6:10].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(middle, [84, 171, 40], atol=12)  # the square that the landmarks frame, not the grey
    assert arrays["audio"].shape == (13, 212)
    assert notes == ["audio: sound of 0.30 s, zeros up to 2.45 s"]
    assert (reader.channels(), reader.layouts()) == ({"video": 3, "audio": 13}, {"video": "video", "audio": "map"})


def test_the_reference_squeezes_first_and_swaps_colours(source):
    reader = RAVDESS(source, streams=("video",), num_frames=2, frame_size=16, reference=True)
    assert reader.extraction == {"video": Frames(2, 16, order="bgr", squeeze_first=True)}
    assert RAVDESS(source).extraction == {"video": Frames(30, 224), "audio": Mfcc()}
    values = reader.read(reader.items()[2])[0]["video"]
    np.testing.assert_allclose(values[:, :, 6:10, 6:10].mean(axis=(1, 2, 3)), [40, 171, 84], atol=12)


def test_landmarks_are_found_beside_the_source_or_where_told(tmp_path):
    write_raw_ravdess(tmp_path / "clips", actors=(1,), emotions=(1,), landmarks=False)
    assert not RAVDESS(tmp_path / "clips").items()[0].companions
    for folder in ("FacialTracking_Actors_01-24", "elsewhere"):
        (tmp_path / folder).mkdir()
        write_landmarks(tmp_path / folder / f"{name(1)}.csv")
    beside = RAVDESS(tmp_path / "clips").items()[0].companions["video"]
    told = RAVDESS(tmp_path / "clips", landmarks=tmp_path / "elsewhere").items()[0].companions["video"]
    assert (beside.parent.name, told.parent.name) == ("FacialTracking_Actors_01-24", "elsewhere")


def test_landmarks_of_a_larger_frame_are_refused(tmp_path):
    write_raw_ravdess(tmp_path, actors=(1,), emotions=(1,), landmarks=False)
    write_landmarks(tmp_path / f"{name(1)}.csv", box=(500, 200, 700, 400))
    reader = RAVDESS(tmp_path, streams=("video",))
    with pytest.raises(DataError, match=r"outside of the frames of .* \(64 x 48 pixels\)"):
        reader.read(reader.items()[0])


def test_missing_clips_are_named(source):
    missing = RAVDESS(source).missing()
    assert len(missing) == 1440 - 4
    assert missing[0] == "no Actor_01/01-01-01-01-01-02-01.mp4"
    assert "no Actor_24/01-01-08-02-02-02-24.mp4" in missing
    assert not any("/01-01-01-02-" in line for line in missing)  # no strong neutral clip exists
    assert RAVDESS(source, streams=("audio",)).missing()[0] == "no Actor_01/03-01-01-01-01-02-01.wav"


def test_verifying_reports_broken_strange_and_left_out_files(tmp_path):
    write_raw_ravdess(tmp_path, actors=(3,), landmarks=False)
    folder = tmp_path / "Actor_03"
    (folder / f"{name(3)}.mp4").write_bytes(b"")
    write_clip(folder / "holiday.mp4", frames=2)
    write_clip(folder / f"{name(3, 1, intensity=2)}.mp4", frames=2)
    write_clip(folder / f"{name(3, channel=2)}.mp4", frames=2)
    (folder / f"._{name(3, 4)}.mp4").write_bytes(b"twin")
    found = RAVDESS(tmp_path).verify()
    assert found.present == {"samples": 2, "video": 1, "audio": 1}
    assert not found.ok
    assert len(found.missing) == 1438
    assert [line.split("'")[1].rsplit("/", 1)[1] for line in found.broken] == [
        "01-01-01-02-01-01-03.mp4",
        "holiday.mp4",
        "01-01-01-01-01-01-03.mp4",
        "01-01-01-01-01-01-03.mp4",
    ]
    assert found.skipped == [f"'{folder / name(3, channel=2)}.mp4' is a song, only speech is read"]


def test_a_clip_that_is_there_twice_is_refused(tmp_path):
    write_raw_ravdess(tmp_path, actors=(1,), emotions=(1,), landmarks=False)
    (tmp_path / "copy").mkdir()
    write_clip(tmp_path / "copy" / f"{name(1)}.mp4", frames=2)
    with pytest.raises(DataError, match="expected each clip once"):
        RAVDESS(tmp_path).items()


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(DataError, match=r"expected Actor_01/01-01-01-01-01-01-01.mp4"):
        RAVDESS(tmp_path).items()
    with pytest.raises(DataError, match=r"expected Actor_01/03-01-01-01-01-01-01.wav"):
        RAVDESS(tmp_path, streams=("audio",)).items()
    with pytest.raises(DataError, match="no folder"):
        RAVDESS(tmp_path / "nowhere").items()


@pytest.mark.parametrize("streams", [("audio",), ("video",)])
def test_one_stream_alone_has_the_same_protocol(tmp_path, streams):
    arrays = {"video": np.zeros((3, 2, 4, 4), np.uint8), "audio": np.zeros((13, 5), np.float32)}
    arrays = {stream: arrays[stream] for stream in streams}
    rows = [({"id": f"c{actor}", "label": actor % 8, "group": actor}, arrays) for actor in range(1, 25)]
    channels = {stream: len(arrays[stream]) for stream in streams}
    write_prepared(tmp_path, "RAVDESS", RAVDESS.classes, channels, rows, {"video": "video"})
    splits = RAVDESS(tmp_path, size=4).splits()
    assert set(splits.channels) == set(streams) == set(splits.test[0]["streams"])
    assert splits.test.groups == {"1", "2", "3", "4"}
    batch = {stream: splits.test[0]["streams"][stream][None] for stream in streams}
    assert set(splits.preprocessing.augmented(batch)) == set(streams)


def test_other_streams_are_refused(tmp_path):
    write_prepared(
        tmp_path,
        "RAVDESS",
        RAVDESS.classes,
        {"lips": 2},
        [({"id": "a", "label": 0, "group": 1}, {"lips": np.zeros((2, 3))})],
    )
    with pytest.raises(DataError, match="has the streams lips, expected video or audio"):
        RAVDESS(tmp_path).splits()
