"""Where a module's output keeps its features: which tensors of it, and which of their axes are batch and channels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from msafusion.streams import FusionError

Path = tuple[int | str, ...]
"""Keys that lead from a module's output to one tensor in it; () is the output itself."""


@dataclass(frozen=True)
class Layout:
    """Batch and channel axis of a tensor; every other axis is a position, in order."""

    batch_axis: int
    channel_axis: int

    def to_stream(self, tensor: Tensor) -> Tensor:
        """(batch, channels, *positions), a view."""
        return tensor.movedim((self.batch_axis, self.channel_axis), (0, 1))

    def from_stream(self, stream: Tensor) -> Tensor:
        """The inverse of `to_stream`."""
        return stream.movedim((0, 1), (self.batch_axis, self.channel_axis))


@dataclass(frozen=True)
class Hint:
    """What a module's type tells about its input and output: how many channels, and whether they are the last axis."""

    in_channels: int
    out_channels: int
    channels_last: bool
    batch_first: bool | None = None  # None: the module does not say


def hint_of(module: nn.Module) -> Hint | None:
    """The layout that a module's type declares, or None."""
    match module:
        case _ConvNd():
            return Hint(module.in_channels, module.out_channels, False)
        case _BatchNorm() | _InstanceNorm():
            return Hint(module.num_features, module.num_features, False)
        case nn.GroupNorm():
            return Hint(module.num_channels, module.num_channels, False)
        case nn.Linear():
            return Hint(module.in_features, module.out_features, True)
        case nn.LayerNorm() | nn.RMSNorm():
            return Hint(module.normalized_shape[-1], module.normalized_shape[-1], True)
        case nn.Embedding():
            return Hint(1, module.embedding_dim, True)
        case nn.RNNBase():
            out = (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
            return Hint(module.input_size, out, True, module.batch_first)
        case nn.MultiheadAttention():
            return Hint(module.embed_dim, module.embed_dim, True, module.batch_first)
        case nn.TransformerEncoderLayer() | nn.TransformerDecoderLayer():
            width = module.linear2.out_features
            return Hint(width, width, True, module.self_attn.batch_first)
    return None


@dataclass
class Trail:
    """The hints of the modules that one network has run so far in a dry run."""

    hints: list[Hint] = field(default_factory=list)
    sequence_first_batch: int | None = None  # batch size of the last module that has batch on axis 1

    def record(self, module: nn.Module, output: Any) -> None:
        hint = hint_of(module)
        if hint is None:
            return
        self.hints.append(hint)
        first = output[0] if isinstance(output, tuple) else output
        if hint.batch_first is not None and isinstance(first, Tensor) and first.dim() == 3:
            self.sequence_first_batch = None if hint.batch_first else first.shape[1]

    def layout(self, tensor: Tensor, where: str, channel_axis: int | None) -> Layout:
        """Layout of an output at this place of the network, from the nearest module before it that explains the shape.

        Raises:
            FusionError: no module does, and the shape alone does not tell either.
        """
        if tensor.dim() < 2:
            raise FusionError(
                f"{where} gives shape {tuple(tensor.shape)}, expected batch and channels at least; choose another submodule."
            )
        batch_axis = 0
        if tensor.dim() == 3 and self.sequence_first_batch == tensor.shape[1]:
            batch_axis = 1
        if channel_axis is None:
            channel_axis = self._channel_axis(tensor, batch_axis, where)
        channel_axis %= tensor.dim()
        if channel_axis == batch_axis:
            raise FusionError(f"{where}: channel_axis {channel_axis} is the batch axis; name another channel_axis.")
        return Layout(batch_axis, channel_axis)

    def _channel_axis(self, tensor: Tensor, batch_axis: int, where: str) -> int:
        if tensor.dim() == 2:
            return 1
        for hint in reversed(self.hints):
            fitting = [axis for axis, size in enumerate(tensor.shape) if axis != batch_axis and size == hint.out_channels]
            usual = tensor.dim() - 1 if hint.channels_last else 1
            if usual in fitting:
                return usual
            if len(fitting) == 1:
                return fitting[0]
        if tensor.dim() > 3:
            return 1  # images and videos: PyTorch's own convention
        raise FusionError(
            f"{where} gives shape {tuple(tensor.shape)}, and no module before it tells which axis holds the channels; "
            "pass channel_axis=1 or channel_axis=-1 to the FusionPoint."
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


def tensors_in(output: Any, network: str, module: nn.Module, where: str) -> dict[str, Path]:
    """The streams that a module's output offers, by the names they get: stream name -> path.

    A tensor, the sequence of an LSTM/GRU, `last_hidden_state` or the only tensor of a tuple or dict is one stream,
    named like the network; several tensors are `network.0`, `network.1` or `network.key`.

    Raises:
        FusionError: there is no floating-point tensor in the output.
    """
    if isinstance(output, Tensor):
        return {network: ()}
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
    if not found:
        raise FusionError(
            f"{where} gives {_describe(output)}, expected a tensor, or a tuple or dict that holds one; "
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
    key: int | str
    if selector is not None:
        key = int(selector) if isinstance(output, tuple | list) and selector.isdigit() else selector
    else:
        key = stream if isinstance(output, Mapping) else order
    try:
        found = output[key] if isinstance(output, Mapping | tuple | list) else None
    except (KeyError, IndexError):
        found = None
    if not isinstance(found, Tensor):
        raise FusionError(
            f"{where} gives {_describe(output)}, expected a tensor at [{key}] for stream '{stream}'; "
            "write 'submodule[key]' with a key that its output has."
        )
    return (key,)


def get(output: Any, path: Path) -> Tensor:
    """The tensor at `path` of a module's output."""
    for key in path:
        output = output[key]
    return output


def put(output: Any, path: Path, tensor: Tensor) -> Any:
    """A module's output with the tensor at `path` exchanged; the original is left as it is."""
    if not path:
        return tensor
    key, inner = path[0], put(output[path[0]], path[1:], tensor)
    if isinstance(output, Mapping):
        items = {**output, key: inner}
        return type(output)(**items) if type(output) is not dict else items  # type: ignore[arg-type]
    items = [inner if i == key else item for i, item in enumerate(output)]
    return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)


def _describe(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)} and type {output.dtype}"
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with keys {', '.join(map(str, output))}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {', '.join(type(item).__name__ for item in output) or 'nothing'}"
    return f"a {type(output).__name__}"
