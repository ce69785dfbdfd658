"""`msafusion predict` of real clips from end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
from faces import face_frames
from json_lines import parsed
from raw_media import write_video, write_wav
from raw_ravdess import RATE, tone, write_raw_ravdess
from saved_models import write_model_of

from msafusion.data.datasets import RAVDESS
from msafusion.data.preparation import PreparedFolder, prepare
from msafusion.predict import load

pytestmark = pytest.mark.usefixtures("without_shape_checks")  # many calls


@pytest.fixture(scope="module")
def clip_run(tmp_path_factory):
    """A model of faces and sound, for clips of 0.8 s, and its raw clips."""
    root = tmp_path_factory.mktemp("ravdess")
    write_raw_ravdess(root / "raw", actors=(1, 5, 9, 13), emotions=(1,))
    prepare(RAVDESS(root / "raw", num_frames=2, frame_size=16), root / "prepared")
    return write_model_of(root / "run", RAVDESS(root / "prepared", num_valid_actors=1, size=16).splits())


def test_files_of_every_kind_of_damage_leave_the_others_alone(command, clip_run, tmp_path):
    good = tmp_path / "a.wav"
    write_wav(good, tone(1, 0.8), RATE)
    values = (tone(1, 0.8) / 32768).astype(np.float32)
    values[100] = np.nan
    scipy.io.wavfile.write(tmp_path / "b_nan.wav", RATE, values)
    damaged = bytearray(good.read_bytes())
    damaged[20:22] = (0x1234).to_bytes(2, "little")
    (tmp_path / "c_codec.wav").write_bytes(damaged)
    (tmp_path / "d_garbage.mp4").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "z.wav").write_bytes(good.read_bytes())
    (tmp_path / "out.jsonl").write_text("earlier\n")
    wanted = sorted([*tmp_path.glob("*.wav"), *tmp_path.glob("*.mp4")])
    lines = ['{"id": ' + "1" * 5000 + "}", "[" * 100_000, '{"id": NaN, "file": "x"}', '{"file": "a\\u0000b.wav"}']
    lines += [json.dumps({"file": str(file)}) for file in wanted]
    status, out, err = command(clip_run, "-", "--out", tmp_path / "out.jsonl", stdin="\n".join(lines))
    assert "of 9 recordings failed" in status
    assert (tmp_path / "out.jsonl").read_text() == out
    assert "Traceback" not in err
    found = {Path(line["file"]).name: line for line in parsed(out)}
    assert len(found) == 9
    assert "label" in found["a.wav"]
    assert "label" in found["z.wav"]
    assert [name for name in list(found)[:3] if "is not JSON" in found[name]["error"]] == ["line 1", "line 2", "line 3"]
    for name in ("c_codec.wav", "d_garbage.mp4"):
        assert name in found[name]["error"]
        assert "\n" not in found[name]["error"]


def face(file, corners, seconds=0.8, **more):
    frames = face_frames([corners] * round(10 * seconds), 60, 80, 80 * max(1, len(corners)))
    return write_video(file, frames, rate=10, **more)


def test_clips_are_predicted_from_what_is_there_and_broken_ones_reported(command, clip_run, tmp_path):
    sound, at = (tone(3, 0.8), RATE), [(10, 10)]
    face(tmp_path / "a_sound.mp4", at, sound=sound)
    face(tmp_path / "b_mute.mp4", at)
    write_video(tmp_path / "c_no_face.mp4", np.full((8, 3), 90), rate=10, sound=sound)
    face(tmp_path / "d_silent.mp4", at, sound=(np.zeros(round(0.8 * RATE)), RATE))
    face(tmp_path / "e_three.mp4", [(10, 10), (90, 10), (170, 10)], sound=sound)
    face(tmp_path / "f_one_frame.mp4", at, seconds=0.1)
    write_wav(tmp_path / "g_only.wav", *sound)
    whole = (tmp_path / "a_sound.mp4").read_bytes()
    (tmp_path / "h_cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "i_zero.wav").write_bytes(b"")
    (tmp_path / "j_text.mp4").write_text("text")
    write_video(tmp_path / "k_nothing.mp4", np.full((8, 3), 90), rate=10)
    status, out, _ = command(clip_run, tmp_path)
    lines = {Path(line["file"]).name[0]: line for line in parsed(out)}
    assert list(lines) == list("abcdefghijk")
    assert "4 of 11 recordings failed" in status
    present = {
        name: [s for s, part in line["streams"].items() if part["present"]]
        for name, line in lines.items()
        if "streams" in line
    }
    both = ["video", "audio"]
    assert present == {"a": both, "b": ["video"], "c": ["audio"], "d": both, "e": both, "f": ["video"], "g": ["audio"]}
    said = {name: " ".join(line.get("warnings", [line.get("error")])) for name, line in lines.items()}
    for name, words in {
        "b": "no audio: ", "c": "no video: ", "d": "silent throughout", "e": "3 faces", "f": "a single frame",
        "g": "no video: it is not read from .wav files", "h": "cannot be read", "i": "is empty (0 bytes)",
        "j": "cannot be read", "k": "holds none of the streams video, audio",
    }.items():  # fmt: skip
        assert words in said[name], said[name]


def test_a_clip_with_its_landmarks_is_seen_as_in_training(command, clip_run):
    prepared = PreparedFolder(clip_run.parent / "prepared", "RAVDESS")
    (clip,) = (clip_run.parent / "raw" / "Actor_05").glob("*.mp4")
    (landmarks,) = (clip_run.parent / "raw").rglob(f"{clip.stem}.csv")
    arrays = {stream: prepared.array(stream, clip.stem) for stream in ("video", "audio")}
    status, out, _ = command(clip_run, "-", stdin=json.dumps({"file": str(clip), "video_landmarks": str(landmarks)}))
    (line,) = parsed(out)
    assert (status, line["streams"]["video"]["present"]) == (0, True)
    model = load(clip_run)
    assert list(line["probabilities"].values()) == pytest.approx(model(arrays)[0].tolist(), abs=1e-6)


@pytest.mark.slow
def test_raw_clips_are_prepared_trained_on_and_predicted(clip_run, tmp_path, monkeypatch, command):
    size = ["--data.root", str(clip_run.parent / "prepared"), "--data.size", "16", "--network", "SmallCNN"]
    short = ["--unimodal.epochs", "1", "--multimodal.epochs", "1", "--out", str(tmp_path / "run")]
    from msafusion.commands.train import run_train  # seconds

    run_train(["--data", "RAVDESS", *size, "--data.num_valid_actors", "1", *short])
    command()  # what training printed
    status, out, _ = command(tmp_path / "run", clip_run.parent / "raw")
    lines = parsed(out)
    assert (status, len(lines)) == (0, 4)
    assert all(line["label"] in line["probabilities"] for line in lines)
    assert load(tmp_path / "run").predict(lines[0]["file"]).label == lines[0]["label"]


def test_a_long_clip_is_cut_into_windows_some_without_a_face(command, clip_run, tmp_path):
    frames = face_frames([[(10, 10) if i < 8 else (np.nan, np.nan)] for i in range(16)], 60, 80, 80)
    write_video(tmp_path / "x.mp4", frames, rate=10, sound=(tone(3, 2.8), RATE))
    status, out, _ = command(clip_run, tmp_path / "x.mp4", "--timeline")
    (line,) = parsed(out)
    assert status == 0
    starts = [window["start"] for window in line["timeline"]]
    assert starts == pytest.approx([0, 0.4, 0.8, 1.2, 1.6, 2.0], abs=0.05)
    assert line["timeline"][-1]["end"] == pytest.approx(2.8, abs=0.05)
    assert all(part["present"] for part in line["streams"].values())
    assert any("no face in 2 frames" in w and "first at 0.8" in w for w in line["warnings"]), line["warnings"]
    assert any("it ends after 1.60 s" in warning for warning in line["warnings"]), line["warnings"]
