"""Samples of several streams: what every data set gives, and what a batch is made of."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, Self, TypedDict, overload

import torch
from torch import Tensor
from torch.nn import functional

from msafusion.data.checks import check_apart
from msafusion.data.preprocessing import Preprocessing
from msafusion.failures import DataError

PARTS = ("train", "valid", "test")


class Sample(TypedDict):
    """One sample: its name, its streams, its label, and its group (subject, speaker or video).

    The label is the index of a class (int) or the value of a regression (float). `lengths` holds the real steps of the
    streams of variable length, whose time is the first axis.
    """

    id: str
    streams: dict[str, Tensor]
    label: int | float
    group: str
    lengths: NotRequired[dict[str, int]]


class Batch(TypedDict):
    """Samples stacked: streams (batch, ...) by name, labels (batch,), the samples' names, lengths (batch,) by name."""

    inputs: dict[str, Tensor]
    label: Tensor
    id: list[str]
    lengths: dict[str, Tensor]


class LazySamples(Sequence[Sample], ABC):
    """Samples that are read one by one, when they are asked for.

    Args:
        entries: one per sample, from which it is read: a row of a table, or an index.
    """

    def __init__(self, entries: Sequence[Any]) -> None:
        self.entries = entries

    @abstractmethod
    def read(self, entry: Any) -> Sample:
        """The sample of an entry."""

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> "Sample | Self":
        if not isinstance(index, slice):
            return self.read(self.entries[index])
        some = copy(self)
        some.entries = self.entries[index]
        return some

    @abstractmethod
    def only(self, streams: Iterable[str]) -> "LazySamples":
        """The same samples, of which only some streams are read."""

    @abstractmethod
    def labels_and_groups(self) -> list[tuple[int | float, str]]:
        """Of each sample, without reading it."""

    @property
    def groups(self) -> set[str]:
        """Of all samples."""
        return {group for _, group in self.labels_and_groups()}


def as_dataset(samples: Sequence[Sample]) -> Any:
    """The sequence itself: it is a map-style data set in all but torch's types."""
    return samples


def with_streams(samples: Sequence[Sample], streams: Iterable[str]) -> Sequence[Sample]:
    """The samples, of which only some streams have to be read (where samples are read lazily)."""
    return samples.only(streams) if isinstance(samples, LazySamples) else samples


def labels_and_groups(samples: Sequence[Sample]) -> list[tuple[int | float, str]]:
    """(label, group) of each sample, without reading its streams where that can be."""
    if isinstance(samples, LazySamples):
        return samples.labels_and_groups()
    return [(sample["label"], sample["group"]) for sample in samples]


def collate(samples: Sequence[Sample], streams: Collection[str] | None = None) -> Batch:
    """Stack samples; streams with lengths are padded with zeros to the longest of the batch.

    Args:
        samples: at least one.
        streams: those that the batch gets; None: all.

    Raises:
        DataError: other streams differ in shape.
    """
    names = [name for name in samples[0]["streams"] if streams is None or name in streams]
    known = [sample.get("lengths", {}) for sample in samples]
    lengths = {name: torch.tensor([of_sample[name] for of_sample in known]) for name in known[0] if name in names}
    inputs = {}
    for name in names:
        tensors = [sample["streams"][name] for sample in samples]
        if name in lengths:
            longest = max(len(tensor) for tensor in tensors)
            tensors = [functional.pad(t, (0, 0) * (t.dim() - 1) + (0, longest - len(t))) for t in tensors]
        if len({tensor.shape for tensor in tensors}) > 1:
            shapes = sorted({tuple(tensor.shape) for tensor in tensors})
            some = ", ".join(sample["id"] for sample in samples[:4])
            raise DataError(
                f"stream '{name}' has the shapes {shapes} in the batch of {some} and others, expected one; cut or "
                "resample them to one length."
            )
        inputs[name] = torch.stack(tensors)
    labels = torch.tensor([sample["label"] for sample in samples])
    return {"inputs": inputs, "label": labels, "id": [sample["id"] for sample in samples], "lengths": lengths}


@dataclass(frozen=True)
class Splits:
    """A data set divided by its protocol, ready for networks.

    Attributes:
        train, valid, test: samples; held in memory, or `LazySamples`.
        classes: names of the classes; none: the labels are regression targets, for a regression.
        channels: stream name -> channels, in the order of the networks.
        preprocessing: from stored streams to what the networks take.
        extraction: {"streams": {stream: how it was read from raw files (`Extractor.as_dict`)}, "seconds": the usual
            duration of a recording, if it has one}; kept with a model, which reads raw files by it. Empty: it cannot.
        chosen_on_test: the protocol chooses the epoch on the test samples, as the published code does; `valid` is then
            `test`, and results say so.
        sentiment: the labels are sentiment in [-3, 3]; results then include the accuracies common in its literature.
        refit: training samples -> a preprocessing fitted to them, for other divisions of the same samples; None: the
            preprocessing has nothing that is fitted.
    """

    train: Sequence[Sample]
    valid: Sequence[Sample]
    test: Sequence[Sample]
    classes: list[str]
    channels: dict[str, int]
    preprocessing: Preprocessing
    chosen_on_test: bool = False
    extraction: Mapping[str, Any] = field(default_factory=dict)
    sentiment: bool = False
    refit: Callable[[Sequence[Sample]], Preprocessing] | None = None

    def __post_init__(self) -> None:
        groups = {part: {group for _, group in labels_and_groups(getattr(self, part))} for part in PARTS}
        if self.chosen_on_test:
            groups = {"train": groups["train"], "test": groups["valid"] | groups["test"]}
        check_apart(groups, "the data", "check the protocol")
        for name, part in (("training", self.train), ("validation", self.valid), ("test", self.test)):
            if not len(part):
                raise DataError(f"the {name} split has no sample, expected at least one; check data and protocol.")

    @property
    def task(self) -> Literal["classification", "regression"]:
        """The task that the labels imply."""
        return "classification" if self.classes else "regression"

    @property
    def num_outputs(self) -> int:
        """Of a network for these labels."""
        return len(self.classes) or 1
