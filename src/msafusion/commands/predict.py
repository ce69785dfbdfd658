"""The command `msafusion predict`: what a trained run says about raw files."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

import torch
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from msafusion.arguments import parse
from msafusion.media import Extractor
from msafusion.predict import Prediction, Recording, StreamPart, TrainedModel, load
from msafusion.predict.inputs import Failed, recordings
from msafusion.predict.recording import Window, read_windows
from msafusion.streams import check_count

Read = tuple[Recording, list[Window], list[str]]


def run_predict(arguments: Sequence[str]) -> None:
    """`msafusion predict RUN FILE...`: a line for each recording, printed and written into a file.

    Raises:
        ValueError: no run, nothing to predict from, or recordings that failed (after all others are done).
    """
    parser = ArgumentParser(prog="msafusion predict", exit_on_error=False, description="Classify raw files.")
    parser.add_argument("run", type=str, help="folder of the run")
    parser.add_argument(
        "files", type=str, nargs="+", help="files, folders, globs, manifests (.csv, .parquet), or - for JSON lines"
    )
    parser.add_argument("--timeline", action="store_true", help="also each window of a recording by itself")
    parser.add_argument(
        "--format",
        type=Literal["auto", "table", "jsonl"],
        default="auto",
        help="what is printed (auto: a table on a terminal, JSON lines otherwise)",
    )
    parser.add_argument("--out", type=Path | None, default=None, help="JSON lines (default: RUN/predictions.jsonl)")
    parser.add_argument("--batch_size", type=int, default=16, help="windows that run together")
    parser.add_argument("--workers", type=int, default=1, help="processes that read files")
    given = parse(parser, arguments)
    check_count("--batch_size", given.batch_size)
    check_count("--workers", given.workers)
    model = load(given.run)
    model.network.to("cuda" if torch.cuda.is_available() else "cpu")
    run = Path(given.run)
    target = given.out or (run.parent if (run / "config.json").is_file() else run) / "predictions.jsonl"
    wanted = list(recordings(given.files, model, sys.stdin))
    as_table = given.format == "table" or (given.format == "auto" and sys.stdout.isatty())
    try:
        lines = target.open("w", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot write '{target}' ({error.strerror}); choose another --out.") from None
    table = _table(model, given.timeline)
    failed: list[Failed] = []
    with lines, Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("predicting", total=len(wanted))
        for result in _results(model, wanted, given.workers, given.batch_size):
            progress.advance(bar)
            if isinstance(result, Failed):
                failed.append(result)
                line = {"file": result.name, "error": result.reason}
                print(f"msafusion: {result.name}: {result.reason}", file=sys.stderr)
            else:
                line = result.as_dict(given.timeline)
                _add_rows(table, result, given.timeline)
            _write(line, lines)
            if not as_table:
                _write(line, sys.stdout)
    if as_table:
        Console().print(table)
    print(f"results in {target}", file=sys.stderr)
    if failed:
        raise ValueError(f"{len(failed)} of {len(wanted)} recordings failed; their lines say why.")


def _write(line: Mapping[str, object], file: TextIO) -> None:
    file.write(json.dumps(line, ensure_ascii=False) + "\n")
    file.flush()


def _results(
    model: TrainedModel, wanted: Sequence[Recording | Failed], workers: int, batch_size: int
) -> Iterator[Prediction | Failed]:
    """In the order asked for; a recording that fails is reported and the others go on."""
    reading = _read_all(model, wanted, workers)
    batch: list[Read | Failed] = []
    count = 0
    for read in reading:
        batch.append(read)
        count += 0 if isinstance(read, Failed) else len(read[1])
        if count >= batch_size:
            yield from _predicted(model, batch, batch_size)
            batch, count = [], 0
    yield from _predicted(model, batch, batch_size)


def _predicted(model: TrainedModel, batch: Sequence[Read | Failed], batch_size: int) -> Iterator[Prediction | Failed]:
    sound = [read for read in batch if not isinstance(read, Failed)]
    try:
        predictions = iter(list(model.predictions(sound, batch_size)))
    except ValueError as error:  # one does not fit the network: find out which
        if len(batch) == 1:
            yield Failed(sound[0][0].name, str(error))
            return
        for read in batch:
            yield from _predicted(model, [read], batch_size)
        return
    for read in batch:
        yield read if isinstance(read, Failed) else next(predictions)


def _read_all(model: TrainedModel, wanted: Sequence[Recording | Failed], workers: int) -> Iterator[Read | Failed]:
    if workers == 1:
        for recording in wanted:
            yield _read(model.extraction, model.seconds, recording)
        return
    from joblib import Parallel, delayed

    jobs = (delayed(_read)(dict(model.extraction), model.seconds, recording) for recording in wanted)
    read: Any = Parallel(workers, return_as="generator", pre_dispatch="2*n_jobs")(jobs)
    yield from read


def _read(extraction: Mapping[str, Extractor], seconds: float | None, recording: Recording | Failed) -> Read | Failed:
    if isinstance(recording, Failed):
        return recording
    try:
        return recording, *read_windows(recording, extraction, seconds)
    except (ValueError, OSError) as error:
        return Failed(recording.name, str(error))


def _table(model: TrainedModel, timeline: bool) -> Table:
    table = Table(caption="streams: what the probability loses without each", caption_justify="left")
    for column in ("file", *(["from", "to"] if timeline else []), "label", "probability"):
        table.add_column(column, overflow="fold", justify="left" if column in ("file", "label") else "right")
    if not model.classes:
        table.columns[-2].header, table.columns[-1].header = "value", ""
    for stream in model.streams:
        table.add_column(stream, justify="right")
    table.add_column("warnings", overflow="fold")
    return table


def _add_rows(table: Table, result: Prediction, timeline: bool) -> None:
    parts = [_part(part) for part in result.streams.values()]
    said = _cells(result.label, result.value, result.probabilities)
    table.add_row(result.file, *([""] * 2 if timeline else []), *said, *parts, "; ".join(result.warnings))
    for window in result.timeline if timeline else ():
        times = ["" if time is None else f"{time:.2f} s" for time in (window.start, window.end)]
        said = _cells(window.label, window.value, window.probabilities)
        table.add_row("", *times, *said, *[""] * (len(parts) + 1))


def _part(part: StreamPart) -> str:
    return "absent" if not part.present else "" if part.contribution is None else f"{part.contribution:+.3f}"


def _cells(label: str | None, value: float | None, probabilities: dict[str, float]) -> tuple[str, str]:
    return (f"{value:.3f}", "") if label is None else (label, f"{probabilities[label]:.3f}")
