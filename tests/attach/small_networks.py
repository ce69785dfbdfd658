"""Small networks that the tests of `fuse` share, and what they do with them."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from msafusion import FusionPoint, fuse

NUM_CLASSES = 4


class VideoCNN(nn.Module):
    """3D CNN for clips (batch, 3, time, height, width)."""

    def __init__(self, channels=8, norm=nn.BatchNorm3d):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv3d(3, channels, 3, padding=1), norm(channels), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv3d(channels, 12, 3, stride=2, padding=1), norm(12), nn.ReLU())
        self.classifier = nn.Linear(12, NUM_CLASSES)

    def forward(self, clip):
        return self.classifier(self.layer2(self.layer1(clip)).mean(dim=(2, 3, 4)))


class AudioCNN(nn.Module):
    """1D CNN for features (batch, 5, time)."""

    def __init__(self, norm=nn.BatchNorm1d):
        super().__init__()
        self.conv1, self.bn1, self.relu1 = nn.Conv1d(5, 10, 3, padding=1), norm(10), nn.ReLU()
        self.conv2, self.bn2, self.relu2 = nn.Conv1d(10, 6, 3, stride=2, padding=1), norm(6), nn.ReLU()
        self.classifier = nn.Linear(6, NUM_CLASSES)

    def forward(self, features):
        hidden = self.relu1(self.bn1(self.conv1(features)))
        hidden = self.relu2(self.bn2(self.conv2(hidden)))
        return self.classifier(hidden.mean(dim=2))


class Recurrent(nn.Module):
    """LSTM or GRU over (batch, time, inputs), or (time, batch, inputs) with batch_first=False; knows no lengths."""

    def __init__(self, inputs, hidden, kind=nn.LSTM, **options):
        super().__init__()
        self.rnn = kind(inputs, hidden, **{"batch_first": True, **options})
        self.classifier = nn.Linear(hidden * (2 if self.rnn.bidirectional else 1), NUM_CLASSES)

    def forward(self, sequence):
        steps, _ = self.rnn(sequence)
        return self.classifier(steps.mean(dim=1 if self.rnn.batch_first else 0))


class RecurrentWithLengths(nn.Module):
    """Bidirectional LSTM that packs by its own `lengths` and averages real steps; fuse at `steps`."""

    def __init__(self, inputs, hidden):
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True, bidirectional=True)
        self.steps = nn.Linear(2 * hidden, hidden)
        self.classifier = nn.Linear(hidden, NUM_CLASSES)

    def forward(self, sequence, lengths):
        packed = pack_padded_sequence(sequence, lengths.cpu(), batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)  # cut to the longest
        hidden = self.steps(hidden)
        real = torch.arange(hidden.shape[1]) < lengths.unsqueeze(1)
        return self.classifier((hidden * real.unsqueeze(2)).sum(dim=1) / lengths.unsqueeze(1))


class Chain(nn.Module):
    """first, second, third: Conv1d layers that can be run in another order or left out."""

    def __init__(self, order=("first", "second", "third")):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv1d(4, 4, 3, padding=1) for _ in range(3))
        self.order = order

    def forward(self, x):
        for name in self.order:
            x = self.get_submodule(name)(x)
        return x.mean(dim=2)


class Calls(nn.Module):
    """A Chain whose submodules `wrap` calls: wrap(module, x) -> x."""

    def __init__(self, wrap):
        super().__init__()
        self.chain, self.wrap = nn.ModuleList([nn.Conv1d(4, 4, 3, padding=1), nn.Conv1d(4, 4, 3, padding=1)]), wrap
        self.point = nn.Tanh()

    def forward(self, x):
        x = self.wrap(lambda x: self.point(self.chain[0](x)), x)
        return self.chain[1](x.float()).mean(dim=2)


def cnn_example(batch=3):
    return {"video": torch.randn(batch, 3, 4, 6, 6), "audio": torch.randn(batch, 5, 9)}


def cnn_points(**options):
    options = {"block_channels": 4, "reduction": 2, **options}
    return [
        FusionPoint({"video": "layer1", "audio": "relu1"}, **options),
        FusionPoint({"video": "layer2", "audio": "relu2"}, **options),
    ]


def fused_cnns(example=None, norm="layer", **options):
    """A VideoCNN and an AudioCNN fused at two points."""
    networks = {"video": VideoCNN(), "audio": AudioCNN()}
    return fuse(networks, cnn_points(norm=norm), example=example or cnn_example(), **options)


def fused_chains(order_a=("first", "second", "third"), order_b=("first", "second", "third"), at=("first", "third")):
    example = {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 8)}
    points = [FusionPoint({"a": name, "b": name}, block_channels=4, reduction=2, norm="layer") for name in at]
    return fuse({"a": Chain(order_a), "b": Chain(order_b)}, points, example=example), example


def pair(a, b, point, example, **options):
    """Two networks fused at one submodule of the same name."""
    at = [FusionPoint({"a": point, "b": point}, **{"block_channels": 4, "reduction": 2, "norm": "layer", **options})]
    return fuse({"a": a, "b": b}, at, example=example)


def stir(net):
    """Give the fusion something to do: block logits away from zero."""
    for fusion_layer in net.fusion_layers:
        nn.init.normal_(fusion_layer.fusion.block_weight)
        nn.init.normal_(fusion_layer.fusion.block_bias)
    return net


def lstms():
    example = {"a": torch.randn(3, 7, 5), "b": torch.randn(3, 9, 2)}
    return stir(pair(Recurrent(5, 6), Recurrent(2, 8), "rnn", example)), example


def cnns():
    example = cnn_example()
    return stir(fused_cnns(example)), example


def gradients(module):
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def num_hooks(*modules):
    return sum(len(part._forward_hooks) for module in modules for part in module.modules())
