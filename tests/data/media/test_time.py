"""One model of time: pictures and sound lie where their time stamps say, whatever headers, holes and offsets."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from raw_media import grey_frames, write_video, write_wav

from msafusion.data.media.audio import Mfcc, read_audio
from msafusion.data.media.extraction import Span
from msafusion.data.media.video import probe_video, read_frames
from msafusion.failures import DataError

RATE = 48000
MARKS = (0.48, 1.0, 1.52)
"""Seconds at which the picture lights up and the sound clicks."""


def clicks(seconds=2.0, marks=MARKS, rate=RATE):
    """Silence with a short burst at each mark."""
    samples = np.zeros(round(seconds * rate))
    for mark in marks:
        samples[round(mark * rate) : round(mark * rate) + 240] = 0.8 * np.sin(np.arange(240) * 0.7)
    return samples


def heard(samples, rate=RATE):
    """Seconds at which bursts begin."""
    loud = np.flatnonzero(np.abs(samples) > 0.2) / rate
    return loud[np.insert(np.diff(loud) > 0.1, 0, True)] if len(loud) else loud


def lit(count=50, marks=MARKS, rate=25):
    """Dark frames, light ones for 80 ms from each mark on."""
    times = np.arange(count) / rate
    on = ((times[:, None] >= np.array(marks) - 1e-6) & (times[:, None] < np.array(marks) + 0.08)).any(axis=1)
    return grey_frames(np.where(on, 240, 10))


def seen(file, count=200):
    """Seconds at which the picture lights up."""
    frames, times, _ = read_frames(file, count)
    light = frames.mean(axis=(1, 2, 3)) > 120
    return times[np.flatnonzero(light & ~np.insert(light[:-1], 0, False))]


def rewrite(source, target, change=None):
    """Copy the packets; change(packet) -> False leaves one out."""
    import av

    with av.open(str(source)) as given, av.open(str(target), "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.dts is None or (change is not None and change(packet) is False):
                continue
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    return target


def late(kind, seconds):
    """A change that shifts the packets of one kind, or of "all"."""

    def change(packet):
        if kind in (packet.stream.type, "all"):
            packet.pts, packet.dts = (stamp + round(seconds / packet.time_base) for stamp in (packet.pts, packet.dts))

    return change


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("marked")
    for suffix in (".mp4", ".mkv", ".mpg", ".avi"):
        write_video(folder / f"marked{suffix}", lit(), sound=(clicks(), RATE))
    return folder


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mpg", ".avi"])
def test_picture_and_sound_of_one_moment_come_from_one_moment(folder, suffix):
    file = folder / f"marked{suffix}"
    shown, sound = seen(file), heard(read_audio(file, RATE)[0])
    assert len(shown) == len(sound) == 3
    # mp2 and aac without an edit list keep the encoder's delay, at most 24 ms beside half a frame
    np.testing.assert_allclose(sound, shown, atol=0.045 if suffix in (".mpg", ".avi") else 0.021)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("kind", "shown_later", "heard_later"), [("all", 0, 0), ("video", 0.4, 0), ("audio", 0, 0.4)], ids=str
)
def test_late_starts_are_kept_and_are_no_cut(folder, tmp_path, suffix, kind, shown_later, heard_later):
    file = rewrite(folder / f"marked{suffix}", tmp_path / f"x{suffix}", late(kind, 2.0 if kind == "all" else 0.4))
    np.testing.assert_allclose(seen(file), np.array(MARKS) + shown_later, atol=0.03)
    samples, notes = read_audio(file, RATE)
    np.testing.assert_allclose(heard(samples), np.array(MARKS) + heard_later, atol=0.03)
    assert not notes
    part = read_audio(file, RATE, Span(0.9 + heard_later, 0.3))[0]
    np.testing.assert_array_equal(part, samples[round((0.9 + heard_later) * RATE) :][: len(part)])
    assert probe_video(file).duration == pytest.approx(2.0 + shown_later, abs=0.09)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_hole_in_the_sound_shifts_nothing(folder, tmp_path, suffix):
    file = rewrite(
        folder / f"marked{suffix}",
        tmp_path / f"x{suffix}",
        lambda packet: packet.stream.type == "video" or not 0.6 < packet.pts * packet.time_base < 1.3,
    )
    samples, notes = read_audio(file, RATE)
    np.testing.assert_allclose(heard(samples), [0.48, 1.52], atol=0.025)
    assert len(notes) == 1
    assert "1 hole of 0.6" in notes[0] or "1 hole of 0.7" in notes[0]
    assert not samples[round(0.7 * RATE) : round(1.28 * RATE)].any()


@pytest.mark.parametrize(("codec", "rate"), [("adpcm_ms", RATE), ("adpcm_ima_wav", RATE), ("pcm_s16le", RATE)])
def test_a_part_of_a_wav_is_that_part_of_the_whole(tmp_path, codec, rate):
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * rate)
    file = write_wav(tmp_path / "x.wav", noise, rate, codec)
    whole, _ = read_audio(file, rate)
    assert len(whole) == pytest.approx(4 * rate, abs=2100)
    for start in (1.0, 2.5, 3.0):
        part, notes = read_audio(file, rate, Span(start, 0.4))
        np.testing.assert_array_equal(part, whole[round(start * rate) :][: round(0.4 * rate)])
        assert not notes


def test_short_ogg_is_read(tmp_path):
    import av

    for seconds in (0.1, 0.25, 0.6, 0.95):
        file, rate = tmp_path / f"{seconds}.ogg", 16000
        with av.open(str(file), "w") as out:
            stream = out.add_stream("vorbis", rate=rate, layout="stereo", options={"strict": "experimental"})
            samples = np.random.default_rng(0).normal(0, 0.1, (2, round(seconds * rate))).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
            frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            for part in [*av.AudioResampler("fltp", "stereo", rate, 64).resample(frame), None]:
                out.mux(stream.encode(part))
        samples, notes = read_audio(file, rate)
        assert len(samples) == pytest.approx(seconds * rate, abs=64)
        assert not notes
        assert Mfcc().probe(file) == pytest.approx(seconds, abs=0.01)


def test_uneven_frames_with_b_frames_keep_their_last_half(tmp_path):
    times = [0, 0.04, 0.08, 0.12, 0.16, 0.2, 1.0, 2.5, 4.0, 5.5]
    file = write_video(tmp_path / "x.mp4", grey_frames(np.arange(10) * 20), times=times, options={"bf": "2"})
    assert probe_video(file).duration == pytest.approx(5.54, abs=0.01)
    frames, when, notes = read_frames(file, 8)
    assert np.round(frames.mean(axis=(1, 2, 3)) / 20).astype(int).tolist() == [5, 6, 6, 6, 7, 7, 8, 8]
    np.testing.assert_allclose(when, [0.2, 1, 1, 1, 2.5, 2.5, 4, 4], atol=1e-3)
    assert not notes


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((-1, 0, 0, 1), lambda picture: picture[:, ::-1]),
        ((1, 0, 0, -1), lambda picture: picture[::-1]),
        ((0, 1, 1, 0), lambda picture: picture.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda picture: picture[::-1, ::-1].swapaxes(0, 1)),
        ((0, 1, -1, 0), lambda picture: np.rot90(picture, -1)),
    ],
    ids=["mirrored", "flipped", "transposed", "both", "turned"],
)
def test_display_matrices_turn_and_mirror(tmp_path, matrix, expected):
    picture = np.zeros((1, 48, 64, 3), np.uint8)
    picture[0, :24, :32], picture[0, 24:, :32] = 240, 120
    file = write_video(tmp_path / "x.mp4", picture)
    stored = read_frames(file, 1)[0][0]
    content = bytearray(file.read_bytes())
    at = content.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    file.write_bytes(content)
    np.testing.assert_array_equal(read_frames(file, 1)[0][0], expected(stored))
    assert probe_video(file).mirrored == (matrix != (0, 1, -1, 0))


def test_palettes_are_there_in_every_part(tmp_path):
    import av

    file = tmp_path / "x.avi"
    with av.open(str(file), "w") as out:
        stream = out.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "pal8"
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(grey_frames([number * 5])[0], format="rgb24")
            frame = frame.reformat(format="rgb8")
            indices = np.full((48, 64), number, np.uint8)
            colours = np.zeros((256, 4), np.uint8)
            colours[:, 1:] = (np.arange(256) * 5 % 256)[:, None]
            colours[:, 0] = 255
            frame = av.VideoFrame.from_ndarray((indices, colours), format="pal8")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    frames, _, _ = read_frames(file, 5)
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), np.array([5, 15, 25, 35, 45]) * 5, atol=1)


def test_the_default_track_is_read_and_named(tmp_path):
    import av

    file = tmp_path / "x.mkv"
    with av.open(str(file), "w") as out:
        streams = [out.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in range(2)]
        streams[0].disposition, streams[1].disposition = av.stream.Disposition(0), av.stream.Disposition.default
        for level, stream in zip((0.1, 0.5), streams, strict=True):
            pcm = np.full((1, RATE), round(level * 32768), np.int16)
            frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
            frame.rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    samples, notes = read_audio(file, RATE)
    assert samples.mean() == pytest.approx(0.5, abs=1e-3)
    assert len(notes) == 1
    assert "number 2 of 2 sound tracks" in notes[0]


def test_a_sample_rate_that_changes_midway_shifts_nothing(tmp_path):
    parts = [write_wav(tmp_path / f"{rate}.aac", clicks(1.0, [0.5], rate), rate, "aac") for rate in (RATE, 24000)]
    file = tmp_path / "x.aac"
    file.write_bytes(b"".join(part.read_bytes() for part in parts))
    samples, notes = read_audio(file, RATE)
    assert any("sample rate changes midway (48000, 24000 Hz)" in note for note in notes)
    # each part has the delay of its encoder, 1024 samples, and is filled up to whole blocks
    np.testing.assert_allclose(heard(samples), [0.52, 1.0 + 0.5 + 0.08], atol=0.04)


@pytest.mark.parametrize(
    ("rate", "to", "seconds"), [(22050, 44100, 2.45), (44100, 16000, 1.3333), (16000, 22050, 0.7777)]
)
def test_a_span_has_the_samples_that_it_says(tmp_path, rate, to, seconds):
    file = write_wav(tmp_path / "x.wav", np.zeros(4 * rate) + 0.1, rate)
    assert len(read_audio(file, to, Span(0.5, seconds))[0]) == round(seconds * to)


def test_samples_that_are_no_numbers_are_refused(tmp_path):
    file = write_wav(tmp_path / "x.wav", np.zeros(RATE), RATE, "pcm_f32le")
    content = file.read_bytes()
    file.write_bytes(content[:-400] + struct.pack("<100f", *[float("nan")] * 100))
    with pytest.raises(DataError, match=r"x\.wav.*NaN"):
        read_audio(Path(file), RATE)
