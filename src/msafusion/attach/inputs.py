"""How a network takes its input: where batch and time are, which steps and samples are real, and its `lengths`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from msafusion.attach.layout import describe
from msafusion.attach.state import not_traced
from msafusion.attach.timing import TimeMask
from msafusion.streams import values_are_known

MAIN = ("input_ids", "inputs_embeds", "input_values", "input_features")
"""Names of the inputs, in transformers, that `attention_mask` and `lengths` are of."""


@dataclass
class InputRule:
    """How one network takes its input.

    Args:
        network: its name, for messages.
        time_axis: of its main input, which `lengths` count; None: neither told nor found by a dry run.
        lengths_at: where its forward's parameter `lengths` stands, if it has one.
        lengths_required: that parameter has no default.
        masks_matter: some stream at a point follows the time of the main input, or may do so.
    """

    network: str
    time_axis: int | None
    lengths_at: int | None
    lengths_required: bool
    masks_matter: bool = False

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
            elif own is not None:
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
        return forward(*given, **options) if isinstance(given, tuple) else forward(given, **options)

    @not_traced
    def time_mask(self, given: Any, lengths: Tensor | None) -> TimeMask | None:
        """Which steps are real, told by the network's own `lengths`, by `lengths`, or by `attention_mask`.

        Raises:
            ValueError: lengths of the wrong shape or type, or beyond the input.
        """
        own = self.own_lengths(given)
        lengths = lengths if own is None else own
        if lengths is None:
            mask = given.get("attention_mask") if isinstance(given, Mapping) else None
            if isinstance(mask, Tensor) and mask.dim() != 2 and self.masks_matter:
                raise ValueError(
                    f"attention_mask of '{self.network}' has shape {tuple(mask.shape)}, expected (batch, steps), which "
                    "tells the real steps; give lengths beside it."
                )
            return TimeMask(mask.bool()) if isinstance(mask, Tensor) and mask.dim() == 2 else None
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

    @not_traced
    def check_present(self, given: Any, present: Tensor) -> None:
        """Refuse presence that is not bool (batch,); `given` is None where the network has no input this time.

        Raises:
            ValueError: it is not.
        """
        batch = "batch" if given is None else self.batch(given)
        fits = isinstance(present, Tensor) and present.dtype == torch.bool and present.dim() == 1
        if not fits or batch not in ("batch", len(present)):
            raise ValueError(
                f"present of '{self.network}' is {describe(present)}, expected a bool tensor ({batch},); give True "
                "where the sample has that input."
            )

    @property
    def _time_axis(self) -> int:
        return 1 if self.time_axis is None else self.time_axis

    def _steps(self, given: Any) -> int:
        return timed_tensor(given).shape[self._time_axis]

    def own_lengths(self, given: Any) -> Tensor | None:
        """The lengths that the input itself holds for the network's forward."""
        if self.lengths_at is None:
            return None
        if isinstance(given, Mapping):
            return given.get("lengths")
        return given[self.lengths_at] if isinstance(given, tuple) and len(given) > self.lengths_at else None

    def _zero_missing(self, given: Any, present: Tensor) -> Any:
        if isinstance(given, Mapping):
            return {key: self._zero_missing(value, present) for key, value in given.items()}
        if isinstance(given, tuple):
            return tuple(self._zero_missing(value, present) for value in given)
        axis = self.batch_axis if isinstance(given, Tensor) and given.dim() > self.batch_axis else 0
        return zero_rows(given, present, axis)


def zero_rows(value: Any, present: Tensor, axis: int = 0) -> Any:
    """A floating-point tensor with zeros for the samples not present; any other value as it is."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or not value.dim():
        return value
    if value.shape[axis] != len(present):
        return value
    shape = [1] * value.dim()
    shape[axis] = len(present)
    return value.masked_fill(~present.reshape(shape), 0)


def main_tensor(given: Any) -> Tensor:
    """The tensor of a network's input that has the batch and time axes: the first with two axes at least.

    Raises:
        ValueError: there is no tensor.
    """
    values = list(given.values()) if isinstance(given, Mapping) else given
    tensors = [value for value in pytree.tree_leaves(values) if isinstance(value, Tensor)]
    if not tensors:
        raise ValueError(
            f"a network's input is a {type(given).__name__}, expected a tensor, or a tuple or dict with one."
        )
    return next((tensor for tensor in tensors if tensor.dim() > 1), tensors[0])


def timed_tensor(given: Any) -> Tensor:
    """The tensor of a network's input whose steps `attention_mask` and `lengths` count.

    The one called so in transformers, another one as long as the mask, or the main tensor.
    """
    if isinstance(given, Mapping):
        mask = given.get("attention_mask")
        for key in MAIN:
            if isinstance(given.get(key), Tensor):
                return given[key]
        if isinstance(mask, Tensor) and mask.dim() == 2:
            for value in given.values():
                if isinstance(value, Tensor) and value is not mask and mask.shape[1] in value.shape[1:]:
                    return value
    return main_tensor(given)
