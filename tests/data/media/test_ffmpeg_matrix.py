"""Pictures and sound of many kinds of recordings come from the moments that the command `ffmpeg` gives them."""

import shutil
import subprocess
from itertools import product

import numpy as np
import pytest
from raw_media import write_wav
from scipy.signal import fftconvolve

from msafusion.data.media.audio import read_audio
from msafusion.data.media.extraction import Span
from msafusion.data.media.video import read_frames

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("ffmpeg") or not shutil.which("ffprobe"), reason="needs ffmpeg and ffprobe"),
]
FRAMES, FPS, SIDE, RATE = 150, 25, 64, 48000
ROUNDING = 0.01
"""Seconds: versions of FFmpeg differ in whether the start of Opus, 7 ms of it, counts."""
SPANS = (Span(), Span(1.3, 1.1), Span(3.1, 2.0), Span(4.6))
KINDS = (
    ("libx264", "aac", (".mp4", ".mkv", ".mov", ".avi")),
    ("libx264 -bf 0", "libmp3lame", (".avi",)),
    ("libx264 -x264-params open-gop=1:bframes=3:keyint=20:min-keyint=5", "ac3", (".mkv",)),
    ("mpeg4 -bf 2", "libmp3lame", (".avi",)),
    ("mpeg2video -bf 2", "mp2", (".mpg",)),
    ("libvpx -b:v 1M -auto-alt-ref 1", "libvorbis", (".webm",)),
    ("libvpx-vp9 -b:v 1M -deadline realtime", "libopus", (".webm", ".mp4")),
    ("mjpeg", "pcm_s16le", (".avi", ".mkv")),
    ("rawvideo -pix_fmt pal8", "adpcm_ms", (".avi",)),
    ("qtrle", "pcm_s16be", (".mov",)),
)
CHANGES = ("plain", "late pictures", "late sound", "uneven", "late start", "cut by copying", "fragments")
CASES = [
    (video, sound, suffix, change)
    for (video, sound, suffixes), change in product(KINDS, CHANGES)
    for suffix in suffixes
    if not (change == "uneven" and suffix in (".avi", ".mpg"))
    and not (change == "fragments" and suffix not in (".mp4", ".mov"))
    and not (change == "cut by copying" and sound == "adpcm_ms")  # ffmpeg's sound is 0.1 s off its own pictures there
]


def picture(number):
    """(SIDE, SIDE, 3): 16 squares, of which those are white whose bit is set."""
    bits = np.array([number >> bit & 1 for bit in range(16)], np.uint8).reshape(4, 4) * 255
    return np.repeat(np.kron(bits, np.ones((SIDE // 4, SIDE // 4), np.uint8))[..., None], 3, axis=2)


def number(frame):
    """The number that a picture shows, by the middles of its squares."""
    middles = frame[SIDE // 8 :: SIDE // 4, SIDE // 8 :: SIDE // 4].mean(axis=2) > 128
    return sum(int(white) << bit for bit, white in enumerate(middles.ravel()))


def ffmpeg(*words, stdin=None, program="ffmpeg"):
    done = subprocess.run([program, "-v", "error", *map(str, words)], input=stdin, capture_output=True, timeout=120)
    if b"Unknown encoder" in done.stderr or b"Automatic encoder selection failed" in done.stderr:
        pytest.skip(f"this ffmpeg does not write it: {done.stderr.decode()[-120:].strip()}")
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A video of numbered frames and six seconds of noise, both without loss; the noise."""
    folder = tmp_path_factory.mktemp("source")
    raw = b"".join(picture(n).tobytes() for n in range(FRAMES))
    size = f"{SIDE}x{SIDE}"
    words = "-f rawvideo -pix_fmt rgb24 -s", size, "-r", FPS, "-i - -c:v ffv1 -pix_fmt bgr0", folder / "v.mkv"
    ffmpeg(*" ".join(map(str, words)).split(), stdin=raw)
    noise = np.random.default_rng(0).normal(size=6 * RATE)
    noise = 0.1 * np.convolve(noise, np.hanning(9) / 4, "same").clip(-5, 5)
    write_wav(folder / "a.wav", noise.astype(np.float32), RATE)
    return folder, noise


def written(folder, video, sound, file, change):
    """Encode the source in a way, or cut what was so encoded without decoding it."""
    if change == "cut by copying":
        plain = file.with_name(f"plain{file.suffix}")
        written(folder, video, sound, plain, "plain")
        ffmpeg("-y", "-ss", 0.73, "-i", plain, "-c", "copy", file)
        return
    pictures = ["-itsoffset", 0.5] if change == "late pictures" else []
    noise = ["-itsoffset", 0.4] if change == "late sound" else []
    codec = ["-c:v", *video.split(), "-c:a", sound, "-threads", 1]
    if video.startswith(("libx264", "libvpx", "mpeg")):
        codec += ["-pix_fmt", "yuv420p"] + ([] if "keyint" in video else ["-g", 15])
    more = {
        "uneven": ["-vf", r"select=not(mod(n\,7))+lt(n\,30)", "-vsync", "vfr"],
        "late start": ["-output_ts_offset", 2, "-avoid_negative_ts", "disabled"],
        "fragments": ["-movflags", "frag_keyframe+empty_moov+default_base_moof"],
    }.get(change, [])
    ffmpeg("-y", *pictures, "-i", folder / "v.mkv", *noise, "-i", folder / "a.wav", *codec, *more, file)


def shown(file):
    """The numbers of the frames that ffmpeg shows, and when (seconds from the recording's start); NaN: unknown."""
    start = float(ffmpeg(*["-show_entries", "format=start_time", "-of", "csv=p=0"], file, program="ffprobe") or 0)
    entries = ["-select_streams", "v:0", "-show_entries", "frame=best_effort_timestamp_time", "-of", "csv=p=0"]
    lines = ffmpeg(*entries, file, program="ffprobe").decode().splitlines()
    stamps = [line.strip(", ") for line in lines if line.strip(", ")]
    raw = ffmpeg("-i", file, *["-map", "0:v:0", "-vsync", "0", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
    frames = np.frombuffer(raw, np.uint8).reshape(-1, SIDE, SIDE, 3)
    times = np.array([np.nan if stamp == "N/A" else float(stamp) - start for stamp in stamps])
    count = min(len(times), len(frames))
    return times[:count], np.array([number(frame) for frame in frames[:count]])


def lag(samples, noise, at):
    """By how much the noise at a moment lies later in samples (seconds), and how alike they are there."""
    piece = noise[round(at * RATE) :][: RATE // 10]
    first = max(0, round((at - 1.5) * RATE))
    there = samples[first : round((at + 1.6) * RATE)]
    if len(there) < len(piece):
        return 0.0, 0.0
    energy = np.sqrt(np.maximum(fftconvolve(there**2, np.ones(len(piece)), "valid"), 1e-9) * (piece**2).sum())
    alike = fftconvolve(there, piece[::-1], "valid") / energy
    return (first + int(alike.argmax())) / RATE - at, float(alike.max())


@pytest.mark.parametrize(("video", "sound", "suffix", "change"), CASES)
def test_pictures_and_sound_are_those_of_ffmpeg(source, tmp_path, video, sound, suffix, change):
    folder, noise = source
    file = tmp_path / f"x{suffix}"
    written(folder, video, sound, file, change)
    times, numbers = shown(file)
    known = ~np.isnan(times)  # ffprobe may not know the last ones
    uneven = np.ptp(np.diff(times[known])) > 0.01
    for span in SPANS:
        frames, moments, _ = read_frames(file, 7, span)
        first, last = max(span.start, times[known][0]), times[known][-1]
        for frame, moment in zip(frames, moments, strict=True):
            if moment <= last + 2e-3:
                at = np.searchsorted(times[known], [moment - ROUNDING, moment + ROUNDING], side="right") - 1
                assert number(frame) in numbers[known][at.clip(0)], (span, moment)
        if span.seconds is not None:  # each in the middle of its part, to a frame; where frames are uneven, no later
            seconds = min(span.start + span.seconds, last + 1 / FPS) - first
            wanted = first + (np.arange(7) + 0.5) * seconds / 7
            late = wanted - moments
            assert (late >= -0.5 / FPS).all(), (span, late)
            assert uneven or (late <= 1.6 / FPS).all(), (span, late)
    whole, _ = read_audio(file, RATE)
    words = f"-map 0:a:0 -af aresample=async=1:min_hard_comp=0.01:first_pts=0 -ac 1 -ar {RATE} -f f32le -".split()
    words += ["-map", "0:v:0", "-f", "null", "-"]  # or time 0 is that of the sound in some formats
    theirs = np.frombuffer(ffmpeg("-i", file, *words), np.float32)
    for at in (1.0, 2.5, 4.0):
        (ours, alike), (wanted, sure) = lag(whole, noise, at), lag(theirs, noise, at)
        if sure > 0.5:
            assert alike > 0.5, at
            assert abs(ours - wanted) < 0.012, at
    part, _ = read_audio(file, RATE, Span(3.3, 0.5))
    np.testing.assert_array_equal(part, whole[round(3.3 * RATE) :][: len(part)])
