"""`msafusion predict`: what is printed where, what is written, the status; and real clips from end to end."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
from faces import face_frames
from raw_media import write_video, write_wav
from raw_ravdess import RATE, tone, write_raw_ravdess
from saved_models import signals, write_model_of, write_signal_model

from msafusion import cli
from msafusion.commands.predict import run_predict
from msafusion.data import RAVDESS
from msafusion.data.ravdess_files import RavdessFiles
from msafusion.media.stored import StoredArray
from msafusion.predict import load
from msafusion.preparation import PreparedFolder, prepare

pytestmark = pytest.mark.usefixtures("without_shape_checks")  # many calls


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_signal_model(tmp_path_factory.mktemp("runs") / "signals")


@pytest.fixture(scope="module")
def clip_run(tmp_path_factory):
    """A model of faces and sound, for clips of 0.8 s, and its raw clips."""
    root = tmp_path_factory.mktemp("ravdess")
    write_raw_ravdess(root / "raw", actors=(1, 5, 9, 13), emotions=(1,))
    prepare(RavdessFiles(root / "raw", num_frames=2, size=16), root / "prepared")
    return write_model_of(root / "run", RAVDESS(root / "prepared", num_valid_actors=1, size=16).splits())


@pytest.fixture
def files(tmp_path):
    """7 s; 2 s without sound; broken; 2 s."""
    np.savez(tmp_path / "long.npz", **signals(70))
    np.savez(tmp_path / "silent.npz", **signals(20, 1, ("motion",)))
    (tmp_path / "zbroken.npz").write_bytes(b"")
    np.savez(tmp_path / "zz[b].npz", **signals(20, 2))
    return tmp_path


@pytest.fixture
def command(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments, stdin=""):
        """Status or the line of the error, standard output, standard error."""
        monkeypatch.setattr(sys, "argv", ["msafusion", "predict", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return call


def parsed(text):
    return [json.loads(line) for line in text.splitlines()]


def test_json_lines_go_to_stdout_and_into_the_run_all_else_to_stderr(command, run, files):
    status, out, err = command(run, files)
    assert status == "msafusion: error: 1 of 4 recordings failed; their lines say why."
    lines = parsed(out)
    assert (run / "predictions.jsonl").read_text() == out
    assert [Path(line["file"]).name for line in lines] == ["long.npz", "silent.npz", "zbroken.npz", "zz[b].npz"]
    assert set(lines[0]) == {"file", "label", "probabilities", "streams", "warnings"}
    assert lines[1]["streams"]["sound"] == {"present": False, "contribution": None}
    assert lines[1]["warnings"] == ["no sound in 'silent.npz'"]
    assert set(lines[2]) == {"file", "error"}
    assert f"msafusion: {files}/zbroken.npz: {lines[2]['error']}" in err
    assert f"results in {run / 'predictions.jsonl'}" in err


def test_files_of_every_kind_of_damage_leave_the_others_alone(command, clip_run, run, tmp_path):
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


def test_a_table_shows_windows_contributions_and_warnings(command, run, files):
    status, out, _ = command(run, files, "--format", "table", "--timeline", "--out", files / "out.jsonl")
    assert "1 of 4" in status
    lines = parsed((files / "out.jsonl").read_text())
    assert [len(line.get("timeline", [])) for line in lines] == [6, 1, 0, 1]
    for word in ("absent", "5.00 s", "7.00 s", "zz[b].npz", f"{files}/silent.npz: no sound in 'silent.npz'"):
        assert word in out
    for line in lines:
        for stream in line.get("streams", {}).values():
            assert stream["contribution"] is None or f"{stream['contribution']:+.3f}" in out


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("out", "bar"), [(io.StringIO, True), (Terminal, False)])
def test_a_progress_bar_on_a_terminal_keeps_out_of_the_lines(run, files, monkeypatch, out, bar):
    monkeypatch.setenv("TERM", "xterm")
    printed, err = out(), Terminal()
    monkeypatch.setattr(sys, "stdout", printed)
    monkeypatch.setattr(sys, "stderr", err)
    run_predict([str(run), str(files / "long.npz"), "--format", "jsonl"])
    assert len(parsed(printed.getvalue())) == 1
    assert ("6/6" in err.getvalue()) == bar


def test_lines_from_standard_input(command, run, files):
    given = [{"file": str(files / "long.npz"), "id": "first"}, {"motion": f"{files}/silent.npz#motion"}]
    status, out, _ = command(run, "-", stdin="\n".join(map(json.dumps, given)))
    assert status == 0
    assert [line["file"] for line in parsed(out)] == ["first", "line 2"]


def test_names_that_are_not_utf8(command, run, files):
    name = os.fsdecode(bytes(files) + b"/\xff.npz")
    np.savez(name, **signals())
    status, out, _ = command(run, name, "--out", files / "out.jsonl")
    assert (status, parsed(out)[0]["file"]) == (0, name)
    assert command(run, name, "--out", files / "out.jsonl", "--format", "table")[0] == 0


def test_what_is_done_is_written_when_ctrl_c_comes(command, run, files, monkeypatch):
    read, seen = StoredArray.__call__, []

    def until(self, file, **options):
        seen.append(file)
        if len(seen) > 18:  # 12 windows and streams of each: in the second
            raise KeyboardInterrupt
        return read(self, file, **options)

    monkeypatch.setattr(StoredArray, "__call__", until)
    status, out, err = command(run, *[files / "long.npz"] * 3, "--batch_size", 1)
    assert f"what is done is in '{run / 'predictions.jsonl'}'" in err
    assert (status, out) == (130, (run / "predictions.jsonl").read_text())
    assert len(parsed(out)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN"], "files"),
        (["gone", "F"], "no config.json in 'gone'"),
        (["EMPTY", "F"], "expected a saved model"),
        (
            ["RUN", "F", "--out", "gone/x.jsonl"],
            "cannot write 'gone/x.jsonl' (No such file or directory); choose another --out.",
        ),
        (["RUN", "F", "--workers", "0"], "--workers is 0"),
        (["RUN", "F", "--batch_size", "0"], "--batch_size is 0"),
        (["RUN", "F", "--format", "xml"], "format"),
        (["RUN", "EMPTY"], "holds no file that the model reads"),
        (["RUN", "z*.mp4"], "no file matches 'z*.mp4'"),
        (["RUN", "-"], "standard input holds no line"),
    ],
)
def test_mistakes_end_in_one_line(command, run, files, arguments, message):
    (files / "empty").mkdir()
    (run / "predictions.jsonl").write_text("before\n")
    places = {"RUN": run, "F": files / "long.npz", "EMPTY": files / "empty"}
    status, out, _ = command(*(places.get(word, word) for word in arguments))
    assert message in status
    assert "\n" not in status
    assert out == ""
    assert (run / "predictions.jsonl").read_text() == "before\n"


def test_help_needs_no_torch():
    program = "import sys; from msafusion.cli import main; sys.argv = ['msafusion', 'predict', '--help']\n"
    program += "try: main()\nexcept SystemExit: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "JSON lines" in done.stdout
    assert done.stdout.endswith("False\n")


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
    prepared = PreparedFolder(clip_run.parent / "prepared", "ravdess", videos=("video",))
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
    short = ["--alone.epochs", "1", "--fused.epochs", "1", "--out", str(tmp_path / "run")]
    from msafusion.training.options import run_train  # seconds

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


def test_names_that_stand_for_nothing_get_a_line_each_beside_others(command, run, files, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "broken.csv").write_text("id,label\np,1\n")
    status, out, _ = command(run, tmp_path / "none", tmp_path / "q*.npz", tmp_path / "broken.csv", files / "long.npz")
    assert "3 of 4 recordings failed" in status
    *failed, fine = parsed(out)
    assert "holds no file that the model reads" in failed[0]["error"]
    assert "no file matches" in failed[1]["error"]
    assert "has the columns id, label" in failed[2]["error"]
    assert fine["label"]
