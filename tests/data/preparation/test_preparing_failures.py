"""Preparing: whatever fails or is interrupted, the folder holds what is sound and the next run goes on."""

import fcntl
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from number_files import Files, Numbers, content

from msafusion.data.preparation.prepared import PreparedFolder
from msafusion.data.preparation.preparing import prepare
from msafusion.data.preparation.raw import RawItem
from msafusion.failures import DataError

BAD = [
    (lambda file: file.write_bytes(b"text"), r"odd3\.npy' is no array \(.*\); save it again\."),
    (
        lambda file: np.save(file, np.full((4, 2), np.nan)),
        "stream 'numbers' holds NaN or infinity \\(8 of 8 values\\), expected finite",
    ),
    (lambda file: np.save(file, np.zeros((4, 3))), r"stream 'numbers' is float64 \(4, 3\), expected \(time, 2\)"),
    (lambda file: file.unlink(), r"odd3\.npy': No such file or directory; check it\."),
]


@pytest.mark.parametrize(("spoil", "message"), BAD)
def test_a_broken_file_is_reported_and_the_others_are_prepared(source, tmp_path, spoil, message):
    reader, target = Files(source), tmp_path / "out"
    items = reader.items()
    reader.items = lambda: items  # seen when the file was still there
    spoil(source / "odd3.npy")
    report = prepare(reader, target)
    assert (report.prepared, list(report.failed)) == (4, ["odd3"])
    assert "\n" not in report.failed["odd3"]
    assert re.search(message, report.failed["odd3"])
    assert json.loads(report.file.read_text())["failed"] == report.failed
    folder = PreparedFolder(target, "Files")
    assert [row["id"] for row in folder.rows] == ["even0", "even2", "even4", "odd1"]
    assert folder.incomplete == "4 of 5 samples (1 failed)"
    np.save(source / "odd3.npy", np.zeros((4, 2)))
    assert prepare(reader, target).prepared == 1
    assert len(PreparedFolder(target, "Files").rows) == 5


def test_where_nothing_can_be_prepared_there_is_no_table(source, tmp_path):
    target = tmp_path / "out"
    prepare(Files(source), target)
    for file in source.glob("*.npy"):
        file.write_bytes(b"text")
    with pytest.raises(DataError, match=r"none of 5 samples could be prepared; 'even0': .*report\.json'"):
        prepare(Files(source), target)
    assert not (target / "samples.csv").exists()
    assert len(json.loads((target / "report.json").read_text())["failed"]) == 5


def test_an_interrupted_run_goes_on(source, tmp_path):
    whole, target = tmp_path / "whole", tmp_path / "out"
    prepare(Files(source), whole)
    sound = (source / "odd1.npy").read_bytes()
    (source / "odd1.npy").write_bytes(b"ctrl-c")
    with pytest.raises(KeyboardInterrupt):
        prepare(Files(source), target)
    assert [row["id"] for row in PreparedFolder(target, "Files").rows] == ["even0", "even2", "even4"]
    (source / "odd1.npy").write_bytes(sound)
    assert prepare(Files(source), target).skipped == 3
    assert content(target) == content(whole)


@pytest.mark.slow
def test_a_killed_process_loses_nothing_but_the_sample_under_way(source, tmp_path):
    sound = (source / "odd1.npy").read_bytes()
    (source / "odd1.npy").write_bytes(b"die")
    target = tmp_path / "out"
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from pathlib import Path; "
        "from number_files import Files; from msafusion.data.preparation.preparing import prepare; "
        f"prepare(Files(Path({str(source)!r})), Path({str(target)!r}))"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=240).returncode == -signal.SIGKILL
    assert not (target / "samples.csv").exists()
    (source / "odd1.npy").write_bytes(sound)
    assert prepare(Files(source), target).skipped == 3


def test_a_worker_that_dies_stops_the_run_with_advice(source, tmp_path):
    (source / "odd1.npy").write_bytes(b"die")
    with pytest.raises(ValueError, match=r"a worker process died .* with fewer workers: what is done is kept"):
        prepare(Files(source), tmp_path / "out", workers=2)
    assert len(PreparedFolder(tmp_path / "out", "Files").rows) >= 1


@pytest.mark.parametrize("spoil", [lambda text: text[:-20], lambda text: text.replace("{", "", 1)[:-1]])
def test_a_torn_journal_costs_one_sample(source, tmp_path, spoil):
    journal = tmp_path / "out" / "journal.jsonl"
    prepare(Files(source), tmp_path / "out")
    journal.write_text(spoil(journal.read_text()))
    assert prepare(Files(source), tmp_path / "out").prepared == 1
    assert prepare(Files(source), tmp_path / "out").skipped == 5


def test_damaged_settings_can_be_overwritten(source, tmp_path):
    target = tmp_path / "out"
    prepare(Files(source), target)
    (target / "settings.json").write_text("{")
    with pytest.raises(ValueError, match=r"settings\.json' cannot be read .* expected JSON; choose another"):
        prepare(Files(source), target)
    (source / "odd1.npy").unlink()
    assert prepare(Files(source), target, overwrite=True).prepared == 4
    assert not (target / "numbers" / "odd1.npy").exists()
    assert prepare(Files(source), target).skipped == 4


def test_a_target_that_cannot_be_made_is_named(source, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match=r"loop/out' cannot be written \(.*\); choose another target\."):
        prepare(Files(source), tmp_path / "loop" / "out")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["thesis.tex", "settings.json"])
def test_a_folder_of_something_else_is_left_alone(source, tmp_path, overwrite, name):
    target = tmp_path / "out"
    target.mkdir()
    (target / name).write_text("{}")
    with pytest.raises(ValueError, match=r"'thesis\.tex'|settings\.json' cannot be read \(it lacks dataset"):
        prepare(Files(source), target, overwrite=overwrite)
    assert (target / name).read_text() == "{}"


def test_two_runs_do_not_prepare_one_folder(source, tmp_path):
    prepare(Files(source), tmp_path / "out")
    with (tmp_path / "out" / "journal.jsonl").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another process is preparing"):
            prepare(Files(source), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([{"id": "../x"}], r"'\.\./x' \(sample 1\) cannot be a sample's id"),
        ([{}, {}], "the id 'a' occurs twice"),
        ([{"id": "ä" * 101}], r"has 202 bytes, expected 200 at most"),
        ([{"label": 2}], "label '2', expected the index of one of 2 classes"),
        ([{"label": float("nan")}], "label 'nan'"),
        ([], "no sample of Files"),
    ],
)
def test_impossible_samples_are_refused_at_once(source, tmp_path, changes, message):
    plain = {"id": "a", "label": 0, "group": "g", "files": {"numbers": source / "even0.npy"}}
    reader = Files(source)
    reader.items = lambda: [RawItem(**{**plain, **change}) for change in changes]
    with pytest.raises(DataError, match=message):
        prepare(reader, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../x", "", "journal.jsonl"])
def test_impossible_streams_are_refused_at_once(source, tmp_path, name):
    reader = Files(source)
    reader.extraction = {name: Numbers()}
    with pytest.raises(DataError, match=rf"'{name}' cannot be a stream's name"):
        prepare(reader, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_verify_goes_on_after_an_unexpected_error(source):
    reader = Files(source)
    (source / "odd1.npy").write_bytes(b"text")  # `Numbers.probe` lets numpy's ValueError through
    found = reader.verify()
    assert found.present == {"samples": 5, "numbers": 4}
    assert len(found.broken) == 1
    assert re.match(r"'.*/odd1\.npy': unexpected \w+ in .*please report it\.", found.broken[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"limit": 0}, "limit is 0"),
        ({"engine": "spark"}, "unknown engine 'spark'"),
        ({"ray_address": "auto"}, "add --engine ray"),
    ],
)
def test_impossible_options_are_refused(source, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        prepare(Files(source), tmp_path / "out", **options)


@pytest.mark.parametrize("change", [{"id": "../../keep"}, {"arrays": {"../..": {"bytes": 1}}}])
def test_a_journal_that_leads_out_of_the_folder_deletes_nothing_there(source, tmp_path, change):
    target, keep = tmp_path / "a" / "out", tmp_path / "a" / "keep.npy"
    prepare(Files(source), target)
    keep.write_bytes(b"mine")
    (tmp_path / "odd1.npy").write_bytes(b"mine")
    journal = target / "journal.jsonl"
    lines = [json.loads(line) | change for line in journal.read_text().splitlines()]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    prepare(Files(source), target, overwrite=True)
    assert keep.read_bytes() == (tmp_path / "odd1.npy").read_bytes() == b"mine"
