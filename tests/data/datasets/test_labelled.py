import pytest

from msafusion.data.datasets.labelled import Labels, split_by_column, split_rows
from msafusion.failures import DataError


def rows(splits, groups=None, labels=None):
    labels = labels or [n % 2 for n in range(len(splits))]
    groups = groups or [str(n) for n in range(len(splits))]
    return [
        {"id": f"s{n}", "split": split, "group": group, "label": label}
        for n, (split, group, label) in enumerate(zip(splits, groups, labels, strict=True))
    ]


def test_classes_are_numbers_in_their_order_then_names():
    assert Labels.read(["10", "9", "b", "a", "9"], "auto", "x").classes == ["9", "10", "a", "b"]
    assert Labels.read(["10", "9", "b", "a", "9"], "auto", "x").values == [1, 0, 3, 2, 0]


@pytest.mark.parametrize(
    ("texts", "classes"),
    [
        (["0.5", "1"], []),
        (["1", "0"], ["0", "1"]),
        (["0.5", "yes"], ["0.5", "yes"]),
        (["1.0", "-1.0", "1"], ["-1", "1"]),
        ([f"{n}.0" for n in range(21)], []),
        ([f"{n}" for n in range(21)], [f"{n}" for n in range(21)]),
    ],
)
def test_decimal_numbers_are_values_and_all_else_is_classes(texts, classes):
    assert Labels.read(texts, "auto", "x").classes == classes


@pytest.mark.parametrize(("texts", "message"), [(["1.0", "nan"], "label 'nan'"), (["1", ""], "row 2 has no label")])
def test_labels_that_are_none(texts, message):
    with pytest.raises(DataError, match=message):
        Labels.read(texts, "regression", "x")


@pytest.mark.parametrize("texts", [["0.5", "nan"], ["1", "-inf"], ["1.0", "nan"]])
def test_numbers_with_one_that_is_not_finite_are_no_classes(texts):
    with pytest.raises(DataError, match=f"row 2 has the label '{texts[1]}', expected a finite number"):
        Labels.read(texts, "auto", "x")


@pytest.mark.parametrize(
    ("given", "classes", "message"),
    [
        (rows(["train", "dev"]), ["a", "b"], "row 2 has the split 'dev'"),
        (rows(["train", "train"]), ["a", "b"], "no row has the split test"),
        (rows(["train", "train", "test"], labels=[0, 0, 1]), ["a", "b"], r"'s2' \(test\) has the unknown label 'b'"),
        (rows(["train", "test"], labels=[0, 0]), ["a"], "every row has the label 'a', expected two classes"),
        (rows(["train", "train", "test"], ["g", "h", "g"]), [], r"train and test share the groups \['g'\]"),
    ],
)
def test_splits_that_cannot_be_trained_on(given, classes, message):
    with pytest.raises(DataError, match=message):
        split_by_column(given, classes, "x")


def test_drawn_validation_has_about_its_part_of_every_class_and_does_not_depend_on_the_order():
    given = rows(["train"] * 100 + ["test"] * 4, labels=[n % 4 for n in range(104)])
    parts = split_rows(given, list("abcd"), 0.2, "x")
    drawn = {given[index]["id"] for index in parts["valid"]}
    counts = [sum(given[index]["label"] == label for index in parts["valid"]) for label in range(4)]
    assert counts == [5, 5, 5, 5]
    assert not drawn & {given[index]["id"] for index in parts["train"]}
    backwards = given[::-1]
    again = split_rows(backwards, list("abcd"), 0.2, "x")
    assert {backwards[index]["id"] for index in again["valid"]} == drawn


def test_groups_are_drawn_whole():
    groups = [f"g{n // 5}" for n in range(40)] + ["t"] * 2
    given = rows(["train"] * 40 + ["test"] * 2, groups)
    parts = split_rows(given, ["a", "b"], 0.25, "x")
    of = {part: {given[index]["group"] for index in parts[part]} for part in parts}
    assert of["valid"]
    assert not of["valid"] & of["train"]
    assert len(parts["valid"]) <= 15


def test_a_single_training_group_cannot_be_divided():
    with pytest.raises(DataError, match="none can be drawn from 3 training rows"):
        split_rows(rows(["train"] * 3 + ["test"], ["g"] * 3 + ["t"]), ["a", "b"], 0.2, "x")


@pytest.mark.parametrize(
    ("texts", "classes"),
    [
        (["1_0", "10", "1_1", "11"], ["10", "11", "1_0", "1_1"]),
        (["1E1", "10", "1E2", "100"], ["10", "1E1", "100", "1E2"]),
        ([f"{i}_{i}" for i in range(1, 25)], sorted(f"{i}_{i}" for i in range(1, 25))),
        (["\uff11", "1"], ["1", "\uff11"]),
        (["0.5", "1e-05", "2.5e-07"], []),
        (["0.5", "1.5"], []),
    ],
)
def test_what_a_number_is_is_not_for_python_to_say(texts, classes, caplog):
    where = f"table of {texts}"
    assert Labels.read(texts, "auto", where).classes == classes
    assert f"{where}: taken for" in caplog.text


def test_what_may_be_a_number_or_a_name_is_refused_until_the_task_is_set():
    with pytest.raises(DataError, match="'1E1' among numbers with decimals may be a number or a name; set task"):
        Labels.read(["0.5", "1E1"], "auto", "x")
    assert Labels.read(["0.5", "1E1"], "regression", "x").values == [0.5, 10.0]
    assert Labels.read(["0.5", "1E1"], "classification", "x").classes == ["0.5", "1E1"]
    with pytest.raises(DataError, match="row 2 has the label '1_1', expected a finite number"):
        Labels.read(["0.5", "1_1"], "regression", "x")


def test_classes_that_are_one_number_or_missing_are_noted(caplog):
    Labels.read(["-0.0", "0.0", "1.5", "NaT"], "classification", "'t.csv', mood")
    assert "'t.csv', mood: '-0.0' and '0.0' are taken for two" in caplog.text
    assert "'t.csv', mood: 'NaT' is taken for a name" in caplog.text
