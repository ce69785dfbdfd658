"""Where a module's output keeps its features: which tensors of it, and which of their axes are batch and channels."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from msafusion.attach.module_layouts import ModuleLayout, module_layout
from msafusion.attach.paths import Path, describe
from msafusion.attach.sample_rows import Rows, axis_of
from msafusion.streams import FusionError


@dataclass(frozen=True)
class StreamLayout:
    """Batch, channel and time axis of a tensor; every other axis is a position, in order."""

    batch_axis: int
    channel_axis: int
    time_axis: int | None = None  # None: the positions are as they come

    def to_stream(self, tensor: Tensor) -> Tensor:
        """(batch, channels, time, *positions), a view."""
        return tensor.movedim(self._axes, tuple(range(len(self._axes))))

    def from_stream(self, stream: Tensor) -> Tensor:
        """The inverse of `to_stream`."""
        return stream.movedim(tuple(range(len(self._axes))), self._axes)

    @property
    def _axes(self) -> tuple[int, ...]:
        axes = (self.batch_axis, self.channel_axis)
        return axes if self.time_axis is None else (*axes, self.time_axis)


@dataclass
class LayoutTracer:
    """The hints of the modules that one network has run so far in a dry run."""

    hints: list[ModuleLayout] = field(default_factory=list)
    rows: dict[str, list[Rows]] = field(default_factory=dict)  # of the submodules of its points
    sequence_first: tuple[int, int] | None = None  # (time, batch) where the last module that tells has batch on axis 1

    def record(self, module: nn.Module, output: Any) -> None:
        """Note a module that has just run."""
        hint = module_layout(module)
        first = output[0] if isinstance(output, tuple) else output
        if hint is None:
            if isinstance(first, Tensor) and self.hints and self.hints[-1].keeps(first.shape):
                self.hints[-1] = replace(self.hints[-1], shape=tuple(first.shape))
            return
        self.hints.append(replace(hint, shape=tuple(first.shape) if isinstance(first, Tensor) else ()))
        if hint.batch_first or not hint.channels_last:
            self.sequence_first = None
        elif hint.batch_first is False and isinstance(first, Tensor) and first.dim() == 3:
            self.sequence_first = (first.shape[0], first.shape[1])

    def layout(
        self, tensor: Tensor, submodule: str, path: Path, module: nn.Module, where: str, channel_axis: int | None
    ) -> StreamLayout:
        """The layout of an output: the batch by trial, channels by the type of the module or of the nearest before it.

        Raises:
            FusionError: no module explains the shape, and the shape alone does not tell either.
        """
        if tensor.dim() < 2:
            raise FusionError(
                f"{where} gives shape {tuple(tensor.shape)}, expected (batch, channels, ...); choose another submodule."
            )
        own = module_layout(module)
        found = axis_of(self.rows.get(submodule, []), path, tensor, self._sequence_axis(tensor), where)
        batch_axis = self._batch_axis(tensor, own, where) if found is None else found
        if channel_axis is None:
            channel_axis = self._channel_axis(tensor, own, batch_axis, where)
        if not -tensor.dim() <= channel_axis < tensor.dim():
            raise FusionError(
                f"{where} gives shape {tuple(tensor.shape)}, which has no axis {channel_axis}; correct channel_axis."
            )
        channel_axis %= tensor.dim()
        if channel_axis == batch_axis:
            raise FusionError(f"{where}: channel_axis {channel_axis} is the batch axis; name another channel_axis.")
        return StreamLayout(batch_axis, channel_axis)

    def _sequence_axis(self, tensor: Tensor) -> int:
        first = self.sequence_first
        return 0 if tensor.dim() != 3 or first is None or first[1] != tensor.shape[1] else 1

    def _batch_axis(self, tensor: Tensor, own: ModuleLayout | None, where: str) -> int:
        if not self._sequence_axis(tensor) or self.sequence_first is None:
            return 0
        time, batch = self.sequence_first
        if time == batch and (own is None or own.batch_first is None):
            raise FusionError(
                f"{where} gives shape {tuple(tensor.shape)}, where batch and time cannot be told apart; give fuse() an "
                "example with a batch size that differs from the number of steps."
            )
        return 1

    def _channel_axis(self, tensor: Tensor, own: ModuleLayout | None, batch_axis: int, where: str) -> int:
        if tensor.dim() == 2:
            return 1 - batch_axis
        mixed = own is None and len({hint.channels_last for hint in self.hints}) > 1
        for hint in reversed(self.hints) if own is None else [own]:
            fitting = [
                axis for axis, size in enumerate(tensor.shape) if axis != batch_axis and size == hint.out_channels
            ]
            if len(fitting) == 1:
                if own is None and hint.changes_channels(tensor.shape):
                    break
                return fitting[0]
            if fitting and mixed:  # both layouts occur in this network, and the shape fits both
                break
            usual = tensor.dim() - 1 if hint.channels_last else 1
            if usual in fitting:
                return usual
        else:
            if tensor.dim() > 3:
                return 1  # images and videos: PyTorch's own convention
        raise FusionError(
            f"{where} gives shape {tuple(tensor.shape)}, and the modules before it do not tell which axis holds the "
            "channels; pass channel_axis=1 or channel_axis=-1 to the FusionPoint."
        )

    def time_axis(self, network_input: Tensor) -> int:
        """The axis of a network's input that lengths count, judged by the first module the network runs."""
        if network_input.dim() <= 2 or not self.hints:
            return min(network_input.dim() - 1, 1 if network_input.dim() <= 2 else 2)
        first, shape = self.hints[0], network_input.shape
        channels_last = shape[-1] == first.in_channels if first.channels_last else shape[1] != first.in_channels
        if not channels_last:
            return 2
        return 0 if first.batch_first is False else 1

    def tells_time_axis(self, network_input: Tensor) -> bool:
        """Whether the first module leaves no choice: its channels fit one axis of the input only."""
        shape = network_input.shape
        return len(shape) < 3 or (bool(self.hints) and [*shape[1:]].count(self.hints[0].in_channels) == 1)


def tensors_in(output: Any, network: str, module: nn.Module, where: str) -> dict[str, Path]:
    """The streams that a module's output offers, by the names they get: stream name -> path.

    A tensor, the sequence of an LSTM/GRU, `last_hidden_state` or the only tensor of a tuple or dict is one stream,
    named like the network; several tensors are `network.0`, `network.1` or `network.key`.

    Raises:
        FusionError: the output holds no floating-point tensor.
    """
    if isinstance(output, Tensor):
        return {network: ()}
    packed = output[0] if isinstance(module, nn.RNNBase) and isinstance(output, tuple) else output
    if isinstance(packed, PackedSequence):
        raise FusionError(
            f"{where} gives a PackedSequence, which has no batch axis to fuse along; call pad_packed_sequence in a "
            "submodule of its own and fuse there, or leave the packing to `lengths=` of the fused network."
        )
    if isinstance(module, nn.RNNBase | nn.MultiheadAttention):
        return {network: (0,)}
    if isinstance(output, Mapping):
        items = dict(output)
        if "last_hidden_state" in items:
            return {network: ("last_hidden_state",)}
    elif isinstance(output, tuple | list):
        items = dict(enumerate(output))
    else:
        items = {}
    found = [key for key, item in items.items() if isinstance(item, Tensor) and item.is_floating_point()]
    for key, item in items.items():
        deeper = [leaf for leaf in pytree.tree_leaves(item) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
        if deeper and isinstance(item, Tensor):
            break  # what comes beside the features, such as the state (h, c) of an LSTM, may be nested
        if deeper:
            raise FusionError(
                f"{where} gives {describe(output)} with tensors inside [{key}], so which of them are the features "
                "cannot be told; name one with 'submodule[key]', or fuse at a module that returns them side by side."
            )
    if not found:
        raise FusionError(
            f"{where} gives {describe(output)}, expected a tensor, or a tuple or dict that holds one; "
            "choose a submodule whose output is the features."
        )
    if len(found) == 1:
        return {network: (found[0],)}
    return {f"{network}.{key}": (key,) for key in found}


def select(output: Any, stream: str, order: int, selector: str | None, where: str) -> Path:
    """The path to a stream that the user named: by `[selector]`, else by its name in a dict, else by its order.

    Raises:
        FusionError: the output has no such entry, or it is not a tensor.
    """
    key: Any
    if selector is not None:
        key = int(selector) if isinstance(output, tuple | list) and selector.isdigit() else selector
    else:
        key = stream if isinstance(output, Mapping) else order
    try:
        found = None if isinstance(output, Tensor) else output[key]
    except (KeyError, IndexError, TypeError):
        found = None
    if not isinstance(found, Tensor):
        raise FusionError(
            f"{where} gives {describe(output)}, expected a tensor at [{key}] for stream '{stream}'; "
            "write 'submodule[key]' with a key that its output has."
        )
    return (key,)
