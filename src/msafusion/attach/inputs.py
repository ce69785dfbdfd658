"""How a network takes its input: where batch and time are, which steps and samples are real, and its `lengths`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from msafusion.attach.containers import is_ragged, main_tensor, timed_tensor, zero_packed, zero_rows, zeros
from msafusion.attach.paths import describe
from msafusion.attach.state import not_traced
from msafusion.attach.timing import TimeMask
from msafusion.attach.told_masks import holds_ones_for_real_steps, packed_mask
from msafusion.attach.wrapped import parameters_of_forward
from msafusion.streams import FusionError, values_are_known


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
        input_axes: of the samples in the tensors of the input; None: it is the same for all (an adjacency matrix).
        output_axes: of the samples in the floating-point tensors of the output; None: they are by the first axis.
    """

    network: str
    time_axis: int | None
    lengths_at: int | None
    lengths_required: bool
    masks_matter: bool = False
    others_matter: bool = False
    counts_batch: bool = True
    input_axes: dict[str, int | None] = field(default_factory=dict)
    output_axes: tuple[int | None, ...] | None = None

    @classmethod
    def of(cls, name: str, network: nn.Module, time_axis: int | None) -> "InputRule":
        """The rule that a network's forward tells."""
        parameters = parameters_of_forward(network)
        if "lengths" not in parameters:
            return cls(name, time_axis, None, False)
        required = parameters["lengths"].default is inspect.Parameter.empty
        return cls(name, time_axis, list(parameters).index("lengths"), required)

    def settle_time_axis(self, given: Any) -> None:
        """Count a time axis that is told from the front.

        Raises:
            FusionError: the input has no such axis.
        """
        if self.time_axis is None or isinstance(given, PackedSequence) or is_ragged(given):
            return
        shape = tuple(timed_tensor(given).shape)
        if not -len(shape) <= self.time_axis < len(shape):
            raise FusionError(
                f"time_axis of '{self.network}' is {self.time_axis}, expected an axis of its input of shape {shape}; "
                "correct it."
            )
        self.time_axis %= len(shape)

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
                options["lengths"] = torch.full((self.batch(given),), self.steps(given), device=tensor.device)
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
        mask = given.get("attention_mask") if isinstance(given, Mapping) else None
        if own is not None:
            self._check_told_twice(lengths, own, "the `lengths` in its input")
            lengths = own
        if lengths is None:
            if isinstance(mask, Tensor) and mask.dim() != 2 and self.masks_matter:
                raise ValueError(
                    f"attention_mask of '{self.network}' has shape {tuple(mask.shape)}, expected (batch, steps), which "
                    "tells the real steps; give lengths beside it."
                )
            return self._as_time_mask(mask) if isinstance(mask, Tensor) and mask.dim() == 2 else None
        steps, batch = self.steps(given), self.batch(given)
        if not isinstance(lengths, Tensor) or lengths.dtype == torch.bool or lengths.is_floating_point():
            raise ValueError(
                f"lengths of '{self.network}' are {describe(lengths)}, expected a tensor of {batch} integers."
            )
        if tuple(lengths.shape) != (batch,):
            raise ValueError(
                f"lengths of '{self.network}' have shape {tuple(lengths.shape)}, expected ({batch},); "
                "give one a sample."
            )
        lengths = lengths.long()
        if values_are_known(lengths) and batch and (lengths.max() > steps or lengths.min() < 0):
            raise ValueError(
                f"lengths of '{self.network}' reach from {int(lengths.min())} to {int(lengths.max())}, expected 0 to "
                f"the input's {steps} steps (axis {self._time_axis}); correct them, or set time_axis in fuse()."
            )
        on_device = lengths.to(main_tensor(given).device)
        told = TimeMask.from_lengths(on_device, steps, may_be_cut=self.lengths_at is not None)
        if isinstance(mask, Tensor) and mask.shape == told.mask.shape and holds_ones_for_real_steps(mask):
            self._check_told_twice(told.mask, mask.bool(), "the attention_mask in its input")
        return told

    def _check_told_twice(self, told: Any, other: Tensor | None, where: str) -> None:
        """Refuse steps that are told in two ways, and not as the same; a sample without any is missing in any case.

        Raises:
            ValueError: they differ; names the first sample that does.
        """
        if not isinstance(told, Tensor) or other is None or told.shape != other.shape:
            return
        differ = told.to(other.device) != other
        if told.dim() > 1:
            differ = differ.any(dim=1) & told.any(dim=1)
        if values_are_known(differ) and differ.any():
            raise ValueError(
                f"lengths of '{self.network}' and {where} tell different real steps (sample "
                f"{int(differ.nonzero()[0])}); give one of the two."
            )

    def _as_time_mask(self, mask: Tensor) -> TimeMask | None:
        """The real steps that an attention_mask tells; None: it holds other values, and no stream needs it."""
        if not holds_ones_for_real_steps(mask):
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
        return packed_mask(given)

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

    def steps(self, given: Any) -> int:
        """The number of steps in an input, of the longest sample."""
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
        given = dict(given) if isinstance(given, Mapping) else given  # forward gets its entries as keyword arguments
        keyed, spec = pytree.tree_flatten_with_path(given)
        leaves = [self._zero_leaf(pytree.keystr(path), leaf, present) for path, leaf in keyed]
        return pytree.tree_unflatten(leaves, spec)

    def _zero_leaf(self, key: str, leaf: Any, present: Tensor) -> Any:
        """One value of an input; where a dry run has not met it, its samples are as in the main one, or else first."""
        axis = self.input_axes.get(key, self.batch_axis)
        if not isinstance(leaf, Tensor) or axis is None:
            return leaf
        fits = leaf.dim() > axis and (key in self.input_axes or leaf.shape[axis] == present.shape[0])
        return zero_rows(leaf, present, axis if fits else 0)

    def output_axis(self, tensor: Tensor, number: int, batch: int) -> int | None:
        """The axis of the samples in a floating-point tensor of the output, by its number; None: there is none.

        Raises:
            ValueError: it cannot be told.
        """
        if self.output_axes is not None and number < len(self.output_axes):
            return self.output_axes[number]
        fits = [axis for axis in range(min(tensor.dim(), self.batch_axis + 1)) if tensor.shape[axis] == batch]
        if len(fits) > 1:
            raise ValueError(
                f"the output of network '{self.network}' has shape {tuple(tensor.shape)}, in which the {batch} samples "
                "may lie on two axes; give fuse() an example."
            )
        return fits[0] if fits else 0
