"""What may be named to predict from, and what is wrong with it; nothing is read yet."""

import json
import os
import shutil

import numpy as np
import pytest
from saved_models import signals, write_signal_model, write_window_model

import msafusion
from msafusion.predict import Failed, Recording
from msafusion.predict.inputs import recordings


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return msafusion.load(write_signal_model(tmp_path_factory.mktemp("run")))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """b.npz, a/c.npz, [x].npz; and files that are not read."""
    (tmp_path / "a").mkdir()
    for name in ("b.npz", "a/c.npz", "[x].npz", "a/._c.npz"):
        np.savez(tmp_path / name, **signals())
    np.save(tmp_path / "m.npy", signals()["motion"])
    (tmp_path / "notes.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(model, *names, stdin=()):
    return list(recordings(names, model, stdin))


def named(model, *names, stdin=()):
    return [one.name for one in found(model, *names, stdin=stdin)]


def lines(*given):
    return [json.dumps(one) + "\n" for one in given]


def test_files_folders_and_globs_keep_the_order_in_which_they_are_named(model, folder):
    (folder / "m.npy").unlink()
    assert named(model, "b.npz", "a") == ["b.npz", "a/c.npz"]
    assert named(model, ".") == ["[x].npz", "a/c.npz", "b.npz"]
    assert named(model, "b*.npz", "**/c.npz") == ["b.npz", "a/c.npz"]
    assert named(model, "[x].npz") == ["[x].npz"]


def test_a_manifest_names_files_or_streams_relative_to_itself(model, folder, monkeypatch):
    np.save(folder / "a" / "s.npy", signals()["sound"])
    np.save(folder / "a" / "m.npy", signals()["motion"])
    (folder / "a" / "table.csv").write_text("id,label,motion,sound\np,0,m.npy,s.npy\nq,1,c.npz#motion,\n")
    (folder / "files.csv").write_text("file\nb.npz\n")
    monkeypatch.chdir("/")
    one, two = found(model, str(folder / "a" / "table.csv"))
    assert (one.name, one.files) == ("p", {"motion": folder / "a/m.npy", "sound": folder / "a/s.npy"})
    assert (two.name, two.files) == ("q", {"motion": folder / "a/c.npz#motion"})
    assert two.warnings == ("no sound: no file is given for it",)
    assert named(model, str(folder / "files.csv")) == named(model, str(folder / "f*.csv")) == ["b.npz"]


def test_json_lines_name_a_file_or_a_file_for_each_stream(model, folder):
    given = lines("b.npz", {"file": "a/c.npz", "id": 7}, {"motion": "m.npy", "motion_landmarks": "l.csv"})
    one, two, three = found(model, "-", stdin=[*given, "\n"])
    assert (one.name, two.name, three.name) == ("b.npz", "7", "line 3")
    assert {str(file) for file in two.files.values()} == {"a/c.npz#motion", "a/c.npz#sound"}
    assert {name: str(file) for name, file in three.companions.items()} == {"motion": "l.csv"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken\n", "line 1 of standard input is not JSON"),
        (100000 * "[" + "\n", "line 1 of standard input is not JSON"),
        ('{"file": "a", "file": "b.npz"}\n', "line 1 of standard input is not JSON (the key 'file' occurs twice"),
        ("3\n", 'expected {"file": path}'),
        ('{"file": 3}\n', 'expected {"file": path}'),
        ('{"file": ["b.npz"]}\n', 'expected {"file": path}'),
        ("{}\n", "'line 1' names no file"),
        ('{"motions": "b.npz"}\n', "unknown stream 'motions'; did you mean 'motion'?"),
        ('{"file": "b.npz", "motion": "b.npz"}\n', "names a file beside streams"),
        ('"gone.npz"\n', "no file 'gone.npz'"),
        ('{"file": "notes.txt"}\n', "'notes.txt' ends in '.txt', expected .npy .npz; convert it."),
    ],
)
def test_a_bad_line_fails_and_the_others_go_on(model, folder, line, reason):
    failed, fine = found(model, "-", stdin=[line, '"b.npz"\n'])
    assert isinstance(failed, Failed)
    assert reason in failed.error
    assert "\n" not in failed.error
    assert isinstance(fine, Recording)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("p,../b.npz,", "'../b.npz' leads out of the table's folder"),
        ("p,/b.npz,", "'/b.npz' leads out of the table's folder"),
        ("p,,", "'p' names no file"),
        ("p,b.npz,b.npz#motion", "names a file beside streams"),
        ("p,gone.npz,", "gone.npz'; check the path"),
    ],
)
def test_a_bad_row_fails_and_the_others_go_on(model, folder, row, reason):
    (folder / "t.csv").write_text(f"id,file,motion\n{row}\nq,b.npz,\n")
    failed, fine = found(model, "t.csv")
    assert (failed.file, fine.name) == ("p", "q")
    assert reason in failed.error


def test_a_file_that_is_not_there_or_of_an_unknown_kind_fails_and_the_others_go_on(model, folder):
    gone, other, fine = found(model, "gone.npz", "notes.txt", "b.npz")
    assert gone == Failed("gone.npz", "no file 'gone.npz'; check the path.")
    assert "'notes.txt' ends in '.txt', expected .npy .npz" in other.error
    assert fine.name == "b.npz"


def test_a_file_that_may_be_several_streams_must_be_named(model, folder):
    (failed,) = found(model, "m.npy")
    assert failed.error == (
        '\'m.npy\' may be motion or sound; say which in a manifest or on standard input: {"motion": "m.npy"}.'
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a/empty", None, "'a/empty' holds no file that the model reads (.npy .npz)"),
        ("z*.npz", None, "no file matches 'z*.npz'"),
        ("t.csv", "", "'t.csv' has no rows"),
        (
            "t.csv",
            "id,label\np,1\n",
            "'t.csv' has the columns id, label, expected file, or one of the streams motion, sound",
        ),
        ("t.parquet", "text", "'t.parquet' cannot be read (Parquet"),
        ("gone.csv", None, "gone.csv"),
        ("-", None, "standard input holds no line"),
    ],
)
def test_a_name_that_stands_for_nothing_fails_and_the_others_go_on(model, folder, name, content, message):
    (folder / "a" / "empty").mkdir()
    if content is not None:
        (folder / name).write_text(content)
    failed, fine = found(model, name, "b.npz")
    assert failed.file == name
    assert message in failed.error
    assert "\n" not in failed.error
    assert fine.name == "b.npz"


def test_a_mark_of_utf8_before_the_first_line_is_none_of_it(model, folder):
    assert named(model, "-", stdin=["\ufeff" + line for line in lines("b.npz")]) == ["b.npz"]


def test_a_file_whose_name_is_not_utf8_is_found_by_a_line(model, folder):
    odd = folder / os.fsdecode(b"\xff.npz")
    shutil.copy(folder / "b.npz", odd)
    (folder / "lines").write_bytes(b'"b.npz"\n"\xff.npz"\n')
    with (folder / "lines").open(encoding="utf-8", errors="surrogateescape") as stdin:  # as the command opens it
        assert [one.name for one in found(model, "-", stdin=stdin)] == ["b.npz", odd.name]


def test_input_that_is_not_utf8_fails_and_the_others_go_on(model, folder):
    (folder / "lines").write_bytes(b'"b.npz"\n"\xff.npz"\n')
    with (folder / "lines").open(encoding="utf-8") as stdin:
        *_, failed, fine = found(model, "-", "b.npz", stdin=stdin)
    assert "not UTF-8" in failed.error
    assert fine.name == "b.npz"


def test_a_model_of_arrays_refuses_media(folder, tmp_path):
    model = msafusion.load(write_window_model(tmp_path / "run"))
    (folder / "a.mp4").write_bytes(b"any")
    (failed,) = found(model, "a.mp4")
    assert failed.error == "'a.mp4' ends in '.mp4', expected .npy .npz; convert it."
    assert [one.name for one in found(model, "b.npz")] == ["b.npz"]
