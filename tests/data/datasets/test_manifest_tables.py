import numpy as np
import pytest

from msafusion.data.datasets import Manifest
from msafusion.data.datasets.shared_files import check_unshared, groups_by_files
from msafusion.failures import DataError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MSAFUSION_CACHE", str(tmp_path / "cache"))


def table_of(root, rows, text=None):
    """Eight rows with a file each; `rows` changes cells by (row, column)."""
    root.mkdir(exist_ok=True)
    for name in "abcdefgh":
        np.save(root / f"{name}.npy", np.zeros((10, 3), np.float32))
    columns = ["id", "label", "split", "x", "who", "note"]
    table = [
        [f"s{i}", "uv"[i % 2], "train" if i < 4 else "test", f"{'abcdefgh'[i]}.npy", f"p{i}", "n"] for i in range(8)
    ]
    for (row, column), value in rows.items():
        table[row][columns.index(column)] = value
    (root / "manifest.csv").write_text("\n".join(",".join(row) for row in [columns, *table]) + "\n", encoding="utf-8")
    data = Manifest(root, group="who")
    data.items()
    return data


@pytest.mark.parametrize("blank", [" ", "\N{NO-BREAK SPACE}", "\N{ZERO WIDTH SPACE}", "\t"])
def test_blanks_around_names_are_taken_off_with_a_note(tmp_path, caplog, blank):
    reader = table_of(tmp_path, {(2, "label"): f"u{blank}", (3, "x"): " d.npy", (5, "split"): f"{blank}Testing"})
    assert reader.classes == ["u", "v"]
    assert reader.items()[5].columns["split"] == "test"
    assert reader.items()[3].files["x"].is_file()
    assert f"label: 1 of 8 entries lost blanks or invisible characters, as {f'u{blank}'!r}" in caplog.text
    assert "'Testing' is taken for test" in caplog.text
    assert "the columns note are not used" in caplog.text
    with pytest.raises(DataError, match=r"train and test share the groups \['p1'\]"):
        table_of(tmp_path, {(4, "who"): f"p1{blank}"})


def test_names_composed_otherwise_are_one_and_those_that_look_alike_are_noted(tmp_path, caplog):
    names = {(0, "label"): "e\u0301", (2, "label"): "\u00e9", (4, "label"): "\u00e9", (6, "label"): "v"}
    reader = table_of(tmp_path, names | {(5, "who"): "P1"})
    assert reader.classes == ["v", "\u00e9"]
    assert "'P1' and 'p1' are taken for two" in caplog.text


@pytest.mark.parametrize("spelling", ["a.npy", "./a.npy", "link.npy", "hard.npy"])
def test_a_file_in_two_splits_is_refused_unless_it_is_meant(tmp_path, spelling):
    table_of(tmp_path, {})
    (tmp_path / "link.npy").symlink_to("a.npy")
    (tmp_path / "hard.npy").hardlink_to(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"named by 's0' \(train\) and by 's4' \(test\).*allow_shared_files"):
        table_of(tmp_path, {(4, "x"): spelling})
    assert len(Manifest(tmp_path, allow_shared_files=True).items()) == 8
    table_of(tmp_path, {(1, "x"): spelling})
    assert [item.group for item in Manifest(tmp_path).items()][:3] == ["s0", "s0", "s2"]


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ({0: '"5 inch', 2: '6" n'}, r"line 2: this is not CSV"),
        ({0: '"5 inch', 2: 'n"'}, r"row 1 \(line 2\): a quote in column note takes 2 more lines"),
        ({7: '"5 inch'}, r"line 9: this is not CSV"),
    ],
)
def test_a_stray_quote_swallows_no_row(tmp_path, notes, message):
    with pytest.raises(DataError, match=message):
        table_of(tmp_path, {(row, "note"): text for row, text in notes.items()})
    assert len(table_of(tmp_path, {(1, "note"): '"two\nlines, and a ""quote"""'}).items()) == 8


def test_the_only_array_is_the_same_with_its_key_and_without(tmp_path):
    np.savez(tmp_path / "one.npz", x=np.ones(3))
    np.savez(tmp_path / "two.npz", x=np.ones(3), y=np.ones(3))
    files = [[tmp_path / "one.npz"], [tmp_path / "one.npz#x"]]
    assert groups_by_files(files, ["a", "b"]) == ["a", "a"]
    with pytest.raises(DataError, match=r"is named by 'a' \(train\) and by 'b' \(test\)"):
        check_unshared(files, ["train", "test"], ["a", "b"], "table")
    assert groups_by_files([[tmp_path / "two.npz#x"], [tmp_path / "two.npz#y"]], ["a", "b"]) == ["a", "b"]
