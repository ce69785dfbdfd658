"""Inputs that are no plain tensors: packed and ragged sequences, named tuples, graphs; and empty batches."""

from typing import NamedTuple

import pytest
import torch
from small_networks import Recurrent
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from msafusion import FusionError, FusionPoint, fuse
from msafusion.fusion import FUSIONS, HEADS

PRESENT = torch.tensor([True, False, True])


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.pooled, self.output = nn.Linear(6, 8), nn.Identity(), nn.Linear(8, 4)


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.padded, self.output = nn.GRU(6, 8, batch_first=True), nn.Identity(), nn.Linear(8, 4)

    def forward(self, sequences: PackedSequence):
        steps, lengths = pad_packed_sequence(self.rnn(sequences)[0], batch_first=True)
        steps = self.padded(steps)
        real = torch.arange(steps.shape[1]) < lengths.unsqueeze(1)
        return self.output((steps * real.unsqueeze(2)).sum(1) / lengths.unsqueeze(1))


class Measured(NamedTuple):
    values: Tensor
    scale: float


class Scaled(Classifier):
    def forward(self, measured: Measured):
        return self.output(self.pooled(self.layer(measured.values * measured.scale)))


class Graphs(Classifier):
    def forward(self, nodes, graph):
        return self.output(self.pooled(torch.zeros(3, 8).index_add(0, graph, self.layer(nodes))))


class Ragged(Classifier):
    def forward(self, sequences: list[Tensor]):
        return self.output(self.pooled(torch.stack([self.layer(one).mean(0) for one in sequences])))


def packed(steps, lengths=(4, 2, 9)):
    return pack_padded_sequence(steps, torch.tensor(lengths), batch_first=True, enforce_sorted=False)


def changed(given, value):
    """The input with other values for the second sample."""
    match given:
        case PackedSequence():
            steps, lengths = pad_packed_sequence(given, batch_first=True)
            steps[1] = value
            return packed(steps, lengths.tolist())
        case Measured(values, scale):
            return Measured(torch.stack([values[0], torch.full_like(values[1], value), values[2]]), scale)
        case (nodes, graph):
            return nodes.masked_fill((graph == 1).unsqueeze(1), value), graph
        case [first, second, third]:
            return [first, torch.full_like(second, value), third]


CASES = {
    "packed": (Packed(), "output", lambda: packed(torch.randn(3, 9, 6))),
    "named tuple": (Scaled(), "pooled", lambda: Measured(torch.randn(3, 6), 2.0)),
    "graphs": (Graphs(), "pooled", lambda: (torch.randn(11, 6), torch.tensor([0] * 4 + [1] * 3 + [2] * 4))),
    "ragged": (Ragged(), "pooled", lambda: [torch.randn(n, 6) for n in (4, 2, 7)]),
    "even": (Ragged(), "pooled", lambda: [torch.randn(5, 6) for _ in range(3)]),
}


@pytest.mark.parametrize(("network", "at", "make"), CASES.values(), ids=CASES)
def test_the_input_comes_whole_and_presence_is_by_sample(network, at, make):
    other = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    given, x = make(), torch.randn(3, 6)
    point = FusionPoint({"t": at, "a": "2" if at == "output" else "1"}, block_channels=4)
    net = fuse({"t": network, "a": other}, point, example={"t": given, "a": x}).eval()
    expected = net({"t": given, "a": x}, present={"t": PRESENT})
    assert not torch.equal(expected[1], net({"t": given, "a": x})[1])
    for value in (7.0, torch.nan):
        torch.testing.assert_close(net({"t": changed(given, value), "a": x}, present={"t": PRESENT}), expected)
    alone = net({"a": x})
    torch.testing.assert_close(expected[1], alone[1])
    with pytest.raises(ValueError, match=r"present|samples|batch"):
        net({"t": given, "a": x}, present={"t": torch.ones(5, dtype=torch.bool)})


def test_padding_of_packed_sequences_is_known_where_the_time_axis_is_told():
    steps, lengths = torch.randn(3, 9, 6), (4, 2, 9)
    other, x = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)), torch.randn(3, 6)
    example = {"t": packed(steps, lengths), "a": x}
    streams = {"t": "padded", "a": "1"}
    doubtful = fuse({"t": Packed(), "a": other}, FusionPoint(streams, block_channels=4), example=example)
    with pytest.raises(FusionError, match=r"PackedSequence.*time_axis"):
        doubtful(example)
    net = fuse({"t": Packed(), "a": other}, FusionPoint(streams, time_axis={"t": 1}, block_channels=4), example=example)
    together = net.eval()(example)
    for i, length in enumerate(lengths):
        alone = {"t": packed(steps[i : i + 1, :length], (length,)), "a": x[i : i + 1]}
        torch.testing.assert_close(net(alone), together[i : i + 1])
    with pytest.raises(ValueError, match=r"lengths of 't'.*PackedSequence"):
        net(example, lengths={"t": torch.tensor(lengths)})


def test_a_ragged_list_has_an_entry_for_each_sample():
    given = [torch.randn(n, 6) for n in (4, 2, 7)]
    net = fuse({"t": Ragged()})
    with pytest.raises(ValueError, match=r"present of 't'.*\(3,\)"):
        net({"t": given}, present={"t": torch.ones(2, dtype=torch.bool)})
    assert net({"t": given}, present={"t": torch.ones(3, dtype=torch.bool)}).shape == (3, 4)


def test_nan_in_padding_reaches_neither_output_nor_gradients():
    net, example = _sequences("msaf")
    lengths = {"a": torch.tensor([7, 2, 3]), "b": torch.tensor([9, 4, 1])}
    for name, given in example.items():
        for i, length in enumerate(lengths[name]):
            given[i, length:] = 0
    net.eval()
    expected = net(example, lengths)
    for name, given in example.items():
        for i, length in enumerate(lengths[name]):
            given[i, length:] = torch.nan
    torch.testing.assert_close(net(example, lengths), expected)
    net(example, lengths).sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)
    example["a"][1, 0] = torch.nan  # a real step keeps its value
    assert net(example, lengths)[1].isnan().any()


def _sequences(fusion):
    networks = {"a": Recurrent(5, 8), "b": Recurrent(2, 8)}
    example = {"a": torch.randn(3, 7, 5), "b": torch.randn(3, 9, 2)}
    return fuse(networks, FusionPoint({"a": "rnn", "b": "rnn"}, fusion), example=example), example


def _empty(net, example):
    for mode in (True, False):
        output = net.train(mode)({name: given[:0] for name, given in example.items()}, lengths={}, present={})
        assert output.shape[0] == 0
        output.sum().backward()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_batch_of_no_samples_between_layers(fusion):
    _empty(*_sequences(fusion))


@pytest.mark.parametrize("head", HEADS)
def test_a_batch_of_no_samples_at_the_end(head):
    networks = {"a": nn.Linear(5, 4), "b": nn.Linear(6, 4)}
    example = {"a": torch.randn(3, 5), "b": torch.randn(3, 6)}
    num_outputs = None if head in ("sum", "mean", "product", "multiplicative") else 4
    _empty(fuse(networks, head=head, num_outputs=num_outputs, example=example), example)
