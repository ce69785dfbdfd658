import pytest

from msafusion.data.labelled import Labels, divide
from msafusion.preprocessing import DataError


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
    ("texts", "classes"), [(["0.5", "1"], []), (["1", "0"], ["0", "1"]), (["0.5", "yes"], ["0.5", "yes"])]
)
def test_decimal_numbers_are_values_and_all_else_is_classes(texts, classes):
    assert Labels.read(texts, "auto", "x").classes == classes


@pytest.mark.parametrize(("texts", "message"), [(["1.0", "nan"], "label 'nan'"), (["1", ""], "row 2 has no label")])
def test_labels_that_are_none(texts, message):
    with pytest.raises(DataError, match=message):
        Labels.read(texts, "regression", "x")


def test_drawn_validation_has_about_its_part_of_every_class_and_does_not_depend_on_the_order():
    given = rows(["train"] * 100 + ["test"] * 4, labels=[n % 4 for n in range(104)])
    parts = divide(given, list("abcd"), 0.2, "x")
    drawn = {given[index]["id"] for index in parts["valid"]}
    counts = [sum(given[index]["label"] == label for index in parts["valid"]) for label in range(4)]
    assert counts == [5, 5, 5, 5]
    assert not drawn & {given[index]["id"] for index in parts["train"]}
    backwards = given[::-1]
    again = divide(backwards, list("abcd"), 0.2, "x")
    assert {backwards[index]["id"] for index in again["valid"]} == drawn


def test_groups_are_drawn_whole():
    groups = [f"g{n // 5}" for n in range(40)] + ["t"] * 2
    given = rows(["train"] * 40 + ["test"] * 2, groups)
    parts = divide(given, ["a", "b"], 0.25, "x")
    of = {part: {given[index]["group"] for index in parts[part]} for part in parts}
    assert of["valid"]
    assert not of["valid"] & of["train"]
    assert len(parts["valid"]) <= 15


def test_a_single_training_group_cannot_be_divided():
    with pytest.raises(DataError, match="none can be drawn from 3 training rows"):
        divide(rows(["train"] * 3 + ["test"], ["g"] * 3 + ["t"]), ["a", "b"], 0.2, "x")
