"""Recordings that were joined byte by byte: read whole, or refused in one line, but never in part without a word."""

import numpy as np
import pytest
from raw_media import grey_frames, write_video, write_wav
from test_audio import tone

from msafusion.data.media.audio import Mfcc, read_audio
from msafusion.data.media.video import probe_video, read_frames
from msafusion.failures import DataError

RATE = 48000
SOUNDS = [(".wav", "pcm_s16le"), (".flac", "flac"), (".oga", "flac"), (".ogg", "libopus"), (".m4a", "aac")]


def join(first, second):
    file = first.with_stem("joined")
    file.write_bytes(first.read_bytes() + second.read_bytes())
    return file


@pytest.mark.parametrize("seconds", [(0.8, 2.0), (2.0, 0.8)], ids=str)
@pytest.mark.parametrize(("suffix", "codec"), SOUNDS)
def test_a_second_sound_is_refused_where_it_would_not_be_heard(tmp_path, suffix, codec, seconds):
    parts = [write_wav(tmp_path / f"{n}{suffix}", tone(RATE, length), RATE, codec) for n, length in enumerate(seconds)]
    file = join(*parts)
    begins = rf"joined{suffix}' holds a second recording from byte {parts[0].stat().st_size:,} on"
    for read in (lambda: read_audio(file, RATE), lambda: Mfcc().probe(file)):
        with pytest.raises(DataError, match=begins):
            read()
    for part in parts:
        read_audio(part, RATE)


@pytest.mark.parametrize(("suffix", "codec"), [(".mp3", "libmp3lame"), (".mp2", "mp2"), (".aac", "aac")])
def test_formats_that_may_be_joined_are_heard_throughout(tmp_path, suffix, codec):
    parts = [write_wav(tmp_path / f"{n}{suffix}", tone(RATE, n), RATE, codec) for n in (1, 2)]
    assert len(read_audio(join(*parts), RATE)[0]) == pytest.approx(3 * RATE, abs=0.1 * RATE)


@pytest.mark.parametrize("counts", [(20, 50), (50, 20)], ids=str)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mpg", ".ts"])
def test_a_second_video_is_refused(tmp_path, suffix, counts):
    parts = [
        write_video(tmp_path / f"{n}{suffix}", grey_frames(np.arange(count)), sound=(tone(RATE, count / 25), RATE))
        for n, count in enumerate(counts)
    ]
    file = join(*parts)
    for read in (lambda: read_frames(file, 8), lambda: probe_video(file)):
        with pytest.raises(DataError, match=rf"joined{suffix}'.*joined byte by byte"):
            read()
    for part in parts:
        read_frames(part, 8)


def test_a_video_in_fragments_is_refused_where_its_stamps_go_back(tmp_path):
    import av

    for name, count in (("0.mp4", 50), ("1.mp4", 30)):
        with av.open(str(tmp_path / name), "w", options={"movflags": "frag_keyframe+empty_moov"}) as out:
            stream = out.add_stream("mpeg4", rate=25)
            stream.width, stream.height = 64, 48
            for picture in grey_frames(np.arange(count)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    with pytest.raises(DataError, match=r"jump from 1\.9"):
        read_frames(join(tmp_path / "0.mp4", tmp_path / "1.mp4"), 8)
