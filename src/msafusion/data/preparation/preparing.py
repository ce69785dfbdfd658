"""Preparing: turns a raw data set into a prepared folder, in parallel; it can be interrupted and resumed at any time.

Beside the prepared folder's own files (see `prepared`) the target holds the settings and the journal (see `journal`),
from which a later run resumes; `report.json`: what failed, and what users should know about individual samples; and
`errors.log`: the tracebacks of unexpected errors, if there were any.
"""

import functools
import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msafusion.data.checks import check_ids, check_label, check_streams
from msafusion.data.preparation.engines import run_work
from msafusion.data.preparation.item_preparer import ItemPreparer
from msafusion.data.preparation.journal import (
    ERRORS,
    JOURNAL,
    REPORT,
    SETTINGS,
    Journal,
    file_state,
    open_journal,
    plan_of,
    row_of,
    versions,
)
from msafusion.data.preparation.progress import progress_on
from msafusion.data.preparation.raw import RawItem
from msafusion.data.preparation.writing import INFO, TABLE, write_table
from msafusion.failures import DataError, Failure, TraceLog, attempt
from msafusion.files.json_file import write_json

if TYPE_CHECKING:
    from msafusion.data.dataset import Dataset

MAX_PROBED = 16
"""Recordings that are looked at for their typical duration."""
SAMPLES_A_WORKER = 64
"""Fewer are not worth the start of a process (seconds)."""


@dataclass(frozen=True)
class PrepareReport:
    """What a run of `prepare` did; also in the folder's report.json.

    Attributes:
        prepared: samples that it prepared.
        skipped: samples that were there already.
        failed: identifier -> why, one line.
        notes: identifier -> what a user should know about the sample, those already there included.
        seconds: how long it took.
        rate: samples that it looked into (prepared or failed) a second.
        file: report.json.

    Examples:
        >>> from pathlib import Path
        >>> from msafusion.data.preparation import PrepareReport
        >>> failed = {"b": "no file 'b.npy'"}
        >>> report = PrepareReport(9, 0, failed, notes={}, seconds=2.0, rate=5.0, file=Path("prepared/report.json"))
        >>> f"{report.prepared} prepared, {len(report.failed)} failed"
        '9 prepared, 1 failed'
    """

    prepared: int
    skipped: int
    failed: dict[str, str]
    notes: dict[str, list[str]]
    seconds: float
    rate: float
    file: Path


def prepare(
    data: "Dataset",
    target: Path,
    *,
    workers: int = 1,
    engine: str = "joblib",
    ray_address: str | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    wait: bool = False,
    console: Any = None,
) -> PrepareReport:
    """Read all samples of a raw data set and write them as a prepared folder; samples already there are kept.

    A sample is prepared again when its raw files, its row or one of its arrays have changed. Samples that fail are left
    out of the table. An interruption loses only the samples in progress; the next run picks up from there.

    Args:
        data: the raw data set.
        target: the folder; another machine of a Ray cluster must see it, and the raw files, under the same path.
        workers: processes; 1: this one. A Ray cluster at an address uses all its cores.
        engine: "joblib" (processes of this machine) or "ray".
        ray_address: of a running cluster; None: RAY_ADDRESS, or a cluster of this machine alone.
        limit: number of samples to prepare, spread evenly over the data set; a later run without it prepares the rest.
        overwrite: delete what was prepared in the folder before.
        wait: wait for another process that is preparing the folder, instead of raising an error.
        console: the rich Console that shows progress; None: progress is not shown.

    Raises:
        ValueError: the folder holds something else, was prepared from another source or with other settings, or cannot
            be written; a worker died.
        DataError: nothing of the data set is there, an impossible sample, or not one sample could be prepared.
        OSError: the folder cannot be written.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from msafusion.data.datasets import Manifest
        >>> from msafusion.data.preparation import prepare
        >>> rows = [("id", "label", "split", "motion"), ("a", 0.5, "train", "m.npz#a"), ("b", 1.5, "test", "m.npz#b")]
        >>> with TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/m.npz", a=np.random.randn(9, 3), b=np.random.randn(9, 3))
        ...     np.savetxt(f"{folder}/manifest.csv", rows, fmt="%s", delimiter=",")
        ...     report = prepare(Manifest(Path(folder)), Path(folder, "prepared"))
        ...     report.prepared, report.failed
        (2, {})
    """
    for name, number in (("workers", workers), ("limit", limit)):
        if number is not None and number < 1:
            raise ValueError(f"{name} is {number}, expected a positive integer.")
    items = data.items()
    _check_items(data, items)
    chosen = items if limit is None or limit >= len(items) else [items[i * len(items) // limit] for i in range(limit)]
    start = time.perf_counter()
    with open_journal(data, target, overwrite=overwrite, wait=wait) as journal:
        stat, channels = functools.cache(file_state), data.channels()  # many samples may share one file
        plans = {item.id: plan_of(item, stat) for item in items}
        there = {item.id for item in items if journal.has(plans[item.id], channels)}
        waiting = [item for item in chosen if item.id not in there]
        failed: dict[str, str] = {}
        log = TraceLog(target / ERRORS)
        work = ItemPreparer(data, target, channels, data.layouts())
        results = run_work(work, waiting, workers=workers, engine=engine, ray_address=ray_address)
        try:
            with progress_on(console, "preparing") as tell, closing(results):
                for done, outcome in enumerate(results, start=1):
                    if outcome.failure is not None:
                        failed[outcome.id] = log.line(outcome.failure)
                    else:
                        journal.add({**plans[outcome.id], "arrays": outcome.arrays, "notes": outcome.notes})
                        there.add(outcome.id)
                    tell(done, len(waiting), len(failed))
        finally:  # interrupted too: what is done can be used
            finished = [item for item in items if item.id in there]
            if finished:
                _write_folder(data, target, finished, of=len(items), failed=len(failed))
            else:
                (target / TABLE).unlink(missing_ok=True)
        seconds = time.perf_counter() - start
        report = PrepareReport(
            prepared=len(waiting) - len(failed),
            skipped=len(chosen) - len(waiting),
            failed=dict(sorted(failed.items())),
            notes=_notes(journal, finished),
            seconds=seconds,
            rate=len(waiting) / seconds,
            file=target / REPORT,
        )
        facts = {name: value for name, value in asdict(report).items() if name != "file"}
        write_json(report.file, {"dataset": data.name, **facts, "versions": versions()})
    if not finished:
        name, problem = next(iter(report.failed.items()))
        raise DataError(
            f"none of {len(chosen)} samples could be prepared; '{name}': {problem} All are listed in '{report.file}'."
        )
    return report


def prepare_cached(data: "Dataset") -> Path:
    """The prepared folder of a raw data set in the user's cache, brought up to date; progress is shown on stderr.

    It lies in MSAFUSION_CACHE (default: ~/.cache/msafusion), and is named by data set, raw folder and settings.
    Several processes may ask for it at once: one prepares, the others wait.

    Args:
        data: the raw data set.

    Raises:
        DataError: samples could not be prepared; it names the first, counts them and says where all are listed.
        ValueError, OSError: see `prepare`.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from msafusion.data.datasets import Manifest
        >>> from msafusion.data.preparation import prepare_cached
        >>> rows = [("id", "label", "split", "motion"), ("a", 0.5, "train", "m.npz#a"), ("b", 1.5, "test", "m.npz#b")]
        >>> with TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/m.npz", a=np.random.randn(9, 3), b=np.random.randn(9, 3))
        ...     np.savetxt(f"{folder}/manifest.csv", rows, fmt="%s", delimiter=",")
        ...     (prepare_cached(Manifest(Path(folder))) / "samples.csv").is_file()
        True
    """
    from rich.console import Console

    source = data.root.expanduser().resolve()
    settings = json.dumps({"source": str(source), **data.settings()}, sort_keys=True)
    name = f"{data.name}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
    folder = Path(os.environ.get("MSAFUSION_CACHE") or Path.home() / ".cache" / "msafusion") / name
    if (workers := data.workers) is None:
        from joblib import cpu_count

        workers = max(1, min(cpu_count(), len(data.items()) // SAMPLES_A_WORKER))
    report = prepare(data, folder, workers=workers, wait=True, console=Console(stderr=True))
    if report.failed:
        name, problem = next(iter(report.failed.items()))
        raise DataError(
            f"'{source}' could not be prepared whole ({len(report.failed)} failed), the first is '{name}': {problem} "
            f"All are listed in '{report.file}'; mend or remove them."
        )
    return folder


def _check_items(data: "Dataset", items: Sequence[RawItem]) -> None:
    """What would make the table unreadable is known before hours of work."""
    where, reserved = f"'{data.root}'", (INFO, TABLE, SETTINGS, JOURNAL, REPORT, ERRORS)
    check_streams(data.channels(), where, "rename it", reserved)
    if not items:
        raise DataError(f"no sample of {data.name} in {where}, expected at least one; check the path.")
    check_ids((item.id for item in items), where, "rename it")
    for item in items:
        check_label(item.label, len(data.classes), f"{where}, sample '{item.id}'", "correct it")


def _write_folder(data: "Dataset", target: Path, finished: Sequence[RawItem], *, of: int, failed: int) -> None:
    info: dict[str, Any] = {
        "dataset": data.name,
        "classes": list(data.classes),
        "streams": data.channels(),
        "layouts": data.layouts(),
        "extraction": {stream: extractor.as_dict() for stream, extractor in data.extraction.items()},
        "of": of,
        "failed": failed,
    }
    seconds = _typical_seconds(data, finished)
    write_json(target / INFO, info if seconds is None else {**info, "seconds": seconds})
    write_table(target, [row_of(item) for item in sorted(finished, key=lambda item: item.id)])


def _typical_seconds(data: "Dataset", finished: Sequence[RawItem]) -> float | None:
    """Median duration of some of the raw recordings; None: they have none."""
    found = []
    for item in finished[:: -(-len(finished) // MAX_PROBED)]:
        for stream, extractor in data.extraction.items():
            # its streams were read when they were prepared; a file may have gone since
            seconds = attempt(functools.partial(extractor.probe, item.files[stream]))
            if seconds is not None and not isinstance(seconds, Failure):
                found.append(seconds)
                break
        else:
            if not found:
                return None
    return round(float(np.median(found)), 3) if found else None


def _notes(journal: Journal, finished: Sequence[RawItem]) -> dict[str, list[str]]:
    notes = {item.id: journal.entries[item.id]["notes"] for item in finished}
    return {name: lines for name, lines in sorted(notes.items()) if lines}
