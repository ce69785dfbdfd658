"""Sound of real small recordings, to the sample, and its MFCCs."""

import shutil
import subprocess
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
from raw_media import grey_frames, write_video, write_wav

from msafusion.data.extractors import EXTRACTORS, extractor_from
from msafusion.data.media import Mfcc, Span, StreamMissing
from msafusion.data.media.audio import read_audio
from msafusion.failures import DataError

RATE = 44100
GRID = Path(__file__).resolve().parents[3] / "../shared/data/grid_s1/clips"


def noise(seconds, channels=1, seed=0):
    """(channels, time), each value one of a 16 bit file's."""
    values = np.random.default_rng(seed).integers(-9000, 9000, (channels, round(seconds * RATE)))
    return (values / 32768).astype(np.float32)


def tone(rate, seconds=1.0, pitch=440):
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("suffix", "codec"), [(".wav", "pcm_s16le"), (".wav", "pcm_f32le"), (".flac", "flac")])
def test_samples_are_the_files_own_and_channels_are_averaged(tmp_path, channels, suffix, codec):
    given = noise(0.5, channels)
    samples, notes = read_audio(write_wav(tmp_path / f"x{suffix}", given, RATE, codec), RATE)
    np.testing.assert_array_equal(samples, given.mean(axis=0, dtype=np.float32))
    assert samples.dtype == np.float32
    assert not notes


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("start", [0.0, 0.31234, 1.7])
def test_a_span_is_cut_to_the_sample(tmp_path, suffix, start):
    given = noise(2.5)
    file = write_wav(tmp_path / f"x{suffix}", given, RATE, "flac" if suffix == ".flac" else "pcm_s16le")
    first = round(start * RATE)
    np.testing.assert_array_equal(read_audio(file, RATE, Span(start, 0.25))[0], given[0, first : first + 11025])
    np.testing.assert_array_equal(read_audio(file, RATE, Span(start))[0], given[0, first:])


@pytest.mark.parametrize("suffix", [".mp4", ".mpg", ".avi", ".mkv"])
def test_a_span_of_a_videos_sound_is_what_the_whole_has_there(tmp_path, suffix):
    # AAC's decoder makes noise up
    file = write_video(tmp_path / f"x{suffix}", grey_frames(np.arange(75)), sound=(noise(3.0), RATE))
    whole, part = read_audio(file, RATE)[0], read_audio(file, RATE, Span(1.9, 0.5))[0]
    assert len(whole) == pytest.approx(3 * RATE, abs=3000)
    first = round(1.9 * RATE)
    np.testing.assert_array_equal(part, whole[first : first + len(part)])
    assert len(part) == RATE // 2


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_resampled_sound_is_the_same_sound(tmp_path, rate):
    file = write_wav(tmp_path / "x.wav", tone(22050), 22050)
    samples, _ = read_audio(file, rate)
    assert len(samples) == rate
    np.testing.assert_allclose(samples[200:-200], tone(rate)[200:-200], atol=1e-3)


def test_mfccs_are_those_of_librosa(tmp_path):
    import librosa

    given = noise(3.2, 2)
    found = Mfcc()(write_wav(tmp_path / "x.wav", given, RATE))
    cut = given.mean(axis=0, dtype=np.float32)[22050 : 22050 + 108045]
    np.testing.assert_array_equal(found.values, librosa.feature.mfcc(y=cut, sr=RATE, n_mfcc=13))
    assert found.values.shape == (13, 212)
    assert not found.notes
    later = Mfcc()(tmp_path / "x.wav", span=Span(0.25, 3.0)).values
    cut = given.mean(axis=0, dtype=np.float32)[33075 : 33075 + 108045]
    np.testing.assert_array_equal(later, librosa.feature.mfcc(y=cut, sr=RATE, n_mfcc=13))


@pytest.mark.filterwarnings("ignore:.*slated for removal:DeprecationWarning")  # what librosa.load imports
@pytest.mark.parametrize("rate", [48000, 16000])
def test_mfccs_of_sound_at_another_rate_are_those_of_librosa(tmp_path, rate):
    import librosa

    file = write_wav(tmp_path / "x.wav", noise(3.2 * rate / RATE, 2), rate)
    found = Mfcc()(file)
    loaded, _ = librosa.load(file, sr=RATE, offset=0.5, duration=2.45)
    np.testing.assert_allclose(found.values, librosa.feature.mfcc(y=loaded, sr=RATE, n_mfcc=13), atol=1e-3)
    assert not found.notes


def test_a_short_sound_gets_zeros_at_its_end_and_a_note(tmp_path):
    import librosa

    given = noise(1.0)
    found = Mfcc()(write_wav(tmp_path / "x.wav", given, RATE))
    padded = np.pad(given[0, 22050:], (0, 108045 - 22050))
    np.testing.assert_array_equal(found.values, librosa.feature.mfcc(y=padded, sr=RATE, n_mfcc=13))
    assert found.notes == ["sound of 0.50 s, zeros up to 2.45 s"]


def test_a_whole_clip_is_a_sequence(tmp_path):
    file = write_wav(tmp_path / "x.wav", noise(1.0), RATE)
    extractor = Mfcc(offset=0.0, seconds=None)
    assert extractor.layout == "sequence"
    assert extractor(file).values.shape == (1 + RATE // 512, 13)
    assert extractor(file, span=Span(0.5)).values.shape == (1 + RATE // 2 // 512, 13)
    few = extractor(file, span=Span(0.99))
    assert few.values.shape == (5, 13)
    assert few.notes == ["sound of 0.01 s, zeros up to 0.05 s"]


def test_silence_is_noted(tmp_path):
    found = Mfcc()(write_wav(tmp_path / "x.wav", np.zeros(4 * RATE), RATE))
    assert found.notes == ["the sound is silent throughout"]
    assert np.isfinite(found.values).all()


def test_a_video_without_sound_says_so(tmp_path):
    file = write_video(tmp_path / "x.mp4", grey_frames([1, 2, 3]))
    with pytest.raises(StreamMissing, match="no sound track"):
        Mfcc()(file)
    with pytest.raises(StreamMissing, match="no sound track"):
        Mfcc().probe(file)


def test_a_sound_that_ends_before_the_span_says_so(tmp_path):
    with pytest.raises(StreamMissing, match=r"sound of 0.20 s, expected some after 0.50 s"):
        Mfcc()(write_wav(tmp_path / "x.wav", noise(0.2), RATE))
    with pytest.raises(DataError, match="more than the offset"):
        Mfcc()(tmp_path / "x.wav", span=Span(0.0, 0.4))


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"words " * 99, "cannot be read"), (None, "no file")]
)
def test_files_that_are_no_sound_are_refused_in_one_line(tmp_path, content, message, capfd):
    file = tmp_path / "x.wav"
    if content is not None:
        file.write_bytes(content)
    for reading in (lambda: Mfcc()(file), lambda: Mfcc().probe(file)):
        with pytest.raises(DataError, match=message) as caught:
            reading()
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_header_without_samples_is_refused(tmp_path):
    file = write_wav(tmp_path / "x.wav", noise(0.1), RATE)
    file.write_bytes(file.read_bytes()[:100].split(b"data")[0] + b"data\0\0\0\0")
    with pytest.raises(DataError, match=r"x\.wav"):
        read_audio(file, RATE)


def test_a_cut_off_sound_is_refused(tmp_path):
    file = write_wav(tmp_path / "x.flac", noise(2.0), RATE, "flac")
    file.write_bytes(file.read_bytes()[:90000])
    with pytest.raises(DataError, match=r"cut off or broken: its sound ends after 0.\d+ s, expected 2.00 s"):
        read_audio(file, RATE)
    assert len(read_audio(file, RATE, Span(0.0, 0.3))[0]) == round(0.3 * RATE)


@pytest.mark.parametrize("suffix", [".wav", ".mkv"])
def test_half_a_sound_whose_header_tells_its_length_is_refused(tmp_path, suffix):
    file = tmp_path / f"x{suffix}"
    if suffix == ".wav":
        write_wav(file, noise(3.0), RATE)
    else:
        write_video(file, grey_frames(np.arange(75)), sound=(noise(3.0), RATE))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut off or broken: its sound ends after [12]\.\d+ s, expected 3\.\d+ s"):
        read_audio(file, RATE)
    assert len(read_audio(file, RATE, Span(0.0, 0.5))[0]) == RATE // 2


def test_sound_written_to_a_pipe_tells_no_length(tmp_path):
    file = write_wav(tmp_path / "x.wav", noise(0.5), RATE)
    content = bytearray(file.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"
    file.write_bytes(content)
    assert len(read_audio(file, RATE)[0]) == RATE // 2
    assert Mfcc().probe(file) == pytest.approx(0.5)


@pytest.mark.parametrize("options", [{"rate": 0}, {"rate": "fast"}, {"hop": 0}, {"offset": -0.1}, {"seconds": 0.0}])
def test_wrong_options_are_refused(options, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users run it
    with pytest.raises(ValueError, match="expected"):
        Mfcc(**options)


def test_an_extractor_is_made_again_from_what_is_saved(tmp_path):
    assert extractor_from(Mfcc(rate=16000, seconds=None).as_dict()) == Mfcc(rate=16000, seconds=None)
    assert EXTRACTORS["Mfcc"] is Mfcc
    assert Mfcc().probe(write_wav(tmp_path / "x.wav", noise(1.25), RATE)) == pytest.approx(1.25)


@pytest.mark.skipif(not GRID.is_dir(), reason="the GRID clips are not here")
def test_the_sound_of_mpeg_is_read():
    file = sorted(GRID.glob("*.mpg"))[0]
    whole, _ = read_audio(file, RATE)
    assert len(whole) == 131328
    np.testing.assert_array_equal(read_audio(file, RATE, Span(2.0, 0.5))[0], whole[88200:110250])
    assert Mfcc()(file).values.shape == (13, 212)


@pytest.mark.parametrize(("suffix", "codec"), [(".m4a", "aac"), (".wav", "pcm_f32le"), (".ogg", "libopus")])
def test_sound_of_eight_channels_is_their_mean(tmp_path, suffix, codec):
    given = np.tile(tone(48000), (8, 1)) * np.linspace(0.2, 1, 8)[:, None]
    samples, _ = read_audio(write_wav(tmp_path / f"x{suffix}", given, 48000, codec), 48000)
    middle = slice(10_000, 30_000)  # codecs are not exact, least so at the ends
    assert np.corrcoef(samples[middle], tone(48000)[middle])[0, 1] > 0.99


@pytest.mark.parametrize("rate", [10, 319])
def test_sound_of_absurdly_few_samples_a_second_is_refused(tmp_path, rate):
    write_wav(tmp_path / "x.wav", noise(0.01)[0], rate)
    with pytest.raises(DataError, match=rf"x.wav': the sound has {rate} samples a second, expected at least 320 to"):
        read_audio(tmp_path / "x.wav", 16000)
    assert len(read_audio(tmp_path / "x.wav", rate)[0]) == 441  # nothing to make


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
@pytest.mark.parametrize(("name", "codec"), [("x.flac", "flac"), ("x.mkv", "tta")])
def test_large_blocks_lose_no_span_at_the_end(tmp_path, name, codec):
    """FFmpeg finds no place in FLAC of such blocks, and Matroska gives the last one of TTA its nominal length."""
    options = ["-frame_size", "16384"] if codec == "flac" else []
    source = ["-f", "lavfi", "-i", "sine=440:d=4"]
    subprocess.run(["ffmpeg", "-v", "error", *source, "-c:a", codec, *options, tmp_path / name], check=True)
    whole, part = read_audio(tmp_path / name, RATE)[0], read_audio(tmp_path / name, RATE, Span(3.5, 1))[0]
    assert len(whole) == 4 * RATE
    np.testing.assert_array_equal(part, whole[round(3.5 * RATE) :])
