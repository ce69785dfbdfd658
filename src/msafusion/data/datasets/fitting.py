"""A prepared folder, divided, with every channel standardised by its training samples."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msafusion.data.preparation.prepared import PreparedFolder
from msafusion.data.preprocessing import Augmentation, Layout, Standardize
from msafusion.data.samples import Splits

MAX_FITTED = 500
"""Training samples, evenly spread, from which mean and standard deviation are taken."""


def check_reading(folder: PreparedFolder, asked: Mapping[str, Any], made_with: Mapping[str, Any]) -> None:
    """Refuse options of reading raw files that a prepared folder was not made with, as it cannot follow them.

    Args:
        folder: the prepared folder, for messages.
        asked: option -> value; those alone that the user has set.
        made_with: option -> value of all that the folder says of itself.

    Raises:
        ValueError: an option differs.
    """
    for name, value in asked.items():
        before = made_with.get(name)
        if json.loads(json.dumps(value)) != before:  # as JSON gives it back, so that tuples equal lists
            raise ValueError(
                f"'{folder.root}' was prepared with {name} {before}, this run asks for {value}; prepare it again with "
                f"{name} {value}, or give the raw data."
            )


def fit_splits(
    folder: PreparedFolder,
    parts: Mapping[str, Sequence[Mapping[str, str]]],
    streams: Sequence[str] | None = None,
    augmentation: Augmentation | None = None,
) -> Splits:
    """Splits of a prepared folder with `Standardize` as their preprocessing.

    Args:
        folder: any prepared folder.
        parts: train, valid, test -> rows of its table.
        streams: those to use; none: all.
        augmentation: random changes in training; none: no change.
    """
    names = list(folder.channels) if streams is None else list(streams)
    samples = {part: folder.samples(rows).only(names) for part, rows in parts.items()}
    train = samples["train"]
    some = train[:: -(-len(train) // MAX_FITTED)] if train else train
    layouts: dict[str, Layout] = {name: folder.layout(name) for name in names}
    folder.exact = set(names)  # until it is known of which float32 loses nothing
    preprocessing = Standardize.fitted([sample["streams"] for sample in some], layouts, augmentation)
    folder.exact = preprocessing.wide()
    return Splits(
        *(samples[part] for part in ("train", "valid", "test")),
        classes=folder.classes,
        channels={name: folder.channels[name] for name in names},
        preprocessing=preprocessing,
        extraction=folder.extraction,
    )
