"""Where channels lie, which tensors of an output are streams, and how both are said by hand."""

import collections

import pytest
import torch
from small_networks import AudioCNN, Recurrent, VideoCNN, pair
from torch import nn

from msafusion import FusionError, FusionPoint, fuse


class Steps(nn.Module):
    """Runs its parts one after the other; `reorder` comes before the submodule "point"."""

    def __init__(self, *parts, reorder=lambda x: x, point=None):
        super().__init__()
        self.parts, self.reorder, self.point = nn.Sequential(*parts), reorder, point or nn.Identity()

    def forward(self, x):
        return self.point(self.reorder(self.parts(x))).flatten(1)[:, :2]


class Pair(nn.Module):
    """Two persons through the same layers; gives `kind` of both."""

    def __init__(self, kind):
        super().__init__()
        self.conv, self.kind = nn.Conv1d(3, 4, 3, padding=1), kind

    def forward(self, x):
        return self.kind({"person1": self.conv(x[:, 0]), "person2": self.conv(x[:, 1])})


class Skeleton(nn.Module):
    def __init__(self, kind=dict):
        super().__init__()
        self.pair = Pair(kind)

    def forward(self, x):
        both = self.pair(x)
        first, second = both.values() if isinstance(both, dict) else both
        return first.mean(dim=2) - 2 * second.mean(dim=2)


def taps(a, submodule, example, **options):
    net = fuse(
        {"a": a}, [FusionPoint({"a": submodule}, block_channels=2, reduction=1, **options)], example={"a": example}
    )
    return {tap.stream: (tap.layout.batch_axis, tap.layout.channel_axis) for tap in net.fusion_layers[0].taps}


CASES = {
    "conv1d": (Steps(nn.Conv1d(3, 6, 3)), "parts.0", (2, 3, 9), (0, 1)),
    "relu after conv": (Steps(nn.Conv1d(3, 6, 3), nn.ReLU()), "parts.1", (2, 3, 9), (0, 1)),
    "pooled conv, time as long as channels": (
        Steps(nn.Conv1d(3, 4, 3), nn.MaxPool1d(2)),
        "parts.1",
        (2, 3, 10),
        (0, 1),
    ),
    "conv3d": (Steps(nn.Conv3d(3, 6, 1), nn.Dropout(0.1)), "parts.1", (2, 3, 4, 5, 6), (0, 1)),
    "norm after pooling": (Steps(nn.AvgPool1d(2), nn.BatchNorm1d(3)), "parts.1", (2, 3, 8), (0, 1)),
    "linear on steps": (Steps(nn.Linear(3, 6)), "parts.0", (2, 9, 3), (0, 2)),
    "gelu after layer norm": (Steps(nn.LayerNorm(6), nn.GELU()), "parts.1", (2, 9, 6), (0, 2)),
    "vector": (Steps(nn.Flatten(), nn.Linear(12, 5)), "parts.1", (2, 3, 4), (0, 1)),
    "embedding": (nn.Sequential(nn.Embedding(9, 6), nn.Identity()), "1", None, (0, 2)),
    "conv then tokens": (Steps(nn.Conv1d(3, 6, 3), reorder=lambda x: x.transpose(1, 2)), "point", (2, 3, 9), (0, 2)),
    "linear then maps": (Steps(nn.Linear(3, 6), reorder=lambda x: x.transpose(1, 2)), "point", (2, 9, 3), (0, 1)),
    "images without a hint": (Steps(), "parts", (2, 3, 8, 8), (0, 1)),
    "encoder layer": (Steps(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)), "parts.0", (2, 9, 6), (0, 2)),
    "encoder layer, time first": (Steps(nn.TransformerEncoderLayer(6, 2, 8)), "parts.0", (9, 2, 6), (1, 2)),
    "norm after a time-first gru": (Recurrent(3, 6, nn.GRU, batch_first=False), "rnn", (9, 2, 3), (1, 2)),
    "time-first gru, as many steps as samples": (Recurrent(3, 6, nn.GRU, batch_first=False), "rnn", (4, 4, 3), (1, 2)),
}


@pytest.mark.parametrize("case", CASES)
def test_axes_are_found(case):
    network, submodule, shape, expected = CASES[case]
    example = torch.randint(0, 9, (2, 7)) if shape is None else torch.randn(shape)
    assert taps(network, submodule, example) == {"a": expected}


AMBIGUOUS = {
    "nothing tells": (Steps(), (2, 7, 5)),
    "both layouts fit": (Steps(nn.Conv1d(3, 6, 3), nn.GroupNorm(1, 6), nn.Linear(6, 6)), (2, 3, 8)),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_axes_that_cannot_be_told_are_an_error_that_channel_axis_settles(case):
    network, shape = AMBIGUOUS[case]
    with pytest.raises(FusionError, match=r"submodule 'point' of network 'a'.*do not tell.*channel_axis=1 or"):
        taps(network, "point", torch.randn(shape))
    assert taps(network, "point", torch.randn(shape), channel_axis=-1) == {"a": (0, 2)}
    assert taps(network, "point", torch.randn(shape), channel_axis={"a": 1}) == {"a": (0, 1)}


def test_batch_and_time_of_equal_size_after_a_time_first_network_are_told_by_changing_a_sample():
    assert taps(Steps(nn.TransformerEncoderLayer(6, 2, 8)), "point", torch.randn(4, 4, 6)) == {"a": (1, 2)}


def test_batch_and_time_of_equal_size_are_an_error_where_no_sample_can_be_changed():
    with torch.device("meta"):
        network, example = Steps(nn.TransformerEncoderLayer(6, 2, 8)), torch.randn(4, 4, 6)
    with pytest.raises(
        FusionError, match=r"batch and time cannot be told apart.*example with a batch size that differs"
    ):
        taps(network, "point", example)


def test_a_module_shared_with_another_network_tells_nothing_there():
    shared = nn.Linear(6, 6)

    class UsesItLater(Steps):
        def forward(self, x):
            return self.later(self.point(self.parts(x)).mean(dim=2))[:, :2]

    a, b = UsesItLater(nn.Conv1d(3, 6, 3, padding=1), nn.ReLU()), Steps(shared)
    a.later = shared
    example = {"a": torch.randn(2, 3, 6), "b": torch.randn(2, 5, 6)}  # as long as channels: Linear would say axis 2
    points = [
        FusionPoint({"b": "parts"}, block_channels=3, reduction=1),
        FusionPoint({"a": "point", "b": "point"}, block_channels=3, reduction=1),
    ]
    net = fuse({"b": b, "a": a}, points, example=example)
    assert {tap.stream: tap.layout.channel_axis for tap in net.fusion_layers[1].taps} == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("axis", "message"), [(0, "is the batch axis"), (5, "no axis 5"), ({"b": 1}, "unknown stream 'b'")]
)
def test_wrong_channel_axis_is_an_error(axis, message):
    with pytest.raises(FusionError, match=message):
        taps(AudioCNN(), "conv1", torch.randn(2, 5, 9), channel_axis=axis)


def test_channel_axis_by_stream_leaves_the_others_to_be_found():
    example = {"a": torch.randn(2, 7, 5), "b": torch.randn(2, 5, 9)}
    point = FusionPoint({"a": "point", "b": "conv1"}, block_channels=4, channel_axis={"a": 2})
    net = fuse({"a": Steps(), "b": AudioCNN()}, [point], head="concat", num_outputs=3, example=example)
    assert net.fusion_layers[0].fusion.channels == {"a": 5, "b": 10}


NamedPair = collections.namedtuple("NamedPair", ["person1", "person2"])
KINDS = {
    "dict": dict,
    "OrderedDict": collections.OrderedDict,
    "tuple": lambda both: tuple(both.values()),
    "list": lambda both: list(both.values()),
    "namedtuple": lambda both: NamedPair(**both),
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_network_offers_two_streams_and_gets_its_own_kind_of_output_back(kind):
    skeleton, example = Skeleton(KINDS[kind]).eval(), torch.randn(2, 2, 3, 7)
    seen = []
    expected = skeleton(example)
    point = FusionPoint({"skeleton": {"person1": "pair", "person2": "pair"}, "video": "layer1"}, block_channels=4)
    inputs = {"skeleton": example, "video": torch.randn(2, 3, 2, 4, 4)}
    net = fuse({"skeleton": skeleton, "video": VideoCNN().eval()}, [point], example=inputs)
    skeleton.pair.register_forward_hook(lambda module, args, output: seen.append(output))
    assert list(net.fusion_layers[0].fusion.channels) == ["person1", "person2", "video"]
    assert torch.equal(net.stream_outputs(inputs)["skeleton"], expected)
    assert type(seen[0]) is type(skeleton.pair.kind({"person1": example, "person2": example}))


@pytest.mark.parametrize(
    ("kind", "streams", "expected"),
    [
        ("tuple", "pair", {"skeleton.0": (0,), "skeleton.1": (1,)}),
        ("dict", "pair", {"skeleton.person1": ("person1",), "skeleton.person2": ("person2",)}),
        ("tuple", {"left": "pair[1]", "right": "pair[0]"}, {"left": (1,), "right": (0,)}),
        ("dict", {"left": "pair[person2]"}, {"left": ("person2",)}),
        ("namedtuple", {"person2": "pair", "person1": "pair"}, {"person2": (0,), "person1": (1,)}),
        ("tuple", "pair[1]", {"skeleton": (1,)}),
    ],
)
def test_streams_of_one_output_are_named_by_rule_or_by_the_user(kind, streams, expected):
    point = FusionPoint({"skeleton": streams}, block_channels=4)
    net = fuse({"skeleton": Skeleton(KINDS[kind])}, [point], example={"skeleton": torch.randn(2, 2, 3, 7)})
    assert {tap.stream: tap.path for tap in net.fusion_layers[0].taps} == expected


@pytest.mark.parametrize("entry", ["pair[2]", "pair[foo]", "pair.conv[0]"])
def test_entries_that_an_output_does_not_have_are_an_error(entry):
    class One(Skeleton):
        def forward(self, x):
            return self.pair.conv(x[:, 0]).mean(dim=2) if "conv" in entry else super().forward(x)

    point = FusionPoint({"a": {"left": entry}}, block_channels=4)
    with pytest.raises(FusionError, match=r"network 'a'.*expected a tensor at \[.*for stream 'left'.*submodule\[key\]"):
        fuse({"a": One(KINDS["tuple"])}, [point], example={"a": torch.randn(2, 2, 3, 7)})


def test_a_vector_meets_a_video():
    vector = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4)).eval()
    inputs = {"video": torch.randn(2, 3, 2, 4, 4), "vector": torch.randn(2, 3)}
    expected = vector(inputs["vector"])
    net = fuse({"video": VideoCNN().eval(), "vector": vector},
               [FusionPoint({"video": "layer1", "vector": "1"}, block_channels=4)], example=inputs)  # fmt: skip
    assert torch.equal(net.stream_outputs(inputs)["vector"], expected)


def test_channels_last_memory_format_is_kept():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten()).to(memory_format=torch.channels_last).eval()
    image = torch.randn(2, 3, 6, 6).to(memory_format=torch.channels_last)
    net = pair(network, network, "0", {"a": image, "b": image})
    seen = []
    network[0].register_forward_hook(lambda module, args, output: seen.append(output))
    net({"a": image, "b": image})
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in seen)


class MaxOut(nn.Module):
    def forward(self, x):
        return x.unflatten(1, (-1, 2)).amax(2)


@pytest.mark.parametrize(
    ("last", "size"), [(nn.GLU(1), (8, 6)), (nn.PixelShuffle(2), (4, 3)), (MaxOut(), (8, 6)), (nn.GLU(1), (6, 8))]
)
def test_another_axis_that_is_as_long_as_the_channels_were_is_not_taken_for_them(last, size):
    images = torch.randn(2, 3, *size)
    with pytest.raises(FusionError, match=r"do not tell which axis holds the channels.*channel_axis=1"):
        taps(Steps(nn.Conv2d(3, 8, 3, padding=1), last), "point", images)
    assert taps(Steps(nn.Conv2d(3, 8, 3, padding=1), last), "point", images, channel_axis=1)


def test_a_norm_over_several_axes_tells_nothing_of_channels():
    network = Steps(nn.Conv2d(3, 8, 3, padding=1), nn.LayerNorm([8, 10, 12]), nn.ReLU())
    for submodule in ("parts.1", "point"):
        assert taps(network, submodule, torch.randn(2, 3, 10, 12)) == {"a": (0, 1)}
