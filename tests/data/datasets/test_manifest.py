import csv
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from raw_media import write_video, write_wav

from msafusion.data.datasets import Manifest
from msafusion.data.datasets.table_file import read_manifest
from msafusion.data.preparation import prepare
from msafusion.data.samples import collate
from msafusion.failures import DataError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MSAFUSION_CACHE", str(tmp_path / "cache"))


def write_table(root, rows, name="manifest.csv"):
    with (root / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_arrays(root, num=12):
    """Rows of lips (T, 6, 8) uint8 and sound (T, 3), whose labels show."""
    root.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    rows = []
    for n in range(num):
        label, split = "ab"[n % 2], ("train", "train", "valid", "test")[n // 2 % 4]
        lips = random.integers(0, 50, (5 + n % 3, 6, 8), dtype=np.uint8) + 100 * (n % 2)
        np.savez(root / f"{n}.npz", lips=lips.astype(np.uint8), sound=random.normal(size=(9 + n % 4, 3)) + n % 2)
        rows.append({"id": f"s{n}", "label": label, "split": split, "speaker": f"p{n // 2 % 4}"})
        rows[-1] |= {"lips": f"{n}.npz#lips", "audio": f"{n}.npz#sound"}
    write_table(root, rows)
    return rows


def test_arrays_of_a_manifest_become_samples(tmp_path):
    write_arrays(tmp_path / "set")
    splits = Manifest(tmp_path / "set", {"lips": {"num_steps": 4}, "audio": {}}, group="speaker", workers=1).splits()
    assert splits.classes == ["a", "b"]
    assert splits.channels == {"lips": 1, "audio": 3}
    assert {part: getattr(splits, part).groups for part in ("train", "valid", "test")} == {
        "train": {"p0", "p1"},
        "valid": {"p2"},
        "test": {"p3"},
    }
    batch = collate(list(splits.train))
    assert batch["inputs"]["lips"].shape == (8, 1, 4, 6, 8)
    assert batch["lengths"]["audio"].tolist() == [len(sample["streams"]["audio"]) for sample in splits.train]
    assert splits.extraction["streams"]["lips"]["kind"] == "StoredArray"


def test_media_and_images_are_read_by_what_they_are(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    rows = []
    for n in range(4):
        write_video(
            root / f"{n}.mp4", np.full((6, 16, 24, 3), 60 * n, np.uint8), sound=(np.ones(16000, np.float32) / 4, 16000)
        )
        write_wav(root / f"{n}.wav", np.zeros(8000, np.float32) + 0.1, 16000)
        Image.new("RGB", (10, 8), (n, 0, 0)).save(root / f"{n}.png")
        rows.append({"id": f"s{n}", "label": n % 2, "split": ("train", "train", "test", "test")[n]})
        rows[-1] |= {"video": f"{n}.mp4", "audio": f"{n}.mp4", "voice": f"{n}.wav", "face": f"{n}.png"}
    write_table(root, rows)
    reader = Manifest(root)
    kinds = {stream: type(extractor).__name__ for stream, extractor in reader.extraction.items()}
    assert kinds == {"video": "Frames", "audio": "Mfcc", "voice": "Mfcc", "face": "ImageFile"}
    arrays, _ = Manifest(root, {"video": {"num_frames": 3, "size": 8}, "audio": {}, "face": {"size": 4}}).read(
        reader.items()[1]
    )
    assert arrays["video"].shape == (3, 3, 8, 8)
    assert abs(float(arrays["video"].mean()) - 60) < 6
    assert arrays["audio"].shape[1] == 13
    assert arrays["face"].shape == (3, 4, 4)
    assert reader.verify().ok


def test_parquet_is_a_manifest_too(tmp_path):
    root = tmp_path / "set"
    rows = write_arrays(root)
    (root / "manifest.csv").unlink()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), root / "manifest.parquet")
    assert read_manifest(root)[1] == rows
    (root / "manifest.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"manifest.parquet.*a Parquet file"):
        read_manifest(root)


def test_what_is_prepared_is_not_read_again_until_it_changes(tmp_path):
    root = tmp_path / "set"
    write_arrays(root)
    Manifest(root, workers=1).splits()
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.npy")}
    np.savez(root / "0.npz", lips=np.zeros((5, 6, 8), np.uint8), sound=np.zeros((9, 3)))
    splits = Manifest(root, workers=1).splits()
    changed = {file.stem for file, time in before.items() if file.stat().st_mtime_ns != time}
    assert changed == {"s0"}
    assert not splits.train[0]["streams"]["lips"].any()


def spoil(root, rows, what):
    if what == "empty":
        (root / "manifest.csv").write_text("id,label,split,lips,audio\n")
    elif what == "header":
        write_table(root, [{name: value for name, value in row.items() if name != "label"} for row in rows])
    elif what == "twice":
        write_table(root, [*rows, rows[0]])
    elif what == "outside":
        shutil.copy(root / "0.npz", root.parent / "secret.npz")
        write_table(root, [*rows[1:], {**rows[0], "lips": "../secret.npz#lips"}])
    elif what == "absolute":
        write_table(root, [*rows[1:], {**rows[0], "lips": f"{root}/0.npz#lips"}])
    elif what == "unknown label":
        write_table(root, [{**row, "label": "z"} if row["split"] == "test" else row for row in rows])
    elif what == "no label":
        write_table(root, [*rows[1:], {**rows[0], "label": ""}])
    elif what == "no file":
        (root / "3.npz").unlink()
    elif what == "nan":
        np.savez(root / "3.npz", lips=np.zeros((5, 6, 8), np.uint8), sound=np.full((9, 3), np.nan))
    elif what == "pickle":
        np.savez(root / "3.npz", lips=np.zeros((5, 6, 8), np.uint8), sound=np.array([print], dtype=object))
    elif what == "key":
        np.savez(root / "3.npz", lips=np.zeros((5, 6, 8), np.uint8), other=np.zeros((9, 3)))
    elif what == "speaker":
        write_table(root, [{**row, "speaker": "one"} for row in rows])
    elif what == "first cell":
        write_table(root, [{**rows[0], "lips": ""}, *rows[1:]])
    elif what == "first file":
        (root / "0.npz").write_bytes(b"PK")
    elif what == "stream":
        write_table(root, [{("../lips" if name == "lips" else name): row[name] for name in row} for row in rows])
    elif what == "columns":
        (root / "manifest.csv").write_text("id,label,split,lips,lips\na,b,train,0.npz#lips,0.npz#sound\n")
    elif what == "short row":
        (root / "manifest.csv").write_text("id,label,split,lips,audio\na,b\n")
    elif what == "binary":
        (root / "manifest.csv").write_bytes(b"\xff\xfe\x00id")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("empty", "has no rows, expected one a sample"),
        ("header", "expected also label"),
        ("twice", "the id 's0' occurs twice"),
        ("outside", "'../secret.npz#lips' leads out of the table's folder"),
        ("absolute", "leads out of the table's folder"),
        ("unknown label", r"sample 's6' \(test\) has the unknown label 'z'"),
        ("no label", "row 12 has no label"),
        ("no file", "no file '.*3.npz'"),
        ("nan", r"NaN or infinity \(27 of 27 values\)"),
        ("pickle", "3.npz', 'sound' holds Python objects"),
        ("key", "holds the arrays lips, other, expected 'sound'"),
        ("speaker", r"the splits train and valid share the groups \['one'\]"),
        ("first cell", "row 1, lips: no file is named"),
        ("first file", "the first is 's0': .*0.npz' cannot be read"),
        ("stream", "'../lips' cannot be a stream"),
        ("columns", "has two columns 'lips', expected one"),
        ("short row", r"row 1 \(line 2\): 2 cells, expected 5 columns"),
        ("binary", "expected a CSV file in UTF-8"),
    ],
)
def test_bad_manifests_are_named(tmp_path, what, message):
    root = tmp_path / "set"
    spoil(root, write_arrays(root), what)
    with pytest.raises(DataError, match=message):
        Manifest(root, group="speaker" if what == "speaker" else None, workers=1).splits()


@pytest.mark.parametrize(
    ("what", "message"),
    [("unknown label", "unknown label 'z'"), ("speaker", "share the groups"), ("first cell", "lips")],
)
def test_what_cannot_be_trained_on_is_told_before_anything_is_prepared(tmp_path, what, message):
    root = tmp_path / "set"
    spoil(root, write_arrays(root), what)
    with pytest.raises(DataError, match=message):
        Manifest(root, group="speaker").items()


def test_a_prepared_folder_refuses_options_that_it_was_not_made_with(tmp_path):
    write_arrays(tmp_path / "set")
    prepare(Manifest(tmp_path / "set", {"lips": {"num_steps": 4}, "audio": {}}), tmp_path / "prepared")
    for options, message in [
        ({"group": "speaker"}, "was prepared with group None, this run asks for speaker; prepare it again with group"),
        ({"task": "regression"}, "was prepared with task auto"),
        ({"streams": {"face": {}}}, "has the streams lips, audio, expected face"),
        ({"streams": {"lips": {"num_steps": 5}, "audio": {}}}, "was prepared with num_steps 4"),
    ]:
        with pytest.raises(ValueError, match=message):
            Manifest(tmp_path / "prepared", **options).splits()
    assert len(Manifest(tmp_path / "prepared", {"lips": {"num_steps": 4}, "audio": {}}).splits().train) == 8
    assert list(Manifest(tmp_path / "prepared", {"audio": {}}).splits().channels) == ["audio"]


def test_a_table_named_relative_to_here_keeps_to_its_folder_too(tmp_path, monkeypatch):
    root = tmp_path / "set"
    spoil(root, write_arrays(root), "outside")
    monkeypatch.chdir(root)
    for source in (".", "manifest.csv"):
        with pytest.raises(DataError, match="leads out of the table's folder"):
            Manifest(Path(source)).items()


def test_options_that_fit_nothing(tmp_path):
    root = tmp_path / "set"
    write_arrays(root)
    for streams, message in [
        ({"lisp": {}}, "no column for the stream 'lisp'; did you mean 'lips'"),
        ({"lips": {"num_framse": 3}}, "stream 'lips' cannot be read by"),
        ({"lips": {"kind": "Frams"}}, "unknown extractor 'Frams'"),
    ]:
        with pytest.raises(ValueError, match=message):
            Manifest(root, streams, workers=1).splits()
    with pytest.raises(DataError, match=r"no manifest\.csv in"):
        Manifest(tmp_path / "nowhere").splits()


def test_groups_are_held_out_whatever_the_column_of_splits_says(tmp_path):
    rows = write_arrays(tmp_path / "set", 16)
    write_table(tmp_path / "set", [{key: value for key, value in row.items() if key != "split"} for row in rows])
    held_out = {"valid": ["p0"], "test": ["p1", "p3"]}
    splits = Manifest(tmp_path / "set", {"audio": {}}, group="speaker", held_out=held_out, workers=1).splits()
    groups = {part: getattr(splits, part).groups for part in ("train", "valid", "test")}
    assert groups == {"train": {"p2"}, "valid": {"p0"}, "test": {"p1", "p3"}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "speaker", "held_out": {"test": ["p9"]}}, "held_out names 'p9', expected groups of the column spea"),
        ({"held_out": {"test": ["p1"]}}, "held_out names 'p1', expected groups by --data.group"),
        ({"group": "speaker", "held_out": {"dev": ["p1"]}}, "names the split 'dev', expected valid and test"),
        (
            {"group": "speaker", "held_out": {"valid": ["p1"], "test": ["p1"]}},
            r"valid and test share the groups \['p1'\]",
        ),
    ],
)
def test_groups_that_cannot_be_held_out_are_named(tmp_path, options, message):
    write_arrays(tmp_path / "set")
    with pytest.raises(ValueError, match=message):
        Manifest(tmp_path / "set", **options).items()


def test_differences_beside_a_large_mean_are_kept_by_preparing(tmp_path):
    random, rows = np.random.default_rng(0), []
    for n in range(12):
        x = random.normal(size=(20, 1)) + n % 2
        np.save(tmp_path / f"{n}.npy", np.concatenate([x, x + 1.6e9], 1))
        split = ("train", "valid", "test")[n // 2 % 3]
        rows.append({"id": f"s{n}", "label": "ab"[n % 2], "split": split, "x": f"{n}.npy"})
    write_table(tmp_path, rows)
    splits = Manifest(tmp_path, workers=1).splits()
    inputs = splits.preprocessing.inputs(collate(list(splits.test))["inputs"])["x"]
    np.testing.assert_allclose(inputs[:, 0], inputs[:, 1], atol=1e-5)


@pytest.mark.parametrize("steps", [lambda number: 90, lambda number: 60 + number], ids=["equal", "uneven"])
def test_arrays_whose_time_comes_last_are_found(tmp_path, caplog, steps):
    random = np.random.default_rng(0)
    rows = []
    for number in range(12):
        signal = random.normal(size=(steps(number), 3)) * [1, 5, 20]
        np.save(tmp_path / f"last{number}.npy", signal)
        np.save(tmp_path / f"first{number}.npy", signal.T)
        split = ("train", "train", "valid", "test")[number % 4]
        files = {"last": f"last{number}.npy", "first": f"first{number}.npy"}
        rows.append({"id": f"s{number}", "label": "ab"[number % 2], "split": split, **files})
    write_table(tmp_path, rows)
    splits = Manifest(tmp_path, workers=1).splits()
    assert splits.channels == {"last": 3, "first": 3}
    for sample in splits.train:
        np.testing.assert_array_equal(sample["streams"]["first"], sample["streams"]["last"])
    assert "stream 'first' is (channels, time); set time_axis" in caplog.text
    assert "'last'" not in caplog.text
    if steps(0) == steps(1):
        given = {"first": {"time_axis": 0}, "last": {}}
        assert Manifest(tmp_path, streams=given, workers=1).splits().channels == {"first": 90, "last": 3}


@pytest.mark.parametrize(
    ("options", "named"),
    [({"time_axis": 2}, "time_axis is 2"), ({"time_axis": "1"}, "'time_axis': '1'"),
     ({"kind_of": "map", "time_axis": 1}, "for a map")],
)  # fmt: skip
def test_a_time_axis_that_there_is_not_is_refused(tmp_path, options, named):
    write_arrays(tmp_path)
    with pytest.raises(DataError, match=f"stream 'audio' cannot be read by .*{named}"):
        Manifest(tmp_path, streams={"audio": options}, workers=1).splits()
