"""What touches private parts of other libraries: each test says what a new version of them has broken."""

import inspect
import subprocess
import sys

import pytest
import torch

from msafusion._compat import disabled_once_compiling, is_batched_by_vmap

TRACER = (
    "torch's lazy decorator (torch._compile._disable_dynamo) asks otherwise now for the disabled form of a function"
)


def test_eager_networks_do_without_the_compiler():
    code = """
import sys, torch
import msafusion
from torch import nn
net = msafusion.fuse(
    {name: nn.Sequential(nn.Conv1d(2, 8, 3), nn.Conv1d(8, 8, 3), nn.Flatten(), nn.Linear(48, 3)) for name in "ab"},
    at=msafusion.FusionPoint({"a": "0", "b": "0"}), example={name: torch.zeros(2, 2, 10) for name in "ab"})
net({name: torch.zeros(2, 2, 10) for name in "ab"}).sum().backward()
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n", TRACER


@pytest.mark.parametrize("recursive", [False, True])
def test_compiled_callers_end_their_graph_as_before_a_function_that_torch_disables(recursive):
    def inner(x):
        return x.exp()

    def disabled(x):
        return inner(x) + 1

    def graphs(function):
        found = []

        def backend(graph, example):
            found.append([str(node.target) for node in graph.graph.nodes if node.op != "placeholder"])
            return graph.forward

        def caller(x):
            return function(x * 2) * 3

        torch._dynamo.reset()
        assert torch.compile(caller, backend=backend)(torch.ones(2)).tolist() == caller(torch.ones(2)).tolist()
        return found

    lazy = disabled_once_compiling(disabled, recursive=recursive)
    assert graphs(lazy) == graphs(torch.compiler.disable(disabled, recursive=recursive)), TRACER


def test_a_lazily_disabled_function_is_known_as_itself():
    def add(x: int, y: int = 1) -> int:
        """Sum."""
        return x + y

    lazy = disabled_once_compiling(add, recursive=False)
    assert (lazy.__name__, lazy.__doc__, lazy(2), lazy(x=2, y=2)) == ("add", "Sum.", 3, 4)
    assert inspect.signature(lazy) == inspect.signature(add)


def test_tensors_that_vmap_has_batched_are_told_apart_under_other_transforms():
    seen = []

    def note(x):
        seen.append(is_batched_by_vmap(x))
        return x.sum()

    torch.func.vmap(note)(torch.ones(2, 3))
    torch.func.grad(note)(torch.ones(3))
    torch.func.vmap(torch.func.grad(note))(torch.ones(2, 3))
    note(torch.ones(2))
    assert seen == [True, False, True, False], "torch._C._functorch names or unwraps its tensors otherwise now"
