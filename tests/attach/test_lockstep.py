"""Networks in lockstep: shared modules, threads, thread state, copies, and nothing left behind."""

import copy
import gc
import io
import pickle
import threading

import pytest
import torch
from greenlet import greenlet
from small_networks import Calls, Chain, cnn_example, fused_chains, fused_cnns, gradients, num_hooks, pair, stir
from torch import nn

from msafusion import FusionPoint, fuse


def live_greenlets():
    gc.collect()
    return sum(issubclass(type(thing), greenlet) and not thing.dead for thing in gc.get_objects())


def test_one_module_in_two_networks_is_fused_in_both():
    shared, example = Chain().eval(), {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 8)}
    net = stir(pair(shared, shared, "second", example)).eval()
    other = stir(pair(shared, copy.deepcopy(shared), "second", example)).eval()
    other.fusion_layers.load_state_dict(net.fusion_layers.state_dict())
    torch.testing.assert_close(net(example), other(example))
    assert num_hooks(shared) == 0


def test_two_points_on_one_submodule_fuse_twice():
    example = {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 8)}
    points = [FusionPoint({"a": "first", "b": "first"}, block_channels=4, norm="none") for _ in range(2)]
    net = stir(fuse({"a": Chain(), "b": Chain()}, points, example=example)).eval()
    both = net(example)
    for fusion_layer in net.fusion_layers:
        nn.init.zeros_(fusion_layer.fusion.block_weight)
        nn.init.zeros_(fusion_layer.fusion.block_bias)
        assert not torch.allclose(net(example), both)
        both = net(example)


def test_two_fused_networks_over_the_same_networks_do_not_disturb_each_other():
    example = cnn_example()
    one = fused_cnns(example)
    networks = dict(one.networks.items())
    point = FusionPoint({"video": "layer2", "audio": "relu1"}, block_channels=4)
    before = one.eval()(example)
    other = stir(fuse(networks, [point], example=example)).eval()
    assert torch.equal(one(example), before)
    assert not torch.allclose(other(example), before)


def test_a_fused_network_can_be_a_network_of_another():
    example = cnn_example()
    inner = stir(fused_cnns(example)).eval()
    outer = fuse({"inner": inner, "b": Chain().eval()}, head="sum")
    outputs = outer.stream_outputs({"inner": (example,), "b": torch.randn(3, 4, 6)})
    assert torch.equal(outputs["inner"], inner(example))


def test_points_are_reached_by_some_networks_only():
    example = {name: torch.randn(2, 4, 6) for name in "abc"}
    points = [
        FusionPoint({"a": "first", "b": "first"}, block_channels=4),
        FusionPoint({"b": "second", "c": "third"}, block_channels=4),
        FusionPoint({"a": "third", "b": "third"}, block_channels=4),
    ]
    networks = {name: Chain().eval() for name in "abc"}
    expected = {name: network(example[name]) for name, network in networks.items()}
    net = fuse(networks, points, example=example)
    assert all(torch.equal(output, expected[name]) for name, output in net.stream_outputs(example).items())
    assert torch.equal(net.stream_outputs({"c": example["c"]})["c"], expected["c"])


@pytest.mark.usefixtures("without_shape_checks")  # many calls
def test_four_threads_at_once_get_their_own_results():
    net = stir(fused_cnns()).eval()
    inputs = [cnn_example() for _ in range(4)]
    expected, got = [net(given) for given in inputs], [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda i=i: got[i].extend(net(inputs[i]) for _ in range(20))) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for outputs, right in zip(got, expected, strict=True):
        assert len(outputs) == 20
        assert all(torch.equal(output, right) for output in outputs)


def under_autocast(run, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return run(x)


def without_autocast(run, x):
    with torch.autocast("cpu", enabled=False):
        return run(x)


def test_each_network_keeps_its_own_autocast_block_around_a_point():
    example = {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 6)}
    a, b = Calls(under_autocast), Calls(without_autocast)
    expected = {"a": a(example["a"]), "b": b(example["b"])}
    net = pair(a, b, "point", example)
    dtypes = []
    for network in (a, b):
        network.point.register_forward_hook(lambda module, args, output: dtypes.append(output.dtype))
    outputs = net.stream_outputs(example)
    assert dtypes == [torch.bfloat16, torch.float32]
    assert all(torch.equal(outputs[name], expected[name]) for name in outputs)
    assert not torch.is_autocast_enabled("cpu")


class Odd(ValueError):
    """An error that takes more than a message."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def fails_after(run, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run(x)
        raise Odd("no", "luck")


def test_an_error_in_one_network_keeps_its_type_and_leaves_no_state_behind():
    example = {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 6)}
    a, b = Calls(under_autocast), Calls(under_autocast)
    net = pair(a, b, "point", example)
    good = net(example)
    before = live_greenlets()
    b.wrap = fails_after
    for _ in range(20):
        with pytest.raises(Odd, match="no and luck") as error:
            net(example)
        assert not torch.is_autocast_enabled("cpu")
        assert torch.is_grad_enabled()
    assert "raised by network 'b' inside the fused network" in error.value.__notes__
    b.wrap = under_autocast
    del error
    assert torch.equal(net(example), good)
    assert live_greenlets() == before


def test_an_error_in_one_network_ends_the_others_before_it_is_seen():
    closed = []

    def closes(run, x):
        try:
            return run(x)
        finally:
            closed.append("a")

    example = {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 6)}
    net = pair(Calls(closes), Calls(under_autocast), "point", example)
    net.networks["b"].wrap = lambda run, x: fails_after(lambda x: x, x)
    closed.clear()
    with pytest.raises(Odd) as error:
        net(example)
    assert closed == ["a"]
    assert error.value.args == ("no and luck",)  # held until here, and with it what its traceback holds


@pytest.mark.usefixtures("without_shape_checks")  # many calls
def test_many_calls_leave_no_greenlet_and_no_hook():
    net, example = fused_chains()
    hooks, before = num_hooks(net), live_greenlets()
    for _ in range(50):
        net(example).sum().backward()
    assert live_greenlets() == before
    assert num_hooks(net) == hooks


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_copies_work_apart_from_the_original(how):
    example = cnn_example()
    net = stir(fused_cnns(example)).eval()
    expected = net(example)
    if how == "deepcopy":
        twin = copy.deepcopy(net)
    elif how == "pickle":
        twin = pickle.loads(pickle.dumps(net))
    else:
        file = io.BytesIO()
        torch.save(net, file)
        file.seek(0)
        twin = torch.load(file, weights_only=False)
    assert torch.equal(twin(example), expected)
    nn.init.zeros_(twin.fusion_layers[0].fusion.block_weight)
    assert not torch.equal(twin(example), expected)
    assert torch.equal(net(example), expected)


def test_state_dict_goes_round():
    example = cnn_example()
    net, other = stir(fused_cnns(example)).eval(), fused_cnns(example).eval()
    assert other.load_state_dict(net.state_dict(), strict=True)
    assert torch.equal(other(example), net(example))
    assert {key.split(".")[0] for key in net.state_dict()} == {"networks", "fusion_layers"}
    assert list(net.networks) == ["video", "audio"]


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_the_whole_fused_network_gives_the_same_gradients(use_reentrant):
    example = cnn_example()
    net = stir(fused_cnns(example))
    net(example).square().sum().backward()
    expected = gradients(net)
    net.zero_grad()
    clip = example["video"].requires_grad_()  # the reentrant kind needs an input that does
    call = lambda clip, audio: net({"video": clip, "audio": audio})  # noqa: E731
    out = torch.utils.checkpoint.checkpoint(call, clip, example["audio"], use_reentrant=use_reentrant)
    out.square().sum().backward()
    assert gradients(net).keys() == expected.keys()
    for name, grad in gradients(net).items():
        torch.testing.assert_close(grad, expected[name], msg=name)


def checkpointed(use_reentrant):
    return lambda run, x: torch.utils.checkpoint.checkpoint(run, x, use_reentrant=use_reentrant)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_point_inside_a_checkpointed_region_is_refused_and_the_network_alone_works(use_reentrant):
    example = {"a": torch.randn(2, 4, 6, requires_grad=True), "b": torch.randn(2, 4, 6)}
    network = Calls(checkpointed(use_reentrant))
    net = pair(network, Calls(lambda run, x: run(x)), "point", example)
    with pytest.raises(ValueError, match=r"network 'a' at fusion point a.point \+ b.point.*checkpointed region.*turn"):
        net(example)
    network(example["a"]).sum().backward()
    got = gradients(network)
    network.zero_grad()
    network.wrap = lambda run, x: run(x)
    network(example["a"]).sum().backward()
    for name, grad in gradients(network).items():
        torch.testing.assert_close(got[name], grad)


def test_checkpointing_beside_a_point_is_allowed():
    class Beside(Chain):
        def forward(self, x):
            x = torch.utils.checkpoint.checkpoint(self.first, x, use_reentrant=False)
            return self.third(self.second(x)).mean(dim=2)

    example = {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 6)}
    net = stir(pair(Beside(), Chain(), "second", example))
    net(example).square().sum().backward()
    got = gradients(net)
    net.zero_grad()
    net.networks["a"].forward = lambda x: Chain.forward(net.networks["a"], x)
    net(example).square().sum().backward()
    for name, grad in gradients(net).items():
        torch.testing.assert_close(got[name], grad, msg=name)


def test_save_on_cpu_around_a_point_is_allowed():
    def offloaded(run, x):
        with torch.autograd.graph.save_on_cpu():
            return run(x)

    example = {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 6)}
    net = pair(Calls(offloaded), Calls(lambda run, x: run(x)), "point", example)
    net(example).sum().backward()
    assert torch._C._autograd._top_saved_tensors_default_hooks(True) is None


def test_a_point_in_a_no_grad_block_is_refused_in_training_and_works_without_gradients():
    def frozen(run, x):
        with torch.no_grad():
            return run(x)

    example = {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 6)}
    net = pair(Calls(frozen), Calls(lambda run, x: run(x)), "point", example)
    with pytest.raises(ValueError, match=r"network 'a' at fusion point .*no_grad.*fuse outside that region"):
        net(example)
    assert torch.is_grad_enabled()
    with torch.no_grad():
        assert net(example).shape == (2, 4)
