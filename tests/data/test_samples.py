import numpy as np
import pytest
import torch

from msafusion.data.preprocessing import Windows, preprocessing_from
from msafusion.data.samples import Splits, collate
from msafusion.failures import DataError


@pytest.fixture
def windows():
    recordings = [{"a": np.array([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0], [6.0, 5.0]])}]
    return Windows.fitted(recordings, rate=2.0, steps=2, hop=1)


def test_windows_are_cut_and_standardised_by_hand_computed_numbers(windows):
    assert windows.mean == {"a": [3.0, 5.0]}
    cut = windows({"a": np.array([[3.0, 5.0], [3 + 5**0.5, 5.0], [3.0, 5.0]])})["a"]
    assert cut.shape == (2, 2, 2)
    torch.testing.assert_close(cut[:, 0], torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    torch.testing.assert_close(cut[:, 1], torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        ({"b": np.zeros((4, 2))}, "unknown stream 'b', expected a"),
        ({"a": np.zeros((4, 3))}, r"stream 'a' has shape \(4, 3\), expected \(time, 2\)"),
        ({"a": np.zeros((1, 2))}, r"stream 'a' has 1 time steps, expected at least 2 \(1 s at 2 Hz\)"),
        ({"a": np.full((4, 2), np.nan)}, "stream 'a' holds NaN or infinity"),
    ],
)
def test_a_recording_that_does_not_fit_is_refused(windows, recording, message):
    with pytest.raises(DataError, match=message):
        windows(recording)


def test_streams_of_different_lengths_are_refused():
    windows = Windows(1.0, 2, 1, {"a": [0.0], "b": [0.0]}, {"a": [1.0], "b": [1.0]})
    with pytest.raises(DataError, match=r"\{'a': 4, 'b': 5\} time steps, expected equal ones"):
        windows({"a": np.zeros((4, 1)), "b": np.zeros((5, 1))})


def test_windows_survive_being_saved(windows):
    assert preprocessing_from(windows.as_dict()) == windows


def sample(name, group):
    return {"id": name, "streams": {"a": torch.full((2, 3), float(name))}, "label": int(name), "group": group}


def test_collate_stacks_streams_and_labels_in_order():
    batch = collate([sample("1", "x"), sample("0", "y")])
    assert batch["inputs"]["a"][:, 0, 0].tolist() == [1.0, 0.0]
    assert batch["label"].tolist() == [1, 0]
    assert batch["id"] == ["1", "0"]


def test_splits_that_share_a_subject_are_refused(windows):
    with pytest.raises(DataError, match=r"share the groups \['anna'\]"):
        Splits([sample("0", "anna")], [sample("1", "bert")], [sample("2", "anna")], ["x"], {"a": 2}, windows)
