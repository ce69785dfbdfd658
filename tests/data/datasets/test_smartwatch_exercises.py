import numpy as np
import pytest
import torch

from msafusion.data.datasets import DATASETS, Dataset, SmartwatchExercises
from msafusion.data.samples import DataError


@pytest.fixture(scope="module")
def splits():
    return SmartwatchExercises().splits()


def groups(samples):
    return {sample["group"] for sample in samples}


def test_every_data_set_is_a_source_by_its_own_name():
    for name, source in DATASETS.items():
        assert source.__name__ == name
        assert issubclass(source, Dataset)


def test_subjects_are_disjoint_and_all_ten_are_used(splits):
    parts = [groups(part) for part in (splits.train, splits.valid, splits.test)]
    assert parts == [{"6", "7", "8", "9", "10"}, {"4", "5"}, {"1", "2", "3"}]
    names = [sample["id"] for part in (splits.train, splits.valid, splits.test) for sample in part]
    assert len(set(names)) == len(names) == 2229


def test_windows_are_four_seconds_of_three_channels_each(splits):
    for sample in splits.train[:5]:
        assert {name: tuple(values.shape) for name, values in sample["streams"].items()} == {
            "accelerometer": (3, 200),
            "gyroscope": (3, 200),
        }
    assert len(splits.classes) == 7
    assert {sample["label"] for sample in splits.test} == set(range(7))


def test_consecutive_windows_overlap_by_half(splits):
    first, second = splits.train[0], splits.train[1]
    assert first["id"].split("/")[0] == second["id"].split("/")[0]
    torch.testing.assert_close(first["streams"]["gyroscope"][:, 100:], second["streams"]["gyroscope"][:, :100])


def test_only_training_subjects_set_the_standard():
    raw = SmartwatchExercises()._read()
    kept = [x for x, subject in zip(raw["X"], raw["subject"], strict=True) if subject in (6, 7, 8, 9, 10)]
    mean = np.concatenate(kept)[:, :3].mean(axis=0)
    np.testing.assert_allclose(SmartwatchExercises().splits().preprocessing.mean["accelerometer"], mean)


def test_two_subjects_in_two_splits_are_refused():
    with pytest.raises(ValueError, match=r"share \[3\], expected two disjoint lists"):
        SmartwatchExercises(valid_subjects=[3], test_subjects=[3, 4])


def test_a_window_longer_than_a_recording_is_refused(tmp_path):
    raw = SmartwatchExercises()._read()
    raw["X"][7] = raw["X"][7][:100]
    path = tmp_path / "short.npy"
    array = np.empty((), dtype=object)
    array[()] = raw
    np.save(path, array, allow_pickle=True)
    with pytest.raises(DataError, match="recording 7 has 100 steps, expected at least 200; shorten window_seconds"):
        SmartwatchExercises(file=path).splits()


def test_a_file_without_the_expected_keys_is_refused(tmp_path):
    array = np.empty((), dtype=object)
    array[()] = {"X": []}
    np.save(tmp_path / "other.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=r"other\.npy' holds \['X'\], expected a dict with"):
        SmartwatchExercises(file=tmp_path / "other.npy").splits()
