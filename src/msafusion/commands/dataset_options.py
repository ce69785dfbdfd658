"""Command-line options of the verbs on raw files: those of a data set that decide how they are read."""

import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from msafusion.commands.parser import import_modules, verb_parser
from msafusion.data.dataset import Dataset
from msafusion.data.datasets import DATASETS
from msafusion.streams import nearest


def known_dataset(name: str, known: Iterable[str]) -> str:
    """The name, if it is known.

    Raises:
        ValueError: it is not.
    """
    if name not in known:
        raise ValueError(f"unknown data set {name!r}; {nearest(name, known)}")
    return name


def dataset_parser(
    arguments: Sequence[str], verb: str, purpose: str
) -> tuple[ArgumentParser, type[Dataset], list[str]]:
    """A parser of `msafusion <verb> DATASET ROOT`, with the data set's options of reading.

    Args:
        arguments: what follows the verb; the first is the data set.
        verb: its name.
        purpose: what it does.

    Returns:
        The parser; the data set; the arguments that are left.

    Raises:
        ValueError: no data set is named, or it is unknown.
        SystemExit: help is asked for; it has been printed.
    """
    arguments = import_modules(arguments)
    known = [name for name, cls in DATASETS.items() if cls.items is not Dataset.items]
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"usage: msafusion {verb} DATASET ...\n\n{purpose}\n\nDATASET: {', '.join(known)}")
        print(f"\n`msafusion {verb} DATASET --help` lists its options.")
        raise SystemExit(0)
    if not arguments or arguments[0].startswith("-"):
        raise ValueError(f"no data set, expected one of {', '.join(known)}; see `msafusion {verb} --help`.")
    if arguments[0] in DATASETS and arguments[0] not in known:
        raise ValueError(
            f"{arguments[0]} has no raw files, as training reads it as it is; choose from: {', '.join(known)}."
        )
    cls = DATASETS[known_dataset(arguments[0], known)]
    parser = verb_parser(f"{verb} {cls.__name__}", purpose)
    parser.add_argument("root", type=Path, help="the raw files, or a prepared folder")
    others: set[str | int] = {name for name in inspect.signature(cls).parameters if name not in cls.reading}
    parser.add_class_arguments(cls, skip=others)
    return parser, cls, list(arguments[1:])


def make_dataset(cls: type[Dataset], given: Namespace) -> Dataset:
    """The data set that the arguments describe.

    Raises:
        ValueError: see the data set.
    """
    options: dict[str, Any] = {name: given[name] for name in cls.reading}
    return cls(given["root"], **options)  # pyright: ignore[reportCallIssue]  # as every data set of raw files has it
