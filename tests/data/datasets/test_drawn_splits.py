"""Tables and arrays without a column of splits: a test is drawn, evenly of all classes, by whole groups."""

import csv

import numpy as np
import pytest

from msafusion.data.datasets import Arrays, Manifest
from msafusion.data.samples import labels_and_groups

NUMBER = 60


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def arrays(folder, **more):
    label = np.arange(NUMBER) % 3
    np.savez(folder / "a.npz", x=np.random.default_rng(0).normal(size=(NUMBER, 4)), label=label, **more)
    return folder / "a.npz"


def manifest(folder, shared=False):
    np.savez(folder / "m.npz", **{f"s{n}": np.random.default_rng(n).normal(size=(9, 2)) for n in range(NUMBER)})
    with (folder / "manifest.csv").open("w", newline="") as opened:
        rows = [[f"s{n}", f"class {n % 3}", f"p{n // 6}", f"m.npz#s{0 if shared else n}"] for n in range(NUMBER)]
        csv.writer(opened).writerows([["id", "label", "who", "motion"], *rows])
    return folder


def sizes(splits):
    return [len(part) for part in (splits.train, splits.valid, splits.test)]


def test_arrays_are_tested_on_a_fifth_of_every_class(tmp_path, caplog):
    splits = Arrays(arrays(tmp_path)).splits()
    assert np.bincount([label for label, _ in labels_and_groups(splits.test)]).tolist() == [4, 4, 4]
    assert sum(sizes(splits)) == NUMBER
    assert "no column split, so 12 of 60 are drawn" in caplog.text


@pytest.mark.parametrize("make", [lambda folder, who: Arrays(arrays(folder, who=who), group="who"),
                                  lambda folder, who: Manifest(manifest(folder), group="who")])  # fmt: skip
def test_groups_are_drawn_whole(make, tmp_path, caplog):
    splits = make(tmp_path, np.array([f"p{n // 6}" for n in range(NUMBER)])).splits()
    groups = [part.groups for part in (splits.train, splits.valid, splits.test)]
    assert len(groups[2]) == 2
    assert sum(map(len, groups)) == len(set.union(*groups)) == 10
    assert "2 of 10 groups are drawn" in caplog.text


def test_another_fraction_needs_no_new_preparation(tmp_path):
    source = manifest(tmp_path)
    assert sizes(Manifest(source).splits())[2] == 12
    assert sizes(Manifest(source, test_fraction=0.5).splits())[2] == 30


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda folder: Arrays(arrays(folder), test_fraction=0.9), "test_fraction"),
        (lambda folder: Arrays(arrays(folder, who=np.arange(NUMBER) % 3), group="who"), "5 groups or more"),
        (lambda folder: Arrays(arrays(folder), split="part"), "'part'"),
        (lambda folder: Arrays(arrays(folder, split=np.array([""] * NUMBER))), "'split' is empty"),
        (lambda folder: Manifest(manifest(folder), split="part"), "part"),
        (lambda folder: Manifest(manifest(folder, shared=True), group="who"), r"m\.npz.*allow_shared_files"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, named, tmp_path):
    with pytest.raises(ValueError, match=named):
        make(tmp_path).splits()


@pytest.mark.parametrize("name", ["group", "Subjects", "speaker_id"])
def test_people_that_are_not_kept_together_are_named(tmp_path, caplog, name):
    Arrays(arrays(tmp_path, **{name: np.arange(NUMBER) // 6})).splits()
    assert f"rows of one '{name}' may come to stand in several splits" in caplog.text
    caplog.clear()
    Arrays(arrays(tmp_path, **{name: np.arange(NUMBER) // 6}), group=name).splits()
    Arrays(arrays(tmp_path, age=np.arange(NUMBER))).splits()
    assert "several splits" not in caplog.text


def test_people_of_a_table_are_named_too(tmp_path, caplog):
    table = manifest(tmp_path) / "manifest.csv"
    table.write_text(table.read_text().replace("who", "speaker"))
    Manifest(tmp_path).splits()
    assert "rows of one 'speaker' may come to stand in several splits" in caplog.text
