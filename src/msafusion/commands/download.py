"""The command `msafusion download`: a public data set, or parts of it, into a folder, once its license is accepted."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from msafusion.commands.dataset_options import known_dataset
from msafusion.commands.parser import parse, verb_parser
from msafusion.data.dataset import Dataset
from msafusion.data.datasets import DATASETS
from msafusion.data.download import RECORD


def run_download(arguments: Sequence[str]) -> None:
    """`msafusion download DATASET TARGET`: download what is not there yet, check it, unpack it, and record it.

    Raises:
        ValueError: an unknown data set or part, a license that is not accepted, or a download that fails; files that
            were whole before it stay.
    """
    published = {name: cls for name, cls in DATASETS.items() if cls.remote is not None}
    parser = verb_parser("download", "Get a public data set from its publisher.", loads=False)
    parser.add_argument("dataset", type=str, help=f"one of {', '.join(published)}")
    parser.add_argument("target", type=Path, help="folder to download into")
    parser.add_argument(
        "--parts",
        type=str,
        nargs="+",
        default=[],
        help="parts or patterns, such as 'video_0?' audio (default: the usual)",
    )
    parser.add_argument("--accept_license", action="store_true", help="you have read the license and accept it")
    parser.add_argument("--keep_archives", action="store_true", help="keep archives once they are unpacked")
    parser.add_argument("--base_url", type=str | None, default=None, help="a mirror that serves the same paths")
    given = parse(parser, arguments)
    cls, target, console = published[known_dataset(given.dataset, published)], given.target, Console()
    if target.exists() and not target.is_dir():
        raise ValueError(f"'{target}' is a file, expected a folder to download into; choose another.")
    _agree(cls, given.parts, given.accept_license, console)
    cls(target).download(  # pyright: ignore[reportCallIssue]  # what is published has a constructor that takes a root
        given.parts,
        accept_license=True,
        base_url=given.base_url,
        keep_archives=given.keep_archives,
        console=console,
    )
    console.print(f"{cls.__name__} is in {target}, recorded in {target / RECORD}", highlight=False)


def _agree(cls: type[Dataset], patterns: Sequence[str], accepted: bool, console: Console) -> None:
    """Show the license, and go on only where it is accepted."""
    assert cls.remote is not None
    parts = cls.remote.chosen(patterns)
    left = [part for part in cls.remote.parts if part not in parts]
    console.print(
        f"{cls.__name__}\nparts: {', '.join(parts)}" + (f" (not: {', '.join(left)})" if left else ""),
        f"license: {cls.license}\ncite: {cls.citation}\nsee: {cls.url}",
        sep="\n",
        highlight=False,
    )
    if accepted:
        return
    if not sys.stdin.isatty():
        raise ValueError(f"the license of {cls.__name__} is not accepted; read it above and add --accept_license.")
    if input("Do you accept this license? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ValueError(f"the license of {cls.__name__} is not accepted; nothing was downloaded.")
