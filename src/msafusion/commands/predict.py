"""The command `msafusion predict`: what a trained run says about raw files."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from jsonargparse import Namespace

from msafusion.commands.parser import parse, verb_parser
from msafusion.failures import Failure, TraceLog
from msafusion.text import printable

if TYPE_CHECKING:  # --help need not wait for torch
    from msafusion.data.preparation.progress import Tell
    from msafusion.predict import Failed, Recording
    from msafusion.predict.reading import ReadRecording, Window


def run_predict(arguments: Sequence[str]) -> None:
    """`msafusion predict RUN FILE...`: a line for each recording, printed and written into a file.

    Raises:
        ValueError: no run, nothing to predict from, or recordings or names that failed (after all others are done).
    """
    parser = verb_parser("predict", "Classify raw files of any duration: long ones window by window.")
    parser.add_argument("run", type=str, help="folder of the run")
    parser.add_argument(
        "files",
        type=str,
        nargs="+",
        help='files, folders, globs, manifests (.csv, .parquet), or - for JSON lines such as {"file": "a.mp4"} or '
        '{"video": "a.mp4", "audio": "b.wav"} on standard input',
    )
    parser.add_argument("--timeline", action="store_true", help="also each window of a recording by itself")
    parser.add_argument(
        "--format",
        type=Literal["auto", "table", "jsonl"],
        default="auto",
        help="what is printed (auto: a table on a terminal, JSON lines otherwise)",
    )
    parser.add_argument(
        "--out", type=Path | None, default=None, help="JSON lines, replaced (default: RUN/predictions.jsonl)"
    )
    parser.add_argument("--batch_size", type=int, default=16, help="windows that run together")
    parser.add_argument("--workers", type=int, default=1, help="processes that read files")
    _predict(parse(parser, arguments))


def _predict(given: Namespace) -> None:
    import torch
    from rich.console import Console

    from msafusion.commands.prediction_table import PredictionTable
    from msafusion.data.preparation.progress import progress_on
    from msafusion.files.links import check_no_links
    from msafusion.predict import Failed, load
    from msafusion.predict.inputs import NothingNamed, recordings
    from msafusion.predict.reading import read_all
    from msafusion.streams import check_count

    check_count("--batch_size", given.batch_size)
    check_count("--workers", given.workers)
    model, run = load(given.run), Path(given.run)
    model.network.to("cuda" if torch.cuda.is_available() else "cpu")
    if model.cpu_threads is not None:
        torch.set_num_threads(model.cpu_threads)
    if isinstance(sys.stdin, TextIOWrapper):  # JSON is UTF-8 wherever it comes from; names of files need not be
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    wanted = list(recordings(given.files, model, sys.stdin))
    if len(wanted) == len(given.files) == 1 and isinstance(alone := wanted[0], NothingNamed):
        raise ValueError(TraceLog().line(alone.failure))  # earlier results stay as they are
    beside = (run.parent if (run / "config.json").is_file() else run) / "predictions.jsonl"
    if not given.out:
        check_no_links([beside], "choose another file by --out")
    target = given.out or beside
    printed = sys.stdout  # as it is now: a progress bar on the terminal would take to itself what is printed later
    as_table = given.format == "table" or (given.format == "auto" and printed.isatty())
    table = PredictionTable(model.classes, model.streams, given.timeline) if as_table else None
    # lines on the same terminal show the progress themselves
    console = None if printed.isatty() and not as_table else Console(stderr=True)
    failed, log = 0, TraceLog(target.with_suffix(".errors.log"))
    with _opened(target) as lines, progress_on(console, "predicting") as tell:
        progress = _Progress(tell, len(wanted))
        read = progress.counted(read_all(wanted, model.extraction, model.seconds, given.workers))
        try:
            for result in model.predictions(read, given.batch_size):
                if isinstance(result, Failed):
                    result = Failed(result.file, log.line(result.failure))
                # ASCII: a file's name may not be UTF-8
                line = json.dumps(result.as_dict(given.timeline), allow_nan=False) + "\n"
                lines.add(line)
                if not as_table:
                    printed.write(line)
                    printed.flush()
                if isinstance(result, Failed):
                    failed = progress.failed = failed + 1
                    print(f"msafusion: {printable(result.file)}: {result.error}", file=sys.stderr)
                elif table is not None:
                    table.add(result)
        except KeyboardInterrupt:
            print(f"what is done is in '{target}'.", file=sys.stderr)
            raise
    if table is not None:
        Console().print(table.table, *table.warnings, sep="\n")
    print(f"results in {target}", file=sys.stderr)
    if failed:
        raise ValueError(f"{failed} of {len(wanted)} recordings failed; their lines say why.")


@contextmanager
def _opened(target: Path) -> "Iterator[_Lines]":
    try:
        opened = target.open("a", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot write '{target}' ({error.strerror}); choose another --out.") from None
    with opened:
        yield _Lines(opened, earlier=target.is_file())


class _Lines:
    """The file of results; what an earlier command has left in it goes when the first line comes."""

    def __init__(self, opened: TextIO, *, earlier: bool) -> None:
        self._opened, self._earlier = opened, earlier

    def add(self, line: str) -> None:
        if self._earlier:
            self._opened.truncate(0)
            self._earlier = False
        self._opened.write(line)
        self._opened.flush()


class _Progress:
    """Windows read, of those known by now: a recording counts as one until it has been looked into."""

    def __init__(self, tell: "Tell", recordings: int) -> None:
        self.tell, self.total, self.done, self.failed = tell, recordings, 0, 0

    def counted(
        self, read: "Iterable[ReadRecording]"
    ) -> "Iterator[tuple[Recording | Failed, Iterator[Window | Failure]]]":
        for recording, count, windows in read:
            self.total += count - 1
            until = self.done + count
            yield recording, self._each(windows)
            self.done = until  # a broken recording's remaining windows are not read
            self.tell(self.done, self.total, self.failed)

    def _each(self, windows: "Iterator[Window | Failure]") -> "Iterator[Window | Failure]":
        for window in windows:
            yield window
            self.done += 1
            self.tell(self.done, self.total, self.failed)
