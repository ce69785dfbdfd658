"""Shoulder exercises from a smart watch, the embedded default (Burns et al. 2018, arXiv 1802.01489; in seglearn)."""

from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np

from msafusion.data.dataset import Dataset
from msafusion.data.datasets.unpickle import load_plain_npy
from msafusion.data.preprocessing import Augmentation, Windows
from msafusion.data.samples import Sample, Splits
from msafusion.failures import DataError
from msafusion.streams import check_option

RATE = 50.0
STREAMS = {"accelerometer": ("ax", "ay", "az"), "gyroscope": ("wx", "wy", "wz")}
"""Stream -> columns of the file: acceleration (g) and angular velocity (rad/s) at 50 Hz."""
SUBJECTS = tuple(range(1, 11))


class SmartwatchExercises(Dataset):
    """140 recordings of 7 shoulder exercises by 10 subjects: accelerometer and gyroscope, 3 channels each at 50 Hz.

    Format: an `.npy` file holding a pickled dict: `X` 140 arrays (time, 6), `X_labels` their columns, `y` class
    indices, `y_labels` the exercises, `subject` 1 to 10. It is read without executing the pickle.

    Args:
        valid_subjects: subjects that choose the model.
        test_subjects: subjects held out for the one test; the remaining ones train.
        window_seconds: length of a sample.
        overlap: fraction of a window shared with the next one, in [0, 1).
        file: the data set's file, if not the one in the installed seglearn package.
        augmentation: random changes in training, such as `{noise: 0.1}`; none: no change.

    Raises:
        ValueError: subjects are unknown or in two splits, or none is left to train; an option is out of range.

    Examples:
        >>> from msafusion.data.datasets import SmartwatchExercises
        >>> splits = SmartwatchExercises(valid_subjects=[4], test_subjects=[1, 2]).splits()
        >>> splits.channels, splits.num_outputs
        ({'accelerometer': 3, 'gyroscope': 3}, 7)
        >>> splits.train[0]["streams"]["gyroscope"].shape
        torch.Size([3, 200])
    """

    url = "https://arxiv.org/abs/1802.01489"
    license = "That of the package seglearn, which ships it (BSD)."
    citation = "Burns et al. (2018), arXiv 1802.01489."

    def __init__(
        self,
        valid_subjects: Sequence[int] = (4, 5),
        test_subjects: Sequence[int] = (1, 2, 3),
        window_seconds: float = 4.0,
        overlap: float = 0.5,
        file: Path | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        check_option("overlap", overlap, 0.0, 1.0, open_above=True)
        check_option("window_seconds", window_seconds, 0.1, 15.0)
        both = set(valid_subjects) & set(test_subjects)
        unknown = (set(valid_subjects) | set(test_subjects)) - set(SUBJECTS)
        if both or unknown:
            raise ValueError(
                f"valid_subjects {list(valid_subjects)} and test_subjects {list(test_subjects)} "
                + (f"share {sorted(both)}" if both else f"name the unknown {sorted(unknown)}")
                + ", expected two disjoint lists of subjects 1 to 10; correct them."
            )
        train_subjects = set(SUBJECTS) - set(valid_subjects) - set(test_subjects)
        if not (valid_subjects and test_subjects and train_subjects):
            raise ValueError(
                "a split has no subject, expected at least one for training, validation and test; share them out."
            )
        self.subjects = {"train": train_subjects, "valid": set(valid_subjects), "test": set(test_subjects)}
        self.steps = round(window_seconds * RATE)
        self.hop = max(1, round(self.steps * (1 - overlap)))
        self.file, self.augmentation = file, augmentation
        if augmentation is not None and (augmentation.flip or augmentation.shift):
            raise ValueError("augmentation has flip or shift, which are for video; leave them out.")
        self.root = Path() if file is None else Path(file)

    def splits(self) -> Splits:
        """Windows of all recordings, standardised by the training subjects, divided by subject."""
        data = self._read()
        columns = {name: [data["X_labels"].index(label) for label in labels] for name, labels in STREAMS.items()}
        recordings = [{name: x[:, index] for name, index in columns.items()} for x in data["X"]]
        training = [
            r for r, subject in zip(recordings, data["subject"], strict=True) if subject in self.subjects["train"]
        ]
        windows = Windows.fitted(training, RATE, self.steps, self.hop, self.augmentation)
        parts: dict[str, list[Sample]] = {"train": [], "valid": [], "test": []}
        for number, recording in enumerate(recordings):
            subject, label = int(data["subject"][number]), int(data["y"][number])
            part = next(name for name, subjects in self.subjects.items() if subject in subjects)
            cut = windows.cut(recording)
            for i in range(len(cut["accelerometer"])):
                streams = {name: values[i].float() for name, values in cut.items()}
                parts[part].append(
                    {"id": f"{number:03d}/{i:02d}", "streams": streams, "label": label, "group": str(subject)}
                )
        return Splits(
            *(parts[name] for name in ("train", "valid", "test")),
            classes=list(data["y_labels"]),
            channels={name: len(labels) for name, labels in STREAMS.items()},
            preprocessing=windows,
            refit=partial(_fitted, recordings=recordings, windows=windows),
        )

    def _read(self) -> dict[str, Any]:
        path = self.file or _file_in_seglearn()
        if not path.is_file():
            raise DataError(
                f"no file '{path}', expected the watch data set; pass its path as file, or install seglearn."
            )
        data = load_plain_npy(path)
        expected = {"X", "X_labels", "y", "y_labels", "subject"}
        if not isinstance(data, dict) or not expected <= data.keys():
            keys = sorted(map(str, data)) if isinstance(data, dict) else type(data).__name__
            raise DataError(f"'{path}' holds {keys}, expected a dict with {sorted(expected)}; get the file again.")
        for number, recording in enumerate(data["X"]):
            if (
                not isinstance(recording, np.ndarray)
                or recording.ndim != 2
                or recording.shape[1] != len(data["X_labels"])
            ):
                raise DataError(
                    f"'{path}': recording {number} is not a (time, {len(data['X_labels'])}) array; get the file again."
                )
            if len(recording) < self.steps:
                raise DataError(
                    f"'{path}': recording {number} has {len(recording)} steps, expected at least {self.steps}; "
                    "shorten window_seconds."
                )
        return data


def _fitted(samples: Sequence[Sample], recordings: Sequence[Any], windows: Windows) -> Windows:
    """The preprocessing for other training samples: by the recordings that they are cut from."""
    numbers = sorted({int(sample["id"].partition("/")[0]) for sample in samples})
    chosen = [recordings[number] for number in numbers]
    return Windows.fitted(chosen, windows.rate, windows.steps, windows.hop, windows)


def _file_in_seglearn() -> Path:
    """Path of the data in the installed package, found without importing it (it imports scikit-learn and pandas)."""
    try:
        return Path(str(distribution("seglearn").locate_file("seglearn/data/watch_dataset.npy")))
    except PackageNotFoundError:
        raise DataError(
            "the package seglearn, which ships the watch data, is not installed; run `pip install 'msafusion[train]'`."
        ) from None
