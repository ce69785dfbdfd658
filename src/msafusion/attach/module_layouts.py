"""What the types of modules tell about the layout of their outputs."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm


@dataclass(frozen=True)
class ModuleLayout:
    """What a module's type tells about its input and output: how many channels, and whether they are the last axis."""

    in_channels: int
    out_channels: int
    channels_last: bool
    batch_first: bool | None = None  # None: the module does not say
    shape: tuple[int, ...] = ()  # of its output, in a run

    def keeps(self, shape: Sequence[int]) -> bool:
        """Whether a shape has the same channels where this module has them."""
        usual = -1 if self.channels_last else 1
        return len(shape) == len(self.shape) > 1 and shape[usual] == self.out_channels

    def changes_channels(self, shape: Sequence[int]) -> bool:
        """Whether a shape has other channels there without being a permutation: another axis is as long by chance."""
        return len(shape) == len(self.shape) and not self.keeps(shape) and sorted(shape) != sorted(self.shape)


def module_layout(module: nn.Module) -> ModuleLayout | None:
    """The layout that a module's type declares, or None."""
    match module:
        case _ConvNd():
            return ModuleLayout(module.in_channels, module.out_channels, False)
        case _BatchNorm() | _InstanceNorm():
            return ModuleLayout(module.num_features, module.num_features, False)
        case nn.GroupNorm():
            return ModuleLayout(module.num_channels, module.num_channels, False)
        case nn.Linear():
            return ModuleLayout(module.in_features, module.out_features, True)
        case nn.LayerNorm() | nn.RMSNorm() if len(module.normalized_shape) == 1:  # over several axes it tells none
            return ModuleLayout(module.normalized_shape[-1], module.normalized_shape[-1], True)
        case nn.Embedding():
            return ModuleLayout(1, module.embedding_dim, True)
        case nn.RNNBase():
            out = (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
            return ModuleLayout(module.input_size, out, True, module.batch_first)
        case nn.MultiheadAttention():
            return ModuleLayout(module.embed_dim, module.embed_dim, True, module.batch_first)
        case nn.TransformerEncoderLayer() | nn.TransformerDecoderLayer():
            width = module.linear2.out_features
            return ModuleLayout(width, width, True, module.self_attn.batch_first)
    return None
