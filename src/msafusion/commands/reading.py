"""Command-line options of raw data sets: those of the constructor of each reader, behind `COMMAND DATASET SOURCE`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from msafusion.data.preparation.raw import RawReader
from msafusion.streams import nearest

Readers = Mapping[str, Callable[..., RawReader]]
"""Name of a data set -> its `RawReader`, or a function that makes one; `source` is its first parameter."""


def all_readers() -> Readers:
    """Those of this package."""
    from msafusion.data.datasets import READERS

    return READERS


def dataset_name(arguments: Sequence[str], command: str, known: Sequence[str], purpose: str) -> str:
    """The data set, which is the first argument.

    Raises:
        ValueError: there is none, or it is unknown.
        SystemExit: help is asked for; it has been printed.
    """
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"usage: msafusion {command} DATASET ...\n\n{purpose}\n\nDATASET: {', '.join(known)}")
        print(f"\n`msafusion {command} DATASET --help` lists its options.")
        raise SystemExit(0)
    if not arguments or arguments[0].startswith("-"):
        raise ValueError(f"no data set, expected one of {', '.join(known)}; see `msafusion {command} --help`.")
    if arguments[0] not in known:
        raise ValueError(f"unknown data set {arguments[0]!r}; {nearest(arguments[0], known)}.")
    return arguments[0]


def add_reader(parser: ArgumentParser, make: Callable[..., RawReader]) -> list[str]:
    """Add the source and the reader's options; returns the options' names."""
    parser.add_argument("source", type=Path, help="folder or file of the raw data set")
    if isinstance(make, type):
        return parser.add_class_arguments(make, skip={"source"})
    return parser.add_function_arguments(make, skip={"source"})


def make_reader(make: Callable[..., RawReader], given: Namespace, options: Sequence[str]) -> RawReader:
    """The reader that the arguments describe.

    Raises:
        ValueError: see the reader.
    """
    return make(given["source"], **{name: given[name] for name in options})
