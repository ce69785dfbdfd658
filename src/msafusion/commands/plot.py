"""The command `msafusion plot`: one sample of a prepared folder as a picture."""

from collections.abc import Sequence
from pathlib import Path

from msafusion.commands.parser import parse, verb_parser
from msafusion.plots import plot_prepared


def run_plot(arguments: Sequence[str]) -> None:
    """`msafusion plot FOLDER ID`: draw what is stored of one sample, a row a stream.

    Raises:
        ValueError: no prepared folder, no such sample, or a file name without a picture format.
    """
    parser = verb_parser("plot", "Draw one sample of a prepared folder, a row a stream.", loads=False)
    parser.add_argument("folder", type=Path, help="prepared folder")
    parser.add_argument("id", type=str, help="the sample's id, from its samples.csv")
    parser.add_argument("--out", type=Path | None, default=None, help=".png, .pdf or .svg (default: ID.png)")
    given = parse(parser, arguments)
    file = given.out or Path(f"{given.id}.png")
    if not file.parent.is_dir():
        raise ValueError(f"no folder '{file.parent}', expected one to write '{file.name}' into; make it.")
    plot_prepared(given.folder, given.id, file)
    print(f"sample {given.id} is drawn in {file}")
