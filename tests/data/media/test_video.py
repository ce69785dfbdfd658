"""Frames of real small videos: which, when, which way up, and what happens to broken ones."""

from pathlib import Path

import jaxtyping
import numpy as np
import pytest
from raw_media import grey_frames, write_video, write_wav

from msafusion.data.extractors import EXTRACTORS, extractor_from
from msafusion.data.media import Frames, Span, StreamMissing, video
from msafusion.data.media.frames import resize
from msafusion.data.media.video import probe_video, read_frames
from msafusion.failures import DataError

GRID = Path(__file__).resolve().parents[3] / "../shared/data/grid_s1/clips"
TONE = (0.3 * np.sin(np.arange(88200) * 0.05), 44100)
STEP = 5
"""Grey levels from one frame to the next."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Recordings of 50 frames at 25 Hz, key frames every 12; the grey level counts the frames."""
    folder = tmp_path_factory.mktemp("videos")
    for suffix in (".mp4", ".avi", ".mpg", ".mkv"):
        write_video(folder / f"counted{suffix}", grey_frames(np.arange(50) * STEP), sound=TONE)
    return folder


def numbers(frames):
    """Which frames these are."""
    return np.round(frames.astype(float).mean(axis=(1, 2, 3)) / STEP).astype(int).tolist()


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mpg", ".mkv"])
@pytest.mark.parametrize("gap", [5.0, 0.1])
def test_frames_are_evenly_spaced_in_the_middle_of_equal_parts(folder, suffix, gap, monkeypatch):
    monkeypatch.setattr(video, "UNINDEXED_GAP", gap)
    frames, times, notes = read_frames(folder / f"counted{suffix}", 10)
    assert frames.shape == (10, 48, 64, 3)
    assert frames.dtype == np.uint8
    # lossy codecs are a level or two off, which is less than half a frame
    np.testing.assert_allclose(numbers(frames), [2, 7, 12, 17, 22, 27, 32, 37, 42, 47], atol=1)
    if suffix != ".mpg":  # FFmpeg leaves a gap between its packs, which hold many frames as small as these
        np.testing.assert_allclose(times, np.arange(10) * 0.2 + 0.08, atol=1e-3)
    assert not notes


@pytest.mark.parametrize(("span", "expected"), [(Span(1.0, 0.4), [26, 28, 31, 33]), (Span(1.6), [41, 43, 46, 48])])
def test_a_span_starts_and_ends_where_it_should(folder, span, expected):
    assert numbers(read_frames(folder / "counted.mp4", 4, span)[0]) == expected


def test_seeking_gives_what_decoding_everything_gives(folder):
    file = folder / "counted.mp4"
    every, times, _ = read_frames(file, 50)
    assert numbers(every) == list(range(50))
    for start in np.arange(0.0, 1.9, 0.17):
        some, when, _ = read_frames(file, 2, Span(start, 0.1))
        at = np.searchsorted(times, when + 1e-6) - 1
        np.testing.assert_array_equal(some, every[at])


def test_only_what_is_needed_is_decoded(folder, monkeypatch):
    decoded, counted = video.decode, []
    monkeypatch.setattr(video, "decode", lambda *given: (counted.append(1) or frame for frame in decoded(*given)))
    read_frames(folder / "counted.mp4", 1, Span(1.5, 0.1))
    assert len(counted) <= 5


def test_frames_are_changed_one_by_one_as_they_are_decoded(folder):
    file, given = folder / "counted.mp4", []
    frames, _, _ = read_frames(file, 4)
    small, _, _ = read_frames(file, 4, change=lambda frame: given.append(frame) or resize(frame, 16, "squeeze"))
    np.testing.assert_array_equal(given, frames)
    np.testing.assert_array_equal(small, [resize(frame, 16, "squeeze") for frame in frames])
    np.testing.assert_array_equal(Frames(4, 16, face="none")(file).values, small.transpose(3, 0, 1, 2))


def test_half_a_matroska_video_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (50, 48, 64, 3), dtype=np.uint8)
    file = write_video(tmp_path / "x.mkv", noise)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut off or broken: its frames end after [01]\.\d+ s, expected 2\.00 s"):
        read_frames(file, 4)


def test_fewer_frames_than_asked_for_fill_all(tmp_path):
    file = write_video(tmp_path / "x.mp4", grey_frames([0, 5, 10, 15]))
    assert numbers(read_frames(file, 8)[0]) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_variable_frame_rate_counts_time_and_not_frames(tmp_path):
    times = [0, 0.1, 0.2, 0.3, 1.3, 2.3, 2.4]
    file = write_video(tmp_path / "x.mp4", grey_frames(np.arange(7) * STEP), times=times, rate=10)
    frames, when, _ = read_frames(file, 5, Span(0.0, 2.5))  # at 0.25, 0.75, 1.25, 1.75, 2.25 s
    assert numbers(frames) == [2, 3, 3, 4, 4]
    np.testing.assert_allclose(when, [0.2, 0.3, 0.3, 1.3, 1.3], atol=1e-3)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_frames_come_upright(tmp_path, rotation):
    pictures = np.zeros((3, 48, 64, 3), np.uint8)
    pictures[:, :24, :32] = 250  # top left as stored
    file = write_video(tmp_path / "x.mp4", pictures, rotation=rotation)
    frame = read_frames(file, 1)[0][0]
    info = probe_video(file)
    assert frame.shape[:2] == (info.height, info.width) == ((48, 64) if rotation % 180 == 0 else (64, 48))
    corner = {0: (0, 0), 90: (0, -1), 180: (-1, -1), 270: (-1, 0)}[rotation]  # turned clockwise
    lit = {(i, j): frame[i, j].mean() > 128 for i in (0, -1) for j in (0, -1)}
    assert [place for place, bright in lit.items() if bright] == [corner]
    assert info.rotation == rotation


def test_probing_tells_duration_rate_and_sound(folder, tmp_path):
    info = probe_video(folder / "counted.mp4")
    assert (info.width, info.height, info.has_audio) == (64, 48, True)
    assert info.duration == pytest.approx(2.0)
    assert info.frame_rate == pytest.approx(25)
    assert not probe_video(write_video(tmp_path / "silent.mp4", grey_frames([1, 2]))).has_audio


def test_one_frame_is_repeated_and_noted(tmp_path):
    frames, _, notes = read_frames(write_video(tmp_path / "x.mp4", grey_frames([50])), 4)
    assert numbers(frames) == [10] * 4
    assert notes == ["a single frame in 0.04 s, repeated 4 times"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"just words\n" * 99, "cannot be read as a recording"), (None, "no file")],
)
def test_files_that_are_no_video_are_refused_in_one_line(tmp_path, content, message, capfd):
    file = tmp_path / "x.mp4"
    if content is not None:
        file.write_bytes(content)
    for reading in (lambda: read_frames(file, 2), lambda: probe_video(file)):
        with pytest.raises(DataError, match=message) as caught:
            reading()
        assert "\n" not in str(caught.value)
        assert str(file) in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_sound_alone_has_no_frames(tmp_path):
    with pytest.raises(StreamMissing, match="no video track"):
        read_frames(write_wav(tmp_path / "x.wav", *TONE), 2)


def test_a_cut_off_video_is_refused_or_noted_by_how_much_is_left(folder, tmp_path, capfd):
    whole = (folder / "counted.mp4").read_bytes()
    (tmp_path / "no_index.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cut off"):
        read_frames(tmp_path / "no_index.mp4", 4)

    noise = np.random.default_rng(0).integers(0, 255, (50, 48, 64, 3), dtype=np.uint8)
    file = write_video(tmp_path / "index_first.avi", noise)
    content = file.read_bytes()
    file.write_bytes(content[: int(0.5 * len(content))])
    with pytest.raises(DataError, match="cut off or broken: its frames end after"):
        read_frames(file, 4)
    assert numbers(read_frames(file, 4, Span(0.0, 0.3))[0])
    file.write_bytes(content[: int(0.95 * len(content))])
    assert any("the last one is repeated" in note for note in read_frames(file, 50)[2])
    assert capfd.readouterr() == ("", "")


def test_a_span_beyond_the_end_is_refused(folder):
    with pytest.raises(DataError, match=r"ends after 2\.00 s"):
        read_frames(folder / "counted.mp4", 2, Span(2.5, 1.0))


def test_streams_are_video_in_the_order_and_fit_asked_for(tmp_path):
    picture = np.zeros((1, 48, 96, 3), np.uint8)
    picture[:, :, 24:72] = [250, 0, 0]  # the centre is red
    file = write_video(tmp_path / "x.mp4", picture)
    centre = Frames(2, 16, face="none", fit="centre")(file).values
    assert centre.shape == (3, 2, 16, 16)
    assert centre.flags.c_contiguous
    assert centre[0].min() > 150
    assert centre[1:].max() < 80
    np.testing.assert_array_equal(Frames(2, 16, face="none", fit="centre", order="bgr")(file).values, centre[::-1])
    squeezed = Frames(2, 16, face="none")(file).values
    assert squeezed[0, 0, 8].tolist()[0] < 80 < 150 < squeezed[0, 0, 8, 8]
    grey = Frames(2, 16, face="none", fit="centre", order="grey")
    assert grey.channels == 1
    assert grey(file).values.shape == (1, 2, 16, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"face": "eyes"}, "unknown face 'eyes'"), ({"num_frames": 0}, "num_frames"), ({"order": "hsv"}, "unknown order")],
)
def test_wrong_options_are_refused(options, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users run it
    with pytest.raises(ValueError, match=message):
        Frames(**options)


def test_an_extractor_is_made_again_from_what_is_saved(folder):
    extractor = Frames(3, 24, face="none", order="bgr")
    assert extractor_from(extractor.as_dict()) == extractor
    assert EXTRACTORS["Frames"] is Frames
    assert extractor.probe(folder / "counted.mp4") == pytest.approx(2.0)


@pytest.mark.skipif(not GRID.is_dir(), reason="the GRID clips are not here")
def test_mpeg_without_an_index_is_exact():
    import av

    file = sorted(GRID.glob("*.mpg"))[0]
    with av.open(str(file)) as container:
        every = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    frames, times, _ = read_frames(file, 30)
    at = [int((k + 0.5) * 2.5) for k in range(30)]  # of 75 frames
    np.testing.assert_allclose(times, [every[i][0] for i in at])
    np.testing.assert_array_equal(frames, np.stack([every[i][1] for i in at]))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_absurdly_large_frames_are_refused_before_they_are_decoded(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("msafusion.files.reading.UNSUSPICIOUS", 10**6)
    monkeypatch.setattr("msafusion.files.reading.MAX_RATIO", 1)
    write_video(tmp_path / f"x{suffix}", grey_frames([0, 50], 720, 1280))
    with pytest.raises(DataError, match=r"one frame of '.*1280 x 720 pixels, would take 0.00 GB"):
        read_frames(tmp_path / f"x{suffix}", 2)


@pytest.mark.parametrize("sound", [None, TONE])
def test_frames_of_avi_that_were_coded_out_of_order_are_shown_when_they_leave_the_decoder(tmp_path, sound):
    levels = np.arange(20) * 12
    options = {"preset": "medium", "x264-params": "bframes=2:b-adapt=0"}
    write_video(tmp_path / "x.avi", grey_frames(levels), options=options, codec="libx264", sound=sound)
    frames, times, notes = read_frames(tmp_path / "x.avi", 20)
    held = round(times[0] * 25)  # the decoder holds so many back to put them in order, and so do players
    assert held in ((0,) if sound is None else (1, 2))  # without sound the recording starts with the first frame
    np.testing.assert_allclose(times, (np.arange(20) + held) / 25, atol=1e-6)
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), levels, atol=6)
    assert not notes
    assert probe_video(tmp_path / "x.avi").duration == pytest.approx((20 + held) / 25)
