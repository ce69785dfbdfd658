"""What columns of a manifest may hold, and what stands for nothing."""

import pyarrow
import pyarrow.parquet
import pytest
from test_manifest import write_arrays, write_table

from msafusion.data.datasets import Manifest
from msafusion.failures import DataError


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (lambda n: b"\xff%d" % (n % 2), r"manifest.parquet', label: row 1 holds b'\\xff0', expected text in UTF-8"),
        (lambda n: [n % 2], r"manifest.parquet', label: row 1 holds \[0\], expected a number or a string"),
        (lambda n: {"is": n % 2}, "manifest.parquet', label: row 1 holds {'is': 0}, expected a number or a string"),
        (lambda n: None if n == 2 else n % 2, "row 3 has no label"),
        (lambda n: float("nan") if n == 2 else n % 2 + 0.5, "row 3 has no label"),
    ],
)
def test_what_has_no_text_is_no_label(tmp_path, label, message):
    rows = [{**row, "label": label(n)} for n, row in enumerate(write_arrays(tmp_path / "set"))]
    (tmp_path / "set/manifest.csv").unlink()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "set/manifest.parquet")
    with pytest.raises(DataError, match=message):
        Manifest(tmp_path / "set").items()


def test_a_nul_in_a_path_is_one_line_that_names_the_row(tmp_path):
    rows = write_arrays(tmp_path / "set")
    rows[4]["audio"] = "4\0.npz#sound"
    write_table(tmp_path / "set", rows)
    with pytest.raises(DataError, match=r"manifest.csv', row 5, audio: '4\\x00.npz#sound' has a NUL"):
        Manifest(tmp_path / "set").items()


def test_bytes_are_text_and_unused_lists_are_left_out(tmp_path, caplog):
    rows = [{**row, "label": row["label"].encode(), "faces": [1, 2]} for row in write_arrays(tmp_path / "set")]
    (tmp_path / "set/manifest.csv").unlink()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "set/manifest.parquet")
    assert Manifest(tmp_path / "set").classes == ["a", "b"]
    assert "the column faces is left out: row 1 holds [1, 2]" in caplog.text


def test_rows_without_a_group_are_no_group(tmp_path, caplog):
    rows = write_arrays(tmp_path / "set")
    write_table(
        tmp_path / "set", [{**row, "speaker": "NA" if n == 0 else row["speaker"]} for n, row in enumerate(rows)]
    )
    Manifest(tmp_path / "set", group="speaker").items()
    assert "speaker: 'NA' is taken for a name; leave it empty where it stands for a missing value" in caplog.text
    rows[4]["speaker"] = ""
    write_table(tmp_path / "set", rows)
    with pytest.raises(DataError, match="speaker: row 5 is empty, expected its group"):
        Manifest(tmp_path / "set", group="speaker").items()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace(",", ";"), "separates its columns by semicolons, expected commas"),
        (lambda text: text.replace(",", "\t"), "separates its columns by tabs, expected commas"),
        (lambda text: "sep=,\n" + text, "begins with 'sep='"),
    ],
)
def test_tables_of_spreadsheets_are_refused_by_what_separates_them(tmp_path, change, message):
    write_arrays(tmp_path / "set")
    table = tmp_path / "set/manifest.csv"
    table.write_text(change(table.read_text()))
    with pytest.raises(DataError, match=message):
        Manifest(tmp_path / "set").items()


def test_what_streams_are_taken_for_is_noted(tmp_path, caplog):
    write_table(tmp_path, [{**row, "": "1"} for row in write_arrays(tmp_path)])
    Manifest(tmp_path).items()
    assert "lips as a video of 1 channel (StoredArray), audio as a sequence of 3 channels (StoredArray)" in caplog.text
    assert "the columns speaker, (no name) are not used" in caplog.text
