"""The command `msafusion plot`: one sample as a picture."""

from collections.abc import Sequence
from pathlib import Path

from msafusion.commands.dataset_options import dataset_parser, make_dataset
from msafusion.commands.parser import parse
from msafusion.data.plots import save_figure

PURPOSE = "Draw one sample of raw files or of a prepared folder, a row a stream."


def run_plot(arguments: Sequence[str]) -> None:
    """`msafusion plot DATASET ROOT ID [--out FILE] [options of the data set]`: draw one sample, one row per stream.

    Raises:
        ValueError: no data, no such sample, or a file name without a picture format.
    """
    parser, cls, arguments = dataset_parser(arguments, "plot", PURPOSE)
    parser.add_argument("id", type=str, help="the sample's id")
    parser.add_argument("--out", type=Path | None, default=None, help=".png, .pdf or .svg (default: ID.png)")
    given = parse(parser, arguments)
    file = given.out or Path(f"{given.id}.png")
    if not file.parent.is_dir():
        raise ValueError(f"no folder '{file.parent}', expected one to write '{file.name}' into; make it.")
    data = make_dataset(cls, given)
    save_figure(data.plot(data.sample(given.id)), file)
    print(f"sample {given.id} is drawn in {file}")
