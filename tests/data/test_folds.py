"""Every sample is tested once, every person by models that have not seen them."""

import numpy as np
import pytest
import torch

from msafusion.data.datasets import Arrays, SmartwatchExercises
from msafusion.data.folds import make_folds
from msafusion.data.samples import labels_and_groups


def arrays(folder, group=None, labels=None, number=60):
    draw = np.random.default_rng(0)
    label = np.arange(number) % 3 if labels is None else labels
    values = {"x": draw.normal(size=(number, 4)).astype("float32"), "label": label, "id": np.arange(number).astype(str)}
    values["split"] = np.array(["train", "valid", "test"])[np.arange(number) % 10 % 3]
    if group is not None:
        values["who"] = group
        values["split"] = np.array(["train", "valid", "test"])[np.unique(group, return_inverse=True)[1] % 3]
    np.savez(folder / "data.npz", **values)
    return Arrays(folder / "data.npz", group=None if group is None else "who").splits()


def ids(samples):
    return [sample["id"] for sample in samples]


def test_every_sample_is_tested_once_and_classes_are_spread(tmp_path):
    splits = arrays(tmp_path)
    folds = make_folds(splits, 4)
    assert len(splits.train.groups) == len(splits.train)
    assert sorted(name for fold in folds for name in ids(fold.test)) == sorted(str(number) for number in range(60))
    for fold in folds:
        parts = [set(ids(part)) for part in (fold.train, fold.valid, fold.test)]
        assert len(set.union(*parts)) == sum(map(len, parts)) == 60
        assert np.bincount([label for label, _ in labels_and_groups(fold.test)]).tolist() == [5, 5, 5]


def test_groups_stay_together_and_are_tested_once(tmp_path):
    who = np.array([f"p{number // 6}" for number in range(60)])
    folds = make_folds(arrays(tmp_path, who), 5)
    tested = [group for fold in folds for group in fold.test.groups]
    assert sorted(tested) == sorted(set(who))
    for fold in folds:
        groups = [part.groups for part in (fold.train, fold.valid, fold.test)]
        assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]


def test_the_preprocessing_is_fitted_to_each_folds_training_samples(tmp_path):
    splits = arrays(tmp_path)
    for fold in make_folds(splits, 3):
        values = torch.stack([sample["streams"]["x"] for sample in fold.train])
        assert fold.preprocessing.signal_mean["x"] == pytest.approx(values.double().mean(0).tolist())


def test_the_watch_is_standardised_by_the_training_people():
    fold = make_folds(SmartwatchExercises().splits(), 5)[0]
    stored = torch.stack([sample["streams"]["accelerometer"] for sample in fold.train])
    values = fold.preprocessing.inputs({"accelerometer": stored})["accelerometer"]
    assert values.mean((0, 2)).abs().max() < 0.1
    assert (values.std((0, 2)) - 1).abs().max() < 0.1


def test_samples_are_read_when_asked_for_and_some_streams_alone(tmp_path):
    train = make_folds(arrays(tmp_path), 3)[0].train
    assert train.only(["x"])[0]["streams"].keys() == {"x"}
    assert ids(train[2:5]) == ids(train)[2:5]


@pytest.mark.parametrize(
    ("make", "number", "named"),
    [
        (lambda folder: arrays(folder, np.array([f"p{n // 20}" for n in range(60)])), 4, r"folds is 4.*2 to 3.*groups"),
        (lambda folder: arrays(folder), 61, r"folds is 61.*2 to 60"),
        (lambda folder: arrays(folder, labels=np.array(["a"] * 57 + ["b"] * 3)), 5, r"the 3 samples of class 'b'"),
        (lambda folder: arrays(folder, np.array([f"p{n // 20}" for n in range(60)]), np.repeat([0, 1, 2], 20)), 3, "."),
    ],
)
def test_what_cannot_be_divided_is_refused(make, number, named, tmp_path):
    with pytest.raises(ValueError, match=named):
        make_folds(make(tmp_path), number)


def test_regression_targets_need_no_classes(tmp_path):
    folds = make_folds(arrays(tmp_path, labels=np.linspace(0, 1, 60)), 4)
    assert sorted(len(fold.test) for fold in folds) == [15] * 4
