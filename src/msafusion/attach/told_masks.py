"""What masks and lengths in a network's input tell: which steps are real, which samples have it."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from msafusion.attach.timing import TimeMask
from msafusion.streams import check_someone, presence_of, values_are_known, without_any


def holds_ones_for_real_steps(mask: Tensor) -> bool:
    """Whether a mask holds 1 for real steps and 0 for padding, as far as its values are known.

    A floating-point mask of zeros alone is one that is added to attention scores: there, zeros are the real steps.
    """
    if mask.dtype == torch.bool or not values_are_known(mask) or not mask.numel():
        return True
    ones = mask == 1
    return bool((ones | (mask == 0)).all()) and (not mask.is_floating_point() or bool(ones.any()))


def packed_mask(given: PackedSequence) -> TimeMask:
    """The real steps of packed sequences."""
    sorted_lengths = (given.batch_sizes.unsqueeze(1) > torch.arange(int(given.batch_sizes[0]))).sum(dim=0)
    order = given.unsorted_indices
    own = sorted_lengths if order is None else sorted_lengths[order.cpu()]
    return TimeMask.from_lengths(own.to(given.data.device), len(given.batch_sizes), may_be_cut=False)


def presence_with(
    names: Collection[str], masks: Mapping[str, TimeMask], present: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Which samples have which network's input: as `present` says, and some step of it is real.

    Raises:
        ValueError: a sample has none.
    """
    presence = dict(present)
    for name, mask in masks.items():
        real = mask.mask.any(dim=1)
        if name in presence:
            presence[name] = presence[name] & real
        elif not values_are_known(real) or not real.all():
            presence[name] = real
    check_someone(names, present=presence)
    return presence


def with_someone(
    features: Mapping[str, Tensor], masks: dict[str, Tensor], present: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Masks and presence for a method, which needs a stream in every sample.

    A sample may have networks that do not meet here, or that skip their layers in this step. The streams that it lacks
    stand in for each other then: they hold what the networks make of zeros, and leave as zeros all the same.
    """
    nothing = without_any(list(features), presence_of(features, masks, present))
    if nothing is None or (values_are_known(nothing) and not nothing.any()):
        return masks, present
    return (
        {stream: mask | nothing.unsqueeze(1) for stream, mask in masks.items()},
        {stream: here | nothing for stream, here in present.items()},
    )
