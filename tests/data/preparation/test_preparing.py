"""Preparing: what a prepared folder holds, and what a second run, a limit or other settings do to it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from number_files import Files, content, readers, reads

from msafusion.data.preparation.prepared import PreparedFolder
from msafusion.data.preparation.preparing import prepare, prepare_cached
from msafusion.failures import DataError


def test_a_prepared_folder_says_how_it_was_made(source, tmp_path):
    target = tmp_path / "deep" / "out"
    report = prepare(Files(source), target)
    assert (report.prepared, report.skipped, report.failed) == (5, 0, {})
    assert report.notes == {"even0": ["numbers: short"]}
    assert report.rate > 0
    folder = PreparedFolder(target, None)
    assert [row["id"] for row in folder.rows] == ["even0", "even2", "even4", "odd1", "odd3"]
    assert folder.rows[3] == {"id": "odd1", "label": "1", "group": "g", "part": "x"}
    assert folder.sequences == ("numbers",)
    assert folder.extraction == {
        "streams": {"numbers": {"kind": "Numbers", "scale": 1.0}},
        "seconds": folder.info["seconds"],
    }
    assert folder.info["seconds"] == 2.5
    sample = folder.samples(folder.rows)[4]
    assert sample["lengths"] == {"numbers": 6}
    assert sample["streams"]["numbers"].eq(3).all()
    assert folder.verify() == []
    saved = json.loads((target / "settings.json").read_text())
    assert saved["settings"]["extraction"] == folder.extraction["streams"]
    assert {"msafusion", "numpy"} <= saved["versions"].keys()
    assert not list(target.rglob(".*"))


def test_two_workers_do_what_one_does(source, tmp_path):
    np.save(source / "even9.npy", np.array([["a", "b"]]))
    one, two = tmp_path / "one", tmp_path / "two"
    alone = prepare(Files(source), one)
    (source / "wait_for_3").touch()  # this process and two workers
    together = prepare(Files(source), two, workers=2)
    assert content(one) == content(two)
    assert together.failed.keys() == alone.failed.keys() == {"even9"}
    assert len(readers(source) - {str(os.getpid())}) == 2


def test_only_what_is_missing_or_has_changed_is_done_again(source, tmp_path):
    target = tmp_path / "out"
    prepare(Files(source), target)
    again = prepare(Files(source), target)
    assert (again.prepared, again.skipped, again.notes) == (0, 5, {"even0": ["numbers: short"]})
    np.save(source / "odd1.npy", np.full((9, 2), 7.0, np.float32))
    (target / "numbers" / "odd3.npy").unlink()
    (target / "numbers" / "even4.npy").write_bytes(b"torn")
    np.save(source / "odd8.npy", np.zeros((4, 2), np.float32))
    assert prepare(Files(source), target).prepared == 4
    assert reads(source) == {"even0": 1, "even2": 1, "even4": 2, "odd1": 2, "odd3": 2, "odd8": 1}
    folder = PreparedFolder(target, "Files")
    assert folder.verify() == []
    assert folder.array("numbers", "odd1").shape == (9, 2)


def test_what_is_no_longer_there_leaves_the_table(source, tmp_path):
    prepare(Files(source), tmp_path / "out")
    (source / "odd1.npy").unlink()
    prepare(Files(source), tmp_path / "out")
    assert len(PreparedFolder(tmp_path / "out", "Files").rows) == 4


def test_another_source_is_not_taken_for_the_first(source, tmp_path):
    prepare(Files(source), tmp_path / "out")
    source.rename(tmp_path / "moved")  # names, sizes and times agree
    with pytest.raises(
        ValueError, match=r"prepared from '.*raw', this run has '.*moved'; .*\(--overwrite\), also where"
    ):
        prepare(Files(tmp_path / "moved"), tmp_path / "out")
    assert prepare(Files(tmp_path / "moved"), tmp_path / "out", overwrite=True).prepared == 5
    assert prepare(Files(tmp_path / "out" / ".." / "moved"), tmp_path / "out").skipped == 5


def test_a_limit_spreads_over_the_data_set_and_the_rest_follows(source, tmp_path):
    trial = prepare(Files(source), tmp_path / "out", limit=2)
    assert (trial.prepared, reads(source)) == (2, {"even0": 1, "even4": 1})
    assert len(PreparedFolder(tmp_path / "out", "Files").rows) == 2
    assert PreparedFolder(tmp_path / "out", "Files").incomplete == "2 of 5 samples"
    rest = prepare(Files(source), tmp_path / "out", limit=50)
    assert (rest.prepared, rest.skipped) == (3, 2)
    assert PreparedFolder(tmp_path / "out", "Files").incomplete == ""


def test_other_settings_are_refused_or_overwrite(source, tmp_path):
    target = tmp_path / "out"
    prepare(Files(source), target)
    before = content(target)
    with pytest.raises(ValueError, match=r"prepared with extraction\.numbers\.scale = 1\.0, this run has 2; choose"):
        prepare(Files(source, scale=2), target)
    assert content(target) == before
    (target / "numbers" / "mine.npy").write_bytes(b"of the user")
    (target / "mine.txt").touch()
    (source / "odd1.npy").unlink()
    assert prepare(Files(source, scale=2), target, overwrite=True).prepared == 4
    assert PreparedFolder(target, "Files").array("numbers", "odd3").max() == 6
    assert not (target / "numbers" / "odd1.npy").exists()
    assert (target / "mine.txt").exists()
    assert (target / "numbers" / "mine.npy").exists()


def test_the_cache_is_kept_up_to_date(source, tmp_path, monkeypatch):
    monkeypatch.setenv("MSAFUSION_CACHE", str(tmp_path / "cache"))
    folder = prepare_cached(Files(source))
    assert folder.parent == tmp_path / "cache"
    assert prepare_cached(Files(source)) == folder
    assert prepare_cached(Files(source, scale=2)) != folder
    (source / "odd1.npy").write_bytes(b"text")
    with pytest.raises(
        DataError, match=r"raw' could not be prepared whole \(1 failed\), the first is 'odd1': .*report"
    ):
        prepare_cached(Files(source))


@pytest.mark.slow
def test_a_ray_cluster_does_what_one_process_does(source, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where its workers find the reader
    (source / "odd1.npy").write_bytes(b"text")
    one, two = tmp_path / "one", tmp_path / "two"
    prepare(Files(source), one)
    report = prepare(Files(source), two, workers=2, engine="ray")
    assert list(report.failed) == ["odd1"]
    assert content(one) == content(two)
