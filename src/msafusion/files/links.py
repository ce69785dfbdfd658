"""Folders from strangers that are written to: a link in one would lead what is written somewhere else."""

from collections.abc import Iterable
from pathlib import Path


def check_no_links(paths: Iterable[Path], remedy: str) -> None:
    """Refuse links; where folders themselves lie is the user's own choice.

    Raises:
        ValueError: one of the paths is a link.
    """
    if link := next((path for path in paths if path.is_symlink()), None):
        raise ValueError(f"'{link}' is a link, which is not written through; {remedy}.")
