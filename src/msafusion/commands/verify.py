"""The command `msafusion verify`: what of a data set is there, what is missing and what is broken, by file."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from jsonargparse.typing import PositiveInt
from rich.console import Console

from msafusion.commands.parser import import_modules, parse, verb_parser
from msafusion.commands.reading import Readers, add_reader, all_readers, dataset_name, make_reader
from msafusion.data.preparation.engines import run_work
from msafusion.data.preparation.item_preparer import ItemPreparer
from msafusion.data.preparation.prepared import PreparedFolder
from msafusion.data.preparation.progress import Tell, progress_on
from msafusion.data.preparation.raw import RawReader, Verification
from msafusion.failures import TraceLog
from msafusion.files.json_file import write_json
from msafusion.text import printable

PURPOSE = "Look at every file of a raw data set, or of a prepared folder (`msafusion verify prepared FOLDER`)."
PREPARED = "prepared"
MAX_SHOWN = 20


def run_verify(arguments: Sequence[str], readers: Readers | None = None) -> None:
    """`msafusion verify DATASET SOURCE [--thorough [--workers N]] [--out FILE] [options of the data set]`.

    Args:
        arguments: what follows the verb.
        readers: the data sets it knows; None: all.

    Raises:
        ValueError: files are missing or broken, or the data set is unknown.
    """
    arguments = import_modules(arguments)
    readers = all_readers() if readers is None else readers
    name = dataset_name(arguments, "verify", [*readers, PREPARED], PURPOSE)
    parser = verb_parser(f"verify {name}", PURPOSE)
    options: list[str] = []
    if name == PREPARED:
        parser.add_argument("source", type=Path, help="prepared folder")
    else:
        options = add_reader(parser, readers[name])
        parser.add_argument("--thorough", action="store_true", help="read every file whole, as `prepare` does")
        parser.add_argument("--workers", type=PositiveInt, default=1, help="processes of --thorough")
    parser.add_argument("--out", type=Path | None, default=None, help="JSON file for the whole result")
    given = parse(parser, arguments[1:])
    console = Console()
    reader = None if name == PREPARED else make_reader(readers[name], given, options)
    with progress_on(console, "verifying") as tell:
        if reader is None:
            folder = PreparedFolder(given.source, None)
            found = Verification({"samples": len(folder.rows)}, broken=folder.verify(tell))
        else:
            found = reader.verify(tell)
    if reader is not None and given.thorough:
        with progress_on(console, "reading") as tell:
            found = replace(found, broken=[*found.broken, *_unread(reader, found, given.workers, tell)])
    elif reader is not None:
        console.print("recordings were decoded only at their start; --thorough reads every file whole", soft_wrap=True)
    _show(console, found, listed=given.out is not None)
    if given.out is not None:
        write_json(given.out, {"dataset": name, "source": str(given.source), "ok": found.ok, **asdict(found)})
        console.print(f"all of it in {given.out}", soft_wrap=True)
    if not found.ok:
        where = "above" if given.out is None else f"'{given.out}'"
        raise ValueError(
            f"'{given.source}' is not whole: {len(found.broken)} broken, {len(found.missing)} missing; see {where}."
        )


def _unread(reader: RawReader, found: Verification, workers: int, tell: Tell) -> Iterator[str]:
    """One line for each sample that `prepare` would report, where it is not `found` already."""
    items, failed, log = reader.items(), 0, TraceLog()
    work = ItemPreparer(reader, None, reader.channels(), reader.layouts())
    with closing(run_work(work, items, workers=workers, engine="joblib", ray_address=None)) as results:
        for done, outcome in enumerate(results, start=1):
            if outcome.failure is not None:
                failed += 1
                # the same error may have been found already, with a traceback noted
                if not any(line.startswith(outcome.failure.line) for line in found.broken):
                    yield f"sample '{outcome.id}': {log.line(outcome.failure)}"
            tell(done, len(items), failed)


def _show(console: Console, found: Verification, listed: bool) -> None:
    for what, number in found.present.items():
        console.print(f"{what}: {number}", highlight=False)
    for title, lines in (("broken", found.broken), ("missing", found.missing), ("skipped", found.skipped)):
        console.print(f"{title}: {len(lines)}", highlight=False)
        for line in lines[:MAX_SHOWN]:
            console.print(f"  {printable(line)}", highlight=False, markup=False, soft_wrap=True)
        if len(lines) > MAX_SHOWN:
            rest = "" if listed else "; --out FILE lists all"
            console.print(f"  ... and {len(lines) - MAX_SHOWN} more{rest}", highlight=False)
