"""One flat graph of a fused network, for torch.export and ONNX.

torch.export cannot follow the switching between networks, but a tracer that records tensor operations can: the graph
that `make_fx` records has no networks any more, and exports as any module does. The tracer's modules, which bring
`torch._dynamo` and sympy, are imported by the functions that need them: `import msafusion; msafusion.fuse` needs none.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from msafusion.attach.carried import Carried


@contextlib.contextmanager
def evaluating(module: nn.Module, *, gradients: bool = False) -> Iterator[None]:
    """Eval mode and no gradients (or as they are); afterwards every submodule is as it was.

    Its mode by its own `train()`, which may do more than set a flag (LoRA layers merge their weights and part them
    again), and what it carries from call to call (running statistics, the state of a recurrent network).
    """
    modes = {part: part.training for part in module.modules() if hasattr(part, "training")}  # frozen TorchScript: none
    try:
        if any(modes.values()):
            module.eval()
        carried = [Carried.of(part) for part in module.modules()]
        try:
            with contextlib.nullcontext() if gradients else torch.no_grad():
                yield
        finally:  # before `train()`, which goes by what `eval()` has noted
            for one in carried:
                one.put_back()
    finally:
        for part, mode in modes.items():  # a parent before its children, which may differ
            if part.training != mode:
                part.train(mode)
        for part, mode in modes.items():
            if part.training != mode:  # set by hand, against its own train()
                part.training = mode


class _Flat(nn.Module):
    """A recorded graph with the parameters and buffers it was recorded with."""

    def __init__(self, graph: nn.Module, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.recorded, self.keys = graph, {name: f"{i}_{name.replace('.', '_')}" for i, name in enumerate(state)}
        for name, tensor in state.items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(self.keys[name], tensor)
            else:
                self.register_buffer(self.keys[name], tensor)

    def forward(self, inputs: dict[str, Any]) -> Any:
        return self.recorded({name: getattr(self, key) for name, key in self.keys.items()}, inputs)


def export(
    module: nn.Module, example: Mapping[str, Any], batch_axes: Mapping[str, int], dynamic_time: bool
) -> torch.export.ExportedProgram:
    """Export `module(inputs)` in eval mode, with a dynamic batch (and axis 2, if `dynamic_time`) of every input tensor.

    Raises:
        ValueError: the example holds something else than tensors, or the network's code fixes the batch size.
    """
    from torch._dispatch.python import enable_python_dispatcher
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    for name, given in example.items():
        for tensor in pytree.tree_leaves(given):
            if not isinstance(tensor, Tensor):
                raise ValueError(
                    f"the example of '{name}' holds a {type(tensor).__name__}, expected tensors only, in plain dicts "
                    "and tuples; leave it out or convert it."
                )
    state = _state_of(module)
    batch = _unlike_any_size([*state.values(), *pytree.tree_leaves(dict(example))])
    inputs = {name: _with_batch(given, batch, batch_axes[name]) for name, given in example.items()}
    free = {
        name: pytree.tree_map(lambda tensor, name=name: _free_axes(tensor, batch_axes[name], dynamic_time), given)
        for name, given in inputs.items()
    }

    def call(state: dict[str, Tensor], inputs: dict[str, Any]) -> Any:
        return torch.func.functional_call(module, state, (inputs,), tie_weights=False)

    with evaluating(module):
        # only the free axes are symbols: with tracing_mode="symbolic" the weights' sizes were too, three times as slow
        mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
        fake_state = {name: mode.from_tensor(tensor, static_shapes=True) for name, tensor in state.items()}
        fake_inputs = {
            name: pytree.tree_map_with_path(
                lambda path, tensor, name=name: _fake(mode, tensor, batch_axes[name], dynamic_time, f"{name}{path}"),
                given,
            )
            for name, given in inputs.items()
        }
        with enable_python_dispatcher():
            tracer = make_fx(call, tracing_mode="fake", pre_dispatch=True, _allow_non_fake_inputs=True)
            graph = tracer(fake_state, fake_inputs)
        _check_batch_is_free(graph, inputs, batch_axes)
        program = torch.export.export(_Flat(graph, state), (inputs,), dynamic_shapes=(free,))
    return program


def _state_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers once for each place that holds them.

    A module that two networks share is one place (functional_call would leave the tracer's tensors in it otherwise),
    tied weights of two modules are two.
    """
    state: dict[str, Tensor] = {}
    for name, part in module.named_modules():
        state.update(part.named_parameters(name, recurse=False))
        state.update(part.named_buffers(name, recurse=False))
    return state


def _unlike_any_size(tensors: list[Tensor]) -> int:
    """A batch size to trace with: the tracer would take a batch of 3 for the same as 3 colours."""
    sizes = {size for tensor in tensors for size in tensor.shape}
    return next(size for size in itertools.count(7, 2) if size not in sizes)


def _check_batch_is_free(graph: torch.fx.GraphModule, inputs: Mapping[str, Any], batch_axes: Mapping[str, int]) -> None:
    names = [name for name, given in inputs.items() for _ in pytree.tree_leaves(given)]
    placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"][-len(names) :]  # after the state
    for name, placeholder in zip(names, placeholders, strict=True):
        shape, axis = placeholder.meta["val"].shape, batch_axes[name]
        if axis < len(shape) and (isinstance(shape[axis], int) or shape[axis].node.expr.is_number):
            raise ValueError(
                f"the batch of network '{name}' came out fixed, expected dynamic: its forward makes a number of the "
                "batch size, by int() or as in `if len(x) == 8`; use x.shape[0] or flatten(1) instead."
            )


def _with_batch(given: Any, batch: int, axis: int) -> Any:
    """The input's samples repeated, or cut, to so many."""

    def change(tensor: Tensor) -> Tensor:
        if tensor.dim() <= axis:
            return tensor
        return tensor.index_select(axis, torch.arange(batch, device=tensor.device) % tensor.shape[axis])

    return pytree.tree_map(change, given)


def _fake(mode: FakeTensorMode, tensor: Tensor, batch_axis: int, dynamic_time: bool, name: str) -> Tensor:
    """A tensor without values whose free axes are symbols, the same one for equal sizes."""
    from torch._dynamo.source import ConstantSource
    from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext

    free = _free_axes(tensor, batch_axis, dynamic_time)
    sizes = [DimDynamic.DUCK if axis in free else DimDynamic.STATIC for axis in range(tensor.dim())]
    context = StatelessSymbolicContext(dynamic_sizes=sizes)
    return mode.from_tensor(tensor, symbolic_context=context, source=ConstantSource(name))


def _free_axes(tensor: Tensor, batch_axis: int, dynamic_time: bool) -> dict[int, Any]:
    axes = {batch_axis, 2} if dynamic_time else {batch_axis}
    return {axis: torch.export.Dim.AUTO for axis in axes if axis < tensor.dim()}
