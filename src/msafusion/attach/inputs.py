"""How a network takes its input: where batch and time are, which steps and samples are real, and its `lengths`."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from msafusion.attach.containers import is_ragged, main_tensor, timed_tensor, zero_packed, zero_rows, zeros
from msafusion.attach.layout import describe
from msafusion.attach.state import not_traced
from msafusion.attach.timing import TimeMask
from msafusion.streams import check_someone, nearest, values_are_known


@dataclass
class InputRule:
    """How one network takes its input.

    Args:
        network: its name, for messages.
        time_axis: of its main input, which `lengths` count; None: neither told nor found by a dry run.
        lengths_at: where its forward's parameter `lengths` stands, if it has one.
        lengths_required: that parameter has no default.
        masks_matter: some stream at a point follows the time of the main input, or may do so.
        others_matter: some stream at a point has positions that follow another input, perhaps one with padding.
        counts_batch: the main input has as many rows as the batch has samples (not so for the nodes of graphs).
    """

    network: str
    time_axis: int | None
    lengths_at: int | None
    lengths_required: bool
    masks_matter: bool = False
    others_matter: bool = False
    counts_batch: bool = True

    @classmethod
    def of(cls, name: str, network: nn.Module, time_axis: int | None) -> "InputRule":
        """The rule that a network's forward tells."""
        try:
            parameters = inspect.signature(network.forward).parameters
        except ValueError:  # TorchScript
            parameters = {}
        if "lengths" not in parameters:
            return cls(name, time_axis, None, False)
        required = parameters["lengths"].default is inspect.Parameter.empty
        return cls(name, time_axis, list(parameters).index("lengths"), required)

    @property
    def batch_axis(self) -> int:
        """0, or 1 where time comes first."""
        return 1 if self.time_axis == 0 else 0

    def batch(self, given: Any) -> int:
        """The number of samples in an input.

        Raises:
            ValueError: the input holds no tensor.
        """
        if isinstance(given, PackedSequence):
            return int(given.batch_sizes[0])
        if is_ragged(given):
            return len(given)
        tensor = main_tensor(given)
        return tensor.shape[self.batch_axis if tensor.dim() > self.batch_axis else 0]

    @not_traced
    def call(self, forward: Callable[..., Any], given: Any, lengths: Tensor | None, present: Tensor | None) -> Any:
        """The network's output; the input of samples that lack it is replaced by zeros (it may be NaN).

        So that there is something to run on, these samples have one step at least in the network's own `lengths`.
        """
        own = self.own_lengths(given)
        if present is not None:
            given = self._zero_missing(given, present)
            if own is not None and isinstance(given, Mapping):
                given = {**given, "lengths": own.clamp(min=1)}
            elif own is not None:  # a plain tuple
                given = tuple(own.clamp(min=1) if i == self.lengths_at else value for i, value in enumerate(given))
        options = {}
        if self.lengths_at is not None and own is None:
            if lengths is not None:
                options["lengths"] = lengths.clamp(min=1)
            elif self.lengths_required:
                tensor = main_tensor(given)
                options["lengths"] = torch.full((self.batch(given),), self._steps(given), device=tensor.device)
        if isinstance(given, Mapping):
            return forward(**given, **options)
        return forward(*given, **options) if type(given) is tuple else forward(given, **options)

    @not_traced
    def unread_masks(self, given: Any) -> list[str]:
        """The masks in an input, beside `attention_mask`, whose padding streams at fusion points may have unnoticed."""
        if not self.others_matter or not isinstance(given, Mapping):
            return []
        return [
            key
            for key, mask in given.items()
            if str(key).endswith("mask") and key != "attention_mask" and not str(key).endswith("head_mask")
            if isinstance(mask, Tensor) and mask.dim() > 1 and values_are_known(mask) and len(mask.unique()) > 1
        ]

    @not_traced
    def finite_padding(self, given: Any, mask: TimeMask) -> Any:
        """The input with zeros for what is NaN or infinite in its padded steps: 0 * NaN would reach the gradients."""
        if isinstance(given, PackedSequence | list):
            return given
        timed, padded = timed_tensor(given), ~mask.mask
        sizes = [1] * timed.dim()
        if not timed.is_floating_point() or timed.dim() <= self._time_axis:
            return given
        sizes[self.batch_axis], sizes[self._time_axis] = timed.shape[self.batch_axis], timed.shape[self._time_axis]
        if padded.shape != (sizes[self.batch_axis], sizes[self._time_axis]):
            return given
        padded = (padded if self.batch_axis == 0 else padded.T).reshape(sizes)
        clean = timed.masked_fill(padded & ~timed.isfinite(), 0)
        if isinstance(given, Mapping):
            return {key: clean if value is timed else value for key, value in given.items()}
        return pytree.tree_map(lambda value: clean if value is timed else value, given)

    @not_traced
    def time_mask(self, given: Any, lengths: Tensor | None) -> TimeMask | None:
        """Which steps are real, told by the network's own `lengths`, by `lengths`, or by `attention_mask`.

        Raises:
            ValueError: lengths of the wrong shape or type, or beyond the input.
        """
        if isinstance(given, PackedSequence):
            return self._packed_mask(given, lengths)
        own = self.own_lengths(given)
        lengths = lengths if own is None else own
        if lengths is None:
            mask = given.get("attention_mask") if isinstance(given, Mapping) else None
            if isinstance(mask, Tensor) and mask.dim() != 2 and self.masks_matter:
                raise ValueError(
                    f"attention_mask of '{self.network}' has shape {tuple(mask.shape)}, expected (batch, steps), which "
                    "tells the real steps; give lengths beside it."
                )
            return self._as_time_mask(mask) if isinstance(mask, Tensor) and mask.dim() == 2 else None
        steps, batch = self._steps(given), self.batch(given)
        if not isinstance(lengths, Tensor) or lengths.dtype == torch.bool or lengths.is_floating_point():
            raise ValueError(
                f"lengths of '{self.network}' are {describe(lengths)}, expected a tensor of {batch} integers."
            )
        if tuple(lengths.shape) != (batch,):
            raise ValueError(
                f"lengths of '{self.network}' have shape {tuple(lengths.shape)}, expected ({batch},); "
                "give one a sample."
            )
        if values_are_known(lengths) and batch and (lengths.max() > steps or lengths.min() < 0):
            raise ValueError(
                f"lengths of '{self.network}' reach from {int(lengths.min())} to {int(lengths.max())}, expected 0 to "
                f"the input's {steps} steps (axis {self._time_axis}); correct them, or set time_axis in fuse()."
            )
        on_device = lengths.to(main_tensor(given).device)
        return TimeMask.from_lengths(on_device, steps, may_be_cut=self.lengths_at is not None)

    def _as_time_mask(self, mask: Tensor) -> TimeMask | None:
        """The real steps that an attention_mask tells; None: it holds other values, and no stream needs it.

        A floating-point mask of zeros alone is one that is added to attention scores: there, zeros are the real steps.
        """
        if mask.dtype != torch.bool and values_are_known(mask) and mask.numel():
            ones = mask == 1
            if not (ones | (mask == 0)).all() or (mask.is_floating_point() and not ones.any()):
                if not self.masks_matter:
                    return None
                raise ValueError(
                    f"attention_mask of '{self.network}' holds {mask.unique().tolist()[:3]}, expected bool, or 1 for "
                    "real steps and 0 for padding; convert it, or give lengths as well."
                )
        return TimeMask(mask.bool())

    def _packed_mask(self, given: PackedSequence, lengths: Tensor | None) -> TimeMask:
        if lengths is not None:
            raise ValueError(
                f"lengths of '{self.network}' are given beside a PackedSequence, which tells them; leave them out."
            )
        sorted_lengths = (given.batch_sizes.unsqueeze(1) > torch.arange(int(given.batch_sizes[0]))).sum(dim=0)
        order = given.unsorted_indices
        own = sorted_lengths if order is None else sorted_lengths[order.cpu()]
        return TimeMask.from_lengths(own.to(given.data.device), len(given.batch_sizes), may_be_cut=False)

    @not_traced
    def check_present(self, given: Any, present: Tensor) -> None:
        """Refuse presence that is not bool (batch,); `given` is None where the network has no input this time.

        How many samples there are, some inputs do not tell (the nodes of graphs); what is fused will.

        Raises:
            ValueError: it is not.
        """
        fits = isinstance(present, Tensor) and present.dtype == torch.bool and present.dim() == 1
        told = given is not None and (self.counts_batch or is_ragged(given))
        batch = self.batch(given) if told and not (fits and self._one_a_sample(given, present.shape[0])) else "batch"
        if not fits or batch not in ("batch", present.shape[0]):
            raise ValueError(
                f"present of '{self.network}' is {describe(present)}, expected a bool tensor ({batch},); give True "
                "where the sample has that input."
            )

    @property
    def _time_axis(self) -> int:
        return 1 if self.time_axis is None else self.time_axis

    def _steps(self, given: Any) -> int:
        return max(map(len, given)) if is_ragged(given) else timed_tensor(given).shape[self._time_axis]

    def own_lengths(self, given: Any) -> Tensor | None:
        """The lengths that the input itself holds for the network's forward."""
        if self.lengths_at is None:
            return None
        if isinstance(given, Mapping):
            return given.get("lengths")
        return given[self.lengths_at] if type(given) is tuple and len(given) > self.lengths_at else None

    @staticmethod
    def _one_a_sample(given: Any, batch: int) -> bool:
        """Whether an input is a list with an entry for each of so many samples, not of tensors with so many rows."""
        if not isinstance(given, list) or len(given) != batch:
            return False
        return not all(isinstance(value, Tensor) and value.dim() and len(value) == batch for value in given)

    def _zero_missing(self, given: Any, present: Tensor) -> Any:
        """The input with zeros for the samples not present, where the samples can be told."""
        if isinstance(given, PackedSequence):
            return zero_packed(given, present)
        if self._one_a_sample(given, present.shape[0]):
            return [value if here else zeros(value) for value, here in zip(given, present.tolist(), strict=True)]
        if not self.counts_batch:
            return given
        if isinstance(given, Mapping):  # of any type; forward gets its entries as keyword arguments
            return {key: self._zero_missing(value, present) for key, value in given.items()}

        def zeroed(value: Any) -> Any:
            axis = self.batch_axis if isinstance(value, Tensor) and value.dim() > self.batch_axis else 0
            return zero_rows(value, present, axis)

        return pytree.tree_map(zeroed, given)


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


@not_traced
def check_inputs(
    rules: Mapping[str, InputRule], inputs: Any, lengths: Mapping[str, Tensor], present: Mapping[str, Tensor]
) -> None:
    """Refuse inputs, lengths or presence that are not by network name, or presence that is not bool (batch,).

    Raises:
        ValueError: they are not.
    """
    if not isinstance(inputs, Mapping) or not inputs:
        raise ValueError(
            f"got {type(inputs).__name__} as inputs, expected {{network: input}} with at least one of them."
        )
    for what, given in (("inputs", inputs), ("lengths", lengths), ("present", present)):
        if not isinstance(given, Mapping):
            raise ValueError(f"{what} is a {type(given).__name__}, expected {{network: ...}}; name the networks.")
        for name in given:
            if name not in rules:
                raise ValueError(f"{what} for the unknown network '{name}'; {nearest(name, rules)}")
    for given in inputs.values():
        main_tensor(given)
    for name, here in present.items():
        rules[name].check_present(inputs.get(name), here)
