"""Writing prepared folders: every file appears whole or not at all."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msafusion.data.preprocessing import Layout
from msafusion.files.json_file import write_json

INFO, TABLE = "info.json", "samples.csv"


def write_prepared(
    root: Path,
    dataset: str,
    classes: Sequence[str],
    channels: Mapping[str, int],
    samples: Iterable[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]],
    layouts: Mapping[str, Layout] | None = None,
) -> int:
    """Write a prepared folder; the table comes last, so that an incomplete folder is not mistaken for a complete one.

    Args:
        root: the folder.
        dataset: name of the data set.
        classes: names of the classes; none for a regression.
        channels: stream name -> channels.
        samples: for each its row (id, label, group, further columns) and its arrays by stream.
        layouts: stream name -> layout, where the data set does not know it by itself.

    Returns:
        The number of samples.
    """
    rows = []
    for row, arrays in samples:
        for stream in channels:
            write_array(root, stream, str(row["id"]), arrays[stream])
        rows.append(dict(row))
    info = {"dataset": dataset, "classes": list(classes), "streams": dict(channels)}
    write_json(root / INFO, {**info, "layouts": dict(layouts)} if layouts else info)
    write_table(root, rows)
    return len(rows)


def array_file(root: Path, stream: str, name: str) -> Path:
    """Where a prepared folder has the array of one sample and stream."""
    return root / stream / f"{name}.npy"


def write_array(root: Path, stream: str, name: str, values: np.ndarray) -> int:
    """Write the array of one sample and stream; returns the size of its file (bytes)."""
    file = array_file(root, stream, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch(file)
    with scratch.open("wb") as opened:
        np.save(opened, values, allow_pickle=False)
    size = scratch.stat().st_size
    scratch.replace(file)
    return size


def write_table(root: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table of a prepared folder: id, label, group, then all further columns; empty where a row has none."""
    columns = dict.fromkeys(["id", "label", "group", *(name for row in rows for name in row)])
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), restval="")
    writer.writeheader()
    writer.writerows(rows)
    _write_text(root / TABLE, text.getvalue())


def _write_text(file: Path, text: str) -> None:
    scratch = _scratch(file)
    # a file's name need not be UTF-8; JSON reads what stands for such bytes back as it was
    scratch.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
    scratch.replace(file)


def _scratch(file: Path) -> Path:
    """Beside the file, so that it can be moved into place; of this process, so that none writes into another's."""
    return file.with_name(f".{file.name}.{os.getpid()}")
