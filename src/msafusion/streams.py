"""Streams: named feature tensors, their masks and presence, and the checks that every fusion method shares.

A *stream* is one named tensor of shape (batch, channels, *positions). Positions are whatever follows the channels:
nothing (a vector), time (a sequence), time x joints (a skeleton), height x width, time x height x width. Where a
stream varies in length, time is its first position axis (dim 2).
"""

import difflib
import numbers
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from msafusion._compat import is_batched_by_vmap

Features = dict[str, Float[Tensor, "batch _channels *_positions"]]
"""Stream name -> tensor (batch, channels, *positions)."""
Masks = dict[str, Bool[Tensor, "batch _time"]]
"""Stream name -> True where a time step is real, shape (batch, time)."""
Presence = dict[str, Bool[Tensor, " batch"]]
"""Stream name -> True where the sample has the stream, shape (batch,)."""


class FusionError(ValueError):
    """Networks cannot be fused as asked; the message names the network, the fusion point and the remedy.

    Examples:
        >>> import torch
        >>> from msafusion import FusionPoint, fuse
        >>> from msafusion.backbones import CNN1d
        >>> point = FusionPoint({"audio": "stage9"})
        >>> fuse({"audio": CNN1d(1, 4)}, at=point, example={"audio": torch.randn(2, 1, 100)})
        Traceback (most recent call last):
            ...
        msafusion.streams.FusionError: ...has no submodule 'stage9'...
    """


def nearest(name: str, known: Iterable[str], most: int = 3) -> str:
    """The known names most like `name`, in whatever case it is written, worded for an error message."""
    known = list(known)
    plain = {one: one.casefold() for one in known}
    close = difflib.get_close_matches(name.casefold(), dict.fromkeys(plain.values()), n=most, cutoff=0.5)
    if found := [one for text in close for one in known if plain[one] == text]:
        return "did you mean " + " or ".join(map(repr, found[:most])) + "?"
    return "choose from: " + ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")


def values_are_known(tensor: Tensor) -> bool:
    """False where no Python branch may depend on a tensor's values.

    Under torch.compile, torch.export and make_fx, and within torch.func.vmap, where the tensor stands for several.
    """
    if torch.compiler.is_compiling() or isinstance(tensor, FakeTensor):
        return False
    return not is_batched_by_vmap(tensor)


def check_features(
    features: Mapping[str, Tensor],
    channels: Mapping[str, int],
    masks: Mapping[str, Tensor] | None = None,
    present: Mapping[str, Tensor] | None = None,
) -> int | torch.SymInt:
    """Check streams, masks and presence against the declared channels; return the batch size.

    Raises:
        ValueError: the features are empty; a stream is unknown, has no channel axis, the wrong channels, another
            batch size, no position or an integer type; a mask or presence has the wrong shape or type, or names an
            unknown stream; a sample has none of the streams.
    """
    if not features:
        raise ValueError(f"got no stream, expected at least one of {', '.join(channels)}; pass {{name: tensor}}.")
    first, batch = next(iter(features)), 0
    for name, feature in features.items():
        if not isinstance(feature, Tensor):
            raise ValueError(f"stream '{name}' is a {type(feature).__name__}, expected a tensor; convert it.")
        if name not in channels:
            raise ValueError(
                f"unknown stream '{name}', expected one of the declared streams; {nearest(name, channels)}"
            )
        if feature.dim() < 2:
            raise ValueError(
                f"stream '{name}' has shape {tuple(feature.shape)}, expected (batch, channels, *positions); "
                "add the missing axes."
            )
        if feature.shape[1] != channels[name]:
            raise ValueError(
                f"stream '{name}' has {feature.shape[1]} channels (shape {tuple(feature.shape)}), expected "
                f"{channels[name]} on axis 1; pass channels={{'{name}': {feature.shape[1]}}} or move its channel axis."
            )
        if name == first:
            batch = feature.shape[0]
        if feature.shape[0] != batch:
            raise ValueError(
                f"stream '{name}' has a batch of {feature.shape[0]}, expected {batch} as in stream '{first}'; "
                "give every stream the same samples (mark missing ones with present)."
            )
        if 0 in feature.shape[2:]:
            raise ValueError(
                f"stream '{name}' has shape {tuple(feature.shape)} and so no position, expected at least one on every "
                "axis; leave the stream out, or pad it and mark it missing with present."
            )
        if not feature.is_floating_point():
            raise ValueError(f"stream '{name}' has type {feature.dtype}, expected floating point; call .float() on it.")
    for name, mask in (masks or {}).items():
        if name not in features:
            raise ValueError(f"mask for stream '{name}', which is not among the features; {nearest(name, features)}")
        if features[name].dim() < 3:
            raise ValueError(
                f"mask for stream '{name}' of shape {tuple(features[name].shape)}, expected a stream with a time axis "
                "(dim 2); a vector needs no mask, use present for missing samples."
            )
        _check_bool(f"mask for stream '{name}'", mask, (batch, features[name].shape[2]), "(batch, time)")
    for name, here in (present or {}).items():
        if name not in channels:
            raise ValueError(
                f"present names the unknown stream '{name}', expected a declared one; {nearest(name, channels)}"
            )
        _check_bool(f"present for stream '{name}'", here, (batch,), "(batch,)")
    check_someone(features, masks, present)
    return batch


def presence_of(
    names: Iterable[str], masks: Mapping[str, Tensor] | None = None, present: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Which samples have which of the streams, (batch,); those that all samples have for sure are left out.

    A stream without a real step in its mask is one that the sample lacks.
    """
    presence = {name: present[name] for name in names if present and name in present}
    for name in names:
        if masks and name in masks:
            real = masks[name].any(dim=1)
            presence[name] = presence[name] & real if name in presence else real
    return presence


def without_any(names: Collection[str], presence: Mapping[str, Tensor]) -> Tensor | None:
    """True for samples that lack all of the streams, (batch,); None where there can be none.

    Args:
        names: of the streams.
        presence: as of `presence_of`.
    """
    if not names or len(presence) < len(names):
        return None
    return ~torch.stack([presence[name] for name in names]).any(dim=0)


def check_someone(
    names: Collection[str], masks: Mapping[str, Tensor] | None = None, present: Mapping[str, Tensor] | None = None
) -> None:
    """Refuse a batch with a sample that has none of the streams; looks at values, so only in eager mode.

    Raises:
        ValueError: there is one; names it.
    """
    nothing = without_any(names, presence_of(names, masks, present))
    if nothing is not None and values_are_known(nothing) and nothing.any():
        raise ValueError(
            f"sample {int(nothing.nonzero()[0])} of the batch has no stream at all, expected at least one of "
            f"{', '.join(names)} (in present, with a real step in masks or lengths); leave the sample out."
        )


def _check_bool(what: str, got: Tensor, shape: tuple[int, ...], axes: str) -> None:
    if tuple(got.shape) != shape or got.dtype != torch.bool:
        raise ValueError(
            f"{what} has shape {tuple(got.shape)} and type {got.dtype}, expected {axes} = {shape} and torch.bool; "
            "give True where the data are real."
        )


def check_channels(channels: Mapping[str, int]) -> None:
    """Refuse channels that are not a non-empty mapping from stream to a positive count."""
    if not isinstance(channels, Mapping):
        raise ValueError(
            f"channels is a {type(channels).__name__}, expected {{stream: number of channels}}; name the streams."
        )
    if not channels:
        raise ValueError("channels is empty, expected at least one stream; pass {name: number of channels}.")
    for name, count in channels.items():
        check_count(f"channels['{name}']", count)


def check_choice(name: str, got: object, known: Sequence[str]) -> None:
    """Refuse an option that is none of the known words."""
    if got not in known:
        words = ", ".join(repr(word) for word in known[:-1])
        raise ValueError(f"{name} is {got!r}, expected {words} or {known[-1]!r}; set {name} to one of them.")


def check_option(name: str, got: float, low: float, high: float, *, open_above: bool = False) -> None:
    """Refuse a numeric option outside [low, high] (or [low, high) if `open_above`), NaN included."""
    number = isinstance(got, numbers.Real)
    if not number or not (
        low <= got < high if open_above else low <= got <= high
    ):  # NaN compares false, so it lands here
        bracket = ")" if open_above else "]"
        raise ValueError(f"{name} is {got!r}, expected a number in [{low}, {high}{bracket}; set {name} within it.")


def check_count(name: str, got: int) -> None:
    """Refuse a count that is not a positive integer."""
    if not isinstance(got, numbers.Integral) or isinstance(got, bool) or got < 1:
        raise ValueError(f"{name} is {got!r}, expected a positive integer; set {name} to 1 or more.")
