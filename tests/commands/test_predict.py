"""`msafusion predict`: what is printed where, what is written, the status."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from json_lines import parsed
from saved_models import signals, write_signal_model

from msafusion.commands.predict import run_predict
from msafusion.data.media.stored import StoredArray

pytestmark = pytest.mark.usefixtures("without_shape_checks")  # many calls


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_signal_model(tmp_path_factory.mktemp("runs") / "signals")


@pytest.fixture
def files(tmp_path):
    """7 s; 2 s without sound; broken; 2 s."""
    np.savez(tmp_path / "long.npz", **signals(70))
    np.savez(tmp_path / "silent.npz", **signals(20, 1, ("motion",)))
    (tmp_path / "zbroken.npz").write_bytes(b"")
    np.savez(tmp_path / "zz[b].npz", **signals(20, 2))
    return tmp_path


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
