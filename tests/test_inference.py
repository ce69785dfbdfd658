"""Networks prepared for inference: the same outputs, fewer batch norms, and refusal where folding would be wrong."""

import copy
import ctypes
import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from msafusion import FusionPoint, fuse
from msafusion.backbones import I3D, CNN1d, MFCCNet, ResNet3d
from msafusion.inference import for_inference
from msafusion.networks import ravdess


def seen(network):
    """The network with batch norms that are not the identity."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def norms(network):
    """Those that still do something."""
    kind = nn.modules.batchnorm._BatchNorm
    return [n for n, module in network.named_modules() if isinstance(module, kind) and "forward" not in vars(module)]


@pytest.mark.parametrize(
    ("network", "example", "left"),
    [
        (ResNet3d(5, depth=18), (torch.randn(1, 3, 6, 32, 32),), 0),
        (I3D(5), (torch.randn(1, 3, 6, 32, 32),), 0),
        (CNN1d(3, 5), (torch.randn(2, 3, 50),), 0),
        (MFCCNet(5), (torch.randn(2, 13, 60),), 3),  # a ReLU stands between its convolutions and batch norms
    ],
)
@torch.no_grad()
def test_outputs_stay_and_batch_norms_after_convolutions_go(network, example, left):
    seen(network)
    before = copy.deepcopy(network.state_dict())
    fast = for_inference(network, *example)
    assert len(norms(fast)) == left == len(norms(network)) - len(fast.folded)
    other = tuple(torch.randn(3, *value.shape[1:]) for value in example)
    torch.testing.assert_close(fast(*other), network(*other), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@torch.no_grad()
def test_a_fused_network_keeps_its_fusion_its_missing_streams_and_its_layout():
    net = seen(ravdess(num_classes=3, init="paper"))
    inputs = {"video": torch.randn(2, 3, 6, 32, 32), "audio": torch.randn(2, 13, 60)}
    fast = for_inference(net, inputs)
    torch.testing.assert_close(fast(inputs), net(inputs), rtol=1e-3, atol=1e-3)
    audio = {"audio": inputs["audio"]}
    torch.testing.assert_close(fast(audio), net(audio), rtol=1e-3, atol=1e-3)
    lengths = {"video": torch.tensor([6, 3])}
    torch.testing.assert_close(fast(inputs, lengths=lengths), net(inputs, lengths=lengths), rtol=1e-3, atol=1e-3)
    assert fast.network.networks["video"].layer1[0].conv2.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert (
        [name for name in norms(fast) if "fusion_layers" in name]
        == [name for name in norms(fast) if "fusion" in name]
        != []
    )


@torch.no_grad()
def test_bfloat16_gives_float32_outputs_near_the_plain_ones():
    net = seen(ravdess(num_classes=3))
    inputs = {"video": torch.randn(2, 3, 6, 32, 32), "audio": torch.randn(2, 13, 60)}
    got, expected = for_inference(net, inputs, precision="bfloat16")(inputs), net(inputs)
    assert got.dtype == torch.float32
    assert 0 < (got - expected).abs().max() < 0.03 * expected.abs().max()


@torch.no_grad()
def test_a_batch_norm_behind_a_fusion_point_is_left():
    def network(name):
        return nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 4, 3), nn.BatchNorm1d(4))

    networks = {"a": network("a"), "b": network("b")}
    example = {name: torch.randn(2, 2, 12) for name in networks}
    point = FusionPoint({"a": "0", "b": "0"}, block_channels=2, reduction=1, init="paper")
    net = seen(fuse(networks, point, example=example))
    fast = for_inference(net, example)
    assert sorted(fast.folded) == ["networks.a.4", "networks.b.4"]
    torch.testing.assert_close(fast(example), net(example), rtol=1e-4, atol=1e-4)


class Beside(nn.Module):
    """A convolution whose output is used beside its batch norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4)

    def forward(self, x):
        features = self.conv(x)
        return self.bn(features) + features


def test_a_convolution_used_twice_over_is_refused_rather_than_folded_wrongly():
    with pytest.raises(ValueError, match=r"changes the network's output by .* used beside its batch norm"):
        for_inference(seen(Beside()), torch.randn(2, 2, 12))


def test_a_shared_convolution_is_left():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv1d(2, 2, 3, padding=1), nn.BatchNorm1d(2)

        def forward(self, x):
            return self.bn(self.conv(self.conv(x)))

    assert for_inference(seen(Twice()), torch.randn(2, 2, 12)).folded == []


def test_it_stays_in_eval_mode():
    fast = for_inference(seen(CNN1d(3, 5)), torch.randn(2, 3, 50)).train()
    assert not any(module.training for module in fast.modules())


KEPT = """
import resource, torch
from msafusion.inference import keep_freed_memory
def faults(repeats=5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(repeats):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
torch.set_num_threads(1)
default = faults()
assert keep_freed_memory()
faults(20)
print(default, faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_kept_memory_costs_no_page_faults_again():
    default = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", KEPT]
    for _ in range(3):  # a heap that cannot grow in one piece needs up to ten blocks of 64 MB before it stays as it is
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=default)
        faults, kept = map(int, done.stdout.split())
        if kept < 0.1 * faults:
            break
    assert kept < 0.1 * faults


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4)

    def forward(self, x):
        features = self.bn(input=self.conv(x))
        return {"logits": features.masked_fill(features < 0, -torch.inf), "mask": features > 0}


@pytest.mark.parametrize(
    ("network", "shape", "folded"),
    [
        (nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4)), (2, 3, 8, 8), []),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 4, 3)), nn.BatchNorm1d(4)), (2, 2, 12), []),
        (Masked(), (2, 2, 12), ["bn"]),
    ],
)
@torch.no_grad()
def test_other_modules_of_users_run_too(network, shape, folded):
    example = torch.randn(shape)
    fast = for_inference(seen(network), example)
    assert fast.folded == folded
    torch.testing.assert_close(fast(example), network(example), rtol=1e-4, atol=1e-4)


class NormAndRelu(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: more than its class in torch does."""

    def forward(self, x):
        return torch.relu(super().forward(x))


def _and_relu(network):
    network[1] = NormAndRelu(4)


CHANGES = {
    "pruned": lambda network: prune.l1_unstructured(network[0], "weight", 0.5),
    "weight_norm": lambda network: torch.nn.utils.weight_norm(network[0]),
    "spectral_norm": lambda network: nn.utils.spectral_norm(network[0]),
    "parametrized": lambda network: nn.utils.parametrizations.weight_norm(network[0]),
    "activation": _and_relu,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_layers_that_are_more_than_their_type_says_are_left(change, precision):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    change(network)
    x = torch.randn(2, 3, 8, 8)
    network(x).square().mean().backward()  # weights worked out from others are no leaves now, which deepcopy refuses
    fast = for_inference(network.eval(), x, precision=precision)
    assert fast.folded == ["3"]
    assert "forward" not in vars(fast.network[1])
    with torch.no_grad():
        expected = network(x)
    close = {"atol": 1e-5, "rtol": 1e-5} if precision == "float32" else {"atol": 0.1, "rtol": 0.1}
    torch.testing.assert_close(fast(x), expected, **close)


def test_a_batch_norm_under_two_names_goes_from_both():
    class Aliased(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)
            self.same = self.norm

        def forward(self, x):
            return self.same(self.conv(x))

    aliased, x = Aliased(), torch.randn(2, 3, 9)
    aliased(x)
    fast = for_inference(aliased.eval(), x)
    assert fast.folded == ["norm"]
    torch.testing.assert_close(fast(x), aliased(x).detach())


def test_what_a_network_reads_of_a_folded_batch_norm_is_what_it_was():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)

        def forward(self, x):
            x = self.bn(self.conv(x.to(self.bn.weight.dtype)))
            scale = self.bn.weight / (self.bn.running_var + self.bn.eps).sqrt()
            return x * scale[:, None] if isinstance(self.bn, nn.BatchNorm1d) else x

    reads, x = seen(Reads()), torch.randn(2, 3, 9)
    fast = copy.deepcopy(for_inference(reads, x))
    assert fast.folded == ["bn"]
    torch.testing.assert_close(fast(x), reads(x).detach())


class Viewing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(64, 2)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).view(len(x), -1))


def test_a_network_that_views_its_maps_is_named():
    with pytest.raises(ValueError, match=r"view size.*reshape"):
        for_inference(Viewing().eval(), torch.randn(2, 3, 6, 6))
