"""torch.compile: the same numbers, from graphs of the networks."""

import pytest
import torch
from small_networks import cnn_example, cnns, gradients, lstms

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
pytestmark = pytest.mark.usefixtures("without_shape_checks")


@pytest.mark.parametrize("make", [cnns, lstms])
def test_compiled_gives_the_same_numbers_and_gradients(make):
    net, example = make()
    expected = net(example)
    expected.square().sum().backward()
    grads = gradients(net)
    net.zero_grad()
    compiled = torch.compile(net, backend="aot_eager")
    output = compiled(example)
    torch.testing.assert_close(output, expected, **CLOSE)
    output.square().sum().backward()
    assert gradients(net).keys() == grads.keys()
    for name, grad in gradients(net).items():
        torch.testing.assert_close(grad, grads[name], **CLOSE, msg=name)


class Graphs:
    """A compiler backend that runs the graphs as they are and notes the operations in them."""

    def __init__(self):
        self.operations = []

    def __call__(self, graph, example):
        self.operations.append({str(node.target) for node in graph.graph.nodes if node.op == "call_function"})
        return graph.forward

    def num_with(self, name):
        return sum(any(name in operation for operation in graph) for graph in self.operations)


def test_networks_and_fusion_are_what_gets_compiled_and_only_once():
    net, example = cnns()
    net.eval()
    graphs = Graphs()
    compiled = torch.compile(net, backend=graphs)
    with torch.no_grad():
        compiled(example)
        num_graphs = len(graphs.operations)
        # the six pieces between points: each network before, between and after two points
        assert graphs.num_with("conv3d") == 2
        assert graphs.num_with("conv1d") >= 2
        assert graphs.num_with("linear") >= 2
        assert graphs.num_with("exp") >= 1
        for _ in range(3):
            torch.testing.assert_close(compiled(cnn_example()).shape, (3, 4))
        assert len(graphs.operations) == num_graphs


@pytest.mark.slow
def test_compiled_with_a_missing_network_lengths_and_presence():
    net, example = lstms()
    net.eval()
    compiled = torch.compile(net, backend="aot_eager")
    lengths = {"a": torch.tensor([7, 2, 3]), "b": torch.tensor([9, 4, 1])}
    present = {"a": torch.tensor([True, False, True])}
    torch.testing.assert_close(compiled(example, lengths, present), net(example, lengths, present), **CLOSE)
    torch.testing.assert_close(compiled({"b": example["b"]}), net({"b": example["b"]}), **CLOSE)


@pytest.mark.slow
def test_inductor_gives_the_same_numbers():
    net, example = cnns()
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(net)(example), net(example), **CLOSE)
