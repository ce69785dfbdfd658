"""The command `msafusion verify`: what of a data set is there, what is missing and what is broken, by file."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from jsonargparse.typing import PositiveInt
from rich.console import Console

from msafusion.commands.dataset_options import dataset_parser, make_dataset
from msafusion.commands.parser import parse
from msafusion.data.dataset import Dataset
from msafusion.data.preparation.engines import run_work
from msafusion.data.preparation.item_preparer import ItemPreparer
from msafusion.data.preparation.progress import Tell, progress_on
from msafusion.data.preparation.raw import Verification
from msafusion.failures import TraceLog
from msafusion.files.json_file import write_json
from msafusion.text import printable

PURPOSE = "Look at every file of a raw data set, or of a prepared folder."
MAX_SHOWN = 20


def run_verify(arguments: Sequence[str]) -> None:
    """`msafusion verify DATASET ROOT [--thorough [--workers N]] [--out FILE] [options of the data set]`.

    Args:
        arguments: what follows the verb.

    Raises:
        ValueError: files are missing or broken, or the data set is unknown.
    """
    parser, cls, arguments = dataset_parser(arguments, "verify", PURPOSE)
    parser.add_argument("--thorough", action="store_true", help="read every raw file whole, as `prepare` does")
    parser.add_argument("--workers", type=PositiveInt, default=1, help="processes of --thorough")
    parser.add_argument("--out", type=Path | None, default=None, help="JSON file for the whole result")
    given = parse(parser, arguments)
    console, data = Console(), make_dataset(cls, given)
    with progress_on(console, "verifying") as tell:
        found = data.verify(tell)
    if data.is_prepared:
        console.print("every array of the prepared folder was read", soft_wrap=True)
    elif given.thorough:
        with progress_on(console, "reading") as tell:
            found = replace(found, broken=[*found.broken, *_unread(data, found, given.workers, tell)])
    else:
        console.print("recordings were decoded only at their start; --thorough reads every file whole", soft_wrap=True)
    _show(console, found, listed=given.out is not None)
    if given.out is not None:
        write_json(given.out, {"dataset": data.name, "root": str(given.root), "ok": found.ok, **asdict(found)})
        console.print(f"all of it in {given.out}", soft_wrap=True)
    if not found.ok:
        where = "above" if given.out is None else f"'{given.out}'"
        raise ValueError(
            f"'{given.root}' is not whole: {len(found.broken)} broken, {len(found.missing)} missing; see {where}."
        )


def _unread(data: Dataset, found: Verification, workers: int, tell: Tell) -> Iterator[str]:
    """One line for each sample that `prepare` would report, where it is not `found` already."""
    items, failed, log = data.items(), 0, TraceLog()
    work = ItemPreparer(data, None, data.channels(), data.layouts())
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
