"""Who trains, who chooses the model and who is tested, by the protocols of the published data sets."""

import itertools

import numpy as np
import prepared
import pytest

from msafusion.data.datasets import MOSEI, MOSI, NTURGBD, RAVDESS
from msafusion.data.preparation.prepared import write_prepared
from msafusion.data.samples import DataError

CONSECUTIVE = [(1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20), (21, 22, 23, 24)]
LUNA = [(2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22)]
FOLDS = {"consecutive": CONSECUTIVE, "luna_jimenez": LUNA}
EVERY_FOLD = [(folds, fold) for folds, tested in FOLDS.items() for fold in range(1, len(tested) + 1)]
NTU_TRAIN = {1, 4, 8, 13, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38}
NTU_VALID = {2, 5, 9, 14}


def write_rows(root, dataset, classes, channels, rows):
    """A prepared folder of tiny arrays with the rows given."""
    sequence = dataset.startswith("MOS")
    arrays = {name: np.zeros((1, n) if sequence else (n, 1), np.float32) for name, n in channels.items()}
    arrays |= {name: np.zeros((3, 1, 2, 2), np.uint8) for name in ("video", "rgb") if name in channels}
    layouts = dict.fromkeys(channels, "sequence") if sequence else {"video": "video", "rgb": "video"}
    write_prepared(root, dataset, classes, channels, ((row, arrays) for row in rows), layouts)
    return root


def parts(splits):
    return splits.train, splits.valid, splits.test


def ids(splits):
    return [{row["id"] for row in part.entries} for part in parts(splits)]


def actors(splits):
    return [{int(group) for group in part.groups} for part in parts(splits)]


@pytest.fixture(scope="module")
def ravdess(tmp_path_factory):
    root = tmp_path_factory.mktemp("ravdess")
    prepared.write_ravdess(root, frames=1, size=2, steps=2)
    return root


def ravdess_rows(root, groups):
    rows = [{"id": f"clip{n}", "label": 0, "group": group} for n, group in enumerate(groups)]
    return write_rows(root, "RAVDESS", ("calm",), {"video": 3, "audio": 13}, rows)


@pytest.mark.parametrize("folds", FOLDS)
def test_ravdess_tests_each_actor_once_over_the_folds(ravdess, folds):
    tested = [actors(RAVDESS(ravdess, fold, folds).splits())[2] for fold in range(1, len(FOLDS[folds]) + 1)]
    assert tested == [set(fold) for fold in FOLDS[folds]]
    assert sorted(itertools.chain(*tested)) == list(range(1, 25))


@pytest.mark.parametrize(("folds", "fold"), EVERY_FOLD)
def test_ravdess_folds_are_disjoint_by_actor(ravdess, folds, fold):
    splits = RAVDESS(ravdess, fold, folds).splits()
    train, valid, test = actors(splits)
    assert len(train) + len(valid) + len(test) == 24
    assert train | valid | test == set(range(1, 25))
    following = FOLDS[folds][fold % len(FOLDS[folds])]
    assert len(valid) == 2
    assert valid <= set(following)
    assert not splits.chosen_on_test
    assert sum(map(len, parts(splits))) == len(set.union(*ids(splits))) == 48


@pytest.mark.parametrize("num", [1, 3, 4])
def test_ravdess_takes_as_many_validation_actors_as_asked(ravdess, num):
    train, valid, test = actors(RAVDESS(ravdess, 6, num_valid_actors=num).splits())
    assert valid == set(range(1, num + 1))
    assert test == {21, 22, 23, 24}
    assert len(train) == 20 - num


@pytest.mark.parametrize(("folds", "fold"), EVERY_FOLD)
def test_the_published_protocol_trains_on_all_other_actors_and_says_that_it_chooses_on_test(ravdess, folds, fold):
    splits = RAVDESS(ravdess, fold, folds, protocol="published").splits()
    train, valid, test = actors(splits)
    assert splits.chosen_on_test
    assert valid == test == set(FOLDS[folds][fold - 1])
    assert train == set(range(1, 25)) - test


def test_ravdess_samples_are_as_stored(ravdess):
    splits = RAVDESS(ravdess, size=2).splits()
    sample = splits.test[0]
    assert {name: tuple(values.shape) for name, values in sample["streams"].items()} == {
        "video": (3, 1, 2, 2),
        "audio": (13, 2),
    }
    assert (splits.classes, splits.channels) == (["calm", "happy"], {"video": 3, "audio": 13})
    assert splits.preprocessing.num_channels() == splits.channels
    assert splits.task == "classification"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 0}, "fold is 0, expected 1 to 6 of the consecutive folds"),
        ({"fold": 7}, "fold is 7, expected 1 to 6 of the consecutive folds"),
        ({"fold": 6, "folds": "luna_jimenez"}, "fold is 6, expected 1 to 5 of the luna_jimenez folds"),
        ({"num_valid_actors": 0}, "num_valid_actors is 0, expected 1 to 4"),
        ({"num_valid_actors": 5}, "num_valid_actors is 5, expected 1 to 4"),
        ({"fold": 4, "folds": "luna_jimenez", "num_valid_actors": 5}, "num_valid_actors is 5, expected 1 to 4"),
    ],
)
def test_folds_that_do_not_exist_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        RAVDESS(tmp_path, **options)


@pytest.mark.parametrize("actor", ["0", "25", "-1", "anna", "", "1.0"])
def test_an_actor_outside_1_to_24_is_refused(tmp_path, actor):
    root = ravdess_rows(tmp_path, [1, 5, 9, actor])
    with pytest.raises(DataError, match=rf"sample 'clip3' is of actor '{actor}', expected 1 to 24; prepare it again"):
        RAVDESS(root).splits()


def test_ravdess_actors_may_be_written_with_zeros(tmp_path):
    splits = RAVDESS(ravdess_rows(tmp_path, ["01", "05", "09"])).splits()
    assert [len(part) for part in parts(splits)] == [1, 1, 1]
    assert actors(splits) == [{9}, {5}, {1}]


def test_a_fold_without_samples_is_refused(tmp_path):
    with pytest.raises(DataError, match="the validation split has no sample, expected at least one"):
        RAVDESS(ravdess_rows(tmp_path, [1, 9])).splits()


def mosei_rows(root, rows, channels=("visual", "audio", "text"), dataset="MOSEI"):
    named = [{"id": f"clip{n}", "label": 0.5, "group": group, "split": split} for n, (group, split) in enumerate(rows)]
    return write_rows(root, dataset, (), dict.fromkeys(channels, 4), named)


STANDARD = [("a", "train"), ("b", "valid"), ("c", "test")]


@pytest.mark.parametrize("dataset", [MOSEI, MOSI])
def test_mosei_follows_the_standard_folds_of_its_table(tmp_path, dataset):
    rows = [("c", "test"), ("a", "train"), ("b", "valid"), ("a", "train")]
    splits = dataset(mosei_rows(tmp_path, rows, dataset=dataset.__name__)).splits()
    assert ids(splits) == [{"clip1", "clip3"}, {"clip2"}, {"clip0"}]
    assert (splits.classes, splits.task, splits.num_outputs, splits.chosen_on_test) == ([], "regression", 1, False)


def test_mosei_streams_are_in_the_networks_order_with_at_least_five_steps(tmp_path):
    root = mosei_rows(tmp_path, STANDARD, channels=("text", "audio", "visual"))
    splits = MOSEI(root).splits()
    assert list(splits.channels) == ["visual", "audio", "text"]
    np.save(root / "text" / "clip0.npy", np.ones((9, 4), np.float32))
    assert splits.train[0]["lengths"] == {"visual": 5, "audio": 5, "text": 9}


@pytest.mark.parametrize("split", ["", "dev", "Train"])
def test_a_split_that_mosei_does_not_know_is_refused(tmp_path, split):
    root = mosei_rows(tmp_path, [*STANDARD, ("d", split)])
    with pytest.raises(DataError, match=rf"sample 'clip3' has split '{split}', expected train, valid or test; prepare"):
        MOSEI(root).splits()


def test_mosei_without_a_column_split_is_refused(tmp_path):
    row = {"id": "clip0", "label": 0.5, "group": "a"}
    root = write_rows(tmp_path, "MOSEI", (), {"visual": 4, "audio": 4, "text": 4}, [row])
    with pytest.raises(DataError, match="sample 'clip0' has split 'None', expected train, valid or test"):
        MOSEI(root).splits()


@pytest.mark.parametrize("split", ["valid", "test"])
def test_shares_of_a_video_in_two_splits_are_refused(tmp_path, split):
    root = mosei_rows(tmp_path, [*STANDARD, ("a", split)])
    with pytest.raises(DataError, match=rf"the splits train and {split} share the groups \['a'\]"):
        MOSEI(root).splits()


def test_mosei_without_one_of_its_streams_is_refused(tmp_path):
    root = mosei_rows(tmp_path, STANDARD, channels=("visual", "audio"))
    with pytest.raises(DataError, match="text"):
        MOSEI(root).splits()


def test_mosei_under_another_name_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds MOSI, expected MOSEI"):
        MOSEI(mosei_rows(tmp_path, STANDARD, dataset="MOSI")).splits()


def ntu_rows(root, performers=range(1, 41), cameras=(1, 2, 3), more=()):
    names = [(f"S{1 + p % 17:03d}C{c:03d}P{p:03d}R{1 + p % 2:03d}A001", p) for p in performers for c in cameras]
    rows = [{"id": name, "label": 0, "group": p} for name, p in (*names, *more)]
    return write_rows(root, "NTURGBD", ("drink",), {"rgb": 3, "skeleton": 3}, rows)


def performers(part):
    return {int(row["id"][9:12]) for row in part.entries}


def cameras(part):
    return {int(row["id"][5:8]) for row in part.entries}


@pytest.fixture(scope="module")
def ntu(tmp_path_factory):
    return ntu_rows(tmp_path_factory.mktemp("ntu"))


def test_ntu_cross_subject_holds_out_the_performers_of_the_design(ntu):
    splits = NTURGBD(ntu).splits()
    train, valid, test = map(performers, parts(splits))
    assert (train, valid) == (NTU_TRAIN, NTU_VALID)
    assert test == set(range(1, 41)) - NTU_TRAIN - NTU_VALID
    assert [{int(group.split()[1]) for group in part.groups} for part in parts(splits)] == [train, valid, test]
    assert [len(part) for part in parts(splits)] == [16 * 3, 4 * 3, 20 * 3]
    assert all(cameras(part) == {1, 2, 3} for part in parts(splits))
    assert not splits.chosen_on_test


def test_ntu_cross_view_tests_camera_1_and_chooses_by_validation_performers_of_the_others(ntu):
    splits = NTURGBD(ntu, "cross_view").splits()
    train, valid, test = parts(splits)
    assert [cameras(part) for part in (train, valid, test)] == [{2, 3}, {2, 3}, {1}]
    assert performers(valid) == NTU_VALID
    assert performers(train) == set(range(1, 41)) - NTU_VALID
    assert performers(test) == set(range(1, 41))
    assert [len(part) for part in (train, valid, test)] == [36 * 2, 4 * 2, 40]


@pytest.mark.parametrize("protocol", ["cross_subject", "cross_view"])
def test_ntu_has_no_performer_of_one_camera_in_two_splits(ntu, protocol):
    pairs = [
        {(row["id"][5:8], row["id"][9:12]) for row in part.entries} for part in parts(NTURGBD(ntu, protocol).splits())
    ]
    assert not any(one & other for one, other in itertools.combinations(pairs, 2))
    assert len(set.union(*pairs)) == 120


@pytest.mark.parametrize("protocol", ["cross_subject", "cross_view"])
def test_ntu_needs_all_three_splits(tmp_path, protocol):
    root = ntu_rows(tmp_path, performers=(1, 2), cameras=(2,))
    with pytest.raises(DataError, match="the test split has no sample"):
        NTURGBD(root, protocol).splits()


@pytest.mark.parametrize(
    "name", ["S001C001P001R001", "clip 1", "S01C01P01R01A01", "s001c001p001r001a001", "xS001C001P001R001A001"]
)
def test_a_name_that_does_not_parse_is_refused(tmp_path, name):
    root = ntu_rows(tmp_path, performers=(1, 2, 3), more=[(name, 1)])
    with pytest.raises(DataError, match=rf"sample '{name}' is not named SsssCcccPpppRrrrAaaa; prepare the data set"):
        NTURGBD(root).splits()


def test_ntu_frames_are_cropped_without_a_flip(tmp_path):
    prepared.write_ntu(tmp_path, performers=(1, 2, 3), frames=2, size=8)
    splits = NTURGBD(tmp_path, size=6).splits()
    stored = {name: values[None] for name, values in splits.train[0]["streams"].items()}
    inputs = splits.preprocessing.augmented(stored)
    assert inputs["rgb"].shape == (1, 3, 2, 6, 6)
    assert inputs["skeleton"] is stored["skeleton"]
    assert not splits.preprocessing.flip
