"""Whether a run goes on with, or is evaluated on, the samples that it was made for."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor

from msafusion.data.samples import Sample, Splits
from msafusion.files.json_file import write_json
from msafusion.files.reading import read_json, reading

SAMPLES = "samples.json"
"""What a run notes of its samples."""


def fingerprint(splits: Splits) -> str:
    """A hash of the samples: names, labels, and values of those held in memory (of others, the first and the last)."""
    digest = hashlib.sha256(json.dumps([splits.classes, splits.channels]).encode())
    for samples in (splits.train, splits.valid, splits.test):
        looked_at = samples if isinstance(samples, list) else [samples[0], samples[len(samples) - 1]]
        digest.update(str(len(samples)).encode())
        for sample in looked_at:
            sums = {name: float(values.double().sum()) for name, values in sample["streams"].items()}
            digest.update(json.dumps([sample["id"], sample["label"], sums]).encode())
    return digest.hexdigest()[:16]


def _named(sample: Sample) -> list[Any]:
    return [sample["id"], sample["label"]]


def check_same_samples(folder: Path, splits: Splits, *, resume: bool) -> None:
    """Record the samples of a new run; refuse to continue with others.

    Raises:
        ValueError: they are not those that the run began with.
    """
    parts = {name: getattr(splits, name) for name in ("train", "valid", "test")}
    now = {
        "classes": list(splits.classes),
        "channels": dict(splits.channels),
        "num_samples": {name: len(part) for name, part in parts.items()},
        "first_and_last": {name: [_named(part[0]), _named(part[len(part) - 1])] for name, part in parts.items()},
        "fingerprint": fingerprint(splits) if all(isinstance(part, list) for part in parts.values()) else None,
    }
    file = folder / SAMPLES
    if resume and file.is_file():
        with reading(file, "what this run's samples were", "remove it to go on with the data as they are", ValueError):
            before = dict(read_json(file))
        told = {key: value for key, value in now.items() if value is not None and before.get(key) is not None}
        differ = [f"{key} was {before[key]} and is {value}" for key, value in told.items() if before[key] != value]
        if differ:
            raise ValueError(
                f"the data are not those that the run in '{folder}' began with ({differ[0]}), so its models would be "
                "trained on some and tested on others; restore the data, or start a new run with another --out."
            )
        return
    rank_zero_only(write_json)(file, now)


def check_fits_model(folder: Path, splits: Splits, classes: list[str], state: Mapping[str, Tensor]) -> None:
    """Refuse data that a run's model cannot be tested on.

    Args:
        folder: of the run.
        splits: the data.
        classes: that the model tells apart; none: a regression.
        state: its weights.

    Raises:
        ValueError: the data have other classes, or lack a stream.
    """
    streams = {key.split(".")[1] for key in state if key.startswith("networks.")}
    given: tuple[tuple[str, Any, Any], ...] = (
        ("classes", classes, splits.classes),
        ("streams", sorted(streams), sorted(splits.channels)),
    )
    for what, expected, got in given:
        if got != expected:
            raise ValueError(
                f"the data have the {what} {', '.join(got) or 'none'}, and the model in '{folder}' was trained for "
                f"{', '.join(expected) or 'none'}; give it data with the same {what}."
            )
