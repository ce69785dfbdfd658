"""The command `msafusion verify`: what of a data set is there, what is missing and what is broken, by file."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from jsonargparse import ArgumentParser
from rich.console import Console

from msafusion.arguments import parse
from msafusion.commands.reading import Readers, add_reader, all_readers, dataset_of, made_reader
from msafusion.preparation.prepared import PreparedFolder
from msafusion.preparation.progress import progress_on
from msafusion.preparation.raw import Verification
from msafusion.preparation.writing import write_json

PURPOSE = "Look at every file of a raw data set, or of a prepared folder (`msafusion verify prepared FOLDER`)."
PREPARED = "prepared"
MOST_SHOWN = 20


def run_verify(arguments: Sequence[str], readers: Readers | None = None) -> None:
    """`msafusion verify DATASET SOURCE [--out FILE] [options of the data set]`.

    Args:
        arguments: what follows the verb.
        readers: the data sets it knows; None: all.

    Raises:
        ValueError: files are missing or broken, or there is no such data set.
    """
    readers = all_readers() if readers is None else readers
    name = dataset_of(arguments, "verify", [*readers, PREPARED], PURPOSE)
    parser = ArgumentParser(prog=f"msafusion verify {name}", exit_on_error=False, description=PURPOSE)
    options: list[str] = []
    if name == PREPARED:
        parser.add_argument("source", type=Path, help="prepared folder")
    else:
        options = add_reader(parser, readers[name])
    parser.add_argument("--out", type=Path | None, default=None, help="JSON file for the whole result")
    given = parse(parser, arguments[1:])
    console = Console()
    if name == PREPARED:
        found = _of_prepared(given.source)
    else:
        reader = made_reader(readers[name], given, options)
        with progress_on(console, "verifying") as tell:
            found = reader.verify(tell)
    _show(console, found, listed=given.out is not None)
    if given.out is not None:
        write_json(given.out, {"dataset": name, "source": str(given.source), "ok": found.ok, **asdict(found)})
        console.print(f"all of it in {given.out}", soft_wrap=True)
    if not found.ok:
        raise ValueError(
            f"'{given.source}' is not whole: {len(found.missing)} missing, {len(found.broken)} broken; see above."
        )


def _of_prepared(root: Path) -> Verification:
    folder = PreparedFolder(root, None)
    return Verification({"samples": len(folder.rows)}, broken=folder.verify())


def _show(console: Console, found: Verification, listed: bool) -> None:
    for what, number in found.present.items():
        console.print(f"{what}: {number}", highlight=False)
    for title, lines in (("missing", found.missing), ("broken", found.broken), ("skipped", found.skipped)):
        console.print(f"{title}: {len(lines)}", highlight=False)
        for line in lines[:MOST_SHOWN]:
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
        if len(lines) > MOST_SHOWN:
            rest = "" if listed else "; --out FILE lists all"
            console.print(f"  ... and {len(lines) - MOST_SHOWN} more{rest}", highlight=False)
