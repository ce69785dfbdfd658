"""Time stamps that are missing, out of order or left out by an edit list; what stands before and behind a recording."""

import struct

import numpy as np
import pytest
from raw_media import grey_frames, write_video, write_wav

from msafusion.data.media.audio import read_audio
from msafusion.data.media.extraction import WHOLE, Span
from msafusion.data.media.video import read_frames
from msafusion.failures import DataError

B_FRAMES = {"preset": "veryfast", "bf": "3", "crf": "12"}
LEVELS = np.arange(60) * 4
NEAR = 1.9
"""Encoding changes a level by less, which is less than half of what lies between two frames."""
TICKS = 12800
"""A second, in the tracks of pictures that FFmpeg writes to mp4 at 25 frames a second."""


def levels(file, count=60, span=WHOLE):
    """The grey levels of frames, their times and the notes."""
    frames, times, notes = read_frames(file, count, span)
    return frames.mean(axis=(1, 2, 3)), times, notes


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """60 frames of growing brightness, 25 a second, with B-frames."""
    file = tmp_path_factory.mktemp("film") / "film.mp4"
    return write_video(file, grey_frames(LEVELS), options=B_FRAMES)


def test_large_files_are_read(film, tmp_path):
    large = tmp_path / "large.mp4"
    size = 2**26
    with large.open("wb") as file:
        file.write(film.read_bytes() + struct.pack(">I", size) + b"free")
        file.truncate(film.stat().st_size + size)  # takes no room on the disk
    found, _, _ = levels(large)
    np.testing.assert_allclose(found, LEVELS, atol=NEAR)


@pytest.mark.parametrize("rate", [2, 10])
def test_few_frames_a_second_are_read_from_matroska(tmp_path, rate):
    file = write_video(tmp_path / "slow.mkv", grey_frames(LEVELS), rate=rate, options=B_FRAMES)
    found, times, _ = levels(file)
    np.testing.assert_allclose(found, LEVELS, atol=NEAR)
    np.testing.assert_allclose(times, np.arange(60) / rate, atol=2e-3)


def test_a_thousand_frames_a_second_are_told_apart(tmp_path):
    file = write_video(tmp_path / "fast.mp4", grey_frames(LEVELS), rate=1000, options=B_FRAMES)
    np.testing.assert_allclose(levels(file)[0], LEVELS, atol=NEAR)


@pytest.mark.parametrize("span", [WHOLE, Span(1.2, 0.8)])
def test_packets_that_only_tell_when_they_are_decoded_give_frames_in_order(film, tmp_path, span):
    import av

    copied = tmp_path / "copied.mp4"  # as by `ffmpeg -i x.avi -c copy x.mp4`
    with av.open(str(film)) as given, av.open(str(copied), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux():
            if packet.dts is not None:
                packet.pts, packet.stream = packet.dts, stream
                out.mux(packet)
    found, times, notes = levels(copied, 20, span)
    assert (np.diff(times) >= 0).all()
    assert (np.diff(found) >= 0).all()
    shift = times - found / 4 / 25  # the decoder holds some back
    assert np.ptp(shift) <= 1.6 / 25
    assert any("out of order" in note for note in notes)


def test_frames_without_time_stamps_follow_up_to_the_end(tmp_path):
    file = write_video(tmp_path / "x.mpg", grey_frames(LEVELS), codec="libx264", options=B_FRAMES)  # stamps a few alone
    found, times, _ = levels(file)
    np.testing.assert_allclose(found, LEVELS, atol=NEAR)
    np.testing.assert_allclose(times, np.arange(60) / 25, atol=2e-3)


def test_pictures_without_any_time_stamp_are_refused_by_that(tmp_path):
    import av

    with av.open(str(tmp_path / "x.h264"), "w") as out:
        video = out.add_stream("libx264", rate=25, options=B_FRAMES)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for values in grey_frames(LEVELS):
            out.mux(video.encode(av.VideoFrame.from_ndarray(values, format="rgb24")))
        out.mux(video.encode(None))
    with pytest.raises(DataError, match=r"x.h264' has video data without time stamps"):
        read_frames(tmp_path / "x.h264", 2)


def edited(source, target, parts):
    """With an edit list of its own: parts of the time (start, length) in seconds, for its one track."""
    content = source.read_bytes()
    movie = content.rindex(b"moov") - 4

    def box(name, body):
        return struct.pack(">I", len(body) + 8) + name + body

    def rewritten(body):
        made, at = b"", 0
        while at < len(body):
            size, name = struct.unpack(">I", body[at : at + 4])[0], body[at + 4 : at + 8]
            inner = body[at + 8 : at + size]
            if name in (b"moov", b"trak", b"edts"):
                inner = rewritten(inner)
            if name == b"elst":
                first = struct.unpack(">i", inner[12:16])[0]
                edits = [(round(1000 * length), first + round(TICKS * start), 1 << 16) for start, length in parts]
                inner = (
                    inner[:4] + struct.pack(">I", len(edits)) + b"".join(struct.pack(">IiI", *edit) for edit in edits)
                )
            made, at = made + box(name, inner), at + size
        return made

    target.write_bytes(content[:movie] + rewritten(content[movie:]))
    return target


def test_a_recording_from_which_a_part_was_cut_is_read_without_it(film, tmp_path):
    file = edited(film, tmp_path / "cut.mp4", [(0, 1), (1.2, 1)])
    found, times, _ = levels(file, 50)
    np.testing.assert_allclose(found, [*LEVELS[:25], *LEVELS[30:55]], atol=NEAR)
    np.testing.assert_allclose(times, np.arange(50) / 25, atol=0.05)  # FFmpeg rounds the parts to frames
    file = edited(film, tmp_path / "again.mp4", [(1, 1), (0, 1)])
    np.testing.assert_allclose(levels(file, 50)[0], [*LEVELS[25:50], *LEVELS[:25]], atol=NEAR)


def test_half_the_sound_of_an_avi_is_refused(tmp_path):
    sound = np.random.default_rng(0).normal(size=2 * 48000).clip(-3, 3) / 4
    whole = write_video(tmp_path / "whole.avi", grey_frames(LEVELS[:50]), sound=(sound, 48000))
    assert abs(len(read_audio(whole, 48000)[0]) - 2 * 48000) < 4800
    half = tmp_path / "half.avi"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(DataError, match=r"half.avi' is cut off or broken: its sound ends after .* expected 2\.0"):
        read_audio(half, 48000)


def test_a_tag_before_flac_is_no_recording(tmp_path):
    noise = np.random.default_rng(0).normal(size=8000).clip(-3, 3) / 4
    plain = write_wav(tmp_path / "plain.flac", noise, 8000, "flac")
    tag = b"ID3\x04\0\0\0\0\x07\x68" + bytes(1000)
    (tmp_path / "tagged.flac").write_bytes(tag + tag + plain.read_bytes())
    np.testing.assert_array_equal(read_audio(tmp_path / "tagged.flac", 8000)[0], read_audio(plain, 8000)[0])
    (tmp_path / "two.flac").write_bytes(tag + 2 * plain.read_bytes())
    at = f"{len(tag) + plain.stat().st_size:,}"
    with pytest.raises(DataError, match=f"a second recording from byte {at}"):
        read_audio(tmp_path / "two.flac", 8000)


@pytest.mark.parametrize("how", ["short header", "second data", "other chunks"])
def test_sound_behind_what_a_wav_header_tells_is_noted(tmp_path, how):
    noise = np.random.default_rng(0).normal(size=16000).clip(-3, 3) / 4
    file = write_wav(tmp_path / "x.wav", noise, 8000)
    content = bytearray(file.read_bytes())
    at = content.index(b"data")
    if how == "short header":
        content[at + 4 : at + 8] = struct.pack("<I", 8000)
    elif how == "second data":
        content += content[at:]
    else:
        content += b"LIST" + struct.pack("<I", 4000) + bytes(4000)
    file.write_bytes(content)
    samples, notes = read_audio(file, 8000)
    assert len(samples) == (4000 if how == "short header" else 16000)
    seconds = {"short header": ["1.50 s"], "second data": ["2.00 s"], "other chunks": []}[how]
    assert [note[:6] for note in notes] == seconds


def test_sound_of_which_no_block_is_sound_is_refused_by_that(tmp_path):
    file = write_video(tmp_path / "x.mpg", grey_frames(LEVELS), sound=(np.zeros(2 * 48000), 48000))
    file.write_bytes(file.read_bytes().replace(b"\xff\xfd", bytes(2)))  # where blocks of MPEG sound begin
    for span in (WHOLE, Span(0.5, 1.0)):
        with pytest.raises(DataError, match=r"x.mpg' has a sound track without samples"):
            read_audio(file, 16000, span)
