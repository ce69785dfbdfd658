"""Samples of several streams: what every data set gives, what a batch is made of, and cutting into windows."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor


class Sample(TypedDict):
    """One sample: its name, its streams, the index of its class, and who it is of (subject, speaker, video)."""

    id: str
    streams: dict[str, Tensor]
    label: int
    group: str


class Batch(TypedDict):
    """Samples stacked: streams (batch, ...) by name, labels (batch,) int64, and the names of the samples."""

    inputs: dict[str, Tensor]
    label: Tensor
    id: list[str]


class DataError(ValueError):
    """The data are not what the reader expects; the message says which file, what was expected and what to do."""


def as_dataset(samples: list[Sample]) -> Any:
    """The list itself: it is a map-style data set in all but torch's types."""
    return samples


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples whose streams have equal shapes."""
    streams = {name: torch.stack([sample["streams"][name] for sample in samples]) for name in samples[0]["streams"]}
    labels = torch.tensor([sample["label"] for sample in samples])
    return {"inputs": streams, "label": labels, "id": [sample["id"] for sample in samples]}


@dataclass(frozen=True)
class Windows:
    """Cuts recordings into windows and standardises their channels: what happens to raw signals before a network.

    Attributes:
        rate: samples per second of the recordings (Hz).
        steps: time steps of a window.
        hop: time steps between the starts of two windows.
        mean, std: per stream and channel, of the training recordings, in the recording's units.
    """

    rate: float
    steps: int
    hop: int
    mean: dict[str, list[float]]
    std: dict[str, list[float]]

    @classmethod
    def fitted(cls, recordings: Sequence[Mapping[str, np.ndarray]], rate: float, steps: int, hop: int) -> "Windows":
        """With the mean and standard deviation of the training recordings, {stream: (time, channels)} each."""
        stacked = {name: np.concatenate([recording[name] for recording in recordings]) for name in recordings[0]}
        mean = {name: values.mean(axis=0).tolist() for name, values in stacked.items()}
        std = {name: np.maximum(values.std(axis=0), 1e-8).tolist() for name, values in stacked.items()}
        return cls(rate, steps, hop, mean, std)

    def __call__(self, recording: Mapping[str, np.ndarray | Tensor]) -> dict[str, Tensor]:
        """{stream: (time, channels)} of one recording to {stream: float32 (windows, channels, steps)}.

        Raises:
            DataError: an unknown stream, the wrong number of channels, streams of different lengths, fewer time steps
                than one window, or values that are not finite.
        """
        if not isinstance(recording, Mapping):
            raise DataError(f"the recording is a {type(recording).__name__}, expected {{stream: (time, channels)}}.")
        arrays = {name: np.asarray(values, dtype=np.float64) for name, values in recording.items()}
        lengths = {name: len(values) for name, values in arrays.items()}
        for name, values in arrays.items():
            if name not in self.mean:
                raise DataError(f"unknown stream '{name}', expected {', '.join(self.mean)}; rename or leave it out.")
            if values.ndim != 2 or values.shape[1] != len(self.mean[name]):
                raise DataError(
                    f"stream '{name}' has shape {values.shape}, expected (time, {len(self.mean[name])}); "
                    "give it one column a channel."
                )
            if len(values) < self.steps:
                raise DataError(
                    f"stream '{name}' has {len(values)} time steps, expected at least {self.steps} "
                    f"({self.steps / self.rate:g} s at {self.rate:g} Hz); record longer or resample."
                )
            if not np.isfinite(values).all():
                raise DataError(f"stream '{name}' holds NaN or infinity, expected finite values; clean the recording.")
        if len(set(lengths.values())) > 1:
            raise DataError(f"the streams have {lengths} time steps, expected equal ones; align them first.")
        return {name: self._cut(name, values) for name, values in arrays.items()}

    def _cut(self, name: str, values: np.ndarray) -> Tensor:
        standard = (values - np.array(self.mean[name])) / np.array(self.std[name])
        windows = np.lib.stride_tricks.sliding_window_view(standard, self.steps, axis=0)[:: self.hop]
        return torch.from_numpy(np.ascontiguousarray(windows)).float()

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for a saved model's configuration."""
        return asdict(self)


@dataclass(frozen=True)
class Splits:
    """A data set divided by its protocol, ready for networks."""

    train: list[Sample]
    valid: list[Sample]
    test: list[Sample]
    classes: list[str]
    channels: dict[str, int]
    """Stream name -> channels, in the order of the networks."""
    preprocessing: Windows

    def __post_init__(self) -> None:
        groups = [{sample["group"] for sample in part} for part in (self.train, self.valid, self.test)]
        for one, other in ((0, 1), (0, 2), (1, 2)):
            if shared := groups[one] & groups[other]:
                raise DataError(
                    f"the splits share {sorted(shared)}, expected every subject in one split; check the protocol."
                )


class DataSource(ABC):
    """A data set with a protocol; its options are the arguments of its constructor."""

    @abstractmethod
    def splits(self) -> Splits:
        """Read, check, preprocess and divide the data.

        Raises:
            DataError: the files are missing or broken.
        """
