"""Preparing: whatever fails, is interrupted or changes, the folder holds what is sound and the next run goes on."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from msafusion.media import WHOLE, Extracted, Extractor
from msafusion.preparation.prepared import PreparedFolder
from msafusion.preparation.preparing import cached, prepare
from msafusion.preparation.raw import RawItem, RawReader
from msafusion.preprocessing import DataError


@dataclass(frozen=True)
class Numbers(Extractor):
    """A sequence (time, 2) of an .npy file, which leaves a trace in `<file>.reads` whenever it is read."""

    scale: float = 1.0

    layout = "sequence"
    channels = 2

    def __call__(self, file, *, span=WHOLE, companion=None):
        with file.with_suffix(".reads").open("a") as trace:
            trace.write(f"{os.getpid()}\n")
        until = time.monotonic() + 60
        while (file.parent / "wait_for_3").exists() and len(readers(file.parent)) < 3 and time.monotonic() < until:
            time.sleep(0.01)  # a worker may be done with everything before the other one has started
        if file.read_bytes() == b"ctrl-c":
            raise KeyboardInterrupt
        if file.read_bytes() == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            values = np.load(file)
        except ValueError as error:
            raise DataError(f"'{file}' is no array\n({error}); save it again.") from None
        return Extracted(values * self.scale, ["short"] if len(values) < 4 else [])

    def probe(self, file):
        return len(np.load(file)) / 2


class Files(RawReader):
    """A folder of .npy files; those called `odd...` are of the second class."""

    dataset = "numbers"

    def __init__(self, source: Path, scale: float = 1.0) -> None:
        self.source, self.classes = source, ["even", "odd"]
        self.extraction = {"numbers": Numbers(scale)}

    def items(self):
        files = sorted(self.source.glob("*.npy"))
        return [
            RawItem(f.stem, f.stem.startswith("odd") * 1, "g", {"numbers": f}, columns={"part": "x"}) for f in files
        ]

    def missing(self):
        return []


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "raw")


def write(folder, count=5):
    folder.mkdir()
    for number in range(count):
        np.save(folder / f"{('even', 'odd')[number % 2]}{number}.npy", np.full((3 + number, 2), number, np.float32))
    return folder


def readers(source):
    """The processes that have read files."""
    return {line for file in source.glob("*.reads") for line in file.read_text().split()}


def reads(source):
    """How often each file has been read."""
    return {file.stem: len(file.read_text().splitlines()) for file in sorted(source.glob("*.reads"))}


def content(folder):
    """Every prepared array, and the table."""
    arrays = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.npy")}
    return {**arrays, "table": (folder / "samples.csv").read_text()}


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
    folder = PreparedFolder(target, "numbers")
    assert folder.verify() == []
    assert folder.array("numbers", "odd1").shape == (9, 2)


def test_what_is_no_longer_there_leaves_the_table(source, tmp_path):
    prepare(Files(source), tmp_path / "out")
    (source / "odd1.npy").unlink()
    prepare(Files(source), tmp_path / "out")
    assert len(PreparedFolder(tmp_path / "out", "numbers").rows) == 4


def test_another_source_is_not_taken_for_the_first(source, tmp_path):
    prepare(Files(source), tmp_path / "out")
    source.rename(tmp_path / "moved")  # names, sizes and times agree
    with pytest.raises(
        ValueError, match=r"prepared from '.*raw', this run has '.*moved'; .*\(--overwrite\), also where"
    ):
        prepare(Files(tmp_path / "moved"), tmp_path / "out")
    assert prepare(Files(tmp_path / "moved"), tmp_path / "out", overwrite=True).prepared == 5
    assert prepare(Files(tmp_path / "out" / ".." / "moved"), tmp_path / "out").skipped == 5


def test_a_folder_of_before_that_does_not_know_its_source_goes_on(source, tmp_path):
    prepare(Files(source), tmp_path / "out")
    file = tmp_path / "out" / "settings.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "source"}))
    assert prepare(Files(source), tmp_path / "out").skipped == 5


BAD = [
    (lambda file: file.write_bytes(b"text"), r"odd3\.npy' is no array \(.*\); save it again\."),
    (lambda file: np.save(file, np.full((4, 2), np.nan)), "stream 'numbers' holds NaN or infinity, expected finite"),
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
    folder = PreparedFolder(target, "numbers")
    assert [row["id"] for row in folder.rows] == ["even0", "even2", "even4", "odd1"]
    assert folder.incomplete == "4 of 5 samples (1 failed)"
    np.save(source / "odd3.npy", np.zeros((4, 2)))
    assert prepare(reader, target).prepared == 1
    assert len(PreparedFolder(target, "numbers").rows) == 5


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
    assert [row["id"] for row in PreparedFolder(target, "numbers").rows] == ["even0", "even2", "even4"]
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
        f"import test_preparing as t; t.prepare(t.Files(Path({str(source)!r})), Path({str(target)!r}))"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=240).returncode == -signal.SIGKILL
    assert not (target / "samples.csv").exists()
    (source / "odd1.npy").write_bytes(sound)
    assert prepare(Files(source), target).skipped == 3


def test_a_worker_that_dies_stops_the_run_with_advice(source, tmp_path):
    (source / "odd1.npy").write_bytes(b"die")
    with pytest.raises(ValueError, match=r"a worker process died .* with fewer workers: what is done is kept"):
        prepare(Files(source), tmp_path / "out", workers=2)
    assert len(PreparedFolder(tmp_path / "out", "numbers").rows) >= 1


@pytest.mark.parametrize("spoil", [lambda text: text[:-20], lambda text: text.replace("{", "", 1)[:-1]])
def test_a_torn_journal_costs_one_sample(source, tmp_path, spoil):
    journal = tmp_path / "out" / "journal.jsonl"
    prepare(Files(source), tmp_path / "out")
    journal.write_text(spoil(journal.read_text()))
    assert prepare(Files(source), tmp_path / "out").prepared == 1
    assert prepare(Files(source), tmp_path / "out").skipped == 5


def test_a_limit_spreads_over_the_data_set_and_the_rest_follows(source, tmp_path):
    trial = prepare(Files(source), tmp_path / "out", limit=2)
    assert (trial.prepared, reads(source)) == (2, {"even0": 1, "even4": 1})
    assert len(PreparedFolder(tmp_path / "out", "numbers").rows) == 2
    assert PreparedFolder(tmp_path / "out", "numbers").incomplete == "2 of 5 samples"
    rest = prepare(Files(source), tmp_path / "out", limit=50)
    assert (rest.prepared, rest.skipped) == (3, 2)
    assert PreparedFolder(tmp_path / "out", "numbers").incomplete == ""


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
    assert PreparedFolder(target, "numbers").array("numbers", "odd3").max() == 6
    assert not (target / "numbers" / "odd1.npy").exists()
    assert (target / "mine.txt").exists()
    assert (target / "numbers" / "mine.npy").exists()


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
        ([{"id": "../x"}], r"'\.\./x' cannot be a sample's id"),
        ([{}, {}], "the id 'a' occurs twice"),
        ([{"id": "ä" * 101}], r"has 202 bytes, expected at most 200; shorten it"),
        ([{"label": 2}], "label 2, expected the index of one of 2 classes"),
        ([{"label": float("nan")}], "label nan"),
        ([], "no sample of numbers"),
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


def test_the_cache_is_kept_up_to_date(source, tmp_path, monkeypatch):
    monkeypatch.setenv("MSAFUSION_CACHE", str(tmp_path / "cache"))
    folder = cached(Files(source))
    assert folder.parent == tmp_path / "cache"
    assert cached(Files(source)) == folder
    assert cached(Files(source, scale=2)) != folder
    (source / "odd1.npy").write_bytes(b"text")
    with pytest.raises(
        DataError, match=r"raw' could not be prepared whole \(1 failed\), the first is 'odd1': .*report"
    ):
        cached(Files(source))


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
