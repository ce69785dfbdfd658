"""Windows of a long sound take a time that grows with its length, and hold what each alone would."""

from pathlib import Path

import numpy as np
import pytest
from raw_media import write_wav

from msafusion.data.media import ahead, audio
from msafusion.data.media.ahead import Heard
from msafusion.data.media.audio import read_audio
from msafusion.data.media.extraction import Span
from msafusion.data.media.placing import Piece
from msafusion.failures import DataError

RATE, SECONDS = 8000, 60
STARTS = np.arange(0, 55, 2.5)


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch):
    monkeypatch.setattr(ahead, "_kept", type(ahead._kept)())


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    noise = np.random.default_rng(0).normal(size=SECONDS * RATE).clip(-3, 3) / 4
    return write_wav(tmp_path_factory.mktemp("long") / "long.mp3", noise, RATE, "libmp3lame")


def test_windows_are_cut_from_what_was_decoded_ahead(long, monkeypatch):
    spans, decode = [], audio._decoded_anew

    def counted(file, span, end):
        spans.append(span)
        return decode(file, span, end)

    monkeypatch.setattr(audio, "_decoded_anew", counted)
    parts = [read_audio(long, RATE, Span(start, 5.0))[0] for start in STARTS]
    assert len([span for span in spans if span.start >= ahead.MIN_START]) <= 3
    whole, _ = read_audio(long, RATE)
    for start, part in zip(STARTS, parts, strict=True):
        np.testing.assert_array_equal(part, whole[round(start * RATE) :][: 5 * RATE])


def test_a_changed_file_is_decoded_again(long, tmp_path):
    file = tmp_path / "x.mp3"
    file.write_bytes(long.read_bytes())
    before, _ = read_audio(file, RATE, Span(20, 1.0))
    write_wav(file, np.sin(np.arange(60 * RATE) * 0.3) / 2, RATE, "libmp3lame")
    after, _ = read_audio(file, RATE, Span(20, 1.0))
    assert np.abs(before - after).max() > 0.1


@pytest.mark.parametrize(("start", "notes"), [(10, []), (15, ["a hole"])])
def test_what_lies_behind_a_span_says_nothing_about_it(start, notes):
    decoded = []

    def decode(span):
        decoded.append(span)
        if span.start + span.seconds > 30:
            raise DataError("jumps at 30 s")
        found = ["a hole"] if span.start + span.seconds > 20 else []
        return Heard(span, [Piece(10, np.zeros(round(span.seconds * 10), np.float32))], 99.0, found, [])

    span = Span(start, 6.0)
    for _ in range(2):
        sound = ahead.heard(Path("x.mp3"), (), span, 10, decode)
        assert (len(sound.pieces[0].samples), sound.notes) == (60, notes)
    assert [part == span for part in decoded] == [False, True, True]  # ahead once
    with pytest.raises(DataError, match="jumps at 30 s"):
        ahead.heard(Path("x.mp3"), (), Span(28, 6.0), 10, decode)
