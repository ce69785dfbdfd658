"""The command `msafusion prepare`: a raw data set to a folder of arrays that training reads."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from msafusion.commands.dataset_options import dataset_parser, make_dataset
from msafusion.commands.parser import parse
from msafusion.data.preparation.engines import Engine
from msafusion.data.preparation.preparing import PrepareReport, prepare

PURPOSE = "Read a raw data set and write it as a prepared folder, in parallel; run it again to resume."
MAX_SHOWN = 10


def run_prepare(arguments: Sequence[str]) -> None:
    """`msafusion prepare DATASET ROOT TARGET [--workers N] [--limit N] [options of the data set]`.

    Args:
        arguments: what follows the verb.

    Raises:
        ValueError: see `preparation.prepare`; or samples failed (the others are prepared).
        KeyboardInterrupt: interrupted; how to go on has been printed.
    """
    parser, cls, arguments = dataset_parser(arguments, "prepare", PURPOSE)
    parser.add_argument("target", type=Path, help="folder for the arrays; new, or one that `prepare` began")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--engine", type=Engine, default="joblib", help="joblib (this machine) or ray (a cluster)")
    parser.add_argument("--ray_address", type=str | None, default=None, help="of a running Ray cluster")
    parser.add_argument(
        "--limit", type=int | None, default=None, help="prepare only N samples, spread evenly: a trial run"
    )
    parser.add_argument("--overwrite", action="store_true", help="delete what was prepared in the target before")
    given = parse(parser, arguments)
    console = Console()
    try:
        report = prepare(
            make_dataset(cls, given),
            given.target,
            workers=given.workers,
            engine=given.engine,
            ray_address=given.ray_address,
            limit=given.limit,
            overwrite=given.overwrite,
            console=console,
        )
    except KeyboardInterrupt:
        again = " without --overwrite" if given.overwrite else ""
        print(
            f"what is done is kept in '{given.target}'; run the same command again{again} to resume.", file=sys.stderr
        )
        raise
    console.print(f"{given.target}:", soft_wrap=True, markup=False, highlight=False)
    console.print(_table(report))
    console.print(f"report in {report.file}", soft_wrap=True)
    if report.failed:
        number = len(report.failed)
        raise ValueError(
            f"{number} sample{'s' * (number > 1)} failed, see '{report.file}'; mend or remove what is broken and run "
            "the same command again (the others are prepared)."
        )


def _table(report: PrepareReport) -> Table:
    table = Table(title=f"{report.seconds:.1f} s, {report.rate:.1f} samples/s")
    table.add_column("samples")
    table.add_column("", justify="right")
    table.add_column("why", overflow="fold")
    table.add_row("prepared", str(report.prepared), "")
    table.add_row("already there", str(report.skipped), "")
    table.add_row("with notes", str(len(report.notes)), "")
    table.add_row("failed", str(len(report.failed)), "")
    for name in list(report.failed)[:MAX_SHOWN]:
        table.add_row(f"  {name}", "", report.failed[name])
    if len(report.failed) > MAX_SHOWN:
        table.add_row("  ...", "", f"{len(report.failed) - MAX_SHOWN} more in the report")
    return table
