"""Command-line arguments: a user's mistake becomes one line."""

from collections.abc import Sequence

from jsonargparse import ArgumentError, ArgumentParser, Namespace


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """What the arguments say.

    Raises:
        ValueError: the parser refuses them.
    """
    try:
        return parser.parse_args(list(arguments))
    except ArgumentError as error:
        raise ValueError(f"{' '.join(str(error).split())}; see `{parser.prog} --help`.") from None
