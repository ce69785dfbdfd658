"""Where the samples of an example lie in what a submodule gives, by where a change of the first one shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor

from msafusion.attach.paths import Path, get
from msafusion.streams import FusionError

NEGLIGIBLE = 1e-5
"""Of the largest change: what rounding may do to other samples."""


@dataclass(frozen=True)
class Rows:
    """Where the first sample shows in a submodule's output.

    Attributes:
        samples: number of them.
        before, after: the output for some samples, and for the same with another first one.
    """

    samples: int
    before: Any
    after: Any

    def moved(self, path: Path) -> Tensor | None:
        """Which elements of a tensor change with the first sample; None: unknown."""
        one, other = get(self.before, path), get(self.after, path)
        if not isinstance(one, Tensor) or one.shape != other.shape or not one.is_floating_point() or not one.numel():
            return None
        change = (one.detach() - other.detach()).abs().nan_to_num()
        return change > NEGLIGIBLE * change.max()


def axis_of(found: Sequence[Rows], path: Path, tensor: Tensor, usual: int, where: str) -> int | None:
    """The axis on which the samples lie, by where the first one shows; None: that does not tell.

    Args:
        found: by the example, and then by samples of unequal length, by which some networks sort them.
        path: of the tensor in the submodule's output.
        tensor: itself.
        usual: the axis on which the samples are expected.
        where: the submodule, in messages.

    Raises:
        FusionError: they lie in another order, or on one of several axes.
    """
    axis = None
    for number, rows in enumerate(found):
        moved = rows.moved(path)
        if moved is None or moved.dim() != tensor.dim() or not moved.any():
            continue
        shows = _shows(moved)
        if number:
            _check_first(shows[usual if axis is None else axis], tensor, usual if axis is None else axis, where)
        elif moved.shape == tensor.shape:
            axis = _axis_by(shows, rows.samples, tensor, usual, where)
    return axis


def _shows(moved: Tensor) -> list[Tensor]:
    """Of each axis, at which of its entries anything has moved."""
    return [moved.movedim(axis, 0).flatten(1).any(1) for axis in range(moved.dim())]


def _check_first(show: Tensor, tensor: Tensor, axis: int, where: str) -> None:
    if not show[0]:
        raise FusionError(
            f"{where} gives shape {tuple(tensor.shape)}, where the first sample is not the first on axis {axis}, "
            "so that samples would be fused with others; choose a submodule that keeps them in their order."
        )


def _axis_by(shows: Sequence[Tensor], samples: int, tensor: Tensor, usual: int, where: str) -> int | None:
    if not shows[usual].all():
        _check_first(shows[usual], tensor, usual, where)
        return usual
    axes = [axis for axis, show in enumerate(shows) if len(show) == samples and bool(show[0]) and int(show.sum()) == 1]
    if len(axes) > 1 and usual not in axes:
        raise FusionError(
            f"{where} gives shape {tuple(tensor.shape)}, where the samples may lie on axes {axes}; give fuse() an "
            "example with more samples."
        )
    return None if not axes else usual if usual in axes else axes[0]


def rows_of_first(found: Sequence[Rows], path: Path, axis: int) -> tuple[bool, ...] | None:
    """Which rows come of the first sample; None: unknown, or all of them do."""
    moved = found[0].moved(path) if found else None
    if moved is None or axis >= moved.dim() or not moved.any():
        return None
    show = _shows(moved)[axis]
    return None if bool(show.all()) else tuple(show.tolist())


def check_same_order(of_first: Mapping[str, tuple[bool, ...] | None], point: str) -> None:
    """Refuse streams whose rows, as many as each other's, are of other samples (time folded into the batch).

    Args:
        of_first: of each stream, as of `rows_of_first`.
        point: its name.

    Raises:
        FusionError: there are such streams.
    """
    known = {stream: rows for stream, rows in of_first.items() if rows is not None}
    for one, other in pairwise(known):
        if len(known[one]) == len(known[other]) and known[one] != known[other]:
            raise FusionError(
                f"fusion point {point}: streams '{one}' and '{other}' have {len(known[one])} rows, which belong to the "
                "samples in different orders, so that samples would be fused with others; fuse where each row is one "
                "sample."
            )


def check_streams(found: Sequence[Rows], paths: Mapping[str, Path], submodule: str, where: str) -> None:
    """Refuse tensors beside the features that have nothing to do with the input, such as position biases.

    Raises:
        FusionError: there is one; names the others.
    """
    if len(paths) < 2 or not found:
        return
    moved = {path: rows for path in paths.values() if (rows := found[0].moved(path)) is not None}
    apart = [path for path, rows in moved.items() if not rows.any()]
    features = [path for path in paths.values() if path not in apart]
    if apart and features:
        raise FusionError(
            f"{where} gives several tensors, of which {_keys(apart)} does not depend on the input (position biases, "
            f"for instance); name the features with '{submodule}{_keys(features[:1])}'."
        )


def _keys(paths: Sequence[Path]) -> str:
    return ", ".join("".join(f"[{key}]" for key in path) for path in paths)
