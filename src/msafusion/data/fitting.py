"""A prepared folder, divided, with every channel standardised by its training samples."""

from collections.abc import Mapping, Sequence
from typing import Any

from msafusion.preparation.prepared import PreparedFolder
from msafusion.preprocessing import Layout, Recordings
from msafusion.samples import Splits

MOST_FITTED = 500
"""Training samples, evenly spread, from which mean and standard deviation are taken."""


def fitted_splits(
    folder: PreparedFolder,
    parts: Mapping[str, Sequence[Mapping[str, str]]],
    streams: Sequence[str] | None = None,
    **changes: Any,
) -> Splits:
    """Splits of a prepared folder with `Recordings` as their preprocessing.

    Args:
        folder: any prepared folder.
        parts: train, valid, test -> rows of its table.
        streams: those to use; none: all.
        changes: random changes in training, see `Recordings`.
    """
    names = list(folder.channels) if streams is None else list(streams)
    samples = {part: folder.samples(rows).only(names) for part, rows in parts.items()}
    train = samples["train"]
    some = train[:: -(-len(train) // MOST_FITTED)] if train else train
    layouts: dict[str, Layout] = {name: folder.layout(name) for name in names}
    preprocessing = Recordings.fitted([sample["streams"] for sample in some], layouts, **changes)
    return Splits(
        *(samples[part] for part in ("train", "valid", "test")),
        classes=folder.classes,
        channels={name: folder.channels[name] for name in names},
        preprocessing=preprocessing,
        extraction=folder.extraction,
    )
