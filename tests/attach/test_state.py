"""State of the process around fusion points: each network keeps its own, and nothing is left changed."""

import os
import sys
import warnings
from contextlib import chdir, contextmanager, redirect_stdout
from io import StringIO
from unittest import mock

import pytest
import torch
from small_networks import Calls, pair, stir
from torch._dynamo import eval_frame
from torch.fx import traceback
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from msafusion import FusionError
from msafusion.attach.state import SETTINGS


@contextmanager
def default_dtype():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


BLOCKS = {
    "sdpa": (lambda: sdpa_kernel(SDPBackend.MATH), torch.backends.cuda.flash_sdp_enabled),
    "default dtype": (default_dtype, torch.get_default_dtype),
    "default device": (lambda: torch.device("meta"), torch.get_default_device),
    "anomaly": (lambda: torch.autograd.set_detect_anomaly(True, check_nan=False), torch.is_anomaly_enabled),
    "warnings": (warnings.catch_warnings, lambda: id(warnings.filters)),
    "stdout": (lambda: redirect_stdout(StringIO()), lambda: id(sys.stdout)),
    "cudnn": (lambda: torch.backends.cudnn.flags(benchmark=True), torch._C._get_cudnn_benchmark),
    "cached weights": (parametrize.cached, lambda: parametrize._cache_enabled),
    "folder": (lambda: chdir("/"), os.getcwd),
    "environment": (lambda: mock.patch.dict(os.environ, {"MSAF_A": "1"}), lambda: os.environ.get("MSAF_A")),
    "removed from the environment": (lambda: mock.patch.dict(os.environ, clear=True), lambda: len(os.environ)),
    "node meta": (traceback.preserve_node_meta, traceback.has_preserved_node_meta),
    "script": (lambda: torch.jit.optimized_execution(False), torch._C._get_graph_executor_optimize),
    "no hooks": (
        lambda: torch.autograd.graph.disable_saved_tensors_hooks("no"),
        torch._C._autograd._saved_tensors_hooks_get_disabled_error_message,
    ),
    "sparse": (
        torch.sparse.check_sparse_tensor_invariants,
        torch.sparse.check_sparse_tensor_invariants.is_enabled,
    ),
    "print options": (lambda: torch._tensor_str.printoptions(precision=9), lambda: repr(torch.ones(1) / 3)),
    "skipped data": (torch.serialization.skip_data, lambda: torch.serialization._serialization_tls.skip_data),
    "torch functions": (torch._C.DisableTorchFunctionSubclass, torch._C._is_torch_function_enabled),
    "fuser": (lambda: torch.jit.fuser("fuser3"), torch._C._jit_llga_enabled),
    "stance": (lambda: torch.compiler.set_stance("force_eager"), lambda: eval_frame._stance.stance),
    "saved tensors": (
        torch.autograd.graph.save_on_cpu,
        lambda: torch._C._autograd._top_saved_tensors_default_hooks(True) is None,
    ),
}


def settings():
    """All but the one that is a lambda, of the axis sizes of checked functions, such as tests are."""
    return [read() for read, _ in SETTINGS if getattr(read, "__name__", "") != "<lambda>"]


class Seen:
    """A `wrap` of `Calls`: runs inside a block and notes what is in force before and after the point."""

    def __init__(self, block, read):
        self.block, self.read, self.values = block, read, []

    def __call__(self, run, x):
        with self.block():
            self.values.append(self.read())
            result = run(x)
            self.values.append(self.read())
        return result


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_each_network_keeps_its_own_block_and_nothing_is_left_changed(name):
    block, read = BLOCKS[name]
    example = {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 6)}
    a, b = Seen(block, read), Calls(lambda run, x: run(x))
    net = pair(Calls(a), b, "point", example)
    before, state = read(), settings()
    others = []
    net.fusion_layers[0].fusion.register_forward_pre_hook(lambda module, args: others.append(read()))
    b.point.register_forward_hook(lambda module, args, output: others.append(read()))
    net(example)
    start, end = a.values[-2:]
    assert start == end != before
    assert others
    assert set(others) == {before}
    assert settings() == state

    def fails(run, x):
        with block():
            run(x)
            raise ValueError("no")

    b.wrap = fails
    with pytest.raises(ValueError, match="no"):
        net(example)
    assert settings() == state


def test_every_setting_can_be_written_back():
    for read, write in SETTINGS:
        before = read()
        write(before)
        assert read() == before


def test_networks_may_raise_the_recursion_limit_around_a_point_and_none_is_left():
    before = sys.getrecursionlimit()

    def deep(run, x):
        outside = sys.getrecursionlimit()
        sys.setrecursionlimit(9000)
        try:
            return down(run, x, 3000)
        finally:
            sys.setrecursionlimit(outside)

    def down(run, x, levels):
        return down(run, x, levels - 1) if levels else run(x)

    example = {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 6)}
    pair(Calls(deep), Calls(deep), "point", example)(example)
    assert sys.getrecursionlimit() == before


def inside_vmap(run, x):
    return torch.vmap(lambda one: run(one.unsqueeze(0))[0])(x)


def inside_dispatch_mode(run, x):
    with FlopCounterMode(display=False):
        return run(x)


def inside_dual_level(run, x):
    with torch.autograd.forward_ad.dual_level():
        return run(x)


def forked(run, x):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return run(x)


@pytest.mark.parametrize(
    ("wrap", "reason"),
    [
        (inside_vmap, "torch.func"),
        (inside_dispatch_mode, "TorchDispatchMode"),
        (inside_dual_level, "dual_level"),
        (forked, "fork_rng"),
    ],
)
def test_a_point_in_a_block_that_cannot_be_exchanged_is_refused(wrap, reason):
    example = {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 6)}
    with pytest.raises(FusionError, match=f"network 'a' at fusion point .* runs inside .*{reason}.*outside"):
        pair(Calls(wrap), Calls(lambda run, x: run(x)), "point", example)


def test_gradients_that_a_network_takes_itself_go_through_the_fusion_and_reach_no_other():
    class Forces(Calls):
        def forward(self, x):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                energy = super().forward(x).sum()
                return torch.autograd.grad(energy, x)[0].mean(dim=2)

    example = {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 6)}
    net = stir(pair(Forces(lambda run, x: run(x)), Calls(lambda run, x: run(x)), "point", example))
    expected = net.stream_outputs(example)
    with torch.no_grad():
        got = net.stream_outputs(example)
    assert not any(output.requires_grad for output in got.values())
    torch.testing.assert_close(dict(got), {name: output.detach() for name, output in expected.items()})
    stir(net)
    assert not torch.allclose(net.stream_outputs(example)["a"], expected["a"])


def test_leaving_inference_mode_around_a_point_is_refused_as_that():
    def outside_inference(run, x):
        with torch.inference_mode(False):
            return run(x.clone())

    example = {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 6)}
    net = pair(Calls(outside_inference), Calls(lambda run, x: run(x)), "point", example)
    with (
        torch.inference_mode(),
        pytest.raises(FusionError, match=r"inference_mode\(False\) block.*no_grad\(\) instead"),
    ):
        net(example)
