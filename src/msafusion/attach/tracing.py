"""One flat graph of a fused network, for torch.export and ONNX.

torch.export cannot follow the switching between networks, but a tracer that records tensor operations can: the graph
that `make_fx` records has no networks any more, and exports as any module does.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree


class _Flat(nn.Module):
    """A recorded graph with the parameters and buffers it was recorded with."""

    def __init__(self, graph: nn.Module, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.graph, self.keys = graph, {name: name.replace(".", "__") for name in state}
        for name, tensor in state.items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(self.keys[name], tensor)
            else:
                self.register_buffer(self.keys[name], tensor)

    def forward(self, inputs: dict[str, Any]) -> Any:
        return self.graph({name: getattr(self, key) for name, key in self.keys.items()}, inputs)


def export(module: nn.Module, example: Mapping[str, Any], dynamic_time: bool) -> torch.export.ExportedProgram:
    """Export `module(inputs)` in eval mode, with a dynamic batch (and axis 2, if `dynamic_time`) of every input tensor.

    Raises:
        ValueError: the example has a batch of one (torch would take it for a constant).
    """
    for tensor in pytree.tree_leaves(dict(example)):
        if not isinstance(tensor, Tensor):
            raise ValueError(f"the example holds a {type(tensor).__name__}, expected tensors only; leave it out.")
        if tensor.dim() and tensor.shape[0] < 2:
            raise ValueError(f"the example has a batch of {tensor.shape[0]}, expected at least 2 for a dynamic batch; repeat it.")
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}

    def call(state: dict[str, Tensor], inputs: dict[str, Any]) -> Any:
        return torch.func.functional_call(module, state, (inputs,))

    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
        with torch.no_grad():
            graph = make_fx(call, tracing_mode="symbolic", pre_dispatch=True, _allow_non_fake_inputs=True)(
                state, dict(example)
            )
            free = {0: torch.export.Dim.AUTO, **({2: torch.export.Dim.AUTO} if dynamic_time else {})}
            shapes = pytree.tree_map(lambda tensor: {a: d for a, d in free.items() if a < tensor.dim()}, dict(example))
            return torch.export.export(_Flat(graph, state), (dict(example),), dynamic_shapes=(shapes,))
    finally:
        for part, mode in modes.items():
            part.training = mode
